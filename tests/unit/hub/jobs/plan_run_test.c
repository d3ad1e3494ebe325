/* SPDX-License-Identifier: Apache-2.0
 *
 * Runs of recovery plans, with a hub that dies at each step of each of their jobs, at the first look and at later ones. Each hub is a process of its own that
 * is ended at that place by _exit; the next one goes on. In the end everything must be as if nothing had happened: each step once. PostgreSQL, the target's
 * program, the script and the port are real; the vault's part is to answer its commands.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "hub/db/job_store.h"
#include "hub/fabric/action.h"
#include "hub/jobs/drill_clock.h"
#include "hub/jobs/job.h"
#include "hub/jobs/job_runner.h"
#include "hub/jobs/plan_run.h"
#include "tests/unit/hub/jobs/replicas.h"
#include "tests/unit/hub/postgres_fixture.h"
#include "transport/base/crashpoint.h"

#define MACHINE_1 "11111111-0000-4000-8000-000000000001"
#define MACHINE_2 "11111111-0000-4000-8000-000000000002"
#define NODE "22222222-0000-4000-8000-000000000001"
#define VAULT "33333333-0000-4000-8000-000000000001"
#define HUB "aaaaaaaa-0000-4000-8000-000000000001"
#define DIED 42
#define LOOKS_MAX 6000

/* One replica is one file. What is named in `broken` does not come up, what is named in `dead` does not start: names in their quotes, for
 * a random UUID may have the letters of one. */
static const char program[] =
    "#!/bin/sh\n"
    "d=${0%/*}; spec=$(cat)\n"
    "id=$(printf %s \"$spec\" | sed 's/.*\"failover_id\":\"\\([0-9a-f-]*\\)\".*/\\1/')\n"
    "case $1 in\n"
    "start) printf %s \"$spec\" | grep -qF \"$(cat $d/dead)\" && { echo no power >&2; exit 1; }\n"
    " printf %s \"$spec\" >\"$d/replica-$id\"; v=passed\n"
    " printf %s \"$spec\" | grep -qF \"$(cat $d/broken)\" && v=failed\n"
    " echo '{\"name\":\"r\",\"address\":\"192.0.2.1\",\"verdict\":\"'$v'\"}' ;;\n"
    "stop) rm -f \"$d/replica-$id\" ;;\n"
    "esac\n";
/* Which says that it ran, and what it was told. */
static const char script[] = "#!/bin/sh\n"
                             "read -r told\n"
                             "test \"$1\" = now && test \"$LEEWARD_STEP\" = dns || exit 3\n"
                             "test \"$(id -u)\" != 0 || exit 4\n"
                             "printf %s \"$told\" | grep -q '\"address\": *\"192.0.2.1\"' || exit 5\n"
                             "echo switched\n";

static char folder[96]; /* in the fixture's folder, which is removed at its end */
static int listener = -1;
static unsigned port;

/* ---- the vault and the people ---- */

static int answer_commands(struct db_conn *conn)
{
    AUTO_PGRESULT PGresult *r = NULL;
    struct err err = ERR_INIT;
    int n = command_open_list(conn, VAULT, &r, &err);

    for (int i = 0; i < n; i++) {
        const struct command_outcome outcome = {.id = db_text(r, i, 0),
            .target_id = VAULT,
            .done = true,
            .code = "",
            .text = "",
            .correction = "",
            .result_json = "{\"uri\":\"nbd+unix:///0?socket=/s\",\"disks\":[{\"number\":0,\"name\":\"sda\","
                           "\"size_bytes\":\"1000\",\"uri\":\"nbd+unix:///0?socket=/s\"}]}"};

        if (command_note(conn, &outcome, &err) < 0)
            return -1;
    }
    return n;
}

static int answer_gates(struct db_conn *conn, const char *answer)
{
    AUTO_PGRESULT PGresult *r = NULL;
    struct err err = ERR_INIT;
    int n = db_exec(conn, &r, &err, "SELECT id FROM jobs WHERE status = 'waiting_for_input'");

    for (int i = 0; i < n; i++)
        if (job_answer(conn, db_text(r, i, 0), answer, "token:test", &err) < 0)
            return -1;
    return n;
}

/* ---- a hub ---- */

struct death {
    const char *at;
    unsigned pass; /* the n-th time that it comes by */
};

static void die_there(void *arg, const char *name)
{
    struct death *d = arg;

    if (strcmp(d->at, name) == 0 && --d->pass == 0)
        _exit(DIED);
}

static int open_jobs(struct db_conn *conn)
{
    return db_exec(conn, NULL, NULL, "SELECT 1 FROM jobs WHERE status IN ('queued', 'running', 'waiting_for_input')");
}

