/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "hub/db/migrate.h"
#include "hub/db/news.h"
#include "tests/unit/hub/postgres_fixture.h"
#include "transport/base/clock.h"
#include "transport/base/mem.h"

static void test_values_arrive_as_they_were_sent(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    AUTO_PGRESULT PGresult *r = NULL;
    struct err err = ERR_INIT;

    assert_ok(db_exec(conn, &r, &err,
                  "SELECT $1::text, $2::bigint, $3::bigint, $4::boolean, $5::text, $6::bytea,"
                  " (extract(epoch from $7::timestamptz) * 1000000)::bigint, $8::timestamptz IS NULL",
                  DB_S("it's; DROP TABLE machines --"), DB_U(UINT64_MAX), DB_I(-5), DB_B(true), DB_S(NULL),
                  DB_X("\0\1\xff", 3), DB_T(1790000000123456), DB_T(0)),
        &err);
    assert_string_equal(db_text(r, 0, 0), "it's; DROP TABLE machines --");
    assert_int_equal(db_u64(r, 0, 1), INT64_MAX);
    assert_int_equal(db_i64(r, 0, 2), -5);
    assert_true(db_bool(r, 0, 3));
    assert_true(PQgetisnull(r, 0, 4));
    assert_string_equal(db_text(r, 0, 5), "\\x0001ff");
    assert_int_equal(db_u64(r, 0, 6), 1790000000123456);
    assert_true(db_bool(r, 0, 7));
}

static void test_refusals_have_the_right_code(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    static const struct {
        const char *sql;
        enum err_code code;
    } rows[] = {
        {"INSERT INTO settings (key, value) VALUES ('a', '1'), ('a', '2')", ERR_EXISTS},
        {"SELECT 'x'::uuid", ERR_INVALID},
        {"INSERT INTO disks (machine_id, key) VALUES (gen_random_uuid(), 'k')", ERR_REFUSED},
        {"INSERT INTO machines (id, name, state) VALUES (gen_random_uuid(), 'n', 'nonsense')", ERR_INVALID},
        {"INSERT INTO machines (id, name) VALUES (gen_random_uuid(), '')", ERR_INVALID},
        {"SELECT no_such_column", ERR_INTERNAL},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct err err = ERR_INIT;

        assert_int_equal(db_exec(conn, NULL, &err, rows[i].sql), -1);
        assert_int_equal(err.code, rows[i].code);
    }
}

static void test_rollback_leaves_nothing(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct err err = ERR_INIT;

    assert_ok(db_begin(conn, &err), &err);
    assert_ok(db_exec(conn, NULL, &err, "INSERT INTO settings (key, value) VALUES ('rolled', '1')"), &err);
    db_rollback(conn);
    assert_int_equal(db_exec(conn, NULL, &err, "SELECT 1 FROM settings WHERE key = 'rolled'"), 0);
}

