/* SPDX-License-Identifier: Apache-2.0
 *
 * The sweep, every few seconds on one of the hubs: health of everything is computed anew (hub/core/health.h), of machines a page at a time with rests
 * in between (piecework.h), what changed is stored with an event, machines go where they belong (jobs/rebalance.h), what lasts becomes an alert (alert_watch.h), machines whose agent says something else than their state are moved, peers that nobody hears are
 * offline, and once an hour old rows go.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#include "hub/control/alert_watch.h"
#include "hub/control/control_plane.h"
#include "hub/control/piecework.h"
#include "hub/core/health.h"
#include "hub/db/alert_store.h"
#include "hub/db/clock_store.h"
#include "hub/db/health_store.h"
#include "hub/db/housekeeping.h"
#include "hub/db/journal.h"
#include "hub/db/peer_store.h"
#include "hub/db/protection_store.h"
#include "hub/jobs/rebalance.h"
#include "transport/base/clock.h"
#include "transport/base/hash.h"
#include "transport/base/log.h"

#define EVENT_VALUES 5
#define HOUSEKEEPING_USEC (3600 * USEC_PER_SEC)
/* Of one sweep: the next one must not be late, for by it hubs tell that they are there. */
#define HOUSEKEEPING_MOST_USEC (USEC_PER_SEC)

static uint64_t silent(const PGresult *r, int row, int col)
{
    int64_t usec = db_i64(r, row, col);

    return usec < 0 ? UINT64_MAX : (uint64_t)usec;
}

/* One thing whose health was computed anew. */
struct finding {
    const char *role, *id, *name;
    const struct health *health;
    const char *level_before, *cause_before;
    bool bare_before; /* stored without values */
};

/* What the event says, and behind it what the finding does: its code with its form, and the rest of its values. */
static void values_of(
    const struct finding *f, const char *code, struct text_value values[EVENT_VALUES + HEALTH_VALUES_MAX + 1])
{
    const struct health *h = f->health;
    size_t n = 0;

    values[n++] = (struct text_value)VALUE_TEXT("form", h->cause[0] ? "unhealthy" : "healthy");
    values[n++] = (struct text_value)VALUE_TEXT("who", strcmp(f->role, "agent") == 0 ? "machine" : f->role);
    values[n++] = (struct text_value)VALUE_TEXT("name", f->name);
    values[n++] = (struct text_value)VALUE_TEXT("level", health_level_name(h->level));
    values[n++] = (struct text_value)VALUE_TEXT("finding", code);
    for (const struct text_value *v = h->values; v->name; v++)
        if (strcmp(v->name, "form") != 0 && strcmp(v->name, "who") != 0) /* which is what the event is about */
            values[n++] = *v;
    values[n] = (struct text_value){0};
}

static int note_event(struct db_conn *conn, const struct finding *f, struct err *err)
{
    const struct health *h = f->health;
    const char *level = health_level_name(h->level), *form = text_value_form(h->values);
    bool agent = strcmp(f->role, "agent") == 0, node = strcmp(f->role, "node") == 0;
    struct text_value values[EVENT_VALUES + HEALTH_VALUES_MAX + 1];
    AUTO_FREE char *text =
        mem_printf("%s %s is %s%s%s", agent ? "machine" : f->role, f->name, level, h->cause[0] ? ": " : "", h->cause);
    AUTO_FREE char *code = mem_printf("%s%s%s", h->code, form[0] ? "." : "", form);
    const struct event_spec event = {.severity = h->level == HEALTH_CRITICAL  ? "error"
                                                 : h->level == HEALTH_HEALTHY ? "info"
                                                                              : "warning",
        .code = "health_changed",
        .text = text,
        .remedy = h->remedy,
        .values = values,
        .machine_id = agent ? f->id : "",
        .node_id = node ? f->id : "",
        .vault_id = agent || node ? "" : f->id};

    if (!text || !code)
        return err_set(err, ERR_NOMEM, "no memory");
    values_of(f, code, values);
    return event_append(conn, &event, err);
}

/* Stores what changed; an event tells of a new level, but not of a first good one. */
static int note_changed(struct db_conn *conn, const struct finding *f, bool with_event, struct err *err)
{
    const struct health_put put = {.role = f->role,
        .id = f->id,
        .level = health_level_name(f->health->level),
        .code = f->health->code,
        .cause = f->health->cause,
        .remedy = f->health->remedy,
        .values = f->health->values};

    if (health_put(conn, &put, err) < 0)
        return -1;
    return with_event ? note_event(conn, f, err) : 0;
}

