/* SPDX-License-Identifier: Apache-2.0
 *
 * One bell joins the threads: the link, the hash fetcher and the engine ring it, and the loop then looks after all three.
 * Nothing here blocks; the engine does what may.
 */
#include "mobility/agent.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "mobility/devwatch.h"
#include "mobility/disksize.h"
#include "mobility/group/group_desired.h"
#include "mobility/report.h"
#include "mobility/sync/engine.h"
#include "mobility/sync/hold.h"
#include "mobility/sync/outbox.h"
#include "mobility/sync/receive.h"
#include "mobility/track/tracker.h"
#include "transport/base/clock.h"
#include "transport/base/file.h"
#include "transport/base/log.h"
#include "transport/base/mem.h"
#include "transport/loop/loop.h"
#include "transport/proto/session.h"
#include "transport/proto/vaultask.h"

/* What waits for the node; the rest of the agent's memory is the cycle's (ENGINE_HOLD_BYTES) and the RPC's send queue. */
#define QUEUE_BYTES (6u << 20)
#define LAST_POINT_USEC (60 * USEC_PER_SEC)
#define RESTART_USEC (2 * USEC_PER_SEC)          /* for the answer that it will */
#define VAULT_PATIENCE_USEC (180 * USEC_PER_SEC) /* a node or a vault that is started anew is back by then */

struct agent {
    struct agent_conf conf;
    struct loop_bell *bell;
    struct loop_timer *timer;
    struct tls_context *tls;
    struct session *session;
    struct uplink *link;
    struct outbox *outbox;
    struct hashfetch *hashes;
    struct vaultask *ask;
    struct receive *receive;
    struct hold *hold;
    char held_command[IDENT_TEXT_SIZE]; /* waits for the source's last point to be begun; "": none */
    char last_point[IDENT_TEXT_SIZE];   /* the command whose answer is the source's last point; "": none yet */
    uint64_t held_until_usec;           /* monotonic: how long at most */
    struct rpc_channel *asking;         /* to the node, while there is no stream; NULL: none */
    struct group_part *part;
    struct engine *engine;
    struct group *group;
    struct disksize *sizes;
    struct devwatch *watch;      /* NULL: the kernel tells nothing */
    struct inventory *inventory; /* the last one; NULL: none yet */
    char boot_id[IDENT_TEXT_SIZE];
    char node_id[IDENT_TEXT_SIZE];
    char *node_endpoint; /* as last desired; NULL: none */
    char *source_endpoint,
        source_node[IDENT_TEXT_SIZE]; /* where another machine's points are asked for; NULL: its own are received */
    struct loop_timer *restart;       /* NULL: nobody asked for it */
    sd_event *loop;
    enum phase phase;
    bool protect;
};

/* ---- reports ---- */

static void report(struct agent *a, const Leeward__Control__V1__Report *r)
{
    struct err err = ERR_INIT;

    if (session_report(a->session, r, &err) < 0)
        log_event(LOG_WARN, "report_failed", LOG_E(&err));
}

static void send_inventory(struct agent *a)
{
    Leeward__Control__V1__Report r = LEEWARD__CONTROL__V1__REPORT__INIT;
    struct report_inventory *ri;
    struct err err = ERR_INIT;

    if (!a->inventory)
        return;
    if (report_inventory_new(a->inventory, a->boot_id, &ri, &err) < 0) {
        log_event(LOG_WARN, "report_failed", LOG_E(&err));
        return;
    }
    r.kind_case = LEEWARD__CONTROL__V1__REPORT__KIND_INVENTORY;
    r.inventory = report_inventory_message(ri);
    r.inventory->rescue = a->conf.rescue;
    report(a, &r);
    report_inventory_free(ri);
}