static void test_commit_of_a_failed_transaction_is_an_error(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct err err = ERR_INIT;

    assert_ok(db_begin(conn, &err), &err);
    assert_int_equal(db_exec(conn, NULL, NULL, "SELECT 1/0"), -1);
    assert_int_equal(db_commit(conn, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
}

static void test_a_released_connection_has_no_transaction(void **state)
{
    struct db_conn *conn = fixture_conn(state);
    struct err err = ERR_INIT;

    assert_ok(db_begin(conn, &err), &err);
    assert_ok(db_exec(conn, NULL, &err, "INSERT INTO settings (key, value) VALUES ('left', '1')"), &err);
    db_release(conn);
    conn = fixture_conn(state);
    assert_false(db_in_transaction(conn));
    assert_int_equal(db_exec(conn, NULL, &err, "SELECT 1 FROM settings WHERE key = 'left'"), 0);
    db_release(conn);
}

static void test_the_pool_is_bounded(void **state)
{
    struct postgres_fixture *f = *state;
    struct db_options options = {.dsn = postgres_embedded_dsn(f->pg), .connections_max = 1, .acquire_usec = 20000};
    struct db *db = NULL;
    struct db_conn *first = NULL, *second = NULL;
    struct err err = ERR_INIT;

    assert_ok(db_new(&options, &db, &err), &err);
    assert_ok(db_acquire(db, &first, &err), &err);
    assert_int_equal(db_acquire(db, &second, &err), -1);
    assert_int_equal(err.code, ERR_UNAVAILABLE);
    assert_true(err.correction[0] != '\0');
    db_release(first);
    assert_ok(db_acquire(db, &second, &err), &err);
    db_release(second);
    db_free(db);
}

static void test_an_unreachable_server_is_unavailable_with_a_correction(void **state)
{
    struct db_options options = {.dsn = "host=/nonexistent user=nobody", .acquire_usec = 1000};
    struct db *db = NULL;
    struct err err = ERR_INIT;

    (void)state;
    assert_ok(db_new(&options, &db, &err), &err);
    assert_int_equal(db_ping(db, 1000, &err), -1);
    assert_int_equal(err.code, ERR_UNAVAILABLE);
    assert_true(strstr(err.correction, "PostgreSQL") != NULL);
    db_free(db);
}

/* ---- migrations ---- */

static void test_migrations_are_applied_once(void **state)
{
    struct postgres_fixture *f = *state;
    struct err err = ERR_INIT;
    unsigned applied = 99;

    assert_ok(migrate_run(f->db, migrations_embedded, &applied, &err), &err);
    assert_int_equal(applied, 0);
}

static void test_an_edited_migration_is_refused(void **state)
{
    struct postgres_fixture *f = *state;
    struct migration edited[64] = {{0}};
    struct err err = ERR_INIT;

    for (size_t i = 0; migrations_embedded[i].name; i++)
        edited[i] = migrations_embedded[i];
    edited[0].sql = "SELECT 1";
    assert_int_equal(migrate_run(f->db, edited, NULL, &err), -1);
    assert_int_equal(err.code, ERR_REFUSED);
    assert_true(strstr(err.text, "0001_foundation was changed") != NULL);
}

static void test_a_newer_database_is_refused(void **state)
{
    struct postgres_fixture *f = *state;
    static const struct migration none[] = {{0, NULL, NULL}};
    struct err err = ERR_INIT;

    assert_int_equal(migrate_run(f->db, none, NULL, &err), -1);
    assert_int_equal(err.code, ERR_REFUSED);
}

static void test_a_failing_migration_leaves_nothing(void **state)
{
    struct postgres_fixture *f = *state;
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct migration more[64] = {{0}};
    struct err err = ERR_INIT;
    size_t n = 0;

    for (; migrations_embedded[n].name; n++)
        more[n] = migrations_embedded[n];
    more[n] = (struct migration){9999, "9999_bad", "CREATE TABLE half (a int); SELECT 1/0"};
    assert_int_equal(migrate_run(f->db, more, NULL, &err), -1);
    err_clear(&err);
    assert_int_equal(db_exec(conn, NULL, &err, "SELECT 1 FROM pg_tables WHERE tablename = 'half'"), 0);
}

static int notify_socket(const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(setenv("NOTIFY_SOCKET", path, 1), 0);
    return fd;
}

/* Also while another hub migrates, and for each migration anew. */
static void test_a_migration_that_takes_long_is_no_start_that_hangs(void **state)
{
    struct postgres_fixture *f = *state;
    AUTO_FREE char *path = mem_printf("%s/notify", f->folder);
    struct migration more[64] = {{0}};
    int fd AUTO_CLOSE = notify_socket(path);
    char said[256] = "";
    struct err err = ERR_INIT;
    size_t n = 0;

    for (; migrations_embedded[n].name; n++)
        more[n] = migrations_embedded[n];
    more[n] = (struct migration){9999, "9999_long", "SELECT 1/0"};
    assert_int_equal(migrate_run(f->db, more, NULL, &err), -1);
    assert_int_equal(unsetenv("NOTIFY_SOCKET"), 0);
    for (int i = 0; i < 2; i++) {
        assert_true(recv(fd, said, sizeof(said) - 1, MSG_DONTWAIT) > 0);
        assert_string_equal(said, "EXTEND_TIMEOUT_USEC=3600000000");
    }
    assert_int_equal(recv(fd, said, sizeof(said), MSG_DONTWAIT), -1);
    unlink(path);
}

static void test_a_default_policy_is_there(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct err err = ERR_INIT;

    assert_int_equal(db_exec(conn, NULL, &err, "SELECT 1 FROM policies WHERE is_default"), 1);
}

/* ---- news ---- */

static void test_news_arrive_at_commit(void **state)
{
    struct postgres_fixture *f = *state;
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct news *news = NULL;
    struct err err = ERR_INIT;
    uint64_t seen;

    assert_ok(news_start(f->db, NULL, NULL, &news, &err), &err);
    seen = news_wait(news, NEWS_JOBS, 0, 90 * USEC_PER_SEC); /* it listens now */
    assert_ok(db_begin(conn, &err), &err);
    assert_ok(news_tell(conn, NEWS_JOBS, &err), &err);
    assert_int_equal(news_wait(news, NEWS_JOBS, seen, 20000), seen);
    assert_ok(db_commit(conn, &err), &err);
    assert_int_equal(news_wait(news, NEWS_JOBS, seen, 90 * USEC_PER_SEC), seen + 1);
    news_stop(news);
}

/* ---- the private server ---- */

static void turn_until_up(struct postgres_fixture *f, pid_t not_this)
{
    struct err err = ERR_INIT;

    for (int i = 0; i < 2400; i++) {
        pid_t pid = postgres_embedded_pid(f->pg);

        if (pid != 0 && pid != not_this && db_ping(f->db, 1000, &err) == 0)
            return;
        (void)sd_event_run(f->loop, 50 * USEC_PER_MSEC);
    }
    fail_msg("PostgreSQL did not come back: %s", err.text);
}

static void test_a_killed_server_comes_back_and_the_pool_heals(void **state)
{
    struct postgres_fixture *f = *state;
    struct db_conn *conn = fixture_conn(state);
    struct err err = ERR_INIT;
    pid_t pid = postgres_embedded_pid(f->pg);

    assert_ok(db_exec(conn, NULL, &err, "INSERT INTO settings (key, value) VALUES ('durable', '1')"), &err);
    db_release(conn);
    assert_int_equal(kill(pid, SIGKILL), 0);
    turn_until_up(f, pid);
    conn = fixture_conn(state);
    assert_int_equal(db_exec(conn, NULL, &err, "SELECT 1 FROM settings WHERE key = 'durable'"), 1);
    db_release(conn);
}

/* Stops or continues the whole server: the postmaster and all its children. */
static void signal_server(struct postgres_fixture *f, int number)
{
    pid_t postmaster = postgres_embedded_pid(f->pg);
    DIR *proc = opendir("/proc");

    assert_non_null(proc);
    assert_int_equal(kill(postmaster, number), 0);
    for (struct dirent *e; (e = readdir(proc));) {
        char path[300], text[512] = "";
        int parent = 0;

        snprintf(path, sizeof(path), "/proc/%s/stat", e->d_name);
        FILE *stat_file = e->d_name[0] >= '1' && e->d_name[0] <= '9' ? fopen(path, "r") : NULL;

        if (!stat_file)
            continue;
        if (fgets(text, sizeof(text), stat_file) && strrchr(text, ')') &&
            sscanf(strrchr(text, ')') + 1, " %*c %d", &parent) == 1 && parent == postmaster)
            (void)kill((pid_t)strtol(e->d_name, NULL, 10), number);
        (void)fclose(stat_file);
    }
    (void)closedir(proc);
}

static void test_a_server_that_stands_still_is_given_up_and_found_again(void **state)
{
    struct postgres_fixture *f = *state;
    /* A server that is alive and slow answers in that time. */
    struct db_options options = {
        .dsn = postgres_embedded_dsn(f->pg), .acquire_usec = 60 * USEC_PER_SEC, .reply_usec = 3 * USEC_PER_SEC};
    struct db *db = NULL;
    struct db_conn *reading = NULL, *writing = NULL, *idle = NULL;
    struct err err = ERR_INIT;

    assert_ok(db_new(&options, &db, &err), &err);
    assert_ok(db_acquire(db, &reading, &err), &err);
    assert_ok(db_acquire(db, &writing, &err), &err);
    assert_ok(db_acquire(db, &idle, &err), &err);
    db_release(idle);
    assert_ok(db_begin(writing, &err), &err);
    assert_ok(db_exec(writing, NULL, &err, "INSERT INTO settings (key, value) VALUES ('stood', '1')"), &err);
    signal_server(f, SIGSTOP);
    int read = db_exec(reading, NULL, &err, "SELECT 1");
    enum err_code read_code = err.code;
    bool corrected = err.correction[0] != '\0';
    int committed = db_commit(writing, &err);

    signal_server(f, SIGCONT); /* before anything that may fail the test */
    assert_int_equal(read, -1);
    assert_int_equal(read_code, ERR_UNAVAILABLE);
    assert_true(corrected);
    assert_int_equal(committed, -1);
    assert_int_equal(db_exec(reading, NULL, &err, "SELECT 1"), -1); /* nothing can follow on it */
    db_release(reading);
    db_release(writing);
    for (int i = 0; i < 600 && db_ping(db, USEC_PER_SEC, &err) < 0; i++)
        (void)poll(NULL, 0, 50);
    assert_ok(db_ping(db, USEC_PER_SEC, &err), &err);
    db_free(db);
}

static void test_the_server_is_not_root_and_has_no_tcp(void **state)
{
    struct postgres_fixture *f = *state;
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    AUTO_PGRESULT PGresult *r = NULL;
    struct err err = ERR_INIT;
    struct stat st;
    char path[64];

    snprintf(path, sizeof(path), "/proc/%d", (int)postgres_embedded_pid(f->pg));
    assert_int_equal(stat(path, &st), 0);
    assert_true(st.st_uid != 0);
    assert_ok(db_exec(conn, &r, &err, "SELECT current_setting('listen_addresses'), current_setting('fsync')"), &err);
    assert_string_equal(db_text(r, 0, 0), "");
    assert_string_equal(db_text(r, 0, 1), "on");
}

static void backend_of(struct db_conn *conn, char pid[24])
{
    AUTO_PGRESULT PGresult *r = NULL;
    struct err err = ERR_INIT;

    assert_int_equal(db_exec(conn, &r, &err, "SELECT pg_backend_pid()"), 1);
    snprintf(pid, 24, "%s", db_text(r, 0, 0));
}

/* After a busy hour a hub does not keep what that took of PostgreSQL. */
static void test_connections_that_nobody_wants_are_closed(void **state)
{
    struct postgres_fixture *f = *state;
    struct db_options options = {.dsn = postgres_embedded_dsn(f->pg), .idle_usec = 1};
    struct db_conn *conns[3] = {NULL};
    struct db *db = NULL;
    struct err err = ERR_INIT;
    char pids[3][24];
    int left = 3;

    assert_ok(db_new(&options, &db, &err), &err);
    for (size_t i = 0; i < 3; i++) {
        assert_ok(db_acquire(db, &conns[i], &err), &err);
        backend_of(conns[i], pids[i]);
    }
    for (size_t i = 0; i < 3; i++) {
        uint64_t before = clock_mono_usec();

        while (clock_mono_usec() <
               before + 2) /* the clock moves on: the one before was idle for longer than a microsecond */
            ;
        db_release(conns[i]);
    }
    for (uint64_t end = clock_mono_usec() + 60 * USEC_PER_SEC; left != 1 && clock_mono_usec() < end;) {
        AUTO_PGRESULT PGresult *r = NULL;
        struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);

        left = db_exec(conn, &r, &err, "SELECT pid FROM pg_stat_activity WHERE pid::text IN ($1, $2, $3)",
            DB_S(pids[0]), DB_S(pids[1]), DB_S(pids[2]));
        assert_ok(left, &err);
        assert_true(left != 1 || strcmp(db_text(r, 0, 0), pids[2]) == 0);
    }
    assert_int_equal(left, 1);
    assert_ok(db_acquire(db, &conns[0], &err), &err); /* the pool goes on */
    db_release(conns[0]);
    db_free(db);
}

/* PostgreSQL was restarted, or ended the session, while nobody used it: the next one gets another, for changes as well, which are not repeated. */
static void test_a_session_that_ended_while_idle_is_replaced(void **state)
{
    struct postgres_fixture *f = *state;
    struct db_options options = {.dsn = postgres_embedded_dsn(f->pg), .connections_max = 1};
    struct db_conn *other AUTO_OF(db_conn) = fixture_conn(state);
    AUTO_PGRESULT PGresult *r = NULL;
    struct db_conn *conn = NULL;
    struct err err = ERR_INIT;
    struct db *db = NULL;

    assert_ok(db_new(&options, &db, &err), &err);
    assert_ok(db_acquire(db, &conn, &err), &err);
    assert_int_equal(db_exec(conn, &r, &err, "SELECT pg_backend_pid()"), 1);
    db_release(TAKE_PTR(conn));
    assert_int_equal(
        db_exec(other, NULL, &err, "SELECT pg_terminate_backend($1::bigint::integer)", DB_U(db_u64(r, 0, 0))), 1);
    while (
        db_exec(other, NULL, &err, "SELECT 1 FROM pg_stat_activity WHERE pid = $1::bigint", DB_U(db_u64(r, 0, 0))) > 0)
        (void)poll(NULL, 0, 5);
    (void)poll(NULL, 0, 100); /* its socket is closed after that */
    assert_ok(db_acquire(db, &conn, &err), &err);
    assert_ok(db_begin(conn, &err), &err);
    assert_ok(db_commit(conn, &err), &err);
    db_release(conn);
    db_free(db);
}

/* Whatever the administrator of that database has set. */
static void test_nothing_is_compiled(void **state)
{
    struct postgres_fixture *f = *state;
    struct db_options options = {.dsn = postgres_embedded_dsn(f->pg)};
    struct db_conn *other AUTO_OF(db_conn) = fixture_conn(state);
    AUTO_PGRESULT PGresult *r = NULL;
    struct db_conn *conn = NULL;
    struct err err = ERR_INIT;
    struct db *db = NULL;

    assert_ok(db_script(other,
                  "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET jit = on', current_database()); END $$", &err),
        &err);
    assert_ok(db_new(&options, &db, &err), &err);
    assert_ok(db_acquire(db, &conn, &err), &err);
    assert_int_equal(db_exec(conn, &r, &err, "SHOW jit"), 1);
    assert_string_equal(db_text(r, 0, 0), "off");
    db_release(conn);
    db_free(db);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values_arrive_as_they_were_sent),
        cmocka_unit_test(test_connections_that_nobody_wants_are_closed),
        cmocka_unit_test(test_refusals_have_the_right_code),
        cmocka_unit_test(test_rollback_leaves_nothing),
        cmocka_unit_test(test_commit_of_a_failed_transaction_is_an_error),
        cmocka_unit_test(test_a_released_connection_has_no_transaction),
        cmocka_unit_test(test_the_pool_is_bounded),
        cmocka_unit_test(test_an_unreachable_server_is_unavailable_with_a_correction),
        cmocka_unit_test(test_migrations_are_applied_once),
        cmocka_unit_test(test_an_edited_migration_is_refused),
        cmocka_unit_test(test_a_newer_database_is_refused),
        cmocka_unit_test(test_a_failing_migration_leaves_nothing),
        cmocka_unit_test(test_a_migration_that_takes_long_is_no_start_that_hangs),
        cmocka_unit_test(test_a_default_policy_is_there),
        cmocka_unit_test(test_a_session_that_ended_while_idle_is_replaced),
        cmocka_unit_test(test_nothing_is_compiled),
        cmocka_unit_test(test_news_arrive_at_commit),
        cmocka_unit_test(test_the_server_is_not_root_and_has_no_tcp),
        cmocka_unit_test(test_a_server_that_stands_still_is_given_up_and_found_again),
        cmocka_unit_test(test_a_killed_server_comes_back_and_the_pool_heals),
    };

    return cmocka_run_group_tests_name("hub_db", tests, postgres_fixture_up, postgres_fixture_down);
}
