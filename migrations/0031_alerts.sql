-- SPDX-License-Identifier: Apache-2.0
--
-- Alerts: what lasts of what is wrong (hub/core/alert.h). `pending` rows wait for their time and are shown to nobody. Each change that
-- people are to hear of is a row of alert_changes; only the hub that holds the duty of the sweep writes these, so that their numbers are
-- in the order of commits.

CREATE TABLE alerts (
    id uuid PRIMARY KEY,
    code text NOT NULL CHECK (code <> ''),
    subject_kind text NOT NULL CHECK (subject_kind IN ('machine', 'node', 'vault', 'hub')),
    subject_id uuid NOT NULL,
    detail text NOT NULL DEFAULT '',      -- tells alerts of one code on one subject apart: the kind of a job
    machine_id uuid REFERENCES machines ON DELETE CASCADE,
    node_id uuid REFERENCES nodes ON DELETE CASCADE,
    vault_id uuid REFERENCES vaults ON DELETE CASCADE,
    severity text NOT NULL CHECK (severity IN ('warning', 'critical')),
    state text NOT NULL CHECK (state IN ('pending', 'firing', 'acknowledged', 'resolved')),
    cause text NOT NULL DEFAULT '',
    remedy text NOT NULL DEFAULT '',
    since timestamptz NOT NULL,           -- when what is wrong began
    lacks_since timestamptz,
    eased_since timestamptz,
    raised_at timestamptz,
    acknowledged_at timestamptz,
    acknowledged_by text NOT NULL DEFAULT '',
    note text NOT NULL DEFAULT '' CHECK (length(note) <= 1000),
    resolved_at timestamptz,
    version bigint NOT NULL DEFAULT 1,
    updated_at timestamptz NOT NULL DEFAULT now(),
    CHECK (num_nonnulls(machine_id, node_id, vault_id) = (subject_kind <> 'hub')::int)
);
CREATE UNIQUE INDEX alerts_open ON alerts (subject_id, code, detail) WHERE state <> 'resolved';
CREATE INDEX alerts_raised ON alerts (raised_at) WHERE state <> 'pending';
CREATE INDEX alerts_machine ON alerts (machine_id);

CREATE TABLE alert_changes (
    seq bigserial PRIMARY KEY,
    alert_id uuid NOT NULL REFERENCES alerts ON DELETE CASCADE,
    at timestamptz NOT NULL DEFAULT now(),
    change text NOT NULL CHECK (change IN ('raised', 'worsened', 'resolved')),
    severity text NOT NULL,
    cause text NOT NULL
);
CREATE INDEX alert_changes_alert ON alert_changes (alert_id);

-- When the rules were evaluated last, by whichever hub.
CREATE TABLE alert_sweep (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    checked_at timestamptz
);
INSERT INTO alert_sweep DEFAULT VALUES;
