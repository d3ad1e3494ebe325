-- SPDX-License-Identifier: Apache-2.0
--
-- What `leeward simulate` adds for trying and for load tests: it says so in each session, everything that lists it shows it, it is
-- placed with its like alone, and it can be removed in one go.

ALTER TABLE machines ADD COLUMN simulated boolean NOT NULL DEFAULT false;
ALTER TABLE nodes ADD COLUMN simulated boolean NOT NULL DEFAULT false;
ALTER TABLE vaults ADD COLUMN simulated boolean NOT NULL DEFAULT false;
CREATE INDEX machines_simulated ON machines (id) WHERE simulated;