/* A stream that is down is the cause where the engine has none of its own. */
static void explain(
    struct agent *a, const struct engine_status *s, Leeward__Control__V1__AgentStatus *m, const struct err *trouble)
{
    m->cause = (char *)s->cause;
    m->remedy = (char *)s->remedy;
    if (s->cause[0] || !a->protect || outbox_is_connected(a->outbox))
        return;
    if (!outbox_channel(a->outbox)) {
        m->cause = "no process node is assigned";
        m->remedy = "start a process node and a vault, or assign the machine to one: leeward machine move";
    } else if (trouble->code != ERR_NONE) {
        m->cause = (char *)trouble->text;
        m->remedy = trouble->correction[0] ? (char *)trouble->correction
                                           : (char *)"see that the process node and the vault run and can be reached";
    }
}

static void send_status(struct agent *a)
{
    Leeward__Control__V1__Report r = LEEWARD__CONTROL__V1__REPORT__INIT;
    Leeward__Control__V1__AgentStatus m = LEEWARD__CONTROL__V1__AGENT_STATUS__INIT;
    struct engine_status s;
    uint64_t now = clock_utc_usec();

    engine_get_status(a->engine, &s);
    m.state = (char *)phase_name(s.phase);
    explain(a, &s, &m, outbox_trouble(a->outbox));
    uplink_last_point(a->link, &m.last_point_sequence, &m.last_point_utc_usec);
    if (m.last_point_utc_usec > 0 && now > m.last_point_utc_usec)
        m.rpo_usec = now - m.last_point_utc_usec;
    m.backlog_bytes = s.backlog_bytes + uplink_queued_bytes(a->link);
    m.initial_total_bytes = s.total_bytes;
    m.initial_done_bytes = s.done_bytes;
    m.sent_bytes = outbox_sent_bytes(a->outbox);
    m.changed_bytes = s.changed_bytes;
    m.points_made = s.points_made;
    m.points_frozen = s.points_frozen;
    m.rounds = s.rounds;
    m.window_usec = s.window_usec;
    m.freeze_usec = s.freeze_usec;
    m.throughput_bytes_per_sec = s.throughput_bytes_per_sec;
    m.remaining_usec = s.remaining_usec;
    m.slowed_by = (char *)(s.slowed_by ? s.slowed_by : "");
    m.node_id = a->node_id;
    m.desired_version = s.version;
    r.kind_case = LEEWARD__CONTROL__V1__REPORT__KIND_AGENT_STATUS;
    r.agent_status = &m;
    report(a, &r);
}

static void make_last_point(struct agent *a);

static void on_timer(void *arg)
{
    struct agent *a = arg;

    send_status(a);
    make_last_point(a);
    loop_timer_set(a->timer, session_status_interval_usec(a->session));
}

/* ---- from the engine ---- */

static void take_event(struct agent *a, const struct engine_output *o)
{
    enum log_level level = strcmp(o->severity, "error") == 0     ? LOG_ERROR
                           : strcmp(o->severity, "warning") == 0 ? LOG_WARN
                                                                 : LOG_INFO;

    log_event(level, o->code, LOG_S("text", o->text), LOG_S("remedy", o->remedy));
    session_event(a->session, o->severity, o->code, NULL, o->remedy, o->text);
}

static void take_result(struct agent *a, const struct engine_output *o)
{
    char time[CLOCK_RFC3339_SIZE], json[128];
    struct err err = ERR_INIT;

    if (o->error.code != ERR_NONE)
        err_copy(&err, &o->error);
    else if (strcmp(o->command_id, a->last_point) == 0)
        (void)hold_stood_still(a->hold, &err);
    if (err.code != ERR_NONE) {
        session_command_done(a->session, o->command_id, &err, NULL);
        return;
    }
    clock_rfc3339(o->time_utc_usec, time);
    snprintf(json, sizeof(json), "{\"sequence\": \"%" PRIu64 "\", \"time\": \"%s\"}", o->sequence, time);
    session_command_done(a->session, o->command_id, NULL, json);
}

