/* SPDX-License-Identifier: Apache-2.0
 *
 * The control plane on a real database, spoken to by the real client side (transport/proto) over loopback. The hub and the
 * sessions turn on one loop here; enrolment, which blocks, on a thread of its own.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

#include "hub/control/control.h"
#include "hub/db/config_store.h"
#include "hub/db/job_store.h"
#include "hub/db/peer_store.h"
#include "hub/db/protection_store.h"
#include "hub/db/token_store.h"
#include "hub/jobs/job.h"
#include "hub/jobs/job_runner.h"
#include "tests/unit/hub/postgres_fixture.h"
#include "transport/base/clock.h"
#include "transport/base/file.h"
#include "transport/proto/enrol.h"
#include "transport/proto/session.h"
#include "transport/proto/wire.h"
#include "transport/rpc/rpc.h"

#define WAIT_USEC (120 * USEC_PER_SEC)
#define INSTANCE "aaaaaaaa-0000-4000-8000-000000000001"

typedef Leeward__Control__V1__Directive Directive;
typedef Leeward__Control__V1__Report Report;

static struct control *control;
static struct news *news;
static struct live_status *live;
static struct ca *ca;
static char hub_address[64];
static char hub_data[96];

static void hear(void *arg, enum news_topic topic)
{
    (void)arg;
    control_news(control, topic);
}

static int up(void **state)
{
    static struct ident hub_id;
    struct err err = ERR_INIT;

    if (postgres_fixture_up(state) < 0)
        return -1;
    struct postgres_fixture *f = *state;
    struct control_conf conf = {.loop = f->loop,
        .instance = "2a1d8a52-6a51-4c0e-9d7e-1f5b0c9f3e77",
        .db = f->db,
        .data_dir = hub_data,
        .listen = "127.0.0.1:0",
        .hub_id = &hub_id,
        .status_interval_msec = 100};

    snprintf(hub_data, sizeof(hub_data), "%s/hub", f->folder);
    if (ident_random(&hub_id) < 0 || file_make_dirs(hub_data, 0711, &err) < 0 || ca_open(hub_data, &ca, &err) < 0 ||
        live_status_new(&live, &err) < 0)
        return -1;
    conf.ca = ca;
    conf.live = live;
    if (control_start(&conf, &control, &err) < 0 || news_start(f->db, hear, NULL, &news, &err) < 0) {
        fprintf(stderr, "set-up: %s\n", err.text);
        return -1;
    }
    snprintf(hub_address, sizeof(hub_address), "127.0.0.1:%u", control_port(control));
    return 0;
}

static int down(void **state)
{
    news_stop(news);
    control_stop(control);
    live_status_free(live);
    ca_close(ca);
    return postgres_fixture_down(state);
}

/* Turns the loop until is_so, or fails. */
#define TURN_UNTIL(f, is_so)                                                                                           \
    do {                                                                                                               \
        uint64_t until_ = clock_mono_usec() + WAIT_USEC;                                                               \
        while (!(is_so)) {                                                                                             \
            if (clock_mono_usec() > until_)                                                                            \
                fail_msg("waited too long for: %s", #is_so);                                                           \
            (void)sd_event_run((f)->loop, 20 * USEC_PER_MSEC);                                                         \
        }                                                                                                              \
    } while (0)

static int count(void **state, const char *sql, const char *id)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct err err = ERR_INIT;
    int n = db_exec(conn, NULL, &err, sql, DB_S(id));

    assert_ok(n, &err);
    return n;
}

static void change(void **state, const char *sql, const char *id)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct err err = ERR_INIT;

    assert_ok(db_exec(conn, NULL, &err, sql, DB_S(id)), &err);
}

/* ---- enrolment ---- */

struct enrolling {
    struct enrol_conf conf;
    struct enrol_identity identity;
    struct err err;
    int rc;
    atomic_bool done;
};

static void *enrol_main(void *arg)
{
    struct enrolling *e = arg;

    e->rc = enrol_ensure(&e->conf, &e->identity, &e->err);
    atomic_store(&e->done, true);
    return NULL;
}

static void enrol_with(void **state, struct enrolling *e, const char *role, const char *folder, const char *token)
{
    struct postgres_fixture *f = *state;
    pthread_t thread;

    e->conf = (struct enrol_conf){.data_dir = folder, .hub = hub_address, .token = token, .role = role, .name = role};
    assert_int_equal(pthread_create(&thread, NULL, enrol_main, e), 0);
    TURN_UNTIL(f, atomic_load(&e->done));
    pthread_join(thread, NULL);
}

