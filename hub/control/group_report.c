/* SPDX-License-Identifier: Apache-2.0
 *
 * What an agent says of a group point that it coordinated. It is shown to people; whether a group point exists is told by the
 * points of its members alone.
 */
#include <string.h>

#include "hub/control/control_plane.h"
#include "hub/db/group_store.h"
#include "transport/base/clock.h"
#include "transport/base/log.h"

#define AGE_MAX_USEC (10 * 365 * 86400 * USEC_PER_SEC) /* as a database takes it */

struct group_task {
    struct control_task task;
    char group_id[IDENT_TEXT_SIZE], point_id[IDENT_TEXT_SIZE], culprit_id[IDENT_TEXT_SIZE], cause[400], remedy[400];
    uint64_t made, missed, freeze_usec, age_usec, point_age_usec;
    bool last_missed;
};

static int group_work(struct control_task *task, struct db_conn *conn, struct err *err)
{
    struct group_task *t = (struct group_task *)task;
    const struct group_news_put news = {.machine_id = task->session->id,
        .group_id = t->group_id,
        .point_id = t->point_id,
        .culprit_id = t->culprit_id,
        .cause = t->cause,
        .remedy = t->remedy,
        .made = t->made,
        .missed = t->missed,
        .freeze_usec = t->freeze_usec,
        .age_usec = t->age_usec,
        .point_age_usec = t->point_age_usec,
        .last_missed = t->last_missed};

    return group_news_put(conn, &news, err);
}

/* The next group point, or the next session, repeats it. */
static void group_then(struct control_task *task)
{
    if (task->rc < 0)
        log_event(LOG_WARN, "report_failed", LOG_S("what", "group_news"), LOG_S("peer", task->session->id),
            LOG_E(&task->err));
}

/* An id as we write it, or "". */
static void take_id(char out[IDENT_TEXT_SIZE], const char *in)
{
    struct ident id;

    out[0] = '\0';
    if (ident_from_text(in, &id) == 0)
        ident_to_text(&id, out);
}

static uint64_t bounded(uint64_t n)
{
    return n > INT64_MAX ? INT64_MAX : n;
}

static uint64_t age(uint64_t usec)
{
    return usec < AGE_MAX_USEC ? usec : AGE_MAX_USEC;
}

void group_report_take(struct peer_session *s, const Leeward__Control__V1__GroupNews *news)
{
    char group_id[IDENT_TEXT_SIZE];
    struct group_task *t;

    take_id(group_id, news->group_id);
    if (strcmp(s->role, "agent") != 0 || !group_id[0])
        return;
    t = (struct group_task *)control_task_new(sizeof(*t), s->control, s);
    if (!t)
        return;
    t->task.work = group_work;
    t->task.then = group_then;
    memcpy(t->group_id, group_id, sizeof(group_id));
    take_id(t->point_id, news->point_id);
    take_id(t->culprit_id, news->culprit_id);
    peer_report_text(t->cause, sizeof(t->cause), news->cause);
    peer_report_text(t->remedy, sizeof(t->remedy), news->remedy);
    t->made = bounded(news->made);
    t->missed = bounded(news->missed);
    t->freeze_usec = bounded(news->freeze_usec);
    t->age_usec = age(news->age_usec);
    t->point_age_usec = age(news->point_age_usec);
    t->last_missed = news->last_missed;
    (void)control_task_submit(&t->task, s->lane);
}