static int hub_main(const char *dsn, struct death *death, const char *answer)
{
    const struct db_options options = {.dsn = dsn};
    struct db_conn *conn AUTO_OF(db_conn) = NULL;
    struct err err = ERR_INIT;
    struct db *db;
    uint64_t wait;
    int open = 1;

    action_allow_scripts(folder, "nobody");
    crashpoint_watch(death ? die_there : NULL, death);
    if (db_new(&options, &db, &err) < 0 || db_acquire(db, &conn, &err) < 0)
        return 1;
    for (int look = 0; look < LOOKS_MAX && open > 0; look++) {
        if (job_run_one(conn, HUB, &wait, &err) < 0 || answer_commands(conn) < 0 || answer_gates(conn, answer) < 0 ||
            db_script(conn,
                "UPDATE jobs SET run_after = now() WHERE status = 'running';"
                "UPDATE plan_run_steps SET attempt_at = now() WHERE state = 'running' AND job_id IS NULL",
                &err) < 0) {
            fprintf(stderr, "hub: %s\n", err.text);
            return 1;
        }
        (void)poll(NULL, 0, 2); /* programs are at work meanwhile */
        open = open_jobs(conn);
    }
    return open == 0 ? 0 : 1;
}

static int run_hub(struct postgres_fixture *f, struct death *death, const char *answer)
{
    int status = 0;
    pid_t pid = fork();

    if (pid == 0)
        _exit(hub_main(postgres_embedded_dsn(f->pg), death, answer));
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* ---- the site ---- */

static int put(const char *name, const char *text, mode_t mode)
{
    AUTO_FREE char *path = mem_printf("%s/%s", folder, name);
    FILE *f = path ? fopen(path, "w") : NULL;

    if (!f)
        return -1;
    fputs(text, f);
    fclose(f);
    return chmod(path, mode);
}

static int listen_somewhere(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(a);

    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(listener, 100) < 0 ||
        getsockname(listener, (struct sockaddr *)&a, &n) < 0)
        return -1;
    port = ntohs(a.sin_port);
    return 0;
}

static int up(void **state)
{
    const struct postgres_fixture *fixture;

    if (postgres_fixture_up(state) < 0)
        return -1;
    fixture = *state;
    snprintf(folder, sizeof(folder), "%s/plan", fixture->folder);
    if (mkdir(folder, 0755) < 0 || chmod(folder, 0755) < 0 || put("program", program, 0700) < 0 ||
        put("switch-dns", script, 0755) < 0)
        return -1;
    return listen_somewhere();
}

static int down(void **state)
{
    close(listener);
    return postgres_fixture_down(state);
}

static void protect(struct db_conn *conn, const char *id, const char *name)
{
    AUTO_FREE char *sql =
        mem_printf("INSERT INTO disks (machine_id, key, number, device, is_protected, present) VALUES ('%s', 'sda', 0,"
                   " '/dev/sda', true, true);"
                   "INSERT INTO protections (machine_id, policy_id, node_id, vault_id) SELECT '%s', id, '" NODE
                   "', '" VAULT "' FROM policies WHERE is_default;"
                   "UPDATE machines SET state = 'protected' WHERE id = '%s';"
                   "INSERT INTO recovery_points (machine_id, sequence, vault_id, time, kind, generation, committed_at)"
                   " SELECT '%s', s, '" VAULT "', now() - interval '1 minute' * (3 - s), 'crash', 1, now()"
                   " FROM generate_series(1, 2) s",
            id, id, id, id);
    struct err err = ERR_INIT;

    fixture_machine(conn, id, name);
    assert_ok(db_script(conn, sql, &err), &err);
}

static void build(struct db_conn *conn)
{
    AUTO_FREE char *target = mem_printf("INSERT INTO compute_targets (name, adapter, config) VALUES ('rack', "
                                        "'command', '{\"program\":\"%s/program\"}')",
        folder);
    struct err err = ERR_INIT;

    assert_int_equal(put("broken", "no machine", 0644), 0);
    assert_int_equal(put("dead", "no machine", 0644), 0);
    assert_ok(db_script(conn,
                  "DELETE FROM drill_schedules; DELETE FROM plan_runs; DELETE FROM recovery_plans; DELETE FROM "
                  "failovers; DELETE FROM compute_targets"
                  " WHERE name = 'rack'; DELETE FROM jobs; DELETE FROM exports; DELETE FROM recovery_points;"
                  " DELETE FROM machines; DELETE FROM nodes; DELETE FROM vaults",
                  &err),
        &err);
    fixture_node(conn, NODE, "n");
    fixture_vault(conn, VAULT, "v");
    protect(conn, MACHINE_1, "db1");
    protect(conn, MACHINE_2, "web1");
    assert_ok(db_script(conn, target, &err), &err);
}

static void save_plan(struct db_conn *conn, const char *document)
{
    const struct plan_row row = {.name = "shop", .description = "", .document_json = document};
    AUTO_PLAN struct plan *plan = NULL;
    struct err err = ERR_INIT;
    char id[IDENT_TEXT_SIZE];

    assert_ok(plan_read_text(document, &plan, &err), &err);
    assert_ok(plan_check_names(conn, plan, &err), &err);
    assert_ok(plan_create(conn, &row, id, &err), &err);
}

