/* SPDX-License-Identifier: Apache-2.0
 *
 * The control session against a hub on the same loop: Hello and Welcome, desired state and its cache, reports that must not be
 * lost, loss of the hub, renewal of the certificate.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/proto/fakehub.h"
#include "tests/unit/rpc/rununtil.h"
#include "transport/base/clock.h"
#include "transport/base/file.h"
#include "transport/base/log.h"
#include "transport/base/mem.h"
#include "transport/proto/session.h"

#define TELL_AGAIN_USEC (10 * USEC_PER_SEC) /* session.c */

struct fixture {
    char dir[64];
    sd_event *loop;
    struct fakehub hub;
    struct testca_files files;
    struct enrol_identity identity;
    struct session *session;
    unsigned ups, downs, desires, commands, renewed;
    uint64_t version;
    char command_id[64];
};

static void on_directive(void *arg, const Leeward__Control__V1__Directive *d)
{
    struct fixture *f = arg;
    if (d->kind_case == LEEWARD__CONTROL__V1__DIRECTIVE__KIND_NODE) {
        f->desires++;
        f->version = d->node->version;
    } else if (d->kind_case == LEEWARD__CONTROL__V1__DIRECTIVE__KIND_COMMAND) {
        f->commands++;
        snprintf(f->command_id, sizeof(f->command_id), "%s", d->command->command_id);
    } else {
        fail_msg("a directive that is not for a node");
    }
}

static void on_up(void *arg)
{
    ((struct fixture *)arg)->ups++;
}

static void on_down(void *arg, const struct err *why)
{
    assert_true(why->text[0] != '\0');
    ((struct fixture *)arg)->downs++;
}

static void on_renewed(void *arg)
{
    ((struct fixture *)arg)->renewed++;
}

static const struct session_ops ops = {
    .on_directive = on_directive, .on_up = on_up, .on_down = on_down, .on_renewed = on_renewed};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    log_set_level(LOG_ERROR);
    snprintf(f->dir, sizeof(f->dir), "/tmp/leeward-session-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    assert_true(sd_event_new(&f->loop) >= 0);
    fakehub_init(&f->hub, f->dir);
    fakehub_start(&f->hub, f->loop, "127.0.0.1:0");
    fakehub_identify(&f->hub, "node", &f->files, &f->identity);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    session_free(f->session);
    fakehub_done(&f->hub);
    sd_event_unref(f->loop);
    assert_int_equal(file_remove_tree(f->dir, NULL), 0);
    free(f);
    return 0;
}

static void start(struct fixture *f)
{
    struct err err = ERR_INIT;
    struct session_conf conf = {.identity = &f->identity,
        .data_dir = f->dir,
        .hub = f->hub.address,
        .software = "test 1",
        .endpoint = "host:1"};
    if (session_new(f->loop, &conf, &ops, f, &f->session, &err) < 0)
        fail_msg("%s", err.text);
}

static int status(struct fixture *f)
{
    Leeward__Control__V1__NodeStatus n = LEEWARD__CONTROL__V1__NODE_STATUS__INIT;
    Leeward__Control__V1__Report r = LEEWARD__CONTROL__V1__REPORT__INIT;
    r.kind_case = LEEWARD__CONTROL__V1__REPORT__KIND_NODE_STATUS;
    r.node_status = &n;
    return session_report(f->session, &r, NULL);
}

static void hello_is_answered_and_reports_flow(void **state)
{
    struct fixture *f = *state;
    start(f);
    assert_false(session_is_up(f->session));
    assert_int_equal(status(f), 0);
    RUN_UNTIL(f, f->ups == 1);
    assert_true(session_is_up(f->session));
    assert_int_equal(session_status_interval_usec(f->session), 250 * USEC_PER_MSEC);
    assert_true(llabs(session_clock_skew_usec(f->session) - 60000000) < 5000000);
    assert_int_equal(f->hub.hellos, 1);
    assert_int_equal(f->hub.hello_version, 0);
    uint64_t before = clock_utc_usec();
    assert_int_equal(status(f), 1);
    RUN_UNTIL(f, f->hub.statuses == 1);
    assert_true(f->hub.clock_utc_usec >= before && f->hub.clock_utc_usec <= clock_utc_usec());
}

