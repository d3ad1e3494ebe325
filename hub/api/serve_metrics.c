/* SPDX-License-Identifier: Apache-2.0
 *
 * /metrics: what the API counts, and one row of gauges per machine, node and vault, read page by page. Labels carry ids
 * and names of things that stay, never of points. Text: Prometheus exposition format 0.0.4.
 */
#include "hub/api/serve.h"

#include <stdio.h>
#include <string.h>

#include "hub/api/api_metrics.h"
#include "hub/control/live_status.h"
#include "hub/core/skew.h"
#include "hub/db/overview_store.h"
#include "hub/db/rows.h"
#include "transport/base/clock.h"

#define METRICS_MAX (32u * 1024u * 1024u) /* 10,000 machines with twelve lines of 150 bytes are 18 MiB */
#define LABELS_SIZE 400u

/* id and name as labels; quotes, backslashes and line ends escaped. */
static void labels(const char *id, const char *name, const char *kind, char out[LABELS_SIZE])
{
    size_t n = (size_t)snprintf(out, LABELS_SIZE, "{%s=\"%s\",name=\"", kind, id);

    for (; *name && n < LABELS_SIZE - 8; name++) {
        if (*name == '"' || *name == '\\')
            out[n++] = '\\';
        out[n++] = *name == '\n' ? ' ' : *name;
    }
    memcpy(out + n, "\"}", 3);
}

struct family {
    const char *name, *type, *help;
};

static const struct family machine_families[] = {
    {"leeward_machine_rpo_seconds", "gauge", "Age of the last committed recovery point."},
    {"leeward_machine_last_point_timestamp_seconds", "gauge", "Time of the last committed recovery point."},
    {"leeward_machine_backlog_bytes", "gauge", "Changed and not yet committed in the vault."},
    {"leeward_machine_online", "gauge", "1 while the agent's session is open."},
    {"leeward_machine_protected", "gauge", "1 while a policy protects it."},
    {"leeward_machine_clock_skew_seconds", "gauge", "How far its clock is ahead of the hub's."},
    {"leeward_machine_damaged_places", "gauge", "Places of its history in the vault that cannot be read."},
    {"leeward_machine_rpo_target_seconds", "gauge", "What its policy promises, while it has points and is replicated."},
    {"leeward_machine_health", "gauge", "0 healthy, 1 warning, 2 critical, 3 unknown."},
    {"leeward_machine_sent_bytes_total", "counter", "Sent to the node since the agent started."},
    {"leeward_machine_changed_bytes_total", "counter", "Changed on protected disks since the agent started."},
    {"leeward_machine_points_total", "counter", "Recovery points made since the agent started."},
    {"leeward_machine_frozen_points_total", "counter", "Those of them that needed a freeze."},
};

static double health_number(const char *health)
{
    static const char *const names[] = {"healthy", "warning", "critical"};

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (strcmp(names[i], health) == 0)
            return (double)i;
    return 3;
}

/* Families from here on are of agents that were heard of since this hub started. */
#define HEARD_FAMILIES 9u

/* The value of the i-th family for one machine; false: it has none. */
static bool machine_value(struct request *r, const struct machine_row *m, size_t i, double *ret_value)
{
    struct live_machine live = {0};
    bool heard = live_status_machine(r->services->conf->live, m->id, &live);
    uint64_t point_at = heard && live.last_point_utc_usec ? live.last_point_utc_usec : m->last_point_at;
    uint64_t rpo = skew_age_usec(clock_utc_usec(), point_at, m->point_skew_usec);
    bool protected = m->policy_id[0] != 0, has_rpo = point_at != 0 && strcmp(m->state, "unprotected") != 0;
    const double values[] = {(double)rpo / 1e6, (double)point_at / 1e6,
        (double)(heard ? live.backlog_bytes : m->backlog_bytes), m->online, protected, (double)m->clock_skew_usec / 1e6,
        (double)m->damage_count, (double)m->rpo_target_usec / 1e6, health_number(m->health), (double)live.sent_bytes,
        (double)live.changed_bytes, (double)live.points_made, (double)live.points_frozen};

    _Static_assert(ARRAY_LEN(values) == ARRAY_LEN(machine_families), "one value per family");
    *ret_value = values[i];
    switch (i) {
    case 0:
        return has_rpo;
    case 1:
        return point_at != 0;
    case 7:
        return m->has_rpo;
    default:
        return i < HEARD_FAMILIES || heard;
    }
}

