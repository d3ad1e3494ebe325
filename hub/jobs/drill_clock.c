/* SPDX-License-Identifier: Apache-2.0
 *
 * A drill of a plan is a run of that plan. One of a policy is a run of a plan made for the occasion: all its protected machines side by side, few at a time, and one that
 * fails does not keep the others. What cannot begin is told once and tried again after a while.
 */
#include "hub/jobs/drill_clock.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "hub/db/journal.h"
#include "hub/jobs/plan_run.h"
#include "transport/base/log.h"
#include "transport/base/mem.h"

#define TICK_SEC 2
/* Replicas of one drill that run at the same time: a drill must not fill the target. */
#define PARALLEL 4

/* ---- one drill ---- */

static int policy_document(struct db_conn *conn, const struct drill_row *d, char **ret_text, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    int n = drill_policy_machines(conn, d->policy_id, &r, err);
    json_t *steps = json_array(), *document;

    for (int i = 0; steps && i < n; i++)
        json_array_append_new(steps, json_pack("{s:s, s:s, s:s, s:s}", "name", db_text(r, i, 0), "type", "machine",
                                         "machine", db_text(r, i, 0), "on_failure", "continue"));
    if (n <= 0) {
        json_decref(steps);
        if (n < 0)
            return -1;
        err_set(err, ERR_REFUSED, "no machine of policy %s can be drilled now", d->policy_name);
        return err_hint(err, "They must be protected, have a point, and be in no other run.");
    }
    document =
        json_pack("{s:i, s:[{s:s, s:o}]}", "max_parallel", PARALLEL, "groups", "name", d->policy_name, "steps", steps);
    *ret_text = document ? json_dumps(document, JSON_COMPACT) : NULL;
    json_decref(document);
    return *ret_text ? 0 : err_set(err, ERR_NOMEM, "no memory for a drill");
}

static int start_row(struct db_conn *conn, const struct drill_row *d, const char *requested_by,
    char ret_run_id[IDENT_TEXT_SIZE], char ret_job_id[IDENT_TEXT_SIZE], struct err *err)
{
    AUTO_FREE char *document = NULL;
    json_t *options = json_loads(d->options_json, JSON_REJECT_DUPLICATES, NULL);
    struct plan_run_spec spec = {.drill_id = d->id,
        .kind = "test",
        .point = "latest",
        .requested_by = requested_by,
        .target = d->target_name[0] ? d->target_name : NULL,
        .options = options,
        .cleanup = true};
    int rc = 0;

    if (d->plan_id[0]) {
        spec.plan = d->plan_id;
    } else if ((rc = policy_document(conn, d, &document, err)) == 0) {
        spec.plan_name = d->name;
        spec.document_json = document;
    }
    if (rc == 0)
        rc = plan_run_start(conn, &spec, false, ret_run_id, ret_job_id, NULL, err);
    json_decref(options);
    return rc < 0 ? -1 : drill_note_start(conn, d->id, ret_run_id, err);
}

int drill_start(struct db_conn *conn, const char *id, const char *requested_by, char ret_run_id[IDENT_TEXT_SIZE],
    char ret_job_id[IDENT_TEXT_SIZE], struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};

    if (db_need(conn, &db_drills, id, &set, err) < 0)
        return -1;
    return start_row(conn, db_at(&set, struct drill_row, 0), requested_by, ret_run_id, ret_job_id, err);
}

/* ---- those that are due ---- */

static int tell_problem(struct db_conn *conn, const struct drill_row *d, const struct err *why, struct err *err)
{
    const struct event_spec event = {.severity = "warning",
        .code = "drill_not_started",
        .values = TEXT_VALUES(
            VALUE_TEXT("drill", d->name), VALUE_TEXT("problem", why->text), VALUE_TEXT("remedy", why->correction))};
    int is_new = drill_note_problem(conn, d->id, why->text, err);

    log_event(LOG_WARN, "drill_not_started", LOG_S("drill", d->name), LOG_S("problem", why->text));
    return is_new <= 0 ? is_new : event_append(conn, &event, err);
}

