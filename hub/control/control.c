/* SPDX-License-Identifier: Apache-2.0
 *
 * The control plane's beginning and end, its table of methods, its news and its timers.
 */
#include "hub/control/control.h"

#include "hub/control/control_plane.h"
#include "hub/db/peer_store.h"
#include "transport/base/clock.h"
#include "transport/base/log.h"

/* Few: each holds a database connection while it runs, and statements are short. Two of them, of the batch and of the sweep, rest between
 * pieces of their work where there are many machines (piecework.h). */
#define WORKERS 5
#define QUEUE_MAX 65536
#define SWEEP_USEC (5 * USEC_PER_SEC)
#define DAILY_USEC (24 * 3600 * USEC_PER_SEC)
#define FLUSH_FIRST_USEC USEC_PER_SEC
#define LAST_REPORTS_USEC                                                                                              \
    (5 * USEC_PER_SEC) /* what waits to be stored when the hub stops; more only without a database */
#define REPORT_MAX (4U << 20)
#define READ_AHEAD 16384 /* reports are small: a buffer for bulk data would only be carried around for each of them */
#define REVOKED_MAX 100000

static const struct rpc_method methods[] = {
    {"/leeward.control.v1.Enrolment/Enrol", enrolment_accept, true},
    {"/leeward.control.v1.Control/Session", peer_session_accept, false},
    {"/leeward.control.v1.Control/Renew", renewal_accept, false},
};

/* ---- revoked certificates ---- */

struct revoked_task {
    struct control_task task;
    PGresult *rows;
};

static int revoked_work(struct control_task *task, struct db_conn *conn, struct err *err)
{
    return certificate_revoked_list(conn, &((struct revoked_task *)task)->rows, err);
}

static void revoked_then(struct control_task *task)
{
    struct control *control = task->control;
    const PGresult *r = ((struct revoked_task *)task)->rows;
    unsigned n = task->rc < 0 ? 0 : task->rc > REVOKED_MAX ? REVOKED_MAX : (unsigned)task->rc;
    AUTO_FREE const char **serials = mem_alloc(n + 1, sizeof(*serials));
    struct err err = ERR_INIT;

    if (task->rc < 0 || !serials) {
        log_event(LOG_WARN, "revoked_list_failed", LOG_E(&task->err));
        return;
    }
    for (unsigned i = 0; i < n; i++)
        serials[i] = db_text(r, (int)i, 0);
    if (tls_set_revoked(control->tls, serials, n, &err) < 0)
        log_event(LOG_ERROR, "revoked_list_failed", LOG_E(&err));
    else
        rpc_server_drop_revoked(control->server);
}

static void revoked_drop(struct control_task *task)
{
    PQclear(((struct revoked_task *)task)->rows);
}

static void revoked_load(struct control *control)
{
    struct revoked_task *t = (struct revoked_task *)control_task_new(sizeof(*t), control, NULL);

    if (!t)
        return;
    t->task.work = revoked_work;
    t->task.then = revoked_then;
    t->task.drop = revoked_drop;
    (void)control_task_submit(&t->task, control->batch_lane);
}

/* ---- news ---- */

void control_news(struct control *control, enum news_topic topic)
{
    atomic_fetch_or(&control->news, 1U << topic);
    loop_bell_post(control->bell);
}

static void hear(void *arg)
{
    struct control *control = arg;
    unsigned news = atomic_exchange(&control->news, 0);

    if (control->stopping)
        return;
    if (news & 1U << NEWS_DESIRED)
        desired_look(control);
    if (news & 1U << NEWS_COMMANDS)
        commands_push(control, NULL);
    if (news & 1U << NEWS_CERTIFICATES)
        revoked_load(control);
}

/* ---- life ---- */

static void renew_own(void *arg)
{
    struct control *control = arg;
    struct err err = ERR_INIT;
    int rc = ca_ensure_hub(control->conf.ca, control->conf.data_dir, control->conf.hub_id, &err);

    if (rc < 0 || (rc > 0 && tls_reload(control->tls, &err) < 0))
        log_event(LOG_ERROR, "hub_certificate_failed", LOG_E(&err));
}

