/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/hub/jobs/replicas.h"
#include "tests/unit/hub/postgres_fixture.h"
#include "transport/base/mem.h"

int rows_of(struct db_conn *conn, const char *sql)
{
    struct err err = ERR_INIT;
    int n = db_exec(conn, NULL, &err, sql);

    assert_ok(n, &err);
    return n;
}

int replicas_in(struct db_conn *conn, const char *folder)
{
    AUTO_PGRESULT PGresult *r = NULL;
    struct err err = ERR_INIT;
    int n = db_exec(conn, &r, &err, "SELECT id FROM failovers"), there = 0;

    assert_ok(n, &err);
    for (int i = 0; i < n; i++) {
        AUTO_FREE char *path = mem_printf("%s/replica-%s", folder, db_text(r, i, 0));

        there += access(path, F_OK) == 0;
    }
    return there;
}
