/* SPDX-License-Identifier: Apache-2.0
 *
 * What health is computed from, where it is stored, the duty of computing it, and what is kept for a time only.
 */
#ifndef HUB_DB_HEALTH_STORE_H
#define HUB_DB_HEALTH_STORE_H

#include "hub/core/text_value.h"
#include "hub/db/db.h"

/* The columns of health_machines, nodes and vaults. `silent` is -1 where nobody was ever heard, CERT_LEFT 0 where no certificate is
 * known, BARE whether the cause is stored without values; the first seven are the same for all three. */
enum health_machine_column {
    HM_ID,
    HM_NAME,
    HM_HEALTH,
    HM_CAUSE,
    HM_BARE,
    HM_CERT_LEFT,
    HM_SILENT,
    HM_STATE,
    HM_RPO,
    HM_RPO_TARGET,
    HM_SKEW,
    HM_AGENT_STATE,
    HM_AGENT_CAUSE,
    HM_AGENT_REMEDY,
    HM_NODE_ONLINE,
    HM_VAULT_ONLINE,
    HM_VAULT_ACCEPTING,
    HM_HAS_POINT,
    HM_DAMAGES,
    HM_DAMAGED_POINTS,
    HM_ENCRYPTED,
    HM_FS_INTERVAL,
    HM_FS_AGE,
    HM_APP_INTERVAL,
    HM_APP_AGE,
};
enum health_node_column { HN_SILENT = HM_SILENT, HN_SPOOL, HN_LIMIT, HN_CAUSE, HN_REMEDY, HN_SKEW };
enum health_vault_column {
    HV_SILENT = HM_SILENT,
    HV_ACCEPTING,
    HV_FREE,
    HV_CAPACITY,
    HV_FULL_IN,
    HV_CAUSE,
    HV_REMEDY,
    HV_SKEW
};

/* The columns of health_groups. Ages in microseconds; NEWS is -1 where its coordinator told nothing yet; ABSENT, its state, CULPRIT "" where there is none. */
enum health_group_column {
    HG_ID,
    HG_NAME,
    HG_CODE,
    HG_CAUSE,
    HG_INTERVAL,
    HG_MEMBERS,
    HG_FIRST_COPY,
    HG_AGE,
    HG_LIST_AGE,
    HG_TOLD_AGE,
    HG_ABSENT,
    HG_ABSENT_STATE,
    HG_NEWS,
    HG_MISSED,
    HG_CULPRIT,
    HG_NEWS_CAUSE,
    HG_NEWS_REMEDY
};

/* Machines in the order of their ids, HEALTH_PAGE at most, from the first one behind that id on: all at once, of ten thousand, would keep a processor
 * for longer than anybody shall wait for the API. */
#define HEALTH_PAGE 250
#define HEALTH_FIRST "00000000-0000-0000-0000-000000000000"
int health_machines(struct db_conn *conn, const char *after_id, PGresult **ret_rows, struct err *err);
/* Columns: 0 id of a machine that is drilled on a schedule, 1 for how long its drill is overdue (0: it is not); in the order of the ids as texts. */
int health_drills(struct db_conn *conn, PGresult **ret_rows, struct err *err);
int health_nodes(struct db_conn *conn, PGresult **ret_rows, struct err *err);
int health_vaults(struct db_conn *conn, PGresult **ret_rows, struct err *err);
/* Groups in the order of their ids, HEALTH_GROUP_PAGE at most, from the first one behind that id on: each asks for the last points of its members, which takes a third of a millisecond,
 * and some tens of them where members have thousands that they do not share. */
#define HEALTH_GROUP_PAGE 25
int health_groups(struct db_conn *conn, const char *after_id, PGresult **ret_rows, struct err *err);
/* How many peers are there, and the middle one of the skews of their clocks: an even number of them gives the lower one. Each
 * was measured with the clock of the hub that has its session: with several hubs, or none for 15 seconds, they are nobody's jury, and there are 0. */
int health_clocks(struct db_conn *conn, uint64_t *ret_peers, int64_t *ret_middle_usec, struct err *err);

/* role: "agent", "node", "vault", "group". A group has no level of its own; the value "age_seconds" of its finding says since when it lacks a point, which is kept while
 * it has a finding, whatever list of members comes. */
struct health_put {
    const char *role, *id, *level, *code, *cause, *remedy;
    const struct text_value *values; /* of cause and remedy; NULL: none */
};
int health_put(struct db_conn *conn, const struct health_put *health, struct err *err);

/* This hub is there; any of them says so before it tries for the sweep. */
int hub_is_here(struct db_conn *conn, const char *instance, struct err *err);
/* To be called again and again during a sweep that may be long: hubs say every few seconds that they are there and that somebody looks after the nodes (`placement_watch`) and
 * alerts (`alert_sweep`), or silence means nothing any more. *at_usec: when that was said last, by the monotonic clock, which is now_usec; nothing is said within three seconds. */
int sweep_goes_on(struct db_conn *conn, const char *instance, uint64_t *at_usec, uint64_t now_usec, struct err *err);
/* The duty of the sweep, held by the connection until sweep_end. 1: ours; 0: another hub has it. */
int sweep_begin(struct db_conn *conn, struct err *err);
void sweep_end(struct db_conn *conn);

#endif
