/* SPDX-License-Identifier: Apache-2.0
 *
 * What a vault says of its copies of machines' points. A status that is lost is repeated with the next point or trouble; points are not, so
 * a session that lost some is ended, and the next begins where the hub is.
 */
#include <string.h>

#include "hub/control/control_plane.h"
#include "hub/db/copy_store.h"
#include "transport/base/clock.h"
#include "transport/base/log.h"

#define AHEAD_USEC (86400 * USEC_PER_SEC) /* a point's time that is further in the future is none */

struct status_task {
    struct control_task task;
    struct copy_status status;
    char machine_id[IDENT_TEXT_SIZE], source_vault_id[IDENT_TEXT_SIZE], cause[1000], remedy[1000];
};

static int status_work(struct control_task *task, struct db_conn *conn, struct err *err)
{
    return copy_status_put(conn, task->session->id, &((struct status_task *)task)->status, err);
}

static void status_then(struct control_task *task)
{
    if (task->rc < 0)
        log_event(LOG_WARN, "report_failed", LOG_S("what", "copy_status"), LOG_S("peer", task->session->id),
            LOG_E(&task->err));
}

static uint64_t bounded(uint64_t v)
{
    return v > INT64_MAX ? INT64_MAX : v;
}

void copy_report_take(struct peer_session *s, const Leeward__Control__V1__CopyStatus *m)
{
    struct status_task *t;
    struct ident machine, source;

    if (strcmp(s->role, "vault") != 0 || ident_from_text(m->machine_id, &machine) < 0 ||
        ident_from_text(m->source_vault_id, &source) < 0)
        return;
    t = (struct status_task *)control_task_new(sizeof(*t), s->control, s);
    if (!t)
        return;
    t->task.work = status_work;
    t->task.then = status_then;
    ident_to_text(&machine, t->machine_id);
    ident_to_text(&source, t->source_vault_id);
    peer_report_text(t->cause, sizeof(t->cause), m->cause);
    peer_report_text(t->remedy, sizeof(t->remedy), m->remedy);
    t->status = (struct copy_status){.machine_id = t->machine_id,
        .source_vault_id = t->source_vault_id,
        .source_sequence = bounded(m->source_sequence),
        .sequence = bounded(m->sequence),
        .point_utc_usec = m->point_utc_usec > clock_utc_usec() + AHEAD_USEC ? 0 : m->point_utc_usec,
        .taken_bytes = bounded(m->taken_bytes),
        .traffic_bytes = bounded(m->traffic_bytes),
        .progress_permille = m->progress_permille > 1000 ? 1000 : m->progress_permille,
        .cause = t->cause,
        .remedy = t->remedy};
    (void)control_task_submit(&t->task, s->lane);
}

/* ---- points ---- */

struct points_task {
    struct control_task task;
    char *added, *dropped;
    char machine_id[IDENT_TEXT_SIZE];
    bool complete;
};

static void points_drop(struct control_task *task)
{
    struct points_task *t = (struct points_task *)task;

    free(t->added);
    free(t->dropped);
}

static int points_work(struct control_task *task, struct db_conn *conn, struct err *err)
{
    struct points_task *t = (struct points_task *)task;
    const char *vault = task->session->id;

    if (db_begin(conn, err) < 0 || (t->complete && copy_points_forget(conn, vault, t->machine_id, err) < 0) ||
        copy_points_put(conn, vault, t->added, t->dropped, err) < 0)
        return -1;
    return db_commit(conn, err);
}

static void points_lost(struct peer_session *s, const char *why)
{
    s->points_lost = true;
    peer_session_reset(s, why);
}

static void points_then(struct control_task *task)
{
    if (task->rc >= 0)
        return;
    log_event(
        LOG_WARN, "report_failed", LOG_S("what", "copy_points"), LOG_S("peer", task->session->id), LOG_E(&task->err));
    points_lost(task->session, "the hub could not store the points of a copy; tell them again");
}

void copy_report_points(
    struct peer_session *s, const char *machine_id, const json_t *added, const json_t *dropped, bool complete)
{
    struct points_task *t = (struct points_task *)control_task_new(sizeof(*t), s->control, s);

    if (!t) {
        points_lost(s, "the hub is short of memory");
        return;
    }
    t->task.work = points_work;
    t->task.then = points_then;
    t->task.drop = points_drop;
    t->added = json_dumps(added, JSON_COMPACT);
    t->dropped = json_dumps(dropped, JSON_COMPACT);
    t->complete = complete;
    memcpy(t->machine_id, machine_id, IDENT_TEXT_SIZE);
    if (!t->added || !t->dropped) {
        control_task_free(&t->task);
        points_lost(s, "the hub is short of memory");
    } else if (control_task_submit(&t->task, s->lane) < 0) {
        points_lost(s, "the hub is overloaded");
    }
}
