/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "hub/db/config_store.h"
#include "hub/db/job_store.h"
#include "hub/db/peer_store.h"
#include "hub/db/protection_store.h"
#include "hub/jobs/job.h"
#include "hub/jobs/job_runner.h"
#include "tests/unit/hub/postgres_fixture.h"
#include "transport/base/clock.h"

#define HUB_A "aaaaaaaa-0000-4000-8000-000000000001"
#define HUB_B "bbbbbbbb-0000-4000-8000-000000000002"

#define DISK(key)                                                                                                      \
    "{\"key\":\"" key "\",\"device\":\"/dev/" key "\","                                                                \
    "\"model\":\"\",\"partition_table\":\"\",\"size_bytes\":1000,\"logical_sector_bytes\":512,"                        \
    "\"physical_sector_bytes\":512,\"trackable\":true,\"not_trackable_reason\":\"\",\"volatile_cache\":true,"          \
    "\"is_root\":false,\"volumes\":[]}"
#define INVENTORY_OF(disks)                                                                                            \
    "{\"hostname\":\"h\",\"os_name\":\"o\",\"kernel\":\"k\",\"boot_id\":\"b\",\"cpus\":2,\"memory_bytes\":1,"          \
    "\"firmware\":\"uefi\",\"machine_uid\":\"u\",\"addresses\":[],\"disks\":[" disks "]}"
#define INVENTORY INVENTORY_OF(DISK("sda"))
#define TWO_DISKS INVENTORY_OF(DISK("sda") "," DISK("sdb"))

/* A machine with a disk, a node and a vault, all online. */
struct site {
    char machine[IDENT_TEXT_SIZE], node[IDENT_TEXT_SIZE], vault[IDENT_TEXT_SIZE], name[32];
};

static void new_id(char out[IDENT_TEXT_SIZE])
{
    struct ident id;

    assert_int_equal(ident_random(&id), 0);
    ident_to_text(&id, out);
}

static void build(struct db_conn *conn, struct site *s)
{
    struct err err = ERR_INIT;
    AUTO_FREE char *node = NULL;
    AUTO_FREE char *vault = NULL;

    /* Alone in the database, so that placement has one choice. */
    assert_ok(
        db_script(conn, "DELETE FROM jobs; DELETE FROM machines; DELETE FROM nodes; DELETE FROM vaults", &err), &err);
    new_id(s->machine);
    new_id(s->node);
    new_id(s->vault);
    snprintf(s->name, sizeof(s->name), "m-%.8s", s->machine);
    node = mem_printf("n-%.8s", s->node);
    vault = mem_printf("v-%.8s", s->vault);
    fixture_machine(conn, s->machine, s->name);
    fixture_node(conn, s->node, node);
    fixture_vault(conn, s->vault, vault);
    assert_ok(machine_inventory(conn, s->machine, INVENTORY, &err), &err);
}

/* What the agent would report, having reached the newest desired version. */
static void agent_says(struct db_conn *conn, const struct site *s, const char *agent_state, unsigned sequence)
{
    struct err err = ERR_INIT;
    AUTO_PGRESULT PGresult *r = NULL;

    assert_int_equal(
        db_exec(conn, &r, &err, "SELECT desired_version FROM machines WHERE id = $1", DB_S(s->machine)), 1);
    AUTO_FREE char *json = mem_printf(
        "[{\"id\":\"%s\",\"agent_state\":\"%s\",\"agent_cause\":\"\",\"agent_remedy\":\"\",\"initial_total_bytes\":100,"
        "\"initial_done_bytes\":50,\"backlog_bytes\":0,\"last_point_sequence\":%u,\"last_point_usec\":1790000000000000,"
        "\"rpo_usec\":1,\"converged_version\":%s}]",
        s->machine, agent_state, sequence, db_text(r, 0, 0));

    assert_ok(machine_status_put(conn, json, &err), &err);
    assert_ok(db_begin(conn, &err), &err);
    assert_ok(machine_state_follow(conn, s->machine, agent_state, sequence > 0, &err), &err);
    assert_ok(job_store_wake_machine(conn, s->machine, &err), &err);
    assert_ok(db_commit(conn, &err), &err);
}

static void submit(
    struct db_conn *conn, const char *kind, const char *machine, const char *params, char id[IDENT_TEXT_SIZE])
{
    const struct job_spec spec = {
        .kind = kind, .machine_id = machine, .params_json = params, .requested_by = "token:test"};
    struct err err = ERR_INIT;

    assert_ok(job_submit(conn, &spec, false, id, &err), &err);
}

/* A job to protect the machine of a new site. */
static void submit_protect(struct db_conn *conn, struct site *s, char id[IDENT_TEXT_SIZE])
{
    build(conn, s);
    submit(conn, "protect", s->machine, NULL, id);
}

/* Runs everything that is runnable at once. Returns how many looks that were. */
static int run_all(struct db_conn *conn, const char *hub)
{
    struct err err = ERR_INIT;
    uint64_t wait;
    int looks = 0;

    for (int rc = 1; rc > 0 && looks < 100; looks += rc) {
        rc = job_run_one(conn, hub, &wait, &err);
        assert_ok(rc, &err);
    }
    return looks;
}

static void wake(struct db_conn *conn)
{
    struct err err = ERR_INIT;

    assert_ok(db_script(conn, "UPDATE jobs SET run_after = now() WHERE status = 'running'", &err), &err);
}

static void assert_job(struct db_conn *conn, const char *id, const char *status, const char *code)
{
    AUTO_DB_SET struct db_set set = {0};
    struct err err = ERR_INIT;

    assert_ok(db_need(conn, &db_jobs, id, &set, &err), &err);
    assert_string_equal(db_at(&set, struct job_row, 0)->status, status);
    assert_string_equal(db_at(&set, struct job_row, 0)->problem_code, code);
}

