/* SPDX-License-Identifier: Apache-2.0
 *
 * Jobs about failovers, with a hub that dies at each of their steps: before the step's transaction ends, and right after. Each hub is a process of its
 * own that is ended at that place by _exit; the next one goes on. In the end everything must be as if nothing had happened. PostgreSQL and the
 * target's program are real; the vault's part is to answer its commands.
 */
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "hub/db/job_store.h"
#include "hub/db/protection_store.h"
#include "hub/fabric/libvirt_child.h"
#include "hub/jobs/job.h"
#include "hub/jobs/job_runner.h"
#include "tests/unit/hub/jobs/replicas.h"
#include "tests/unit/hub/postgres_fixture.h"
#include "transport/base/buf.h"
#include "transport/base/bytes.h"
#include "transport/base/clock.h"
#include "transport/base/crashpoint.h"
#include "transport/proto/control.pb-c.h"
#include "transport/proto/wire.h"

#define MACHINE "11111111-0000-4000-8000-000000000001"
#define NODE "22222222-0000-4000-8000-000000000001"
#define VAULT "33333333-0000-4000-8000-000000000001"
#define TARGET "44444444-0000-4000-8000-000000000001"
#define HUB "aaaaaaaa-0000-4000-8000-000000000001"
#define DIED 42
#define LOOKS_MAX 2000

/* One replica is one file; every start that finds it there says so. */
static const char program[] =
    "#!/bin/sh\n"
    "spec=$(cat)\n"
    "id=$(printf %s \"$spec\" | sed 's/.*\"failover_id\":\"\\([0-9a-f-]*\\)\".*/\\1/')\n"
    "case $1 in\n"
    "start) echo x >\"${0%/*}/replica-$id\"; echo '{\"name\":\"r\",\"verdict\":\"passed\"}' ;;\n"
    "stop) rm -f \"${0%/*}/replica-$id\" ;;\n"
    "esac\n";

/* ---- the vault ---- */

static bool fail_last_pass;
/* A hub that has seen rows of this query has looked enough, though jobs are open; NULL: it looks until they are over. */
static const char *enough;

/* The agent answers nothing. */
static bool agent_is_away;

/* What following a branch makes, and holding the source, as the vault reports it: with the time of the source, which is some seconds
 * more behind than its last status said. */
static int put_point(struct db_conn *conn, uint64_t sequence, struct err *err)
{
    return db_exec(conn, NULL, err,
        "INSERT INTO recovery_points (machine_id, sequence, vault_id, time, kind, generation, committed_at)"
        " SELECT id, $1, '" VAULT
        "', now() + clock_skew_usec * interval '1 microsecond' - interval '5 seconds', 'crash', 2, now() FROM machines"
        " ON CONFLICT DO NOTHING",
        DB_U(sequence));
}

/* What the packed command is about; *ret_last: the last pass of a failback; *ret_hold: the source is to be held. */
static void kind_of(const char *payload_hex, bool *ret_follow, bool *ret_last, bool *ret_hold)
{
    AUTO_BUF struct buf bytes = BUF_INIT(65536);
    size_t n = (strlen(payload_hex) - 2) / 2;
    ProtobufCMessage *m = NULL;

    *ret_follow = *ret_last = *ret_hold = false;
    if (buf_reserve(&bytes, n, NULL) < 0 || bytes_from_hex(payload_hex + 2, bytes.data, n) < 0 ||
        wire_unpack(&leeward__control__v1__command__descriptor, bytes.data, n, &m, NULL) < 0)
        return;
    const Leeward__Control__V1__Command *c = (const Leeward__Control__V1__Command *)m;

    *ret_follow = c->kind_case == LEEWARD__CONTROL__V1__COMMAND__KIND_FOLLOW_BRANCH;
    *ret_last = c->kind_case == LEEWARD__CONTROL__V1__COMMAND__KIND_RECEIVE_DISKS && c->receive_disks->last;
    *ret_hold = c->kind_case == LEEWARD__CONTROL__V1__COMMAND__KIND_HOLD_SOURCE && !c->hold_source->release;
    wire_free(m);
}

/* Answers every open command; returns how many there were. */
static int answer_commands(struct db_conn *conn)
{
    AUTO_PGRESULT PGresult *r = NULL;
    struct err err = ERR_INIT;
    int n = command_open_list(conn, "", &r, &err);

    for (int i = 0; i < n; i++) {
        /* What each kind of command answers, of the vault and of the agent. */
        bool follow, last, hold;

        if (agent_is_away && strcmp(db_text(r, i, 1), "agent") == 0)
            continue;
        kind_of(db_text(r, i, 3), &follow, &last, &hold);
        /* Each time that it holds the source it makes another point. */
        uint64_t sequence =
            hold ? 3 + (uint64_t)rows_of(conn, "SELECT 1 FROM commands WHERE target_role = 'agent' AND done") : 3;
        AUTO_FREE char *answer = mem_printf("{\"sequence\":\"%llu\",\"passes\":1,\"written_bytes\":\"4096\","
                                            "\"uri\":\"nbd+unix:///0?socket=/s\",\"disks\":[{\"number\":0,\"name\":"
                                            "\"sda\",\"size_bytes\":\"1000\",\"uri\":\"nbd+unix:///0?socket=/s\"}]}",
            (unsigned long long)sequence);
        bool fails = fail_last_pass && last;
        const struct command_outcome outcome = {.id = db_text(r, i, 0),
            .target_id = db_text(r, i, 2),
            .done = true,
            .code = fails ? "io" : "",
            .text = fails ? "the disk is broken" : "",
            .correction = "",
            .result_json = answer};

        if (!answer || command_note(conn, &outcome, &err) < 0 ||
            ((follow || hold) && put_point(conn, sequence, &err) < 0))
            return -1;
    }
    return n;
}

