-- SPDX-License-Identifier: Apache-2.0
--
-- Which machines are drilled on a schedule, and how fresh their last good drill is.

ALTER TABLE drill_schedules ADD COLUMN next_try_at timestamptz;   -- after one that could not begin

-- Of a plan: the machines of its steps. Simulated ones have nothing that could be started.
CREATE VIEW drill_coverage AS
    SELECT d.id AS drill_id, m.id AS machine_id, d.overdue_after_usec, greatest(d.created_at, p.enabled_at) AS since
    FROM drill_schedules d JOIN protections p ON p.policy_id = d.policy_id AND p.active
        JOIN machines m ON m.id = p.machine_id
    WHERE d.enabled AND NOT m.simulated
    UNION
    SELECT d.id, m.id, d.overdue_after_usec, d.created_at
    FROM drill_schedules d JOIN recovery_plans r ON r.id = d.plan_id
        CROSS JOIN LATERAL jsonb_path_query(r.document, '$.groups[*].steps[*] ? (@.type == "machine").machine') AS s (name)
        JOIN machines m ON m.name = s.name #>> '{}' OR m.id::text = s.name #>> '{}'
    WHERE d.enabled AND NOT m.simulated;

-- A drill is a good one when the replica came up and was taken away again; a person's word counts more than the boot check's.
CREATE VIEW drill_machines AS
    SELECT c.machine_id, g.last_good_at, l.last_at, l.last_verdict, l.last_failover_id,
        min(coalesce(g.last_good_at, c.since) + c.overdue_after_usec * interval '1 microsecond') AS overdue_at
    FROM drill_coverage c
        LEFT JOIN LATERAL (SELECT max(f.ended_at) AS last_good_at FROM failovers f WHERE f.machine_id = c.machine_id
            AND f.kind = 'test' AND f.state = 'cleaned' AND (f.outcome = 'passed' OR (f.outcome = '' AND f.verdict = 'passed'))) g
            ON true
        LEFT JOIN LATERAL (SELECT f.requested_at AS last_at, f.verdict AS last_verdict, f.id AS last_failover_id
            FROM failovers f WHERE f.machine_id = c.machine_id AND f.kind = 'test' ORDER BY f.created_at DESC LIMIT 1) l ON true
    GROUP BY 1, 2, 3, 4, 5;
