/* SPDX-License-Identifier: Apache-2.0
 *
 * What peers report, apart from status. Each goes to the database on the session's lane, so in the order in which it was said.
 * Nobody is believed about others: an agent speaks of its own machine, a vault of the machines whose points it has, a node of
 * those it carries; SQL checks it. What cannot be stored ends the session: the peer tells it again in the next. Events it tells again in the same
 * one until it has heard that they are stored.
 */
#include <string.h>

#include "hub/control/control_plane.h"
#include "hub/core/plain_text.h"
#include "hub/db/job_store.h"
#include "hub/db/journal.h"
#include "hub/db/peer_store.h"
#include "transport/base/clock.h"
#include "transport/base/log.h"

#define JSON_TEXT_MAX 1001
/* Events of one peer per minute; more is a fault of the peer and must not fill the database. */
#define EVENTS_PER_MINUTE 120
#define EVENTS_IN_HAND 64u /* of one peer; what comes beyond that is told again later, and may be what is in hand */
#define POINTS_PER_REPORT_MAX 1000
#define RANGES_PER_POINT_MAX 64u /* as many as a mark of the log has (transport/log/mark.h) */
#define DISK_NUMBER_MAX 1023u
/* Between two statements of one vault: each ends with a flush of PostgreSQL's log, and a vault of thousands of machines would have one
 * after the other. Nobody sees it: what is newest is in memory (live_status_point). */
#define POINTS_SPACING_USEC (100 * USEC_PER_MSEC)
#define RESULT_MAX (256 * 1024)
/* Statements of one session that wait: more than any honest peer makes while the database is slow. */
#define SESSION_TASKS_MAX 256

/* ---- text from peers ---- */

void peer_report_text(char *out, size_t size, const char *in)
{
    plain_text_copy(out, size, in);
}

json_t *peer_report_json_text(const char *in)
{
    char text[JSON_TEXT_MAX];

    peer_report_text(text, sizeof(text), in);
    return json_string(text);
}

json_t *peer_report_json_u64(uint64_t v)
{
    return json_integer(v > INT64_MAX ? INT64_MAX : (json_int_t)v);
}

static void failed(struct control_task *task, const char *what)
{
    if (task->rc >= 0)
        return;
    log_event(LOG_WARN, "report_failed", LOG_S("what", what), LOG_S("role", task->session->role),
        LOG_S("peer", task->session->id), LOG_E(&task->err));
    /* A conflict is another statement that was in the way. */
    if (err_is_retryable(task->err.code) || task->err.code == ERR_CONFLICT)
        peer_session_reset(task->session, "the hub could not store what was reported; tell it again");
}

/* ---- inventory ---- */

struct text_task {
    struct control_task task;
    char *text;
};

static void text_drop(struct control_task *task)
{
    free(((struct text_task *)task)->text);
}

static int inventory_work(struct control_task *task, struct db_conn *conn, struct err *err)
{
    if (db_begin(conn, err) < 0 ||
        machine_inventory(conn, task->session->id, ((struct text_task *)task)->text, err) < 0)
        return -1;
    return db_commit(conn, err);
}

static void inventory_then(struct control_task *task)
{
    failed(task, "inventory");
}

static void take_inventory(struct peer_session *s, const Leeward__Control__V1__Inventory *inventory)
{
    struct text_task *t = (struct text_task *)control_task_new(sizeof(*t), s->control, s);
    struct err err = ERR_INIT;
    json_t *json = inventory_json(inventory, &err);

    if (t) {
        t->text = json ? json_dumps(json, JSON_COMPACT) : NULL;
        t->task.work = inventory_work;
        t->task.then = inventory_then;
        t->task.drop = text_drop;
    }
    json_decref(json);
    if (!t)
        return;
    if (!t->text) {
        log_event(LOG_WARN, "inventory_refused", LOG_S("peer", s->id), LOG_E(&err));
        control_task_free(&t->task);
        return;
    }
    (void)control_task_submit(&t->task, s->lane);
}

/* ---- events ---- */

struct event_task {
    struct control_task task;
    char severity[16], code[64], text[1000], remedy[1000], machine_id[IDENT_TEXT_SIZE];
    uint64_t at;
    struct ident id;
    char id_text[IDENT_TEXT_SIZE]; /* "": it is not told again */
};