/* Every type of step but the webhook, in two groups. */
static void save_shop(struct db_conn *conn)
{
    AUTO_FREE char *document = mem_printf(
        "{\"target\":\"rack\",\"groups\":[{\"name\":\"data\",\"steps\":["
        "{\"name\":\"database\",\"type\":\"machine\",\"machine\":\"db1\"},"
        "{\"name\":\"answers\",\"type\":\"wait\",\"after\":[\"database\"],\"check\":{\"type\":\"tcp\",\"address\":"
        "\"127.0.0.1\",\"port\":%u}}]},"
        "{\"name\":\"front\",\"steps\":[{\"name\":\"web\",\"type\":\"machine\",\"machine\":\"web1\"},"
        "{\"name\":\"look\",\"type\":\"gate\",\"question\":\"Is it well?\",\"after\":[\"web\"],\"only\":[\"test\"]},"
        "{\"name\":\"dns\",\"type\":\"script\",\"script\":\"switch-dns\",\"arguments\":[\"now\"],\"after\":[\"look\"]},"
        "{\"name\":\"never\",\"type\":\"gate\",\"question\":\"?\",\"only\":[\"planned\"]}]}]}",
        port);

    save_plan(conn, document);
}

static int start(struct db_conn *conn, const char *kind, bool cleanup, struct err *err)
{
    const struct plan_run_spec spec = {
        .plan = "shop", .kind = kind, .point = "latest", .requested_by = "token:test", .cleanup = cleanup};
    char run_id[IDENT_TEXT_SIZE], job_id[IDENT_TEXT_SIZE];
    int rc;

    if (db_begin(conn, err) < 0)
        return -1;
    rc = plan_run_start(conn, &spec, false, run_id, job_id, NULL, err);
    if (rc < 0)
        db_rollback(conn);
    return rc < 0 ? -1 : db_commit(conn, err);
}

static void start_well(struct db_conn *conn, const char *kind, bool cleanup)
{
    struct err err = ERR_INIT;

    assert_ok(start(conn, kind, cleanup, &err), &err);
}

/* Replicas that a test leaves are taken away as a person would. */
static void end_replicas(struct postgres_fixture *f, struct db_conn *conn, const char *action)
{
    AUTO_PGRESULT PGresult *r = NULL;
    struct err err = ERR_INIT;
    char job[IDENT_TEXT_SIZE];

    assert_int_equal(db_exec(conn, &r, &err, "SELECT id FROM plan_runs ORDER BY requested_at DESC LIMIT 1"), 1);
    AUTO_FREE char *params = mem_printf("{\"run_id\":\"%s\",\"action\":\"%s\"}", db_text(r, 0, 0), action);
    const struct job_spec spec = {.kind = "plan_end", .params_json = params, .requested_by = "token:test"};

    assert_ok(job_submit(conn, &spec, false, job, &err), &err);
    assert_int_equal(run_hub(f, NULL, "continue"), 0);
}

/* ---- the tests ---- */

static const struct {
    const char *at;
    unsigned passes[4];
} places[] = {
    {"job.plan_run.check", {1}},
    {"job.plan_run.run", {1, 2, 6}},
    {"job.plan_run.cleanup", {1, 2}},
    {"job.plan_run.settle", {1}},
    {"job.plan_action.act", {1}},
    {"job.plan_gate.ask", {1}},
    {"job.failover.start", {1}},
    {"job.failover.settle", {2}},
    {"job.failover_end.stop", {1}},
};

static void assert_the_drill_was_done_once(struct db_conn *conn)
{
    assert_int_equal(
        rows_of(conn,
            "SELECT 1 FROM plan_runs WHERE state = 'succeeded' AND verdict = 'passed' AND ended_at IS NOT NULL"
            " AND recovered_at IS NOT NULL"),
        1);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM plan_run_steps WHERE state = 'succeeded' AND attempts = 1"), 5);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM plan_run_steps WHERE state = 'skipped' AND attempts = 0"), 1);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM plan_run_steps WHERE live"), 0);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM plan_run_steps WHERE name = 'dns' AND detail = 'switched'"), 1);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM failovers WHERE state = 'cleaned' AND outcome = 'passed'"), 2);
    /* The plan's own job, one per step, one per replica's end. */
    assert_int_equal(rows_of(conn, "SELECT 1 FROM jobs WHERE status = 'succeeded'"), 1 + 5 + 2);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM jobs"), 8);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM machines WHERE state = 'protected' AND generation = 1"), 2);
    assert_int_equal(replicas_in(conn, folder), 0);
    /* In the order of the plan. */
    assert_int_equal(
        rows_of(conn, "SELECT 1 FROM plan_run_steps a JOIN plan_run_steps b ON b.started_at < a.finished_at"
                      " WHERE (a.name, b.name) IN (('database', 'answers'), ('answers', 'web'), ('web', 'look'),"
                      " ('look', 'dns'))"),
        0);
}