static void desired_state_is_cached_and_comes_without_the_hub(void **state)
{
    struct fixture *f = *state;
    start(f);
    RUN_UNTIL(f, f->ups == 1);
    fakehub_desire_node(&f->hub, 7);
    RUN_UNTIL(f, f->desires == 1);
    assert_int_equal(f->version, 7);
    fakehub_desire_node(&f->hub, 8);
    RUN_UNTIL(f, f->desires == 2);
    session_free(f->session);
    f->session = NULL;
    fakehub_stop(&f->hub);
    f->desires = 0;
    f->version = 0;
    start(f);
    assert_int_equal(f->desires, 0); /* not from inside session_new */
    RUN_UNTIL(f, f->desires == 1);
    assert_int_equal(f->version, 8);
    RUN_UNTIL(f, f->downs >= 1);
    assert_false(session_is_up(f->session));
    char address[64];
    memcpy(address, f->hub.address, sizeof(address));
    fakehub_start(&f->hub, f->loop, address);
    RUN_UNTIL(f, f->ups == 2);
    assert_int_equal(f->hub.hello_version, 8);
}

static bool is_stored(const char *path)
{
    struct buf bytes AUTO_BUF = BUF_INIT(1000);

    return file_read(path, &bytes, NULL) == 0 && bytes.len > 0;
}

static void a_state_that_cannot_be_stored_now_is_stored_later(void **state)
{
    struct fixture *f = *state;
    char path[128], in_the_way[140];

    snprintf(path, sizeof(path), "%s/desired.pb", f->dir);
    snprintf(in_the_way, sizeof(in_the_way), "%s.tmp", path);
    assert_int_equal(mkdir(in_the_way, 0700), 0);
    start(f);
    RUN_UNTIL(f, f->ups == 1);
    fakehub_desire_node(&f->hub, 7);
    RUN_UNTIL(f, f->desires == 1);
    fakehub_desire_node(&f->hub, 8);
    RUN_UNTIL(f, f->desires == 2); /* acted upon all the same */
    assert_false(is_stored(path));
    assert_int_equal(rmdir(in_the_way), 0);
    RUN_UNTIL(f, is_stored(path));
    session_free(f->session);
    f->session = NULL;
    fakehub_stop(&f->hub);
    f->version = 0;
    start(f);
    RUN_UNTIL(f, f->desires == 3);
    assert_int_equal(f->version, 8);
}

static void a_damaged_cache_is_no_reason_to_stop(void **state)
{
    struct fixture *f = *state;
    char path[128];
    snprintf(path, sizeof(path), "%s/desired.pb", f->dir);
    log_set_level(LOG_ERROR);
    assert_int_equal(file_replace(path, "\xff\xff\xff", 3, 0600, NULL), 0);
    start(f);
    RUN_UNTIL(f, f->ups == 1);
    assert_int_equal(f->desires, 0);
    fakehub_desire_node(&f->hub, 3);
    RUN_UNTIL(f, f->desires == 1);
}

static void directives_for_another_role_are_not_delivered(void **state)
{
    struct fixture *f = *state;
    Leeward__Control__V1__VaultDesired v = LEEWARD__CONTROL__V1__VAULT_DESIRED__INIT;
    Leeward__Control__V1__Directive d = LEEWARD__CONTROL__V1__DIRECTIVE__INIT;
    start(f);
    RUN_UNTIL(f, f->ups == 1);
    v.version = 5;
    d.kind_case = LEEWARD__CONTROL__V1__DIRECTIVE__KIND_VAULT;
    d.vault = &v;
    fakehub_send(&f->hub, &d);
    fakehub_command(&f->hub, "after");
    RUN_UNTIL(f, f->commands == 1); /* in order: the other one was seen and dropped */
    assert_int_equal(f->desires, 0);
}

