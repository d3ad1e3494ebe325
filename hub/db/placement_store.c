/* SPDX-License-Identifier: Apache-2.0
 *
 * SQL of placement. A node whose session is over for ten seconds is gone, and so is one that says nothing for twenty in a session
 * that seems to be there; together with a look every five seconds this keeps the promise of half a minute. Where it is the hub of its
 * session that is gone, which other hubs see by what each of them writes with every look, the node is given time to come to another one:
 * all nodes of a killed hub are silent at once, and come back as fast as sessions are let in.
 */
#include "hub/db/placement_store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hub/db/news.h"
#include "transport/base/mem.h"

#define SETTLED_SECONDS "30"
#define LOOK_PAUSE_SECONDS "20"
#define HUB_SILENT_SECONDS "15" /* three looks */
#define COME_BACK_SECONDS "45"  /* to another hub */

/* No hub is known of nodes that had their session before hubs wrote themselves down. */
#define HUB_IS_THERE                                                                                                   \
    "(n.session_hub IS NULL OR EXISTS (SELECT 1 FROM hub_processes h WHERE h.process_id = n.session_hub"               \
    " AND h.seen_at > now() - interval '" HUB_SILENT_SECONDS " seconds'))"

/* Whose session is over, or who says nothing in one; see above. */
#define IS_GONE                                                                                                        \
    "(n.last_seen_at IS NULL OR n.last_seen_at < now() - CASE WHEN " HUB_IS_THERE                                      \
    " THEN interval '20 seconds' ELSE interval '" COME_BACK_SECONDS " seconds' END"                                    \
    " OR (NOT n.online AND n.last_seen_at < now() - interval '10 seconds'))"

/* Before that nobody believes that a node is gone: the hubs may have been away, and nodes need time to come back. */
#define IS_SETTLED "since < now() - interval '" SETTLED_SECONDS " seconds'"

#define USEC_SINCE(t) "(extract(epoch FROM now() - " t ") * 1000000)::bigint"

/* Who was away for that long has not looked. */
#define LOOKED_SINCE                                                                                                   \
    "since = CASE WHEN seen_at < now() - interval '" LOOK_PAUSE_SECONDS " seconds' THEN now() ELSE since END"

/* Not back: a clock that was set back meanwhile is told by it (clock_store.h). */
int placement_watching(struct db_conn *conn, struct err *err)
{
    static const char sql[] = "UPDATE placement_watch SET " LOOKED_SINCE ", seen_at = greatest(seen_at, now())";

    return db_exec(conn, NULL, err, sql) < 0 ? -1 : 0;
}

static int note_look(struct db_conn *conn, struct placement_fleet *ret_fleet, int64_t *ret_minute, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;

    if (db_exec(conn, &r, err,
            "UPDATE placement_watch SET " LOOKED_SINCE ", seen_at = now()"
            " RETURNING " IS_SETTLED ","
            " coalesce((SELECT " USEC_SINCE("max(node_since)") " FROM protections"
                                                               " WHERE node_reason IN ('balance', 'site')), -1),"
                                                               " round(extract(epoch FROM now()) / 60)::bigint") < 0)
        return -1;
    ret_fleet->settled = db_bool(r, 0, 0);
    ret_fleet->since_balance_usec = db_i64(r, 0, 1) < 0 ? UINT64_MAX : db_u64(r, 0, 1);
    *ret_minute = db_i64(r, 0, 2);
    return 0;
}

/* Sites are numbered in the order of their ids; 0 is none. */
#define ZONE(t) "(SELECT count(*) FROM sites z WHERE z.id <= " t ".site_id)"

static int read_nodes(struct db_conn *conn, struct placement_picture *p, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    int n = db_exec(conn, &r, err,
        "SELECT n.id, n.online AND n.endpoint <> '', n.drain,"
        " " IS_GONE ","
        " CASE WHEN n.spool_limit_bytes > 0 THEN n.spool_bytes * 1000 / n.spool_limit_bytes ELSE 0 END, n.cpu_permille,"
        " " ZONE("n") ", coalesce(" USEC_SINCE(
            "n.online_since") ", 0) FROM nodes n WHERE NOT n.simulated ORDER BY n.id");

    if (n < 0)
        return -1;
    p->nodes = mem_alloc((size_t)n + 1, sizeof(*p->nodes));
    p->node_ids = mem_alloc((size_t)n + 1, sizeof(*p->node_ids));
    if (!p->nodes || !p->node_ids)
        return err_set(err, ERR_NOMEM, "no memory for the nodes");
    for (int i = 0; i < n; i++) {
        memcpy(p->node_ids[i], db_text(r, i, 0), IDENT_TEXT_SIZE);
        p->nodes[i] = (struct placement_node){.online = db_bool(r, i, 1),
            .drain = db_bool(r, i, 2),
            .gone = db_bool(r, i, 3),
            .spool_permille = db_u64(r, i, 4),
            .cpu_permille = db_u64(r, i, 5),
            .zone = (uint32_t)db_u64(r, i, 6),
            .up_usec = db_u64(r, i, 7)};
    }
    p->fleet.nodes = p->nodes;
    p->fleet.node_count = (size_t)n;
    return 0;
}