static void assert_state(struct db_conn *conn, const struct site *s, const char *state)
{
    AUTO_DB_SET struct db_set set = {0};
    struct err err = ERR_INIT;

    assert_ok(db_need(conn, &db_machines, s->machine, &set, &err), &err);
    assert_string_equal(db_at(&set, struct machine_row, 0)->state, state);
}

static void protect(struct db_conn *conn, const struct site *s)
{
    char id[IDENT_TEXT_SIZE];

    submit(conn, "protect", s->machine, "{\"disks\":\"all-eligible\"}", id);
    run_all(conn, HUB_A);
    agent_says(conn, s, "protected", 7);
    run_all(conn, HUB_A);
    assert_job(conn, id, "succeeded", "");
}

/* The one open command of a target: its id. */
static void open_command(struct db_conn *conn, const char *target, char id[IDENT_TEXT_SIZE])
{
    AUTO_PGRESULT PGresult *r = NULL;
    struct err err = ERR_INIT;

    assert_int_equal(command_open_list(conn, target, &r, &err), 1);
    memcpy(id, db_text(r, 0, 0), IDENT_TEXT_SIZE);
}

static int answer(struct db_conn *conn, const char *target, const char *code, const char *result)
{
    struct err err = ERR_INIT;
    char id[IDENT_TEXT_SIZE];

    open_command(conn, target, id);
    const struct command_outcome outcome = {.id = id,
        .target_id = target,
        .done = true,
        .code = code,
        .text = code[0] ? "it went wrong" : "",
        .correction = code[0] ? "put it right" : "",
        .result_json = result};
    int rc = command_note(conn, &outcome, &err);

    assert_ok(rc, &err);
    return rc;
}

/* ---- submission ---- */

static void test_wrong_submissions_are_refused_at_once(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    static const struct {
        const char *kind, *params;
        bool machine;
        enum err_code code;
    } rows[] = {
        {"dance", "{}", true, ERR_INVALID},
        {"protect", "{}", false, ERR_INVALID},
        {"protect", "[]", true, ERR_INVALID},
        {"protect", "{\"disk\":1}", true, ERR_INVALID},
        {"protect", "{\"disks\":[]}", true, ERR_INVALID},
        {"protect", "{\"disks\":[1]}", true, ERR_INVALID},
        {"protect", "{\"policy_id\":\"x\"}", true, ERR_INVALID},
        {"protect", "{\"policy_id\":\"00000000-0000-4000-8000-000000000000\"}", true, ERR_NOT_FOUND},
        {"unprotect", "{}", true, ERR_REFUSED},
        {"resync", "{}", true, ERR_REFUSED},
        {"point_create", "{\"kind\":\"crash\"}", true, ERR_REFUSED},
        {"point_create", "{\"kind\":\"magic\"}", true, ERR_INVALID},
        {"point_open", "{}", true, ERR_REFUSED},
        {"point_open", "{\"sequence\":\"x\"}", true, ERR_INVALID},
        {"point_close", "{\"export_id\":\"x\"}", false, ERR_NOT_FOUND},
        {"export", "{\"path\":\"relative\",\"disk\":0}", true, ERR_INVALID},
        {"vault_verify", "{\"vault_id\":\"nobody\"}", false, ERR_NOT_FOUND},
    };
    struct site s;

    build(conn, &s);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct job_spec spec = {
            .kind = rows[i].kind, .params_json = rows[i].params, .machine_id = rows[i].machine ? s.machine : NULL};
        struct err err = ERR_INIT;
        char id[IDENT_TEXT_SIZE];

        assert_int_equal(job_submit(conn, &spec, false, id, &err), -1);
        if (err.code != rows[i].code)
            fail_msg("%s %s: %s", rows[i].kind, rows[i].params, err.text);
    }
}

static void test_a_dry_run_stores_nothing(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct err err = ERR_INIT;
    char id[IDENT_TEXT_SIZE];
    struct site s;

    build(conn, &s);
    const struct job_spec spec = {.kind = "protect", .machine_id = s.machine};

    assert_ok(job_submit(conn, &spec, true, id, &err), &err);
    assert_int_equal(db_exec(conn, NULL, &err, "SELECT 1 FROM jobs"), 0);
}

static void test_one_change_of_protection_at_a_time(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct err err = ERR_INIT;
    char id[IDENT_TEXT_SIZE], second[IDENT_TEXT_SIZE];
    struct site s;

    submit_protect(conn, &s, id);
    const struct job_spec spec = {.kind = "protect", .machine_id = s.machine};

    assert_int_equal(job_submit(conn, &spec, false, second, &err), -1);
    assert_int_equal(err.code, ERR_REFUSED);
    assert_true(err.correction[0] != '\0');
}

/* ---- restore ---- */

/* One more machine, protected, away, with a point. */
static void lost_machine(struct db_conn *conn, const struct site *s, char id[IDENT_TEXT_SIZE])
{
    struct err err = ERR_INIT;
    char name[32];

    new_id(id);
    snprintf(name, sizeof(name), "l-%.8s", id);
    fixture_machine(conn, id, name);
    assert_ok(machine_inventory(conn, id, INVENTORY, &err), &err);
    assert_ok(
        db_exec(conn, NULL, &err, "UPDATE disks SET number = 0, is_protected = true WHERE machine_id = $1", DB_S(id)),
        &err);
    assert_ok(
        db_exec(conn, NULL, &err, "UPDATE machines SET state = 'protected', online = false WHERE id = $1", DB_S(id)),
        &err);
    assert_ok(db_exec(conn, NULL, &err,
                  "INSERT INTO protections (machine_id, policy_id, node_id, vault_id) SELECT $1, p.id, $2, $3 FROM "
                  "policies p LIMIT 1",
                  DB_S(id), DB_S(s->node), DB_S(s->vault)),
        &err);
    assert_ok(db_exec(conn, NULL, &err,
                  "INSERT INTO recovery_points (machine_id, sequence, vault_id, time, kind, generation, committed_at)"
                  " VALUES ($1, 7, $2, now(), 'crash', 1, now())",
                  DB_S(id), DB_S(s->vault)),
        &err);
}

