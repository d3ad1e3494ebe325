-- SPDX-License-Identifier: Apache-2.0
--
-- Copies: a second vault takes over the points of a machine from the one that it is replicated to, and goes on with each new one. The numbers of its points
-- are those of its own log.
CREATE TABLE copies (
    machine_id uuid NOT NULL REFERENCES machines,
    vault_id uuid NOT NULL REFERENCES vaults,
    source_vault_id uuid NOT NULL REFERENCES vaults,
    ending boolean NOT NULL DEFAULT false,          -- neither vault goes on with it; it is being erased
    source_sequence bigint NOT NULL DEFAULT 0,      -- the newest point of the other vault that is whole here; 0: none yet
    sequence bigint NOT NULL DEFAULT 0,             -- of that point here
    point_time timestamptz,
    taken_bytes bigint NOT NULL DEFAULT 0,
    traffic_bytes bigint NOT NULL DEFAULT 0,
    progress_permille integer NOT NULL DEFAULT 0,   -- of the pass that is under way
    cause text NOT NULL DEFAULT '',
    remedy text NOT NULL DEFAULT '',
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (machine_id, vault_id),
    CHECK (vault_id <> source_vault_id)
);
CREATE INDEX copies_vault ON copies (vault_id);
CREATE INDEX copies_source ON copies (source_vault_id);

CREATE TABLE copy_points (
    machine_id uuid NOT NULL,
    vault_id uuid NOT NULL,
    sequence bigint NOT NULL CHECK (sequence > 0),
    time timestamptz NOT NULL,
    kind text NOT NULL CHECK (kind IN ('crash', 'filesystem', 'application')),
    tag text NOT NULL DEFAULT '',
    generation bigint NOT NULL,
    changed_bytes bigint NOT NULL DEFAULT 0,
    committed_at timestamptz NOT NULL,
    PRIMARY KEY (machine_id, vault_id, sequence),
    FOREIGN KEY (machine_id, vault_id) REFERENCES copies ON DELETE CASCADE
);
CREATE INDEX copy_points_time ON copy_points (machine_id, vault_id, time);
