/* SPDX-License-Identifier: Apache-2.0
 *
 * A real PostgreSQL for one test program: the hub's own private server in a folder of its own under /tmp, migrated, with a
 * pool. As CMocka group set-up and tear-down: state is struct postgres_fixture *.
 */
#ifndef TESTS_UNIT_HUB_POSTGRES_FIXTURE_H
#define TESTS_UNIT_HUB_POSTGRES_FIXTURE_H

#include <systemd/sd-event.h>

#include "hub/db/db.h"
#include "hub/db/postgres_embedded.h"

struct postgres_fixture {
    char folder[64]; /* removed at tear-down */
    sd_event *loop;
    struct postgres_embedded *pg;
    struct db *db;
};

int postgres_fixture_up(void **state); /* server, pool, migrations */
int postgres_fixture_down(void **state);

/* A connection, or the test fails with the error's text. */
struct db_conn *fixture_conn(void **state);
/* Fails the test with the error's text unless rc >= 0. */
#define assert_ok(rc, err)                                                                                             \
    do {                                                                                                               \
        int rc_ = (rc);                                                                                                \
        if (rc_ < 0)                                                                                                   \
            fail_msg("%s: %s (%s)", #rc, (err)->text, (err)->correction);                                              \
    } while (0)
/* Statements that must succeed. */
void fixture_script(struct db_conn *conn, const char *sql);
/* Inserts rows that other tests need; ids are the caller's (UUID text). */
void fixture_machine(struct db_conn *conn, const char *id, const char *name);
void fixture_node(struct db_conn *conn, const char *id, const char *name);
void fixture_vault(struct db_conn *conn, const char *id, const char *name);

#endif
