/* SPDX-License-Identifier: Apache-2.0
 *
 * plan_run: ask all targets, then look at the steps again and again until all are over, take the replicas of a drill away, and write down what came of it.
 * What a step does is a job of its own (failover, plan_action, plan_gate), submitted in the transaction that notes it: it happens once, resumes by
 * itself after a crash, has its own log, and can be answered or cancelled by itself. This job only decides what begins, what is tried again, what took too
 * long, and when it is over. A failed plan is a failed job; what already runs is let come to its end, and its replicas stay unless the run says otherwise.
 *
 * plan_end: cleanup, rollback or commit of all the replicas of a run.
 */
#include <stdio.h>
#include <string.h>

#include "hub/core/plain_text.h"
#include "hub/db/journal.h"
#include "hub/db/plan_store.h"
#include "hub/jobs/failover_steps.h"
#include "hub/jobs/job.h"
#include "hub/jobs/plan_run.h"
#include "transport/base/clock.h"
#include "transport/base/mem.h"

#define LOOK_USEC (200 * USEC_PER_MSEC)
#define LOOK_AT_PEOPLE_USEC USEC_PER_SEC
#define NOTES_MAX 4096

static int run_read(struct job_run *run, struct db_set *ret_set, const struct plan_run_row **ret_row, struct err *err)
{
    if (db_need(run->conn, &db_plan_runs, job_param_text(run->params, "run_id"), ret_set, err) < 0)
        return -1;
    *ret_row = db_at(ret_set, struct plan_run_row, 0);
    return 0;
}

/* ---- one look ---- */

struct look {
    struct job_run *run;
    const struct plan_run_row *row;
    struct plan *plan;
    json_t *kept; /* "target", "options" of the run */
    PGresult *rows;
    struct db_set set;
    enum plan_step_state states[PLAN_STEPS_MAX];
};

static void look_done(struct look *l)
{
    plan_free(l->plan);
    json_decref(l->kept);
    PQclear(l->rows);
    db_set_done(&l->set);
}
#define AUTO_LOOK __attribute__((cleanup(look_done)))

/* How the steps and their jobs stand now. */
static int look_at_steps(struct look *l, struct err *err)
{
    int n;

    PQclear(TAKE_PTR(l->rows));
    n = plan_look(l->run->conn, l->row->id, &l->rows, err);
    if (n < 0)
        return -1;
    if (!l->kept || (size_t)n != l->plan->graph.count)
        return err_set(err, ERR_INTERNAL, "run %s has lost steps", l->row->id);
    for (int i = 0; i < n; i++) {
        int state = plan_step_state_from_name(db_text(l->rows, i, PL_STATE));

        if (state < 0)
            return err_set(err, ERR_INTERNAL, "run %s has a step in an unknown state", l->row->id);
        l->states[i] = (enum plan_step_state)state;
    }
    return 0;
}

static int look_init(struct look *l, struct job_run *run, struct err *err)
{
    l->run = run;
    if (run_read(run, &l->set, &l->row, err) < 0 || plan_read_text(l->row->document_json, &l->plan, err) < 0)
        return -1;
    l->kept = json_loads(l->row->options_json, JSON_REJECT_DUPLICATES, NULL);
    return look_at_steps(l, err);
}

static const char *field(const struct look *l, size_t i, enum plan_look_column column)
{
    return db_text(l->rows, (int)i, (int)column);
}

static int note(struct look *l, size_t i, struct plan_step_note *n, struct err *err)
{
    n->run_id = l->row->id;
    n->ordinal = i;
    n->timed_out = n->timed_out || (!n->new_attempt && db_bool(l->rows, (int)i, PL_TIMED_OUT));
    l->states[i] = n->state;
    return plan_step_note(l->run->conn, n, err);
}

static int say(struct look *l, const char *level, size_t i, const char *text, struct err *err)
{
    AUTO_FREE char *line = mem_printf("%s: %s", l->plan->steps[i].name, text);

    return line ? job_store_log(l->run->conn, l->run->job->id, level, line, err)
                : err_set(err, ERR_NOMEM, "no memory for a line");
}

/* Again after a pause, if it may; else failed for good, or passed over. */
static int step_failed(struct look *l, size_t i, const char *text, unsigned attempts, bool may_retry, struct err *err)
{
    const struct plan_step *step = &l->plan->steps[i];
    bool again = may_retry && attempts <= step->retries;
    struct plan_step_note n = {.state = again           ? PLAN_STEP_RUNNING
                                        : step->goes_on ? PLAN_STEP_PASSED_OVER
                                                        : PLAN_STEP_FAILED,
        .detail = text,
        .job_id = again ? "" : NULL,
        .next_after_usec = again ? step->pause_usec : 0};

    return note(l, i, &n, err) < 0 ? -1 : say(l, again ? "warning" : "error", i, text, err);
}