static int event_work(struct control_task *task, struct db_conn *conn, struct err *err)
{
    struct event_task *t = (struct event_task *)task;
    const char *role = task->session->role, *id = task->session->id;
    int may = t->machine_id[0] ? peer_has_machine(conn, role, id, t->machine_id, err) : 1;

    if (may < 0)
        return -1;
    const struct event_spec event = {.severity = t->severity,
        .code = t->code,
        .text = t->text,
        .remedy = t->remedy,
        .machine_id = strcmp(role, "agent") == 0 ? id
                      : may                      ? t->machine_id
                                                 : "",
        .node_id = strcmp(role, "node") == 0 ? id : "",
        .vault_id = strcmp(role, "vault") == 0 ? id : "",
        .at_utc_usec = t->at,
        .actor = role,
        .told_by = id,
        .told_id = t->id_text};

    return event_append(conn, &event, err);
}

/* One that is not stored, or refused because there are too many, is told again. */
static void event_then(struct control_task *task)
{
    struct event_task *t = (struct event_task *)task;
    Leeward__Control__V1__Directive directive = LEEWARD__CONTROL__V1__DIRECTIVE__INIT;
    Leeward__Control__V1__EventsStored stored = LEEWARD__CONTROL__V1__EVENTS_STORED__INIT;
    ProtobufCBinaryData id = {.len = IDENT_SIZE, .data = t->id.bytes};

    task->session->events_in_hand--;
    if (task->rc < 0)
        log_event(LOG_WARN, "event_not_stored", LOG_S("peer", task->session->id), LOG_E(&task->err));
    if (task->rc < 0 || !t->id_text[0])
        return;
    stored.n_ids = 1;
    stored.ids = &id;
    directive.kind_case = LEEWARD__CONTROL__V1__DIRECTIVE__KIND_EVENTS_STORED;
    directive.events_stored = &stored;
    (void)peer_session_send(task->session, &directive);
}

static bool event_is_allowed(struct peer_session *s, const Leeward__Control__V1__Event *event)
{
    uint64_t now = clock_mono_usec();

    if (event->id.len == IDENT_SIZE && s->events_in_hand >= EVENTS_IN_HAND)
        return false;
    if (now - s->event_window_usec > 60 * USEC_PER_SEC) {
        s->event_window_usec = now;
        s->event_count = 0;
    }
    return s->event_count++ < EVENTS_PER_MINUTE;
}

static const char *known_severity(const char *severity)
{
    static const char *const known[] = {"info", "warning", "error"};

    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (strcmp(known[i], severity) == 0)
            return known[i];
    return "warning";
}

/* When it was by our clock: one that the peer's dated an hour ago would be too old to count, and one of the future would hide from those who read the newest. */
static uint64_t said_at(const struct peer_session *s, uint64_t theirs_usec)
{
    uint64_t now = clock_utc_usec(), age = theirs_usec == 0 ? 0 : skew_age_usec(now, theirs_usec, skew_usec(&s->skew));

    return age < now ? now - age : now; /* before 1970 nothing was said */
}

static void take_event(struct peer_session *s, const Leeward__Control__V1__Event *event)
{
    struct event_task *t =
        event_is_allowed(s, event) ? (struct event_task *)control_task_new(sizeof(*t), s->control, s) : NULL;
    struct ident machine;

    if (!t)
        return;
    t->task.work = event_work;
    t->task.then = event_then;
    peer_report_text(t->severity, sizeof(t->severity), known_severity(event->severity));
    peer_report_text(t->code, sizeof(t->code), event->code[0] ? event->code : "unnamed");
    peer_report_text(t->text, sizeof(t->text), event->text);
    peer_report_text(t->remedy, sizeof(t->remedy), event->remedy);
    if (ident_from_text(event->machine_id, &machine) == 0)
        ident_to_text(&machine, t->machine_id);
    t->at = said_at(s, event->time_utc_usec);
    if (event->id.len == IDENT_SIZE) {
        memcpy(t->id.bytes, event->id.data, IDENT_SIZE);
        ident_to_text(&t->id, t->id_text);
    }
    s->events_in_hand++;
    if (control_task_submit(&t->task, s->lane) < 0)
        s->events_in_hand--;
}

