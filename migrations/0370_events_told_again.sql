-- SPDX-License-Identifier: Apache-2.0
--
-- The id of an event is its teller's own: another one's event with the same id is another event. And an event may come long after it was said (at): what is raised
-- by it begins with its coming. When those came that are there already nobody knows.
ALTER TABLE events ADD COLUMN told_by uuid, ADD COLUMN stored_at timestamptz;
ALTER TABLE events ALTER COLUMN stored_at SET DEFAULT now();
UPDATE events SET told_by = CASE actor WHEN 'node' THEN node_id WHEN 'vault' THEN vault_id ELSE machine_id END WHERE told_id IS NOT NULL;
DROP INDEX events_told;
DROP INDEX events_encrypted;
CREATE INDEX events_encrypted ON events (machine_id, coalesce(stored_at, at)) WHERE code = 'looks_encrypted';
CREATE UNIQUE INDEX events_told ON events (told_by, told_id) WHERE told_id IS NOT NULL;
