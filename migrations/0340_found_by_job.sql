-- SPDX-License-Identifier: Apache-2.0
--
-- What refers to a job is looked for whenever one is deleted, and by the hundred when they are past their time: without an index that is the whole table each
-- time; and so is what refers to a machine's failovers and branches when it is. Jobs that failed are asked for every few seconds, and so is whether one of the same kind has succeeded since.
CREATE INDEX events_job ON events (job_id) WHERE job_id IS NOT NULL;
CREATE INDEX events_node ON events (node_id) WHERE node_id IS NOT NULL;
CREATE INDEX events_vault ON events (vault_id) WHERE vault_id IS NOT NULL;
CREATE INDEX exports_job ON exports (job_id) WHERE job_id IS NOT NULL;
CREATE INDEX failovers_job ON failovers (job_id) WHERE job_id IS NOT NULL;
CREATE INDEX plan_runs_job ON plan_runs (job_id) WHERE job_id IS NOT NULL;
CREATE INDEX plan_run_steps_job ON plan_run_steps (job_id) WHERE job_id IS NOT NULL;
CREATE INDEX plan_run_steps_machine ON plan_run_steps (machine_id) WHERE machine_id IS NOT NULL;
CREATE INDEX plan_run_steps_failover ON plan_run_steps (failover_id) WHERE failover_id IS NOT NULL;
CREATE INDEX failovers_export ON failovers (export_id) WHERE export_id IS NOT NULL;
CREATE INDEX approvals_job ON approvals (job_id) WHERE job_id IS NOT NULL;
CREATE INDEX jobs_failed ON jobs (finished_at) WHERE status = 'failed';
CREATE INDEX jobs_vault ON jobs (vault_id, finished_at) WHERE machine_id IS NULL AND vault_id IS NOT NULL;

-- A machine's points are in the vault of its protection, which refers to it already (point_put, protection_forget, copy_use hold to that). Each point referring to
-- it once more meant a lock on the vault's row for each point, and that a vault could not be deleted without reading all points of all machines.
ALTER TABLE recovery_points DROP CONSTRAINT recovery_points_vault_id_fkey;