static int restore(
    struct db_conn *conn, const struct site *to, const char *machine, char id[IDENT_TEXT_SIZE], struct err *err)
{
    AUTO_FREE char *params =
        mem_printf("{\"to\":\"%s\",\"sequence\":\"7\",\"confirm\":\"%s\",\"disks\":[{\"number\":0,\"key\":\"sda\"}]}",
            to->machine, to->name);
    const struct job_spec spec = {
        .kind = "machine_restore", .machine_id = machine, .params_json = params, .requested_by = "token:test"};

    return job_submit(conn, &spec, false, id, err);
}

static void build_restore(struct db_conn *conn, struct site *s, char lost[IDENT_TEXT_SIZE], char other[IDENT_TEXT_SIZE])
{
    build(conn, s);
    lost_machine(conn, s, lost);
    lost_machine(conn, s, other);
}

static void test_a_restore_is_alone_with_both_machines(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    char lost[IDENT_TEXT_SIZE], other[IDENT_TEXT_SIZE], id[IDENT_TEXT_SIZE], second[IDENT_TEXT_SIZE];
    struct err err = ERR_INIT;
    struct site s;

    build_restore(conn, &s, lost, other);
    assert_ok(restore(conn, &s, lost, id, &err), &err);
    const struct job_spec resync = {.kind = "resync", .machine_id = lost};

    assert_int_equal(job_submit(conn, &resync, false, second, &err), -1);
    assert_int_equal(err.code, ERR_REFUSED);
    assert_non_null(strstr(err.text, "by another job"));
    err = (struct err)ERR_INIT;
    assert_int_equal(restore(conn, &s, other, second, &err), -1);
    assert_int_equal(err.code, ERR_REFUSED);
    assert_non_null(strstr(err.text, "are being written by another job"));
    assert_ok(job_cancel(conn, id, &err), &err);
    run_all(conn, HUB_A);
    assert_job(conn, id, "cancelled", "cancelled");
    assert_ok(restore(conn, &s, other, second, &err), &err);
}

static void test_a_restore_of_a_machine_that_is_another_one_by_now_fails(void **state)
{
    static const char *const before[] = {"check", "settle"};
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    char lost[IDENT_TEXT_SIZE], other[IDENT_TEXT_SIZE], id[IDENT_TEXT_SIZE];

    for (size_t i = 0; i < ARRAY_LEN(before); i++) {
        struct err err = ERR_INIT;
        struct site s;

        build_restore(conn, &s, lost, other);
        assert_ok(restore(conn, &s, lost, id, &err), &err);
        /* The steps before it are over. */
        assert_ok(db_exec(conn, NULL, &err,
                      "UPDATE job_steps SET status = 'succeeded' WHERE job_id = $1 AND ordinal <"
                      " (SELECT ordinal FROM job_steps WHERE job_id = $1 AND name = $2)",
                      DB_S(id), DB_S(before[i])),
            &err);
        assert_ok(db_exec(conn, NULL, &err,
                      "UPDATE jobs SET state = '{\"receiver_disks\":[{\"number\":0,\"key\":\"sda\"}]}' WHERE id = $1",
                      DB_S(id)),
            &err);
        assert_ok(
            db_exec(conn, NULL, &err, "UPDATE machines SET state = 'failed_over' WHERE id = $1", DB_S(lost)), &err);
        run_all(conn, HUB_A);
        assert_job(conn, id, "failed", "refused");
        assert_int_equal(
            db_exec(conn, NULL, &err, "SELECT 1 FROM machines WHERE id = $1 AND generation = 1", DB_S(lost)), 1);
        assert_int_equal(
            db_exec(conn, NULL, &err, "SELECT 1 FROM disks WHERE machine_id = $1 AND key = 'sda'", DB_S(lost)), 1);
    }
}

static void add_disk(struct db_conn *conn, const char *machine)
{
    struct err err = ERR_INIT;

    assert_ok(machine_inventory(conn, machine, TWO_DISKS, &err), &err);
    assert_ok(
        db_exec(conn, NULL, &err,
            "UPDATE disks SET number = 1, is_protected = true WHERE machine_id = $1 AND key = 'sdb'", DB_S(machine)),
        &err);
}

/* A point has the disks that were chosen for it, whatever is protected by now. */
static void test_a_restore_writes_the_disks_that_were_chosen(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    char lost[IDENT_TEXT_SIZE], other[IDENT_TEXT_SIZE], id[IDENT_TEXT_SIZE], command[IDENT_TEXT_SIZE];
    struct err err = ERR_INIT;
    struct site s;

    build_restore(conn, &s, lost, other);
    add_disk(conn, lost);
    assert_ok(restore(conn, &s, lost, id, &err), &err);
    assert_ok(
        db_exec(conn, NULL, &err, "UPDATE jobs SET state = '{\"receiver_admitted\":\"yes\"}' WHERE id = $1", DB_S(id)),
        &err);
    run_all(conn, HUB_A);
    assert_job(conn, id, "running", "");
    open_command(conn, s.machine, command);
    assert_int_equal(db_exec(conn, NULL, &err,
                         "SELECT 1 FROM commands WHERE id = $1 AND position('sda'::bytea in payload) > 0"
                         " AND position('sdb'::bytea in payload) = 0",
                         DB_S(command)),
        1);
}

