-- SPDX-License-Identifier: Apache-2.0
--
-- History that stays bounded: minutes (samples) are kept for three days, hours for sixty, days for five years. Each minute is added to its
-- hour and its day in the statement that stores it, so nothing has to be summed up later and a killed hub leaves nothing half done.
-- A stable word beside each cause, for programs and for the console's languages.

CREATE TABLE sample_rollups (
    machine_id uuid NOT NULL REFERENCES machines ON DELETE CASCADE,
    step_sec integer NOT NULL CHECK (step_sec IN (3600, 86400)),
    start timestamptz NOT NULL,
    rpo_max_usec bigint NOT NULL DEFAULT 0,
    rpo_sum_usec numeric NOT NULL DEFAULT 0,
    rpo_count bigint NOT NULL DEFAULT 0,
    changed_bytes bigint NOT NULL DEFAULT 0,
    sent_bytes bigint NOT NULL DEFAULT 0,
    points bigint NOT NULL DEFAULT 0,
    frozen_points bigint NOT NULL DEFAULT 0,
    backlog_bytes bigint NOT NULL DEFAULT 0,   -- the most that there was
    PRIMARY KEY (machine_id, step_sec, start)
) WITH (fillfactor = 70);
CREATE INDEX sample_rollups_age ON sample_rollups (step_sec, start);
CREATE INDEX samples_minute ON samples (minute);

INSERT INTO sample_rollups (machine_id, step_sec, start, rpo_max_usec, rpo_sum_usec, rpo_count, changed_bytes, sent_bytes, points,
    frozen_points, backlog_bytes)
SELECT s.machine_id, t.step, to_timestamp(floor(extract(epoch FROM s.minute) / t.step) * t.step), max(s.rpo_max_usec), sum(s.rpo_sum_usec),
    sum(s.rpo_count), sum(s.changed_bytes), sum(s.sent_bytes), sum(s.points), sum(s.frozen_points), max(s.backlog_bytes)
FROM samples s, (VALUES (3600), (86400)) AS t(step) GROUP BY 1, 2, 3;

ALTER TABLE machines ADD COLUMN cause_code text NOT NULL DEFAULT '';
ALTER TABLE nodes ADD COLUMN cause_code text NOT NULL DEFAULT '';
ALTER TABLE vaults ADD COLUMN cause_code text NOT NULL DEFAULT '';
CREATE INDEX events_encrypted ON events (machine_id, at) WHERE code = 'looks_encrypted';
CREATE INDEX jobs_finished ON jobs (finished_at);
