/* SPDX-License-Identifier: Apache-2.0
 *
 * Rows to text. Names come from peers: HTML is escaped, and a cell of the CSV that a spreadsheet would take for a formula gets an
 * apostrophe before it.
 */
#include "hub/notify/weekly_report.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "transport/base/buf.h"
#include "transport/base/clock.h"

#define REPORT_MAX (16u * 1024u * 1024u) /* 10,000 machines take 5 MiB as HTML */

void weekly_report_done(struct weekly_report *r)
{
    free(r->html);
    free(r->csv);
    free(r->text);
    *r = (struct weekly_report){0};
}

/* ---- values ---- */

/* Percent of the measured hours in which the target was kept; negative: nothing was promised or measured. */
static double kept_percent(const PGresult *r, int row)
{
    uint64_t hours = db_u64(r, row, RM_HOURS);

    if (hours == 0 || db_u64(r, row, RM_RPO_TARGET) == 0)
        return -1;
    return 100.0 * (double)db_u64(r, row, RM_HOURS_MET) / (double)hours;
}

static void write_percent(double percent, char out[16])
{
    if (percent < 0)
        snprintf(out, 16, "-");
    else
        snprintf(out, 16, "%.1f %%", percent);
}

static void write_bytes(uint64_t bytes, char out[24])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    double v = (double)bytes;
    size_t i = 0;

    for (; v >= 1024 && i + 1 < ARRAY_LEN(units); i++)
        v /= 1024;
    snprintf(out, 24, i ? "%.1f %s" : "%.0f %s", v, units[i]);
}

/* Of all machines that something was promised to. */
static double kept_overall(const PGresult *r, int n)
{
    uint64_t hours = 0, met = 0;

    for (int i = 0; i < n; i++) {
        hours += kept_percent(r, i) < 0 ? 0 : db_u64(r, i, RM_HOURS);
        met += kept_percent(r, i) < 0 ? 0 : db_u64(r, i, RM_HOURS_MET);
    }
    return hours ? 100.0 * (double)met / (double)hours : -1;
}

/* ---- HTML ---- */

static int escape(struct buf *out, const char *text, struct err *err)
{
    for (; *text; text++) {
        const char *as = *text == '<'   ? "&lt;"
                         : *text == '>' ? "&gt;"
                         : *text == '&' ? "&amp;"
                         : *text == '"' ? "&quot;"
                                        : NULL;

        if (as ? buf_append(out, as, strlen(as), err) < 0 : buf_append(out, text, 1, err) < 0)
            return -1;
    }
    return 0;
}

static int cell(struct buf *out, const char *text, struct err *err)
{
    return buf_printf(out, err, "<td>") < 0 || escape(out, text, err) < 0 || buf_printf(out, err, "</td>") < 0 ? -1 : 0;
}

static int html_machine(struct buf *out, const PGresult *r, int i, struct err *err)
{
    char kept[16], changed[24], sent[24];

    write_percent(kept_percent(r, i), kept);
    write_bytes(db_u64(r, i, RM_CHANGED), changed);
    write_bytes(db_u64(r, i, RM_SENT), sent);
    if (buf_printf(out, err, "<tr>") < 0 || cell(out, db_text(r, i, RM_NAME), err) < 0 ||
        cell(out, db_text(r, i, RM_STATE), err) < 0 || cell(out, db_text(r, i, RM_HEALTH), err) < 0 ||
        cell(out, db_text(r, i, RM_POLICY), err) < 0)
        return -1;
    return buf_printf(out, err,
        "<td align=\"right\">%.0f s</td><td align=\"right\">%s</td><td align=\"right\">%.1f s</td>"
        "<td align=\"right\">%.1f s</td><td align=\"right\">%s</td><td align=\"right\">%s</td>"
        "<td align=\"right\">%llu</td><td align=\"right\">%llu</td><td>%.10s</td></tr>\n",
        (double)db_u64(r, i, RM_RPO_TARGET) / 1e6, kept, (double)db_u64(r, i, RM_RPO_MAX) / 1e6,
        (double)db_u64(r, i, RM_RPO_AVERAGE) / 1e6, changed, sent, (unsigned long long)db_u64(r, i, RM_POINTS),
        (unsigned long long)db_u64(r, i, RM_ALERTS),
        *db_text(r, i, RM_LAST_GOOD_DRILL) ? db_text(r, i, RM_LAST_GOOD_DRILL) : "-");
}