static void the_end_of_a_command_survives_the_loss_of_the_hub(void **state)
{
    struct fixture *f = *state;
    struct err error = ERR_INIT;
    start(f);
    RUN_UNTIL(f, f->ups == 1);
    fakehub_command(&f->hub, "c-1");
    RUN_UNTIL(f, f->commands == 1);
    assert_string_equal(f->command_id, "c-1");
    session_command_progress(f->session, "c-1", 500, "half");
    session_command_done(f->session, "c-1", NULL, "{\"sequence\":\"7\"}");
    RUN_UNTIL(f, f->hub.results == 2);
    assert_string_equal(f->hub.last_result_id, "c-1");
    assert_string_equal(f->hub.last_result_code, "");
    char address[64];
    memcpy(address, f->hub.address, sizeof(address));
    fakehub_stop(&f->hub);
    RUN_UNTIL(f, f->downs == 1);
    err_set(&error, ERR_NOSPACE, "the vault's disk is full");
    session_command_done(f->session, "c-2", &error, NULL);
    for (unsigned i = 0; i < 300; i++) {
        char code[32];
        snprintf(code, sizeof(code), "event_%u", i);
        session_event(f->session, "warning", code, NULL, NULL, "something happened");
    }
    fakehub_start(&f->hub, f->loop, address);
    RUN_UNTIL(f, f->ups == 2 && f->hub.results == 3 && f->hub.events == 256); /* the oldest events made room */
    assert_string_equal(f->hub.last_result_id, "c-2");
    assert_string_equal(f->hub.last_result_code, err_code_name(ERR_NOSPACE));
    assert_string_equal(f->hub.last_event, "event_299");
}

/* What a hub does whose database is away when the answer comes: it has it, and asks again in the next session. */
static void hub_ends_session(struct fixture *f)
{
    unsigned ups = f->ups;

    rpc_call_finish(f->hub.session, RPC_UNAVAILABLE, "the hub could not store what was reported; tell it again");
    RUN_UNTIL(f, f->ups == ups + 1);
}

static void an_answer_that_the_hub_did_not_store_is_given_again(void **state)
{
    struct fixture *f = *state;
    struct err error = ERR_INIT;

    start(f);
    RUN_UNTIL(f, f->ups == 1);
    fakehub_command(&f->hub, "c-1");
    fakehub_command(&f->hub, "c-2");
    RUN_UNTIL(f, f->commands == 2);
    err_set(&error, ERR_NOSPACE, "the vault's disk is full");
    session_command_done(f->session, "c-1", &error, NULL);
    RUN_UNTIL(f, f->hub.results == 1);
    for (unsigned i = 1; i <= 2; i++) {
        hub_ends_session(f);
        fakehub_command(&f->hub, "c-1");
        RUN_UNTIL(f, f->hub.results == 1 + i || f->commands > 2);
        assert_int_equal(f->commands, 2); /* nobody was asked to do it again */
        assert_string_equal(f->hub.last_result_id, "c-1");
        assert_string_equal(f->hub.last_result_code, err_code_name(ERR_NOSPACE));
    }
    fakehub_command(&f->hub, "c-2"); /* still runs: who does it knows it */
    RUN_UNTIL(f, f->commands == 3);
    assert_string_equal(f->command_id, "c-2");
    assert_int_equal(f->hub.results, 3);
}

static void an_answer_sent_to_a_hub_that_has_died_is_given_again(void **state)
{
    struct fixture *f = *state;
    char address[64];

    start(f);
    RUN_UNTIL(f, f->ups == 1);
    fakehub_command(&f->hub, "c-1");
    fakehub_command(&f->hub, "c-2");
    RUN_UNTIL(f, f->commands == 2);
    memcpy(address, f->hub.address, sizeof(address));
    fakehub_stop(&f->hub);
    assert_true(session_is_up(f->session));
    session_command_done(f->session, "c-1", NULL, "{}");
    RUN_UNTIL(f, f->downs >= 1);
    session_command_done(f->session, "c-2", NULL, "{}");
    fakehub_start(&f->hub, f->loop, address);
    RUN_UNTIL(f, f->ups == 2 && f->hub.results == 1);
    assert_string_equal(
        f->hub.last_result_id, "c-2"); /* which waited; of c-1 only the hub knows that it does not know */
    fakehub_command(&f->hub, "c-1");
    RUN_UNTIL(f, f->hub.results == 2 || f->commands > 2);
    assert_int_equal(f->commands, 2);
    assert_string_equal(f->hub.last_result_id, "c-1");
    fakehub_command(&f->hub, "c-2"); /* the hub had looked before it read the answer */
    RUN_UNTIL(f, f->hub.results == 3);
    assert_string_equal(f->hub.last_result_id, "c-2");
    assert_int_equal(f->commands, 2);
}