static void test_a_hub_that_dies_anywhere_runs_the_plan_once(void **state)
{
    static const char *const when[] = {"before", "after"};
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct err err = ERR_INIT;

    for (size_t i = 0; i < ARRAY_LEN(places); i++)
        for (size_t k = 0; k < 4 && places[i].passes[k]; k++)
            for (size_t w = 0; w < ARRAY_LEN(when); w++) {
                AUTO_FREE char *name = mem_printf("%s.%s", places[i].at, when[w]);
                struct death death = {name, places[i].passes[k]};
                int ended;

                build(conn);
                save_shop(conn);
                start_well(conn, "test", true);
                ended = run_hub(*state, &death, "continue");
                if (ended != DIED)
                    fail_msg("no hub died at pass %u of %s: %d", places[i].passes[k], name, ended);
                /* Ten seconds later. */
                assert_ok(
                    db_script(conn, "UPDATE jobs SET lease_until = now() WHERE lease_until IS NOT NULL", &err), &err);
                assert_int_equal(run_hub(*state, NULL, "continue"), 0);
                assert_the_drill_was_done_once(conn);
            }
}

static void test_an_unplanned_run_stays_until_it_is_committed(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);

    build(conn);
    save_shop(conn);
    start_well(conn, "unplanned", false);
    assert_int_equal(run_hub(*state, NULL, "continue"), 0);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM plan_runs WHERE state = 'succeeded'"), 1);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM machines WHERE state = 'failed_over' AND generation = 2"), 2);
    /* The gate is for tests only. */
    assert_int_equal(rows_of(conn, "SELECT 1 FROM plan_run_steps WHERE name = 'look' AND state = 'skipped'"), 1);
    assert_int_equal(replicas_in(conn, folder), 2);
    end_replicas(*state, conn, "commit");
    assert_int_equal(rows_of(conn, "SELECT 1 FROM machines WHERE state = 'committed'"), 2);
    assert_int_equal(replicas_in(conn, folder), 2);
}

static void test_an_abort_at_the_gate_ends_the_plan(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);

    build(conn);
    save_shop(conn);
    start_well(conn, "test", true);
    assert_int_equal(run_hub(*state, NULL, "abort"), 0);
    assert_int_equal(
        rows_of(conn, "SELECT 1 FROM plan_runs WHERE state = 'failed' AND verdict = 'failed' AND verdict_text LIKE"
                      " 'look: answered with abort'"),
        1);
    assert_int_equal(
        rows_of(conn, "SELECT 1 FROM plan_run_steps WHERE name = 'dns' AND state = 'cancelled' AND attempts = 0"), 1);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM jobs WHERE kind = 'plan_run' AND status = 'failed'"), 1);
    assert_int_equal(replicas_in(conn, folder), 0);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM failovers WHERE state = 'cleaned'"), 2);
}

static void test_a_replica_that_does_not_come_up_stops_what_waits_for_it(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);

    build(conn);
    save_shop(conn);
    assert_int_equal(put("broken", "\"db1\"", 0644), 0);
    start_well(conn, "test", true);
    assert_int_equal(run_hub(*state, NULL, "continue"), 0);
    assert_int_equal(
        rows_of(conn,
            "SELECT 1 FROM plan_runs WHERE state = 'failed' AND verdict_text LIKE 'database: boot check failed%'"),
        1);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM failovers WHERE state = 'cleaned' AND outcome = 'failed'"), 1);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM failovers"), 1);
    assert_int_equal(replicas_in(conn, folder), 0);
}

static void test_a_step_is_tried_again_and_then_passed_over(void **state)
{
    static const char document[] =
        "{\"target\":\"rack\",\"groups\":[{\"name\":\"all\",\"steps\":["
        "{\"name\":\"database\",\"type\":\"machine\",\"machine\":\"db1\",\"retries\":2,\"on_failure\":\"continue\"},"
        "{\"name\":\"web\",\"type\":\"machine\",\"machine\":\"web1\",\"after\":[\"database\"]}]}]}";
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);

    build(conn);
    save_plan(conn, document);
    assert_int_equal(put("dead", "\"db1\"", 0644), 0);
    start_well(conn, "test", true);
    assert_int_equal(run_hub(*state, NULL, "continue"), 0);
    assert_int_equal(
        rows_of(conn, "SELECT 1 FROM plan_run_steps WHERE name = 'database' AND state = 'passed_over' AND attempts = 3"
                      " AND detail LIKE '%no power%'"),
        1);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM plan_run_steps WHERE name = 'web' AND state = 'succeeded'"), 1);
    /* The plan went through, the drill was no good one. */
    assert_int_equal(rows_of(conn, "SELECT 1 FROM plan_runs WHERE state = 'succeeded' AND verdict = 'failed'"), 1);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM failovers WHERE state = 'failed'"), 3);
    assert_int_equal(replicas_in(conn, folder), 0);
}