/* ---- a hub ---- */

static void die_there(void *arg, const char *name)
{
    if (strcmp(arg, name) == 0)
        _exit(DIED);
}

static int open_jobs(struct db_conn *conn)
{
    return db_exec(conn, NULL, NULL, "SELECT 1 FROM jobs WHERE status IN ('queued', 'running', 'waiting_for_input')");
}

/* Runs all jobs to their end. 0, or 1 when something failed. */
static int hub_main(const char *dsn, const char *die_at)
{
    const struct db_options options = {.dsn = dsn};
    struct db_conn *conn AUTO_OF(db_conn) = NULL;
    struct err err = ERR_INIT;
    struct db *db;
    uint64_t wait;
    int open = 1;

    crashpoint_watch(die_at ? die_there : NULL, (void *)die_at);
    if (db_new(&options, &db, &err) < 0 || db_acquire(db, &conn, &err) < 0)
        return 1;
    for (int look = 0; look < LOOKS_MAX && open > 0; look++) {
        if (job_run_one(conn, HUB, &wait, &err) < 0 || answer_commands(conn) < 0 ||
            db_script(conn, "UPDATE jobs SET run_after = now() WHERE status = 'running'", &err) < 0) {
            fprintf(stderr, "hub: %s\n", err.text);
            return 1;
        }
        (void)poll(NULL, 0, 2); /* the target's program is at work meanwhile */
        open = open_jobs(conn);
        if (enough && db_exec(conn, NULL, NULL, enough) > 0)
            return 1;
    }
    return open == 0 ? 0 : 1;
}