static void tell(struct fixture *f, const char *code)
{
    unsigned events = f->hub.events;

    session_event(f->session, "error", code, NULL, NULL, "something happened");
    RUN_UNTIL(f, f->hub.events == events + 1);
    assert_string_equal(f->hub.last_event, code);
}

static void an_event_that_the_hub_does_not_say_it_has_is_told_again(void **state)
{
    struct fixture *f = *state;
    uint8_t id[sizeof(f->hub.last_event_id)];
    uint64_t began;

    start(f);
    RUN_UNTIL(f, f->ups == 1);
    tell(f, "first"); /* which is stored */
    f->hub.forgetful = true;
    tell(f, "second");
    memcpy(id, f->hub.last_event_id, sizeof(id));
    hub_ends_session(f);
    RUN_UNTIL(f, f->hub.events == 3);
    assert_string_equal(f->hub.last_event, "second");
    assert_memory_equal(f->hub.last_event_id, id, sizeof(id));
    RUN_UNTIL(f, f->hub.events == 4); /* in the same session */
    assert_string_equal(f->hub.last_event, "second");
    assert_memory_equal(f->hub.last_event_id, id, sizeof(id));
    hub_ends_session(f);
    RUN_UNTIL(f, f->hub.events == 5);
    began = clock_mono_usec();
    f->hub.forgetful = false;
    RUN_UNTIL(f, f->hub.events == 6);
    assert_true(clock_mono_usec() - began < 2 * TELL_AGAIN_USEC * 9 / 10); /* a hub that is there again is not spared */
    tell(f, "third");
    hub_ends_session(f);
    tell(f, "fourth");
    assert_int_equal(f->hub.events, 8); /* nothing was told that is stored */
    assert_memory_not_equal(f->hub.last_event_id, id, sizeof(id));
}

/* An attacker turns the machine off as soon as all is encrypted, and the hub was out of reach. */
static void an_alarm_outlives_the_process(void **state)
{
    struct fixture *f = *state;
    uint8_t id[sizeof(f->hub.last_event_id)];
    char path[128];

    f->hub.forgetful = true;
    start(f);
    RUN_UNTIL(f, f->ups == 1);
    tell(f, "alarm");
    memcpy(id, f->hub.last_event_id, sizeof(id));
    session_free(f->session);
    f->hub.forgetful = false;
    start(f);
    RUN_UNTIL(f, f->hub.events == 2);
    assert_string_equal(f->hub.last_event, "alarm");
    assert_memory_equal(f->hub.last_event_id, id, sizeof(id));
    snprintf(path, sizeof(path), "%s/events.pb", f->dir);
    RUN_UNTIL(f, access(path, F_OK) < 0); /* it is stored */
    session_free(f->session);
    start(f);
    RUN_UNTIL(f, f->ups == 3);
    tell(f, "another");
    assert_int_equal(f->hub.events, 3); /* and none was told a third time */
}

/* It knows no event again. */
static void a_hub_that_never_says_what_it_has_is_told_once(void **state)
{
    struct fixture *f = *state;

    f->hub.is_old = true;
    start(f);
    RUN_UNTIL(f, f->ups == 1);
    tell(f, "first");
    hub_ends_session(f);
    tell(f, "second");
    assert_int_equal(f->hub.events, 2);
}

