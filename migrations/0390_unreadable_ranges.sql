-- SPDX-License-Identifier: Apache-2.0
--
-- Which bytes of its disks the source could not read for a point: [{"disk": number, "start_bytes", "length_bytes"}], ascending. NULL: none, or not known.

ALTER TABLE recovery_points ADD COLUMN unreadable_ranges jsonb;
