-- SPDX-License-Identifier: Apache-2.0
--
-- Failovers are never forgotten, drills are most of them, and lists show the newest, or those that are not over.
CREATE INDEX failovers_created ON failovers (created_at, id);
CREATE INDEX failovers_state ON failovers (state, created_at);