/* ---- points ---- */

struct points_task {
    struct control_task task;
    char *added, *dropped;
    char forget[IDENT_TEXT_SIZE]; /* a machine whose full list begins; "" none */
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

    if (db_begin(conn, err) < 0 || (t->forget[0] && point_forget(conn, vault, t->forget, err) < 0) ||
        point_put(conn, vault, t->added, t->dropped, err) < 0)
        return -1;
    return db_commit(conn, err);
}

static void points_flush(struct peer_session *s);

static void points_then(struct control_task *task)
{
    struct peer_session *s = task->session;

    s->points_running--;
    /* Points are not repeated within a session: lost ones must not stay unnoticed. */
    if (task->rc < 0) {
        s->points_lost = true;
        log_event(LOG_WARN, "report_failed", LOG_S("what", "points"), LOG_S("peer", s->id), LOG_E(&task->err));
        peer_session_reset(s, "the hub could not store recovery points; tell them again");
    } else if (s->call) {
        points_flush(s);
    }
}

/* Takes what has gathered into one statement. The lane keeps the order. */
static void points_submit(struct peer_session *s, const char *forget)
{
    struct points_task *t = (struct points_task *)control_task_new(sizeof(*t), s->control, s);

    if (!t) {
        peer_session_reset(s, "the hub is short of memory");
        return;
    }
    t->task.work = points_work;
    t->task.then = points_then;
    t->task.drop = points_drop;
    t->added = json_dumps(s->points_added, JSON_COMPACT);
    t->dropped = json_dumps(s->points_dropped, JSON_COMPACT);
    if (forget)
        memcpy(t->forget, forget, IDENT_TEXT_SIZE);
    (void)json_array_clear(s->points_added);
    (void)json_array_clear(s->points_dropped);
    if (!t->added || !t->dropped) {
        control_task_free(&t->task);
        peer_session_reset(s, "the hub is short of memory");
    } else if (control_task_submit(&t->task, s->lane) < 0) {
        peer_session_reset(s, "the hub is overloaded");
    } else {
        s->points_running++;
        s->points_begun_usec = clock_mono_usec();
    }
}

static void points_due(void *arg)
{
    struct peer_session *s = arg;

    if (s->call)
        points_flush(s);
}

/* True: later, by the timer. Without one: now. */
static bool points_wait(struct peer_session *s)
{
    uint64_t since = clock_mono_usec() - s->points_begun_usec;
    struct err err = ERR_INIT;

    if (since >= POINTS_SPACING_USEC)
        return false;
    if (!s->points_timer && loop_timer_new(s->control->conf.loop, POINTS_SPACING_USEC - since, 0, points_due, s,
                                &s->points_timer, &err) < 0)
        return false;
    loop_timer_set(s->points_timer, POINTS_SPACING_USEC - since);
    return true;
}

/* While one statement runs, and for a moment after it began, the next gathers. */
static void points_flush(struct peer_session *s)
{
    if (s->points_lost || s->points_running > 0 ||
        (json_array_size(s->points_added) == 0 && json_array_size(s->points_dropped) == 0))
        return;
    if (!points_wait(s))
        points_submit(s, NULL);
}

static const char *known_kind(const char *kind)
{
    return strcmp(kind, "filesystem") == 0 || strcmp(kind, "application") == 0 ? kind : "crash";
}

/* As a vault says them; what no disk can have is left out, so that the count has more. NULL: none. */
static json_t *ranges_json(const Leeward__Control__V1__PointInfo *p)
{
    json_t *ranges = p->n_unreadable > 0 ? json_array() : json_null();

    for (size_t i = 0; i < p->n_unreadable && i < RANGES_PER_POINT_MAX; i++) {
        const Leeward__Control__V1__UnreadableRange *r = p->unreadable[i];

        if (r->disk > DISK_NUMBER_MAX || r->length == 0 || r->length > INT64_MAX || r->start > INT64_MAX - r->length)
            continue;
        (void)json_array_append_new(ranges, json_pack("{s:I, s:I, s:I}", "disk", (json_int_t)r->disk, "start_bytes",
                                                (json_int_t)r->start, "length_bytes", (json_int_t)r->length));
    }
    return ranges;
}

