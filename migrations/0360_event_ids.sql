-- SPDX-License-Identifier: Apache-2.0
--
-- What an agent, node or vault tells of gets an id from it: one whose storing it did not hear of is told again, and is the same one then.
ALTER TABLE events ADD COLUMN told_id uuid;
CREATE UNIQUE INDEX events_told ON events (told_id) WHERE told_id IS NOT NULL;