static int html_vault(struct buf *out, const PGresult *r, int i, struct err *err)
{
    char used[24], left[24], all[24];

    write_bytes(db_u64(r, i, RV_USED), used);
    write_bytes(db_u64(r, i, RV_FREE), left);
    write_bytes(db_u64(r, i, RV_CAPACITY), all);
    return buf_printf(out, err, "<tr>") < 0 || cell(out, db_text(r, i, RV_NAME), err) < 0 || cell(out, used, err) < 0 ||
                   cell(out, left, err) < 0 || cell(out, all, err) < 0 ||
                   cell(out, *db_text(r, i, RV_FULL_AT) ? db_text(r, i, RV_FULL_AT) : "not in sight", err) < 0 ||
                   buf_printf(out, err, "</tr>\n") < 0
               ? -1
               : 0;
}

struct report_rows {
    PGresult *machines, *totals, *vaults;
    int machine_count, vault_count;
    char from[CLOCK_RFC3339_SIZE], to[CLOCK_RFC3339_SIZE];
};

static void rows_done(struct report_rows *rows)
{
    PQclear(rows->machines);
    PQclear(rows->totals);
    PQclear(rows->vaults);
}

static int html_head(struct buf *out, const struct report_rows *q, struct err *err)
{
    char kept[16];

    write_percent(kept_overall(q->machines, q->machine_count), kept);
    return buf_printf(out, err,
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Leeward: the week up to "
        "%.10s</title></head>"
        "<body>\n<h1>Leeward: the week up to %.10s</h1>\n<p>From %.16s to %.16s UTC.</p>\n"
        "<table border=\"1\" cellpadding=\"4\"><tr><th>RPO kept</th><th>Critical alerts</th><th>Warnings</th>"
        "<th>Jobs done</th><th>Jobs failed</th><th>Drills passed</th><th>Drills not passed</th><th>Machines with a "
        "drill "
        "overdue</th></tr>\n<tr><td>%s of the hours</td><td>%s</td><td>%s</td><td>%s</td>"
        "<td>%s</td><td>%s</td><td>%s</td><td>%s</td></tr></table>\n",
        q->to, q->to, q->from, q->to, kept, db_text(q->totals, 0, RT_CRITICAL), db_text(q->totals, 0, RT_WARNING),
        db_text(q->totals, 0, RT_JOBS_DONE), db_text(q->totals, 0, RT_JOBS_FAILED),
        db_text(q->totals, 0, RT_DRILLS_GOOD), db_text(q->totals, 0, RT_DRILLS_BAD),
        db_text(q->totals, 0, RT_DRILLS_OVERDUE));
}

static int make_html(struct buf *out, const struct report_rows *q, struct err *err)
{
    if (html_head(out, q, err) < 0 ||
        buf_printf(out, err,
            "<h2>Machines</h2>\n<table border=\"1\" cellpadding=\"4\"><tr><th>Machine</th><th>State</th><th>Health</th>"
            "<th>Policy</th><th>RPO target</th><th>Hours kept</th><th>Worst RPO</th><th>Average "
            "RPO</th><th>Changed</th>"
            "<th>Sent</th><th>Points</th><th>Alerts</th><th>Last good drill</th></tr>\n") < 0)
        return -1;
    for (int i = 0; i < q->machine_count; i++)
        if (html_machine(out, q->machines, i, err) < 0)
            return -1;
    if (buf_printf(out, err,
            "</table>\n<h2>Vaults</h2>\n<table border=\"1\" "
            "cellpadding=\"4\"><tr><th>Vault</th><th>Used</th><th>Free</th>"
            "<th>Disk</th><th>Full at</th></tr>\n") < 0)
        return -1;
    for (int i = 0; i < q->vault_count; i++)
        if (html_vault(out, q->vaults, i, err) < 0)
            return -1;
    return buf_printf(out, err, "</table>\n</body></html>\n");
}

/* ---- CSV ---- */

static int csv_cell(struct buf *out, const char *text, struct err *err)
{
    bool formula = *text && strchr("=+-@\t\r", *text);

    if (buf_printf(out, err, formula ? "\"'" : "\"") < 0)
        return -1;
    for (; *text; text++)
        if (buf_append(out, *text == '"' ? "\"\"" : text, *text == '"' ? 2 : 1, err) < 0)
            return -1;
    return buf_printf(out, err, "\",");
}

