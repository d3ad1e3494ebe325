-- SPDX-License-Identifier: Apache-2.0
--
-- Where alerts go: webhooks and mail. A delivery is a row before it is sent and until the receiver has answered, so that a killed hub
-- loses none; its text is fixed when it is made, and its id goes out with it, so that a receiver knows one that came twice because the
-- answer was lost. `told_seq` is the last change that a channel's deliveries have: no change goes into two of them.

CREATE TABLE alert_channels (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name text NOT NULL UNIQUE CHECK (name <> '' AND length(name) <= 128),
    kind text NOT NULL CHECK (kind IN ('webhook', 'smtp')),
    enabled boolean NOT NULL DEFAULT true,
    min_severity text NOT NULL DEFAULT 'warning' CHECK (min_severity IN ('warning', 'critical')),
    send_resolved boolean NOT NULL DEFAULT true,
    weekly_report boolean NOT NULL DEFAULT false,
    group_usec bigint NOT NULL DEFAULT 30000000 CHECK (group_usec BETWEEN 0 AND 3600000000),
    url text NOT NULL DEFAULT '',
    server text NOT NULL DEFAULT '',
    port integer NOT NULL DEFAULT 0 CHECK (port BETWEEN 0 AND 65535),
    security text NOT NULL DEFAULT 'starttls' CHECK (security IN ('none', 'starttls', 'tls')),
    username text NOT NULL DEFAULT '',
    from_address text NOT NULL DEFAULT '',
    to_addresses jsonb NOT NULL DEFAULT '[]',
    ca_certificate text NOT NULL DEFAULT '',
    secret text NOT NULL DEFAULT '',      -- of the signature, or the password: goes in, never out
    told_seq bigint NOT NULL DEFAULT 0,
    last_delivered_at timestamptz,
    last_failed_at timestamptz,
    last_error text NOT NULL DEFAULT '',
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE alert_deliveries (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    channel_id uuid NOT NULL REFERENCES alert_channels ON DELETE CASCADE,
    kind text NOT NULL CHECK (kind IN ('alerts', 'test', 'report')),
    body jsonb NOT NULL,
    change_count bigint NOT NULL DEFAULT 0,
    state text NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'delivered', 'failed')),
    attempts integer NOT NULL DEFAULT 0,
    next_at timestamptz NOT NULL DEFAULT now(),
    lease_until timestamptz,              -- somebody is sending it
    last_error text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz
);
CREATE INDEX alert_deliveries_due ON alert_deliveries (next_at) WHERE state = 'queued';
CREATE INDEX alert_deliveries_channel ON alert_deliveries (channel_id, created_at);
-- One at a time, in order: what happens while it cannot be sent is in the next one.
CREATE UNIQUE INDEX alert_deliveries_one ON alert_deliveries (channel_id) WHERE state = 'queued' AND kind = 'alerts';