/* Also where there is no sample yet, so that rules and dashboards find the name. */
static int write_head(struct buf *out, const struct family *f, struct err *err)
{
    return buf_printf(out, err, "# HELP %s %s\n# TYPE %s %s\n", f->name, f->help, f->name, f->type);
}

static int write_sample(struct buf *out, const struct family *f, const char *label_text, double value, struct err *err)
{
    return buf_printf(out, err, "%s%s %.17g\n", f->name, label_text, value);
}

/* A family must be written in one piece, so all pages are read first; each costs about 1 KiB per machine. */
#define PAGES_MAX 40u

struct pages {
    struct db_set sets[PAGES_MAX];
    size_t count;
};

static void pages_done(struct pages *p)
{
    for (size_t i = 0; i < p->count; i++)
        db_set_done(&p->sets[i]);
}

static int pages_read(struct request *r, const struct db_entity *entity, struct pages *p, struct err *err)
{
    const char *cursor = NULL;

    do {
        const struct db_page page = {.cursor = cursor, .limit = 500};

        if (db_list(r->conn, entity, &page, &p->sets[p->count], err) < 0)
            return -1;
        cursor = p->sets[p->count++].next;
    } while (cursor && p->count < PAGES_MAX);
    return 0;
}

static int write_machines(struct request *r, struct buf *out, struct err *err)
{
    __attribute__((cleanup(pages_done))) struct pages p = {0};
    char text[LABELS_SIZE];

    if (pages_read(r, &db_machines, &p, err) < 0)
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(machine_families); i++) {
        if (write_head(out, &machine_families[i], err) < 0)
            return -1;
        for (size_t k = 0; k < p.count; k++)
            for (size_t n = 0; n < p.sets[k].count; n++) {
                const struct machine_row *m = db_at(&p.sets[k], struct machine_row, n);
                double value;

                if (!machine_value(r, m, i, &value))
                    continue;
                labels(m->id, m->name, "machine", text);
                if (write_sample(out, &machine_families[i], text, value, err) < 0)
                    return -1;
            }
    }
    return 0;
}

static int write_nodes(struct request *r, struct buf *out, struct err *err)
{
    static const struct family families[] = {
        {"leeward_node_online", "gauge", "1 while the node's session is open."},
        {"leeward_node_spool_bytes", "gauge", "Bytes in the spool."},
        {"leeward_node_spool_limit_bytes", "gauge", "Size of the spool."},
        {"leeward_node_streams", "gauge", "Machines that send to it now."},
        {"leeward_node_health", "gauge", "0 healthy, 1 warning, 2 critical, 3 unknown."},
        {"leeward_node_cpu_ratio", "gauge", "Share of one processor that it takes."},
        {"leeward_node_machines", "gauge", "Machines that are placed on it."},
        {"leeward_node_received_bytes_total", "counter", "Received from agents since it started."},
        {"leeward_node_forwarded_bytes_total", "counter", "Forwarded to vaults since it started."},
        {"leeward_node_clock_skew_seconds", "gauge", "How far its clock is ahead of the hub's."},
    };
    __attribute__((cleanup(pages_done))) struct pages p = {0};
    char text[LABELS_SIZE];

    if (pages_read(r, &db_nodes, &p, err) < 0)
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(families); i++) {
        if (write_head(out, &families[i], err) < 0)
            return -1;
        for (size_t k = 0; k < p.count; k++)
            for (size_t n = 0; n < p.sets[k].count; n++) {
                const struct node_row *row = db_at(&p.sets[k], struct node_row, n);
                const double values[] = {row->online, (double)row->spool_bytes, (double)row->spool_limit_bytes,
                    (double)row->streams, health_number(row->health), (double)row->cpu_permille / 1e3,
                    (double)row->machine_count, (double)row->received_bytes, (double)row->forwarded_bytes,
                    (double)row->clock_skew_usec / 1e6};

                labels(row->id, row->name, "node", text);
                if (write_sample(out, &families[i], text, values[i], err) < 0)
                    return -1;
            }
    }
    return 0;
}