/* ---- beginning a step ---- */

static bool is_failback(const struct look *l)
{
    return strcmp(l->row->kind, "failback") == 0;
}

static json_t *job_params(const struct look *l, size_t i, struct err *err)
{
    const struct plan_step *step = &l->plan->steps[i];

    if (step->type == PLAN_MACHINE && is_failback(l))
        return plan_failback_params(l->run->conn, field(l, i, PL_MACHINE_ID), err);
    if (step->type == PLAN_MACHINE)
        return plan_failover_params(step, l->row->kind, field(l, i, PL_TARGET_ID), db_u64(l->rows, (int)i, PL_SEQUENCE),
            json_object_get(l->kept, "options"));
    if (step->type == PLAN_GATE)
        return json_pack("{s:s}", "question", plan_step_text(step, "question"));
    return json_pack("{s:s, s:I, s:I}", "run_id", l->row->id, "ordinal", (json_int_t)i, "attempt",
        (json_int_t)db_u64(l->rows, (int)i, PL_ATTEMPTS) + 1);
}

static const char *job_kind_of(const struct look *l, enum plan_step_type type)
{
    return type == PLAN_MACHINE ? plan_failover_job(l->row->kind) : type == PLAN_GATE ? "plan_gate" : "plan_action";
}

/* What is refused now is a failed try. A database that is gone is not, nor one that has given the transaction up for another one's sake. */
static int submit_child(struct job_run *run, const struct job_spec *spec, char ret_id[IDENT_TEXT_SIZE], struct err *why)
{
    if (plan_savepoint(run->conn, why) < 0)
        return -1;
    if (job_submit(run->conn, spec, false, ret_id, why) == 0)
        return 0;
    if (why->code == ERR_UNAVAILABLE || db_was_sacrificed(run->conn))
        return -1;
    return plan_savepoint_undo(run->conn, why) < 0 ? -1 : 1;
}

static int begin_step(struct look *l, size_t i, struct err *err)
{
    struct err why = ERR_INIT;
    json_t *params = job_params(l, i, &why);
    AUTO_FREE char *text = params ? json_dumps(params, JSON_COMPACT) : NULL;
    const struct job_spec spec = {.kind = job_kind_of(l, l->plan->steps[i].type),
        .machine_id = field(l, i, PL_MACHINE_ID),
        .params_json = text,
        .requested_by = l->run->job->requested_by};
    char id[IDENT_TEXT_SIZE];
    int rc;

    json_decref(params);
    if (!text && why.code == ERR_NONE)
        err_set(&why, ERR_NOMEM, "no memory for a step");
    if (text)
        rc = submit_child(l->run, &spec, id, &why);
    else
        rc = why.code == ERR_REFUSED || why.code == ERR_NOT_FOUND ? 1 : -1;
    if (rc < 0) {
        err_copy(err, &why);
        return -1;
    }
    struct plan_step_note n = {
        .state = PLAN_STEP_RUNNING, .detail = "", .job_id = rc == 0 ? id : "", .new_attempt = true};

    if (note(l, i, &n, err) < 0)
        return -1;
    return rc == 0 ? say(l, "info", i, "begins", err)
                   : step_failed(l, i, why.text, (unsigned)db_u64(l->rows, (int)i, PL_ATTEMPTS) + 1, true, err);
}

/* ---- what became of a step ---- */

static int machine_over(struct look *l, size_t i, const json_t *result, struct err *err)
{
    const char *failover = job_param_text(result, "failover_id"), *why = job_param_text(result, "verdict_text");
    bool failed = strcmp(job_param_text(result, "verdict"), "failed") == 0;
    AUTO_FREE char *text =
        is_failback(l) ? mem_strdup("the original machine runs again")
                       : mem_printf("boot check %s%s%s", job_param_text(result, "verdict"), why[0] ? ": " : "", why);
    struct plan_step_note n = {
        .state = failed ? PLAN_STEP_RUNNING : PLAN_STEP_SUCCEEDED, .detail = text, .failover_id = failover};

    if (!text)
        return err_set(err, ERR_NOMEM, "no memory for a step");
    if (note(l, i, &n, err) < 0)
        return -1;
    /* The replica is there: another try would be another replica. */
    return failed ? step_failed(l, i, text, 0, false, err) : say(l, "info", i, text, err);
}