static void make_token(void **state, const char *role, char text[ENROLMENT_TOKEN_TEXT_SIZE])
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    const struct enrolment_token_spec spec = {.role = role, .name = "test"};
    struct err err = ERR_INIT;
    char id[IDENT_TEXT_SIZE];

    assert_ok(enrolment_token_create(conn, &spec, ca_fingerprint(ca), id, text, &err), &err);
}

/* An enrolled peer with an open session. */
struct peer {
    char folder[96];
    struct enrolling e;
    struct session *session;
    unsigned ups, downs, desired_count, command_count;
    uint64_t version;
    bool protect;
    size_t items; /* disks or machines in the desired state */
    char command_id[64];
    int command_kind;
};

static void on_directive(void *arg, const Directive *d)
{
    struct peer *p = arg;

    switch (d->kind_case) {
    case LEEWARD__CONTROL__V1__DIRECTIVE__KIND_AGENT:
        p->version = d->agent->version;
        p->protect = d->agent->protect;
        p->items = d->agent->n_disks;
        p->desired_count++;
        break;
    case LEEWARD__CONTROL__V1__DIRECTIVE__KIND_NODE:
        p->version = d->node->version;
        p->items = d->node->n_machines;
        p->desired_count++;
        break;
    case LEEWARD__CONTROL__V1__DIRECTIVE__KIND_VAULT:
        p->version = d->vault->version;
        p->items = d->vault->n_machines;
        p->desired_count++;
        break;
    case LEEWARD__CONTROL__V1__DIRECTIVE__KIND_COMMAND:
        snprintf(p->command_id, sizeof(p->command_id), "%s", d->command->command_id);
        p->command_kind = (int)d->command->kind_case;
        p->command_count++;
        break;
    default:
        break;
    }
}

static void on_up(void *arg)
{
    ((struct peer *)arg)->ups++;
}

static void on_down(void *arg, const struct err *why)
{
    (void)why;
    ((struct peer *)arg)->downs++;
}

static const struct session_ops ops = {.on_directive = on_directive, .on_up = on_up, .on_down = on_down};

static void peer_connect(void **state, struct peer *p, const char *role)
{
    struct postgres_fixture *f = *state;
    const struct session_conf conf = {.identity = &p->e.identity,
        .data_dir = p->folder,
        .hub = hub_address,
        .software = "test 1",
        .endpoint = strcmp(role, "agent") == 0 ? NULL : "peer.example:1"};
    struct err err = ERR_INIT;

    assert_ok(session_new(f->loop, &conf, &ops, p, &p->session, &err), &err);
}

static void peer_up(void **state, struct peer *p, const char *role)
{
    struct postgres_fixture *f = *state;
    char token[ENROLMENT_TOKEN_TEXT_SIZE];
    static unsigned number;

    *p = (struct peer){0};
    snprintf(p->folder, sizeof(p->folder), "%s/%s-%u", f->folder, role, ++number);
    make_token(state, role, token);
    enrol_with(state, &p->e, role, p->folder, token);
    assert_ok(p->e.rc, &p->e.err);
    peer_connect(state, p, role);
    TURN_UNTIL(f, p->ups > 0 && p->desired_count > 0);
}

static void peer_down(void **state, struct peer *p)
{
    struct postgres_fixture *f = *state;

    session_free(p->session);
    enrol_identity_done(&p->e.identity);
    (void)f;
}

static void test_a_token_makes_one_identity(void **state)
{
    struct postgres_fixture *f = *state;
    struct enrolling first = {0}, second = {0}, third = {0};
    char token[ENROLMENT_TOKEN_TEXT_SIZE], a[96], b[96];

    make_token(state, "node", token);
    snprintf(a, sizeof(a), "%s/once-a", f->folder);
    snprintf(b, sizeof(b), "%s/once-b", f->folder);
    enrol_with(state, &first, "node", a, token);
    assert_ok(first.rc, &first.err);
    assert_int_equal(count(state, "SELECT 1 FROM nodes WHERE id = $1", first.identity.id_text), 1);
    assert_int_equal(count(state, "SELECT 1 FROM certificates WHERE subject_id = $1", first.identity.id_text), 1);
    enrol_with(state, &second, "node", b, token);
    assert_int_equal(second.rc, -1);
    assert_int_equal(second.err.code, ERR_DENIED);
    /* An enrolment that broke off before the certificate was stored: same key, same token, same identity. */
    AUTO_FREE char *certificate = mem_printf("%s/identity/cert.pem", a);

    assert_int_equal(unlink(certificate), 0);
    enrol_with(state, &third, "node", a, token);
    assert_ok(third.rc, &third.err);
    assert_string_equal(third.identity.id_text, first.identity.id_text);
    enrol_identity_done(&first.identity);
    enrol_identity_done(&third.identity);
}

