/* SPDX-License-Identifier: Apache-2.0
 *
 * What a vault says about the integrity of one machine, on its way into the database: the report in the form that the API shows, and
 * the ranges that its agent is to send again. A vault is believed about the machines that it holds, which SQL checks.
 */
#include <string.h>

#include "hub/control/control_plane.h"
#include "hub/db/integrity_store.h"
#include "transport/base/clock.h"
#include "transport/base/log.h"

#define DAMAGES_MAX 1000
#define RESEND_MAX 4096

struct integrity_task {
    struct control_task task;
    char machine_id[IDENT_TEXT_SIZE];
    char *report, *resend;
};

static void integrity_drop(struct control_task *task)
{
    struct integrity_task *t = (struct integrity_task *)task;

    free(t->report);
    free(t->resend);
}

static int integrity_work(struct control_task *task, struct db_conn *conn, struct err *err)
{
    struct integrity_task *t = (struct integrity_task *)task;

    return integrity_put(conn, task->session->id, t->machine_id, t->report, t->resend, err);
}

static void integrity_then(struct control_task *task)
{
    if (task->rc < 0)
        log_event(LOG_WARN, "integrity_lost", LOG_S("peer", task->session->id), LOG_E(&task->err));
}

static json_t *time_json(uint64_t utc_usec)
{
    char text[CLOCK_RFC3339_SIZE];

    if (utc_usec == 0 || utc_usec > clock_utc_usec() + 86400 * USEC_PER_SEC)
        return json_null();
    clock_rfc3339(utc_usec, text);
    return json_string(text);
}

static json_t *damage_json(const Leeward__Control__V1__Damage *d)
{
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "kind",
        peer_report_json_text(d->kind), "state", peer_report_json_text(d->state), "segment",
        peer_report_json_u64(d->segment), "offset", peer_report_json_u64(d->offset), "stored_bytes",
        peer_report_json_u64(d->stored_bytes), "first_point", peer_report_json_u64(d->first_point), "last_point",
        peer_report_json_u64(d->last_point), "points", peer_report_json_u64(d->points), "disk",
        peer_report_json_u64(d->disk), "start", peer_report_json_u64(d->start), "length_bytes",
        peer_report_json_u64(d->length), "found_at", time_json(d->found_utc_usec), "text",
        peer_report_json_text(d->text));
}

static json_t *report_json(const char *vault_id, const char *machine_id, const Leeward__Control__V1__Integrity *m)
{
    json_t *damages = json_array();

    for (size_t i = 0; i < m->n_damages && i < DAMAGES_MAX; i++)
        json_array_append_new(damages, damage_json(m->damages[i]));
    return json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "machine_id", machine_id,
        "vault_id", vault_id, "pass_started_at", time_json(m->pass_started_utc_usec), "pass_done_bytes",
        peer_report_json_u64(m->pass_done_bytes), "pass_total_bytes", peer_report_json_u64(m->pass_total_bytes),
        "last_started_at", time_json(m->last_started_utc_usec), "last_finished_at",
        time_json(m->last_finished_utc_usec), "damage_count", peer_report_json_u64(m->damage_count), "healed_count",
        peer_report_json_u64(m->healed_count), "damaged_points", peer_report_json_u64(m->damaged_points), "updated_at",
        time_json(clock_utc_usec()), "damages", damages);
}

static json_t *resend_json(const Leeward__Control__V1__Integrity *m)
{
    json_t *resend = json_array();

    for (size_t i = 0; i < m->n_resend && i < RESEND_MAX; i++)
        json_array_append_new(resend,
            json_pack("{s:I, s:o, s:o}", "disk", (json_int_t)m->resend[i]->disk, "start",
                peer_report_json_u64(m->resend[i]->start), "length", peer_report_json_u64(m->resend[i]->length)));
    return resend;
}

static char *dumped(json_t *json)
{
    char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;

    json_decref(json);
    return text;
}

void integrity_report_take(struct peer_session *s, const Leeward__Control__V1__Integrity *m)
{
    struct integrity_task *t;
    struct ident machine;

    if (strcmp(s->role, "vault") != 0 || ident_from_text(m->machine_id, &machine) < 0)
        return;
    t = (struct integrity_task *)control_task_new(sizeof(*t), s->control, s);
    if (!t)
        return;
    t->task.work = integrity_work;
    t->task.then = integrity_then;
    t->task.drop = integrity_drop;
    ident_to_text(&machine, t->machine_id);
    t->report = dumped(report_json(s->id, t->machine_id, m));
    t->resend = dumped(resend_json(m));
    if (t->report && t->resend)
        (void)control_task_submit(&t->task, s->lane);
    else
        control_task_free(&t->task);
}

/* ---- to the agent ---- */

int resend_list_read(struct db_conn *conn, const char *machine_id, struct resend_list *ret_list, struct err *err)
{
    AUTO_PGRESULT PGresult *rows = NULL;
    int n = integrity_resend(conn, machine_id, &rows, err);

    if (n < 0)
        return -1;
    ret_list->count = n > RESEND_RANGES_MAX ? RESEND_RANGES_MAX : (size_t)n;
    ret_list->request = n > 0 ? db_u64(rows, 0, 0) : 0;
    for (size_t i = 0; i < ret_list->count; i++) {
        Leeward__Control__V1__DiskRange *range = &ret_list->ranges[i];

        *range = (Leeward__Control__V1__DiskRange)LEEWARD__CONTROL__V1__DISK_RANGE__INIT;
        range->disk = (uint32_t)db_u64(rows, (int)i, 1);
        range->start = db_u64(rows, (int)i, 2);
        range->length = db_u64(rows, (int)i, 3);
        ret_list->list[i] = range;
    }
    return 0;
}