/* Those that need nobody go first, and of them the oldest. */
static void events_that_nobody_stores_are_kept_within_bounds(void **state)
{
    struct fixture *f = *state;
    char code[32];
    unsigned told;

    f->hub.forgetful = true;
    start(f);
    RUN_UNTIL(f, f->ups == 1);
    tell(f, "alarm");
    for (unsigned i = 0; i < 400; i++) {
        snprintf(code, sizeof(code), "event_%u", i);
        session_event(f->session, "info", code, NULL, NULL, "something happened");
    }
    RUN_UNTIL(f, strcmp(f->hub.last_event, "event_399") == 0);
    f->hub.forgetful = false;
    told = f->hub.events;
    f->hub.errors = 0;
    hub_ends_session(f);
    RUN_UNTIL(f, f->hub.events >= told + 256 && strcmp(f->hub.last_event, "event_399") == 0);
    assert_true(f->hub.events % 256 == told % 256); /* each time the same number */
    assert_true(f->hub.errors > 0);
    tell(f, "last");
}

static void answer_many(struct fixture *f, char letter, unsigned count, const char *json)
{
    char id[32];

    for (unsigned i = 0; i < count; i++) {
        snprintf(id, sizeof(id), "%c-%u", letter, i);
        session_command_done(f->session, id, NULL, json);
    }
}

/* Whether the session answers by itself. */
static bool is_remembered(struct fixture *f, const char *id)
{
    unsigned commands = f->commands, results = f->hub.results;

    fakehub_command(&f->hub, id);
    RUN_UNTIL(f, f->commands > commands || f->hub.results > results);
    return f->hub.results > results;
}

static void answers_that_were_sent_are_forgotten_before_those_that_wait(void **state)
{
    struct fixture *f = *state;
    char address[64];

    start(f);
    RUN_UNTIL(f, f->ups == 1);
    answer_many(f, 's', 40, "{}");
    RUN_UNTIL(f, f->hub.results == 40);
    memcpy(address, f->hub.address, sizeof(address));
    fakehub_stop(&f->hub);
    RUN_UNTIL(f, f->downs >= 1);
    answer_many(f, 'w', 60, "{}");
    fakehub_start(&f->hub, f->loop, address);
    RUN_UNTIL(f, f->ups == 2 && f->hub.results == 100);
    assert_false(is_remembered(f, "s-35"));
    assert_true(is_remembered(f, "s-36"));
    assert_true(is_remembered(f, "w-0"));
    answer_many(f, 'x', 60, "{}");
    RUN_UNTIL(f, f->hub.results == 162);
    assert_false(is_remembered(f, "w-55"));
    assert_true(is_remembered(f, "w-56"));
    assert_true(is_remembered(f, "x-59"));
}

static void large_answers_are_kept_within_bounds(void **state)
{
    enum { LARGE_BYTES = 1 << 20 };
    struct fixture *f = *state;
    char *json AUTO_FREE = mem_alloc(1, LARGE_BYTES + 1);

    assert_non_null(json);
    memset(json, ' ', LARGE_BYTES);
    json[0] = '{';
    json[LARGE_BYTES - 1] = '}';
    json[LARGE_BYTES] = '\0';
    start(f);
    RUN_UNTIL(f, f->ups == 1);
    answer_many(f, 'l', 5, json);
    RUN_UNTIL(f, f->hub.results == 5);
    assert_false(is_remembered(f, "l-1"));
    assert_true(is_remembered(f, "l-2"));
    assert_true(is_remembered(f, "l-4"));
}

static void a_hub_that_ends_the_session_is_asked_again(void **state)
{
    struct fixture *f = *state;
    start(f);
    for (unsigned i = 1; i <= 3; i++) {
        RUN_UNTIL(f, f->ups == i && f->hub.session != NULL);
        rpc_call_finish(f->hub.session, RPC_UNAVAILABLE, "another session took over");
        RUN_UNTIL(f, f->downs == i);
    }
    RUN_UNTIL(f, f->ups == 4);
}

