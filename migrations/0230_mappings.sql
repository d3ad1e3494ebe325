-- SPDX-License-Identifier: Apache-2.0
--
-- What replicas get at a target instead of what their machines have: processors, memory, networks, addresses. A machine's own goes before its site's.
-- The versions are of the mappings alone, so that a new name is no change of them.
ALTER TABLE machines ADD COLUMN nics jsonb NOT NULL DEFAULT '[]',     -- [{"name", "mac", "addresses": ["192.0.2.7/24", ...]}, ...]
    ADD COLUMN mapping jsonb NOT NULL DEFAULT '{}',                   -- hub/jobs/replica_mapping.h
    ADD COLUMN mapping_version bigint NOT NULL DEFAULT 1,
    ADD COLUMN mapping_updated_at timestamptz;
ALTER TABLE sites ADD COLUMN mapping jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN mapping_version bigint NOT NULL DEFAULT 1,
    ADD COLUMN mapping_updated_at timestamptz;
