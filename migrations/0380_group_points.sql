-- SPDX-License-Identifier: Apache-2.0
--
-- The last group point of a group at a cost that does not grow with its points, in spite of clocks that were wrong; and since when a group lacks one.

-- Before all ids of a list of members.
CREATE FUNCTION group_point_first(number bigint, membership bigint) RETURNS uuid LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT (lpad(to_hex(number), 8, '0') || lpad(to_hex(membership), 4, '0') || repeat('0', 20))::uuid
$$;
-- The last id that a point of a list of members can have which was begun by that moment (mobility/group/group_point.h).
CREATE FUNCTION group_point_until(number bigint, membership bigint, moment timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT (lpad(to_hex(number), 8, '0') || lpad(to_hex(membership), 4, '0') || to_hex(x'8000'::bigint | (t.msec >> 32 & x'fff'::bigint))
        || to_hex(x'80000000'::bigint | (t.msec >> 2 & x'3fffffff'::bigint)) || 'ffffffff')::uuid
    FROM (SELECT floor(extract(epoch FROM moment) * 1000)::bigint AS msec) t
$$;
-- What the clock of whichever member coordinates may say now: by as much ahead as one of them was when it was last heard, and a minute. What is dated later was
-- made with a clock that was wrong and is right again; it would be the last one for years.
CREATE FUNCTION group_clock(machine_ids uuid[]) RETURNS timestamptz LANGUAGE sql STABLE STRICT AS $$
    SELECT now() + greatest(max(m.clock_skew_usec), 0) * interval '1 microsecond' + interval '1 minute' FROM machines m WHERE m.id = ANY (machine_ids)
$$;

-- The last complete point of a list of members. Each step asks each of them for its last point up to `id`: where that is the same one, it is complete, and otherwise
-- no later one is than that of the member that is furthest behind, from which the next step goes on. So it takes a step or two, whatever the others have beyond a
-- member whose points do not come to their vault. Each step that finds none passes over a point that was missed, so an end can be made where members never have the
-- same: after 4000 questions, which are 62 steps for the largest group and take some tens of milliseconds, it is late, whatever lies before.
CREATE OR REPLACE FUNCTION group_last_point(number bigint, membership bigint, machine_ids uuid[]) RETURNS uuid LANGUAGE sql STABLE STRICT AS $$
    WITH RECURSIVE step AS (
        SELECT 0 AS n, false AS complete, group_point_until(number, membership, group_clock(machine_ids)) AS id
        UNION ALL
        SELECT s.n + 1, have.ids[1] = have.ids[cardinality(have.ids)], have.ids[1] FROM step s CROSS JOIN LATERAL (
            SELECT array_agg(h.id ORDER BY h.id NULLS FIRST) AS ids FROM (SELECT (SELECT p.group_point_id FROM recovery_points p
                WHERE p.machine_id = w.machine_id AND p.group_point_id BETWEEN group_point_first(number, membership) AND s.id
                ORDER BY p.group_point_id DESC LIMIT 1) AS id FROM unnest(machine_ids) AS w(machine_id)) h) have
        WHERE NOT s.complete AND s.n < 1000 AND s.n * cardinality(machine_ids) < 4000
    )
    SELECT id FROM step WHERE complete
$$;
DROP FUNCTION group_point_bound(bigint, bigint, text);

-- Since when a group lacks a group point, while it has a finding: a new list of members, which has no points yet, does not end that.
-- And since when it has its interval: by a shorter one none is late that had no time for it.
ALTER TABLE consistency_groups ADD COLUMN late_since timestamptz, ADD COLUMN interval_since timestamptz;
UPDATE consistency_groups SET late_since = now() - (finding_values->>'age_seconds')::float8 * interval '1 second' WHERE finding_code <> '';
