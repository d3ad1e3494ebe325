/* SPDX-License-Identifier: Apache-2.0
 *
 * Tasks: SQL for the control plane, on worker threads, each with a connection of the pool for as long as it runs.
 */
#include "hub/control/control_plane.h"

void control_task_free(struct control_task *task)
{
    struct peer_session *session = task->session;

    if (task->drop)
        task->drop(task);
    free(task);
    peer_session_unref(session);
}

static void task_run(struct worker_job *job)
{
    struct control_task *task = (struct control_task *)job;
    struct db_conn *conn AUTO_OF(db_conn) = NULL;

    if (db_acquire(task->control->conf.db, &conn, &task->err) < 0)
        return;
    task->rc = task->work(task, conn, &task->err);
}

static void task_done(struct worker_job *job)
{
    struct control_task *task = (struct control_task *)job;

    if (task->then && !task->control->stopping)
        task->then(task);
    control_task_free(task);
}

struct control_task *control_task_new(size_t size, struct control *control, struct peer_session *session)
{
    struct control_task *task = mem_alloc(1, size);

    if (!task)
        return NULL;
    task->job = (struct worker_job){.run = task_run, .done = task_done};
    task->control = control;
    task->session = session ? peer_session_ref(session) : NULL;
    task->rc = -1; /* until work ran */
    return task;
}

int control_task_submit(struct control_task *task, struct worker_lane *lane)
{
    struct err err = ERR_INIT;
    int rc = lane ? worker_lane_submit(lane, &task->job, &err) : worker_submit(task->control->pool, &task->job, &err);

    if (rc < 0)
        control_task_free(task);
    return rc;
}