/* In a transaction of its own: nothing is locked for longer than one row takes. What is lost the next sweep finds again. */
static int note(struct db_conn *conn, const struct finding *f, struct err *err)
{
    bool same_level = strcmp(health_level_name(f->health->level), f->level_before) == 0;
    bool first_good = f->health->level == HEALTH_HEALTHY && strcmp(f->level_before, "unknown") == 0;

    if (same_level && strcmp(f->health->cause, f->cause_before) == 0 && !(f->bare_before && f->health->values[0].name))
        return 0;
    if (db_begin_relaxed(conn, err) < 0)
        return -1;
    if (note_changed(conn, f, !same_level && !first_good, err) < 0) {
        db_rollback(conn);
        return -1;
    }
    return db_commit(conn, err);
}

static int follow(struct db_conn *conn, const char *id, const char *agent_state, bool has_point, struct err *err)
{
    if (db_begin_relaxed(conn, err) < 0)
        return -1;
    if (machine_state_follow(conn, id, agent_state, has_point, err) < 0) {
        db_rollback(conn);
        return -1;
    }
    return db_commit(conn, err);
}

/* The columns that all three have. */
static int note_row(struct db_conn *conn, struct alert_watch *watch, const char *role, const PGresult *r, int row,
    const struct health_findings *found, struct err *err)
{
    struct health worst;
    const struct finding f = {role, db_text(r, row, HM_ID), db_text(r, row, HM_NAME), &worst,
        db_text(r, row, HM_HEALTH), db_text(r, row, HM_CAUSE), db_bool(r, row, HM_BARE)};

    const struct alert_subject subject = {
        strcmp(role, "agent") == 0 ? "machine" : role, db_text(r, row, HM_ID), db_text(r, row, HM_NAME), ""};

    health_worst(found, &worst);
    if (alert_watch_findings(watch, &subject, found, err) < 0)
        return -1;
    return note(conn, &f, err);
}

/* For how long the drill of a machine is overdue; rows of health_drills. */
static uint64_t drill_overdue_usec(const PGresult *drills, const char *id)
{
    int low = 0, high = PQntuples(drills) - 1;

    while (low <= high) {
        int middle = low + (high - low) / 2, order = strcmp(db_text(drills, middle, 0), id);

        if (order == 0)
            return db_u64(drills, middle, 1);
        if (order < 0)
            low = middle + 1;
        else
            high = middle - 1;
    }
    return 0;
}

static struct health_machine machine_at(const PGresult *r, int row, const PGresult *drills, int64_t hub_behind_usec)
{
    int state = machine_state_from_name(db_text(r, row, HM_STATE));

    return (struct health_machine){.state = state < 0 ? MACHINE_UNPROTECTED : (enum machine_state)state,
        .silent_usec = silent(r, row, HM_SILENT),
        .rpo_usec = db_u64(r, row, HM_RPO),
        .rpo_target_usec = db_u64(r, row, HM_RPO_TARGET),
        .clock_skew_usec = db_i64(r, row, HM_SKEW) - hub_behind_usec,
        .filesystem_interval_usec = db_u64(r, row, HM_FS_INTERVAL),
        .filesystem_age_usec = db_u64(r, row, HM_FS_AGE),
        .application_interval_usec = db_u64(r, row, HM_APP_INTERVAL),
        .application_age_usec = db_u64(r, row, HM_APP_AGE),
        .agent_state = db_text(r, row, HM_AGENT_STATE),
        .agent_cause = db_text(r, row, HM_AGENT_CAUSE),
        .agent_remedy = db_text(r, row, HM_AGENT_REMEDY),
        .node_online = db_bool(r, row, HM_NODE_ONLINE),
        .vault_online = db_bool(r, row, HM_VAULT_ONLINE),
        .vault_accepting = db_bool(r, row, HM_VAULT_ACCEPTING),
        .drill_overdue_usec = drill_overdue_usec(drills, db_text(r, row, HM_ID)),
        .damage_count = db_u64(r, row, HM_DAMAGES),
        .damaged_points = db_u64(r, row, HM_DAMAGED_POINTS),
        .looks_encrypted = db_bool(r, row, HM_ENCRYPTED),
        .certificate_left_usec = db_i64(r, row, HM_CERT_LEFT)};
}