static void test_a_token_of_another_role_is_refused(void **state)
{
    struct postgres_fixture *f = *state;
    struct enrolling e = {0};
    char token[ENROLMENT_TOKEN_TEXT_SIZE], folder[96];

    make_token(state, "agent", token);
    snprintf(folder, sizeof(folder), "%s/wrong-role", f->folder);
    enrol_with(state, &e, "vault", folder, token);
    assert_int_equal(e.rc, -1);
    assert_int_equal(e.err.code, ERR_DENIED);
    assert_true(e.err.correction[0] != '\0');
}

/* ---- sessions ---- */

static void test_a_session_marks_its_peer_online_and_offline(void **state)
{
    struct postgres_fixture *f = *state;
    struct live_counts counts;
    struct peer p;

    peer_up(state, &p, "node");
    assert_int_equal(count(state, "SELECT 1 FROM nodes WHERE id = $1 AND online AND endpoint = 'peer.example:1'",
                         p.e.identity.id_text),
        1);
    live_status_counts(live, &counts);
    assert_int_equal(counts.nodes, 1);
    session_free(TAKE_PTR(p.session));
    TURN_UNTIL(f, count(state, "SELECT 1 FROM nodes WHERE id = $1 AND NOT online", p.e.identity.id_text) == 1);
    live_status_counts(live, &counts);
    assert_int_equal(counts.nodes, 0);
    peer_down(state, &p);
}

static void report_inventory(struct peer *p, char *disk_key, char *hostname)
{
    Report report = LEEWARD__CONTROL__V1__REPORT__INIT;
    Leeward__Control__V1__Inventory inventory = LEEWARD__CONTROL__V1__INVENTORY__INIT;
    Leeward__Control__V1__InventoryDisk disk = LEEWARD__CONTROL__V1__INVENTORY_DISK__INIT, *disks[] = {&disk};
    struct err err = ERR_INIT;

    disk.key = disk_key;
    disk.device = "/dev/sda";
    disk.trackable = true;
    disk.size_bytes = UINT64_MAX; /* what does not fit must not lose the rest */
    inventory.disks = disks;
    inventory.n_disks = 1;
    inventory.hostname = hostname;
    report.kind_case = LEEWARD__CONTROL__V1__REPORT__KIND_INVENTORY;
    report.inventory = &inventory;
    assert_int_equal(session_report(p->session, &report, &err), 1);
}

static void report_status(struct peer *p, char *agent_state, uint64_t sequence, char *cause)
{
    Report report = LEEWARD__CONTROL__V1__REPORT__INIT;
    Leeward__Control__V1__AgentStatus status = LEEWARD__CONTROL__V1__AGENT_STATUS__INIT;
    struct err err = ERR_INIT;

    status.state = agent_state;
    status.cause = cause;
    status.last_point_sequence = sequence;
    status.last_point_utc_usec = clock_utc_usec();
    status.desired_version = p->version;
    report.kind_case = LEEWARD__CONTROL__V1__REPORT__KIND_AGENT_STATUS;
    report.agent_status = &status;
    assert_int_equal(session_report(p->session, &report, &err), 1);
}

static void test_inventory_and_status_arrive_cleaned(void **state)
{
    struct postgres_fixture *f = *state;
    struct live_machine m = {0};
    struct peer p;

    peer_up(state, &p, "agent");
    report_inventory(&p, "serial:1", "host\xff\x01<b>");
    TURN_UNTIL(
        f, count(state, "SELECT 1 FROM disks WHERE machine_id = $1 AND key = 'serial:1'", p.e.identity.id_text) == 1);
    assert_int_equal(
        count(state, "SELECT 1 FROM machines WHERE id = $1 AND hostname = 'host? <b>'", p.e.identity.id_text), 1);
    report_status(&p, "idle", 0, "caf\xc3\xa9 \xc3");
    TURN_UNTIL(f, live_status_machine(live, p.e.identity.id_text, &m));
    assert_true(m.online);
    assert_string_equal(m.agent_state, "idle");
    assert_string_equal(m.cause, "caf\xc3\xa9 ?");
    TURN_UNTIL(
        f, count(state, "SELECT 1 FROM machines WHERE id = $1 AND agent_state = 'idle'", p.e.identity.id_text) == 1);
    peer_down(state, &p);
}

