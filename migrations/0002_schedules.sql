-- SPDX-License-Identifier: Apache-2.0
--
-- File-system-consistent points on a schedule of their own, beside the app-consistent ones. The index answers how long ago the last
-- point of these kinds was, among 86,400 crash-consistent ones a day.

ALTER TABLE policies ADD COLUMN filesystem_interval_usec bigint NOT NULL DEFAULT 0 CHECK (filesystem_interval_usec >= 0);
CREATE INDEX recovery_points_consistent ON recovery_points (machine_id, kind, time) WHERE kind <> 'crash';