static int step_succeeded(struct look *l, size_t i, struct err *err)
{
    json_t *result = json_loads(field(l, i, PL_JOB_RESULT), JSON_REJECT_DUPLICATES, NULL);
    int rc;

    if (l->plan->steps[i].type == PLAN_MACHINE) {
        rc = machine_over(l, i, result, err);
    } else {
        struct plan_step_note n = {.state = PLAN_STEP_SUCCEEDED, .detail = job_param_text(result, "detail")};

        rc = note(l, i, &n, err) < 0 ? -1 : say(l, "info", i, n.detail[0] ? n.detail : "done", err);
    }
    json_decref(result);
    return rc;
}

static int step_ended_badly(struct look *l, size_t i, struct err *err)
{
    const struct plan_step *step = &l->plan->steps[i];
    bool timed_out = db_bool(l->rows, (int)i, PL_TIMED_OUT);
    bool stopped = strcmp(field(l, i, PL_JOB_STATUS), "cancelled") == 0;
    AUTO_FREE char *text = timed_out ? mem_printf("took more than %llu s and was stopped",
                                           (unsigned long long)(step->timeout_usec / USEC_PER_SEC))
                           : stopped ? mem_strdup(step->type == PLAN_GATE ? "answered with abort" : "cancelled")
                                     : mem_strdup(field(l, i, PL_JOB_TEXT));

    if (!text)
        return err_set(err, ERR_NOMEM, "no memory for a step");
    return step_failed(l, i, text, (unsigned)db_u64(l->rows, (int)i, PL_ATTEMPTS), timed_out || !stopped, err);
}

/* Past its time it is asked to stop, once; what it began, its own job undoes. */
static int watch_step(struct look *l, size_t i, struct err *err)
{
    bool late = db_i64(l->rows, (int)i, PL_ATTEMPT_AGE) > (int64_t)l->plan->steps[i].timeout_usec;
    bool asks = strcmp(field(l, i, PL_JOB_STATUS), "waiting_for_input") == 0;
    enum plan_step_state state = asks ? PLAN_STEP_WAITING : PLAN_STEP_RUNNING;
    struct plan_step_note n = {
        .state = state, .detail = field(l, i, asks ? PL_JOB_TEXT : PL_JOB_DETAIL), .timed_out = late};
    struct err ignored = ERR_INIT;

    if (late && !db_bool(l->rows, (int)i, PL_TIMED_OUT)) {
        if (job_cancel(l->run->conn, field(l, i, PL_JOB_ID), &ignored) < 0 && ignored.code != ERR_REFUSED) {
            err_copy(err, &ignored);
            return -1;
        }
        return note(l, i, &n, err);
    }
    return note(l, i, &n, err);
}

static int collect(struct look *l, size_t i, struct err *err)
{
    const char *status = field(l, i, PL_JOB_STATUS);

    if (!field(l, i, PL_JOB_ID)[0]) /* waits for its next try */
        return db_i64(l->rows, (int)i, PL_ATTEMPT_AGE) >= 0 ? begin_step(l, i, err) : 0;
    if (strcmp(status, "succeeded") == 0)
        return step_succeeded(l, i, err);
    if (job_status_is_final(status))
        return step_ended_badly(l, i, err);
    return watch_step(l, i, err);
}

/* ---- plan_run: the steps ---- */

static int check_run(
    struct db_conn *conn, const json_t *params, const struct plan_run_row **ret, struct db_set *set, struct err *err)
{
    if (db_need(conn, &db_plan_runs, job_param_text(params, "run_id"), set, err) < 0)
        return -1;
    *ret = db_at(set, struct plan_run_row, 0);
    return 0;
}

static int run_check(struct db_conn *conn, const struct machine_row *machine, json_t *params,
    char ret_vault_id[IDENT_TEXT_SIZE], struct err *err)
{
    static const char *const known[] = {"run_id", NULL};
    AUTO_DB_SET struct db_set set = {0};
    const struct plan_run_row *row;

    (void)machine;
    (void)ret_vault_id;
    if (job_params_known(params, known, err) < 0 || check_run(conn, params, &row, &set, err) < 0)
        return -1;
    if (row->job_id[0])
        return err_set(err, ERR_REFUSED, "run %s has its job already", row->id);
    return 0;
}

