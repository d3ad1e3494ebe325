-- SPDX-License-Identifier: Apache-2.0
--
-- Ten thousand machines are updated every five seconds: room in each page lets PostgreSQL do that without touching an index, and what
-- is dead is swept before there is much of it. Open jobs are few among those that are over.

ALTER TABLE machines SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
CREATE INDEX jobs_open ON jobs (status) WHERE status IN ('queued', 'running', 'waiting_for_input');
