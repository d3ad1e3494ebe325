-- SPDX-License-Identifier: Apache-2.0
--
-- What was changed on a replica's disks before it was started: {"changes": [...], "warnings": [...], ...}; {} when nothing was asked for.
ALTER TABLE failovers ADD COLUMN fixups jsonb NOT NULL DEFAULT '{}';
