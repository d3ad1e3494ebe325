-- SPDX-License-Identifier: Apache-2.0
--
-- The settings have one version together: whoever changes them says which he saw. What is at its default has no row, so a row cannot carry it.

CREATE TABLE settings_version (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    version bigint NOT NULL DEFAULT 1
);
INSERT INTO settings_version DEFAULT VALUES;