/* A hub in a process of its own: how it ended. */
static int run_hub(struct postgres_fixture *f, const char *die_at)
{
    int status = 0;
    pid_t pid = fork();

    if (pid == 0)
        _exit(hub_main(postgres_embedded_dsn(f->pg), die_at));
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* ---- the site ---- */

static char folder[96], folder_program[128]; /* in the fixture's folder, which is removed at its end */

static int up(void **state)
{
    const struct postgres_fixture *fixture;
    FILE *f;

    if (postgres_fixture_up(state) < 0)
        return -1;
    fixture = *state;
    snprintf(folder, sizeof(folder), "%s/adapter", fixture->folder);
    snprintf(folder_program, sizeof(folder_program), "%s/program", folder);
    if (mkdir(folder, 0700) < 0 || !(f = fopen(folder_program, "w")))
        return -1;
    fputs(program, f);
    fclose(f);
    return chmod(folder_program, 0700);
}

/* A protected machine with points 1 and 2. */
static void build(struct db_conn *conn)
{
    AUTO_FREE char *target = mem_printf("INSERT INTO compute_targets (id, name, adapter, config) VALUES ('" TARGET
                                        "', 'rack', 'command', '{\"program\":\"%s\"}')",
        folder_program);
    struct err err = ERR_INIT;

    assert_ok(db_script(conn,
                  "DELETE FROM failovers; DELETE FROM compute_targets WHERE name = 'rack'; DELETE FROM jobs; DELETE "
                  "FROM exports;"
                  " DELETE FROM recovery_points; DELETE FROM machines; DELETE FROM nodes; DELETE FROM vaults",
                  &err),
        &err);
    fixture_machine(conn, MACHINE, "web1");
    fixture_node(conn, NODE, "n");
    fixture_vault(conn, VAULT, "v");
    assert_ok(db_script(conn, target, &err), &err);
    assert_ok(db_script(conn,
                  "INSERT INTO disks (machine_id, key, number, device, is_protected, present) VALUES ('" MACHINE
                  "', 'sda', 0, '/dev/sda', true, true);"
                  "INSERT INTO protections (machine_id, policy_id, node_id, vault_id) SELECT '" MACHINE "', id, '" NODE
                  "', '" VAULT "' FROM policies WHERE is_default;"
                  "UPDATE machines SET state = 'protected', boot_id = 'boot-1' WHERE id = '" MACHINE "';"
                  "INSERT INTO recovery_points (machine_id, sequence, vault_id, time, kind, generation, committed_at)"
                  " SELECT '" MACHINE "', s, '" VAULT
                  "', now() - interval '1 minute' * (3 - s), 'crash', 1, now() FROM generate_series(1, 2) s",
                  &err),
        &err);
}

/* The id of the one failover that there is. */
static void the_failover(struct db_conn *conn, char id[IDENT_TEXT_SIZE])
{
    AUTO_PGRESULT PGresult *r = NULL;
    struct err err = ERR_INIT;

    assert_int_equal(db_exec(conn, &r, &err, "SELECT id FROM failovers"), 1);
    snprintf(id, IDENT_TEXT_SIZE, "%s", db_text(r, 0, 0));
}

static int submit(struct db_conn *conn, const char *kind, const char *params)
{
    const struct job_spec spec = {
        .kind = kind, .machine_id = MACHINE, .params_json = params, .requested_by = "token:test"};
    char job[IDENT_TEXT_SIZE];

    return job_submit(conn, &spec, false, job, NULL);
}

/* Submits the job and lets hubs work on it; the first one dies at that place. Whether it did. */
static bool run_job(
    struct postgres_fixture *f, struct db_conn *conn, const char *kind, const char *params, const char *die_at)
{
    struct err err = ERR_INIT;
    int ended;

    assert_int_equal(submit(conn, kind, params), 0);
    ended = run_hub(f, die_at);
    if (ended != DIED) {
        assert_int_equal(ended, 0);
        return false;
    }
    /* Ten seconds later. */
    assert_ok(db_script(conn, "UPDATE jobs SET lease_until = now() WHERE lease_until IS NOT NULL", &err), &err);
    assert_int_equal(run_hub(f, NULL), 0);
    return true;
}

static bool start(struct postgres_fixture *f, struct db_conn *conn, const char *kind, const char *die_at)
{
    AUTO_FREE char *params = mem_printf("{\"failover\":\"%s\",\"target_id\":\"" TARGET "\",\"sequence\":\"2\"}", kind);

    return run_job(f, conn, "failover", params, die_at);
}

static bool act(
    struct postgres_fixture *f, struct db_conn *conn, const char *kind, const char *more, const char *die_at)
{
    char id[IDENT_TEXT_SIZE];

    the_failover(conn, id);
    AUTO_FREE char *params = mem_printf("{\"failover_id\":\"%s\"%s}", id, more);

    return run_job(f, conn, kind, params, die_at);
}

static void assert_all_succeeded(struct db_conn *conn)
{
    assert_int_equal(rows_of(conn, "SELECT 1 FROM jobs WHERE status <> 'succeeded'"), 0);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM commands WHERE NOT done"), 0);
}

/* ---- the tests ---- */

static const struct {
    const char *job;
    const char *steps[8];
} places[] = {
    {"failover", {"check", "begin", "hold", "fence", "open", "start", "settle"}},
    {"failover_change_point", {"begin", "stop", "discard", "open", "start", "settle"}},
    {"failover_end", {"begin", "stop", "discard", "settle"}},
    {"failover_commit", {"commit"}},
};

/* An unplanned failover, another point, and then its rollback or its commit; the hub dies once on the way. */
static bool whole_life(struct postgres_fixture *f, struct db_conn *conn, const char *die_at, bool committed)
{
    bool died = start(f, conn, "unplanned", die_at);

    assert_int_equal(replicas_in(conn, folder), 1);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM machines WHERE state = 'failed_over' AND generation = 2"), 1);
    died |= act(f, conn, "failover_change_point", ",\"sequence\":\"1\"", die_at);
    assert_int_equal(replicas_in(conn, folder), 1);
    assert_int_equal(
        rows_of(conn, "SELECT 1 FROM failovers WHERE state = 'running' AND sequence = 1 AND verdict = 'passed'"), 1);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM exports WHERE state = 'open'"), 1);
    if (committed) {
        died |= act(f, conn, "failover_commit", "", die_at);
        assert_int_equal(replicas_in(conn, folder), 1);
        assert_int_equal(
            rows_of(
                conn, "SELECT 1 FROM machines m, failovers f WHERE m.state = 'committed' AND f.state = 'committed'"),
            1);
        return died;
    }
    died |= act(f, conn, "failover_end", "", die_at);
    assert_int_equal(replicas_in(conn, folder), 0);
    assert_int_equal(
        rows_of(conn, "SELECT 1 FROM machines m, failovers f WHERE m.state = 'protected' AND f.state = 'rolled_back'"),
        1);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM exports WHERE state <> 'closed'"), 0);
    return died;
}

static void test_a_hub_that_dies_at_any_step_ends_as_if_nothing_had_happened(void **state)
{
    static const char *const when[] = {"before", "after"};
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);

    for (size_t i = 0; i < ARRAY_LEN(places); i++)
        for (size_t k = 0; places[i].steps[k]; k++)
            for (size_t w = 0; w < ARRAY_LEN(when); w++) {
                AUTO_FREE char *name = mem_printf("job.%s.%s.%s", places[i].job, places[i].steps[k], when[w]);

                build(conn);
                if (!whole_life(*state, conn, name, strcmp(places[i].job, "failover_commit") == 0))
                    fail_msg("no hub died at %s", name);
                assert_all_succeeded(conn);
            }
}

/* The machine's agent says what it does once it is told to protect again. */
static void protect_again(struct db_conn *conn)
{
    struct err err = ERR_INIT;

    assert_ok(db_script(conn,
                  "UPDATE nodes SET online = true, converged_version = 1000000;"
                  " UPDATE machines SET online = true, last_seen_at = now(), agent_state = 'protected',"
                  " converged_version = desired_version",
                  &err),
        &err);
}

