-- SPDX-License-Identifier: Apache-2.0
--
-- A machine's own vault is lost, and the one that has a copy takes its place: nothing else is done with the machine meanwhile.
DROP INDEX jobs_exclusive;
CREATE UNIQUE INDEX jobs_exclusive ON jobs (machine_id)
    WHERE (kind IN ('protect', 'unprotect', 'resync', 'machine_restore', 'failover_change_point', 'failover_commit', 'failover_reprotect',
                    'failover_failback', 'copy_use')
            OR (kind = 'failover' AND params ->> 'failover' <> 'test'))
        AND status IN ('queued', 'running', 'waiting_for_input');
