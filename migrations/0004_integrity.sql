-- SPDX-License-Identifier: Apache-2.0
--
-- What its vault says about the integrity of a machine's history, as the API shows it, and the ranges that the agent is to send again
-- because they cannot be read in the vault any more. The number grows with each change of the ranges.

CREATE TABLE integrity (
    machine_id uuid PRIMARY KEY REFERENCES machines ON DELETE CASCADE,
    vault_id uuid NOT NULL REFERENCES vaults ON DELETE CASCADE,
    report jsonb NOT NULL,
    resend jsonb NOT NULL DEFAULT '[]',
    resend_request bigint NOT NULL DEFAULT 0,
    updated_at timestamptz NOT NULL DEFAULT now()
);
