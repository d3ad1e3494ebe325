-- SPDX-License-Identifier: Apache-2.0
--
-- A restore changes which disks are the machine's, so nothing else that changes its protection runs beside it; and the disks of one machine are written
-- by one job at a time, whichever machine's points they get.
DROP INDEX jobs_exclusive;
CREATE UNIQUE INDEX jobs_exclusive ON jobs (machine_id)
    WHERE (kind IN ('protect', 'unprotect', 'resync', 'machine_restore', 'failover_change_point', 'failover_commit', 'failover_reprotect',
                    'failover_failback')
            OR (kind = 'failover' AND params ->> 'failover' <> 'test'))
        AND status IN ('queued', 'running', 'waiting_for_input');
CREATE UNIQUE INDEX jobs_receiver ON jobs (lower(params ->> 'to'))
    WHERE kind IN ('machine_restore', 'failover_failback') AND coalesce(params ->> 'to', '') <> ''
        AND status IN ('queued', 'running', 'waiting_for_input');