/* Reprotection and failback of a committed failover; the hub dies once on the way. */
static bool way_back(struct postgres_fixture *f, struct db_conn *conn, const char *die_at)
{
    bool died;

    start(f, conn, "unplanned", NULL);
    act(f, conn, "failover_commit", "", NULL);
    died = act(f, conn, "failover_reprotect", "", die_at);
    assert_int_equal(
        rows_of(conn,
            "SELECT 1 FROM machines m, failovers f WHERE m.state = 'reverse_protected' AND f.state = 'reprotected'"),
        1);
    assert_int_equal(replicas_in(conn, folder), 1);
    protect_again(conn);
    died |= act(f, conn, "failover_failback", ",\"confirm\":\"web1\"", die_at);
    assert_int_equal(
        rows_of(conn, "SELECT 1 FROM machines m, failovers f WHERE m.state = 'protected' AND m.generation = 3"
                      " AND f.state = 'failed_back' AND f.failback ->> 'written_bytes' = '8192'"),
        1);
    assert_int_equal(replicas_in(conn, folder), 0);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM exports WHERE state <> 'closed'"), 0);
    return died;
}

static const struct {
    const char *job;
    const char *steps[12];
} places_back[] = {
    {"failover_reprotect", {"begin", "point", "list", "settle"}},
    {"failover_failback",
        {"check", "try", "pass", "stop", "take_back", "close", "take", "last", "settle", "protect", "discard"}},
};

static void test_a_hub_that_dies_on_the_way_back_ends_as_if_nothing_had_happened(void **state)
{
    static const char *const when[] = {"before", "after"};
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);

    for (size_t i = 0; i < ARRAY_LEN(places_back); i++)
        for (size_t k = 0; places_back[i].steps[k]; k++)
            for (size_t w = 0; w < ARRAY_LEN(when); w++) {
                AUTO_FREE char *name = mem_printf("job.%s.%s.%s", places_back[i].job, places_back[i].steps[k], when[w]);

                build(conn);
                if (!way_back(*state, conn, name))
                    fail_msg("no hub died at %s", name);
                assert_all_succeeded(conn);
            }
}

#define MAPPED(kind, more) "{\"failover\":\"" kind "\",\"target_id\":\"" TARGET "\",\"sequence\":\"2\"" more "}"

/* Resolved when it is asked for, of the machine before its site, and kept: a mapping that changes later changes no failover. */
static void test_a_failover_runs_as_the_mappings_said_when_it_was_asked_for(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    const struct job_spec refused = {
        .kind = "failover", .machine_id = MACHINE, .params_json = MAPPED("test", ""), .requested_by = "token:test"};
    char job[IDENT_TEXT_SIZE];
    struct err err = ERR_INIT;

    build(conn);
    assert_ok(
        db_script(conn,
            "DELETE FROM sites WHERE name = 'paris'; INSERT INTO sites (name, mapping) VALUES ('paris', "
            "'{\"cpus\":7,\"memory_bytes\":"
            "1073741824,\"nics\":[{\"source\":\"10.1.0.0/16\",\"network\":\"prod\",\"test_network\":\"drill\"}]}');"
            "UPDATE machines SET site_id = (SELECT id FROM sites WHERE name = 'paris'), mapping = '{\"cpus\":3}',"
            " nics = '[{\"name\":\"eno1\",\"mac\":\"52:54:00:aa:00:01\",\"addresses\":[\"10.1.0.7/16\"]}]'",
            &err),
        &err);
    assert_int_equal(submit(conn, "failover", MAPPED("test", "")), 0);
    assert_ok(db_script(conn, "UPDATE machines SET mapping = '{\"cpus\":9}'", &err), &err);
    assert_int_equal(run_hub(*state, NULL), 0);
    /* What does not fit is refused before there is a job. */
    assert_ok(db_script(conn,
                  "UPDATE sites SET mapping = '{\"nics\":[{\"source\":\"*\",\"test_network\":\"t\",\"ip\":{\"method\":"
                  "\"static\",\"address\":\"192.0.2.7/24\"}}]}'; UPDATE machines SET nics = nics || nics",
                  &err),
        &err);
    assert_int_equal(job_submit(conn, &refused, false, job, &err), -1);
    assert_int_equal(err.code, ERR_REFUSED);
    assert_non_null(strstr(err.text, "mapping"));
    assert_int_equal(submit(conn, "failover", MAPPED("unplanned", ",\"options\":{\"memory_bytes\":536870912}")), 0);
    assert_int_equal(run_hub(*state, NULL), 0);
    assert_all_succeeded(conn);
    assert_int_equal(
        rows_of(conn,
            "SELECT 1 FROM failovers WHERE kind = 'test' AND options = '{\"cpus\":3,\"memory_bytes\":1073741824,"
            "\"nics\":[{\"source\":\"eno1\",\"network\":\"drill\",\"isolated\":true}]}'"),
        1);
    assert_int_equal(
        rows_of(conn,
            "SELECT 1 FROM failovers WHERE kind = 'unplanned' AND options = '{\"cpus\":9,\"memory_bytes\":536870912,"
            "\"nics\":[]}'"),
        1);
}

static void test_a_preview_is_of_the_kind_that_it_names(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct err err = ERR_INIT;

    build(conn);
    assert_ok(db_script(conn,
                  "UPDATE machines SET mapping = '{\"nics\":[{\"source\":\"*\",\"network\":\"prod\",\"test_network\":"
                  "\"drill\"}]}', nics = '[{\"name\":\"eno1\",\"mac\":\"\",\"addresses\":[]}]'; DELETE FROM jobs",
                  &err),
        &err);
    assert_int_equal(submit(conn, "failover_preview", MAPPED("none", ",\"options\":{\"fixups\":{}}")), -1);
    assert_int_equal(submit(conn, "failover_preview", MAPPED("test", ",\"options\":{\"fixups\":{}}")), 0);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM jobs WHERE params #>> '{options,nics,0,network}' = 'drill'"), 1);
    assert_ok(db_script(conn, "DELETE FROM jobs", &err), &err);
    assert_int_equal(submit(conn, "failover_preview", MAPPED("unplanned", ",\"options\":{\"fixups\":{}}")), 0);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM jobs WHERE params #>> '{options,nics,0,network}' = 'prod'"), 1);
    assert_ok(db_script(conn, "DELETE FROM jobs", &err), &err);
}