static void send_minute(struct agent *a, const struct insight_minute *minute)
{
    Leeward__Control__V1__Report r = LEEWARD__CONTROL__V1__REPORT__INIT;
    Leeward__Control__V1__DiskMinute m = LEEWARD__CONTROL__V1__DISK_MINUTE__INIT;

    m.disk = minute->disk;
    m.minute_utc_usec = minute->minute_utc_usec;
    m.changed_bytes = minute->changed_bytes;
    m.incompressible_bytes = minute->incompressible_bytes;
    m.turned_bytes = minute->turned_bytes;
    m.entropy_millibits = minute->entropy_millibits;
    r.kind_case = LEEWARD__CONTROL__V1__REPORT__KIND_DISK_MINUTE;
    r.disk_minute = &m;
    report(a, &r);
}

static void take_outputs(struct agent *a)
{
    struct engine_output o;
    struct engine_status s;

    while (engine_take(a->engine, &o)) {
        if (o.kind == ENGINE_EVENT) {
            take_event(a, &o);
        } else if (o.kind == ENGINE_RESULT) {
            take_result(a, &o);
        } else if (o.kind == ENGINE_MINUTE) {
            send_minute(a, &o.minute);
        } else {
            inventory_free(a->inventory);
            a->inventory = o.inventory;
            send_inventory(a);
        }
    }
    engine_get_status(a->engine, &s);
    if (s.phase != a->phase) {
        a->phase = s.phase;
        send_status(a);
    }
}

static void take_received(struct agent *a)
{
    struct receive_output o;

    while (receive_take(a->receive, &o)) {
        if (!o.done)
            session_command_progress(a->session, o.command_id, o.permille, o.text);
        else if (o.error.code != ERR_NONE)
            session_command_done(a->session, o.command_id, &o.error, NULL);
        else
            session_command_done(a->session, o.command_id, NULL, o.json);
    }
}

/* The source stands still: the point that is made now is its last one, and the command's answer. An agent that has just been started is about to
 * protect. */
static void make_last_point(struct agent *a)
{
    struct engine_status s;
    struct err err = ERR_INIT;

    engine_get_status(a->engine, &s);
    if (!a->held_command[0] || (a->protect && s.phase == PHASE_IDLE && clock_mono_usec() < a->held_until_usec))
        return;
    if (hold_begin_point(a->hold, a->held_command)) {
        memcpy(a->last_point, a->held_command, sizeof(a->last_point));
        if (engine_create_point(a->engine, a->held_command, "crash", "", &err) < 0)
            session_command_done(a->session, a->held_command, &err, NULL);
    }
    a->held_command[0] = '\0';
}

static void take_held(struct agent *a)
{
    struct hold_output o;

    while (hold_take(a->hold, &o)) {
        if (o.held) {
            memcpy(a->held_command, o.command_id, sizeof(a->held_command));
            a->held_until_usec = clock_mono_usec() + LAST_POINT_USEC;
        } else {
            session_command_done(a->session, o.command_id, o.error.code == ERR_NONE ? NULL : &o.error, "{}");
        }
    }
    make_last_point(a);
}

/* Without a stream there is no channel to the node: one is made for what the machine receives. */
static struct rpc_channel *receiving_channel(struct agent *a)
{
    struct rpc_channel *channel = a->source_endpoint ? NULL : outbox_channel(a->outbox);
    const char *endpoint = a->source_endpoint ? a->source_endpoint : a->node_endpoint;
    struct err err = ERR_INIT;
    struct ident node;

    if (channel || !endpoint || !endpoint[0] ||
        ident_from_text(a->source_endpoint ? a->source_node : a->node_id, &node) < 0)
        return channel;
    if (!a->asking && rpc_channel_new(a->loop, endpoint, a->tls, "node", &node, NULL, &a->asking, &err) < 0)
        log_event(LOG_ERROR, "bad_node", LOG_E(&err));
    return a->asking;
}

