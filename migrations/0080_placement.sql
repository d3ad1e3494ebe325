-- SPDX-License-Identifier: Apache-2.0
-- Machines that move between nodes: where one is going, where somebody wants it to be, and since when things are as they are.

ALTER TABLE protections
    ADD COLUMN next_node_id uuid REFERENCES nodes ON DELETE SET NULL,    -- is told of the machine before its agent is
    ADD COLUMN pinned_node_id uuid REFERENCES nodes ON DELETE SET NULL,  -- chosen by a person, while it can be used
    ADD COLUMN node_since timestamptz NOT NULL DEFAULT now(),            -- the machine has been on its node
    ADD COLUMN node_reason text NOT NULL DEFAULT '';                     -- of the last move: placement_reason_name(), or 'asked'
CREATE INDEX protections_next_node ON protections (next_node_id) WHERE next_node_id IS NOT NULL;

ALTER TABLE nodes ADD COLUMN online_since timestamptz;                   -- of the present or last session

-- When a hub last looked at the nodes, and since when hubs have done so without a pause: nobody's silence counts before that.
CREATE TABLE placement_watch (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    seen_at timestamptz NOT NULL DEFAULT '-infinity',
    since timestamptz NOT NULL DEFAULT now()
);
INSERT INTO placement_watch DEFAULT VALUES;

-- One move of a machine at a time.
CREATE UNIQUE INDEX jobs_one_move ON jobs (machine_id)
    WHERE kind = 'machine_move' AND status IN ('queued', 'running', 'waiting_for_input');
