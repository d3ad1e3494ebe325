/* SPDX-License-Identifier: Apache-2.0
 *
 * How many copies a machine may have: a vault knows so many readers of a machine and no more, so one more is refused, whoever asks for it and whenever.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "hub/db/copy_store.h"
#include "hub/db/peer_store.h"
#include "hub/jobs/job.h"
#include "hub/jobs/job_runner.h"
#include "tests/unit/hub/postgres_fixture.h"
#include "transport/base/ident.h"
#include "transport/base/mem.h"

#define HUB "aaaaaaaa-0000-4000-8000-000000000001"
#define MACHINE "11111111-0000-4000-8000-000000000001"
#define NODE "22222222-0000-4000-8000-000000000001"
#define SOURCE "33333333-0000-4000-8000-000000000000"

static const char *vault_id(int n)
{
    static char text[4][IDENT_TEXT_SIZE];
    static unsigned at;
    char *out = text[at++ % ARRAY_LEN(text)];

    snprintf(out, IDENT_TEXT_SIZE, "33333333-0000-4000-8000-%012d", n);
    return out;
}

/* A protected machine, and two vaults more than may have a copy; those up to `count` have one. */
static void build(struct db_conn *conn, int count)
{
    struct err err = ERR_INIT;

    assert_ok(
        db_script(conn,
            "DELETE FROM jobs; DELETE FROM copies; DELETE FROM machines; DELETE FROM nodes; DELETE FROM vaults", &err),
        &err);
    fixture_machine(conn, MACHINE, "web1");
    fixture_node(conn, NODE, "n");
    fixture_vault(conn, SOURCE, "own");
    assert_ok(db_script(conn,
                  "INSERT INTO protections (machine_id, policy_id, node_id, vault_id) SELECT '" MACHINE "', id, '" NODE
                  "', '" SOURCE "' FROM policies WHERE is_default; UPDATE machines SET state = 'protected'",
                  &err),
        &err);
    for (int n = 1; n <= COPIES_MAX + 2; n++) {
        AUTO_FREE char *name = mem_printf("v%d", n);
        const struct copy_put put = {
            .machine_id = MACHINE, .vault_id = vault_id(n), .source_vault_id = SOURCE, .created_by = "token:test"};

        fixture_vault(conn, put.vault_id, name);
        if (n <= count)
            assert_ok(copy_put(conn, &put, &err), &err);
    }
}

static int submit(struct db_conn *conn, int vault, char job[IDENT_TEXT_SIZE], struct err *err)
{
    AUTO_FREE char *params = mem_printf("{\"vault\":\"v%d\"}", vault);
    const struct job_spec spec = {
        .kind = "copy", .machine_id = MACHINE, .params_json = params, .requested_by = "token:test"};

    return job_submit(conn, &spec, false, job, err);
}

static void assert_refused(const struct err *err)
{
    assert_int_equal(err->code, ERR_REFUSED);
    assert_string_equal(err->text, "16 vaults have a copy of the points of web1, and there can be no more");
    assert_string_equal(
        err->correction, "End one of them first: leeward copy list web1, leeward copy remove web1 VAULT");
}

static void test_one_more_copy_than_there_may_be_is_refused_when_it_is_asked_for(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct err err = ERR_INIT;
    char job[IDENT_TEXT_SIZE];

    build(conn, COPIES_MAX);
    assert_int_equal(submit(conn, COPIES_MAX + 1, job, &err), -1);
    assert_refused(&err);
    assert_ok(copy_end(conn, MACHINE, vault_id(3), &err), &err); /* one that is given up reads no more */
    err_clear(&err);
    assert_ok(submit(conn, COPIES_MAX + 1, job, &err), &err);
}

/* What a vault is told is what it has room for, and all of it. */
static void test_each_copy_that_there_may_be_is_told_to_the_vault(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    AUTO_PGRESULT PGresult *r = NULL;
    struct err err = ERR_INIT;

    build(conn, COPIES_MAX);
    assert_int_equal(desired_vault(conn, SOURCE, &r, &err), 1);
    for (int n = 1; n <= COPIES_MAX; n++)
        assert_non_null(strstr(db_text(r, 0, 13), vault_id(n)));
}

