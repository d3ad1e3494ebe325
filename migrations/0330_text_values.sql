-- SPDX-License-Identifier: Apache-2.0
--
-- The names and numbers that stand in the texts of findings, alerts and events (hub/core/text_value.h), so that they can be shown in other languages.

ALTER TABLE machines ADD COLUMN cause_values jsonb NOT NULL DEFAULT '{}';
ALTER TABLE nodes ADD COLUMN cause_values jsonb NOT NULL DEFAULT '{}';
ALTER TABLE vaults ADD COLUMN cause_values jsonb NOT NULL DEFAULT '{}';
ALTER TABLE alerts ADD COLUMN text_values jsonb NOT NULL DEFAULT '{}';
ALTER TABLE events ADD COLUMN text_values jsonb NOT NULL DEFAULT '{}';