/* Whether its target could take the replica. 1: yes; 0: not known yet. */
static int ask_one_target(struct look *l, size_t i, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    json_t *params = job_params(l, i, err), *config = NULL, *spec = NULL, *answer = NULL;
    AUTO_FREE char *options = json_dumps(json_object_get(params, "options"), JSON_COMPACT);
    char key[64];
    int rc = -1;

    json_decref(params);
    if (db_need(l->run->conn, &db_targets, field(l, i, PL_TARGET_ID), &set, err) < 0)
        return -1;
    const struct target_row *t = db_at(&set, struct target_row, 0);
    const struct failover_row f = {.id = l->run->job->id,
        .machine_id = field(l, i, PL_MACHINE_ID),
        .kind = l->row->kind,
        .options_json = options ? options : "{}",
        .sequence = db_u64(l->rows, (int)i, PL_SEQUENCE)};

    config = json_loads(t->config_json, JSON_REJECT_DUPLICATES, NULL);
    spec = config ? replica_spec(l->run->conn, &f, NULL, err) : NULL;
    snprintf(key, sizeof(key), "%s/c%zu", l->run->job->id, i);
    const struct fabric_ask ask = {
        .key = key, .verb = FABRIC_CHECK, .adapter = t->adapter, .config = config, .spec = spec};

    if (spec)
        rc = fabric_task(&ask, &answer, err);
    json_decref(answer);
    json_decref(spec);
    json_decref(config);
    return rc < 0 ? err_wrap(err, "step %.60s: target %.60s", l->plan->steps[i].name, t->name) : rc;
}

/* All at the same time; nothing has begun when one refuses. Those that said yes are kept in state: a task is forgotten when it was collected. */
static int ask_targets(struct job_run *run, struct err *err)
{
    AUTO_LOOK struct look l = {0};
    json_t *good = json_object_get(run->state, "asked");
    size_t open = 0;
    char key[24];

    if (look_init(&l, run, err) < 0 || (!good && job_state_put(run, "asked", json_object(), err) < 0))
        return -1;
    good = json_object_get(run->state, "asked");
    for (size_t i = 0; i < l.plan->graph.count; i++) {
        int rc;

        snprintf(key, sizeof(key), "%zu", i);
        if (is_failback(&l) || l.plan->steps[i].type != PLAN_MACHINE || l.states[i] != PLAN_STEP_PENDING ||
            json_object_get(good, key))
            continue;
        rc = ask_one_target(&l, i, err);
        if (rc < 0) {
            run->final = true;
            return -1;
        }
        open += rc == 0;
        if (rc > 0 && json_object_set_new(good, key, json_true()) < 0)
            return err_set(err, ERR_NOMEM, "no memory for a run");
    }
    run->again_usec = LOOK_USEC;
    snprintf(run->detail, sizeof(run->detail), "%zu targets have not answered yet", open);
    if (open > 0)
        return JOB_AGAIN;
    snprintf(run->detail, sizeof(run->detail), "every target can take its replica");
    return JOB_DONE;
}

/* For people: how far, and who is waited for. */
static void tell_progress(struct look *l)
{
    size_t over = 0, running = 0, people = 0, n = l->plan->graph.count;

    for (size_t i = 0; i < n; i++) {
        over += plan_step_state_is_over(l->states[i]);
        running += l->states[i] == PLAN_STEP_RUNNING;
        people += l->states[i] == PLAN_STEP_WAITING;
    }
    l->run->progress_permille = (unsigned)(over * 1000 / n);
    l->run->again_usec = running > 0 ? LOOK_USEC : LOOK_AT_PEOPLE_USEC;
    snprintf(l->run->detail, sizeof(l->run->detail), "%zu of %zu steps are over, %zu run%s", over, n, running,
        people ? "; somebody is asked" : "");
}

static int run_steps(struct job_run *run, struct err *err)
{
    AUTO_LOOK struct look l = {0};
    bool ready[PLAN_STEPS_MAX];
    enum plan_progress progress;

    if (look_init(&l, run, err) < 0)
        return -1;
    for (size_t i = 0; i < l.plan->graph.count; i++)
        if ((l.states[i] == PLAN_STEP_RUNNING || l.states[i] == PLAN_STEP_WAITING) && collect(&l, i, err) < 0)
            return -1;
    progress = plan_graph_look(&l.plan->graph, l.states, false, l.plan->parallel_max, ready);
    for (size_t i = 0; progress == PLAN_GOES_ON && i < l.plan->graph.count; i++)
        if (ready[i] && begin_step(&l, i, err) < 0)
            return -1;
    tell_progress(&l);
    if (progress == PLAN_GOES_ON)
        return JOB_AGAIN;
    return plan_run_recovered(run->conn, l.row->id, err) < 0 ? -1 : JOB_DONE;
}

/* ---- the end of replicas ---- */

struct ending {
    const char *kind; /* of the job */
    const char *outcome, *notes;
};