static json_t *point_json(const char *machine_id, const Leeward__Control__V1__PointInfo *p)
{
    struct ident group;
    char group_id[IDENT_TEXT_SIZE] = "";

    if (p->sequence == 0)
        return NULL;
    if (ident_from_text(p->group_point_id, &group) == 0)
        ident_to_text(&group, group_id);
    return json_pack("{s:s, s:o, s:o, s:s, s:o, s:s, s:o, s:o, s:b, s:o, s:o, s:o}", "machine_id", machine_id,
        "sequence", peer_report_json_u64(p->sequence), "time_usec", peer_report_json_u64(p->time_utc_usec), "kind",
        known_kind(p->kind), "tag", peer_report_json_text(p->tag), "group_point_id", group_id, "generation",
        peer_report_json_u64(p->generation), "changed_bytes", peer_report_json_u64(p->changed_bytes), "frozen",
        p->frozen ? 1 : 0, "unreadable_blocks", peer_report_json_u64(p->unreadable_blocks), "committed_usec",
        peer_report_json_u64(p->committed_utc_usec), "unreadable_ranges", ranges_json(p));
}

static void take_copy_points(struct peer_session *s, const char *machine_id, const Leeward__Control__V1__Points *points)
{
    json_t *added = json_array(), *dropped = json_array();

    for (size_t i = 0; i < points->n_added; i++)
        (void)json_array_append_new(added, point_json(machine_id, points->added[i]));
    for (size_t i = 0; i < points->n_dropped; i++)
        (void)json_array_append_new(dropped,
            json_pack("{s:s, s:o}", "machine_id", machine_id, "sequence", peer_report_json_u64(points->dropped[i])));
    copy_report_points(s, machine_id, added, dropped, points->complete);
    json_decref(added);
    json_decref(dropped);
}

static void take_points(struct peer_session *s, const Leeward__Control__V1__Points *points)
{
    struct ident machine;
    char id[IDENT_TEXT_SIZE];

    /* Later ones must not be stored over a gap: the next session begins after the last that is. */
    if (s->points_lost)
        return;
    if (strcmp(s->role, "vault") != 0 || ident_from_text(points->machine_id, &machine) < 0 ||
        points->n_added > POINTS_PER_REPORT_MAX) {
        log_event(LOG_WARN, "points_refused", LOG_S("peer", s->id), LOG_U("count", points->n_added));
        return;
    }
    ident_to_text(&machine, id);
    if (points->copy) {
        take_copy_points(s, id, points);
        return;
    }
    if (!s->points_added && !((s->points_added = json_array()) && (s->points_dropped = json_array()))) {
        peer_session_reset(s, "the hub is short of memory");
        return;
    }
    /* A full list begins: what came before it is stored first, then forgotten with the rest. */
    if (points->complete)
        points_submit(s, NULL);
    for (size_t i = 0; i < points->n_added; i++) {
        (void)json_array_append_new(s->points_added, point_json(id, points->added[i]));
        live_status_point(s->control->conf.live, id, points->added[i]->sequence, points->added[i]->time_utc_usec);
    }
    for (size_t i = 0; i < points->n_dropped; i++)
        (void)json_array_append_new(s->points_dropped,
            json_pack("{s:s, s:o}", "machine_id", id, "sequence", peer_report_json_u64(points->dropped[i])));
    if (points->complete)
        points_submit(s, id);
    else
        points_flush(s);
}

/* ---- results of commands ---- */

struct result_task {
    struct control_task task;
    char id[IDENT_TEXT_SIZE], code[32], text[1000], correction[1000];
    bool over;
    uint64_t permille;
    char *result;
};

static void result_drop(struct control_task *task)
{
    free(((struct result_task *)task)->result);
}