/* Its last pass does not succeed: the replica runs again, and is the machine. */
static void test_a_failback_that_fails_lets_the_replica_run_again(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);

    build(conn);
    start(*state, conn, "unplanned", NULL);
    act(*state, conn, "failover_commit", "", NULL);
    act(*state, conn, "failover_reprotect", "", NULL);
    protect_again(conn);
    fail_last_pass = true;
    act(*state, conn, "failover_failback", ",\"confirm\":\"web1\"", NULL);
    fail_last_pass = false;
    assert_int_equal(rows_of(conn, "SELECT 1 FROM jobs WHERE kind = 'failover_failback' AND status = 'failed'"), 1);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM jobs WHERE kind = 'failover_resume' AND status = 'succeeded'"), 1);
    assert_int_equal(replicas_in(conn, folder), 1);
    assert_int_equal(
        rows_of(conn, "SELECT 1 FROM machines m, failovers f, exports e WHERE m.state = 'reverse_protected'"
                      " AND m.generation = 2 AND f.state = 'reprotected' AND e.state = 'open'"),
        1);
    /* And it can be tried again. */
    act(*state, conn, "failover_failback", ",\"confirm\":\"web1\"", NULL);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM machines m WHERE state = 'protected' AND m.generation = 3"), 1);
    assert_int_equal(replicas_in(conn, folder), 0);
}

/* The source's clock is behind by an hour, and all points that it has made have its time. */
static void set_back_the_clock(struct db_conn *conn)
{
    struct err err = ERR_INIT;

    assert_ok(db_script(conn,
                  "UPDATE machines SET clock_skew_usec = -3600000000;"
                  " UPDATE recovery_points SET time = time - interval '1 hour'",
                  &err),
        &err);
}

static void test_what_is_lost_does_not_depend_on_the_clock_of_the_source(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);

    build(conn);
    set_back_the_clock(conn);
    start(*state, conn, "unplanned", NULL);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM failovers WHERE loss_usec BETWEEN 60000000 AND 100000000"), 1);
    act(*state, conn, "failover_change_point", ",\"sequence\":\"1\"", NULL);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM failovers WHERE loss_usec BETWEEN 120000000 AND 160000000"), 1);
}

/* The source's last point runs, whatever was the newest when it was asked for; and a source that cannot be stopped is no planned failover. */
static void test_a_planned_failover_runs_the_last_point_of_a_source_that_was_stopped(void **state)
{
    static const char *const places_hold[] = {
        "job.failover.hold.before", "job.failover.hold.after", "job.failover.fence.before", "job.failover.fence.after"};
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct err err = ERR_INIT;

    for (size_t i = 0; i < ARRAY_LEN(places_hold); i++) {
        build(conn);
        set_back_the_clock(conn);
        assert_ok(db_script(conn, "UPDATE machines SET online = false", &err), &err);
        assert_int_equal(
            submit(conn, "failover", "{\"failover\":\"planned\",\"target_id\":\"" TARGET "\",\"sequence\":\"2\"}"),
            -1); /* its agent is away */
        protect_again(conn);
        assert_true(start(*state, conn, "planned", places_hold[i]));
        /* The second one: the agent was asked again right before the fence. */
        assert_int_equal(
            rows_of(conn, "SELECT 1 FROM failovers WHERE state = 'running' AND sequence = 4 AND loss_usec = 0"), 1);
        assert_int_equal(rows_of(conn, "SELECT 1 FROM machines WHERE state = 'failed_over' AND generation = 2"), 1);
        assert_int_equal(replicas_in(conn, folder), 1);
        act(*state, conn, "failover_end", "", NULL);
        assert_int_equal(rows_of(conn, "SELECT 1 FROM machines WHERE state = 'protected'"), 1);
    }
}

/* The source is held and has made its last point; then the hub dies, and is back ten seconds later. */
static void hold_and_die(struct postgres_fixture *f, struct db_conn *conn)
{
    struct err err = ERR_INIT;

    build(conn);
    protect_again(conn);
    assert_int_equal(submit(conn, "failover", MAPPED("planned", "")), 0);
    assert_int_equal(run_hub(f, "job.failover.fence.before"), DIED);
    assert_ok(db_script(conn, "UPDATE jobs SET lease_until = now() WHERE lease_until IS NOT NULL", &err), &err);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM job_steps WHERE name = 'hold' AND status = 'succeeded'"), 1);
}

/* The failover has failed with that, and the source is the machine, as if nothing had happened. */
static void assert_given_up(struct db_conn *conn, const char *problem)
{
    AUTO_FREE char *sql =
        mem_printf("SELECT 1 FROM jobs WHERE kind = 'failover' AND status = 'failed' AND %s", problem);

    assert_non_null(sql);
    assert_int_equal(rows_of(conn, sql), 1);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM jobs WHERE kind = 'failover_end' AND status = 'succeeded'"), 1);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM failovers WHERE state = 'failed'"), 1);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM machines WHERE state = 'protected' AND generation = 1"), 1);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM exports"), 0);
    assert_int_equal(replicas_in(conn, folder), 0);
    /* It is told to start what it stopped. */
    assert_int_equal(rows_of(conn, "SELECT 1 FROM commands WHERE target_role = 'agent' AND ordinal >= 1000"), 1);
}

