-- SPDX-License-Identifier: Apache-2.0
--
-- Consistency groups: machines whose agents make points of one moment. A group point is complete when each machine on its list of
-- members has a point with its id, and the id says which list that is (mobility/group/group_point.h); nothing else is believed.

ALTER TABLE machines ADD COLUMN group_endpoint text NOT NULL DEFAULT '';   -- where its agent answers the members of its group

CREATE TABLE consistency_groups (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    number bigint GENERATED ALWAYS AS IDENTITY UNIQUE,   -- part of the ids of its points; never given again
    name text NOT NULL UNIQUE CHECK (name <> '' AND length(name) <= 128),
    description text NOT NULL DEFAULT '',
    interval_usec bigint NOT NULL DEFAULT 60000000 CHECK (interval_usec = 0 OR interval_usec >= 1000000),
    freeze_budget_usec bigint NOT NULL DEFAULT 0,        -- 0: each machine's own
    membership bigint NOT NULL DEFAULT 0 CHECK (membership BETWEEN 0 AND 65535),   -- number of the present list
    -- what the coordinator said last
    coordinated_by uuid REFERENCES machines ON DELETE SET NULL,
    news_at timestamptz,
    made bigint NOT NULL DEFAULT 0,
    missed bigint NOT NULL DEFAULT 0,
    last_point_id uuid,
    last_point_at timestamptz,
    last_freeze_usec bigint NOT NULL DEFAULT 0,
    last_missed boolean NOT NULL DEFAULT false,
    culprit_id uuid REFERENCES machines ON DELETE SET NULL,
    cause text NOT NULL DEFAULT '',
    remedy text NOT NULL DEFAULT '',
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE consistency_group_members (
    machine_id uuid PRIMARY KEY REFERENCES machines,
    group_id uuid NOT NULL REFERENCES consistency_groups ON DELETE CASCADE,
    position bigint GENERATED ALWAYS AS IDENTITY,        -- the first one coordinates
    joined_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX consistency_group_members_group ON consistency_group_members (group_id, position);

-- Every list of members that there has been.
CREATE TABLE consistency_group_lists (
    group_number bigint NOT NULL REFERENCES consistency_groups (number) ON DELETE CASCADE,
    membership bigint NOT NULL,
    machine_ids uuid[] NOT NULL,
    since timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (group_number, membership)
);

CREATE INDEX recovery_points_group ON recovery_points (group_point_id) WHERE group_point_id IS NOT NULL;

CREATE FUNCTION group_point_group(id uuid) RETURNS bigint LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT ('x' || substr(id::text, 1, 8))::bit(32)::bigint
$$;
CREATE FUNCTION group_point_membership(id uuid) RETURNS bigint LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT ('x' || substr(id::text, 10, 4))::bit(16)::bigint
$$;
CREATE FUNCTION group_point_is_complete(id uuid) RETURNS boolean LANGUAGE sql STABLE STRICT AS $$
    SELECT EXISTS (
        SELECT 1 FROM consistency_group_lists l
        WHERE l.group_number = group_point_group(id) AND l.membership = group_point_membership(id)
        AND cardinality(l.machine_ids) > 1
        AND cardinality(l.machine_ids) = (SELECT count(DISTINCT r.machine_id) FROM recovery_points r
            WHERE r.group_point_id = id AND r.machine_id = ANY (l.machine_ids)))
$$;
