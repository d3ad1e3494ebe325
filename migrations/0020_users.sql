-- SPDX-License-Identifier: Apache-2.0
-- People: who they are, their sessions, and what keeps somebody from guessing passwords.

CREATE TABLE users (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name text NOT NULL UNIQUE CHECK (name <> '' AND length(name) <= 128),
    display_name text NOT NULL DEFAULT '',
    role text NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
    password_hash text NOT NULL DEFAULT '',        -- Argon2id in the form of libsodium; '' = signs in elsewhere only
    must_change_password boolean NOT NULL DEFAULT false,
    has_first_password boolean NOT NULL DEFAULT false, -- the one that the hub drew at its first start
    disabled boolean NOT NULL DEFAULT false,
    oidc_issuer text NOT NULL DEFAULT '',
    oidc_subject text NOT NULL DEFAULT '',         -- unique and unchanging at that issuer
    last_login_at timestamptz,
    password_changed_at timestamptz,
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX users_oidc ON users (oidc_issuer, oidc_subject) WHERE oidc_subject <> '';

-- The cookie's text is nowhere; its SHA-256 finds the row.
CREATE TABLE sessions (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    hash bytea NOT NULL UNIQUE CHECK (length(hash) = 32),
    method text NOT NULL CHECK (method IN ('password', 'oidc')),
    address text NOT NULL DEFAULT '',
    user_agent text NOT NULL DEFAULT '',
    idle_usec bigint NOT NULL,                     -- unused for longer than this, it is over
    last_seen_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,               -- over in any case
    revoked_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX sessions_user ON sessions (user_id);
CREATE INDEX sessions_expires ON sessions (expires_at);

-- One row per name, address and pair of both that failed lately.
CREATE TABLE login_failures (
    key text PRIMARY KEY,
    failures bigint NOT NULL DEFAULT 0,
    last_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX login_failures_last ON login_failures (last_at);

-- Sign-ins that went to the OpenID provider and have not come back.
CREATE TABLE oidc_logins (
    state_hash bytea PRIMARY KEY CHECK (length(state_hash) = 32),
    browser_hash bytea NOT NULL CHECK (length(browser_hash) = 32),
    nonce text NOT NULL,
    verifier text NOT NULL,
    return_to text NOT NULL DEFAULT '/',
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX oidc_logins_created ON oidc_logins (created_at);

-- A token may do no more than its owner may at the moment of the request; without an owner its role decides alone.
ALTER TABLE api_tokens ADD COLUMN user_id uuid REFERENCES users ON DELETE CASCADE;