static void test_a_cancelled_drill_leaves_nothing(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    AUTO_PGRESULT PGresult *r = NULL;
    struct err err = ERR_INIT;
    struct death death = {"job.plan_gate.ask.after", 1};

    build(conn);
    save_shop(conn);
    start_well(conn, "test", true);
    assert_int_equal(run_hub(*state, &death, "continue"), DIED);
    assert_int_equal(replicas_in(conn, folder), 2);
    assert_int_equal(db_exec(conn, &r, &err, "SELECT id FROM jobs WHERE kind = 'plan_run'"), 1);
    assert_ok(job_cancel(conn, db_text(r, 0, 0), &err), &err);
    assert_ok(db_script(conn, "UPDATE jobs SET lease_until = now() WHERE lease_until IS NOT NULL", &err), &err);
    assert_int_equal(run_hub(*state, NULL, "continue"), 0);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM plan_runs WHERE state = 'cancelled'"), 1);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM plan_run_steps WHERE name = 'look' AND state = 'cancelled'"), 1);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM jobs WHERE kind = 'plan_gate' AND status = 'cancelled'"), 1);
    assert_int_equal(replicas_in(conn, folder), 0);
}

static void test_a_step_that_takes_too_long_is_stopped(void **state)
{
    static const char document[] =
        "{\"groups\":[{\"name\":\"all\",\"steps\":[{\"name\":\"port\",\"type\":\"wait\","
        "\"timeout_seconds\":1,\"check\":{\"type\":\"tcp\",\"address\":\"127.0.0.1\",\"port\":1}}]}]}";
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);

    build(conn);
    save_plan(conn, document);
    start_well(conn, "test", false);
    assert_int_equal(run_hub(*state, NULL, "continue"), 0);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM plan_runs WHERE state = 'failed'"), 1);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM plan_run_steps WHERE state = 'failed' AND detail <> ''"), 1);
}

/* What it failed at is named by its step, cut after eighty bytes. */
static void test_a_run_whose_step_has_a_long_name_in_another_script_ends(void **state)
{
    static const char document[] =
        "{\"groups\":[{\"name\":\"all\",\"steps\":[{\"name\":\"x"
        "\u0416\u0416\u0416\u0416\u0416\u0416\u0416\u0416\u0416\u0416"
        "\u0416\u0416\u0416\u0416\u0416\u0416\u0416\u0416\u0416\u0416"
        "\u0416\u0416\u0416\u0416\u0416\u0416\u0416\u0416\u0416\u0416"
        "\u0416\u0416\u0416\u0416\u0416\u0416\u0416\u0416\u0416\u0416"
        "\u0416\u0416\u0416\u0416\u0416\u0416\u0416\u0416\u0416\u0416"
        "\",\"type\":\"wait\",\"timeout_seconds\":1,"
        "\"check\":{\"type\":\"tcp\",\"address\":\"127.0.0.1\",\"port\":1}}]}]}";
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);

    build(conn);
    save_plan(conn, document);
    start_well(conn, "test", false);
    assert_int_equal(run_hub(*state, NULL, "continue"), 0);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM plan_runs WHERE state = 'failed'"), 1);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM events WHERE code = 'plan_run_ended'"
                                   " AND text_values->>'problem' LIKE U&'x\\0416%'"),
        1);
}

/* One file that anybody may write, one that is not there, one that is elsewhere. */
static void test_only_scripts_of_the_folder_run(void **state)
{
    static const char *const names[][2] = {{"loose", "only its owner"}, {"gone", "gone"}};
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    AUTO_PLAN struct plan *plan = NULL;
    struct err err = ERR_INIT;

    assert_int_equal(put("loose", "#!/bin/sh\n", 0777), 0);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        AUTO_FREE char *document = mem_printf(
            "{\"groups\":[{\"name\":\"a\",\"steps\":[{\"name\":\"s\",\"type\":\"script\",\"script\":\"%s\"}]}]}",
            names[i][0]);
        AUTO_FREE char *sql =
            mem_printf("SELECT 1 FROM plan_run_steps WHERE state = 'failed' AND detail LIKE '%%%s%%'", names[i][1]);

        build(conn);
        save_plan(conn, document);
        start_well(conn, "test", false);
        assert_int_equal(run_hub(*state, NULL, "continue"), 0);
        assert_int_equal(rows_of(conn, sql), 1);
    }
    assert_int_equal(
        plan_read_text("{\"groups\":[{\"name\":\"a\",\"steps\":[{\"name\":\"s\",\"type\":\"script\",\"script\":"
                       "\"../switch-dns\"}]}]}",
            &plan, &err),
        -1);
}