/* On the receiver the machine's own key is the name of a disk that nobody chose. */
static void test_a_disk_that_nobody_chose_is_written_nowhere(void **state)
{
    static const struct job_step_title last = {"last", "Write the rest"};
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    char lost[IDENT_TEXT_SIZE], other[IDENT_TEXT_SIZE], id[IDENT_TEXT_SIZE];
    struct err err = ERR_INIT;
    struct site s;

    build_restore(conn, &s, lost, other);
    add_disk(conn, lost);
    AUTO_FREE char *params = mem_printf("{\"to\":\"%s\"}", s.machine);
    const struct job_insert job = {.kind = "failover_failback",
        .machine_id = lost,
        .vault_id = s.vault,
        .params_json = params,
        .steps = &last,
        .step_count = 1};

    assert_ok(job_store_insert(conn, &job, id, &err), &err);
    assert_ok(db_exec(conn, NULL, &err,
                  "UPDATE jobs SET state = '{\"disks\":\"[0,1]\",\"receiver_disks\":[{\"number\":0,\"key\":\"sda\"}]}' "
                  "WHERE id = $1",
                  DB_S(id)),
        &err);
    run_all(conn, HUB_A);
    assert_int_equal(db_exec(conn, NULL, &err,
                         "SELECT 1 FROM jobs WHERE id = $1 AND problem_text LIKE '%disk 1 was added%'", DB_S(id)),
        1);
    assert_int_equal(
        db_exec(conn, NULL, &err, "SELECT 1 FROM commands WHERE job_id = $1 AND position('sdb'::bytea in payload) > 0",
            DB_S(id)),
        0);
}

/* ---- protect ---- */

static void test_protect_follows_the_agent_to_the_first_point(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    AUTO_DB_SET struct db_set set = {0};
    struct err err = ERR_INIT;
    char id[IDENT_TEXT_SIZE];
    struct site s;

    submit_protect(conn, &s, id);
    run_all(conn, HUB_A);
    assert_state(conn, &s, "enabling");
    assert_job(conn, id, "running", "");
    agent_says(conn, &s, "initial_replication", 0);
    run_all(conn, HUB_A);
    assert_state(conn, &s, "initial_replication");
    agent_says(conn, &s, "protected", 3);
    run_all(conn, HUB_A);
    assert_state(conn, &s, "protected");
    assert_job(conn, id, "succeeded", "");
    assert_ok(db_need(conn, &db_jobs, id, &set, &err), &err);
    assert_non_null(strstr(db_at(&set, struct job_row, 0)->result_json, "\"first_point\": \"3\""));
    assert_int_equal(db_at(&set, struct job_row, 0)->progress_permille, 1000);
}

static void test_protect_waits_for_a_node(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct err err = ERR_INIT;
    char id[IDENT_TEXT_SIZE];
    struct site s;

    build(conn, &s);
    assert_ok(db_script(conn, "UPDATE nodes SET online = false", &err), &err);
    submit(conn, "protect", s.machine, NULL, id);
    run_all(conn, HUB_A);
    assert_state(conn, &s, "unprotected");
    assert_int_equal(db_exec(conn, NULL, &err, "SELECT 1 FROM job_steps WHERE detail LIKE 'no process node%'"), 1);
    assert_ok(db_script(conn, "UPDATE nodes SET online = true", &err), &err);
    wake(conn);
    run_all(conn, HUB_A);
    assert_state(conn, &s, "enabling");
}

static void test_a_cancelled_protect_leaves_the_machine_unprotected(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct err err = ERR_INIT;
    char id[IDENT_TEXT_SIZE];
    struct site s;

    submit_protect(conn, &s, id);
    run_all(conn, HUB_A);
    agent_says(conn, &s, "initial_replication", 0);
    assert_ok(job_cancel(conn, id, &err), &err);
    run_all(conn, HUB_A);
    assert_job(conn, id, "cancelled", "cancelled");
    assert_state(conn, &s, "unprotected");
    assert_int_equal(job_cancel(conn, id, &err), -1);
    assert_int_equal(err.code, ERR_REFUSED);
}

static int protected_disks(struct db_conn *conn, const struct site *s)
{
    struct err err = ERR_INIT;

    return db_exec(conn, NULL, &err, "SELECT 1 FROM disks WHERE machine_id = $1 AND is_protected", DB_S(s->machine));
}

static void test_a_cancelled_protect_of_one_more_disk_leaves_the_others_protected(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct err err = ERR_INIT;
    char id[IDENT_TEXT_SIZE];
    struct site s;

    submit_protect(conn, &s, id);
    run_all(conn, HUB_A);
    agent_says(conn, &s, "initial_replication", 0);
    agent_says(conn, &s, "protected", 7);
    run_all(conn, HUB_A);
    assert_job(conn, id, "succeeded", "");
    assert_ok(machine_inventory(conn, s.machine, TWO_DISKS, &err), &err);
    submit(conn, "protect", s.machine, "{\"disks\":[\"sda\",\"sdb\"]}", id);
    run_all(conn, HUB_A);
    agent_says(conn, &s, "initial_replication", 7);
    assert_state(conn, &s, "initial_replication");
    assert_int_equal(protected_disks(conn, &s), 2);
    assert_ok(job_cancel(conn, id, &err), &err);
    run_all(conn, HUB_A);
    assert_job(conn, id, "cancelled", "cancelled");
    assert_int_equal(protected_disks(conn, &s), 1);
    assert_int_equal(
        db_exec(conn, NULL, &err, "SELECT 1 FROM protections WHERE machine_id = $1 AND active", DB_S(s.machine)), 1);
    agent_says(conn, &s, "protected", 8);
    assert_state(conn, &s, "protected");
}

static void test_unprotect_does_not_wait_for_an_agent_that_is_away(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct err err = ERR_INIT;
    char id[IDENT_TEXT_SIZE];
    struct site s;

    build(conn, &s);
    protect(conn, &s);
    assert_ok(db_script(conn, "UPDATE machines SET online = false", &err), &err);
    submit(conn, "unprotect", s.machine, NULL, id);
    run_all(conn, HUB_A);
    assert_job(conn, id, "succeeded", "");
    assert_state(conn, &s, "unprotected");
}