static int write_vaults(struct request *r, struct buf *out, struct err *err)
{
    static const struct family families[] = {
        {"leeward_vault_online", "gauge", "1 while the vault's session is open."},
        {"leeward_vault_accepting", "gauge", "0 when its disk is full."},
        {"leeward_vault_used_bytes", "gauge", "Bytes stored."},
        {"leeward_vault_free_bytes", "gauge", "Bytes free on its disk."},
        {"leeward_vault_capacity_bytes", "gauge", "Size of its disk."},
        {"leeward_vault_health", "gauge", "0 healthy, 1 warning, 2 critical, 3 unknown."},
        {"leeward_vault_machines", "gauge", "Machines whose points it keeps."},
        {"leeward_vault_streams", "gauge", "Machines whose data comes in now."},
        {"leeward_vault_clock_skew_seconds", "gauge", "How far its clock is ahead of the hub's."},
    };
    __attribute__((cleanup(pages_done))) struct pages p = {0};
    char text[LABELS_SIZE];

    if (pages_read(r, &db_vaults, &p, err) < 0)
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(families); i++) {
        if (write_head(out, &families[i], err) < 0)
            return -1;
        for (size_t k = 0; k < p.count; k++)
            for (size_t n = 0; n < p.sets[k].count; n++) {
                const struct vault_row *row = db_at(&p.sets[k], struct vault_row, n);
                const double values[] = {row->online, row->accepting, (double)row->used_bytes, (double)row->free_bytes,
                    (double)row->capacity_bytes, health_number(row->health), (double)row->machine_count,
                    (double)row->streams, (double)row->clock_skew_usec / 1e6};

                labels(row->id, row->name, "vault", text);
                if (write_sample(out, &families[i], text, values[i], err) < 0)
                    return -1;
            }
    }
    return 0;
}

static int write_fleet(struct request *r, struct buf *out, struct err *err)
{
    static const struct family families[] = {
        {"leeward_alert_deliveries", "gauge", "Messages to channels that are kept, by what became of them."},
        {"leeward_alerts", "gauge", "Open alerts."},
        {"leeward_certificate_expiry_timestamp_seconds", "gauge", "When the first certificate of the role expires."},
        {"leeward_copy_behind_seconds", "gauge",
            "How much older the newest point of a copy in another vault is than the machine's own."},
        {"leeward_drill_machines", "gauge",
            "Machines that a drill on a schedule has, by how fresh their last good one is."},
        {"leeward_machine_last_good_drill_timestamp_seconds", "gauge", "Time of the last test failover that came up."},
        {"leeward_jobs", "gauge", "Jobs that are not over."},
        {"leeward_jobs_failed_last_day", "gauge", "Jobs that failed within the last 24 hours."},
        {"leeward_vault_full_timestamp_seconds", "gauge", "When its disk is full at the present rate."},
    };
    AUTO_PGRESULT PGresult *rows = NULL;
    int n = overview_metrics(r->conn, &rows, err);

    for (size_t i = 0; n >= 0 && i < ARRAY_LEN(families); i++) {
        if (write_head(out, &families[i], err) < 0)
            return -1;
        for (int row = 0; row < n; row++)
            if (strcmp(db_text(rows, row, 0), families[i].name) == 0 &&
                buf_printf(out, err, "%s%s %s\n", families[i].name, db_text(rows, row, 1), db_text(rows, row, 2)) < 0)
                return -1;
    }
    return n < 0 ? -1 : 0;
}

static int write_sessions(struct request *r, struct buf *out, struct err *err)
{
    struct live_counts counts = {0};

    live_status_counts(r->services->conf->live, &counts);
    return buf_printf(out, err,
        "# HELP leeward_sessions Sessions that are open with this hub.\n# TYPE leeward_sessions gauge\n"
        "leeward_sessions{role=\"agent\"} %zu\nleeward_sessions{role=\"node\"} %zu\nleeward_sessions{role=\"vault\"} "
        "%zu\n",
        counts.agents, counts.nodes, counts.vaults);
}

int serve_metrics(struct request *r, struct err *err)
{
    AUTO_BUF struct buf out = BUF_INIT(METRICS_MAX);
    char *text;

    if (buf_printf(&out, err,
            "# HELP leeward_build_info Version of the hub.\n# TYPE leeward_build_info gauge\n"
            "leeward_build_info{version=\"%s\"} 1\n",
            LEEWARD_VERSION) < 0 ||
        api_metrics_write(r->services->metrics, &out, err) < 0 || write_machines(r, &out, err) < 0 ||
        write_nodes(r, &out, err) < 0 || write_vaults(r, &out, err) < 0 || write_fleet(r, &out, err) < 0 ||
        write_sessions(r, &out, err) < 0)
        return -1;
    if (!(text = mem_strndup((const char *)out.data, out.len)))
        return err_set(err, ERR_NOMEM, "no memory for the metrics");
    return reply_text(r, 200, "text/plain; version=0.0.4; charset=utf-8", text, out.len);
}