static void test_mistakes_are_refused_before_anything_begins(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct err err = ERR_INIT;

    build(conn);
    save_shop(conn);
    assert_int_equal(start(conn, "sideways", false, &err), -1);
    assert_int_equal(start(conn, "unplanned", true, &err), -1);
    assert_ok(db_script(conn, "DELETE FROM recovery_points WHERE machine_id = '" MACHINE_2 "'", &err), &err);
    assert_int_equal(start(conn, "test", false, &err), -1);
    assert_non_null(strstr(err.text, "step web"));
    assert_non_null(strstr(err.text, "no recovery point"));
    build(conn);
    save_shop(conn);
    assert_ok(db_script(conn, "UPDATE compute_targets SET name = 'shelf' WHERE name = 'rack'", &err), &err);
    assert_int_equal(start(conn, "test", false, &err), -1);
    assert_non_null(strstr(err.text, "rack"));
    assert_ok(db_script(conn, "UPDATE compute_targets SET name = 'rack' WHERE name = 'shelf'", &err), &err);
    assert_ok(db_script(conn, "UPDATE machines SET name = 'other' WHERE name = 'db1'", &err), &err);
    assert_int_equal(start(conn, "test", false, &err), -1);
    assert_non_null(strstr(err.text, "db1"));
    assert_ok(db_script(conn, "UPDATE machines SET name = 'db1' WHERE name = 'other'", &err), &err);
    assert_ok(db_script(conn, "UPDATE machines SET online = false", &err), &err);
    assert_int_equal(start(conn, "planned", false, &err), -1); /* its source cannot be stopped */
    assert_non_null(strstr(err.text, "not connected"));
    assert_int_equal(start(conn, "failback", false, &err), -1);
    assert_non_null(strstr(err.text, "no replica that is protected"));
    assert_int_equal(rows_of(conn, "SELECT 1 FROM jobs"), 0);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM plan_runs"), 0);
    /* A machine is in one run at a time. */
    start_well(conn, "test", false);
    assert_int_equal(start(conn, "test", false, &err), -1);
    assert_int_equal(err.code, ERR_REFUSED);
    assert_non_null(strstr(err.text, "another run"));
    assert_int_equal(run_hub(*state, NULL, "continue"), 0);
    end_replicas(*state, conn, "cleanup");
    assert_int_equal(replicas_in(conn, folder), 0);
    start_well(conn, "test", true);
    assert_int_equal(run_hub(*state, NULL, "continue"), 0);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM plan_runs WHERE state = 'succeeded'"), 2);
}

/* A target that says no is heard before the first machine begins. */
static void test_all_targets_are_asked_first(void **state)
{
    static const char document[] = "{\"groups\":[{\"name\":\"a\",\"steps\":[{\"name\":\"one\",\"type\":\"machine\","
                                   "\"machine\":\"db1\",\"target\":\"rack\"}]},"
                                   "{\"name\":\"b\",\"steps\":[{\"name\":\"two\",\"type\":\"machine\",\"machine\":"
                                   "\"web1\",\"target\":\"shelf\"}]}]}";
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct err err = ERR_INIT;

    build(conn);
    assert_ok(db_script(conn,
                  "DELETE FROM compute_targets WHERE name = 'shelf';"
                  "INSERT INTO compute_targets (name, adapter, config) VALUES ('shelf', 'command', "
                  "'{\"program\":\"/nowhere\"}')",
                  &err),
        &err);
    save_plan(conn, document);
    start_well(conn, "unplanned", false);
    assert_int_equal(run_hub(*state, NULL, "continue"), 0);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM failovers"), 0);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM plan_runs WHERE state = 'failed'"), 1);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM jobs WHERE problem_text LIKE '%shelf%/nowhere%'"), 1);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM machines WHERE state = 'protected' AND generation = 1"), 2);
}

static void test_what_a_plan_may_not_say(void **state)
{
#define ONE(step) "{\"groups\":[{\"name\":\"g\",\"steps\":[" step "]}]}"
    static const char *const bad[][2] = {
        {"[]", "not an object"},
        {"{}", "groups"},
        {"{\"groups\":[{\"name\":\"g\",\"steps\":[]}]}", "at least one step"},
        {ONE("{\"name\":\"a\",\"type\":\"dance\"}"), "groups[0].steps[0].type"},
        {ONE("{\"name\":\"a\",\"type\":\"machine\"}"), "machine: missing"},
        {ONE("{\"name\":\"a\",\"type\":\"gate\",\"question\":\"?\",\"machine\":\"db1\"}"), "no such member"},
        {ONE("{\"name\":\"a\",\"type\":\"gate\",\"question\":\"?\",\"after\":[\"b\"]}"), "no step b"},
        {ONE("{\"name\":\"a\",\"type\":\"gate\",\"question\":\"?\",\"retries\":1000}"), "retries"},
        {ONE("{\"name\":\"a\",\"type\":\"gate\",\"question\":\"?\",\"only\":[\"tests\"]}"), "only"},
        {ONE("{\"name\":\"a\",\"type\":\"gate\",\"question\":\"?\",\"on_failure\":\"panic\"}"), "on_failure"},
        {ONE("{\"name\":\"a\",\"type\":\"webhook\",\"url\":\"file:///etc/passwd\"}"), "http"},
        {ONE("{\"name\":\"a\",\"type\":\"wait\",\"check\":{\"type\":\"tcp\",\"address\":\"x\",\"port\":70000}}"),
            "port"},
        {ONE("{\"name\":\"a\",\"type\":\"gate\",\"question\":\"?\"},{\"name\":\"a\",\"type\":\"gate\",\"question\":\"?"
             "\"}"),
            "named a"},
        {ONE("{\"name\":\"a\",\"type\":\"gate\",\"question\":\"?\",\"after\":[\"b\"]},{\"name\":\"b\",\"type\":"
             "\"gate\",\"question\":"
             "\"?\",\"after\":[\"a\"]}"),
            "a -> b -> a"},
        {ONE("{\"name\":\"a\",\"type\":\"machine\",\"machine\":\"db1\"},{\"name\":\"b\",\"type\":\"machine\","
             "\"machine\":\"db1\"}"),
            "same machine"},
        {"{\"groups\":[{\"name\":\"x\",\"after\":[\"y\"],\"steps\":[{\"name\":\"a\",\"type\":\"gate\",\"question\":\"?"
         "\"}]},"
         "{\"name\":\"y\",\"steps\":[{\"name\":\"b\",\"type\":\"gate\",\"question\":\"?\"}]}]}",
            "x -> y -> x"},
    };
#undef ONE
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        AUTO_PLAN struct plan *plan = NULL;
        struct err err = ERR_INIT;

        if (plan_read_text(bad[i][0], &plan, &err) == 0)
            fail_msg("not refused: %s", bad[i][0]);
        if (!strstr(err.text, bad[i][1]))
            fail_msg("%s\nwas refused with: %s", bad[i][0], err.text);
    }
}

