/* SPDX-License-Identifier: Apache-2.0
 *
 * Happy path: claim a job, open a transaction, make sure the claim still holds, run the next step, store what it left and its
 * outcome, commit. Killed anywhere before the commit: nothing happened, the lease runs out, the step runs again. A step that
 * fails with a code that may pass (database restarting, conflict) runs again with a pause, a few times; any other failure ends
 * the job with the error's text and correction. A failure, too, is stored only by who still holds the job: the step may have
 * waited for longer than the lease lasts, and somebody else may have gone on.
 */
#include "hub/jobs/job_runner.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "hub/core/plain_text.h"
#include "hub/db/journal.h"
#include "hub/jobs/job_kind.h"
#include "transport/base/clock.h"
#include "transport/base/crashpoint.h"
#include "transport/base/log.h"

#define THREADS_MAX 16
#define AGAIN_DEFAULT_USEC USEC_PER_SEC
#define RETRIES_MAX 5
#define ERROR_PAUSE_USEC (500 * USEC_PER_MSEC)
#define JSON_STRICT_FLAGS JSON_REJECT_DUPLICATES

struct job_runner {
    struct db *db;
    struct news *news;
    char hub_id[IDENT_TEXT_SIZE];
    atomic_bool stopping;
    pthread_mutex_t lookout; /* held by the thread that looks for work, also while there is none */
    unsigned thread_count;
    pthread_t threads[THREADS_MAX];
};

/* ---- one step ---- */

static void run_done(struct job_run *run)
{
    json_decref(run->params);
    json_decref(run->state);
}

static int run_init(struct job_run *run, struct db_conn *conn, const struct job_claim *job, struct err *err)
{
    *run = (struct job_run){.conn = conn, .job = job, .again_usec = AGAIN_DEFAULT_USEC};
    run->params = json_loads(job->params_json, JSON_STRICT_FLAGS, NULL);
    run->state = json_loads(job->state_json, JSON_STRICT_FLAGS, NULL);
    if (!json_is_object(run->params) || !json_is_object(run->state))
        return err_set(err, ERR_INTERNAL, "job %s has params or state that are not objects", job->id);
    run->result = json_object_get(run->state, "result");
    if (!run->result) {
        run->result = json_object();
        if (json_object_set_new(run->state, "result", run->result) < 0)
            return err_set(err, ERR_NOMEM, "no memory");
    }
    return 0;
}

static struct job_progress progress_of(const struct job_run *run, const char *state_text)
{
    return (struct job_progress){.job_id = run->job->id,
        .ordinal = run->job->ordinal,
        .step_count = run->job->step_count,
        .state_json = state_text,
        .detail = run->detail,
        .progress_permille = run->progress_permille,
        .again_usec = run->again_usec,
        .keep_usec = run->keep ? JOB_LEASE_USEC : 0,
        .question = run->question};
}

static int finish(struct db_conn *conn, const struct job_claim *job, const char *status, const char *result,
    const struct err *why, struct err *err)
{
    AUTO_FREE char *text = mem_printf("job %s: %s%s%s", job->kind, status, why ? ": " : "", why ? why->text : "");
    const struct event_spec event = {.severity = why && why->code != ERR_CANCELLED ? "error" : "info",
        .code = "job_finished",
        .values = TEXT_VALUES(VALUE_TEXT("form", status), VALUE_TEXT("job", job->kind),
            VALUE_TEXT("problem", why ? why->text : ""), VALUE_TEXT("remedy", why ? why->correction : "")),
        .machine_id = job->machine_id,
        .vault_id = job->vault_id,
        .job_id = job->id,
        .actor = job->requested_by};

    if (!text)
        return err_set(err, ERR_NOMEM, "no memory");
    if (job_store_finish(conn, job->id, status, result, why, err) < 0 ||
        job_store_log(conn, job->id, why ? "error" : "info", text, err) < 0)
        return -1;
    log_event(why ? LOG_WARN : LOG_INFO, "job_finished", LOG_S("job", job->id), LOG_S("kind", job->kind),
        LOG_S("status", status), LOG_S("problem", why ? why->text : ""));
    return event_append(conn, &event, err);
}