static void on_bell(void *arg)
{
    struct agent *a = arg;

    outbox_kick(a->outbox);
    hashfetch_kick(a->hashes, outbox_channel(a->outbox));
    if (vaultask_wants_channel(a->ask))
        vaultask_kick(a->ask, receiving_channel(a));
    take_received(a);
    take_held(a);
    group_look(a->group);
    take_outputs(a);
}

static void ring(void *arg)
{
    loop_bell_post(((struct agent *)arg)->bell);
}

static void wake_engine(void *arg)
{
    struct agent *a = arg;

    if (a->engine)
        engine_wake(a->engine);
}

/* ---- from the hub ---- */

static void take_resend(struct agent *a, const Leeward__Control__V1__AgentDesired *m)
{
    struct engine_resend resend = {.request = m->resend_request};

    for (size_t i = 0; i < m->n_resend && resend.count < ENGINE_RESEND_MAX; i++)
        if (m->resend[i]->disk <= RECORD_DISK_MAX)
            resend.ranges[resend.count++] =
                (struct engine_range){m->resend[i]->disk, m->resend[i]->start, m->resend[i]->length};
    engine_set_resend(a->engine, &resend);
}

/* A channel to another node is of no use any more; one to the same is kept, for a call may be under way. */
static void take_node(struct agent *a, const Leeward__Control__V1__AgentDesired *m)
{
    if (m->protect || !a->node_endpoint || strcmp(a->node_endpoint, m->node_endpoint) != 0 ||
        strcmp(a->node_id, m->node_id) != 0) {
        rpc_channel_free(TAKE_PTR(a->asking));
        free(a->node_endpoint);
        a->node_endpoint = mem_strdup(m->node_endpoint);
    }
    snprintf(a->node_id, sizeof(a->node_id), "%s", m->node_id);
}

static void take_desired(struct agent *a, const Leeward__Control__V1__AgentDesired *m)
{
    struct engine_wish w = {.version = m->version,
        .protect = m->protect,
        .generation = m->generation,
        .interval_usec = m->interval_usec,
        .filesystem_interval_usec = m->filesystem_interval_usec,
        .application_interval_usec = m->application_interval_usec,
        .freeze_budget_usec = m->freeze_budget_usec,
        .max_rounds = m->max_rounds,
        .may_freeze = m->may_freeze,
        .level = m->compress_at_agent ? 1 : 0,
        .level_where_narrow = m->compress_at_agent == 1,
        .pace = {.rate_bytes_per_sec = m->throttle_bytes_per_sec,
            .window_rate_bytes_per_sec = m->work_throttle_bytes_per_sec,
            .cpu_percent = m->cpu_limit_percent},
        .yield_to_workload = m->yield_to_workload,
        .resync_request = m->resync_request};
    struct ident node;
    bool known = ident_from_text(m->node_id, &node) == 0;
    struct err err = ERR_INIT;

    workhours_take(&w.pace.hours, m->work_windows, m->n_work_windows, m->utc_offsets, m->n_utc_offsets);
    snprintf(w.vault_id, sizeof(w.vault_id), "%s", m->vault_id);
    for (size_t i = 0; i < m->n_disks && w.disk_count < MARK_DISKS_MAX; i++) {
        struct engine_disk_wish *d = &w.disks[w.disk_count];

        if (m->disks[i]->number > RECORD_DISK_MAX || strlen(m->disks[i]->key) >= sizeof(d->key))
            continue;
        d->number = m->disks[i]->number;
        snprintf(d->key, sizeof(d->key), "%s", m->disks[i]->key);
        w.disk_count++;
    }
    log_event(LOG_INFO, "desired", LOG_U("version", m->version), LOG_B("protect", m->protect),
        LOG_U("disks", w.disk_count), LOG_S("node", m->node_endpoint), LOG_U("generation", m->generation));
    a->protect = m->protect;
    if (m->protect)
        receive_release(a->receive);
    hold_desired(a->hold, m->protect, m->generation);
    take_node(a, m);
    engine_set_wish(a->engine, &w);
    take_resend(a, m);
    if (m->node_endpoint[0] && !known)
        log_event(LOG_ERROR, "bad_node", LOG_S("node", m->node_id), LOG_S("error", "the id of the node is not a UUID"));
    if (outbox_set_target(a->outbox, m->protect && known ? m->node_endpoint : "", known ? &node : NULL, &err) < 0)
        log_event(LOG_ERROR, "bad_node", LOG_E(&err));
}

