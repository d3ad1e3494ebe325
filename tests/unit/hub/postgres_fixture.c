/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/hub/postgres_fixture.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "hub/db/migrate.h"
#include "transport/base/file.h"
#include "transport/base/log.h"
#include "transport/loop/loop.h"

static int up(struct postgres_fixture *f, struct err *err)
{
    snprintf(f->folder, sizeof(f->folder), "/tmp/leeward-test-XXXXXX");
    /* 0711: the database's user passes through, as through the hub's DATA. */
    if (!mkdtemp(f->folder) || chmod(f->folder, 0711) < 0)
        return err_sys(err, errno, "making %s", f->folder);
    if (loop_new(NULL, NULL, &f->loop, err) < 0 || postgres_embedded_start(f->loop, f->folder, &f->pg, err) < 0)
        return -1;
    struct db_options options = {.dsn = postgres_embedded_dsn(f->pg),
        .connections_max = 8,
        .secret_key = (const uint8_t *)"a key of a test: thirty-two bytes"};

    return db_new(&options, &f->db, err) < 0 ? -1 : migrate_run(f->db, migrations_embedded, NULL, err);
}

int postgres_fixture_up(void **state)
{
    struct postgres_fixture *f = mem_new(struct postgres_fixture);
    struct err err = ERR_INIT;

    log_set_level(LOG_ERROR);
    *state = f;
    if (!f || up(f, &err) < 0) {
        fprintf(stderr, "set-up: %s (%s)\n", err.text, err.correction);
        if (f)
            (void)postgres_fixture_down(state);
        return -1;
    }
    return 0;
}

int postgres_fixture_down(void **state)
{
    struct postgres_fixture *f = *state;

    db_free(f->db);
    postgres_embedded_stop(f->pg);
    loop_free(f->loop);
    if (strncmp(f->folder, "/tmp/leeward-test-", 18) == 0)
        (void)file_remove_tree(f->folder, NULL);
    free(f);
    return 0;
}

struct db_conn *fixture_conn(void **state)
{
    struct postgres_fixture *f = *state;
    struct db_conn *conn = NULL;
    struct err err = ERR_INIT;

    assert_ok(db_acquire(f->db, &conn, &err), &err);
    return conn;
}

void fixture_machine(struct db_conn *conn, const char *id, const char *name)
{
    struct err err = ERR_INIT;

    assert_ok(
        db_exec(conn, NULL, &err, "INSERT INTO machines (id, name, online, last_seen_at) VALUES ($1, $2, true, now())",
            DB_S(id), DB_S(name)),
        &err);
}

void fixture_node(struct db_conn *conn, const char *id, const char *name)
{
    struct err err = ERR_INIT;

    assert_ok(db_exec(conn, NULL, &err,
                  "INSERT INTO nodes (id, name, endpoint, online, last_seen_at)"
                  " VALUES ($1, $2, $2 || ':9443', true, now())",
                  DB_S(id), DB_S(name)),
        &err);
}

void fixture_vault(struct db_conn *conn, const char *id, const char *name)
{
    struct err err = ERR_INIT;

    assert_ok(db_exec(conn, NULL, &err,
                  "INSERT INTO vaults (id, name, endpoint, online, last_seen_at, free_bytes, capacity_bytes)"
                  " VALUES ($1, $2, $2 || ':9444', true, now(), 100000000000, 200000000000)",
                  DB_S(id), DB_S(name)),
        &err);
}
