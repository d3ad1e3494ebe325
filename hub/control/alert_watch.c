/* SPDX-License-Identifier: Apache-2.0
 *
 * Happy path: begin (three reads), findings of each subject, end (one write). A sweep that fails has changed nothing and the next one
 * does it all again. Texts that change by the second (how long an agent is silent) are stored once a minute.
 */
#include "hub/control/alert_watch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hub/core/plain_text.h"
#include "hub/core/skew.h"
#include "hub/db/alert_store.h"
#include "hub/db/health_store.h"
#include "hub/db/journal.h"
#include "hub/db/text_values.h"
#include "transport/base/clock.h"

#define DAY_USEC (86400 * USEC_PER_SEC)
#define TEXT_USEC (60 * USEC_PER_SEC)

/* ---- settings ---- */

static void set_usec(uint64_t *member, uint64_t value, uint64_t unit)
{
    *member = value * unit;
}

static void apply_setting(struct alert_watch *w, const char *key, uint64_t v)
{
    const struct {
        const char *key;
        uint64_t *usec;
        uint64_t unit;
    } times[] = {
        {"alert_silent_seconds", &w->limits.silent_usec, USEC_PER_SEC},
        {"alert_clock_skew_seconds", &w->limits.clock_skew_usec, USEC_PER_SEC},
        {"alert_full_forecast_days", &w->limits.forecast_usec, DAY_USEC},
        {"alert_certificate_days", &w->limits.certificate_usec, DAY_USEC},
        {"alert_raise_after_seconds", &w->timing.raise_after_usec, USEC_PER_SEC},
        {"alert_clear_after_seconds", &w->timing.clear_after_usec, USEC_PER_SEC},
    };

    for (size_t i = 0; i < ARRAY_LEN(times); i++)
        if (strcmp(times[i].key, key) == 0)
            set_usec(times[i].usec, v, times[i].unit);
    if (strcmp(key, "alert_full_warning_percent") == 0)
        w->limits.full_warning_percent = (unsigned)v;
    if (strcmp(key, "alert_full_critical_percent") == 0)
        w->limits.full_critical_percent = (unsigned)v;
}

static int read_settings(struct db_conn *conn, struct alert_watch *w, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    int n = alert_settings(conn, &r, err);

    w->limits = health_limits_default;
    w->timing = alert_timing_default;
    for (int i = 0; i < n; i++)
        apply_setting(w, db_text(r, i, 0), db_u64(r, i, 1));
    return n < 0 ? -1 : 0;
}

/* ---- open alerts ---- */

/* With the hub's own clock wrong all the others would look so. */
static int ask_clocks(struct db_conn *conn, struct alert_watch *w, struct err *err)
{
    int64_t middle;

    if (health_clocks(conn, &w->clock_peers, &middle, err) < 0)
        return -1;
    w->hub_behind_usec = skew_of_hub(middle, w->clock_peers, w->limits.clock_skew_usec);
    return 0;
}

int alert_watch_begin(struct db_conn *conn, struct alert_watch *w, struct err *err)
{
    *w = (struct alert_watch){.now_usec = clock_utc_usec(), .changed = json_array(), .forgotten = json_array()};
    if (!w->changed || !w->forgotten)
        return err_set(err, ERR_NOMEM, "no memory for alerts");
    if (read_settings(conn, w, err) < 0 || alert_sweep_stamp(conn, &w->before_usec, err) < 0 ||
        ask_clocks(conn, w, err) < 0)
        return -1;
    w->open_count = alert_open_list(conn, &w->open, err);
    if (w->open_count < 0)
        return -1;
    w->seen = mem_alloc((size_t)w->open_count + 1, sizeof(*w->seen));
    return w->seen ? 0 : err_set(err, ERR_NOMEM, "no memory for alerts");
}

void alert_watch_done(struct alert_watch *w)
{
    PQclear(w->open);
    free(w->seen);
    json_decref(w->changed);
    json_decref(w->forgotten);
    *w = (struct alert_watch){0};
}

/* The order of alert_open_list. */
static int compare(const PGresult *r, int row, const struct alert_subject *s, const char *code)
{
    int c = strcmp(db_text(r, row, AO_SUBJECT), s->id);

    c = c ? c : strcmp(db_text(r, row, AO_CODE), code);
    return c ? c : strcmp(db_text(r, row, AO_DETAIL), s->detail);
}

/* -1: none is open. */
static int find_open(const struct alert_watch *w, const struct alert_subject *s, const char *code)
{
    int low = 0, high = w->open_count - 1;

    while (low <= high) {
        int middle = low + (high - low) / 2, c = compare(w->open, middle, s, code);

        if (c == 0)
            return middle;
        if (c < 0)
            low = middle + 1;
        else
            high = middle - 1;
    }
    return -1;
}

static struct alert_state state_of(const struct alert_watch *w, int row)
{
    const PGresult *r = w->open;

