-- SPDX-License-Identifier: Apache-2.0
--
-- Which hubs run on this database, and with which of them a node has its session. When a hub is killed its nodes are heard of by nobody until they
-- come to another one; that is no reason to take their machines away.
CREATE TABLE hub_processes (
    process_id uuid PRIMARY KEY,
    seen_at timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE nodes ADD COLUMN session_hub uuid;
