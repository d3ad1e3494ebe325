-- SPDX-License-Identifier: Apache-2.0
--
-- Failovers: where replicas can be started, and what became of each failover.

CREATE TABLE compute_targets (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name text NOT NULL UNIQUE CHECK (name <> '' AND length(name) <= 255),
    description text NOT NULL DEFAULT '',
    adapter text NOT NULL CHECK (adapter IN ('disk', 'command', 'libvirt')),
    config jsonb NOT NULL DEFAULT '{}',   -- of the adapter
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
-- Handing over disks needs no preparation, so it is always there.
INSERT INTO compute_targets (name, description, adapter)
    VALUES ('disks', 'The disks over NBD, for whoever starts the replica', 'disk');

CREATE TABLE failovers (
    id uuid PRIMARY KEY,
    machine_id uuid NOT NULL REFERENCES machines ON DELETE CASCADE,
    vault_id uuid NOT NULL REFERENCES vaults,
    target_id uuid NOT NULL REFERENCES compute_targets,
    kind text NOT NULL CHECK (kind IN ('test', 'planned', 'unplanned')),
    state text NOT NULL DEFAULT 'starting' CHECK (state IN ('starting', 'running', 'ending', 'cleaned', 'committed', 'rolled_back',
        'failed')),
    sequence bigint NOT NULL DEFAULT 0,   -- 0 until the vault said which one is the latest
    point_time timestamptz,
    export_id uuid REFERENCES exports ON DELETE SET NULL,   -- its branch
    options jsonb NOT NULL DEFAULT '{}',  -- cpus, memory, network, boot check
    replica jsonb NOT NULL DEFAULT '{}',  -- what the adapter said of it
    verdict text NOT NULL DEFAULT 'unknown' CHECK (verdict IN ('unknown', 'passed', 'failed')),
    verdict_text text NOT NULL DEFAULT '',
    outcome text NOT NULL DEFAULT '' CHECK (outcome IN ('', 'passed', 'failed')),   -- a person's word at the cleanup of a test
    notes text NOT NULL DEFAULT '' CHECK (length(notes) <= 4096),
    job_id uuid REFERENCES jobs ON DELETE SET NULL,         -- the latest that worked on it
    requested_by text NOT NULL DEFAULT '',
    requested_at timestamptz NOT NULL DEFAULT now(),        -- the RTO counts from here
    running_at timestamptz,
    ended_at timestamptz,
    loss_usec bigint NOT NULL DEFAULT 0,  -- age of the point when the failover was asked for; the RPO that was had
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX failovers_machine ON failovers (machine_id, created_at);
-- A machine has one primary (P7).
CREATE UNIQUE INDEX failovers_live ON failovers (machine_id)
    WHERE kind <> 'test' AND state IN ('starting', 'running', 'ending');

-- A failover changes a machine's protection, too; a test does not. What ends one is let in beside it: it is how a failure is undone.
DROP INDEX jobs_exclusive;
CREATE UNIQUE INDEX jobs_exclusive ON jobs (machine_id)
    WHERE (kind IN ('protect', 'unprotect', 'resync', 'failover_change_point', 'failover_commit')
            OR (kind = 'failover' AND params ->> 'failover' <> 'test'))
        AND status IN ('queued', 'running', 'waiting_for_input');