/* ---- leases ---- */

static void test_a_job_of_a_killed_hub_goes_on_elsewhere(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct job_claim lost = {0};
    struct err err = ERR_INIT;
    char id[IDENT_TEXT_SIZE];
    uint64_t wait = 0;
    struct site s;

    submit_protect(conn, &s, id);
    /* Hub A claims and is killed before its transaction commits. */
    assert_int_equal(job_store_claim(conn, HUB_A, 50000, &lost, &wait, &err), 1);
    assert_int_equal(job_run_one(conn, HUB_B, &wait, &err), 0); /* its lease holds */
    assert_true(wait <= 60000);
    for (int i = 0; i < 100 && job_run_one(conn, HUB_B, &wait, &err) == 0; i++)
        assert_ok(db_exec(conn, NULL, &err, "SELECT pg_sleep(0.01)"), &err);
    assert_state(conn, &s, "enabling");
    /* Hub A was only slow: what it holds is nothing any more. */
    assert_ok(db_begin(conn, &err), &err);
    assert_int_equal(job_store_hold(conn, HUB_A, &lost, &err), 0);
    db_rollback(conn);
    job_claim_done(&lost);
}

static void forget(struct db_conn *conn, const struct site *s)
{
    struct err err = ERR_INIT;

    assert_ok(db_exec(conn, NULL, &err, "DELETE FROM machines WHERE id = $1", DB_S(s->machine)), &err);
    wake(conn);
}

/* Its rows are gone with it, so nothing can be undone, and nobody tries for ever. */
static void test_a_job_ends_whose_machine_is_forgotten(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct err err = ERR_INIT;
    char id[IDENT_TEXT_SIZE];
    struct site s;

    submit_protect(conn, &s, id);
    assert_int_equal(machine_delete(conn, s.machine, 0, &err), -1);
    assert_int_equal(err.code, ERR_REFUSED);
    assert_non_null(strstr(err.correction, id));
    (void)run_all(conn, HUB_A);
    assert_state(conn, &s, "enabling");
    forget(conn, &s);
    (void)run_all(conn, HUB_A);
    assert_job(conn, id, "failed", "not_found");

    submit_protect(conn, &s, id);
    (void)run_all(conn, HUB_A);
    assert_ok(job_cancel(conn, id, &err), &err);
    forget(conn, &s);
    (void)run_all(conn, HUB_A);
    assert_job(conn, id, "cancelled", "cancelled");
}

/* Two threads of one hub are two holders. */
static void test_a_lease_that_ran_out_is_lost_to_the_same_hub_too(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct job_claim lost = {0}, newer = {0};
    struct err err = ERR_INIT;
    char id[IDENT_TEXT_SIZE];
    uint64_t wait = 0;
    struct site s;

    submit_protect(conn, &s, id);
    assert_int_equal(job_store_claim(conn, HUB_A, 1, &lost, &wait, &err), 1);
    assert_int_equal(job_store_claim(conn, HUB_A, 60000000, &newer, &wait, &err), 1);
    assert_string_equal(lost.id, newer.id);
    assert_ok(db_begin(conn, &err), &err);
    assert_int_equal(job_store_hold(conn, HUB_A, &lost, &err), 0);
    assert_int_equal(job_store_hold(conn, HUB_A, &newer, &err), 1);
    db_rollback(conn);
    job_claim_done(&lost);
    job_claim_done(&newer);
}

static void test_a_job_rests_at_the_hub_that_is_at_work_for_it(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct job_claim claim = {0}, other = {0};
    struct err err = ERR_INIT;
    char id[IDENT_TEXT_SIZE];
    uint64_t wait = 0;
    struct site s;

    submit_protect(conn, &s, id);
    assert_int_equal(job_store_claim(conn, HUB_A, 60000000, &claim, &wait, &err), 1);
    struct job_progress p = {.job_id = id, .step_count = claim.step_count, .state_json = "{}", .keep_usec = 60000000};

    assert_ok(job_store_again(conn, &p, &err), &err);
    assert_int_equal(job_store_claim(conn, HUB_B, 60000000, &other, &wait, &err), 0);
    assert_true(wait > 1000000);
    job_claim_done(&claim);
    /* While a thread of A has it, no other one does; A itself is not told to wait for the lease. */
    assert_int_equal(job_store_claim(conn, HUB_A, 60000000, &claim, &wait, &err), 1);
    assert_int_equal(job_store_claim(conn, HUB_A, 60000000, &other, &wait, &err), 0);
    p.again_usec = 20000000; /* less than the lease, more than this test takes */
    assert_ok(job_store_again(conn, &p, &err), &err);
    assert_int_equal(job_store_claim(conn, HUB_A, 60000000, &other, &wait, &err), 0);
    assert_true(wait <= 20000000);
    job_claim_done(&claim);
    /* A is dead for as long as its lease; or it stops, and says so. */
    assert_ok(db_script(conn, "UPDATE jobs SET lease_until = now() - interval '1 s', run_after = now()", &err), &err);
    assert_int_equal(job_store_claim(conn, HUB_B, 60000000, &claim, &wait, &err), 1);
    assert_ok(job_store_again(conn, &p, &err), &err);
    assert_int_equal(job_store_claim(conn, HUB_A, 60000000, &other, &wait, &err), 0);
    assert_ok(job_store_let_go(conn, HUB_B, &err), &err);
    assert_int_equal(job_store_claim(conn, HUB_A, 60000000, &other, &wait, &err), 1);
    job_claim_done(&claim);
    job_claim_done(&other);
}

