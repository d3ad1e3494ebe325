/* SPDX-License-Identifier: Apache-2.0
 *
 * The sweep's side of alerts: the limits that people set, findings against the alerts that are open, what changed written in one
 * transaction. On the sweep's worker thread, by the hub that has the duty.
 */
#ifndef HUB_CONTROL_ALERT_WATCH_H
#define HUB_CONTROL_ALERT_WATCH_H

#include <jansson.h>

#include "hub/core/alert.h"
#include "hub/db/db.h"

#define ALERT_WATCH_NAMED 3u
struct alert_watch {
    struct health_limits limits; /* from the settings */
    struct alert_timing timing;
    PGresult *open; /* alert_store.h */
    int open_count;
    bool *seen; /* by row of `open`: there is a finding for it */
    json_t *changed, *forgotten;
    uint64_t now_usec, before_usec; /* of this sweep and the one before */
    int64_t hub_behind_usec;        /* skew.h: to be taken off the skew of each peer */
    uint64_t clock_peers;           /* whose clocks were asked */
    unsigned raised, resolved;
    struct {
        char name[61];
        const char *code;
    } first[ALERT_WATCH_NAMED]; /* of what was raised */
    bool critical;
};

/* What a finding is about. */
struct alert_subject {
    const char *kind; /* "machine", "node", "vault", "group", "hub" */
    const char *id, *name;
    const char *detail; /* tells alerts of one code on one subject apart; "" for most */
};

/* Reads settings and open alerts. End it with alert_watch_done in any case. */
int alert_watch_begin(struct db_conn *conn, struct alert_watch *watch, struct err *err);
void alert_watch_done(struct alert_watch *watch);
#define AUTO_ALERT_WATCH __attribute__((cleanup(alert_watch_done)))

/* Everything that is wrong with one subject now. -1: no memory. */
int alert_watch_findings(struct alert_watch *watch, const struct alert_subject *subject,
    const struct health_findings *found, struct err *err);
/* Takes what is not health (failed jobs, certificates of hubs), clears what has no finding any more, and stores it all, with an event
 * when anything was raised or resolved. */
int alert_watch_end(struct db_conn *conn, struct alert_watch *watch, struct err *err);

#endif
