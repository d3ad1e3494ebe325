/* SPDX-License-Identifier: Apache-2.0
 *
 * What a vault says about its space, on its way into the database in the form that the API shows.
 */
#include <string.h>

#include "hub/control/control_plane.h"
#include "hub/db/space_store.h"
#include "transport/base/clock.h"
#include "transport/base/log.h"

#define MACHINES_MAX 10000

struct space_task {
    struct control_task task;
    char *report;
};

static void space_drop(struct control_task *task)
{
    free(((struct space_task *)task)->report);
}

static int space_work(struct control_task *task, struct db_conn *conn, struct err *err)
{
    return space_put(conn, task->session->id, ((struct space_task *)task)->report, err);
}

static void space_then(struct control_task *task)
{
    if (task->rc < 0)
        log_event(LOG_WARN, "space_report_lost", LOG_S("peer", task->session->id), LOG_E(&task->err));
}

static json_t *time_json(uint64_t utc_usec)
{
    char text[CLOCK_RFC3339_SIZE];

    if (utc_usec == 0 || utc_usec > clock_utc_usec() + 4000 * 86400 * USEC_PER_SEC)
        return json_null();
    clock_rfc3339(utc_usec, text);
    return json_string(text);
}

static json_t *with_bucket(json_t *machine, const Leeward__Control__V1__MachineSpace *m)
{
    if (!machine || !m->has_bucket)
        return machine;
    json_object_set_new(machine, "bucket_point_at", time_json(m->bucket_point_utc_usec));
    json_object_set_new(machine, "bucket_behind_bytes", peer_report_json_u64(m->bucket_behind_bytes));
    return machine;
}

static json_t *machine_json(const Leeward__Control__V1__MachineSpace *m)
{
    struct ident id;
    char text[IDENT_TEXT_SIZE];

    if (ident_from_text(m->machine_id, &id) < 0)
        return NULL;
    ident_to_text(&id, text);
    return with_bucket(
        json_pack("{s:s, s:o, s:o, s:o, s:o}", "machine_id", text, "live_bytes", peer_report_json_u64(m->live_bytes),
            "history_bytes", peer_report_json_u64(m->history_bytes), "garbage_bytes",
            peer_report_json_u64(m->garbage_bytes), "index_bytes", peer_report_json_u64(m->index_bytes)),
        m);
}

static char *report_text(const char *vault_id, const Leeward__Control__V1__VaultSpace *v)
{
    json_t *machines = json_array(), *report;
    char *text;

    for (size_t i = 0; i < v->n_machines && i < MACHINES_MAX; i++) {
        json_t *m = machine_json(v->machines[i]);

        if (m)
            json_array_append_new(machines, m);
    }
    report = json_pack("{s:s, s:b, s:I, s:o, s:o, s:o}", "vault_id", vault_id, "forecast_known", v->forecast_known,
        "growth_bytes_per_day", (json_int_t)v->growth_bytes_per_day, "full_at", time_json(v->full_utc_usec),
        "updated_at", time_json(clock_utc_usec()), "machines", machines);
    text = report ? json_dumps(report, JSON_COMPACT) : NULL;
    json_decref(report);
    return text;
}

void space_report_take(struct peer_session *s, const Leeward__Control__V1__VaultSpace *space)
{
    struct space_task *t;

    if (strcmp(s->role, "vault") != 0)
        return;
    t = (struct space_task *)control_task_new(sizeof(*t), s->control, s);
    if (!t)
        return;
    t->task.work = space_work;
    t->task.then = space_then;
    t->task.drop = space_drop;
    t->report = report_text(s->id, space);
    if (t->report)
        (void)control_task_submit(&t->task, s->lane);
    else
        control_task_free(&t->task);
}
