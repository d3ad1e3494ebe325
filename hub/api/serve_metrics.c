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

/* The value of the i-th family for one machine; false: it has none. */
static bool machine_value(struct request *r, const struct machine_row *m, size_t i, double *ret_value)
{
    struct live_machine live = {0};
    bool heard = live_status_machine(r->services->conf->live, m->id, &live);
    uint64_t point_at = heard && live.last_point_utc_usec ? live.last_point_utc_usec : m->last_point_at;
    uint64_t now = clock_utc_usec(), rpo = now > point_at ? now - point_at : 0;
    bool has_rpo = point_at != 0 && strcmp(m->state, "unprotected") != 0;
    const double values[] = {(double)rpo / 1e6, (double)point_at / 1e6,
        (double)(heard ? live.backlog_bytes : m->backlog_bytes), m->online, health_number(m->health),
        (double)live.sent_bytes, (double)live.changed_bytes, (double)live.points_made, (double)live.points_frozen};

    _Static_assert(ARRAY_LEN(values) == ARRAY_LEN(machine_families), "one value per family");
    *ret_value = values[i];
    return i == 0 ? has_rpo : i == 1 ? point_at != 0 : i < 5 || heard;
}

static int write_gauge(
    struct buf *out, const struct family *f, const char *label_text, double value, bool first, struct err *err)
{
    if (first && buf_printf(out, err, "# HELP %s %s\n# TYPE %s %s\n", f->name, f->help, f->name, f->type) < 0)
        return -1;
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
        bool first = true;

        for (size_t k = 0; k < p.count; k++)
            for (size_t n = 0; n < p.sets[k].count; n++) {
                const struct machine_row *m = db_at(&p.sets[k], struct machine_row, n);
                double value;

                if (!machine_value(r, m, i, &value))
                    continue;
                labels(m->id, m->name, "machine", text);
                if (write_gauge(out, &machine_families[i], text, value, first, err) < 0)
                    return -1;
                first = false;
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
    };
    __attribute__((cleanup(pages_done))) struct pages p = {0};
    char text[LABELS_SIZE];

    if (pages_read(r, &db_nodes, &p, err) < 0)
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(families); i++)
        for (size_t k = 0; k < p.count; k++)
            for (size_t n = 0; n < p.sets[k].count; n++) {
                const struct node_row *row = db_at(&p.sets[k], struct node_row, n);
                const double values[] = {
                    row->online, (double)row->spool_bytes, (double)row->spool_limit_bytes, (double)row->streams};

                labels(row->id, row->name, "node", text);
                if (write_gauge(out, &families[i], text, values[i], k == 0 && n == 0, err) < 0)
                    return -1;
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
    };
    __attribute__((cleanup(pages_done))) struct pages p = {0};
    char text[LABELS_SIZE];

    if (pages_read(r, &db_vaults, &p, err) < 0)
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(families); i++)
        for (size_t k = 0; k < p.count; k++)
            for (size_t n = 0; n < p.sets[k].count; n++) {
                const struct vault_row *row = db_at(&p.sets[k], struct vault_row, n);
                const double values[] = {row->online, row->accepting, (double)row->used_bytes, (double)row->free_bytes};

                labels(row->id, row->name, "vault", text);
                if (write_gauge(out, &families[i], text, values[i], k == 0 && n == 0, err) < 0)
                    return -1;
            }
    return 0;
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
        write_nodes(r, &out, err) < 0 || write_vaults(r, &out, err) < 0)
        return -1;
    if (!(text = mem_strndup((const char *)out.data, out.len)))
        return err_set(err, ERR_NOMEM, "no memory for the metrics");
    return reply_text(r, 200, "text/plain; version=0.0.4; charset=utf-8", text, out.len);
}