static int step_succeeded(struct job_run *run, const char *state_text, const struct job_step *step, struct err *err)
{
    const struct job_claim *job = run->job;
    struct job_progress p = progress_of(run, state_text);
    AUTO_FREE char *line = mem_printf("%s%s%s", step->title, run->detail[0] ? ": " : "", run->detail);

    p.again_usec = p.keep_usec = 0;
    if (!line || job_store_step_done(run->conn, &p, err) < 0 ||
        job_store_log(run->conn, job->id, "info", line, err) < 0)
        return -1;
    if (job->ordinal + 1 < job->step_count)
        return 0;
    AUTO_FREE char *result = json_dumps(run->result, JSON_COMPACT);

    return result ? finish(run->conn, job, "succeeded", result, NULL, err) : err_set(err, ERR_NOMEM, "no memory");
}

/* Stores what the step said. */
static int settle(struct job_run *run, const struct job_step *step, int outcome, struct err *err)
{
    AUTO_FREE char *state = json_dumps(run->state, JSON_COMPACT);
    plain_text_tidy(run->detail); /* it may have been cut, or be a program's word */
    struct job_progress p = progress_of(run, state);

    if (!state)
        return err_set(err, ERR_NOMEM, "no memory");
    if (outcome == JOB_DONE)
        return step_succeeded(run, state, step, err);
    if (outcome == JOB_AGAIN)
        return job_store_again(run->conn, &p, err);
    p.keep_usec = 0;
    return job_store_ask(run->conn, &p, err);
}

/* It was forgotten meanwhile, and all that is known of it: nothing is left to work on, nor to undo. */
static bool machine_is_gone(const struct job_kind *kind, const struct job_claim *job)
{
    return kind && kind->needs_machine && !job->machine_id[0];
}

static int cancel(struct job_run *run, const struct job_kind *kind, struct err *err)
{
    struct err why = ERR_INIT;

    if (kind->cancel && !machine_is_gone(kind, run->job) && kind->cancel(run, err) < 0)
        return -1;
    err_set(&why, ERR_CANCELLED, "cancelled");
    return finish(run->conn, run->job, "cancelled", NULL, &why, err);
}

/* By its name: the row may be of a version of the hub whose jobs of this kind had more steps, or fewer. NULL: this hub has no such step. */
static const struct job_step *step_of(const struct job_claim *job)
{
    const struct job_kind *kind = job_kind_find(job->kind);

    for (size_t i = 0; kind && i < JOB_STEPS_MAX && kind->steps[i].name; i++)
        if (strcmp(kind->steps[i].name, job->step_name) == 0)
            return &kind->steps[i];
    return NULL;
}

static int work(struct job_run *run, struct err *err)
{
    const struct job_kind *kind = job_kind_find(run->job->kind);
    const struct job_step *step = step_of(run->job);
    int outcome;

    if (!kind)
        return err_set(err, ERR_UNSUPPORTED, "this hub does not know jobs of kind %s", run->job->kind);
    if (run->job->cancel_requested || strcmp(run->job->answer, "abort") == 0)
        return cancel(run, kind, err);
    if (machine_is_gone(kind, run->job))
        return err_set(err, ERR_NOT_FOUND, "the machine was forgotten while the job was under way");
    if (!step) {
        err_set(err, ERR_UNSUPPORTED, "this hub does not know the step %.40s of jobs of kind %s", run->job->step_name,
            run->job->kind);
        return err_hint(err, "Another version of the hub has begun the job. Ask for the same once more.");
    }
    outcome = step->run(run, err);
    return outcome < 0 ? -1 : settle(run, step, outcome, err);
}