static int end_one(struct job_run *run, const struct ending *e, json_t *jobs, const char *id, const char *machine_id,
    const char *verdict, struct err *err)
{
    bool commit = strcmp(e->kind, "failover_commit") == 0;
    const char *outcome = e->outcome ? e->outcome : strcmp(verdict, "unknown") == 0 ? NULL : verdict;
    json_t *params = json_pack(
        "{s:s, s:s*, s:s*}", "failover_id", id, "outcome", commit ? NULL : outcome, "notes", commit ? NULL : e->notes);
    AUTO_FREE char *text = params ? json_dumps(params, JSON_COMPACT) : NULL;
    const struct job_spec spec = {
        .kind = e->kind, .machine_id = machine_id, .params_json = text, .requested_by = run->job->requested_by};
    struct err why = ERR_INIT;
    char job_id[IDENT_TEXT_SIZE];
    int rc;

    json_decref(params);
    if (!text)
        return err_set(err, ERR_NOMEM, "no memory for a job");
    rc = submit_child(run, &spec, job_id, &why);
    if (rc < 0) {
        err_copy(err, &why);
        return -1;
    }
    /* One that cannot be ended now is somebody else's already. */
    if (rc > 0 && job_store_log(run->conn, run->job->id, "warning", why.text, err) < 0)
        return -1;
    return json_object_set_new(jobs, id, json_string(rc == 0 ? job_id : "")) < 0
               ? err_set(err, ERR_NOMEM, "no memory for a job")
               : 0;
}

static int submit_endings(
    struct job_run *run, const char *run_id, const struct ending *e, json_t *jobs, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    int n = plan_run_replicas(run->conn, run_id, &r, err);

    for (int i = 0; i < n; i++)
        if (!json_object_get(jobs, db_text(r, i, 0)) &&
            end_one(run, e, jobs, db_text(r, i, 0), db_text(r, i, 1), db_text(r, i, 2), err) < 0)
            return -1;
    return n < 0 ? -1 : 0;
}

/* How many of the jobs go on, and why one failed. */
static int count_open(struct job_run *run, json_t *jobs, size_t *ret_open, char why[300], struct err *err)
{
    const char *failover;
    json_t *value;

    *ret_open = 0;
    why[0] = '\0';
    json_object_foreach(jobs, failover, value)
    {
        AUTO_DB_SET struct db_set set = {0};
        const char *id = json_string_value(value);
        int found = id && id[0] ? db_get(run->conn, &db_jobs, id, &set, err) : 0;

        if (found < 0)
            return -1;
        if (found == 0)
            continue;
        const struct job_row *job = db_at(&set, struct job_row, 0);

        *ret_open += !job_status_is_final(job->status);
        if (strcmp(job->status, "failed") == 0)
            snprintf(why, 300, "%.40s: %.200s", job->machine_name, job->problem_text);
    }
    plain_text_tidy(why);
    return 0;
}

/* JOB_DONE with `why` set when one could not be ended. */
static int end_replicas(struct job_run *run, const char *run_id, const struct ending *e, char why[300], struct err *err)
{
    json_t *jobs = json_object_get(run->state, "endings");
    size_t open;

    if (!jobs && job_state_put(run, "endings", json_object(), err) < 0)
        return -1;
    jobs = json_object_get(run->state, "endings");
    if (submit_endings(run, run_id, e, jobs, err) < 0 || count_open(run, jobs, &open, why, err) < 0)
        return -1;
    run->again_usec = LOOK_USEC;
    snprintf(run->detail, sizeof(run->detail), "%zu of %zu go on", open, json_object_size(jobs));
    return open > 0 ? JOB_AGAIN : JOB_DONE;
}

static int clean_up(struct job_run *run, struct err *err)
{
    const struct ending ending = {.kind = "failover_end", .notes = "drill"};
    AUTO_DB_SET struct db_set set = {0};
    const struct plan_run_row *row;
    char why[300];
    int rc;

    if (run_read(run, &set, &row, err) < 0)
        return -1;
    if (!row->cleanup) {
        snprintf(run->detail, sizeof(run->detail), "the replicas stay");
        return JOB_DONE;
    }
    rc = end_replicas(run, row->id, &ending, why, err);
    if (rc == JOB_DONE && why[0] && job_state_put(run, "cleanup_problem", json_string(why), err) < 0)
        return -1;
    return rc;
}

/* ---- plan_run: its end ---- */

struct judgement {
    bool failed;
    const char *verdict;
    char text[300];
};

/* Of a failback there is no boot check: that the machine is itself again is all. */
static void judge_step(const struct plan_run_step_row *s, bool back, struct judgement *j, bool *ret_unknown)
{
    bool stopped = strcmp(s->state, "failed") == 0 || strcmp(s->state, "cancelled") == 0;
    bool bad = stopped || strcmp(s->state, "passed_over") == 0;

    *ret_unknown = *ret_unknown || (strcmp(s->type, "machine") == 0 && strcmp(s->state, "skipped") != 0 &&
                                       strcmp(s->verdict, "passed") != 0 && !back);
    j->failed = j->failed || stopped;
    /* The first that failed explains those whose turn did not come. */
    if (bad && (!j->text[0] || strcmp(s->state, "failed") == 0))
        snprintf(j->text, sizeof(j->text), "%.80s: %.200s", s->name, s->detail[0] ? s->detail : s->state);
}

