/* SPDX-License-Identifier: Apache-2.0
 *
 * Each table is walked once. Who was not heard of for a minute is not online, whatever its row says (as in rows.c).
 */
#include "hub/db/status_store.h"

#define IS_ONLINE "online AND last_seen_at > now() - interval '60 seconds'"

int status_counts_read(struct db_conn *conn, struct status_counts *ret_counts, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    uint64_t *const members[] = {&ret_counts->machines, &ret_counts->protected_machines, &ret_counts->replicating,
        &ret_counts->attention, &ret_counts->unprotected, &ret_counts->nodes, &ret_counts->nodes_online,
        &ret_counts->vaults, &ret_counts->vaults_online, &ret_counts->jobs_running, &ret_counts->jobs_waiting};

    if (db_exec(conn, &r, err,
            "SELECT m.*, n.*, v.*, j.* FROM (SELECT count(*), count(*) FILTER (WHERE state = 'protected'),"
            " count(*) FILTER (WHERE state IN ('enabling', 'initial_replication', 'resynchronizing')),"
            " count(*) FILTER (WHERE health IN ('warning', 'critical')),"
            " count(*) FILTER (WHERE state = 'unprotected') FROM machines) m,"
            " (SELECT count(*), count(*) FILTER (WHERE " IS_ONLINE ") FROM nodes) n,"
            " (SELECT count(*), count(*) FILTER (WHERE " IS_ONLINE ") FROM vaults) v,"
            " (SELECT count(*) FILTER (WHERE status <> 'waiting_for_input'),"
            " count(*) FILTER (WHERE status = 'waiting_for_input') FROM jobs"
            " WHERE status IN ('queued', 'running', 'waiting_for_input')) j") < 0)
        return -1;
    for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++)
        *members[i] = db_u64(r, 0, (int)i);
    return 0;
}
