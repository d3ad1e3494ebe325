-- SPDX-License-Identifier: Apache-2.0
--
-- What was written to each protected disk, by the minute, as its agent saw it go by. Kept for 30 days.

CREATE TABLE disk_minutes (
    machine_id uuid NOT NULL REFERENCES machines ON DELETE CASCADE,
    minute timestamptz NOT NULL,
    disk integer NOT NULL CHECK (disk >= 0),        -- number in the machine's log
    changed_bytes bigint NOT NULL CHECK (changed_bytes >= 0),
    incompressible_bytes bigint NOT NULL CHECK (incompressible_bytes >= 0),
    turned_bytes bigint NOT NULL CHECK (turned_bytes >= 0),  -- were compressible, are like random bytes
    entropy_millibits integer NOT NULL CHECK (entropy_millibits BETWEEN 0 AND 8000),
    PRIMARY KEY (machine_id, minute, disk)
);
CREATE INDEX disk_minutes_minute ON disk_minutes (minute);