static int sweep_machine(struct db_conn *conn, struct alert_watch *watch, const PGresult *r, int row,
    const PGresult *drills, struct err *err)
{
    const struct health_machine in = machine_at(r, row, drills, watch->hub_behind_usec);
    bool has_point = db_bool(r, row, HM_HAS_POINT);
    struct health_findings found;
    enum machine_move move;

    health_find_machine(&in, &watch->limits, &found);
    if (note_row(conn, watch, "agent", r, row, &found, err) < 0)
        return -1;
    return in.silent_usec == 0 && machine_move_from_agent(in.state, in.agent_state, has_point, &move)
               ? follow(conn, db_text(r, row, HM_ID), in.agent_state, has_point, err)
               : 0;
}

/* *after: the id behind which the page begins, and the last one in it. How many there were. */
static int sweep_page(struct db_conn *conn, struct alert_watch *watch, char after[IDENT_TEXT_SIZE],
    const PGresult *drills, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    int n = health_machines(conn, after, &r, err);

    for (int i = 0; i < n; i++)
        if (sweep_machine(conn, watch, r, i, drills, err) < 0)
            return -1;
    if (n > 0)
        (void)snprintf(after, IDENT_TEXT_SIZE, "%s", db_text(r, n - 1, HM_ID));
    return n;
}

static int sweep_machines(struct db_conn *conn, struct alert_watch *watch, struct err *err)
{
    AUTO_PGRESULT PGresult *drills = NULL;
    char after[IDENT_TEXT_SIZE] = HEALTH_FIRST;
    struct piecework work;
    int n;

    if (health_drills(conn, &drills, err) < 0)
        return -1;
    piecework_begin(&work);
    while ((n = sweep_page(conn, watch, after, drills, err)) == HEALTH_PAGE)
        piecework_rest(&work);
    return n < 0 ? -1 : 0;
}

static int sweep_nodes(struct db_conn *conn, struct alert_watch *watch, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    int n = health_nodes(conn, &r, err);

    for (int i = 0; i < n; i++) {
        const struct health_node in = {.silent_usec = silent(r, i, HN_SILENT),
            .spool_bytes = db_u64(r, i, HN_SPOOL),
            .spool_limit_bytes = db_u64(r, i, HN_LIMIT),
            .cause = db_text(r, i, HN_CAUSE),
            .remedy = db_text(r, i, HN_REMEDY),
            .clock_skew_usec = db_i64(r, i, HN_SKEW) - watch->hub_behind_usec,
            .certificate_left_usec = db_i64(r, i, HM_CERT_LEFT)};
        struct health_findings found;

        health_find_node(&in, &watch->limits, &found);
        if (note_row(conn, watch, "node", r, i, &found, err) < 0)
            return -1;
    }
    return n < 0 ? -1 : 0;
}

static int sweep_vaults(struct db_conn *conn, struct alert_watch *watch, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    int n = health_vaults(conn, &r, err);

    for (int i = 0; i < n; i++) {
        const struct health_vault in = {.silent_usec = silent(r, i, HV_SILENT),
            .accepting = db_bool(r, i, HV_ACCEPTING),
            .free_bytes = db_u64(r, i, HV_FREE),
            .capacity_bytes = db_u64(r, i, HV_CAPACITY),
            .full_in_usec = db_u64(r, i, HV_FULL_IN),
            .cause = db_text(r, i, HV_CAUSE),
            .remedy = db_text(r, i, HV_REMEDY),
            .clock_skew_usec = db_i64(r, i, HV_SKEW) - watch->hub_behind_usec,
            .certificate_left_usec = db_i64(r, i, HM_CERT_LEFT)};
        struct health_findings found;

        health_find_vault(&in, &watch->limits, &found);
        if (note_row(conn, watch, "vault", r, i, &found, err) < 0)
            return -1;
    }
    return n < 0 ? -1 : 0;
}

/* ---- consistency groups ---- */

static struct health_group group_at(const PGresult *r, int row)
{
    int state = machine_state_from_name(db_text(r, row, HG_ABSENT_STATE));