static void take_group(struct agent *a, const Leeward__Control__V1__AgentDesired *m)
{
    AUTO_FREE struct group_wish *wish = mem_new(struct group_wish);
    struct err err = ERR_INIT;

    if (!wish)
        err_set(&err, ERR_NOMEM, "no memory for the group");
    else if (!m->group || group_desired_read(m->group, &a->conf.identity->id, wish, &err) == 0)
        group_set(a->group, wish);
    if (err.code != ERR_NONE)
        log_event(LOG_ERROR, "bad_group", LOG_E(&err));
}

/* The node of another machine whose points are received (takes endpoint); NULL: the points are its own. */
static void take_source(struct agent *a, char *endpoint, const char *node_id)
{
    free(a->source_endpoint);
    a->source_endpoint = endpoint;
    snprintf(a->source_node, sizeof(a->source_node), "%s", node_id);
    rpc_channel_free(TAKE_PTR(a->asking));
}

static bool is_other_source(const struct agent *a, const Leeward__Control__V1__ReceiveDisks *c)
{
    return strcmp(a->source_endpoint ? a->source_endpoint : "", c->node_endpoint) != 0 ||
           strcmp(a->source_node, c->node_id) != 0;
}

/* An order that is refused leaves the channel to the one that is under way; one that is accepted asks for nothing before this thread has gone on. */
static int begin_receiving(struct agent *a, const Leeward__Control__V1__Command *c, struct err *err)
{
    const Leeward__Control__V1__ReceiveDisks *m = c->receive_disks;
    AUTO_FREE char *endpoint = m->node_endpoint[0] ? mem_strdup(m->node_endpoint) : NULL;

    if (m->node_endpoint[0] && !endpoint)
        return err_set(err, ERR_NOMEM, "no memory for a node");
    if (strlen(m->node_id) >= sizeof(a->source_node))
        return err_set(err, ERR_INVALID, "a node is named by a UUID");
    if (receive_command(a->receive, c->command_id, m, err) < 0)
        return -1;
    if (is_other_source(a, m))
        take_source(a, TAKE_PTR(endpoint), m->node_id);
    return 0;
}

static void on_restart(void *arg)
{
    struct agent *a = arg;

    log_event(LOG_INFO, "restart", LOG_S("hub", a->conf.hub));
    (void)sd_event_exit(a->loop, AGENT_RESTART);
}

/* The answer goes out first: the hub that does not get it finds the machine gone, which is as good. */
static int restart(struct agent *a, const char *command_id, struct err *err)
{
    if (!a->conf.rescue) {
        err_set(err, ERR_REFUSED, "this machine was not started from a rescue image");
        return err_hint(err, "Restart it by hand; its disks are written.");
    }
    if (!a->restart && loop_timer_new(a->loop, RESTART_USEC, 0, on_restart, a, &a->restart, err) < 0)
        return -1;
    receive_release(a->receive);
    session_command_done(a->session, command_id, NULL, "{}");
    return 0;
}

static int receive_disks(struct agent *a, const Leeward__Control__V1__Command *c, struct err *err)
{
    if (c->receive_disks->restart)
        return restart(a, c->command_id, err);
    if (c->receive_disks->release)
        return receive_command(a->receive, c->command_id, c->receive_disks, err);
    if (!a->protect)
        return begin_receiving(a, c, err);
    err_set(err, ERR_REFUSED, "this machine is protected: its own disks are the newest");
    return err_hint(err, "Only the machine of a committed failover is written back.");
}

