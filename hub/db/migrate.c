/* SPDX-License-Identifier: Apache-2.0
 *
 * The migration runner. Happy path: take the advisory lock, compare what schema_migrations has with what is embedded,
 * apply the rest, each with its row in one transaction. A crash in between leaves whole migrations only. A checksum that
 * differs, a number that is missing in between, or one that the program does not know: refused, nothing is changed.
 */
#include "hub/db/migrate.h"

#include <string.h>
#include <systemd/sd-daemon.h>

#include "transport/base/bytes.h"
#include "transport/base/hash.h"
#include "transport/base/log.h"

/* Any constant that no other program on the database uses: "leeward" on a telephone's keys. */
#define LOCK_KEY "5333273"
#define CHECKSUM_SIZE (2 * HASH_SIZE + 1)
#define MIGRATION_SEC 3600 /* indexes over tens of millions of rows take minutes */

static void checksum(const char *sql, char out[CHECKSUM_SIZE])
{
    struct hash128 hash;

    hash_128(sql, strlen(sql), &hash);
    bytes_to_hex(hash.bytes, HASH_SIZE, out);
}

static int check_applied(const PGresult *r, int row, const struct migration *m, struct err *err)
{
    char sum[CHECKSUM_SIZE];

    if (!m->name || db_u64(r, row, 0) > m->number) {
        err_set(err, ERR_REFUSED, "migration %s was applied to the database and is unknown to this program",
            db_text(r, row, 1));
        return err_hint(
            err, "The database is newer: start the newer leeward-hub, or restore a backup of the database.");
    }
    if (db_u64(r, row, 0) < m->number)
        return err_set(err, ERR_REFUSED, "migration %s is applied but not part of this program", db_text(r, row, 1));
    checksum(m->sql, sum);
    if (strcmp(sum, db_text(r, row, 2)) != 0) {
        err_set(err, ERR_REFUSED, "migration %s was changed after it was applied", m->name);
        return err_hint(err, "Put the file back as it was and write the change as a new migration.");
    }
    return 0;
}

/* systemd ends what does not come up within TimeoutStartSec, and starts it anew: a migration that takes longer would never come to its end (sd_notify(3)). */
static void take_time(void)
{
    (void)sd_notifyf(0, "EXTEND_TIMEOUT_USEC=%d000000", MIGRATION_SEC);
}

/* How many of the embedded ones are in place already. */
static int count_applied(struct db_conn *conn, const struct migration *migrations, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    int n = db_exec(conn, &r, err, "SELECT number, name, checksum FROM schema_migrations ORDER BY number");

    for (int i = 0; i < n; i++)
        if (check_applied(r, i, &migrations[i], err) < 0)
            return -1;
    return n;
}

static int apply(struct db_conn *conn, const struct migration *m, struct err *err)
{
    char sum[CHECKSUM_SIZE];

    checksum(m->sql, sum);
    if (db_begin(conn, err) < 0)
        return -1;
    if (db_script(conn, m->sql, err) < 0 ||
        db_exec(conn, NULL, err, "INSERT INTO schema_migrations (number, name, checksum) VALUES ($1, $2, $3)",
            DB_U(m->number), DB_S(m->name), DB_S(sum)) < 0 ||
        db_commit(conn, err) < 0) {
        db_rollback(conn);
        return err_wrap(err, "migration %s", m->name);
    }
    log_event(LOG_INFO, "migration_applied", LOG_S("name", m->name));
    return 0;
}

static int run_locked(struct db_conn *conn, const struct migration *migrations, unsigned *ret_applied, struct err *err)
{
    int done;

    if (db_script(conn,
            "CREATE TABLE IF NOT EXISTS schema_migrations (number integer PRIMARY KEY, name text NOT NULL,"
            " checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())",
            err) < 0 ||
        (done = count_applied(conn, migrations, err)) < 0)
        return -1;
    for (const struct migration *m = migrations + done; m->name; m++) {
        take_time();
        if (apply(conn, m, err) < 0)
            return -1;
        if (ret_applied)
            (*ret_applied)++;
    }
    return 0;
}

int migrate_run(struct db *db, const struct migration *migrations, unsigned *ret_applied, struct err *err)
{
    struct db_conn *conn AUTO_OF(db_conn) = NULL;
    int rc;

    if (ret_applied)
        *ret_applied = 0;
    if (db_acquire(db, &conn, err) < 0)
        return -1;
    /* Another hub may be migrating for as long as it takes. */
    db_allow(conn, 0);
    take_time();
    if (db_script(conn, "SET lock_timeout = 0; SET statement_timeout = 0", err) < 0 ||
        db_script(conn, "SELECT pg_advisory_lock(" LOCK_KEY ")", err) < 0)
        return -1;
    rc = run_locked(conn, migrations, ret_applied, err);
    (void)db_script(conn, "SELECT pg_advisory_unlock(" LOCK_KEY ")", NULL);
    (void)db_script(conn, "SET lock_timeout = '10s'; SET statement_timeout = '20s'", NULL);
    return rc;
}