/* "job.KIND.STEP.before" the commit of what a look at a step did, and "after" it. */
static void pass(const struct job_claim *job, const char *when)
{
    const struct job_step *step = step_of(job);
    char name[96];

    if (!step)
        return;
    snprintf(name, sizeof(name), "job.%s.%s.%s", job->kind, step->name, when);
    crashpoint_pass(name);
}

/* What a look at a step came to. */
struct look {
    bool final; /* `why` stands, whatever its code */
    struct err why;
};
typedef int job_act(struct job_run *run, struct look *look, struct err *err);

/* The act in a transaction of its own, in which nobody else can have the job. 0: committed; 1: the claim was lost, and nothing was done; -1: rolled back. */
static int act_on_held(
    struct db_conn *conn, const char *hub_id, struct job_claim *job, job_act *act, struct look *look, struct err *err)
{
    struct job_run run = {0};
    int held, rc;

    if (db_begin(conn, err) < 0)
        return -1;
    held = job_store_hold(conn, hub_id, job, err);
    if (held <= 0) {
        db_rollback(conn);
        return held < 0 ? -1 : 1;
    }
    rc = run_init(&run, conn, job, err) < 0 ? -1 : act(&run, look, err);
    run_done(&run);
    if (rc < 0) {
        db_rollback(conn);
        return -1;
    }
    return db_commit(conn, err);
}

static int look_at_step(struct job_run *run, struct look *look, struct err *err)
{
    int rc = work(run, err);

    look->final = run->final;
    if (rc >= 0)
        pass(run->job, "before");
    return rc;
}

static bool may_pass(const struct err *why)
{
    return why->code == ERR_CONFLICT || why->code == ERR_UNAVAILABLE;
}

/* Undoing that is refused would be refused for ever, and the job would keep others out: it ends, and says what is left. -1: it may pass. */
static int undo(struct job_run *run, const struct job_kind *kind, struct err *why, struct err *err)
{
    struct err refusal = ERR_INIT, before = *why;

    if (!kind || !kind->cancel || !kind->undo_on_failure || machine_is_gone(kind, run->job))
        return 0;
    if (job_store_try_undo(run->conn, err) < 0)
        return -1;
    if (kind->cancel(run, &refusal) >= 0)
        return 0;
    if (may_pass(&refusal) || refusal.code == ERR_NOMEM) {
        err_copy(err, &refusal);
        return -1;
    }
    if (strcmp(refusal.text, before.text) != 0)
        err_set(why, before.code, "%.140s; what was begun cannot be undone: %.140s", before.text, refusal.text);
    err_hint(why, "%s", refusal.correction[0] ? refusal.correction : before.correction);
    return job_store_undo_refused(run->conn, err);
}

/* Again with a pause, or the end of the job. What the kind's cancel undoes is undone for a failure, too. */
static int settle_failure(struct job_run *run, struct look *look, struct err *err)
{
    const struct job_claim *job = run->job;

    if (may_pass(&look->why) && !look->final && job->attempts < RETRIES_MAX) {
        struct job_progress p = progress_of(run, job->state_json);

        p.detail = look->why.text;
        p.failed = true;
        return job_store_again(run->conn, &p, err);
    }
    if (undo(run, job_kind_find(job->kind), &look->why, err) < 0)
        return -1;
    return finish(run->conn, job, "failed", NULL, &look->why, err);
}

/* Works on what was claimed, and lets go of it. Where somebody else has the job by now, what failed here is nothing any more. */
static int run_claimed(struct db_conn *conn, const char *hub_id, struct job_claim *job, struct err *err)
{
    struct look look = {.why = ERR_INIT};
    int rc = act_on_held(conn, hub_id, job, look_at_step, &look, &look.why);

    if (rc == 0)
        pass(job, "after");
    if (rc < 0)
        rc = act_on_held(conn, hub_id, job, settle_failure, &look, err);
    job_claim_done(job);
    return rc < 0 ? -1 : 1;
}

