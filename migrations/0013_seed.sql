-- SPDX-License-Identifier: Apache-2.0
--
-- While the vault takes a seed the machine's agent is not told to begin.

ALTER TABLE protections ADD COLUMN seeding boolean NOT NULL DEFAULT false;