/* Both lists are ordered by id. */
static size_t node_index(const struct placement_picture *p, const char *id)
{
    size_t low = 0, high = p->fleet.node_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(p->node_ids[middle], id);

        if (order == 0)
            return middle;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return PLACEMENT_NONE;
}

void placement_churn_done(struct placement_churn *c)
{
    free(c->machine_ids);
    free(c->bytes_per_sec);
    *c = (struct placement_churn){0};
}

static int read_churn(struct db_conn *conn, struct placement_churn *c, int64_t minute, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    int n;

    if (c->minute == minute)
        return 0;
    placement_churn_done(c);
    n = db_exec(conn, &r, err,
        "SELECT machine_id, sum(changed_bytes)::bigint / 600 FROM samples WHERE minute > now() - interval '10 minutes'"
        " GROUP BY machine_id HAVING sum(changed_bytes) >= 600 ORDER BY machine_id");
    if (n < 0)
        return -1;
    c->machine_ids = mem_alloc((size_t)n + 1, sizeof(*c->machine_ids));
    c->bytes_per_sec = mem_alloc((size_t)n + 1, sizeof(*c->bytes_per_sec));
    if (!c->machine_ids || !c->bytes_per_sec) {
        placement_churn_done(c);
        return err_set(err, ERR_NOMEM, "no memory for the churn of machines");
    }
    for (int i = 0; i < n; i++) {
        memcpy(c->machine_ids[i], db_text(r, i, 0), IDENT_TEXT_SIZE);
        c->bytes_per_sec[i] = db_u64(r, i, 1);
    }
    c->count = (size_t)n;
    c->minute = minute;
    return 0;
}

/* Both lists are ordered by machine. */
static void add_churn(struct placement_picture *p, const struct placement_churn *c)
{
    size_t at = 0;

    for (size_t i = 0; i < p->fleet.machine_count; i++) {
        while (at < c->count && strcmp(c->machine_ids[at], p->machine_ids[i]) < 0)
            at++;
        if (at < c->count && strcmp(c->machine_ids[at], p->machine_ids[i]) == 0)
            p->machines[i].churn_bytes_per_sec = c->bytes_per_sec[at];
    }
}

static int read_machines(struct db_conn *conn, struct placement_picture *p, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    int n = db_exec(conn, &r, err,
        "SELECT p.machine_id, p.node_id, p.pinned_node_id, " ZONE("m") ", " USEC_SINCE(
            "p.node_since") ", EXISTS (SELECT 1 FROM jobs j WHERE j.machine_id = p.machine_id AND j.kind = "
                            "'machine_move'"
                            "  AND j.status IN ('queued', 'running', 'waiting_for_input'))"
                            " OR p.receiver_id IS NOT NULL"
                            " FROM protections p JOIN machines m ON m.id = p.machine_id"
                            " WHERE p.active AND NOT m.simulated ORDER BY p.machine_id");

    if (n < 0)
        return -1;
    p->machines = mem_alloc((size_t)n + 1, sizeof(*p->machines));
    p->machine_ids = mem_alloc((size_t)n + 1, sizeof(*p->machine_ids));
    if (!p->machines || !p->machine_ids)
        return err_set(err, ERR_NOMEM, "no memory for the machines");
    for (int i = 0; i < n; i++) {
        memcpy(p->machine_ids[i], db_text(r, i, 0), IDENT_TEXT_SIZE);
        p->machines[i] = (struct placement_machine){.node = node_index(p, db_text(r, i, 1)),
            .pin = node_index(p, db_text(r, i, 2)),
            .zone = (uint32_t)db_u64(r, i, 3),
            .settled_usec = db_u64(r, i, 4),
            .moving = db_bool(r, i, 5)};
    }
    p->fleet.machines = p->machines;
    p->fleet.machine_count = (size_t)n;
    return 0;
}

int placement_picture_read(
    struct db_conn *conn, struct placement_churn *churn, struct placement_picture *ret_picture, struct err *err)
{
    int64_t minute;

