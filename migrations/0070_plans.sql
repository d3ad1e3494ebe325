-- SPDX-License-Identifier: Apache-2.0
--
-- Recovery plans, drills on a schedule, and what became of each run.

CREATE TABLE recovery_plans (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name text NOT NULL UNIQUE CHECK (name <> '' AND length(name) <= 128),
    description text NOT NULL DEFAULT '',
    document jsonb NOT NULL,              -- hub/jobs/plan_document.h
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- A plan, or every machine of a policy, tested again and again.
CREATE TABLE drill_schedules (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name text NOT NULL UNIQUE CHECK (name <> '' AND length(name) <= 128),
    enabled boolean NOT NULL DEFAULT true,
    plan_id uuid REFERENCES recovery_plans ON DELETE CASCADE,
    policy_id uuid REFERENCES policies ON DELETE CASCADE,
    interval_usec bigint NOT NULL CHECK (interval_usec > 0),
    overdue_after_usec bigint NOT NULL CHECK (overdue_after_usec >= interval_usec),  -- without a good drill
    window_hours text NOT NULL DEFAULT '',   -- as policies.work_hours; '' is always
    time_zone text NOT NULL DEFAULT 'UTC',
    target_id uuid REFERENCES compute_targets,   -- NULL: as the plan says
    options jsonb NOT NULL DEFAULT '{}',     -- of each replica: network, boot check
    last_started_at timestamptz,
    last_run_id uuid,
    last_problem text NOT NULL DEFAULT '',   -- why the last one did not begin
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CHECK ((plan_id IS NULL) <> (policy_id IS NULL))
);
CREATE INDEX drill_schedules_plan ON drill_schedules (plan_id);
CREATE INDEX drill_schedules_policy ON drill_schedules (policy_id);

CREATE TABLE plan_runs (
    id uuid PRIMARY KEY,
    plan_id uuid REFERENCES recovery_plans ON DELETE SET NULL,
    plan_name text NOT NULL,
    drill_id uuid REFERENCES drill_schedules ON DELETE SET NULL,
    kind text NOT NULL CHECK (kind IN ('test', 'planned', 'unplanned', 'failback')),
    state text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'succeeded', 'failed', 'cancelled')),
    document jsonb NOT NULL,              -- the plan as it was
    point text NOT NULL DEFAULT 'latest',
    cleanup boolean NOT NULL DEFAULT false,
    options jsonb NOT NULL DEFAULT '{}',  -- in place of what the plan says
    verdict text NOT NULL DEFAULT 'unknown' CHECK (verdict IN ('unknown', 'passed', 'failed')),
    verdict_text text NOT NULL DEFAULT '',
    predicted_usec bigint NOT NULL DEFAULT 0,
    job_id uuid REFERENCES jobs ON DELETE SET NULL,
    requested_by text NOT NULL DEFAULT '',
    requested_at timestamptz NOT NULL DEFAULT now(),
    recovered_at timestamptz,             -- its last step was over: the RTO counts until here
    ended_at timestamptz,
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX plan_runs_plan ON plan_runs (plan_id, requested_at);
CREATE INDEX plan_runs_requested ON plan_runs (requested_at);
ALTER TABLE drill_schedules ADD FOREIGN KEY (last_run_id) REFERENCES plan_runs ON DELETE SET NULL;

CREATE TABLE plan_run_steps (
    run_id uuid NOT NULL REFERENCES plan_runs ON DELETE CASCADE,
    ordinal integer NOT NULL,
    name text NOT NULL,
    group_name text NOT NULL DEFAULT '',
    type text NOT NULL CHECK (type IN ('machine', 'script', 'webhook', 'gate', 'wait')),
    state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'running', 'waiting_for_input', 'succeeded', 'failed',
        'passed_over', 'skipped', 'cancelled')),
    machine_id uuid REFERENCES machines ON DELETE SET NULL,
    machine_name text NOT NULL DEFAULT '',
    target_id uuid REFERENCES compute_targets ON DELETE SET NULL,
    sequence bigint NOT NULL DEFAULT 0,   -- pinned when the run was asked for; 0: the failover chooses
    live boolean NOT NULL DEFAULT false,  -- the run has the machine
    job_id uuid REFERENCES jobs ON DELETE SET NULL,   -- of its last try
    failover_id uuid REFERENCES failovers ON DELETE SET NULL,
    attempts integer NOT NULL DEFAULT 0,
    timed_out boolean NOT NULL DEFAULT false,
    detail text NOT NULL DEFAULT '',
    predicted_usec bigint NOT NULL DEFAULT 0,
    predicted_known boolean NOT NULL DEFAULT false,
    started_at timestamptz,
    attempt_at timestamptz,               -- of the last try, or of the next one
    finished_at timestamptz,
    PRIMARY KEY (run_id, ordinal)
);
-- A machine is in one run at a time.
CREATE UNIQUE INDEX plan_run_steps_live ON plan_run_steps (machine_id) WHERE live;
CREATE INDEX plan_run_steps_name ON plan_run_steps (name, finished_at);