static void report_points(struct peer *vault, char *machine, uint64_t first, unsigned n)
{
    Report report = LEEWARD__CONTROL__V1__REPORT__INIT;
    Leeward__Control__V1__Points points = LEEWARD__CONTROL__V1__POINTS__INIT;
    Leeward__Control__V1__PointInfo info[8], *list[8];
    struct err err = ERR_INIT;

    for (unsigned i = 0; i < n; i++) {
        info[i] = (Leeward__Control__V1__PointInfo)LEEWARD__CONTROL__V1__POINT_INFO__INIT;
        info[i].sequence = first + i;
        info[i].kind = "crash";
        info[i].generation = 1;
        info[i].time_utc_usec = info[i].committed_utc_usec = clock_utc_usec();
        list[i] = &info[i];
    }
    points.machine_id = machine;
    points.added = list;
    points.n_added = n;
    report.kind_case = LEEWARD__CONTROL__V1__REPORT__KIND_POINTS;
    report.points = &points;
    assert_int_equal(session_report(vault->session, &report, &err), 1);
}

/* Turns the loop and lets jobs run beside it. */
static bool job_is(void **state, const char *id, const char *status)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    AUTO_DB_SET struct db_set set = {0};
    struct err err = ERR_INIT;
    uint64_t wait;

    assert_ok(job_run_one(conn, INSTANCE, &wait, &err), &err);
    assert_ok(db_need(conn, &db_jobs, id, &set, &err), &err);
    return strcmp(db_at(&set, struct job_row, 0)->status, status) == 0;
}

static void submit(void **state, const char *kind, const char *machine, const char *params, char id[IDENT_TEXT_SIZE])
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    const struct job_spec spec = {.kind = kind, .machine_id = machine, .params_json = params};
    struct err err = ERR_INIT;

    assert_ok(job_submit(conn, &spec, false, id, &err), &err);
}

static void test_protection_reaches_everybody_and_points_come_back(void **state)
{
    struct postgres_fixture *f = *state;
    struct peer agent, node, vault;
    char job[IDENT_TEXT_SIZE];

    change(state, "DELETE FROM nodes WHERE $1 <> ''", "x");
    peer_up(state, &node, "node");
    peer_up(state, &vault, "vault");
    peer_up(state, &agent, "agent");
    change(state, "UPDATE vaults SET free_bytes = 1000000000000 WHERE id = $1", vault.e.identity.id_text);
    report_inventory(&agent, "serial:2", "h");
    TURN_UNTIL(f, count(state, "SELECT 1 FROM disks WHERE machine_id = $1", agent.e.identity.id_text) == 1);
    assert_false(agent.protect);
    submit(state, "protect", agent.e.identity.id_text, NULL, job);
    TURN_UNTIL(
        f, job_is(state, job, "running") && agent.protect && agent.items == 1 && node.items == 1 && vault.items == 1);
    report_status(&agent, "initial_replication", 0, "");
    TURN_UNTIL(f, count(state, "SELECT 1 FROM machines WHERE id = $1 AND state = 'initial_replication'",
                      agent.e.identity.id_text) == 1);
    report_points(&vault, agent.e.identity.id_text, 5, 2);
    TURN_UNTIL(f, count(state, "SELECT 1 FROM recovery_points WHERE machine_id = $1", agent.e.identity.id_text) == 2);
    report_status(&agent, "protected", 6, "");
    TURN_UNTIL(f, job_is(state, job, "succeeded"));
    report_points(&node, agent.e.identity.id_text, 9, 1); /* a node has no points to tell of */
    report_points(&vault, agent.e.identity.id_text, 7, 1);
    TURN_UNTIL(f, count(state, "SELECT 1 FROM recovery_points WHERE machine_id = $1", agent.e.identity.id_text) == 3);
    assert_int_equal(
        count(state, "SELECT 1 FROM recovery_points WHERE machine_id = $1 AND sequence = 9", agent.e.identity.id_text),
        0);
    peer_down(state, &agent);
    peer_down(state, &node);
    peer_down(state, &vault);
}

