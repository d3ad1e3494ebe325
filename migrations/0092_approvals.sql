-- SPDX-License-Identifier: Apache-2.0
--
-- Four eyes: what a second person is asked about. The request lies here as it was checked, and is carried out in the transaction that approves
-- it, or never.

CREATE TABLE approvals (
    id uuid PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('erase', 'retention', 'failover_commit', 'branch_promote', 'four_eyes')),
    summary text NOT NULL CHECK (summary <> '' AND length(summary) <= 1000),   -- for the person who decides
    machine_id uuid REFERENCES machines ON DELETE SET NULL,
    method text NOT NULL,
    path text NOT NULL,
    query jsonb NOT NULL,
    body jsonb,
    if_version bigint NOT NULL DEFAULT 0,
    fingerprint text NOT NULL,
    requested_by text NOT NULL,
    requester_user_id uuid REFERENCES users ON DELETE SET NULL,
    requester_token_id uuid REFERENCES api_tokens ON DELETE SET NULL,
    by_person boolean NOT NULL,           -- it was asked for by a user, even if that user is gone
    state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'approved', 'rejected', 'withdrawn')),
    decided_by text NOT NULL DEFAULT '',
    decided_at timestamptz,
    note text NOT NULL DEFAULT '' CHECK (length(note) <= 1000),
    job_id uuid REFERENCES jobs ON DELETE SET NULL,
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL DEFAULT now() + interval '1 day'
);
-- Who asks twice for the same gets the same answer.
CREATE UNIQUE INDEX approvals_pending ON approvals (requested_by, fingerprint) WHERE state = 'pending';
CREATE INDEX approvals_created ON approvals (created_at);
