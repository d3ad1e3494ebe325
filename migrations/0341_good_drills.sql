-- SPDX-License-Identifier: Apache-2.0
--
-- The last good drill of each machine is asked for with every sweep, and drills are never forgotten: it is one row of this index, not all drills that the machine
-- has had. The words are those of the view drill_machines (0071).
CREATE INDEX failovers_good_drills ON failovers (machine_id, ended_at)
    WHERE kind = 'test' AND state = 'cleaned' AND (outcome = 'passed' OR (outcome = '' AND verdict = 'passed'));
