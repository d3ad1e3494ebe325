/* SPDX-License-Identifier: Apache-2.0
 *
 * A minute of one disk, as its agent saw it. One that is lost is a gap in a chart.
 */
#include <string.h>

#include "hub/control/control_plane.h"
#include "hub/db/churn_store.h"
#include "transport/base/clock.h"
#include "transport/base/log.h"

#define MINUTE_USEC (60 * USEC_PER_SEC)
/* A clock that is off by more would put it where nobody looks, or where it is never cleaned away. */
#define OFF_USEC (3600 * USEC_PER_SEC)

struct churn_task {
    struct control_task task;
    struct disk_minute_row row;
};

static int churn_work(struct control_task *task, struct db_conn *conn, struct err *err)
{
    return churn_put(conn, task->session->id, &((struct churn_task *)task)->row, err);
}

static void churn_then(struct control_task *task)
{
    if (task->rc < 0)
        log_event(LOG_WARN, "report_failed", LOG_S("what", "disk_minute"), LOG_S("peer", task->session->id),
            LOG_E(&task->err));
}

void churn_report_take(struct peer_session *s, const Leeward__Control__V1__DiskMinute *m)
{
    uint64_t now = clock_utc_usec();
    struct churn_task *t;

    if (strcmp(s->role, "agent") != 0 || m->minute_utc_usec > now + OFF_USEC || m->minute_utc_usec + OFF_USEC < now)
        return;
    t = (struct churn_task *)control_task_new(sizeof(*t), s->control, s);
    if (!t)
        return;
    t->task.work = churn_work;
    t->task.then = churn_then;
    t->row = (struct disk_minute_row){.disk = m->disk,
        .minute = m->minute_utc_usec / MINUTE_USEC * MINUTE_USEC,
        .changed_bytes = m->changed_bytes,
        .incompressible_bytes = m->incompressible_bytes,
        .turned_bytes = m->turned_bytes,
        .entropy_millibits = m->entropy_millibits};
    (void)control_task_submit(&t->task, s->lane);
}
