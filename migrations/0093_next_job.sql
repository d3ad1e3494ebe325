-- SPDX-License-Identifier: Apache-2.0
--
-- When the next job may be looked at is asked after each look, also while thousands wait.

CREATE INDEX jobs_next ON jobs (greatest(run_after, lease_until)) WHERE status IN ('queued', 'running');
