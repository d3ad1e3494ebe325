/* SPDX-License-Identifier: Apache-2.0
 *
 * A change locks the group's row first, so that lists of members follow one another. Everybody on the old list and on the new one
 * converges anew.
 */
#include "hub/db/group_store.h"

#include <string.h>

#include "hub/db/news.h"

/* In a transaction. Locks the group and holds it to the version. */
static int lock_group(struct db_conn *conn, const char *id, uint64_t if_version, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    AUTO_PGRESULT PGresult *r = NULL;
    int n = db_exec(conn, &r, err, "SELECT version FROM consistency_groups WHERE id = $1 FOR UPDATE", DB_S(id));

    if (n < 0 || (n == 0 && db_need(conn, &db_groups, id, &set, err) < 0))
        return -1;
    if (if_version == 0 || db_u64(r, 0, 0) == if_version)
        return 0;
    err_set(err, ERR_CONFLICT, "group %s was changed by somebody else", id);
    return err_hint(err, "Read it again, look at what changed, and repeat the change with its new version.");
}

static int spread(struct db_conn *conn, const char *id, struct err *err)
{
    if (db_exec(conn, NULL, err,
            "UPDATE machines SET desired_version = desired_version + 1 WHERE id IN"
            " (SELECT machine_id FROM consistency_group_members WHERE group_id = $1)",
            DB_S(id)) < 0)
        return -1;
    return news_tell(conn, NEWS_DESIRED, err);
}

/* The list of members has changed: it gets the next number, and is kept. */
static int number_list(struct db_conn *conn, const char *id, struct err *err)
{
    if (db_exec(conn, NULL, err,
            "UPDATE consistency_groups SET membership = membership + 1, version = version + 1, updated_at = now()"
            " WHERE id = $1",
            DB_S(id)) < 0 ||
        db_exec(conn, NULL, err,
            "INSERT INTO consistency_group_lists (group_number, membership, machine_ids)"
            " SELECT g.number, g.membership, ARRAY(SELECT m.machine_id FROM consistency_group_members m"
            " WHERE m.group_id = g.id ORDER BY m.position) FROM consistency_groups g WHERE g.id = $1",
            DB_S(id)) < 0)
        return -1;
    return spread(conn, id, err);
}

/* ---- one change each, within a transaction ---- */

static int name_taken(const char *name, struct err *err)
{
    if (err && err->code == ERR_EXISTS) {
        err_set(err, ERR_EXISTS, "a group named %s exists", name);
        return err_hint(err, "Choose another name, or change the one that is there.");
    }
    return -1;
}

static int change(struct db_conn *conn, const struct group_row *row, uint64_t if_version, struct err *err)
{
    if (lock_group(conn, row->id, if_version, err) < 0)
        return -1;
    if (db_exec(conn, NULL, err,
            "UPDATE consistency_groups SET name = $2, description = $3, interval_usec = $4, freeze_budget_usec = $5,"
            " interval_since = CASE WHEN interval_usec = $4 THEN interval_since ELSE now() END,"
            " version = version + 1, updated_at = now() WHERE id = $1",
            DB_S(row->id), DB_S(row->name), DB_S(row->description), DB_U(row->interval_usec),
            DB_U(row->freeze_budget_usec)) < 0)
        return name_taken(row->name, err);
    return spread(conn, row->id, err);
}

static int drop(struct db_conn *conn, const char *id, uint64_t if_version, struct err *err)
{
    if (lock_group(conn, id, if_version, err) < 0 || spread(conn, id, err) < 0)
        return -1;
    return db_exec(conn, NULL, err, "DELETE FROM consistency_groups WHERE id = $1", DB_S(id)) < 0 ? -1 : 0;
}

static int check_room(struct db_conn *conn, const char *id, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;

    if (db_exec(conn, &r, err, "SELECT count(*) FROM consistency_group_members WHERE group_id = $1", DB_S(id)) < 0)
        return -1;
    if (db_u64(r, 0, 0) < GROUP_MACHINES_MAX)
        return 0;
    err_set(err, ERR_REFUSED, "the group has %u machines already", GROUP_MACHINES_MAX);
    return err_hint(err, "Make another group, or remove a machine from this one.");
}