static int make_csv(struct buf *out, const struct report_rows *q, struct err *err)
{
    const PGresult *r = q->machines;

    if (buf_printf(out, err,
            "machine,state,health,policy,rpo_target_seconds,hours_measured,hours_rpo_kept,rpo_worst_seconds,"
            "rpo_average_seconds,changed_bytes,sent_bytes,recovery_points,alerts,from,to,last_good_drill\r\n") < 0)
        return -1;
    for (int i = 0; i < q->machine_count; i++) {
        for (int c = RM_NAME; c <= RM_POLICY; c++)
            if (csv_cell(out, db_text(r, i, c), err) < 0)
                return -1;
        if (buf_printf(out, err, "%.6g,%s,%s,%.6f,%.6f,%s,%s,%s,%s,%s,%s,%s\r\n",
                (double)db_u64(r, i, RM_RPO_TARGET) / 1e6, db_text(r, i, RM_HOURS), db_text(r, i, RM_HOURS_MET),
                (double)db_u64(r, i, RM_RPO_MAX) / 1e6, (double)db_u64(r, i, RM_RPO_AVERAGE) / 1e6,
                db_text(r, i, RM_CHANGED), db_text(r, i, RM_SENT), db_text(r, i, RM_POINTS), db_text(r, i, RM_ALERTS),
                q->from, q->to, db_text(r, i, RM_LAST_GOOD_DRILL)) < 0)
            return -1;
    }
    return 0;
}

static int make_text(struct buf *out, const struct report_rows *q, struct err *err)
{
    char kept[16];

    write_percent(kept_overall(q->machines, q->machine_count), kept);
    return buf_printf(out, err,
        "The week up to %.10s: the RPO was kept in %s of the hours. %s critical alerts and %s warnings, %s jobs done, "
        "%s failed. "
        "%d machines, %d vaults.\n%s drills passed, %s did not; %s machines wait for one that is overdue.\nThe details "
        "are attached.\n",
        q->to, kept, db_text(q->totals, 0, RT_CRITICAL), db_text(q->totals, 0, RT_WARNING),
        db_text(q->totals, 0, RT_JOBS_DONE), db_text(q->totals, 0, RT_JOBS_FAILED), q->machine_count, q->vault_count,
        db_text(q->totals, 0, RT_DRILLS_GOOD), db_text(q->totals, 0, RT_DRILLS_BAD),
        db_text(q->totals, 0, RT_DRILLS_OVERDUE));
}

/* ---- all of it ---- */

static int render(int (*make)(struct buf *out, const struct report_rows *q, struct err *err),
    const struct report_rows *q, char **ret, struct err *err)
{
    AUTO_BUF struct buf out = BUF_INIT(REPORT_MAX);

    if (make(&out, q, err) < 0)
        return -1;
    *ret = mem_strndup((const char *)out.data, out.len);
    return *ret ? 0 : err_set(err, ERR_NOMEM, "no memory for a report");
}

int weekly_report_make(
    struct db_conn *conn, const struct report_period *period, struct weekly_report *ret_report, struct err *err)
{
    __attribute__((cleanup(rows_done))) struct report_rows q = {0};

    clock_rfc3339(period->from_utc_usec, q.from);
    clock_rfc3339(period->to_utc_usec, q.to);
    q.machine_count = report_machines(conn, period, &q.machines, err);
    if (q.machine_count < 0 || report_totals(conn, period, &q.totals, err) < 0)
        return -1;
    q.vault_count = report_vaults(conn, &q.vaults, err);
    if (q.vault_count < 0)
        return -1;
    return render(make_html, &q, &ret_report->html, err) < 0 || render(make_csv, &q, &ret_report->csv, err) < 0 ||
                   render(make_text, &q, &ret_report->text, err) < 0
               ? -1
               : 0;
}

int weekly_report_send(struct db_conn *conn, const struct report_period *period, struct err *err)
{
    AUTO_WEEKLY_REPORT struct weekly_report report = {0};
    json_t *body;

    if (weekly_report_make(conn, period, &report, err) < 0)
        return -1;
    body = json_pack(
        "{s:s, s:s, s:s, s:s}", "subject", "the week", "text", report.text, "html", report.html, "csv", report.csv);
    AUTO_FREE char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;

    json_decref(body);
    return text ? report_queue(conn, text, err) : err_set(err, ERR_NOMEM, "no memory for a report");
}

int weekly_report_look(struct db_conn *conn, struct err *err)
{
    struct report_period week = {0};
    int rc;

    if (db_begin(conn, err) < 0)
        return -1;
    rc = report_is_due(conn, &week.to_utc_usec, err);
    if (rc > 0) {
        week.from_utc_usec = week.to_utc_usec - WEEKLY_REPORT_USEC;
        rc = weekly_report_send(conn, &week, err);
    }
    if (rc < 0) {
        db_rollback(conn);
        return -1;
    }
    return db_commit(conn, err);
}