/* The row is held. 1: started; 0: it could not, which is noted. */
static int start_or_tell(struct db_conn *conn, const struct drill_row *d, struct err *err)
{
    AUTO_FREE char *who = mem_printf("drill:%s", d->name);
    char run_id[IDENT_TEXT_SIZE], job_id[IDENT_TEXT_SIZE];
    struct err why = ERR_INIT;

    if (!who)
        return err_set(err, ERR_NOMEM, "no memory for a drill");
    if (plan_savepoint(conn, err) < 0)
        return -1;
    if (start_row(conn, d, who, run_id, job_id, &why) == 0) {
        log_event(LOG_INFO, "drill_started", LOG_S("drill", d->name), LOG_S("run", run_id), LOG_S("job", job_id));
        return 1;
    }
    if (plan_savepoint_undo(conn, err) < 0)
        return -1;
    return tell_problem(conn, d, &why, err) < 0 ? -1 : 0;
}

static int take_and_start(struct db_conn *conn, const char *id, struct err *err)
{
    struct work_window windows[WORK_HOURS_MAX];
    AUTO_DB_SET struct db_set set = {0};
    struct drill_moment moment;
    size_t count = 0;
    int taken = drill_take(conn, id, &moment, err);

    if (taken <= 0)
        return taken;
    if (db_need(conn, &db_drills, id, &set, err) < 0)
        return -1;
    const struct drill_row *d = db_at(&set, struct drill_row, 0);

    if (work_hours_parse(d->window, windows, &count, err) < 0)
        return -1;
    return drill_is_due(&moment, windows, count) ? start_or_tell(conn, d, err) : 0;
}

static int start_one(struct db_conn *conn, const char *id, struct err *err)
{
    int rc;

    if (db_begin(conn, err) < 0)
        return -1;
    rc = take_and_start(conn, id, err);
    if (rc < 0) {
        db_rollback(conn);
        return -1;
    }
    return db_commit(conn, err) < 0 ? -1 : rc;
}

int drill_look(struct db_conn *conn, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    int n = drill_due(conn, &r, err), started = 0;

    for (int i = 0; i < n; i++) {
        int rc = start_one(conn, db_text(r, i, 0), err);

        if (rc < 0)
            return -1;
        started += rc;
    }
    return n < 0 ? -1 : started;
}

/* ---- the thread ---- */

struct drill_clock {
    struct db *db;
    pthread_t thread;
    pthread_mutex_t lock; /* guards stopping */
    pthread_cond_t stop;
    bool stopping;
};

static void look(struct drill_clock *clock)
{
    struct db_conn *conn AUTO_OF(db_conn) = NULL;
    struct err err = ERR_INIT;

    if (db_acquire(clock->db, &conn, &err) < 0 || drill_look(conn, &err) < 0)
        if (err.code != ERR_UNAVAILABLE) /* a lost database is logged where it is watched (news) */
            log_event(LOG_ERROR, "drill_clock_failed", LOG_E(&err));
}

static void *clock_main(void *arg)
{
    struct drill_clock *clock = arg;

    pthread_mutex_lock(&clock->lock);
    while (!clock->stopping) {
        struct timespec until;

        pthread_mutex_unlock(&clock->lock);
        look(clock);
        pthread_mutex_lock(&clock->lock);
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += TICK_SEC;
        while (!clock->stopping && pthread_cond_timedwait(&clock->stop, &clock->lock, &until) == 0)
            ;
    }
    pthread_mutex_unlock(&clock->lock);
    return NULL;
}

int drill_clock_start(struct db *db, struct drill_clock **ret_clock, struct err *err)
{
    struct drill_clock *clock = mem_new(struct drill_clock);
    pthread_condattr_t attr;
    int r;

    if (!clock)
        return err_set(err, ERR_NOMEM, "no memory for drills");
    clock->db = db;
    pthread_mutex_init(&clock->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&clock->stop, &attr);
    pthread_condattr_destroy(&attr);
    r = pthread_create(&clock->thread, NULL, clock_main, clock);
    if (r != 0) {
        pthread_cond_destroy(&clock->stop);
        pthread_mutex_destroy(&clock->lock);
        free(clock);
        return err_sys(err, r, "starting the thread for drills");
    }
    (void)pthread_setname_np(clock->thread, "drills");
    *ret_clock = clock;
    return 0;
}

void drill_clock_stop(struct drill_clock *clock)
{
    if (!clock)
        return;
    pthread_mutex_lock(&clock->lock);
    clock->stopping = true;
    pthread_cond_broadcast(&clock->stop);
    pthread_mutex_unlock(&clock->lock);
    pthread_join(clock->thread, NULL);
    pthread_cond_destroy(&clock->stop);
    pthread_mutex_destroy(&clock->lock);
    free(clock);
}