static void test_a_forecast_comes_from_past_runs(void **state)
{
    const struct plan_run_spec spec = {.plan = "shop", .kind = "test", .point = "latest", .requested_by = "t"};
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    char run[IDENT_TEXT_SIZE], job[IDENT_TEXT_SIZE];
    json_t *forecast = NULL;
    struct err err = ERR_INIT;

    build(conn);
    save_shop(conn);
    assert_ok(plan_run_start(conn, &spec, true, run, job, &forecast, &err), &err);
    assert_false(json_is_true(json_object_get(forecast, "predicted_known")));
    assert_true(json_real_value(json_object_get(forecast, "data_loss_seconds")) >= 60);
    json_decref(forecast);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM plan_runs"), 0);
    start_well(conn, "test", true);
    assert_int_equal(run_hub(*state, NULL, "continue"), 0);
    assert_ok(db_script(conn,
                  "UPDATE plan_run_steps SET started_at = finished_at - interval '7 seconds' WHERE state = 'succeeded'",
                  &err),
        &err);
    assert_ok(plan_run_start(conn, &spec, true, run, job, &forecast, &err), &err);
    assert_true(json_is_true(json_object_get(forecast, "predicted_known")));
    assert_true(json_real_value(json_object_get(forecast, "predicted_rto_seconds")) == 35);
    json_decref(forecast);
}

/* ---- drills ---- */

/* Looks for drills that are due, many times. */
static int look_often(struct db *db)
{
    struct db_conn *conn AUTO_OF(db_conn) = NULL;
    struct err err = ERR_INIT;

    if (db_acquire(db, &conn, &err) < 0)
        return 1;
    for (int look = 0; look < 10; look++)
        if (drill_look(conn, &err) < 0) {
            fprintf(stderr, "hub: %s\n", err.text);
            return 1;
        }
    return 0;
}

static int clock_hub(const char *dsn)
{
    const struct db_options options = {.dsn = dsn};
    struct err err = ERR_INIT;
    struct db *db;
    int failed;

    if (db_new(&options, &db, &err) < 0)
        return 1;
    failed = look_often(db);
    db_free(db);
    return failed;
}

static void save_drill(struct db_conn *conn, const char *columns, const char *values)
{
    AUTO_FREE char *sql =
        mem_printf("DELETE FROM drill_schedules; INSERT INTO drill_schedules (name, interval_usec, overdue_after_usec,"
                   " target_id, %s) SELECT 'weekly', 3600000000, 7200000000, t.id, %s FROM compute_targets t"
                   " WHERE t.name = 'rack'",
            columns, values);
    struct err err = ERR_INIT;

    assert_ok(db_script(conn, sql, &err), &err);
}