/* Its successor on the same data folder need not wait for what it had in hand; what it had begun elsewhere gets its time to end. */
static void test_nobody_waits_for_a_hub_that_is_known_to_be_dead(void **state)
{
    struct db_conn *dead AUTO_OF(db_conn) = fixture_conn(state);
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct job_claim claim = {0}, other = {0};
    struct err err = ERR_INIT;
    char id[IDENT_TEXT_SIZE];
    uint64_t wait = 0;
    struct site s;

    submit_protect(conn, &s, id);
    assert_int_equal(job_store_claim(dead, HUB_A, 60000000, &claim, &wait, &err), 1);
    assert_ok(job_store_let_go_of_dead(conn, HUB_B, &err), &err);
    assert_int_equal(job_store_claim(conn, HUB_B, 60000000, &other, &wait, &err), 0);

    /* Its connection is not known to be gone: nobody is kept waiting by it. */
    assert_ok(db_begin(dead, &err), &err);
    assert_int_equal(job_store_hold(dead, HUB_A, &claim, &err), 1);
    assert_ok(job_store_let_go_of_dead(conn, HUB_A, &err), &err);
    db_rollback(dead);
    assert_int_equal(job_store_claim(conn, HUB_B, 60000000, &other, &wait, &err), 0);

    assert_ok(job_store_let_go_of_dead(conn, HUB_A, &err), &err);
    assert_int_equal(job_store_claim(conn, HUB_B, 60000000, &other, &wait, &err), 1);
    assert_ok(db_begin(dead, &err), &err);
    assert_int_equal(job_store_hold(dead, HUB_A, &claim, &err), 0);
    db_rollback(dead);
    job_claim_done(&claim);

    struct job_progress p = {.job_id = id, .step_count = other.step_count, .state_json = "{}", .keep_usec = 60000000};

    assert_ok(job_store_again(conn, &p, &err), &err);
    assert_ok(job_store_let_go_of_dead(conn, HUB_B, &err), &err);
    assert_int_equal(job_store_claim(conn, HUB_A, 60000000, &claim, &wait, &err), 0);
    job_claim_done(&other);
}

static void test_two_hubs_never_hold_one_job(void **state)
{
    struct db_conn *a AUTO_OF(db_conn) = fixture_conn(state);
    struct db_conn *b AUTO_OF(db_conn) = fixture_conn(state);
    struct job_claim claim = {0}, other = {0};
    struct err err = ERR_INIT;
    char id[IDENT_TEXT_SIZE];
    uint64_t wait = 0;
    struct site s;

    submit_protect(a, &s, id);
    assert_int_equal(job_store_claim(a, HUB_A, 60000000, &claim, &wait, &err), 1);
    assert_int_equal(job_store_claim(b, HUB_B, 60000000, &other, &wait, &err), 0);
    job_claim_done(&claim);
}

/* ---- commands ---- */

/* The vault tells of a point. */
static void list_point(struct db_conn *conn, const struct site *s, unsigned sequence)
{
    struct err err = ERR_INIT;
    AUTO_FREE char *points = mem_printf(
        "[{\"machine_id\":\"%s\",\"sequence\":%u,\"time_usec\":1790000000000000,\"kind\":\"filesystem\",\"tag\":\"t\","
        "\"group_point_id\":\"\",\"generation\":1,\"changed_bytes\":9,\"frozen\":true,\"unreadable_blocks\":0,"
        "\"committed_usec\":1790000000000001}]",
        s->machine, sequence);

    assert_ok(point_put(conn, s->vault, points, "[]", &err), &err);
}

static void test_a_point_is_made_by_a_command(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    AUTO_DB_SET struct db_set set = {0};
    struct err err = ERR_INIT;
    char id[IDENT_TEXT_SIZE];
    struct site s;

    build(conn, &s);
    protect(conn, &s);
    submit(conn, "point_create", s.machine, "{\"kind\":\"filesystem\",\"tag\":\"t\"}", id);
    run_all(conn, HUB_A);
    run_all(conn, HUB_A);
    assert_int_equal(answer(conn, s.machine, "", "{\"sequence\":\"8\",\"time\":\"2026-11-21T05:00:00Z\"}"), 1);
    run_all(conn, HUB_A);
    assert_job(conn, id, "running", ""); /* committed, not yet in the list */
    list_point(conn, &s, 8);
    wake(conn);
    run_all(conn, HUB_A);
    assert_job(conn, id, "succeeded", "");
    assert_ok(db_need(conn, &db_jobs, id, &set, &err), &err);
    assert_non_null(strstr(db_at(&set, struct job_row, 0)->result_json, "\"sequence\": \"8\""));
}

/* Commands that wait for that machine's agent. */
static int open_commands(struct db_conn *conn, const struct site *s)
{
    AUTO_PGRESULT PGresult *r = NULL;
    struct err err = ERR_INIT;
    int n = command_open_list(conn, s->machine, &r, &err);

    assert_ok(n, &err);
    return n;
}

static void assert_waits_for(struct db_conn *conn, const struct site *s, const char *job, const char *copy)
{
    struct err err = ERR_INIT;

    wake(conn);
    run_all(conn, HUB_A);
    assert_int_equal(open_commands(conn, s), 0);
    assert_job(conn, job, "running", "");
    assert_int_equal(db_exec(conn, NULL, &err,
                         "SELECT 1 FROM job_steps WHERE job_id = $1 AND status = 'running'"
                         " AND name = 'size' AND detail LIKE $2 || '%'",
                         DB_S(job), DB_S(copy)),
        1);
}