    if (row < 0)
        return (struct alert_state){0};
    return (struct alert_state){.phase = alert_phase_from_name(db_text(r, row, AO_STATE)),
        .level = strcmp(db_text(r, row, AO_SEVERITY), "critical") == 0 ? HEALTH_CRITICAL : HEALTH_WARNING,
        .since_usec = db_u64(r, row, AO_SINCE),
        .lacks_usec = db_u64(r, row, AO_LACKS),
        .eased_usec = db_u64(r, row, AO_EASED),
        .checked_usec = w->before_usec};
}

/* ---- changes ---- */

static const char *word_of(enum alert_change change)
{
    return change == ALERT_RAISED     ? "raised"
           : change == ALERT_WORSENED ? "worsened"
           : change == ALERT_CLEARED  ? "resolved"
                                      : "";
}

static void remember(struct alert_watch *w, const char *code, const char *name, enum alert_change change, bool critical)
{
    w->resolved += change == ALERT_CLEARED;
    if (change != ALERT_RAISED && change != ALERT_WORSENED)
        return;
    w->critical = w->critical || critical;
    if (w->raised < ALERT_WATCH_NAMED) {
        w->first[w->raised].code = code;
        plain_text_copy(w->first[w->raised].name, sizeof(w->first[w->raised].name), name);
    }
    w->raised++;
}

static int put(struct alert_watch *w, int row, const struct alert_subject *s, const struct health *h,
    const struct alert_state *state, enum alert_change change, struct err *err)
{
    char id[IDENT_TEXT_SIZE];
    struct ident fresh;

    if (row >= 0)
        snprintf(id, sizeof(id), "%s", db_text(w->open, row, AO_ID));
    else if (ident_random(&fresh) < 0)
        return err_set(err, ERR_INTERNAL, "the kernel gives no randomness");
    else
        ident_to_text(&fresh, id);
    remember(w, h->code, s->name, change, state->level == HEALTH_CRITICAL);
    return json_array_append_new(
               w->changed, json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:s, s:o}", "id", id,
                               "code", h->code, "subject_kind", s->kind, "subject_id", s->id, "detail", s->detail,
                               "severity", health_level_name(state->level), "state", alert_phase_name(state->phase),
                               "cause", h->cause, "remedy", h->remedy, "since_usec", (json_int_t)state->since_usec,
                               "lacks_usec", (json_int_t)state->lacks_usec, "eased_usec", (json_int_t)state->eased_usec,
                               "change", word_of(change), "text_values", text_values_json(h->values))) < 0
               ? err_set(err, ERR_NOMEM, "no memory for alerts")
               : 0;
}

static bool is_same(const struct alert_state *a, const struct alert_state *b)
{
    return a->phase == b->phase && a->level == b->level && a->since_usec == b->since_usec &&
           a->lacks_usec == b->lacks_usec && a->eased_usec == b->eased_usec;
}

static bool text_is_old(const struct alert_watch *w, int row, const struct health *h)
{
    return row >= 0 && h->level >= HEALTH_WARNING && db_u64(w->open, row, AO_AGE) > TEXT_USEC &&
           (strcmp(db_text(w->open, row, AO_CAUSE), h->cause) != 0 ||
               (db_bool(w->open, row, AO_BARE) && h->values[0].name));
}

static int evaluate(
    struct alert_watch *w, int row, const struct alert_subject *s, const struct health *h, struct err *err)
{
    const struct alert_rule *rule = alert_rule_find(h->code);
    struct alert_state before = state_of(w, row), state = before;
    enum alert_change change;

    if (!rule)
        return 0;
    change = alert_evaluate(rule, &w->timing, &state, h, w->now_usec);
    if (change == ALERT_FORGOTTEN)
        return json_array_append_new(w->forgotten, json_string(db_text(w->open, row, AO_ID))) < 0
                   ? err_set(err, ERR_NOMEM, "no memory for alerts")
                   : 0;
    if (state.phase == ALERT_NONE || (is_same(&before, &state) && !text_is_old(w, row, h)))
        return 0;
    return put(w, row, s, h, &state, change, err);
}

int alert_watch_findings(
    struct alert_watch *w, const struct alert_subject *s, const struct health_findings *found, struct err *err)
{
    for (size_t i = 0; i < found->count; i++) {
        const struct health *h = &found->list[i];
        int row = find_open(w, s, h->code);

        if (row >= 0 && h->level >= HEALTH_WARNING)
            w->seen[row] = true;
        if (h->level >= HEALTH_WARNING && evaluate(w, row, s, h, err) < 0)
            return -1;
    }
    return 0;
}

/* ---- what is not health ---- */