static void take_command(struct agent *a, const Leeward__Control__V1__Command *c)
{
    struct err err = ERR_INIT;
    int r = 0;

    log_event(LOG_INFO, "command", LOG_S("command", c->command_id), LOG_U("kind", c->kind_case));
    switch (c->kind_case) {
    case LEEWARD__CONTROL__V1__COMMAND__KIND_CREATE_POINT:
        r = engine_create_point(a->engine, c->command_id, c->create_point->kind, c->create_point->tag, &err);
        break;
    case LEEWARD__CONTROL__V1__COMMAND__KIND_CREATE_GROUP_POINT:
        r = group_make_point(a->group, c->command_id, c->create_group_point->group_id, &err);
        break;
    case LEEWARD__CONTROL__V1__COMMAND__KIND_RECEIVE_DISKS:
        r = receive_disks(a, c, &err);
        break;
    case LEEWARD__CONTROL__V1__COMMAND__KIND_HOLD_SOURCE:
        r = hold_command(a->hold, c->command_id, c->hold_source, &err);
        break;
    case LEEWARD__CONTROL__V1__COMMAND__KIND_RESCAN_DISKS:
        r = disksize_ask(a->sizes, c->command_id, c->rescan_disks->keys, c->rescan_disks->n_keys, &err);
        break;
    case LEEWARD__CONTROL__V1__COMMAND__KIND_CANCEL:
        (void)receive_cancel(a->receive, c->cancel->command_id);
        (void)engine_cancel(a->engine, c->cancel->command_id);
        session_command_done(a->session, c->command_id, NULL, "{}");
        break;
    default:
        r = err_set(&err, ERR_UNSUPPORTED, "an agent does not know this command");
        break;
    }
    if (r < 0)
        session_command_done(a->session, c->command_id, &err, NULL);
}

static void on_directive(void *arg, const Leeward__Control__V1__Directive *d)
{
    if (d->kind_case == LEEWARD__CONTROL__V1__DIRECTIVE__KIND_AGENT) {
        take_desired(arg, d->agent);
        take_group(arg, d->agent);
    } else if (d->kind_case == LEEWARD__CONTROL__V1__DIRECTIVE__KIND_COMMAND) {
        take_command(arg, d->command);
    }
}

static void on_up(void *arg)
{
    struct agent *a = arg;

    log_event(LOG_INFO, "hub_connected", LOG_S("hub", a->conf.hub));
    send_inventory(a);
    send_status(a);
    group_tell_again(a->group);
    loop_timer_set(a->timer, session_status_interval_usec(a->session));
}

static void on_devices(void *arg)
{
    engine_rescan(((struct agent *)arg)->engine);
}

/* The engine looks before the answer is out: a point that is asked for after it has the new size. */
static void on_sizes(void *arg, const char *command_id, const struct err *error, const char *answer)
{
    struct agent *a = arg;

    engine_rescan(a->engine);
    session_command_done(a->session, command_id, error, answer);
}

static void on_renewed(void *arg)
{
    struct agent *a = arg;
    struct err err = ERR_INIT;

    if (tls_reload(a->tls, &err) < 0 || group_reload(a->group, &err) < 0)
        log_event(LOG_ERROR, "certificate_not_loaded", LOG_E(&err));
}

static const struct session_ops session_ops = {.on_directive = on_directive, .on_up = on_up, .on_renewed = on_renewed};

/* ---- from the group ---- */

static void on_group_event(void *arg, const char *severity, const char *code, const char *remedy, const char *text)
{
    struct agent *a = arg;

    log_event(strcmp(severity, "info") == 0 ? LOG_INFO : LOG_WARN, code, LOG_S("text", text));
    session_event(a->session, severity, code, NULL, remedy, text);
}