/* While disks are copied or compared the agent makes no point: asked for one, it would say after a minute that it could not. */
static void test_a_resize_waits_for_the_copy_that_is_under_way(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    static const char sizes[] = "{\"disks\":[{\"key\":\"sda\",\"device\":\"/dev/sda\",\"before_bytes\":\"1000\","
                                "\"size_bytes\":\"1000\"}]}";
    char id[IDENT_TEXT_SIZE];
    struct site s;

    build(conn, &s);
    protect(conn, &s);
    agent_says(conn, &s, "initial_replication", 7);
    submit(conn, "disk_resize", s.machine, "{\"disks\":[\"sda\"]}", id);
    run_all(conn, HUB_A);
    assert_int_equal(answer(conn, s.machine, "", sizes), 1);
    assert_waits_for(conn, &s, id, "initial_replication");
    agent_says(conn, &s, "resynchronizing", 7);
    assert_waits_for(conn, &s, id, "resynchronizing");
    agent_says(conn, &s, "protected", 8);
    wake(conn);
    run_all(conn, HUB_A);
    assert_int_equal(answer(conn, s.machine, "", "{\"sequence\":\"9\"}"), 1);
    list_point(conn, &s, 9);
    wake(conn);
    run_all(conn, HUB_A);
    assert_job(conn, id, "succeeded", "");
}

static void test_the_error_of_a_peer_is_the_jobs_problem(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    AUTO_DB_SET struct db_set set = {0};
    AUTO_DB_SET struct db_set exports = {0};
    struct err err = ERR_INIT;
    char id[IDENT_TEXT_SIZE];
    struct site s;

    build(conn, &s);
    protect(conn, &s);
    submit(conn, "point_open", s.machine, "{}", id);
    run_all(conn, HUB_A);
    answer(conn, s.vault, "no_space", "");
    run_all(conn, HUB_A);
    assert_job(conn, id, "failed", "no_space");
    assert_ok(db_need(conn, &db_jobs, id, &set, &err), &err);
    assert_string_equal(db_at(&set, struct job_row, 0)->problem_text, "the vault: it went wrong");
    assert_string_equal(db_at(&set, struct job_row, 0)->problem_correction, "put it right");
    assert_ok(db_list(conn, &db_exports, NULL, &exports, &err), &err);
    assert_string_equal(db_at(&exports, struct export_row, 0)->state, "failed");
}

static void test_an_opened_point_is_closed_again(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    AUTO_DB_SET struct db_set open = {0};
    AUTO_DB_SET struct db_set closed = {0};
    struct err err = ERR_INIT;
    char id[IDENT_TEXT_SIZE];
    struct site s;

    build(conn, &s);
    protect(conn, &s);
    submit(conn, "point_open", s.machine, "{\"write\":true}", id);
    run_all(conn, HUB_A);
    answer(conn, s.vault, "", "{\"uri\":\"nbd+unix:///?socket=/x\",\"disks\":[{\"number\":0}],\"sequence\":\"7\"}");
    run_all(conn, HUB_A);
    assert_ok(db_list(conn, &db_exports, NULL, &open, &err), &err);
    const struct export_row *e = db_at(&open, struct export_row, 0);

    assert_string_equal(e->state, "open");
    assert_string_equal(e->uri, "nbd+unix:///?socket=/x");
    assert_true(e->writable);
    assert_int_equal(e->sequence, 7);
    AUTO_FREE char *params = mem_printf("{\"export_id\":\"%s\"}", e->id);

    submit(conn, "point_close", NULL, params, id);
    run_all(conn, HUB_A);
    answer(conn, s.vault, "not_found", ""); /* nothing open there: that is what was asked for */
    run_all(conn, HUB_A);
    assert_job(conn, id, "succeeded", "");
    assert_ok(db_list(conn, &db_exports, NULL, &closed, &err), &err);
    assert_string_equal(db_at(&closed, struct export_row, 0)->state, "closed");
}

static void test_nobody_answers_for_another_peer(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct err err = ERR_INIT;
    char id[IDENT_TEXT_SIZE], command[IDENT_TEXT_SIZE];
    struct site s;

    build(conn, &s);
    protect(conn, &s);
    submit(conn, "vault_verify", NULL, "{}", id);
    run_all(conn, HUB_A);
    open_command(conn, s.vault, command);
    const struct command_outcome forged = {.id = command,
        .target_id = s.node,
        .done = true,
        .code = "",
        .text = "",
        .correction = "",
        .result_json = "{}"};

    assert_int_equal(command_note(conn, &forged, &err), 0);
    assert_job(conn, id, "running", "");
}

static void test_a_peer_that_is_away_for_a_minute_fails_the_job(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct err err = ERR_INIT;
    char id[IDENT_TEXT_SIZE];
    struct site s;

    build(conn, &s);
    protect(conn, &s);
    submit(conn, "vault_verify", NULL, "{}", id);
    run_all(conn, HUB_A);
    assert_ok(db_script(conn,
                  "UPDATE vaults SET online = false, last_seen_at = now() - interval '61 s';"
                  "UPDATE commands SET created_at = now() - interval '61 s';"
                  "UPDATE placement_watch SET since = now() - interval '61 s', seen_at = now()",
                  &err),
        &err);
    wake(conn);
    run_all(conn, HUB_A);
    assert_job(conn, id, "failed", "unavailable");
    AUTO_PGRESULT PGresult *r = NULL;

    assert_int_equal(command_open_list(conn, s.vault, &r, &err), 0); /* nobody sends it to a vault that returns later */
}

static void test_cancel_reaches_the_peer(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct err err = ERR_INIT;
    char id[IDENT_TEXT_SIZE];
    struct site s;

    build(conn, &s);
    protect(conn, &s);
    submit(conn, "vault_verify", NULL, "{}", id);
    run_all(conn, HUB_A);
    assert_ok(job_cancel(conn, id, &err), &err);
    run_all(conn, HUB_A);
    assert_job(conn, id, "cancelled", "cancelled");
    assert_int_equal(db_exec(conn, NULL, &err, "SELECT 1 FROM commands WHERE ordinal >= 1000 AND NOT done"), 1);
    AUTO_PGRESULT PGresult *r = NULL;

    assert_int_equal(command_open_list(conn, s.vault, &r, &err), 1);
}