static int explain_member(struct db_conn *conn, const char *id, const char *machine_id, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    int n = db_exec(conn, &r, err,
        "SELECT g.name, g.id = $2::uuid FROM consistency_group_members m JOIN consistency_groups g ON g.id = m.group_id"
        " WHERE m.machine_id = $1",
        DB_S(machine_id), DB_S(id));

    if (n < 0)
        return -1;
    if (n > 0 && db_bool(r, 0, 1))
        return err_set(err, ERR_EXISTS, "the machine is a member already");
    err_set(err, ERR_REFUSED, "the machine is in the group %s", n > 0 ? db_text(r, 0, 0) : "of somebody else");
    return err_hint(err, "A machine is in one group at most: leeward group remove GROUP MACHINE");
}

static int join(struct db_conn *conn, const char *id, const char *machine_id, uint64_t if_version, struct err *err)
{
    int n;

    if (lock_group(conn, id, if_version, err) < 0 || check_room(conn, id, err) < 0)
        return -1;
    n = db_exec(conn, NULL, err,
        "INSERT INTO consistency_group_members (machine_id, group_id) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        DB_S(machine_id), DB_S(id));
    if (n < 0)
        return -1;
    return n == 0 ? explain_member(conn, id, machine_id, err) : number_list(conn, id, err);
}

static int leave(struct db_conn *conn, const char *id, const char *machine_id, uint64_t if_version, struct err *err)
{
    int n;

    if (lock_group(conn, id, if_version, err) < 0)
        return -1;
    n = db_exec(conn, NULL, err, "DELETE FROM consistency_group_members WHERE machine_id = $1 AND group_id = $2",
        DB_S(machine_id), DB_S(id));
    if (n < 0)
        return -1;
    if (n == 0) {
        err_set(err, ERR_NOT_FOUND, "the machine is not in the group");
        return err_hint(err, "`leeward group show` lists its members.");
    }
    if (db_exec(conn, NULL, err, "UPDATE machines SET desired_version = desired_version + 1 WHERE id = $1",
            DB_S(machine_id)) < 0)
        return -1;
    return number_list(conn, id, err);
}

/* ---- changes ---- */

static int begin_own(struct db_conn *conn, bool *ret_own, struct err *err)
{
    *ret_own = !db_in_transaction(conn);
    return *ret_own ? db_begin(conn, err) : 0;
}

static int end_own(struct db_conn *conn, bool own, int rc, struct err *err)
{
    if (!own)
        return rc;
    if (rc < 0) {
        db_rollback(conn);
        return -1;
    }
    return db_commit(conn, err);
}

int group_create(struct db_conn *conn, const struct group_row *row, char ret_id[IDENT_TEXT_SIZE], struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;

    if (db_exec(conn, &r, err,
            "INSERT INTO consistency_groups (name, description, interval_usec, freeze_budget_usec)"
            " VALUES ($1, $2, $3, $4) RETURNING id",
            DB_S(row->name), DB_S(row->description), DB_U(row->interval_usec), DB_U(row->freeze_budget_usec)) < 0)
        return name_taken(row->name, err);
    strncpy(ret_id, db_text(r, 0, 0), IDENT_TEXT_SIZE - 1);
    ret_id[IDENT_TEXT_SIZE - 1] = '\0';
    return 0;
}

int group_update(struct db_conn *conn, const struct group_row *row, uint64_t if_version, struct err *err)
{
    bool own;

    if (begin_own(conn, &own, err) < 0)
        return -1;
    return end_own(conn, own, change(conn, row, if_version, err), err);
}

int group_delete(struct db_conn *conn, const char *id, uint64_t if_version, struct err *err)
{
    bool own;

    if (begin_own(conn, &own, err) < 0)
        return -1;
    return end_own(conn, own, drop(conn, id, if_version, err), err);
}

int group_join(struct db_conn *conn, const char *id, const char *machine_id, uint64_t if_version, struct err *err)
{
    bool own;

    if (begin_own(conn, &own, err) < 0)
        return -1;
    return end_own(conn, own, join(conn, id, machine_id, if_version, err), err);
}

int group_leave(struct db_conn *conn, const char *id, const char *machine_id, uint64_t if_version, struct err *err)
{
    bool own;

    if (begin_own(conn, &own, err) < 0)
        return -1;
    return end_own(conn, own, leave(conn, id, machine_id, if_version, err), err);
}

#define SIMULATED "(SELECT id FROM machines WHERE simulated ORDER BY id LIMIT $1::bigint)"

int group_leave_simulated(struct db_conn *conn, uint64_t most, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    int n = db_exec(conn, &r, err,
        "SELECT id FROM consistency_groups WHERE id IN (SELECT group_id FROM consistency_group_members"
        " WHERE machine_id IN " SIMULATED ") ORDER BY id FOR UPDATE",
        DB_U(most));

    if (n <= 0)
        return n;
    if (db_exec(conn, NULL, err, "DELETE FROM consistency_group_members WHERE machine_id IN " SIMULATED, DB_U(most)) <
        0)
        return -1;
    for (int i = 0; i < n; i++)
        if (number_list(conn, db_text(r, i, 0), err) < 0)
            return -1;
    return 0;
}

/* ---- agents ---- */

int group_news_put(struct db_conn *conn, const struct group_news_put *news, struct err *err)
{
    return db_exec(conn, NULL, err,
               "UPDATE consistency_groups g SET coordinated_by = $1::uuid, news_at = n.at, made = $3, missed = $4,"
               " last_point_id = coalesce($5::uuid, last_point_id),"
               " last_point_at = CASE WHEN $5::uuid IS DISTINCT FROM last_point_id AND $5::uuid IS NOT NULL"
               "  THEN n.point_at ELSE last_point_at END,"
               " last_freeze_usec = $6, last_missed = $7,"
               " culprit_id = (SELECT machine_id FROM consistency_group_members WHERE machine_id = $8::uuid"
               "  AND group_id = g.id),"
               " cause = $9, remedy = $10"
               " FROM (SELECT now() - $11::bigint * interval '1 microsecond' AS at,"
               "  now() - $12::bigint * interval '1 microsecond' AS point_at) n"
               " WHERE g.id = $2 AND (g.news_at IS NULL OR g.news_at <= n.at)"
               " AND EXISTS (SELECT 1 FROM consistency_group_members m"
               "  WHERE m.group_id = g.id AND m.machine_id = $1::uuid)",
               DB_S(news->machine_id), DB_S(news->group_id), DB_U(news->made), DB_U(news->missed),
               DB_ID(news->point_id), DB_U(news->freeze_usec), DB_B(news->last_missed), DB_ID(news->culprit_id),
               DB_S(news->cause), DB_S(news->remedy), DB_U(news->age_usec), DB_U(news->point_age_usec)) < 0
               ? -1
               : 0;
}

int desired_group(struct db_conn *conn, const char *machine_id, PGresult **ret_rows, struct err *err)
{
    return db_exec(conn, ret_rows, err,
        "SELECT g.id, g.name, g.number, g.membership, g.interval_usec, g.freeze_budget_usec, x.machine_id, m.name,"
        " m.group_endpoint FROM consistency_group_members me JOIN consistency_groups g ON g.id = me.group_id"
        " JOIN consistency_group_members x ON x.group_id = g.id JOIN machines m ON m.id = x.machine_id"
        " WHERE me.machine_id = $1 ORDER BY x.position",
        DB_S(machine_id));
}

int group_members_changed(struct db_conn *conn, const char *machine_id, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    int n = db_exec(
        conn, &r, err, "SELECT group_id FROM consistency_group_members WHERE machine_id = $1", DB_S(machine_id));

    return n <= 0 ? n : spread(conn, db_text(r, 0, 0), err);
}

int group_asked_member(struct db_conn *conn, const char *id, char ret_machine_id[IDENT_TEXT_SIZE], struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    int n = db_exec(conn, &r, err,
        "SELECT x.machine_id FROM consistency_group_members x JOIN machines m ON m.id = x.machine_id"
        " WHERE x.group_id = $1 ORDER BY NOT m.online, x.position",
        DB_S(id));

    if (n < 2)
        return n < 0 ? -1 : 0;
    strncpy(ret_machine_id, db_text(r, 0, 0), IDENT_TEXT_SIZE - 1);
    ret_machine_id[IDENT_TEXT_SIZE - 1] = '\0';
    return 1;
}