static int judge(struct job_run *run, const char *run_id, bool back, struct judgement *j, struct err *err)
{
    const struct db_filter filters[] = {{"run_id", DB_EQ, run_id}};
    const struct db_page page = {.filters = filters, .filter_count = ARRAY_LEN(filters), .limit = PLAN_STEPS_MAX};
    const char *problem = job_state_text(run, "cleanup_problem");
    AUTO_DB_SET struct db_set set = {0};
    bool unknown = false;

    *j = (struct judgement){.verdict = "passed"};
    if (db_list(run->conn, &db_plan_run_steps, &page, &set, err) < 0)
        return -1;
    for (size_t i = 0; i < set.count; i++)
        judge_step(db_at(&set, struct plan_run_step_row, i), back, j, &unknown);
    if (problem) {
        j->failed = true;
        snprintf(j->text, sizeof(j->text), "cleanup of %.250s", problem);
    }
    plain_text_tidy(j->text);
    j->verdict = j->text[0] ? "failed" : unknown ? "unknown" : "passed";
    return 0;
}

static int tell_end(
    struct job_run *run, const struct plan_run_row *row, const char *state, const struct judgement *j, struct err *err)
{
    bool bad = j->failed || strcmp(j->verdict, "failed") == 0;
    const struct event_spec event = {.severity = j->failed ? "error"
                                                 : bad     ? "warning"
                                                           : "info",
        .code = "plan_run_ended",
        .values = TEXT_VALUES(VALUE_TEXT("form", bad ? "bad" : "good"), VALUE_TEXT("run", row->kind),
            VALUE_TEXT("plan", row->plan_name), VALUE_TEXT("ended", state), VALUE_TEXT("verdict", j->verdict),
            VALUE_TEXT("problem", j->text)),
        .job_id = run->job->id,
        .actor = run->job->requested_by};

    return event_append(run->conn, &event, err);
}

static int settle(struct job_run *run, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    const struct plan_run_row *row;
    struct judgement j;

    if (run_read(run, &set, &row, err) < 0 || judge(run, row->id, strcmp(row->kind, "failback") == 0, &j, err) < 0)
        return -1;
    if (j.failed) { /* written down by undo_run, which a failure calls */
        run->final = true;
        err_set(err, ERR_REFUSED, "the plan failed: %s", j.text);
        return err_hint(err, "See its report, mend what failed, and run it again: leeward plan report %s", row->id);
    }
    if (json_object_set_new(run->result, "run_id", json_string(row->id)) < 0 ||
        json_object_set_new(run->result, "verdict", json_string(j.verdict)) < 0)
        return err_set(err, ERR_NOMEM, "no memory for a run");
    if (plan_run_end(run->conn, row->id, "succeeded", j.verdict, j.text, err) < 0)
        return -1;
    return tell_end(run, row, "succeeded", &j, err) < 0 ? -1 : JOB_DONE;
}

static int stop_children(struct look *l, struct err *err)
{
    for (size_t i = 0; i < l->plan->graph.count; i++) {
        struct err why = ERR_INIT;

        if (plan_step_state_is_over(l->states[i]) || !field(l, i, PL_JOB_ID)[0])
            continue;
        if (job_cancel(l->run->conn, field(l, i, PL_JOB_ID), &why) < 0 && why.code != ERR_REFUSED) {
            err_copy(err, &why);
            return -1;
        }
    }
    return 0;
}

/* A job that was over before it could be stopped has left what it made: that is of the run, too. What is asked to stop from here on undoes it itself. */
static int collect_done(struct look *l, struct err *err)
{
    if (look_at_steps(l, err) < 0)
        return -1;
    for (size_t i = 0; i < l->plan->graph.count; i++)
        if (!plan_step_state_is_over(l->states[i]) && strcmp(field(l, i, PL_JOB_STATUS), "succeeded") == 0 &&
            step_succeeded(l, i, err) < 0)
            return -1;
    return 0;
}