    return (struct health_group){.interval_usec = db_u64(r, row, HG_INTERVAL),
        .members = db_u64(r, row, HG_MEMBERS),
        .was_late = db_text(r, row, HG_CODE)[0] != '\0',
        .first_copy = db_bool(r, row, HG_FIRST_COPY),
        .age_usec = db_u64(r, row, HG_AGE),
        .list_age_usec = db_u64(r, row, HG_LIST_AGE),
        .told_age_usec = db_u64(r, row, HG_TOLD_AGE),
        .absent = db_text(r, row, HG_ABSENT),
        .absent_state = state < 0 ? MACHINE_UNPROTECTED : (enum machine_state)state,
        .news_usec = silent(r, row, HG_NEWS),
        .missed = db_bool(r, row, HG_MISSED),
        .culprit = db_text(r, row, HG_CULPRIT),
        .cause = db_text(r, row, HG_NEWS_CAUSE),
        .remedy = db_text(r, row, HG_NEWS_REMEDY)};
}

/* Its members tell of each miss in events of their own. */
static int note_group(struct db_conn *conn, const PGresult *r, int row, const struct health *h, struct err *err)
{
    const struct finding f = {.role = "group", .id = db_text(r, row, HG_ID), .health = h};

    if (strcmp(h->code, db_text(r, row, HG_CODE)) == 0 && strcmp(h->cause, db_text(r, row, HG_CAUSE)) == 0)
        return 0;
    if (db_begin_relaxed(conn, err) < 0)
        return -1;
    if (note_changed(conn, &f, false, err) < 0) {
        db_rollback(conn);
        return -1;
    }
    return db_commit(conn, err);
}

static int sweep_group(struct db_conn *conn, struct alert_watch *watch, const PGresult *r, int row, struct err *err)
{
    const struct health_group in = group_at(r, row);
    const struct alert_subject subject = {"group", db_text(r, row, HG_ID), db_text(r, row, HG_NAME), ""};
    struct health_findings found;
    struct health worst;

    health_find_group(&in, &watch->limits, &found);
    health_worst(&found, &worst);
    return alert_watch_findings(watch, &subject, &found, err) < 0 ? -1 : note_group(conn, r, row, &worst, err);
}

/* As sweep_page. */
static int sweep_group_page(
    struct db_conn *conn, struct alert_watch *watch, char after[IDENT_TEXT_SIZE], struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    int n = health_groups(conn, after, &r, err);

    for (int i = 0; i < n; i++)
        if (sweep_group(conn, watch, r, i, err) < 0)
            return -1;
    if (n > 0)
        (void)snprintf(after, IDENT_TEXT_SIZE, "%s", db_text(r, n - 1, HG_ID));
    return n;
}

/* Thousands take longer than the others wait to hear of this hub. */
static int sweep_groups(struct db_conn *conn, struct alert_watch *watch, const char *instance, struct err *err)
{
    char after[IDENT_TEXT_SIZE] = HEALTH_FIRST;
    uint64_t heard_usec = clock_mono_usec();
    struct piecework work;
    int n;

    piecework_begin(&work);
    while ((n = sweep_group_page(conn, watch, after, err)) == HEALTH_GROUP_PAGE) {
        if (sweep_goes_on(conn, instance, &heard_usec, clock_mono_usec(), err) < 0)
            return -1;
        piecework_rest(&work);
    }
    return n < 0 ? -1 : 0;
}

static bool housekeeping_is_due(void)
{
    static uint64_t last; /* its lane runs one sweep at a time */
    uint64_t now = clock_mono_usec();

    if (last && now - last < HOUSEKEEPING_USEC)
        return false;
    last = now;
    return true;
}

static int watch_clock(struct db_conn *conn, struct err *err)
{
    int back = clock_set_back(conn, err);

    if (back > 0)
        log_event(LOG_WARN, "database_clock_set_back");
    return back < 0 ? -1 : 0;
}

/* Once an hour; what one sweep does not get done the next one goes on with. */
static int keep_house(struct db_conn *conn, struct err *err)
{
    static bool busy; /* its lane runs one sweep at a time */
    static size_t at;
    uint64_t begun = clock_mono_usec();
    struct piecework work;
    int rc;

    busy = busy || housekeeping_is_due();
    if (!busy)
        return 0;
    piecework_begin(&work);
    while ((rc = housekeeping(conn, &at, err)) > 0 && clock_mono_usec() - begun < HOUSEKEEPING_MOST_USEC)
        piecework_rest(&work);
    busy = rc != 0;
    return rc < 0 ? -1 : 0;
}