static int failed_jobs(struct db_conn *conn, struct alert_watch *w, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    int n = alert_failed_jobs(conn, &r, err);

    for (int i = 0; i < n; i++) {
        const struct alert_subject s = {db_text(r, i, 1), db_text(r, i, 2), db_text(r, i, 5), db_text(r, i, 0)};
        const char *advice = db_text(r, i, 4);
        struct health_findings found = {.count = 1};

        health_say(&found.list[0], HEALTH_WARNING, "job_failed",
            TEXT_VALUES(VALUE_TEXT("form", *advice ? "advised" : "plain"), VALUE_TEXT("job", s.detail),
                VALUE_TEXT("problem", db_text(r, i, 3)), VALUE_TEXT("remedy", advice)));
        if (alert_watch_findings(w, &s, &found, err) < 0)
            return -1;
    }
    return n < 0 ? -1 : 0;
}

static int hub_certificates(struct db_conn *conn, struct alert_watch *w, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    int n = alert_hub_certificates(conn, &r, err);

    for (int i = 0; i < n; i++) {
        const struct alert_subject s = {"hub", db_text(r, i, 0), "hub", ""};
        /* Each hub has two certificates, but there is one clock to speak of. */
        const struct health_hub in = {.certificate_left_usec = db_i64(r, i, 1),
            .clock_behind_usec = i == 0 ? w->hub_behind_usec : 0,
            .clock_peers = w->clock_peers};
        struct health_findings found;

        health_find_hub(&in, &w->limits, &found);
        if (alert_watch_findings(w, &s, &found, err) < 0)
            return -1;
    }
    return n < 0 ? -1 : 0;
}

/* Those without a finding keep their last words. */
static int clear_unseen(struct alert_watch *w, struct err *err)
{
    const PGresult *r = w->open;

    for (int i = 0; i < w->open_count; i++) {
        const struct alert_subject s = {
            db_text(r, i, AO_KIND), db_text(r, i, AO_SUBJECT), "", db_text(r, i, AO_DETAIL)};
        struct health none = {.level = HEALTH_HEALTHY, .code = db_text(r, i, AO_CODE)};

        if (w->seen[i])
            continue;
        snprintf(none.cause, sizeof(none.cause), "%s", db_text(r, i, AO_CAUSE));
        if (evaluate(w, i, &s, &none, err) < 0)
            return -1;
    }
    return 0;
}

/* The first few, in words. */
static void name_first(const struct alert_watch *w, char *out, size_t size)
{
    size_t used = 0;

    out[0] = '\0';
    for (unsigned i = 0; i < w->raised && i < ALERT_WATCH_NAMED && used < size; i++)
        used += (size_t)snprintf(
            out + used, size - used, "%s%s: %s", i ? ", " : "", w->first[i].name, alert_title(w->first[i].code));
    if (w->raised > ALERT_WATCH_NAMED && used < size)
        (void)snprintf(out + used, size - used, ", ...");
}

static int tell(struct db_conn *conn, const struct alert_watch *w, struct err *err)
{
    static const char *const names[ALERT_WATCH_NAMED][2] = {
        {"name_1", "alert_1"}, {"name_2", "alert_2"}, {"name_3", "alert_3"}};
    struct text_value values[4 + 2 * ALERT_WATCH_NAMED + 1] = {VALUE_TEXT("form", w->raised ? "raised" : "resolved"),
        VALUE_NUMBER("raised", w->raised), VALUE_NUMBER("resolved", w->resolved)};
    const struct event_spec event = {.severity = w->critical ? "error"
                                                 : w->raised ? "warning"
                                                             : "info",
        .code = "alerts_changed",
        .values = values};
    char list[400];
    size_t n = 3;

    name_first(w, list, sizeof(list));
    values[n++] = (struct text_value)VALUE_TEXT("alerts", list);
    for (unsigned i = 0; i < w->raised && i < ALERT_WATCH_NAMED; i++) {
        values[n++] = (struct text_value)VALUE_TEXT(names[i][0], w->first[i].name);
        values[n++] = (struct text_value)VALUE_TEXT(names[i][1], w->first[i].code);
    }
    return event_append(conn, &event, err);
}

static int store(struct db_conn *conn, struct alert_watch *w, struct err *err)
{
    AUTO_FREE char *changed = json_dumps(w->changed, JSON_COMPACT);
    AUTO_FREE char *forgotten = json_dumps(w->forgotten, JSON_COMPACT);

    if (!changed || !forgotten)
        return err_set(err, ERR_NOMEM, "no memory for alerts");
    if (db_begin(conn, err) < 0)
        return -1;
    if (alert_apply(conn, changed, forgotten, err) < 0 || (w->raised + w->resolved > 0 && tell(conn, w, err) < 0)) {
        db_rollback(conn);
        return -1;
    }
    return db_commit(conn, err);
}

int alert_watch_end(struct db_conn *conn, struct alert_watch *w, struct err *err)
{
    if (failed_jobs(conn, w, err) < 0 || hub_certificates(conn, w, err) < 0 || clear_unseen(w, err) < 0)
        return -1;
    if (json_array_size(w->changed) == 0 && json_array_size(w->forgotten) == 0)
        return 0;
    return store(conn, w, err);
}
