-- SPDX-License-Identifier: Apache-2.0
--
-- Lists of machines by health and state, in the order in which they are shown: both change seldom, so that a status is still written without
-- touching an index. Nodes and vaults count their machines: the counts come from an index alone.

CREATE INDEX machines_health ON machines (health, name);
CREATE INDEX machines_state ON machines (state, name);
CREATE INDEX protections_node_active ON protections (node_id) WHERE active;
CREATE INDEX protections_vault_active ON protections (vault_id) WHERE active;
DROP INDEX protections_node;
DROP INDEX protections_vault;