static void on_group_news(void *arg, const struct group_news *news)
{
    Leeward__Control__V1__Report r = LEEWARD__CONTROL__V1__REPORT__INIT;
    Leeward__Control__V1__GroupNews m = LEEWARD__CONTROL__V1__GROUP_NEWS__INIT;
    char group[IDENT_TEXT_SIZE], point[IDENT_TEXT_SIZE] = "", culprit[IDENT_TEXT_SIZE] = "";
    uint64_t now = clock_mono_usec();

    ident_to_text(&news->group, group);
    if (!ident_is_zero(&news->point))
        ident_to_text(&news->point, point);
    if (news->last_missed)
        ident_to_text(&news->culprit, culprit);
    m.group_id = group;
    m.age_usec = now - news->over_usec;
    m.point_age_usec = ident_is_zero(&news->point) ? 0 : now - news->made_usec;
    m.made = news->made;
    m.missed = news->missed;
    m.point_id = point;
    m.freeze_usec = news->freeze_usec;
    m.last_missed = news->last_missed;
    m.culprit_id = culprit;
    m.cause = (char *)news->cause;
    m.remedy = (char *)news->remedy;
    r.kind_case = LEEWARD__CONTROL__V1__REPORT__KIND_GROUP_NEWS;
    r.group_news = &m;
    report(arg, &r);
}

static void on_group_command(void *arg, const char *command_id, const struct ident *point, const struct err *error)
{
    char id[IDENT_TEXT_SIZE], json[96];

    if (error) {
        session_command_done(((struct agent *)arg)->session, command_id, error, NULL);
        return;
    }
    ident_to_text(point, id);
    snprintf(json, sizeof(json), "{\"group_point_id\": \"%s\"}", id);
    session_command_done(((struct agent *)arg)->session, command_id, NULL, json);
}

/* ---- life ---- */

static int start_group(sd_event *loop, struct agent *a, struct err *err)
{
    struct group_conf gc = {.loop = loop,
        .tls = a->tls,
        .files = &a->conf.identity->files,
        .self = a->conf.identity->id,
        .listen = a->conf.group_listen,
        .part = a->part,
        .arg = a,
        .event = on_group_event,
        .news = on_group_news,
        .command_done = on_group_command};

    return group_new(&gc, &a->group, err);
}

static int start_sync(sd_event *loop, struct agent *a, struct err *err)
{
    struct uplink_ops ops = {.arg = a, .to_loop = ring, .to_capture = wake_engine};
    struct group_part_conf part = {.arg = a, .to_loop = ring, .to_capture = wake_engine};
    struct outbox_conf out = {.loop = loop, .tls = a->tls, .machine = a->conf.identity->id, .software = AGENT_SOFTWARE};
    struct engine_conf ec = {.machine = a->conf.identity->id,
        .data_dir = a->conf.data_dir,
        .run_dir = a->conf.run_dir,
        .instance = a->conf.instance,
        .pin_root = a->conf.pin_root,
        .hooks_dir = a->conf.hooks_dir,
        .hook_usec = a->conf.hook_usec,
        .freeze = a->conf.freeze,
        .to_loop = ring,
        .arg = a};

    struct hold_conf hc = {.dir = a->conf.failover_dir,
        .run_dir = a->conf.run_dir,
        .data_dir = a->conf.data_dir,
        .to_loop = ring,
        .arg = a};
    struct receive_conf rc = {.machine = a->conf.identity->id, .to_loop = ring, .arg = a};

    if (vaultask_new(ring, a, VAULT_PATIENCE_USEC, &a->ask, err) < 0)
        return -1;
    rc.ask = a->ask;
    if (receive_new(&rc, &a->receive, err) < 0 || hold_new(&hc, &a->hold, err) < 0)
        return -1;
    if (uplink_new(&ops, QUEUE_BYTES, &a->link, err) < 0 || outbox_new(&out, a->link, &a->outbox, err) < 0 ||
        hashfetch_new(&a->conf.identity->id, ring, a, &a->hashes, err) < 0 ||
        group_part_new(&part, &a->part, err) < 0 || start_group(loop, a, err) < 0)
        return -1;
    ec.link = a->link;
    ec.part = a->part;
    ec.hashes = a->hashes;
    return engine_new(&ec, &a->engine, err);
}