/* Its services came up with it: what they committed is in no point that the replica would run. */
static void test_a_source_that_was_restarted_after_its_last_point_is_not_fenced(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct err err = ERR_INIT;

    hold_and_die(*state, conn);
    assert_ok(db_script(conn, "UPDATE machines SET boot_id = 'boot-2'", &err), &err);
    assert_int_equal(run_hub(*state, NULL), 0);
    assert_given_up(conn, "problem_code = 'refused' AND problem_text LIKE '%restarted after its last point%'"
                          " AND problem_correction LIKE '%leeward failover planned web1'");
    /* Once more, and it is what the source was stopped with. */
    assert_ok(db_script(conn, "DELETE FROM failovers; DELETE FROM jobs", &err), &err);
    assert_int_equal(submit(conn, "failover", MAPPED("planned", "")), 0);
    assert_int_equal(run_hub(*state, NULL), 0);
    assert_all_succeeded(conn);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM machines WHERE state = 'failed_over' AND generation = 2"), 1);
}

/* Nobody knows what it does, whatever the database says of it from before: it is waited for, and then it stays the machine. */
static void test_a_source_whose_agent_does_not_answer_any_more_is_not_fenced(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct err err = ERR_INIT;

    hold_and_die(*state, conn);
    agent_is_away = true;
    enough = "SELECT 1 FROM job_steps WHERE name = 'fence' AND detail LIKE 'the agent works%'";
    assert_int_equal(run_hub(*state, NULL), 1); /* it looks connected */
    assert_ok(db_script(conn,
                  "UPDATE machines SET online = false; UPDATE commands SET created_at = now() WHERE NOT done", &err),
        &err);
    enough = "SELECT 1 FROM job_steps WHERE name = 'fence' AND detail LIKE 'the agent is not connected%'";
    assert_int_equal(run_hub(*state, NULL), 1);
    enough = NULL;
    assert_int_equal(rows_of(conn, "SELECT 1 FROM jobs WHERE status = 'running'"), 1);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM machines WHERE state = 'protected' AND generation = 1"), 1);
    assert_ok(db_script(conn,
                  "UPDATE commands SET created_at = now() - interval '10 minutes' WHERE NOT done;"
                  "UPDATE machines SET last_seen_at = now() - interval '10 minutes';"
                  "UPDATE placement_watch SET since = now() - interval '10 minutes', seen_at = now()",
                  &err),
        &err);
    assert_int_equal(run_hub(*state, NULL), 0);
    agent_is_away = false;
    assert_given_up(conn, "problem_code = 'unavailable'");
}

/* The source would be stopped without the disk that was just added; and its disks stay as they are from then on. */
static void test_a_planned_failover_waits_for_all_disks(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct err err = ERR_INIT;

    build(conn);
    protect_again(conn);
    assert_ok(db_script(conn, "UPDATE machines SET desired_version = desired_version + 1", &err), &err);
    assert_int_equal(
        submit(conn, "failover", "{\"failover\":\"planned\",\"target_id\":\"" TARGET "\",\"sequence\":\"2\"}"), 0);
    enough = "SELECT 1 FROM job_steps WHERE detail LIKE 'waiting for the agent to have all%'";
    assert_int_equal(run_hub(*state, NULL), 1);                   /* it is not over */
    assert_int_equal(rows_of(conn, "SELECT 1 FROM commands"), 0); /* nothing was stopped */
    assert_int_equal(rows_of(conn, "SELECT 1 FROM machines WHERE state = 'protected' AND generation = 1"), 1);
    assert_int_equal(
        rows_of(conn, "SELECT 1 FROM job_steps WHERE detail LIKE 'waiting for the agent to have all%'"), 1);
    assert_int_equal(submit(conn, "disk_exclude", "{\"disks\":[\"sda\"]}"), -1); /* the last one */
    assert_ok(db_script(conn,
                  "INSERT INTO disks (machine_id, key, number, device, is_protected, present) VALUES ('" MACHINE
                  "', 'sdb', 1, '/dev/sdb', true, true)",
                  &err),
        &err);
    assert_int_equal(submit(conn, "disk_exclude", "{\"disks\":[\"sdb\"]}"), 0);
    enough = "SELECT 1 FROM jobs WHERE kind = 'disk_exclude' AND status = 'failed'";
    assert_int_equal(run_hub(*state, NULL), 1);
    enough = NULL;
    assert_int_equal(rows_of(conn, "SELECT 1 FROM jobs WHERE kind = 'disk_exclude' AND problem_code = 'refused'"), 1);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM disks WHERE is_protected"), 2);
    /* The agent takes too long: the failover fails before anything is stopped. */
    assert_ok(
        db_script(conn, "UPDATE job_steps SET started_at = now() - interval '10 minutes' WHERE name = 'hold'", &err),
        &err);
    assert_ok(db_script(conn, "UPDATE jobs SET run_after = now() WHERE status IN ('queued', 'running')", &err), &err);
    assert_int_equal(run_hub(*state, NULL), 0);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM jobs WHERE kind = 'failover' AND status = 'failed'"), 1);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM machines WHERE state = 'protected' AND generation = 1"), 1);
}

