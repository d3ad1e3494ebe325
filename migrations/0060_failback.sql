-- SPDX-License-Identifier: Apache-2.0
--
-- The way back: a committed failover whose replica is protected, and one that has ended on its original machine.

ALTER TABLE failovers DROP CONSTRAINT failovers_state_check;
ALTER TABLE failovers ADD CONSTRAINT failovers_state_check CHECK (state IN ('starting', 'running', 'ending', 'cleaned', 'committed',
    'rolled_back', 'failed', 'reprotected', 'failed_back'));
ALTER TABLE failovers ADD COLUMN failback jsonb NOT NULL DEFAULT '{}';   -- what the last failback moved: passes and bytes

-- The way back changes a machine's protection, too. What ends one (failover_end, failover_resume) is let in beside it: it is how a failure is undone.
DROP INDEX jobs_exclusive;
CREATE UNIQUE INDEX jobs_exclusive ON jobs (machine_id)
    WHERE (kind IN ('protect', 'unprotect', 'resync', 'failover_change_point', 'failover_commit', 'failover_reprotect', 'failover_failback')
            OR (kind = 'failover' AND params ->> 'failover' <> 'test'))
        AND status IN ('queued', 'running', 'waiting_for_input');
