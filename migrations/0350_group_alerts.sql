-- SPDX-License-Identifier: Apache-2.0
--
-- Alerts of consistency groups, and what is wrong with a group (hub/core/health.h). A group's row has what its coordinator said last, which any miss
-- changes; a finding is beside it, for it is the hub's own and comes and goes by the points that are there.

ALTER TABLE alerts ADD COLUMN group_id uuid REFERENCES consistency_groups ON DELETE CASCADE;
CREATE INDEX alerts_group ON alerts (group_id) WHERE group_id IS NOT NULL;
ALTER TABLE alerts DROP CONSTRAINT alerts_subject_kind_check;
ALTER TABLE alerts ADD CONSTRAINT alerts_subject_kind_check CHECK (subject_kind IN ('machine', 'node', 'vault', 'group', 'hub'));
ALTER TABLE alerts DROP CONSTRAINT alerts_check;
ALTER TABLE alerts ADD CONSTRAINT alerts_check
    CHECK (num_nonnulls(machine_id, node_id, vault_id, group_id) = (subject_kind <> 'hub')::int);

ALTER TABLE consistency_groups
    ADD COLUMN finding_code text NOT NULL DEFAULT '',
    ADD COLUMN finding_cause text NOT NULL DEFAULT '',
    ADD COLUMN finding_remedy text NOT NULL DEFAULT '',
    ADD COLUMN finding_values jsonb NOT NULL DEFAULT '{}';

-- The ids of a group's points sort by its list of members and then by age (mobility/group/group_point.h), so the last one of a machine is found at once.
CREATE INDEX recovery_points_machine_group ON recovery_points (machine_id, group_point_id) WHERE group_point_id IS NOT NULL;

-- The first and the last id that a point of a list of members can have: with digit '0' and 'f'.
CREATE FUNCTION group_point_bound(number bigint, membership bigint, digit text) RETURNS uuid LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT (lpad(to_hex(number), 8, '0') || lpad(to_hex(membership), 4, '0') || repeat(digit, 20))::uuid
$$;
-- The last complete point of a list of members. It is looked for from where the member that is furthest behind has come to: what the others have beyond that,
-- while the points of one do not come to their vault, may be thousands.
CREATE FUNCTION group_last_point(number bigint, membership bigint, machine_ids uuid[]) RETURNS uuid LANGUAGE sql STABLE STRICT AS $$
    SELECT r.group_point_id FROM (
        SELECT w.machine_id, (SELECT p.group_point_id FROM recovery_points p WHERE p.machine_id = w.machine_id
            AND p.group_point_id BETWEEN group_point_bound(number, membership, '0') AND group_point_bound(number, membership, 'f')
            ORDER BY p.group_point_id DESC LIMIT 1) AS id
        FROM unnest(machine_ids) AS w(machine_id) ORDER BY 2 NULLS FIRST LIMIT 1) behind
    JOIN recovery_points r ON r.machine_id = behind.machine_id
        AND r.group_point_id BETWEEN group_point_bound(number, membership, '0') AND behind.id
    WHERE group_point_is_complete(r.group_point_id) ORDER BY r.group_point_id DESC LIMIT 1
$$;