static void a_broken_directive_ends_the_session_alone(void **state)
{
    struct fixture *f = *state;
    struct buf b = BUF_INIT(16);
    start(f);
    RUN_UNTIL(f, f->ups == 1);
    log_set_level(LOG_ERROR + 1);
    assert_int_equal(buf_append(&b, "\xff\xff\xff", 3, NULL), 0);
    assert_true(rpc_call_send(f->hub.session, &b, NULL) >= 0);
    RUN_UNTIL(f, f->downs == 1);
    RUN_UNTIL(f, f->ups == 2);
}

static void a_certificate_is_renewed_in_time(void **state)
{
    struct fixture *f = *state;
    testca_issue(f->hub.ca, "node",
        &(struct testca_leaf){.role = "node", .id_text = f->files.id_text, .from_sec = -20, .to_sec = 6}, &f->files);
    f->identity.files = f->files.files;
    start(f);
    RUN_UNTIL(f, f->renewed == 1);
    assert_int_equal(f->hub.renewals, 1);
    struct tls_peer peer;
    uint64_t from, to;
    struct buf pem = BUF_INIT(65536);
    assert_int_equal(file_read(f->files.certificate, &pem, NULL), 0);
    assert_int_equal(tls_certificate_read((const char *)pem.data, pem.len, &peer, &from, &to, NULL), 0);
    assert_true(ident_equal(&peer.id, &f->files.id));
    assert_true(to > clock_utc_usec() + 1000 * USEC_PER_SEC);
    assert_string_not_equal(peer.serial, f->files.serial);
    buf_done(&pem);
}

static void freeing_a_session_at_any_moment_is_safe(void **state)
{
    struct fixture *f = *state;
    for (unsigned turns = 0; turns < 40; turns++) {
        start(f);
        session_event(f->session, "info", "x", NULL, NULL, "kept");
        for (unsigned i = 0; i < turns; i++)
            assert_true(sd_event_run(f->loop, 1000) >= 0);
        session_free(f->session);
        f->session = NULL;
    }
}

static void memory_that_runs_out_is_an_error(void **state)
{
    struct fixture *f = *state;
    struct session_conf conf = {
        .identity = &f->identity, .data_dir = f->dir, .hub = f->hub.address, .software = "test 1"};
    unsigned failed = 0;
    log_set_level(LOG_ERROR + 1);
    for (long n = 1; n < 60; n++) {
        struct err err = ERR_INIT;
        mem_fail_at(n);
        int rc = session_new(f->loop, &conf, &ops, f, &f->session, &err);
        for (unsigned i = 0; rc == 0 && i < 20; i++)
            assert_true(sd_event_run(f->loop, 1000) >= 0);
        mem_fail_at(0);
        if (rc < 0) {
            assert_int_equal(err.code, ERR_NOMEM);
            failed++;
        }
        session_free(TAKE_PTR(f->session));
    }
    assert_true(failed > 5);
    start(f);
    unsigned before = f->ups;
    RUN_UNTIL(f, f->ups > before);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(hello_is_answered_and_reports_flow),
        TEST(desired_state_is_cached_and_comes_without_the_hub),
        TEST(a_state_that_cannot_be_stored_now_is_stored_later),
        TEST(a_damaged_cache_is_no_reason_to_stop),
        TEST(directives_for_another_role_are_not_delivered),
        TEST(the_end_of_a_command_survives_the_loss_of_the_hub),
        TEST(an_answer_that_the_hub_did_not_store_is_given_again),
        TEST(an_answer_sent_to_a_hub_that_has_died_is_given_again),
        TEST(an_event_that_the_hub_does_not_say_it_has_is_told_again),
        TEST(a_hub_that_never_says_what_it_has_is_told_once),
        TEST(an_alarm_outlives_the_process),
        TEST(events_that_nobody_stores_are_kept_within_bounds),
        TEST(answers_that_were_sent_are_forgotten_before_those_that_wait),
        TEST(large_answers_are_kept_within_bounds),
        TEST(a_hub_that_ends_the_session_is_asked_again),
        TEST(a_broken_directive_ends_the_session_alone),
        TEST(a_certificate_is_renewed_in_time),
        TEST(freeing_a_session_at_any_moment_is_safe),
        TEST(memory_that_runs_out_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