static int start_tls(struct control *control, struct err *err)
{
    const struct control_conf *conf = &control->conf;
    AUTO_FREE char *pem = mem_printf("%s/hub.pem", conf->data_dir);
    AUTO_FREE char *key = mem_printf("%s/hub.key", conf->data_dir);
    const struct tls_files files = {.certificate = pem, .key = key, .ca = ca_path(conf->ca)};

    if (!pem || !key)
        return err_set(err, ERR_NOMEM, "no memory");
    if (ca_ensure_hub(conf->ca, conf->data_dir, conf->hub_id, err) < 0)
        return -1;
    return tls_server_new(&files, true, &control->tls, err);
}

static int start_timers(struct control *control, struct err *err)
{
    sd_event *loop = control->conf.loop;

    if (loop_timer_new(loop, FLUSH_FIRST_USEC, 0, status_flush, control, &control->flush_timer, err) < 0 ||
        loop_timer_new(loop, SWEEP_USEC, SWEEP_USEC, health_sweep, control, &control->sweep_timer, err) < 0 ||
        loop_timer_new(loop, DAILY_USEC, DAILY_USEC, renew_own, control, &control->daily_timer, err) < 0)
        return -1;
    return loop_bell_new(loop, hear, control, &control->bell, err);
}

static int start(struct control *control, struct err *err)
{
    const struct rpc_limits limits = {
        .message_max = REPORT_MAX, .read_ahead = READ_AHEAD, .accepts_per_sec = control->conf.sessions_per_second};

    control->samples = json_array();
    control->disk_minutes = json_array();
    control->limit = enrolment_limit_new();
    if (!control->samples || !control->disk_minutes || !control->limit)
        return err_set(err, ERR_NOMEM, "no memory");
    if (worker_pool_new(control->conf.loop, "control-sql", WORKERS, QUEUE_MAX, &control->pool, err) < 0)
        return -1;
    control->batch_lane = worker_lane_new(control->pool);
    control->sweep_lane = worker_lane_new(control->pool);
    if (!control->batch_lane || !control->sweep_lane)
        return err_set(err, ERR_NOMEM, "no memory");
    if (start_timers(control, err) < 0 || start_tls(control, err) < 0 ||
        rpc_server_new(control->conf.loop, control->conf.listen, control->tls, methods, ARRAY_LEN(methods), control,
            &limits, &control->server, err) < 0)
        return -1;
    rpc_server_set_serving(control->server, "", true);
    rpc_server_set_serving(control->server, "leeward.control.v1.Control", true);
    revoked_load(control);
    return 0;
}

int control_start(const struct control_conf *conf, struct control **ret_control, struct err *err)
{
    struct control *control = mem_new(struct control);

    if (!control)
        return err_set(err, ERR_NOMEM, "no memory for the control plane");
    control->conf = *conf;
    if (start(control, err) < 0) {
        control_stop(control);
        return err_wrap(err, "control plane");
    }
    *ret_control = control;
    return 0;
}

unsigned control_port(const struct control *control)
{
    return rpc_server_port(control->server);
}

void control_stop(struct control *control)
{
    if (!control)
        return;
    control->stopping = true;
    loop_timer_free(control->flush_timer);
    loop_timer_free(control->sweep_timer);
    loop_timer_free(control->daily_timer);
    rpc_server_free(control->server); /* every session ends */
    if (control->batch_lane)
        status_flush_last(control);
    /* What peers have said is stored: minutes are not told again, nor are the events of peers of an earlier version. */
    if (control->pool && worker_pool_drain(control->pool, LAST_REPORTS_USEC) < 0)
        log_event(LOG_WARN, "reports_lost", LOG_U("count", worker_pending(control->pool)));
    worker_pool_free(control->pool);
    worker_lane_free(control->batch_lane);
    worker_lane_free(control->sweep_lane);
    loop_bell_free(control->bell);
    tls_context_free(control->tls);
    json_decref(control->samples);
    json_decref(control->disk_minutes);
    free(control->limit);
    free(control);
}