static void test_a_command_goes_out_once_and_again_in_the_next_session(void **state)
{
    struct postgres_fixture *f = *state;
    struct peer vault;
    char job[IDENT_TEXT_SIZE], first[64];

    peer_up(state, &vault, "vault");
    AUTO_FREE char *params = mem_printf("{\"vault_id\":\"%s\"}", vault.e.identity.id_text);

    submit(state, "vault_verify", NULL, params, job);
    TURN_UNTIL(f, job_is(state, job, "running") && vault.command_count == 1);
    assert_int_equal(vault.command_kind, LEEWARD__CONTROL__V1__COMMAND__KIND_VERIFY);
    snprintf(first, sizeof(first), "%s", vault.command_id);
    session_free(TAKE_PTR(vault.session)); /* the vault was killed before it answered */
    peer_connect(state, &vault, "vault");
    TURN_UNTIL(f, vault.command_count == 2);
    assert_string_equal(vault.command_id, first);
    session_command_progress(vault.session, first, 500, "half");
    TURN_UNTIL(f, count(state, "SELECT 1 FROM commands WHERE id = $1 AND progress_permille = 500", first) == 1);
    session_command_done(vault.session, first, NULL, "{\"records\":\"3\"}");
    TURN_UNTIL(f, job_is(state, job, "succeeded"));
    assert_int_equal(vault.command_count, 2);
    peer_down(state, &vault);
}

/* The connection that stores the answer breaks: the session is ended, and the vault is not asked for the work again. */
static void test_an_answer_that_was_not_stored_is_told_again(void **state)
{
    struct postgres_fixture *f = *state;
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct err err = ERR_INIT;
    struct peer vault;
    char job[IDENT_TEXT_SIZE];

    peer_up(state, &vault, "vault");
    AUTO_FREE char *params = mem_printf("{\"vault_id\":\"%s\"}", vault.e.identity.id_text);

    submit(state, "vault_verify", NULL, params, job);
    TURN_UNTIL(f, job_is(state, job, "running") && vault.command_count == 1);
    assert_ok(db_begin(conn, &err), &err);
    assert_ok(
        db_exec(conn, NULL, &err, "SELECT 1 FROM commands WHERE id = $1 FOR UPDATE", DB_S(vault.command_id)), &err);
    session_command_done(vault.session, vault.command_id, NULL, "{\"records\":\"3\"}");
    TURN_UNTIL(f, count(state,
                      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                      " WHERE wait_event_type = 'Lock' AND query LIKE 'UPDATE commands SET done%' AND $1 <> ''",
                      job) > 0);
    TURN_UNTIL(f, vault.downs == 1);
    db_rollback(conn);
    TURN_UNTIL(f, job_is(state, job, "succeeded") || vault.command_count > 1);
    assert_int_equal(vault.command_count, 1);
    assert_int_equal(vault.ups, 2);
    peer_down(state, &vault);
}

static void test_an_event_is_recorded_with_its_sender(void **state)
{
    struct postgres_fixture *f = *state;
    struct peer vault;

    peer_up(state, &vault, "vault");
    session_event(vault.session, "error", "disk_full", "00000000-0000-4000-8000-000000000000", "do that", "it is full");
    TURN_UNTIL(f, count(state,
                      "SELECT 1 FROM events WHERE vault_id = $1 AND code = 'disk_full' AND severity = 'error'"
                      " AND machine_id IS NULL AND remedy = 'do that'",
                      vault.e.identity.id_text) == 1);
    peer_down(state, &vault);
}

#define ALARM "SELECT 1 FROM events WHERE vault_id = $1 AND code = 'looks_damaged'"

static void test_an_event_that_could_not_be_stored_is_told_again(void **state)
{
    struct postgres_fixture *f = *state;
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct err err = ERR_INIT;
    struct peer vault;

    peer_up(state, &vault, "vault");
    assert_ok(db_script(conn, "ALTER TABLE events ADD CONSTRAINT no CHECK (code <> 'looks_damaged')", &err), &err);
    session_event(vault.session, "error", "looks_damaged", NULL, "", "look at it");
    session_event(vault.session, "info", "behind_it", NULL, "", "which comes");
    TURN_UNTIL(f,
        count(state, "SELECT 1 FROM events WHERE vault_id = $1 AND code = 'behind_it'", vault.e.identity.id_text) == 1);
    assert_int_equal(count(state, ALARM, vault.e.identity.id_text), 0);
    assert_ok(db_script(conn, "ALTER TABLE events DROP CONSTRAINT no", &err), &err);
    TURN_UNTIL(f, count(state, ALARM, vault.e.identity.id_text) == 1);
    peer_down(state, &vault);
}

#define TELL_AGAIN_USEC (10 * USEC_PER_SEC) /* session.c */
#define FLOOD 100                           /* more than are taken at once, fewer than in a minute */
#define FLOODED "SELECT 1 FROM events WHERE vault_id = $1 AND code = 'flood'"