    if (note_look(conn, &ret_picture->fleet, &minute, err) < 0 || read_churn(conn, churn, minute, err) < 0 ||
        read_nodes(conn, ret_picture, err) < 0 || read_machines(conn, ret_picture, err) < 0)
        return -1;
    add_churn(ret_picture, churn);
    return 0;
}

void placement_picture_done(struct placement_picture *p)
{
    free(p->nodes);
    free(p->machines);
    free(p->node_ids);
    free(p->machine_ids);
}

/* ---- a move ---- */

int placement_where(struct db_conn *conn, const char *machine_id, struct placement_where *ret_where, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    int n = db_exec(conn, &r, err,
        "SELECT p.node_id, p.next_node_id, n.name, p.receiver_id IS NOT NULL FROM protections p LEFT JOIN nodes n ON "
        "n.id = p.node_id"
        " WHERE p.machine_id = $1 AND p.active",
        DB_S(machine_id));

    if (n <= 0)
        return n;
    (void)snprintf(ret_where->node_id, IDENT_TEXT_SIZE, "%s", db_text(r, 0, 0));
    (void)snprintf(ret_where->next_id, IDENT_TEXT_SIZE, "%s", db_text(r, 0, 1));
    (void)snprintf(ret_where->node_name, sizeof(ret_where->node_name), "%s", db_text(r, 0, 2));
    ret_where->is_read = db_bool(r, 0, 3);
    return 1;
}

int placement_target(struct db_conn *conn, const char *node_id, struct placement_target *ret_target, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    int n = db_exec(conn, &r, err,
        "SELECT n.desired_version, n.converged_version, n.online AND n.endpoint <> '' AND NOT n.drain AND NOT " IS_GONE
        ", (SELECT " IS_SETTLED " AND seen_at > now() - interval '" LOOK_PAUSE_SECONDS " seconds' FROM placement_watch)"
        " FROM nodes n WHERE n.id = $1",
        DB_S(node_id));

    *ret_target = (struct placement_target){.settled = true};
    if (n <= 0)
        return n;
    ret_target->version = db_u64(r, 0, 0);
    ret_target->reached = db_u64(r, 0, 1);
    ret_target->settled = db_bool(r, 0, 3);
    return db_bool(r, 0, 2);
}

int placement_pin(struct db_conn *conn, const char *machine_id, const char *node_id, struct err *err)
{
    return db_exec(conn, NULL, err, "UPDATE protections SET pinned_node_id = $2 WHERE machine_id = $1",
               DB_S(machine_id), DB_ID(node_id)) < 0
               ? -1
               : 0;
}

/* The nodes that have the machine, or are told of it, have something new to hear. */
static int tell_nodes(struct db_conn *conn, const char *machine_id, struct err *err)
{
    if (db_exec(conn, NULL, err,
            "UPDATE nodes SET desired_version = desired_version + 1 WHERE id IN (SELECT node_id FROM protections"
            " WHERE machine_id = $1 UNION SELECT next_node_id FROM protections WHERE machine_id = $1)",
            DB_S(machine_id)) < 0)
        return -1;
    return news_tell(conn, NEWS_DESIRED, err);
}

int placement_announce(struct db_conn *conn, const char *machine_id, const char *node_id, struct err *err)
{
    if (!node_id && tell_nodes(conn, machine_id, err) < 0)
        return -1;
    if (db_exec(conn, NULL, err, "UPDATE protections SET next_node_id = $2 WHERE machine_id = $1", DB_S(machine_id),
            DB_ID(node_id)) < 0)
        return -1;
    return node_id ? tell_nodes(conn, machine_id, err) : 0;
}

int placement_switch(
    struct db_conn *conn, const char *machine_id, const char *reason, uint64_t *ret_version, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    int n;

    if (tell_nodes(conn, machine_id, err) < 0 ||
        db_exec(conn, NULL, err,
            "UPDATE protections SET node_id = next_node_id, next_node_id = NULL, node_since = now(), node_reason = $2,"
            " updated_at = now() WHERE machine_id = $1 AND next_node_id IS NOT NULL",
            DB_S(machine_id), DB_S(reason)) < 0)
        return -1;
    n = db_exec(conn, &r, err,
        "UPDATE machines SET desired_version = desired_version + 1, version = version + 1, updated_at = now()"
        " WHERE id = $1 RETURNING desired_version",
        DB_S(machine_id));
    if (n <= 0)
        return n < 0 ? -1 : err_set(err, ERR_NOT_FOUND, "there is no machine %s", machine_id);
    *ret_version = db_u64(r, 0, 0);
    return 0;
}