static void test_of_several_hubs_one_starts_a_drill(void **state)
{
    struct postgres_fixture *f = *state;
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    pid_t hubs[4];

    build(conn);
    save_shop(conn);
    save_drill(conn, "plan_id", "(SELECT id FROM recovery_plans WHERE name = 'shop')");
    for (size_t i = 0; i < ARRAY_LEN(hubs); i++)
        if ((hubs[i] = fork()) == 0)
            _exit(clock_hub(postgres_embedded_dsn(f->pg)));
    for (size_t i = 0; i < ARRAY_LEN(hubs); i++) {
        int status = 0;

        assert_int_equal(waitpid(hubs[i], &status, 0), hubs[i]);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    assert_int_equal(rows_of(conn, "SELECT 1 FROM plan_runs WHERE cleanup AND requested_by = 'drill:weekly'"), 1);
    assert_int_equal(run_hub(f, NULL, "continue"), 0);
    assert_the_drill_was_done_once(conn);
    assert_int_equal(
        rows_of(conn, "SELECT 1 FROM drill_machines WHERE last_good_at IS NOT NULL AND overdue_at > now()"), 2);
    /* Its time is not over. */
    assert_int_equal(clock_hub(postgres_embedded_dsn(f->pg)), 0);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM plan_runs"), 1);
}

static void test_a_drill_of_a_policy_has_all_its_machines(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct err err = ERR_INIT;

    build(conn);
    assert_int_equal(put("broken", "\"db1\"", 0644), 0);
    save_drill(conn, "policy_id", "(SELECT id FROM policies WHERE is_default)");
    assert_ok(
        db_script(conn,
            "UPDATE drill_schedules SET created_at = now() - interval '3 hours'; UPDATE protections SET enabled_at ="
            " now() - interval '3 hours'",
            &err),
        &err);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM drill_machines WHERE overdue_at < now()"), 2);
    assert_int_equal(drill_look(conn, &err), 1);
    assert_int_equal(run_hub(*state, NULL, "continue"), 0);
    /* One that does not come up neither keeps the other nor is left running, and is still overdue. */
    assert_int_equal(rows_of(conn, "SELECT 1 FROM plan_runs WHERE state = 'succeeded' AND verdict = 'failed'"), 1);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM failovers WHERE state = 'cleaned'"), 2);
    assert_int_equal(
        rows_of(conn,
            "SELECT 1 FROM drill_machines d JOIN machines m ON m.id = d.machine_id WHERE overdue_at < now() AND"
            " m.name = 'db1'"),
        1);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM drill_machines WHERE overdue_at < now()"), 1);
    assert_int_equal(replicas_in(conn, folder), 0);
}

static void test_a_drill_waits_for_its_window_and_tells_what_keeps_it(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct err err = ERR_INIT;

    build(conn);
    save_shop(conn);
    save_drill(
        conn, "plan_id, window_hours", "(SELECT id FROM recovery_plans WHERE name = 'shop'), 'daily 00:00-00:00'");
    /* A window of other days than today and yesterday. */
    assert_ok(db_script(conn,
                  "UPDATE drill_schedules SET window_hours = (ARRAY['mon','tue','wed','thu','fri','sat','sun'])"
                  "[(extract(isodow FROM now() AT TIME ZONE 'UTC')::int + 2) % 7 + 1] || ' 00:00-24:00'",
                  &err),
        &err);
    assert_int_equal(drill_look(conn, &err), 0);
    assert_int_equal(
        rows_of(conn, "SELECT 1 FROM drill_schedules WHERE last_problem = '' AND last_started_at IS NULL"), 1);
    assert_ok(
        db_script(conn, "UPDATE drill_schedules SET window_hours = ''; DELETE FROM recovery_points; DELETE FROM events",
            &err),
        &err);
    assert_int_equal(drill_look(conn, &err), 0);
    assert_int_equal(
        rows_of(conn,
            "SELECT 1 FROM drill_schedules WHERE last_problem LIKE '%no recovery point%' AND next_try_at > now()"),
        1);
    assert_ok(db_script(conn, "UPDATE drill_schedules SET next_try_at = now()", &err), &err);
    assert_int_equal(drill_look(conn, &err), 0);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM events WHERE code = 'drill_not_started'"), 1); /* told once */
    assert_int_equal(rows_of(conn, "SELECT 1 FROM plan_runs"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_a_plan_may_not_say),
        cmocka_unit_test(test_a_hub_that_dies_anywhere_runs_the_plan_once),
        cmocka_unit_test(test_an_unplanned_run_stays_until_it_is_committed),
        cmocka_unit_test(test_an_abort_at_the_gate_ends_the_plan),
        cmocka_unit_test(test_a_replica_that_does_not_come_up_stops_what_waits_for_it),
        cmocka_unit_test(test_a_step_is_tried_again_and_then_passed_over),
        cmocka_unit_test(test_a_cancelled_drill_leaves_nothing),
        cmocka_unit_test(test_a_step_that_takes_too_long_is_stopped),
        cmocka_unit_test(test_a_run_whose_step_has_a_long_name_in_another_script_ends),
        cmocka_unit_test(test_only_scripts_of_the_folder_run),
        cmocka_unit_test(test_mistakes_are_refused_before_anything_begins),
        cmocka_unit_test(test_all_targets_are_asked_first),
        cmocka_unit_test(test_a_forecast_comes_from_past_runs),
        cmocka_unit_test(test_of_several_hubs_one_starts_a_drill),
        cmocka_unit_test(test_a_drill_of_a_policy_has_all_its_machines),
        cmocka_unit_test(test_a_drill_waits_for_its_window_and_tells_what_keeps_it),
    };

    return cmocka_run_group_tests(tests, up, down);
}
