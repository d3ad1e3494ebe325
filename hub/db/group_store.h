/* SPDX-License-Identifier: Apache-2.0
 *
 * Consistency groups and their members. A change takes the version that the caller saw (If-Match), 0 = whatever it is now:
 * stale ERR_CONFLICT, absent ERR_NOT_FOUND, name in use ERR_EXISTS. Each change of the list of members gives it a new number and
 * keeps it, for the completeness of group points is told by it. All take part in the caller's transaction, if there is one.
 */
#ifndef HUB_DB_GROUP_STORE_H
#define HUB_DB_GROUP_STORE_H

#include "hub/db/rows.h"
#include "transport/base/ident.h"

#define GROUP_MACHINES_MAX 64u

int group_create(struct db_conn *conn, const struct group_row *row, char ret_id[IDENT_TEXT_SIZE], struct err *err);
/* name, description, interval_usec and freeze_budget_usec of the row with row->id. */
int group_update(struct db_conn *conn, const struct group_row *row, uint64_t if_version, struct err *err);
/* Its points stay the machines' own. */
int group_delete(struct db_conn *conn, const char *id, uint64_t if_version, struct err *err);
/* ERR_EXISTS: it is a member; ERR_REFUSED: of another group, or the group is full. */
int group_join(struct db_conn *conn, const char *id, const char *machine_id, uint64_t if_version, struct err *err);
/* ERR_NOT_FOUND: it is no member. */
int group_leave(struct db_conn *conn, const char *id, const char *machine_id, uint64_t if_version, struct err *err);
/* Simulated machines, the first `most` in the order of their ids, leave their groups. In a transaction. */
int group_leave_simulated(struct db_conn *conn, uint64_t most, struct err *err);

/* What an agent that coordinated says. Nothing happens unless it is a member of that group. */
struct group_news_put {
    const char *machine_id, *group_id, *point_id, *culprit_id, *cause, *remedy; /* ids: UUID text or "" */
    uint64_t made, missed, freeze_usec;
    uint64_t age_usec, point_age_usec; /* since the attempt was over, and since the last point was made: news may be told late */
    bool last_missed;
};
/* News that are older than what is known change nothing. */
int group_news_put(struct db_conn *conn, const struct group_news_put *news, struct err *err);

/* Rows of the group that the machine is in, one per member, the coordinator first: group id, name, number, membership, interval,
 * budget; machine id, name, group endpoint. The caller's. */
int desired_group(struct db_conn *conn, const char *machine_id, PGresult **ret_rows, struct err *err);
/* All members of the machine's group hear of a change. */
int group_members_changed(struct db_conn *conn, const char *machine_id, struct err *err);

/* The member that is asked to make a group point: the first one that is connected, else the first. 0: the group has too few. */
int group_asked_member(struct db_conn *conn, const char *id, char ret_machine_id[IDENT_TEXT_SIZE], struct err *err);

#endif
