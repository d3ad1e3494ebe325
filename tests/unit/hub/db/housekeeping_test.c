/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "hub/db/housekeeping.h"
#include "tests/unit/hub/postgres_fixture.h"

#define PIECE_MOST 5000

static int64_t ask(struct db_conn *conn, const char *sql)
{
    AUTO_PGRESULT PGresult *r = NULL;
    struct err err = ERR_INIT;

    assert_int_equal(db_exec(conn, &r, &err, sql), 1);
    return db_i64(r, 0, 0);
}

/* What gathered while no hub was there goes, and no statement has more of it than can be deleted in its time. */
static void test_what_is_too_old_goes_in_pieces(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct err err = ERR_INIT;
    int64_t before, after;
    size_t at = 0;
    int rc = 1, pieces = 0;

    fixture_script(conn,
        "INSERT INTO events (at, stored_at, severity, code) SELECT now() - interval '91 days', CASE WHEN n % 2 = 0"
        " THEN now() - interval '91 days' END, 'info', 'x' FROM generate_series(1, 12000) n;"
        "INSERT INTO events (severity, code) VALUES ('info', 'x');"
        "INSERT INTO events (at, severity, code) VALUES (now() - interval '91 days', 'error', 'told late');"
        "INSERT INTO oidc_logins (state_hash, browser_hash, nonce, verifier, created_at)"
        " VALUES (decode(repeat('00', 32), 'hex'), decode(repeat('00', 32), 'hex'), '', '', now() - interval "
        "'2 hours')");
    for (before = ask(conn, "SELECT count(*) FROM events"); rc > 0; before = after, pieces++) {
        rc = housekeeping(conn, &at, &err);
        assert_ok(rc, &err);
        after = ask(conn, "SELECT count(*) FROM events");
        assert_true(before - after <= PIECE_MOST);
    }
    assert_int_equal(after, 2);
    assert_true(pieces > 3);
    assert_int_equal(ask(conn, "SELECT count(*) FROM oidc_logins"), 0);
    assert_int_equal(at, 0);
}

/* Jobs come before events. */
static void test_what_cannot_be_deleted_keeps_nothing_else(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct err err = ERR_INIT;
    int rc, failures = 0;
    size_t at = 0;

    fixture_script(conn,
        "DELETE FROM events; INSERT INTO events (at, stored_at, severity, code) VALUES (now() - interval '91 days', "
        "NULL, 'info', 'x'); INSERT INTO jobs (id, kind, status, finished_at) VALUES (gen_random_uuid(), 'resync', "
        "'succeeded', now() - interval '91 days');"
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$;"
        "CREATE TRIGGER no BEFORE DELETE ON jobs FOR EACH ROW EXECUTE FUNCTION no()");
    while ((rc = housekeeping(conn, &at, &err)) != 0 && failures < 2)
        failures += rc < 0;
    assert_int_equal(failures, 1);
    assert_int_equal(ask(conn, "SELECT count(*) FROM events"), 0);
    fixture_script(conn, "DROP TRIGGER no ON jobs");
    while (housekeeping(conn, &at, &err) > 0)
        ;
    assert_int_equal(ask(conn, "SELECT count(*) FROM jobs"), 0);
}

/* Whoever deletes a row is looked up in every column that refers to it: of tables that grow without end by an index that begins with that column. */
static void test_rows_of_large_tables_are_found_by_what_they_refer_to(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    AUTO_PGRESULT PGresult *r = NULL;
    struct err err = ERR_INIT;
    int n = db_exec(conn, &r, &err,
        "SELECT c.conname FROM pg_constraint c WHERE c.contype = 'f' AND (c.confrelid = 'jobs'::regclass OR c.conrelid "
        "IN"
        " ('events'::regclass, 'recovery_points'::regclass, 'copy_points'::regclass, 'samples'::regclass,"
        " 'sample_rollups'::regclass, 'disk_minutes'::regclass, 'job_steps'::regclass, 'job_log'::regclass))"
        " AND NOT EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = c.conrelid AND i.indkey[0] = c.conkey[1]"
        " AND (i.indpred IS NULL OR pg_get_expr(i.indpred, i.indrelid) LIKE '(%_id IS NOT NULL)'))");

    assert_ok(n, &err);
    if (n > 0)
        fail_msg("%d without an index, one is %s", n, db_text(r, 0, 0));
}

/* How PostgreSQL finds its rows where it must not read and sort whole tables, as it would small ones. */
static void assert_found_by(struct db_conn *conn, const char *explain, const char *how)
{
    AUTO_PGRESULT PGresult *r = NULL;
    struct err err = ERR_INIT;
    int n, found = 0;

    fixture_script(conn, "SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off");
    n = db_exec(conn, &r, &err, explain);
    fixture_script(conn, "RESET enable_seqscan; RESET enable_bitmapscan; RESET enable_sort");
    assert_ok(n, &err);
    for (int i = 0; i < n; i++)
        found += strstr(db_text(r, i, 0), how) != NULL;
    assert_int_equal(found, 1);
}

/* As the view asks for them: were its words others than those of the index, all drills of a machine would be read. */
static void test_failovers_are_found_by_an_index_however_many_there_were(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);

    assert_found_by(conn, "EXPLAIN SELECT * FROM drill_machines", "Backward using failovers_good_drills");
    assert_found_by(conn, "EXPLAIN SELECT id FROM failovers t ORDER BY (t.created_at) DESC, t.id DESC LIMIT 51",
        "Backward using failovers_created");
    assert_found_by(conn, "EXPLAIN SELECT id FROM failovers t WHERE t.state = ANY ('{running,ending}'::text[])",
        "using failovers_state");
}

/* As each sweep asks for it, of every machine. */
static void test_an_alarm_is_found_by_an_index_by_when_it_came(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);

    assert_found_by(conn,
        "EXPLAIN SELECT FROM events e WHERE e.machine_id = '11111111-2222-4333-8444-555555555555' AND e.code = 'looks_encrypted'"
        " AND coalesce(e.stored_at, e.at) > now() - interval '1 hour'",
        "AND (COALESCE(stored_at, at) > (now() - '01:00:00'::interval)))");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_too_old_goes_in_pieces),
        cmocka_unit_test(test_what_cannot_be_deleted_keeps_nothing_else),
        cmocka_unit_test(test_rows_of_large_tables_are_found_by_what_they_refer_to),
        cmocka_unit_test(test_failovers_are_found_by_an_index_however_many_there_were),
        cmocka_unit_test(test_an_alarm_is_found_by_an_index_by_when_it_came),
    };

    return cmocka_run_group_tests_name("hub_housekeeping", tests, postgres_fixture_up, postgres_fixture_down);
}