/* Both were asked for while there was room for one: the second one's job says why it did not begin. */
static void test_of_two_copies_that_wait_for_the_last_place_one_begins(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    AUTO_PGRESULT PGresult *r = NULL;
    struct err err = ERR_INIT;
    char job[IDENT_TEXT_SIZE];
    uint64_t wait;

    build(conn, COPIES_MAX - 1);
    assert_ok(submit(conn, COPIES_MAX, job, &err), &err);
    assert_ok(submit(conn, COPIES_MAX + 1, job, &err), &err);
    for (int looks = 0; looks < 20 && job_run_one(conn, HUB, &wait, &err) > 0; looks++)
        ;
    assert_int_equal(db_exec(conn, NULL, &err, "SELECT 1 FROM copies"), COPIES_MAX);
    assert_int_equal(db_exec(conn, &r, &err, "SELECT problem_code, problem_text FROM jobs WHERE status = 'failed'"), 1);
    assert_string_equal(db_text(r, 0, 0), "refused");
    assert_non_null(strstr(db_text(r, 0, 1), "16 vaults have a copy"));
}

struct rival {
    struct db *db;
    int result;
    struct err err;
};

static void *rival_main(void *arg)
{
    struct rival *rival = arg;
    struct db_conn *conn AUTO_OF(db_conn) = NULL;
    const struct copy_put put = {.machine_id = MACHINE,
        .vault_id = "33333333-0000-4000-8000-000000000017",
        .source_vault_id = SOURCE,
        .created_by = "token:test"};

    rival->result = db_acquire(rival->db, &conn, &rival->err) < 0 || db_begin(conn, &rival->err) < 0 ||
                            copy_put(conn, &put, &rival->err) < 0 || db_commit(conn, &rival->err) < 0
                        ? -1
                        : 0;
    if (rival->result < 0 && conn != NULL && db_in_transaction(conn))
        db_rollback(conn);
    return NULL;
}

/* Two hubs begin one each at the same moment: the other one waits for the first, and counts its. */
static void test_two_hubs_do_not_begin_one_too_many(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct rival rival = {.db = ((struct postgres_fixture *)*state)->db, .err = ERR_INIT};
    struct err err = ERR_INIT;
    pthread_t thread;

    build(conn, COPIES_MAX - 1);
    const struct copy_put put = {
        .machine_id = MACHINE, .vault_id = vault_id(COPIES_MAX), .source_vault_id = SOURCE, .created_by = "token:test"};

    assert_ok(db_begin(conn, &err), &err);
    assert_ok(copy_put(conn, &put, &err), &err);
    assert_int_equal(pthread_create(&thread, NULL, rival_main, &rival), 0);
    for (int waits = 0; waits == 0;) { /* until it waits for this one, or is done without */
        AUTO_PGRESULT PGresult *r = NULL;

        assert_int_equal(db_exec(conn, &r, &err,
                             "SELECT (SELECT count(*) FROM pg_locks WHERE NOT granted), (SELECT count(*) FROM copies)"),
            1);
        waits = db_u64(r, 0, 0) > 0 || db_u64(r, 0, 1) > COPIES_MAX;
    }
    assert_ok(db_commit(conn, &err), &err);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(rival.result, -1);
    assert_refused(&rival.err);
    assert_int_equal(db_exec(conn, NULL, &err, "SELECT 1 FROM copies"), COPIES_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_more_copy_than_there_may_be_is_refused_when_it_is_asked_for),
        cmocka_unit_test(test_each_copy_that_there_may_be_is_told_to_the_vault),
        cmocka_unit_test(test_of_two_copies_that_wait_for_the_last_place_one_begins),
        cmocka_unit_test(test_two_hubs_do_not_begin_one_too_many),
    };

    return cmocka_run_group_tests_name("hub_copies", tests, postgres_fixture_up, postgres_fixture_down);
}
