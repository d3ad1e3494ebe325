-- SPDX-License-Identifier: Apache-2.0
--
-- What a vault says about the space that its machines take, as the API shows it.

CREATE TABLE vault_space (
    vault_id uuid PRIMARY KEY REFERENCES vaults ON DELETE CASCADE,
    report jsonb NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);
