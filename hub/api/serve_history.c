/* SPDX-License-Identifier: Apache-2.0
 *
 * History of one machine as columns for a graph. Step i of each column begins at `from` + i * `step_seconds`; what was not measured
 * is null, so that a graph shows a gap and no line through it.
 */
#include "hub/api/serve.h"

#include <string.h>

#include "hub/api/row_json.h"
#include "hub/db/history_store.h"
#include "hub/db/rows.h"
#include "transport/base/clock.h"

/* More than a screen has pixels; a day by the minute. */
#define STEPS_MAX 1500u
#define DEFAULT_USEC (24 * 3600 * USEC_PER_SEC)
#define COLUMNS 7u

static const char *const column_names[COLUMNS] = {"rpo_max_seconds", "rpo_average_seconds", "changed_bytes_per_second",
    "sent_bytes_per_second", "backlog_bytes", "points", "frozen_points"};

static const struct step_name {
    const char *name;
    uint32_t sec;
} steps[] = {{"minute", HISTORY_MINUTE_SEC}, {"hour", HISTORY_HOUR_SEC}, {"day", HISTORY_DAY_SEC}};

static uint64_t count_steps(const struct history_range *q)
{
    uint64_t step = q->step_sec * USEC_PER_SEC;

    return (q->to_utc_usec - q->from_utc_usec + step - 1) / step;
}

/* Where none is asked for: the finest that is still kept and not too many. */
static uint32_t choose_step(const struct history_range *q, uint64_t now_usec)
{
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        struct history_range as = *q;

        as.step_sec = steps[i].sec;
        if (count_steps(&as) <= STEPS_MAX &&
            q->from_utc_usec + history_kept_sec(as.step_sec) * USEC_PER_SEC >= now_usec)
            return as.step_sec;
    }
    return HISTORY_DAY_SEC;
}

static int time_of(struct request *r, const char *name, uint64_t fallback, uint64_t *ret_usec, struct err *err)
{
    const char *text = request_query(r, name);

    *ret_usec = fallback;
    if (text && clock_parse_rfc3339(text, ret_usec, NULL) < 0)
        return request_fault(r, err, name, "format", "is not a time like 2026-11-21T05:00:00Z");
    return 0;
}

/* Both ends on a boundary of a step. */
static int read_range(struct request *r, struct history_range *q, struct err *err)
{
    uint64_t now = clock_utc_usec(), step;
    const char *name = request_query(r, "step");

    if (time_of(r, "to", now, &q->to_utc_usec, err) < 0 ||
        time_of(r, "from", q->to_utc_usec > DEFAULT_USEC ? q->to_utc_usec - DEFAULT_USEC : 0, &q->from_utc_usec, err) <
            0)
        return -1;
    if (q->from_utc_usec >= q->to_utc_usec)
        return request_fault(r, err, "from", "range", "must be before `to`");
    q->step_sec = choose_step(q, now);
    for (size_t i = 0; name && i < ARRAY_LEN(steps); i++)
        if (strcmp(steps[i].name, name) == 0)
            q->step_sec = steps[i].sec;
    step = q->step_sec * USEC_PER_SEC;
    q->from_utc_usec -= q->from_utc_usec % step;
    if (count_steps(q) > STEPS_MAX)
        return request_fault(
            r, err, "step", "range", "gives more than %u steps; ask for a longer one or a shorter time", STEPS_MAX);
    return 0;
}

/* The value of one column in one row; rates are over the whole step, or what has passed of it. */
static json_t *cell(const PGresult *rows, int row, size_t column, uint64_t passed_sec)
{
    uint64_t v = db_u64(rows, row, (int)column + 1);

    switch (column) {
    case 0:
    case 1:
        return row_json_seconds((int64_t)v);
    case 2:
    case 3:
        return json_integer((json_int_t)(v / passed_sec));
    default:
        return json_integer((json_int_t)v);
    }
}

static json_t *column_json(const PGresult *rows, int n, size_t column, const struct history_range *q)
{
    uint64_t first = q->from_utc_usec / USEC_PER_SEC, count = count_steps(q), now = clock_utc_usec() / USEC_PER_SEC;
    json_t *list = json_array();

    for (int row = 0; list && row < n; row++) {
        uint64_t start = db_u64(rows, row, 0), at = (start - first) / q->step_sec;
        uint64_t passed = now > start && now - start < q->step_sec ? now - start : q->step_sec;

        while (json_array_size(list) < at)
            json_array_append_new(list, json_null());
        json_array_append_new(list, cell(rows, row, column, passed));
    }
    while (list && json_array_size(list) < count)
        json_array_append_new(list, json_null());
    return list;
}

static json_t *history_json(const struct machine_row *m, const PGresult *rows, int n, const struct history_range *q)
{
    json_t *history =
        json_pack("{s:s, s:o, s:o, s:i, s:I}", "machine_id", m->id, "from", row_json_time(q->from_utc_usec), "to",
            row_json_time(q->to_utc_usec), "step_seconds", (int)q->step_sec, "count", (json_int_t)count_steps(q));

    for (size_t i = 0; history && i < COLUMNS; i++)
        json_object_set_new(history, column_names[i], column_json(rows, n, i, q));
    return history;
}

static int add_target(struct request *r, json_t *history, const char *policy_id, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    int found = policy_id[0] ? db_get(r->conn, &db_policies, policy_id, &set, err) : 0;

    if (found < 0)
        return -1;
    return json_object_set_new(history, "rpo_target_seconds",
        found ? row_json_seconds((int64_t)db_at(&set, struct policy_row, 0)->rpo_target_usec) : json_null());
}

int serve_machine_history(struct request *r, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    AUTO_PGRESULT PGresult *rows = NULL;
    struct history_range q = {0};
    json_t *history;
    int n;

    if (db_need(r->conn, &db_machines, r->params[0], &set, err) < 0 || read_range(r, &q, err) < 0)
        return -1;
    const struct machine_row *m = db_at(&set, struct machine_row, 0);

    q.machine_id = m->id;
    n = history_read(r->conn, &q, &rows, err);
    if (n < 0)
        return -1;
    history = history_json(m, rows, n, &q);
    if (history && add_target(r, history, m->policy_id, err) < 0) {
        json_decref(history);
        return -1;
    }
    return reply_json(r, 200, history, err);
}
