-- SPDX-License-Identifier: Apache-2.0
--
-- How hard an agent may work: less in working hours, a share of one processor, and copies that give way to the workload.
-- work_hours is text as people write it (hub/core/work_hours.h), in the time of a zone that PostgreSQL knows.

ALTER TABLE policies
    ADD COLUMN work_hours text NOT NULL DEFAULT '' CHECK (length(work_hours) <= 500),
    ADD COLUMN work_hours_time_zone text NOT NULL DEFAULT 'UTC',
    ADD COLUMN work_hours_throttle_bytes_per_sec bigint NOT NULL DEFAULT 0 CHECK (work_hours_throttle_bytes_per_sec >= 0),
    ADD COLUMN cpu_limit_percent integer NOT NULL DEFAULT 0 CHECK (cpu_limit_percent BETWEEN 0 AND 10000),
    ADD COLUMN yield_to_workload boolean NOT NULL DEFAULT true;
