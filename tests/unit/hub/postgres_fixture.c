/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/hub/postgres_fixture.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "hub/core/event_text.h"
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

/* Events of that code and form that came without the value: who translates them would have to leave it out. */
static uint64_t events_without(struct db_conn *conn, const struct event_text *t, const char *name)
{
    AUTO_PGRESULT PGresult *r = NULL;
    struct err err = ERR_INIT;

    if (db_exec(conn, &r, &err,
            "SELECT count(*) FROM events WHERE code = $1 AND text_values <> '{}' AND coalesce(text_values->>'form', "
            "'') = $2"
            " AND NOT jsonb_exists(text_values, $3)",
            DB_S(t->code), DB_S(t->form), DB_S(name)) < 0)
        return 0; /* a test has taken the table or the server away */
    return db_u64(r, 0, 0);
}

static int check_places(struct db_conn *conn, const struct event_text *t, const char *text)
{
    for (const char *at = strchr(text, '{'); at; at = strchr(at + 1, '{')) {
        char name[32];

        if (sscanf(at, "{%31[a-z_]}", name) != 1 || strcmp(name, "advice") == 0) /* which is the finding's */
            continue;
        if (events_without(conn, t, name) > 0) {
            fprintf(stderr, "tear-down: events %s %s came without {%s}\n", t->code, t->form, name);
            return -1;
        }
    }
    return 0;
}

/* All that the tests of this program made happen was told with its values. */
static int check_events(struct db *db)
{
    struct db_conn *conn AUTO_OF(db_conn) = NULL;
    struct err err = ERR_INIT;
    int rc = 0;

    if (!db || db_acquire(db, &conn, &err) < 0)
        return 0;
    for (size_t i = 0; i < event_text_count; i++)
        if (check_places(conn, &event_texts[i], event_texts[i].text) < 0 ||
            check_places(conn, &event_texts[i], event_texts[i].remedy) < 0)
            rc = -1;
    return rc;
}

int postgres_fixture_down(void **state)
{
    struct postgres_fixture *f = *state;
    int rc = check_events(f->db);

    db_free(f->db);
    postgres_embedded_stop(f->pg);
    loop_free(f->loop);
    if (strncmp(f->folder, "/tmp/leeward-test-", 18) == 0)
        (void)file_remove_tree(f->folder, NULL);
    free(f);
    if (rc < 0)
        exit(EXIT_FAILURE); /* a tear-down that fails is told by CMocka, and passes */
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

void fixture_script(struct db_conn *conn, const char *sql)
{
    struct err err = ERR_INIT;

    assert_ok(db_script(conn, sql, &err), &err);
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