/* What the hub has no room for while its database is slow is told again, and what it had room for is not there twice. */
static void test_events_that_come_faster_than_they_are_stored_are_all_stored(void **state)
{
    struct postgres_fixture *f = *state;
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct err err = ERR_INIT;
    struct peer vault;
    uint64_t began;
    char text[16];

    peer_up(state, &vault, "vault");
    began = clock_mono_usec();
    assert_ok(db_begin(conn, &err), &err);
    assert_ok(db_script(conn, "LOCK TABLE events IN SHARE MODE", &err), &err);
    for (unsigned i = 0; i < FLOOD; i++) {
        snprintf(text, sizeof(text), "%u", i);
        session_event(vault.session, "warning", "flood", NULL, "", text);
    }
    for (uint64_t until = clock_mono_usec() + USEC_PER_SEC; clock_mono_usec() < until;)
        (void)sd_event_run(f->loop, 20 * USEC_PER_MSEC);
    db_rollback(conn);
    TURN_UNTIL(f, count(state, FLOODED, vault.e.identity.id_text) >= FLOOD);
    assert_int_equal(count(state, FLOODED, vault.e.identity.id_text), FLOOD);
    assert_int_equal(count(state, FLOODED " GROUP BY text", vault.e.identity.id_text), FLOOD);
    assert_true(clock_mono_usec() - began >= TELL_AGAIN_USEC); /* not all were taken when they came */
    assert_int_equal(vault.ups, 1);
    peer_down(state, &vault);
}

static void test_a_deleted_peer_is_refused(void **state)
{
    struct postgres_fixture *f = *state;
    struct peer vault;

    peer_up(state, &vault, "vault");
    session_free(TAKE_PTR(vault.session));
    change(state, "DELETE FROM vaults WHERE id = $1", vault.e.identity.id_text);
    vault.ups = vault.downs = 0;
    peer_connect(state, &vault, "vault");
    TURN_UNTIL(f, vault.downs > 0);
    assert_int_equal(vault.ups, 0);
    peer_down(state, &vault);
}

/* ---- renewal and strangers ---- */

struct asked {
    bool over;
    enum rpc_status status;
    struct buf reply;
};

static void on_answer(void *arg, enum rpc_status status, const char *text, struct buf *reply)
{
    struct asked *a = arg;

    (void)text;
    a->over = true;
    a->status = status;
    buf_init(&a->reply, 1 << 20);
    if (reply)
        buf_move(&a->reply, reply);
}

static void ask(
    void **state, const struct tls_files *files, const char *path, const void *bytes, size_t n, struct asked *a)
{
    struct postgres_fixture *f = *state;
    struct tls_context *tls = NULL;
    struct rpc_channel *channel = NULL;
    AUTO_BUF struct buf request = BUF_INIT(1 << 20);
    struct err err = ERR_INIT;

    *a = (struct asked){0};
    assert_ok(tls_client_new(files, NULL, &tls, &err), &err);
    assert_ok(rpc_channel_new(f->loop, hub_address, tls, "hub", NULL, NULL, &channel, &err), &err);
    assert_ok(buf_append(&request, bytes, n, &err), &err);
    assert_ok(rpc_unary(channel, path, 0, &request, on_answer, a, &err), &err);
    TURN_UNTIL(f, a->over);
    rpc_channel_free(channel);
    tls_context_free(tls);
}

#define ENROL "/leeward.control.v1.Enrolment/Enrol"
#define RENEW "/leeward.control.v1.Control/Renew"

static void test_strangers_may_only_enrol_and_nonsense_is_refused(void **state)
{
    const struct tls_files nobody = {.ca = ca_path(ca)};
    static const uint8_t nonsense[] = {0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f, 1, 2, 3};
    struct asked a;

    ask(state, &nobody, RENEW, "", 0, &a);
    assert_int_equal(a.status, RPC_UNAUTHENTICATED);
    ask(state, &nobody, ENROL, nonsense, sizeof(nonsense), &a);
    assert_int_equal(a.status, RPC_INVALID_ARGUMENT);
    ask(state, &nobody, ENROL, "", 0, &a); /* no request at all */
    assert_int_equal(a.status, RPC_INVALID_ARGUMENT);
    AUTO_BUF struct buf flood = BUF_INIT(1 << 20);
    struct err err = ERR_INIT;
    Leeward__Control__V1__EnrolRequest request = LEEWARD__CONTROL__V1__ENROL_REQUEST__INIT;
    AUTO_FREE uint8_t *csr = mem_alloc(20000, 1);

    request.role = "agent";
    request.token = "lwe_";
    request.csr_der = (ProtobufCBinaryData){20000, csr};
    assert_ok(wire_pack(&request.base, &flood, &err), &err);
    ask(state, &nobody, ENROL, flood.data, flood.len, &a);
    assert_int_equal(a.status, RPC_INVALID_ARGUMENT);
    request.role = "hub"; /* nobody becomes a hub */
    request.csr_der.len = 100;
    buf_clear(&flood);
    assert_ok(wire_pack(&request.base, &flood, &err), &err);
    ask(state, &nobody, ENROL, flood.data, flood.len, &a);
    assert_int_equal(a.status, RPC_INVALID_ARGUMENT);
}

