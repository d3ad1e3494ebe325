-- SPDX-License-Identifier: Apache-2.0
--
-- How long tagged points are kept (0: for ever), and the retention lock: nobody drops a point earlier than this after its commit, which
-- the vault holds to.

ALTER TABLE policies
    ADD COLUMN keep_tagged_usec bigint NOT NULL DEFAULT 0 CHECK (keep_tagged_usec >= 0),
    ADD COLUMN lock_usec bigint NOT NULL DEFAULT 0 CHECK (lock_usec >= 0);