/* Cancelled, or failed: what runs is stopped, a drill's replicas are taken away, and the run is over. */
static int undo_run(struct job_run *run, struct err *err)
{
    const struct ending ending = {.kind = "failover_end", .notes = "drill"};
    AUTO_LOOK struct look l = {0};
    json_t *jobs = json_object_get(run->state, "endings");
    bool cancelled = run->job->cancel_requested;
    struct judgement j;

    fabric_task_cancel(run->job->id);
    if (!jobs && job_state_put(run, "endings", json_object(), err) < 0)
        return -1;
    jobs = json_object_get(run->state, "endings");
    if (look_init(&l, run, err) < 0 || stop_children(&l, err) < 0 || collect_done(&l, err) < 0 ||
        (l.row->cleanup && submit_endings(run, l.row->id, &ending, jobs, err) < 0))
        return -1;
    if (plan_run_end(run->conn, l.row->id, cancelled ? "cancelled" : "failed", "failed", "", err) < 0 ||
        judge(run, l.row->id, is_failback(&l), &j, err) < 0)
        return -1;
    if (!j.text[0])
        snprintf(j.text, sizeof(j.text), cancelled ? "cancelled" : "it did not begin; see its job");
    if (plan_run_judge(run->conn, l.row->id, cancelled ? "unknown" : "failed", j.text, err) < 0)
        return -1;
    j.failed = !cancelled;
    j.verdict = cancelled ? "unknown" : "failed";
    return tell_end(run, l.row, cancelled ? "cancelled" : "failed", &j, err);
}

/* ---- plan_action, plan_gate ---- */

static int action_params_check(struct db_conn *conn, const struct machine_row *machine, json_t *params,
    char ret_vault_id[IDENT_TEXT_SIZE], struct err *err)
{
    static const char *const known[] = {"run_id", "ordinal", "attempt", NULL};
    AUTO_DB_SET struct db_set set = {0};
    const struct plan_run_row *row;

    (void)machine;
    (void)ret_vault_id;
    return job_params_known(params, known, err) < 0 ? -1 : check_run(conn, params, &row, &set, err);
}

/* What the plan's machines are by now, for scripts and webhooks. */
static json_t *machines_now(struct db_conn *conn, const char *run_id, struct err *err)
{
    const struct db_filter filters[] = {{"run_id", DB_EQ, run_id}, {"type", DB_EQ, "machine"}};
    const struct db_page page = {.filters = filters, .filter_count = ARRAY_LEN(filters), .limit = PLAN_STEPS_MAX};
    AUTO_DB_SET struct db_set set = {0};
    json_t *list = json_array();

    if (!list || db_list(conn, &db_plan_run_steps, &page, &set, err) < 0) {
        json_decref(list);
        return NULL;
    }
    for (size_t i = 0; i < set.count; i++) {
        const struct plan_run_step_row *s = db_at(&set, struct plan_run_step_row, i);
        AUTO_DB_SET struct db_set one = {0};
        json_t *replica = NULL;

        if (s->failover_id[0] && db_get(conn, &db_failovers, s->failover_id, &one, err) > 0)
            replica = json_loads(db_at(&one, struct failover_row, 0)->replica_json, JSON_REJECT_DUPLICATES, NULL);
        json_array_append_new(
            list, json_pack("{s:s, s:s, s:s, s:s, s:s}", "name", s->machine_name, "step", s->name, "state", s->state,
                      "failover_id", s->failover_id, "address", job_param_text(replica, "address")));
        json_decref(replica);
    }
    return list;
}

static int act_with(struct job_run *run, const struct plan_run_row *row, const struct plan_step *step, struct err *err)
{
    json_t *machines = machines_now(run->conn, row->id, err), *context, *answer = NULL;
    char key[64];
    int rc;

    if (!machines)
        return err && err->code ? -1 : err_set(err, ERR_NOMEM, "no memory for a step");
    context = json_pack("{s:s, s:s, s:s, s:s, s:O, s:I, s:o}", "plan", row->plan_name, "run_id", row->id, "step",
        step->name, "kind", row->kind, "attempt", json_object_get(run->params, "attempt"), "timeout_seconds",
        (json_int_t)(step->timeout_usec / USEC_PER_SEC), "machines", machines);
    if (!context)
        return err_set(err, ERR_NOMEM, "no memory for a step");
    snprintf(key, sizeof(key), "%s/0", run->job->id);
    rc = fabric_task(&(struct fabric_ask){.key = key,
                         .verb = FABRIC_ACT,
                         .adapter = plan_step_type_name(step->type),
                         .config = step->json,
                         .spec = context},
        &answer, err);
    json_decref(context);
    run->again_usec = LOOK_USEC;
    run->keep = true;
    run->final = rc < 0;
    if (rc > 0 && json_object_update(run->result, answer) < 0)
        rc = err_set(err, ERR_NOMEM, "no memory for a step");
    json_decref(answer);
    return rc < 0 ? -1 : rc > 0 ? JOB_DONE : JOB_AGAIN;
}

static int act(struct job_run *run, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    AUTO_PLAN struct plan *plan = NULL;
    const struct plan_run_row *row;
    uint64_t ordinal;

    if (run_read(run, &set, &row, err) < 0 || job_param_u64(run->params, "ordinal", &ordinal, err) < 0 ||
        plan_read_text(row->document_json, &plan, err) < 0)
        return -1;
    if (ordinal >= plan->graph.count)
        return err_set(err, ERR_INTERNAL, "the run has no step %llu", (unsigned long long)ordinal);
    return act_with(run, row, &plan->steps[ordinal], err);
}