static void test_renewal_gives_the_same_identity_a_new_certificate(void **state)
{
    Leeward__Control__V1__RenewRequest request = LEEWARD__CONTROL__V1__RENEW_REQUEST__INIT;
    AUTO_BUF struct buf bytes = BUF_INIT(65536);
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509_REQ *csr = X509_REQ_new();
    ProtobufCMessage *m = NULL;
    unsigned char *der = NULL;
    struct err err = ERR_INIT;
    struct asked a;
    struct peer node;

    peer_up(state, &node, "node");
    assert_int_equal(X509_REQ_set_pubkey(csr, key), 1);
    assert_true(X509_REQ_sign(csr, key, EVP_sha256()) > 0);
    request.csr_der.len = (size_t)i2d_X509_REQ(csr, &der);
    request.csr_der.data = der;
    assert_ok(wire_pack(&request.base, &bytes, &err), &err);
    ask(state, &node.e.identity.files, RENEW, bytes.data, bytes.len, &a);
    assert_int_equal(a.status, RPC_OK);
    assert_ok(wire_unpack(&leeward__control__v1__enrol_reply__descriptor, a.reply.data, a.reply.len, &m, &err), &err);
    const Leeward__Control__V1__EnrolReply *reply = (const Leeward__Control__V1__EnrolReply *)m;

    assert_string_equal(reply->id, node.e.identity.id_text);
    assert_non_null(strstr(reply->certificate_pem, "BEGIN CERTIFICATE"));
    assert_int_equal(count(state, "SELECT 1 FROM certificates WHERE subject_id = $1", node.e.identity.id_text), 2);
    wire_free(m);
    buf_done(&a.reply);
    OPENSSL_free(der);
    X509_REQ_free(csr);
    EVP_PKEY_free(key);
    peer_down(state, &node);
}

static void test_a_revoked_certificate_ends_the_session_and_opens_none(void **state)
{
    struct postgres_fixture *f = *state;
    struct db_conn *conn = fixture_conn(state);
    struct err err = ERR_INIT;
    AUTO_PGRESULT PGresult *r = NULL;
    struct peer vault;

    peer_up(state, &vault, "vault");
    assert_int_equal(db_exec(conn, &r, &err, "SELECT serial FROM certificates WHERE subject_id = $1",
                         DB_S(vault.e.identity.id_text)),
        1);
    assert_ok(certificate_revoke(conn, db_text(r, 0, 0), "test", &err), &err);
    db_release(conn);
    TURN_UNTIL(f, vault.downs > 1); /* cut off, and refused when it comes back */
    assert_int_equal(vault.ups, 1);
    peer_down(state, &vault);
}

/* ---- stopping ---- */

#define LAST_DISKS 200 /* more than one piece of a batch */
#define LAST_EVENTS 8  /* a slow disk stores them well within what the hub gives its last reports */

static void report_disk_minutes(struct peer *p, uint32_t disks)
{
    Leeward__Control__V1__DiskMinute minute = LEEWARD__CONTROL__V1__DISK_MINUTE__INIT;
    Leeward__Control__V1__Report report = LEEWARD__CONTROL__V1__REPORT__INIT;
    struct err err = ERR_INIT;

    report.kind_case = LEEWARD__CONTROL__V1__REPORT__KIND_DISK_MINUTE;
    report.disk_minute = &minute;
    minute.minute_utc_usec = clock_utc_usec();
    minute.changed_bytes = 4096;
    for (minute.disk = 0; minute.disk < disks; minute.disk++)
        assert_int_equal(session_report(p->session, &report, &err), 1);
    minute.turned_bytes = 4097; /* cannot be: it is left out, and the others are not */
    assert_int_equal(session_report(p->session, &report, &err), 1);
}

