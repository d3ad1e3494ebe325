-- SPDX-License-Identifier: Apache-2.0
--
-- Branches have a life beyond being open: kept by their vault, opened again, discarded, promoted. The row of the export that made one is
-- the branch's own as long as there is one; its vault says what it has.

ALTER TABLE exports DROP CONSTRAINT exports_state_check;
ALTER TABLE exports ADD CONSTRAINT exports_state_check
    CHECK (state IN ('opening', 'open', 'closing', 'kept', 'closed', 'failed', 'promoted'));
ALTER TABLE exports ADD COLUMN name text NOT NULL DEFAULT '' CHECK (length(name) <= 128);
ALTER TABLE exports ADD COLUMN stored_bytes bigint NOT NULL DEFAULT 0;
CREATE UNIQUE INDEX branches_name ON exports (machine_id, name)
    WHERE writable AND name <> '' AND state IN ('opening', 'open', 'closing', 'kept');
