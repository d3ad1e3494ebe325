/* SPDX-License-Identifier: Apache-2.0
 *
 * A bounded number of rows per call, so that no statement runs for long, however large the fleet was. Rows that refer to a machine
 * go with it; those of nodes and vaults are gone once their machines are.
 */
#include "hub/db/simulation_store.h"

#include "hub/db/group_store.h"
#include "hub/db/news.h"

/* Deletes what the condition names, revokes its certificates, and answers how many there were. */
#define REMOVE(table, where)                                                                                           \
    "WITH gone AS (DELETE FROM " table " t WHERE " where " RETURNING t.id),"                                           \
    " revoked AS (UPDATE certificates c SET revoked_at = now(), revoke_reason = 'deleted' FROM gone"                   \
    " WHERE c.subject_id = gone.id AND c.revoked_at IS NULL) SELECT count(*) FROM gone"

/* n: what db_exec answered. */
static int count_of(PGresult *const *r, int n, uint64_t *ret_count)
{
    if (n < 0)
        return -1;
    *ret_count = db_u64(*r, 0, 0);
    return 0;
}

static int remove_machines(struct db_conn *conn, uint64_t most, uint64_t *ret_count, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    int n;

    if (group_leave_simulated(conn, most, err) < 0)
        return -1;
    n = db_exec(conn, &r, err,
        REMOVE("machines", "t.id IN (SELECT id FROM machines WHERE simulated ORDER BY id LIMIT $1::bigint)"),
        DB_U(most));
    return count_of(&r, n, ret_count);
}

static int remove_peers(struct db_conn *conn, struct simulation_removed *out, struct err *err)
{
    AUTO_PGRESULT PGresult *nodes = NULL;
    AUTO_PGRESULT PGresult *vaults = NULL;

    if (count_of(&nodes,
            db_exec(conn, &nodes, err,
                REMOVE("nodes", "t.simulated AND NOT EXISTS (SELECT 1 FROM protections p WHERE p.node_id = t.id)")),
            &out->nodes) < 0)
        return -1;
    return count_of(&vaults,
        db_exec(conn, &vaults, err,
            REMOVE("vaults", "t.simulated AND NOT EXISTS (SELECT 1 FROM protections p WHERE p.vault_id = t.id)")),
        &out->vaults);
}

static int read_remaining(struct db_conn *conn, uint64_t *ret_remaining, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    int n = db_exec(conn, &r, err, "SELECT count(*) FROM machines WHERE simulated");

    return count_of(&r, n, ret_remaining);
}

int simulation_remove(struct db_conn *conn, uint64_t most, struct simulation_removed *ret_removed, struct err *err)
{
    *ret_removed = (struct simulation_removed){0};
    if (remove_machines(conn, most, &ret_removed->machines, err) < 0 ||
        read_remaining(conn, &ret_removed->remaining, err) < 0)
        return -1;
    if (ret_removed->remaining == 0 && remove_peers(conn, ret_removed, err) < 0)
        return -1;
    return news_tell(conn, NEWS_CERTIFICATES, err);
}
