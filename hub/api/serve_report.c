/* SPDX-License-Identifier: Apache-2.0
 *
 * Reports, to look at, to keep, and to send.
 */
#include "hub/api/serve.h"

#include <string.h>

#include "hub/notify/weekly_report.h"
#include "transport/base/clock.h"

static int read_period(struct request *r, struct report_period *ret_period, struct err *err)
{
    const char *until = request_query(r, "until");

    ret_period->to_utc_usec = clock_utc_usec();
    if (until && clock_parse_rfc3339(until, &ret_period->to_utc_usec, NULL) < 0)
        return request_fault(r, err, "until", "format", "is not a time like 2026-11-21T05:00:00Z");
    if (ret_period->to_utc_usec < WEEKLY_REPORT_USEC)
        return request_fault(r, err, "until", "out_of_range", "is too long ago");
    ret_period->from_utc_usec = ret_period->to_utc_usec - WEEKLY_REPORT_USEC;
    return 0;
}

int serve_report_weekly(struct request *r, struct err *err)
{
    AUTO_WEEKLY_REPORT struct weekly_report report = {0};
    const char *format = request_query(r, "format");
    bool csv = format && strcmp(format, "csv") == 0;
    struct report_period period;
    char *text;

    if (read_period(r, &period, err) < 0 || weekly_report_make(r->conn, &period, &report, err) < 0)
        return -1;
    text = csv ? TAKE_PTR(report.csv) : TAKE_PTR(report.html);
    return reply_text(r, 200, csv ? "text/csv; charset=utf-8" : "text/html; charset=utf-8", text, strlen(text));
}

int serve_report_send(struct request *r, struct err *err)
{
    uint64_t now = clock_utc_usec();
    const struct report_period period = {now - WEEKLY_REPORT_USEC, now};
    int n = weekly_report_send(r->conn, &period, err);

    if (n < 0)
        return -1;
    if (n == 0) {
        err_set(err, ERR_REFUSED, "no channel wants the weekly report");
        return err_hint(err, "Set weekly_report of a channel for mail: leeward channel set NAME --weekly-report yes.");
    }
    return reply_json(r, 202, json_pack("{s:i}", "queued", n), err);
}