static void test_a_failback_wants_the_name_and_a_protected_replica(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    char id[IDENT_TEXT_SIZE];

    build(conn);
    protect_again(conn);
    start(*state, conn, "unplanned", NULL);
    the_failover(conn, id);
    AUTO_FREE char *bare = mem_printf("{\"failover_id\":\"%s\"}", id);
    AUTO_FREE char *named = mem_printf("{\"failover_id\":\"%s\",\"confirm\":\"web1\"}", id);

    assert_int_equal(submit(conn, "failover_reprotect", bare), -1); /* not committed */
    act(*state, conn, "failover_commit", "", NULL);
    assert_int_equal(submit(conn, "failover_failback", named), -1); /* not protected */
    act(*state, conn, "failover_reprotect", "", NULL);
    assert_int_equal(submit(conn, "failover_failback", bare), -1);
    assert_int_equal(submit(conn, "failover_reprotect", bare), -1); /* it is */
    assert_int_equal(rows_of(conn, "SELECT 1 FROM jobs WHERE kind = 'failover_failback'"), 0);
}

static void test_a_test_failover_leaves_the_machine_alone(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);

    build(conn);
    start(*state, conn, "test", NULL);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM machines WHERE state = 'protected' AND generation = 1"), 1);
    assert_int_equal(replicas_in(conn, folder), 1);
    act(*state, conn, "failover_end", ",\"outcome\":\"passed\",\"notes\":\"good\"", NULL);
    assert_int_equal(
        rows_of(conn, "SELECT 1 FROM failovers WHERE state = 'cleaned' AND outcome = 'passed' AND notes = 'good'"), 1);
    assert_int_equal(replicas_in(conn, folder), 0);
    assert_all_succeeded(conn);
}

/* The target cannot start it: the failure takes itself away, and the source is the machine again. */
static void test_a_failure_takes_itself_away(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct err err = ERR_INIT;

    build(conn);
    assert_ok(
        db_script(conn, "UPDATE compute_targets SET config = '{\"program\":\"/nowhere\"}' WHERE name = 'rack'", &err),
        &err);
    /* Refused while it is asked: nothing began. */
    start(*state, conn, "unplanned", NULL);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM failovers"), 0);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM jobs WHERE status = 'failed' AND problem_text LIKE '%/nowhere%'"), 1);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM machines WHERE state = 'protected' AND generation = 1"), 1);
}

/* A host that is down is the end of the job, not a reason to ask it for ever. */
/* Before there were fix-ups a failover had a step less, and each step behind it the number before. */
static void test_a_job_of_an_older_hub_goes_on_at_its_own_steps(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct err err = ERR_INIT;

    build(conn);
    assert_int_equal(
        submit(conn, "failover", "{\"failover\":\"unplanned\",\"target_id\":\"" TARGET "\",\"sequence\":\"2\"}"), 0);
    assert_ok(db_script(conn,
                  "WITH gone AS (DELETE FROM job_steps WHERE name = 'fixup' RETURNING ordinal)"
                  " UPDATE job_steps SET ordinal = ordinal - 1 WHERE ordinal > (SELECT ordinal FROM gone)",
                  &err),
        &err);
    assert_int_equal(run_hub(*state, NULL), 0);
    assert_all_succeeded(conn);
    assert_int_equal(replicas_in(conn, folder), 1);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM failovers WHERE state = 'running' AND verdict = 'passed'"), 1);
    /* One of a newer hub has a step that this one does not know: it ends, and what it began is taken away. */
    build(conn);
    assert_int_equal(
        submit(conn, "failover", "{\"failover\":\"unplanned\",\"target_id\":\"" TARGET "\",\"sequence\":\"2\"}"), 0);
    assert_ok(db_script(conn, "UPDATE job_steps SET name = 'bless' WHERE name = 'start'", &err), &err);
    assert_int_equal(run_hub(*state, NULL), 0);
    assert_int_equal(
        rows_of(conn, "SELECT 1 FROM jobs WHERE status = 'failed' AND problem_text LIKE '%step bless%'"), 1);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM failovers WHERE state = 'failed'"), 1);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM machines WHERE state = 'protected'"), 1);
}

static void test_a_target_that_cannot_be_reached_is_asked_once(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct err err = ERR_INIT;

    build(conn);
    assert_ok(db_script(conn,
                  "UPDATE compute_targets SET adapter = 'libvirt', config = "
                  "'{\"uri\":\"qemu+unix:///system?socket=/nowhere/sock\"}'"
                  " WHERE name = 'rack'",
                  &err),
        &err);
    start(*state, conn, "test", NULL);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM jobs WHERE status = 'failed' AND problem_code = 'unavailable'"), 1);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM failovers"), 0);
}

/* "target NAME starts the replica" is cut within a character of it. */
static void test_a_target_may_have_a_long_name_in_any_script(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct err err = ERR_INIT;

    build(conn);
    assert_ok(
        db_script(conn, "UPDATE compute_targets SET name = 'x' || repeat(U&'\\0416', 40) WHERE name = 'rack'", &err),
        &err);
    start(*state, conn, "test", NULL);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM jobs WHERE status = 'succeeded'"), 1);
    assert_ok(db_script(conn, "UPDATE compute_targets SET name = 'rack' WHERE id = '" TARGET "'", &err), &err);
}