int job_run_one(struct db_conn *conn, const char *hub_id, uint64_t *ret_wait_usec, struct err *err)
{
    struct job_claim job = {0};
    int rc = job_store_claim(conn, hub_id, JOB_LEASE_USEC, &job, ret_wait_usec, err);

    return rc <= 0 ? rc : run_claimed(conn, hub_id, &job, err);
}

/* ---- threads ---- */

static void note_failure(const struct err *err)
{
    if (err->code != ERR_UNAVAILABLE) /* a lost database is logged where it is watched (news) */
        log_event(LOG_ERROR, "job_runner_failed", LOG_E(err));
}

/* Waits for a job and claims it, as the only thread that does: were all of them to wait for the same moment, each would ask the
 * database for each step of the others. false: the runner stops. */
static bool find_job(struct job_runner *runner, struct db_conn **ret_conn, struct job_claim *ret_job)
{
    bool found = false;

    pthread_mutex_lock(&runner->lookout);
    while (!found && !atomic_load(&runner->stopping)) {
        uint64_t seen = news_count(runner->news, NEWS_JOBS), wait_usec = ERROR_PAUSE_USEC;
        struct err err = ERR_INIT;
        int rc = db_acquire(runner->db, ret_conn, &err);

        if (rc == 0)
            rc = job_store_claim(*ret_conn, runner->hub_id, JOB_LEASE_USEC, ret_job, &wait_usec, &err);
        if (rc < 0)
            note_failure(&err);
        found = rc > 0;
        if (found)
            break;
        db_release(TAKE_PTR(*ret_conn));
        if (!atomic_load(&runner->stopping))
            (void)news_wait(runner->news, NEWS_JOBS, seen, rc < 0 ? ERROR_PAUSE_USEC : wait_usec);
    }
    pthread_mutex_unlock(&runner->lookout);
    return found;
}

static void *runner_main(void *arg)
{
    struct job_runner *runner = arg;
    struct db_conn *conn = NULL;
    struct job_claim job = {0};

    while (find_job(runner, &conn, &job)) {
        struct err err = ERR_INIT;

        if (run_claimed(conn, runner->hub_id, &job, &err) < 0)
            note_failure(&err);
        db_release(TAKE_PTR(conn));
        /* The thread that looks for work saw this job claimed, and would sleep for longer than its next step may wait. */
        news_nudge(runner->news, NEWS_JOBS);
    }
    return NULL;
}

int job_runner_start(struct db *db, struct news *news, const char *hub_id, unsigned threads,
    struct job_runner **ret_runner, struct err *err)
{
    struct job_runner *runner = mem_new(struct job_runner);

    if (!runner)
        return err_set(err, ERR_NOMEM, "no memory for the job runner");
    runner->db = db;
    runner->news = news;
    strncpy(runner->hub_id, hub_id, IDENT_TEXT_SIZE - 1);
    pthread_mutex_init(&runner->lookout, NULL);
    for (unsigned i = 0; i < threads && i < THREADS_MAX; i++) {
        int rc = pthread_create(&runner->threads[i], NULL, runner_main, runner);

        if (rc != 0) {
            job_runner_stop(runner);
            return err_sys(err, rc, "starting a job thread");
        }
        (void)pthread_setname_np(runner->threads[i], "jobs");
        runner->thread_count++;
    }
    *ret_runner = runner;
    return 0;
}

/* What rests here need not wait for its lease: another hub, or this one after its restart, goes on at once. */
static void let_go(struct job_runner *runner)
{
    struct db_conn *conn AUTO_OF(db_conn) = NULL;
    struct err err = ERR_INIT;

    if (db_acquire(runner->db, &conn, &err) < 0 || job_store_let_go(conn, runner->hub_id, &err) < 0)
        note_failure(&err);
}

void job_runner_stop(struct job_runner *runner)
{
    if (!runner)
        return;
    atomic_store(&runner->stopping, true);
    news_poke(runner->news);
    for (unsigned i = 0; i < runner->thread_count; i++)
        pthread_join(runner->threads[i], NULL);
    let_go(runner);
    pthread_mutex_destroy(&runner->lookout);
    free(runner);
}