static int result_work(struct control_task *task, struct db_conn *conn, struct err *err)
{
    struct result_task *t = (struct result_task *)task;
    const struct command_outcome outcome = {.id = t->id,
        .target_id = task->session->id,
        .done = t->over,
        .progress_permille = t->permille,
        .code = t->code,
        .text = t->text,
        .correction = t->correction,
        .result_json = t->result ? t->result : ""};

    return command_note(conn, &outcome, err);
}

static void result_then(struct control_task *task)
{
    struct result_task *t = (struct result_task *)task;

    failed(task, "command_result");
    if (task->rc >= 0 && t->over)
        commands_answered(task->session, t->id);
}

/* An object, or NULL: nothing else goes into the database. */
static char *result_object(const char *text)
{
    json_t *json = strlen(text) <= RESULT_MAX ? json_loads(text, JSON_REJECT_DUPLICATES, NULL) : NULL;
    char *out = json_is_object(json) ? json_dumps(json, JSON_COMPACT) : NULL;

    json_decref(json);
    return out;
}

static void take_result(struct peer_session *s, const Leeward__Control__V1__CommandResult *r)
{
    struct ident id;
    struct result_task *t;

    if (ident_from_text(r->command_id, &id) < 0)
        return;
    t = (struct result_task *)control_task_new(sizeof(*t), s->control, s);
    if (!t) {
        peer_session_reset(s, "the hub is short of memory");
        return;
    }
    t->task.work = result_work;
    t->task.then = result_then;
    t->task.drop = result_drop;
    ident_to_text(&id, t->id);
    peer_report_text(t->code, sizeof(t->code), r->code);
    peer_report_text(t->text, sizeof(t->text), r->text);
    peer_report_text(t->correction, sizeof(t->correction), r->correction);
    t->over = r->done;
    t->permille = r->progress_permille;
    t->result = r->done ? result_object(r->result_json) : NULL;
    /* Within a session nothing is told twice: a lost end must not stay unnoticed. */
    if (control_task_submit(&t->task, s->lane) < 0 && r->done)
        peer_session_reset(s, "the hub is overloaded");
}

void peer_report_take(struct peer_session *session, const Leeward__Control__V1__Report *report)
{
    const bool agent = strcmp(session->role, "agent") == 0;

    if (session->refs > SESSION_TASKS_MAX) {
        peer_session_reset(session, "too many reports wait to be stored");
        return;
    }
    switch (report->kind_case) {
    case LEEWARD__CONTROL__V1__REPORT__KIND_INVENTORY:
        if (agent)
            take_inventory(session, report->inventory);
        break;
    case LEEWARD__CONTROL__V1__REPORT__KIND_AGENT_STATUS:
        if (agent)
            status_take_agent(session, report->agent_status);
        break;
    case LEEWARD__CONTROL__V1__REPORT__KIND_NODE_STATUS:
        if (strcmp(session->role, "node") == 0)
            status_take_node(session, report->node_status);
        break;
    case LEEWARD__CONTROL__V1__REPORT__KIND_VAULT_STATUS:
        if (strcmp(session->role, "vault") == 0)
            status_take_vault(session, report->vault_status);
        break;
    case LEEWARD__CONTROL__V1__REPORT__KIND_POINTS:
        take_points(session, report->points);
        break;
    case LEEWARD__CONTROL__V1__REPORT__KIND_INTEGRITY:
        integrity_report_take(session, report->integrity);
        break;
    case LEEWARD__CONTROL__V1__REPORT__KIND_VAULT_SPACE:
        space_report_take(session, report->vault_space);
        break;
    case LEEWARD__CONTROL__V1__REPORT__KIND_COPY_STATUS:
        copy_report_take(session, report->copy_status);
        break;
    case LEEWARD__CONTROL__V1__REPORT__KIND_EVENT:
        take_event(session, report->event);
        break;
    case LEEWARD__CONTROL__V1__REPORT__KIND_GROUP_NEWS:
        group_report_take(session, report->group_news);
        break;
    case LEEWARD__CONTROL__V1__REPORT__KIND_DISK_MINUTE:
        churn_report_take(session, report->disk_minute);
        break;
    case LEEWARD__CONTROL__V1__REPORT__KIND_COMMAND_RESULT:
        take_result(session, report->command_result);
        break;
    default: /* of a later version */
        break;
    }
}
