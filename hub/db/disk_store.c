/* SPDX-License-Identifier: Apache-2.0
 *
 * SQL of the choice of disks.
 */
#include "hub/db/disk_store.h"

/* ---- checks ---- */

#define NAMED_DISKS                                                                                                    \
    " FROM jsonb_array_elements_text($2::jsonb) AS k(key) LEFT JOIN disks d ON d.machine_id = $1 AND d.key = k.key"

static int no_such_disk(const char *key, struct err *err)
{
    err_set(err, ERR_INVALID, "the machine has no disk %s", key);
    return err_hint(err, "List its disks: leeward disk list");
}

/* Every key that was named must be a disk that can be protected. */
static int check_disks(struct db_conn *conn, const char *machine_id, const char *disks_json, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    int n = db_exec(conn, &r, err,
        "SELECT k.key, d.id IS NULL OR NOT d.present, coalesce(d.not_trackable_reason, '')" NAMED_DISKS
        " WHERE d.id IS NULL OR NOT d.present OR NOT d.trackable",
        DB_S(machine_id), DB_S(disks_json));

    if (n <= 0)
        return n;
    if (db_bool(r, 0, 1))
        return no_such_disk(db_text(r, 0, 0), err);
    err_set(err, ERR_INVALID, "disk %s cannot be tracked: %s", db_text(r, 0, 0), db_text(r, 0, 2));
    return err_hint(err, "Leave it out, or protect what lies above it.");
}

int disk_store_check_add(struct db_conn *conn, const char *machine_id, const char *disks_json, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    int n;

    if (check_disks(conn, machine_id, disks_json, err) < 0)
        return -1;
    n = db_exec(conn, &r, err, "SELECT k.key" NAMED_DISKS " WHERE d.is_protected", DB_S(machine_id), DB_S(disks_json));
    if (n <= 0)
        return n;
    err_set(err, ERR_REFUSED, "disk %s is protected already", db_text(r, 0, 0));
    return err_hint(err, "Name only disks that are not; list them: leeward disk list");
}

int disk_store_check_exclude(struct db_conn *conn, const char *machine_id, const char *disks_json, struct err *err)
{
    AUTO_PGRESULT PGresult *named = NULL;
    int n =
        db_exec(conn, &named, err, "SELECT k.key, d.id IS NULL" NAMED_DISKS " WHERE d.id IS NULL OR NOT d.is_protected",
            DB_S(machine_id), DB_S(disks_json));

    if (n < 0)
        return -1;
    if (n > 0 && db_bool(named, 0, 1))
        return no_such_disk(db_text(named, 0, 0), err);
    if (n > 0) {
        err_set(err, ERR_REFUSED, "disk %s is not protected", db_text(named, 0, 0));
        return err_hint(err, "List those that are: leeward disk list");
    }
    n = db_exec(conn, NULL, err, "SELECT 1 FROM disks WHERE machine_id = $1 AND is_protected AND NOT $2::jsonb ? key",
        DB_S(machine_id), DB_S(disks_json));
    if (n != 0)
        return n < 0 ? -1 : 0;
    err_set(err, ERR_REFUSED, "no disk of the machine would be left");
    return err_hint(err, "End its protection instead: leeward machine unprotect");
}

int disk_store_check_protected(struct db_conn *conn, const char *machine_id, const char *disks_json, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    int n = db_exec(conn, &r, err,
        "SELECT k.key, d.id IS NULL, d.is_protected" NAMED_DISKS
        " WHERE d.id IS NULL OR NOT d.is_protected OR NOT d.present",
        DB_S(machine_id), DB_S(disks_json));

    if (n <= 0)
        return n;
    if (db_bool(r, 0, 1))
        return no_such_disk(db_text(r, 0, 0), err);
    if (db_bool(r, 0, 2)) {
        err_set(err, ERR_REFUSED, "disk %s is not there", db_text(r, 0, 0));
        return err_hint(err, "Attach it again, or leave it out: leeward disk exclude MACHINE KEY");
    }
    err_set(err, ERR_REFUSED, "disk %s is not protected", db_text(r, 0, 0));
    return err_hint(err, "Its size is taken as it is once it is added: leeward disk add");
}

/* ---- changes ---- */

/* Gives a number to those that are named and have none; NULL names all that can be protected. */
static int number_disks(struct db_conn *conn, const char *machine_id, const char *disks_json, struct err *err)
{
    return db_exec(conn, NULL, err,
        "UPDATE disks d SET number = w.first + w.place, updated_at = now() FROM"
        " (SELECT id, row_number() OVER (ORDER BY is_root DESC, device, key) - 1 AS place,"
        "  (SELECT coalesce(max(number), -1) + 1 FROM disks WHERE machine_id = $1) AS first"
        "  FROM disks WHERE machine_id = $1 AND number IS NULL AND present AND trackable"
        "  AND ($2::jsonb IS NULL OR $2::jsonb ? key)) w WHERE d.id = w.id",
        DB_S(machine_id), DB_S(disks_json));
}

static int count_protected(struct db_conn *conn, const char *machine_id, struct err *err)
{
    return db_exec(conn, NULL, err, "SELECT 1 FROM disks WHERE machine_id = $1 AND is_protected", DB_S(machine_id));
}

int disk_store_choose(struct db_conn *conn, const char *machine_id, const char *disks_json, struct err *err)
{
    if ((disks_json && check_disks(conn, machine_id, disks_json, err) < 0) ||
        number_disks(conn, machine_id, disks_json, err) < 0)
        return -1;
    if (db_exec(conn, NULL, err,
            "UPDATE disks SET is_protected = (present AND trackable AND ($2::jsonb IS NULL OR $2::jsonb ? key)),"
            " version = version + 1, updated_at = now() WHERE machine_id = $1",
            DB_S(machine_id), DB_S(disks_json)) < 0)
        return -1;
    return count_protected(conn, machine_id, err);
}

int disk_store_add(struct db_conn *conn, const char *machine_id, const char *disks_json, struct err *err)
{
    if (check_disks(conn, machine_id, disks_json, err) < 0 || number_disks(conn, machine_id, disks_json, err) < 0)
        return -1;
    if (db_exec(conn, NULL, err,
            "UPDATE disks SET is_protected = true, version = version + 1, updated_at = now()"
            " WHERE machine_id = $1 AND NOT is_protected AND $2::jsonb ? key",
            DB_S(machine_id), DB_S(disks_json)) < 0)
        return -1;
    return count_protected(conn, machine_id, err);
}

int disk_store_exclude(struct db_conn *conn, const char *machine_id, const char *disks_json, struct err *err)
{
    int left;

    if (db_exec(conn, NULL, err,
            "UPDATE disks SET is_protected = false, version = version + 1, updated_at = now()"
            " WHERE machine_id = $1 AND is_protected AND $2::jsonb ? key",
            DB_S(machine_id), DB_S(disks_json)) < 0)
        return -1;
    left = count_protected(conn, machine_id, err);
    if (left != 0)
        return left;
    err_set(err, ERR_REFUSED, "no disk of the machine would be left");
    return err_hint(err, "End its protection instead: leeward machine unprotect");
}