static int sweep_all(struct db_conn *conn, const char *instance, struct err *err)
{
    static struct placement_churn churn; /* its lane runs one sweep at a time */
    AUTO_ALERT_WATCH struct alert_watch watch = {0};
    struct err why = ERR_INIT;
    int moved;

    if (watch_clock(conn, err) < 0 || peer_expire(conn, err) < 0 || alert_watch_begin(conn, &watch, err) < 0 ||
        sweep_nodes(conn, &watch, err) < 0 || sweep_vaults(conn, &watch, err) < 0 ||
        sweep_machines(conn, &watch, err) < 0)
        return -1;
    /* Machines of a node that is gone wait for no group, and no alert for them. */
    moved = rebalance(conn, &churn, &why);
    if (sweep_groups(conn, &watch, instance, err) < 0 || alert_watch_end(conn, &watch, err) < 0) {
        if (moved < 0)
            log_event(LOG_WARN, "machines_not_moved", LOG_E(&why));
        return -1;
    }
    if (moved < 0) {
        err_copy(err, &why);
        return -1;
    }
    return keep_house(conn, err);
}

/* ---- this hub's own certificates ---- */

static int note_certificate(struct control *control, struct db_conn *conn, const char *file, struct err *err)
{
    AUTO_FREE char *path = mem_printf("%s/%s", control->conf.data_dir, file);
    struct utsname host;
    struct ca_certificate c = {0};
    struct hash128 hash;
    struct ident subject;
    char id[IDENT_TEXT_SIZE];
    int rc;

    (void)uname(&host);
    AUTO_FREE char *name = path ? mem_printf("%s:%s", host.nodename, path) : NULL;

    if (!name)
        return err_set(err, ERR_NOMEM, "no memory");
    hash_128(name, strlen(name), &hash);
    memcpy(subject.bytes, hash.bytes, sizeof(subject.bytes));
    ident_to_text(&subject, id);
    rc = ca_read_certificate(path, &c, err);
    if (rc > 0) {
        const struct certificate_put put = {.serial = c.serial,
            .role = "hub",
            .subject_id = id,
            .subject_name = name,
            .fingerprint_sha256 = c.fingerprint_sha256,
            .not_before = c.not_before_utc_usec,
            .not_after = c.not_after_utc_usec};

        rc = alert_note_certificate(conn, &put, err);
    }
    ca_certificate_done(&c);
    return rc < 0 ? -1 : 0;
}

/* Each hub its own, whoever has the duty. */
static int note_own_certificates(struct control *control, struct db_conn *conn, struct err *err)
{
    static uint64_t last; /* its lane runs one sweep at a time */
    uint64_t now = clock_mono_usec();

    if (last && now - last < HOUSEKEEPING_USEC)
        return 0;
    last = now;
    return note_certificate(control, conn, "hub.pem", err) < 0 ? -1 : note_certificate(control, conn, "api.pem", err);
}

static int sweep_work(struct control_task *task, struct db_conn *conn, struct err *err)
{
    int ours, rc;

    if (hub_is_here(conn, task->control->conf.instance, err) < 0 || note_own_certificates(task->control, conn, err) < 0)
        return -1;
    ours = sweep_begin(conn, err);
    if (ours <= 0)
        return ours;
    rc = sweep_all(conn, task->control->conf.instance, err);
    sweep_end(conn);
    return rc;
}

static void sweep_then(struct control_task *task)
{
    task->control->sweep_busy = false;
    if (task->rc < 0 && task->err.code != ERR_UNAVAILABLE)
        log_event(LOG_WARN, "sweep_failed", LOG_E(&task->err));
}

void health_sweep(void *arg)
{
    struct control *control = arg;
    struct control_task *t = control->sweep_busy ? NULL : control_task_new(sizeof(*t), control, NULL);

    if (!t)
        return;
    t->work = sweep_work;
    t->then = sweep_then;
    control->sweep_busy = true;
    if (control_task_submit(t, control->sweep_lane) < 0)
        control->sweep_busy = false;
}