/* Without it disks are still found, by looking from time to time. */
static void watch_devices(sd_event *loop, struct agent *a)
{
    struct err err = ERR_INIT;

    if (devwatch_new(loop, on_devices, a, &a->watch, &err) < 0)
        log_event(LOG_WARN, "devices_not_watched", LOG_E(&err));
}

static int start(sd_event *loop, struct agent *a, struct err *err)
{
    struct session_conf sc = {.identity = a->conf.identity,
        .data_dir = a->conf.data_dir,
        .hub = a->conf.hub,
        .software = AGENT_SOFTWARE,
        .endpoint = a->conf.group_endpoint};

    if (syncstate_boot_id(a->boot_id, err) < 0 || loop_bell_new(loop, on_bell, a, &a->bell, err) < 0 ||
        tls_client_new(&a->conf.identity->files, NULL, &a->tls, err) < 0 ||
        session_new(loop, &sc, &session_ops, a, &a->session, err) < 0 || start_sync(loop, a, err) < 0)
        return -1;
    if (disksize_new(loop, on_sizes, a, &a->sizes, err) < 0)
        return -1;
    watch_devices(loop, a);
    return loop_timer_new(loop, session_status_interval_usec(a->session), 0, on_timer, a, &a->timer, err);
}

int agent_new(sd_event *loop, const struct agent_conf *conf, struct agent **ret_agent, struct err *err)
{
    struct agent *a = mem_new(struct agent);

    if (!a)
        return err_set(err, ERR_NOMEM, "no memory for the agent");
    a->conf = *conf;
    a->loop = loop;
    if (start(loop, a, err) < 0) {
        agent_free(a);
        return -1;
    }
    *ret_agent = a;
    return 0;
}

void agent_free(struct agent *a)
{
    if (!a)
        return;
    devwatch_free(a->watch);
    disksize_free(a->sizes);
    receive_free(TAKE_PTR(a->receive));
    hold_free(TAKE_PTR(a->hold));
    engine_free(TAKE_PTR(a->engine));
    group_free(a->group);
    group_part_free(a->part);
    loop_timer_free(a->timer);
    outbox_free(a->outbox);
    session_free(a->session);
    hashfetch_free(a->hashes);
    rpc_channel_free(a->asking);
    vaultask_free(a->ask);
    free(a->node_endpoint);
    free(a->source_endpoint);
    loop_timer_free(a->restart);
    uplink_free(a->link);
    loop_bell_free(a->bell);
    tls_context_free(a->tls);
    inventory_free(a->inventory);
    free(a);
}

/* A folder that holds nothing any more, and the one above it if that is the product's own (/var/lib/leeward, /run/leeward). */
static void remove_if_empty(const char *folder)
{
    char above[600];
    char *slash;

    (void)rmdir(folder);
    snprintf(above, sizeof(above), "%s", folder);
    slash = strrchr(above, '/');
    if (!slash)
        return;
    *slash = '\0';
    slash = strrchr(above, '/');
    if (slash && strcmp(slash, "/leeward") == 0)
        (void)rmdir(above);
}

int agent_uninstall(const struct agent_conf *conf, struct err *err)
{
    static const char *const traces[] = {
        "state", "desired.pb", "desired.pb.tmp", "events.pb", "events.pb.tmp", "scan", "insight", "held", "identity"};
    struct tracker_config config = {.pin_root = conf->pin_root, .instance = conf->instance};
    char path[600];

    if (tracker_destroy(&config, err) < 0 || file_remove_tree(conf->run_dir, err) < 0)
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(traces); i++) {
        snprintf(path, sizeof(path), "%s/%s", conf->data_dir, traces[i]);
        if (file_remove_tree(path, err) < 0)
            return -1;
    }
    remove_if_empty(conf->data_dir);
    remove_if_empty(conf->run_dir);
    return 0;
}