static void test_what_makes_no_sense_is_refused(void **state)
{
    static const char *const bad[] = {
        "{\"failover\":\"sideways\",\"target_id\":\"" TARGET "\",\"sequence\":\"2\"}",
        "{\"failover\":\"test\",\"target_id\":\"" TARGET "\",\"sequence\":\"3\"}",
        "{\"failover\":\"test\",\"target_id\":\"" TARGET "\"}",
        "{\"failover\":\"test\",\"target_id\":\"" VAULT "\",\"sequence\":\"2\"}",
        "{\"failover\":\"test\",\"target_id\":\"" TARGET "\",\"sequence\":\"2\",\"options\":{\"cpus\":0}}",
        "{\"failover\":\"test\",\"target_id\":\"" TARGET "\",\"sequence\":\"2\",\"options\":{\"memory_bytes\":1}}",
        "{\"failover\":\"test\",\"target_id\":\"" TARGET "\",\"sequence\":\"2\",\"options\":{\"color\":\"red\"}}",
    };
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);

    build(conn);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (submit(conn, "failover", bad[i]) == 0)
            fail_msg("not refused: %s", bad[i]);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM jobs"), 0);
}

static void refused_point(struct db_conn *conn, const char *sequence, const char *text, const char *correction)
{
    AUTO_FREE char *params =
        mem_printf("{\"failover\":\"test\",\"target_id\":\"" TARGET "\",\"sequence\":\"%s\"}", sequence);
    const struct job_spec spec = {
        .kind = "failover", .machine_id = MACHINE, .params_json = params, .requested_by = "token:test"};
    char job[IDENT_TEXT_SIZE];
    struct err err = ERR_INIT;

    assert_int_equal(job_submit(conn, &spec, false, job, &err), -1);
    if (err.code != ERR_NOT_FOUND || !strstr(err.text, text) || !strstr(err.correction, correction))
        fail_msg("point %s: %s; %s", sequence, err.text, err.correction);
}

/* A point that is older than what the retention lock holds: why it is gone, and which one is there instead of it. */
static void test_a_point_that_nobody_promises_any_more_is_refused_with_the_nearest(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct err err = ERR_INIT;

    build(conn);
    assert_ok(put_point(conn, 20, &err), &err);
    assert_ok(put_point(conn, 30, &err), &err);
    assert_ok(db_script(conn,
                  "UPDATE recovery_points SET time = '2026-01-02 03:04:05Z'; UPDATE policies SET lock_usec = 0", &err),
        &err);
    refused_point(
        conn, "22", "no point 22 any more", "has no lock. The nearest that is kept is 20, of 2026-01-02 03:04:05 UTC.");
    assert_ok(db_script(conn, "UPDATE policies SET lock_usec = 7 * 86400000000", &err), &err);
    refused_point(conn, "26", "no point 26 any more", "older than its lock of 7 days. The nearest that is kept is 30,");
    refused_point(conn, "31", "no point 31", "List its points");
    refused_point(conn, "999999999999999999", "no point 999999999999999999", "List its points");
    assert_ok(db_script(conn, "DELETE FROM recovery_points", &err), &err);
    refused_point(conn, "1", "no point 1", "List its points");
    assert_int_equal(rows_of(conn, "SELECT 1 FROM jobs"), 0);
}

int main(int argc, char **argv)
{
    const int child = libvirt_child_main(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_hub_that_dies_at_any_step_ends_as_if_nothing_had_happened),
        cmocka_unit_test(test_a_hub_that_dies_on_the_way_back_ends_as_if_nothing_had_happened),
        cmocka_unit_test(test_a_failover_runs_as_the_mappings_said_when_it_was_asked_for),
        cmocka_unit_test(test_a_preview_is_of_the_kind_that_it_names),
        cmocka_unit_test(test_a_failback_that_fails_lets_the_replica_run_again),
        cmocka_unit_test(test_what_is_lost_does_not_depend_on_the_clock_of_the_source),
        cmocka_unit_test(test_a_planned_failover_runs_the_last_point_of_a_source_that_was_stopped),
        cmocka_unit_test(test_a_source_that_was_restarted_after_its_last_point_is_not_fenced),
        cmocka_unit_test(test_a_source_whose_agent_does_not_answer_any_more_is_not_fenced),
        cmocka_unit_test(test_a_planned_failover_waits_for_all_disks),
        cmocka_unit_test(test_a_failback_wants_the_name_and_a_protected_replica),
        cmocka_unit_test(test_a_test_failover_leaves_the_machine_alone),
        cmocka_unit_test(test_a_failure_takes_itself_away),
        cmocka_unit_test(test_a_job_of_an_older_hub_goes_on_at_its_own_steps),
        cmocka_unit_test(test_a_target_that_cannot_be_reached_is_asked_once),
        cmocka_unit_test(test_a_target_may_have_a_long_name_in_any_script),
        cmocka_unit_test(test_what_makes_no_sense_is_refused),
        cmocka_unit_test(test_a_point_that_nobody_promises_any_more_is_refused_with_the_nearest),
    };

    if (child >= 0)
        return child;
    return cmocka_run_group_tests(tests, up, postgres_fixture_down);
}
