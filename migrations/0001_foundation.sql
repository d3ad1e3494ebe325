-- SPDX-License-Identifier: Apache-2.0
--
-- The hub's first tables. Conventions: ids are UUIDs; `version` is the ETag of a row and grows with each change that a person or a
-- pipeline makes, never with status; times are timestamptz; durations and sizes carry their unit in the name; what a word may be is
-- checked here too, so that no path around the code can store nonsense.

CREATE TABLE sites (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name text NOT NULL UNIQUE CHECK (name <> '' AND length(name) <= 128),
    description text NOT NULL DEFAULT '',
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE policies (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name text NOT NULL UNIQUE CHECK (name <> '' AND length(name) <= 128),
    description text NOT NULL DEFAULT '',
    is_default boolean NOT NULL DEFAULT false,
    interval_usec bigint NOT NULL CHECK (interval_usec > 0),
    app_interval_usec bigint NOT NULL CHECK (app_interval_usec >= 0),
    rpo_target_usec bigint NOT NULL CHECK (rpo_target_usec > 0),
    keep_all_usec bigint NOT NULL CHECK (keep_all_usec >= 0),
    keep_minute_usec bigint NOT NULL CHECK (keep_minute_usec >= 0),
    keep_hour_usec bigint NOT NULL CHECK (keep_hour_usec >= 0),
    keep_day_usec bigint NOT NULL CHECK (keep_day_usec >= 0),
    freeze_budget_usec bigint NOT NULL CHECK (freeze_budget_usec > 0),
    max_rounds integer NOT NULL CHECK (max_rounds > 0),
    may_freeze boolean NOT NULL,
    compress_at_agent boolean NOT NULL,
    compress_level integer NOT NULL CHECK (compress_level BETWEEN 0 AND 19),
    throttle_bytes_per_sec bigint NOT NULL CHECK (throttle_bytes_per_sec >= 0),
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
-- At most one default.
CREATE UNIQUE INDEX policies_default ON policies (is_default) WHERE is_default;

INSERT INTO policies (name, description, is_default, interval_usec, app_interval_usec, rpo_target_usec,
    keep_all_usec, keep_minute_usec, keep_hour_usec, keep_day_usec,
    freeze_budget_usec, max_rounds, may_freeze, compress_at_agent, compress_level, throttle_bytes_per_sec)
VALUES ('default', 'A point every second, all kept for a day, then one a minute for 3 days, an hour for 14, a day for 90', true,
    1000000, 0, 15000000,
    86400000000, 259200000000, 1209600000000, 7776000000000,
    200000, 12, true, true, 1, 0);

CREATE TABLE nodes (
    id uuid PRIMARY KEY,
    name text NOT NULL UNIQUE CHECK (name <> '' AND length(name) <= 255),
    site_id uuid REFERENCES sites,
    endpoint text NOT NULL DEFAULT '',
    software text NOT NULL DEFAULT '',
    host text NOT NULL DEFAULT '',
    drain boolean NOT NULL DEFAULT false,
    health text NOT NULL DEFAULT 'unknown' CHECK (health IN ('healthy', 'warning', 'critical', 'unknown')),
    cause text NOT NULL DEFAULT '',
    remedy text NOT NULL DEFAULT '',
    peer_cause text NOT NULL DEFAULT '',       -- as it says itself
    peer_remedy text NOT NULL DEFAULT '',
    last_seen_at timestamptz,
    online boolean NOT NULL DEFAULT false,
    spool_bytes bigint NOT NULL DEFAULT 0,
    spool_limit_bytes bigint NOT NULL DEFAULT 0,
    streams bigint NOT NULL DEFAULT 0,
    received_bytes bigint NOT NULL DEFAULT 0,
    forwarded_bytes bigint NOT NULL DEFAULT 0,
    cpu_permille bigint NOT NULL DEFAULT 0,
    desired_version bigint NOT NULL DEFAULT 1,
    converged_version bigint NOT NULL DEFAULT 0,   -- what the peer said it has reached
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE vaults (
    id uuid PRIMARY KEY,
    name text NOT NULL UNIQUE CHECK (name <> '' AND length(name) <= 255),
    site_id uuid REFERENCES sites,
    endpoint text NOT NULL DEFAULT '',
    software text NOT NULL DEFAULT '',
    host text NOT NULL DEFAULT '',
    accepting boolean NOT NULL DEFAULT true,
    health text NOT NULL DEFAULT 'unknown' CHECK (health IN ('healthy', 'warning', 'critical', 'unknown')),
    cause text NOT NULL DEFAULT '',
    remedy text NOT NULL DEFAULT '',
    peer_cause text NOT NULL DEFAULT '',       -- as it says itself
    peer_remedy text NOT NULL DEFAULT '',
    last_seen_at timestamptz,
    online boolean NOT NULL DEFAULT false,
    used_bytes bigint NOT NULL DEFAULT 0,
    free_bytes bigint NOT NULL DEFAULT 0,
    capacity_bytes bigint NOT NULL DEFAULT 0,
    streams bigint NOT NULL DEFAULT 0,
    desired_version bigint NOT NULL DEFAULT 1,
    converged_version bigint NOT NULL DEFAULT 0,   -- what the peer said it has reached
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE machines (
    id uuid PRIMARY KEY,
    name text NOT NULL UNIQUE CHECK (name <> '' AND length(name) <= 255),
    machine_uid text NOT NULL DEFAULT '',
    site_id uuid REFERENCES sites,
    state text NOT NULL DEFAULT 'unprotected' CHECK (state IN ('unprotected', 'enabling', 'initial_replication', 'protected',
        'resynchronizing', 'failed_over', 'committed', 'reverse_replicating', 'reverse_protected')),
    health text NOT NULL DEFAULT 'unknown' CHECK (health IN ('healthy', 'warning', 'critical', 'unknown')),
    cause text NOT NULL DEFAULT '',
    remedy text NOT NULL DEFAULT '',
    generation bigint NOT NULL DEFAULT 1 CHECK (generation > 0),
    hostname text NOT NULL DEFAULT '',
    os_name text NOT NULL DEFAULT '',
    kernel text NOT NULL DEFAULT '',
    boot_id text NOT NULL DEFAULT '',
    firmware text NOT NULL DEFAULT '',
    software text NOT NULL DEFAULT '',
    addresses jsonb NOT NULL DEFAULT '[]',
    cpus bigint NOT NULL DEFAULT 0,
    memory_bytes bigint NOT NULL DEFAULT 0,
    inventory_at timestamptz,
    last_seen_at timestamptz,
    online boolean NOT NULL DEFAULT false,
    clock_skew_usec bigint NOT NULL DEFAULT 0,
    agent_cause text NOT NULL DEFAULT '',
    agent_remedy text NOT NULL DEFAULT '',
    agent_state text NOT NULL DEFAULT '',
    initial_total_bytes bigint NOT NULL DEFAULT 0,
    initial_done_bytes bigint NOT NULL DEFAULT 0,
    backlog_bytes bigint NOT NULL DEFAULT 0,
    last_point_sequence bigint NOT NULL DEFAULT 0,
    last_point_at timestamptz,
    rpo_usec bigint NOT NULL DEFAULT 0,
    desired_version bigint NOT NULL DEFAULT 1,
    converged_version bigint NOT NULL DEFAULT 0,   -- what the peer said it has reached
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE disks (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    machine_id uuid NOT NULL REFERENCES machines ON DELETE CASCADE,
    key text NOT NULL CHECK (key <> ''),
    number integer CHECK (number >= 0),   -- in the machine's log; given once, never to another disk
    device text NOT NULL DEFAULT '',
    model text NOT NULL DEFAULT '',
    partition_table text NOT NULL DEFAULT '',
    size_bytes bigint NOT NULL DEFAULT 0,
    logical_sector_bytes bigint NOT NULL DEFAULT 512,
    physical_sector_bytes bigint NOT NULL DEFAULT 512,
    trackable boolean NOT NULL DEFAULT false,
    not_trackable_reason text NOT NULL DEFAULT '',
    volatile_cache boolean NOT NULL DEFAULT false,
    is_root boolean NOT NULL DEFAULT false,
    present boolean NOT NULL DEFAULT true,
    is_protected boolean NOT NULL DEFAULT false,
    volumes jsonb NOT NULL DEFAULT '[]',
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (machine_id, key),
    UNIQUE (machine_id, number),
    CHECK (NOT is_protected OR number IS NOT NULL)
);

-- What protects a machine; one row while it is (or was and its data is still kept), none before.
CREATE TABLE protections (
    machine_id uuid PRIMARY KEY REFERENCES machines ON DELETE CASCADE,
    policy_id uuid NOT NULL REFERENCES policies,
    node_id uuid REFERENCES nodes,
    vault_id uuid NOT NULL REFERENCES vaults,
    active boolean NOT NULL DEFAULT true,
    resync_request bigint NOT NULL DEFAULT 0,
    enabled_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX protections_policy ON protections (policy_id);
CREATE INDEX protections_node ON protections (node_id);
CREATE INDEX protections_vault ON protections (vault_id);

CREATE TABLE recovery_points (
    machine_id uuid NOT NULL REFERENCES machines ON DELETE CASCADE,
    sequence bigint NOT NULL CHECK (sequence > 0),
    vault_id uuid NOT NULL REFERENCES vaults,
    time timestamptz NOT NULL,
    kind text NOT NULL CHECK (kind IN ('crash', 'filesystem', 'application')),
    tag text NOT NULL DEFAULT '',
    group_point_id uuid,
    generation bigint NOT NULL,
    changed_bytes bigint NOT NULL DEFAULT 0,
    frozen boolean NOT NULL DEFAULT false,
    unreadable_blocks bigint NOT NULL DEFAULT 0,
    committed_at timestamptz NOT NULL,
    PRIMARY KEY (machine_id, sequence)
);
CREATE INDEX recovery_points_time ON recovery_points (machine_id, time);
CREATE INDEX recovery_points_tag ON recovery_points (machine_id, tag) WHERE tag <> '';

CREATE TABLE jobs (
    id uuid PRIMARY KEY,
    kind text NOT NULL,
    status text NOT NULL DEFAULT 'queued' CHECK (status IN ('queued', 'running', 'waiting_for_input', 'succeeded', 'failed',
        'cancelled')),
    machine_id uuid REFERENCES machines ON DELETE SET NULL,
    vault_id uuid REFERENCES vaults ON DELETE SET NULL,
    params jsonb NOT NULL DEFAULT '{}',
    state jsonb NOT NULL DEFAULT '{}',    -- what steps hand on to later steps
    result jsonb,
    problem_code text NOT NULL DEFAULT '',
    problem_text text NOT NULL DEFAULT '',
    problem_correction text NOT NULL DEFAULT '',
    waiting_for text NOT NULL DEFAULT '',
    answer text NOT NULL DEFAULT '',
    requested_by text NOT NULL DEFAULT '',
    progress_permille integer NOT NULL DEFAULT 0 CHECK (progress_permille BETWEEN 0 AND 1000),
    may_cancel boolean NOT NULL DEFAULT true,
    cancel_requested boolean NOT NULL DEFAULT false,
    claimed_by uuid,                      -- the hub that works on it
    lease_until timestamptz,              -- and until when nobody else may
    run_after timestamptz NOT NULL DEFAULT now(),
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    finished_at timestamptz,
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX jobs_runnable ON jobs (run_after) WHERE status IN ('queued', 'running');
CREATE INDEX jobs_machine ON jobs (machine_id, created_at);
CREATE INDEX jobs_created ON jobs (created_at);
-- One at a time of what changes a machine's protection.
CREATE UNIQUE INDEX jobs_exclusive ON jobs (machine_id)
    WHERE kind IN ('protect', 'unprotect', 'resync') AND status IN ('queued', 'running', 'waiting_for_input');

CREATE TABLE job_steps (
    job_id uuid NOT NULL REFERENCES jobs ON DELETE CASCADE,
    ordinal integer NOT NULL,
    name text NOT NULL,
    title text NOT NULL DEFAULT '',
    status text NOT NULL DEFAULT 'queued' CHECK (status IN ('queued', 'running', 'waiting_for_input', 'succeeded', 'failed',
        'cancelled', 'skipped')),
    detail text NOT NULL DEFAULT '',
    problem_text text NOT NULL DEFAULT '',
    progress_permille integer NOT NULL DEFAULT 0,
    attempts integer NOT NULL DEFAULT 0,
    started_at timestamptz,
    finished_at timestamptz,
    PRIMARY KEY (job_id, ordinal)
);

CREATE TABLE job_log (
    seq bigserial PRIMARY KEY,
    job_id uuid NOT NULL REFERENCES jobs ON DELETE CASCADE,
    at timestamptz NOT NULL DEFAULT now(),
    level text NOT NULL DEFAULT 'info' CHECK (level IN ('info', 'warning', 'error')),
    text text NOT NULL
);
CREATE INDEX job_log_job ON job_log (job_id, seq);

-- What a job wants an agent, a node or a vault to do. Sent by whichever hub has the session, again after a lost session;
-- receivers know a command by its id.
CREATE TABLE commands (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    job_id uuid NOT NULL REFERENCES jobs ON DELETE CASCADE,
    ordinal integer NOT NULL,             -- the step
    target_role text NOT NULL CHECK (target_role IN ('agent', 'node', 'vault')),
    target_id uuid NOT NULL,
    payload bytea NOT NULL,               -- leeward.control.v1.Command
    done boolean NOT NULL DEFAULT false,
    progress_permille integer NOT NULL DEFAULT 0,
    code text NOT NULL DEFAULT '',
    text text NOT NULL DEFAULT '',
    correction text NOT NULL DEFAULT '',
    result jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (job_id, ordinal)
);
CREATE INDEX commands_open ON commands (target_id) WHERE NOT done;

CREATE TABLE exports (
    id uuid PRIMARY KEY,
    machine_id uuid NOT NULL REFERENCES machines ON DELETE CASCADE,
    vault_id uuid NOT NULL REFERENCES vaults,
    sequence bigint NOT NULL DEFAULT 0,   -- 0 until the vault said which one is the latest
    point_time timestamptz,
    writable boolean NOT NULL DEFAULT false,
    state text NOT NULL DEFAULT 'opening' CHECK (state IN ('opening', 'open', 'closing', 'closed', 'failed')),
    uri text NOT NULL DEFAULT '',
    disks jsonb NOT NULL DEFAULT '[]',
    job_id uuid REFERENCES jobs ON DELETE SET NULL,
    created_by text NOT NULL DEFAULT '',
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX exports_machine ON exports (machine_id);
CREATE INDEX exports_vault_open ON exports (vault_id) WHERE state IN ('opening', 'open', 'closing');

-- The sequence is given out under an advisory lock, so that its order is the order of commits: who has read up to N has
-- seen everything up to N.
CREATE TABLE events (
    seq bigserial PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now(),
    severity text NOT NULL CHECK (severity IN ('info', 'warning', 'error')),
    code text NOT NULL CHECK (code <> ''),
    text text NOT NULL DEFAULT '',
    remedy text NOT NULL DEFAULT '',
    machine_id uuid REFERENCES machines ON DELETE SET NULL,
    node_id uuid REFERENCES nodes ON DELETE SET NULL,
    vault_id uuid REFERENCES vaults ON DELETE SET NULL,
    job_id uuid REFERENCES jobs ON DELETE SET NULL,
    actor text NOT NULL DEFAULT ''
);
CREATE INDEX events_at ON events (at);
CREATE INDEX events_machine ON events (machine_id, seq);

CREATE TABLE samples (
    machine_id uuid NOT NULL REFERENCES machines ON DELETE CASCADE,
    minute timestamptz NOT NULL,
    rpo_max_usec bigint NOT NULL DEFAULT 0,
    rpo_sum_usec numeric NOT NULL DEFAULT 0,
    rpo_count bigint NOT NULL DEFAULT 0,
    changed_bytes bigint NOT NULL DEFAULT 0,
    sent_bytes bigint NOT NULL DEFAULT 0,
    points bigint NOT NULL DEFAULT 0,
    frozen_points bigint NOT NULL DEFAULT 0,
    backlog_bytes bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (machine_id, minute)
);

CREATE TABLE api_tokens (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name text NOT NULL CHECK (name <> '' AND length(name) <= 128),
    hash bytea NOT NULL UNIQUE CHECK (length(hash) = 32),
    role text NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
    scopes jsonb NOT NULL DEFAULT '[]',
    created_by text NOT NULL DEFAULT '',
    expires_at timestamptz,
    last_used_at timestamptz,
    revoked_at timestamptz,
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE enrolment_tokens (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name text NOT NULL DEFAULT '',
    hash bytea NOT NULL UNIQUE CHECK (length(hash) = 32),
    role text NOT NULL CHECK (role IN ('agent', 'node', 'vault')),
    site_id uuid REFERENCES sites ON DELETE SET NULL,
    created_by text NOT NULL DEFAULT '',
    expires_at timestamptz NOT NULL,
    used_at timestamptz,
    used_by uuid,                         -- the machine, node or vault that came of it
    used_key bytea,                       -- SHA-256 of its public key: the same key may ask again
    revoked_at timestamptz,
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE certificates (
    serial text PRIMARY KEY,
    role text NOT NULL CHECK (role IN ('hub', 'agent', 'node', 'vault')),
    subject_id uuid NOT NULL,
    subject_name text NOT NULL DEFAULT '',
    fingerprint_sha256 text NOT NULL,
    not_before timestamptz NOT NULL,
    not_after timestamptz NOT NULL,
    revoked_at timestamptz,
    revoke_reason text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX certificates_subject ON certificates (subject_id);
CREATE INDEX certificates_revoked ON certificates (not_after) WHERE revoked_at IS NOT NULL;

-- hash = SHA-256 of the previous hash and all fields. No path of the hub updates or deletes a row.
CREATE TABLE audit_log (
    seq bigint PRIMARY KEY,
    at timestamptz NOT NULL,
    actor text NOT NULL,
    action text NOT NULL,
    object_kind text NOT NULL,
    object_id text NOT NULL,
    outcome text NOT NULL,
    detail text NOT NULL,
    address text NOT NULL,
    request_id text NOT NULL,
    hash text NOT NULL
);
CREATE FUNCTION audit_log_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is append-only';
END $$;
CREATE TRIGGER audit_log_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION audit_log_is_append_only();

CREATE TABLE idempotency_keys (
    actor text NOT NULL,
    key text NOT NULL,
    fingerprint text NOT NULL,
    status integer,                       -- NULL: in flight
    body text,
    location text,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (actor, key)
);
CREATE INDEX idempotency_keys_created ON idempotency_keys (created_at);

CREATE TABLE settings (
    key text PRIMARY KEY,
    value jsonb NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);