static int undo_action(struct job_run *run, struct err *err)
{
    (void)err;
    fabric_task_cancel(run->job->id);
    return 0;
}

static int gate_check(struct db_conn *conn, const struct machine_row *machine, json_t *params,
    char ret_vault_id[IDENT_TEXT_SIZE], struct err *err)
{
    static const char *const known[] = {"question", NULL};

    (void)conn;
    (void)machine;
    (void)ret_vault_id;
    return job_params_known(params, known, err);
}

/* "abort" never comes here: it cancels the job. */
static int ask(struct job_run *run, struct err *err)
{
    (void)err;
    snprintf(run->question, sizeof(run->question), "%s", job_param_text(run->params, "question"));
    return strcmp(run->job->answer, "continue") == 0 ? JOB_DONE : JOB_ASK;
}

/* ---- plan_end ---- */

static int end_check(struct db_conn *conn, const struct machine_row *machine, json_t *params,
    char ret_vault_id[IDENT_TEXT_SIZE], struct err *err)
{
    static const char *const known[] = {"run_id", "action", "outcome", "notes", NULL};
    const char *action = job_param_text(params, "action");
    AUTO_DB_SET struct db_set set = {0};
    const struct plan_run_row *row;
    bool test, cleanup = strcmp(action, "cleanup") == 0;

    (void)machine;
    (void)ret_vault_id;
    if (job_params_known(params, known, err) < 0 || check_run(conn, params, &row, &set, err) < 0)
        return -1;
    if (!cleanup && strcmp(action, "rollback") != 0 && strcmp(action, "commit") != 0)
        return err_set(err, ERR_INVALID, "action: cleanup, rollback or commit");
    if (strlen(job_param_text(params, "notes")) > NOTES_MAX)
        return err_set(err, ERR_INVALID, "notes: at most %d bytes are allowed", NOTES_MAX);
    test = strcmp(row->kind, "test") == 0;
    if (strcmp(row->state, "running") == 0) {
        err_set(err, ERR_REFUSED, "the run goes on");
        return err_hint(err, "Wait for it or cancel it first: leeward job cancel %s", row->job_id);
    }
    if (test != cleanup) {
        err_set(err, ERR_REFUSED, test ? "it is a test" : "it is not a test");
        return err_hint(err, test ? "A test is ended by its cleanup." : "Roll it back, or commit it.");
    }
    if (row->replica_count == 0) {
        err_set(err, ERR_REFUSED, "no replica of the run is left");
        return err_hint(err, "Look at it: leeward plan report %s", row->id);
    }
    return 0;
}

static int end_all(struct job_run *run, struct err *err)
{
    const char *outcome = job_param_text(run->params, "outcome"), *action = job_param_text(run->params, "action");
    const struct ending ending = {.kind = strcmp(action, "commit") == 0 ? "failover_commit" : "failover_end",
        .outcome = outcome[0]                        ? outcome
                   : strcmp(action, "rollback") == 0 ? ""
                                                     : NULL,
        .notes = job_param_text(run->params, "notes")};
    char why[300];
    int rc = end_replicas(run, job_param_text(run->params, "run_id"), &ending, why, err);

    if (rc != JOB_DONE || !why[0])
        return rc;
    run->final = true;
    err_set(err, ERR_REFUSED, "not all of it: %s", why);
    return err_hint(err, "See the failovers of its machines: leeward failover list");
}

const struct job_kind job_kind_plan_run = {.name = "plan_run",
    .may_cancel = true,
    .check = run_check,
    .cancel = undo_run,
    .undo_on_failure = true,
    .steps = {{"check", "Ask all targets whether they can take the replicas", ask_targets, NULL},
        {"run", "Run the steps of the plan", run_steps, NULL},
        {"cleanup", "Take the replicas of a drill away", clean_up, NULL},
        {"settle", "Write down what came of it", settle, NULL}}};

const struct job_kind job_kind_plan_action = {.name = "plan_action",
    .may_cancel = true,
    .check = action_params_check,
    .cancel = undo_action,
    .undo_on_failure = true,
    .steps = {{"act", "Do what the step of the plan says", act, NULL}}};

const struct job_kind job_kind_plan_gate = {
    .name = "plan_gate", .may_cancel = true, .check = gate_check, .steps = {{"ask", "Ask somebody", ask, NULL}}};

const struct job_kind job_kind_plan_end = {
    .name = "plan_end", .check = end_check, .steps = {{"end", "End all replicas of the run", end_all, NULL}}};
