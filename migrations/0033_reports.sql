-- SPDX-License-Identifier: Apache-2.0
--
-- The last time that a weekly report was due and was made; the first one comes at the next time after this.

CREATE TABLE report_schedule (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    last_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO report_schedule DEFAULT VALUES;
