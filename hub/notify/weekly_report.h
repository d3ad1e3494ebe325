/* SPDX-License-Identifier: Apache-2.0
 *
 * The report of a week: how the RPO was kept, what changed and was sent, alerts, jobs, room in the vaults. As HTML for people (plain
 * tables, no style and no script, so that it looks the same in a mail and under a strict CSP), as CSV for spreadsheets (RFC 4180, one
 * line per machine), and as the text of a mail.
 */
#ifndef HUB_NOTIFY_WEEKLY_REPORT_H
#define HUB_NOTIFY_WEEKLY_REPORT_H

#include "hub/db/report_store.h"
#include "transport/base/mem.h"

#define WEEKLY_REPORT_USEC (7 * 24 * 3600 * 1000000ULL)

struct weekly_report {
    char *html, *csv, *text;
};

int weekly_report_make(
    struct db_conn *conn, const struct report_period *period, struct weekly_report *ret_report, struct err *err);
void weekly_report_done(struct weekly_report *report);
#define AUTO_WEEKLY_REPORT __attribute__((cleanup(weekly_report_done)))

/* Queues it to each channel that wants it. Returns how many. */
int weekly_report_send(struct db_conn *conn, const struct report_period *period, struct err *err);
/* Makes and queues the one that is due, if one is, in a transaction of its own. */
int weekly_report_look(struct db_conn *conn, struct err *err);

#endif