/* Minutes are not told again: a batch that PostgreSQL gives up, for another transaction's sake or because it is away, keeps them for the next one. */
static void test_minutes_outlive_a_batch_that_fails(void **state)
{
    struct postgres_fixture *f = *state;
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct err err = ERR_INIT;
    struct peer agent;

    peer_up(state, &agent, "agent");
    assert_ok(db_script(conn,
                  "CREATE SEQUENCE tries; CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
                  " PERFORM nextval('tries'); RAISE EXCEPTION 'deadlock' USING ERRCODE = '40P01'; END $$;"
                  "CREATE TRIGGER lose BEFORE INSERT ON disk_minutes FOR EACH ROW EXECUTE FUNCTION lose()",
                  &err),
        &err);
    report_disk_minutes(&agent, LAST_DISKS);
    TURN_UNTIL(
        f, count(state, "SELECT 1 FROM tries WHERE is_called AND last_value > 1 AND $1::text <> ''", INSTANCE) > 0);
    assert_ok(db_script(conn, "DROP TRIGGER lose ON disk_minutes", &err), &err);
    TURN_UNTIL(
        f, count(state, "SELECT 1 FROM disk_minutes WHERE machine_id = $1", agent.e.identity.id_text) == LAST_DISKS);
    assert_int_equal(count(state, "SELECT 1 FROM disk_minutes WHERE machine_id = $1 AND changed_bytes = 4096",
                         agent.e.identity.id_text),
        LAST_DISKS);
    peer_down(state, &agent);
}

/* The last test: the hub is gone after it. */
static void test_what_was_said_before_the_hub_stops_is_stored(void **state)
{
    struct postgres_fixture *f = *state;
    struct live_machine m = {0};
    struct peer agent;

    peer_up(state, &agent, "agent");
    for (int i = 0; i < LAST_EVENTS; i++)
        session_event(agent.session, "info", "last_words", "", "", "said before the end");
    report_disk_minutes(&agent, LAST_DISKS);
    report_status(&agent, "protected", 7, "");
    /* Behind them, and seen at once: by then the hub has taken the events, and its threads have hardly begun with them. */
    TURN_UNTIL(f, live_status_machine(live, agent.e.identity.id_text, &m) && strcmp(m.agent_state, "protected") == 0);
    news_stop(TAKE_PTR(news)); /* it speaks to the control plane */
    control_stop(TAKE_PTR(control));
    assert_int_equal(
        count(state, "SELECT 1 FROM events WHERE machine_id = $1 AND code = 'last_words'", agent.e.identity.id_text),
        LAST_EVENTS);
    assert_int_equal(count(state, "SELECT 1 FROM samples WHERE machine_id = $1 AND points = 0 AND rpo_count = 1",
                         agent.e.identity.id_text),
        1);
    assert_int_equal(count(state, "SELECT 1 FROM disk_minutes WHERE machine_id = $1 AND changed_bytes = 4096",
                         agent.e.identity.id_text),
        LAST_DISKS);
    peer_down(state, &agent);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_token_makes_one_identity),
        cmocka_unit_test(test_a_token_of_another_role_is_refused),
        cmocka_unit_test(test_a_session_marks_its_peer_online_and_offline),
        cmocka_unit_test(test_inventory_and_status_arrive_cleaned),
        cmocka_unit_test(test_protection_reaches_everybody_and_points_come_back),
        cmocka_unit_test(test_a_command_goes_out_once_and_again_in_the_next_session),
        cmocka_unit_test(test_an_answer_that_was_not_stored_is_told_again),
        cmocka_unit_test(test_an_event_is_recorded_with_its_sender),
        cmocka_unit_test(test_an_event_that_could_not_be_stored_is_told_again),
        cmocka_unit_test(test_events_that_come_faster_than_they_are_stored_are_all_stored),
        cmocka_unit_test(test_a_deleted_peer_is_refused),
        cmocka_unit_test(test_strangers_may_only_enrol_and_nonsense_is_refused),
        cmocka_unit_test(test_renewal_gives_the_same_identity_a_new_certificate),
        cmocka_unit_test(test_a_revoked_certificate_ends_the_session_and_opens_none),
        cmocka_unit_test(test_minutes_outlive_a_batch_that_fails),
        cmocka_unit_test(test_what_was_said_before_the_hub_stops_is_stored),
    };

    return cmocka_run_group_tests_name("hub_control", tests, up, down);
}
