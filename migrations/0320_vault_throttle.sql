-- SPDX-License-Identifier: Apache-2.0
--
-- How much a vault may take from others for the copies that it keeps: in total, for each of its machines, and in total in working hours (as of nodes, 0155).

ALTER TABLE vaults
    ADD COLUMN throttle_bytes_per_sec bigint NOT NULL DEFAULT 0 CHECK (throttle_bytes_per_sec >= 0),
    ADD COLUMN machine_throttle_bytes_per_sec bigint NOT NULL DEFAULT 0 CHECK (machine_throttle_bytes_per_sec >= 0),
    ADD COLUMN work_hours text NOT NULL DEFAULT '' CHECK (length(work_hours) <= 500),
    ADD COLUMN work_hours_time_zone text NOT NULL DEFAULT 'UTC',
    ADD COLUMN work_hours_throttle_bytes_per_sec bigint NOT NULL DEFAULT 0 CHECK (work_hours_throttle_bytes_per_sec >= 0);