/* ---- threads ---- */

static void test_two_runners_share_the_work(void **state)
{
    struct postgres_fixture *f = *state;
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct job_runner *a = NULL, *b = NULL;
    struct news *news = NULL;
    struct err err = ERR_INIT;
    char id[IDENT_TEXT_SIZE];
    struct site s;

    build(conn, &s);
    protect(conn, &s);
    assert_ok(db_script(conn, "UPDATE machines SET online = false", &err), &err);
    assert_ok(news_start(f->db, NULL, NULL, &news, &err), &err);
    assert_ok(job_runner_start(f->db, news, HUB_A, 2, &a, &err), &err);
    assert_ok(job_runner_start(f->db, news, HUB_B, 2, &b, &err), &err);
    for (int round = 0; round < 5; round++) {
        submit(conn, "unprotect", s.machine, NULL, id);
        uint64_t seen = news_count(news, NEWS_JOBS), until = clock_mono_usec() + 120 * USEC_PER_SEC;

        while (db_exec(conn, NULL, &err, "SELECT 1 FROM jobs WHERE id = $1 AND status = 'succeeded'", DB_S(id)) == 0 &&
               clock_mono_usec() < until)
            seen = news_wait(news, NEWS_JOBS, seen, 100000);
        assert_job(conn, id, "succeeded", "");
        assert_ok(db_script(conn, "UPDATE machines SET state = 'protected'", &err), &err);
    }
    job_runner_stop(a);
    job_runner_stop(b);
    news_stop(news);
}

/* What a look at a step puts off is told to nobody else: without a nudge the thread that looks for work sleeps for as long as it did when the
 * job was not yet put off. */
static void test_a_step_that_looks_again_wakes_who_looks_for_work(void **state)
{
    struct postgres_fixture *f = *state;
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct job_runner *runner = NULL;
    struct news *news = NULL;
    struct err err = ERR_INIT;
    char id[IDENT_TEXT_SIZE];
    uint64_t seen, until = clock_mono_usec() + 60 * USEC_PER_SEC;
    struct site s;

    build(conn, &s);
    assert_ok(db_script(conn, "UPDATE nodes SET online = false", &err), &err); /* protecting waits for a node */
    submit(conn, "protect", s.machine, "{\"disks\":\"all-eligible\"}", id);
    assert_ok(news_start(f->db, NULL, NULL, &news, &err), &err);
    assert_ok(job_runner_start(f->db, news, HUB_A, 2, &runner, &err), &err);
    seen = news_count(news, NEWS_JOBS);
    while (db_exec(conn, NULL, &err, "SELECT 1 FROM job_steps WHERE job_id = $1 AND detail <> ''", DB_S(id)) == 0 &&
           clock_mono_usec() < until)
        seen = news_wait(news, NEWS_JOBS, seen, 100000);
    /* Nobody but the runner speaks of jobs from here on. */
    seen = news_count(news, NEWS_JOBS);
    while (news_count(news, NEWS_JOBS) < seen + 2 && clock_mono_usec() < until)
        (void)news_wait(news, NEWS_JOBS, news_count(news, NEWS_JOBS), 100000);
    assert_true(news_count(news, NEWS_JOBS) >= seen + 2);
    assert_job(conn, id, "running", "");
    job_runner_stop(runner);
    news_stop(news);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wrong_submissions_are_refused_at_once),
        cmocka_unit_test(test_a_dry_run_stores_nothing),
        cmocka_unit_test(test_one_change_of_protection_at_a_time),
        cmocka_unit_test(test_a_restore_is_alone_with_both_machines),
        cmocka_unit_test(test_a_restore_of_a_machine_that_is_another_one_by_now_fails),
        cmocka_unit_test(test_a_restore_writes_the_disks_that_were_chosen),
        cmocka_unit_test(test_a_disk_that_nobody_chose_is_written_nowhere),
        cmocka_unit_test(test_protect_follows_the_agent_to_the_first_point),
        cmocka_unit_test(test_protect_waits_for_a_node),
        cmocka_unit_test(test_a_cancelled_protect_leaves_the_machine_unprotected),
        cmocka_unit_test(test_a_cancelled_protect_of_one_more_disk_leaves_the_others_protected),
        cmocka_unit_test(test_unprotect_does_not_wait_for_an_agent_that_is_away),
        cmocka_unit_test(test_a_job_of_a_killed_hub_goes_on_elsewhere),
        cmocka_unit_test(test_a_job_ends_whose_machine_is_forgotten),
        cmocka_unit_test(test_a_lease_that_ran_out_is_lost_to_the_same_hub_too),
        cmocka_unit_test(test_a_job_rests_at_the_hub_that_is_at_work_for_it),
        cmocka_unit_test(test_nobody_waits_for_a_hub_that_is_known_to_be_dead),
        cmocka_unit_test(test_two_hubs_never_hold_one_job),
        cmocka_unit_test(test_a_point_is_made_by_a_command),
        cmocka_unit_test(test_a_resize_waits_for_the_copy_that_is_under_way),
        cmocka_unit_test(test_the_error_of_a_peer_is_the_jobs_problem),
        cmocka_unit_test(test_an_opened_point_is_closed_again),
        cmocka_unit_test(test_nobody_answers_for_another_peer),
        cmocka_unit_test(test_a_peer_that_is_away_for_a_minute_fails_the_job),
        cmocka_unit_test(test_cancel_reaches_the_peer),
        cmocka_unit_test(test_two_runners_share_the_work),
        cmocka_unit_test(test_a_step_that_looks_again_wakes_who_looks_for_work),
    };

    return cmocka_run_group_tests_name("hub_jobs", tests, postgres_fixture_up, postgres_fixture_down);
}
