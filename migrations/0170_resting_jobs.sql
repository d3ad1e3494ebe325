-- SPDX-License-Identifier: Apache-2.0
--
-- A job for which a hub is at work outside of the database (a replica is started, its disks are prepared) rests at that hub between two looks: until its
-- lease runs out no other hub looks at it, which would begin the same work once more beside it.
ALTER TABLE jobs ADD COLUMN rests boolean NOT NULL DEFAULT false;
CREATE INDEX jobs_resting ON jobs (claimed_by, run_after) WHERE rests;
