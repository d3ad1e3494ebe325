/* SPDX-License-Identifier: Apache-2.0
 *
 * Who is let in: wrong, expired, foreign and revoked certificates on either side, anonymous clients, the pinned CA of
 * enrolment, renewed files, ALPN.
 */
#include "tests/unit/rpc/fixture.h"

#include <openssl/ssl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "transport/base/clock.h"
#include "transport/base/file.h"
#include "transport/base/mem.h"

static void expect(struct fixture *f, struct probe *p, const char *path, enum rpc_status status, const char *words)
{
    enum rpc_status got = probe_echo(f, path, p);
    if (got != status || strstr(p->text, words) == NULL)
        fail_msg("status %d, text '%s'; expected %d, '%s'", (int)got, p->text, (int)status, words);
    probe_done(p);
}

static void an_expired_client_is_refused_and_told(void **state)
{
    struct fixture *f = *state;
    struct probe p = {0};
    struct testca_files files;
    fixture_serve(f, true);
    testca_issue(f->ca, "expired", &(struct testca_leaf){.role = "agent", .from_sec = -7200, .to_sec = -60}, &files);
    fixture_channel(f, &files, "node", NULL);
    expect(f, &p, PATH_ECHO, RPC_UNAUTHENTICATED, "our certificate has expired");
    assert_int_equal(f->accepted, 0);
}

static void an_expired_server_is_refused(void **state)
{
    struct fixture *f = *state;
    struct probe p = {0};
    testca_issue(
        f->ca, "server", &(struct testca_leaf){.role = "node", .from_sec = -7200, .to_sec = -60}, &f->server_files);
    fixture_serve(f, true);
    expect(f, &p, PATH_ECHO, RPC_UNAUTHENTICATED, "certificate has expired");
}

static void a_certificate_of_tomorrow_is_refused(void **state)
{
    struct fixture *f = *state;
    struct probe p = {0};
    testca_issue(
        f->ca, "server", &(struct testca_leaf){.role = "node", .from_sec = 3600, .to_sec = 7200}, &f->server_files);
    fixture_serve(f, true);
    expect(f, &p, PATH_ECHO, RPC_UNAUTHENTICATED, "is not valid yet: it is from 20");
}

/* Both certificates are out of their time by this machine's clock. */
static void expect_of_both(struct fixture *f, long from_sec, long to_sec, const char *words)
{
    const struct testca_leaf server = {.role = "node", .from_sec = from_sec, .to_sec = to_sec};
    const struct testca_leaf client = {.role = "agent", .from_sec = from_sec, .to_sec = to_sec};
    struct testca_files files;
    struct probe p = {0};
    testca_issue(f->ca, "server", &server, &f->server_files);
    testca_issue(f->ca, "off", &client, &files);
    fixture_serve(f, true);
    fixture_channel(f, &files, "node", NULL);
    expect(f, &p, PATH_ECHO, RPC_UNAUTHENTICATED, words);
}

static void a_clock_that_is_behind_is_known_as_such(void **state)
{
    expect_of_both(*state, 3600, 7200, "so this machine's clock is wrong: set it");
}

static void a_clock_that_may_be_ahead_is_named(void **state)
{
    expect_of_both(*state, -7200, -3600, "if that time is wrong set the clock");
}

static void a_client_of_another_ca_is_refused_and_told(void **state)
{
    struct fixture *f = *state;
    struct probe p = {0};
    struct testca_files files;
    struct testca *foreign = testca_new(f->dir, "foreign");
    fixture_serve(f, true);
    testca_issue(foreign, "stranger", &(struct testca_leaf){.role = "agent"}, &files);
    snprintf(
        files.ca, sizeof(files.ca), "%s", testca_path(f->ca)); /* it trusts the server; the server does not know it */
    fixture_channel(f, &files, "node", NULL);
    expect(f, &p, PATH_ECHO, RPC_UNAUTHENTICATED, "must be enrolled with the same hub");
    assert_int_equal(f->accepted, 0);
    testca_free(foreign);
}

static void a_server_of_another_ca_is_refused(void **state)
{
    struct fixture *f = *state;
    struct probe p = {0};
    struct testca_files files;
    struct testca *foreign = testca_new(f->dir, "foreign");
    fixture_serve(f, true);
    testca_issue(foreign, "stranger", &(struct testca_leaf){.role = "agent"}, &files);
    fixture_channel(f, &files, "node", NULL);
    expect(f, &p, PATH_ECHO, RPC_UNAUTHENTICATED, "not from our CA");
    testca_free(foreign);
}

static void a_certificate_without_identity_is_refused(void **state)
{
    struct fixture *f = *state;
    struct probe p = {0};
    struct testca_files files;
    fixture_serve(f, true);
    testca_issue(f->ca, "nobody", &(struct testca_leaf){0}, &files);
    fixture_channel(f, &files, "node", NULL);
    assert_int_equal(probe_echo(f, PATH_ECHO, &p), RPC_UNAUTHENTICATED);
    assert_int_equal(f->accepted, 0);
    probe_done(&p);
}

static void a_role_that_does_not_exist_is_refused(void **state)
{
    struct fixture *f = *state;
    struct probe p = {0};
    struct testca_files files;
    fixture_serve(f, true);
    testca_issue(f->ca, "king", &(struct testca_leaf){.role = "king"}, &files);
    fixture_channel(f, &files, "node", NULL);
    assert_int_equal(probe_echo(f, PATH_ECHO, &p), RPC_UNAUTHENTICATED);
    probe_done(&p);
}

static void the_server_must_have_the_expected_role(void **state)
{
    struct fixture *f = *state;
    struct probe p = {0};
    fixture_serve(f, true);
    fixture_channel(f, &f->client_files, "vault", NULL);
    expect(f, &p, PATH_ECHO, RPC_UNAUTHENTICATED, "the server is a node, not a vault");
}

static void the_server_must_have_the_expected_id(void **state)
{
    struct fixture *f = *state;
    struct probe p = {0};
    fixture_serve(f, true);
    fixture_channel(f, &f->client_files, "node", &f->server_files.id);
    assert_int_equal(probe_echo(f, PATH_ECHO, &p), RPC_OK);
    probe_done(&p);
    fixture_channel(f, &f->client_files, "node", &f->client_files.id);
    expect(f, &p, PATH_ECHO, RPC_UNAUTHENTICATED, "the server is node ");
}

static void anonymous_channel(struct fixture *f, const char *fingerprint)
{
    struct testca_files none = {0};
    rpc_channel_free(f->channel);
    f->channel = NULL;
    tls_context_free(f->client_tls);
    f->client_tls = NULL;
    assert_int_equal(tls_client_new(&none.files, fingerprint, &f->client_tls, NULL), 0);
    assert_int_equal(rpc_channel_new(f->loop, f->address, f->client_tls, "node", NULL, NULL, &f->channel, NULL), 0);
}

static void anonymous_clients_may_call_open_methods_alone(void **state)
{
    struct fixture *f = *state;
    struct probe p = {0};
    f->anonymous = true;
    testca_issue(f->ca, "server", &(struct testca_leaf){.role = "node", .with_ca = true}, &f->server_files);
    fixture_serve(f, true);
    anonymous_channel(f, testca_fingerprint(f->ca));
    assert_int_equal(probe_echo(f, PATH_OPEN, &p), RPC_OK);
    assert_false(f->last_peer.authenticated);
    probe_done(&p);
    expect(f, &p, PATH_ECHO, RPC_UNAUTHENTICATED, "needs a client certificate");
}

static void anonymous_clients_are_refused_elsewhere(void **state)
{
    struct fixture *f = *state;
    struct probe p = {0};
    testca_issue(f->ca, "server", &(struct testca_leaf){.role = "node", .with_ca = true}, &f->server_files);
    fixture_serve(f, true);
    anonymous_channel(f, testca_fingerprint(f->ca));
    expect(f, &p, PATH_OPEN, RPC_UNAUTHENTICATED, "must show the certificate that enrolment gave it");
}

static void another_fingerprint_is_refused(void **state)
{
    struct fixture *f = *state;
    struct probe p = {0};
    struct testca *foreign = testca_new(f->dir, "foreign");
    f->anonymous = true;
    testca_issue(f->ca, "server", &(struct testca_leaf){.role = "node", .with_ca = true}, &f->server_files);
    fixture_serve(f, true);
    anonymous_channel(f, testca_fingerprint(foreign));
    expect(f, &p, PATH_OPEN, RPC_UNAUTHENTICATED, "not the hub that made the token");
    testca_free(foreign);
}

static void a_pinned_ca_must_have_signed_the_server(void **state)
{
    struct fixture *f = *state;
    struct probe p = {0};
    char *pem = NULL;
    struct testca *foreign = testca_new(f->dir, "foreign");
    struct buf chain = BUF_INIT(65536);
    f->anonymous = true;
    /* The right CA is in the chain, but it did not sign this certificate. */
    testca_issue(foreign, "server", &(struct testca_leaf){.role = "node"}, &f->server_files);
    assert_int_equal(file_read(f->server_files.certificate, &chain, NULL), 0);
    pem = testca_pem(f->ca);
    assert_int_equal(buf_append_str(&chain, pem, NULL), 0);
    assert_int_equal(file_replace(f->server_files.certificate, chain.data, chain.len, 0600, NULL), 0);
    fixture_serve(f, true);
    anonymous_channel(f, testca_fingerprint(f->ca));
    assert_int_equal(probe_echo(f, PATH_OPEN, &p), RPC_UNAUTHENTICATED);
    assert_int_equal(f->accepted, 0);
    probe_done(&p);
    buf_done(&chain);
    free(pem);
    testca_free(foreign);
}

static void revocation_ends_open_connections_and_refuses_new_ones(void **state)
{
    struct fixture *f = *state;
    struct probe p = {0}, q = {0};
    fixture_serve(f, true);
    probe_start(f, &p, PATH_HANG, 0, false);
    RUN_UNTIL(f, f->accepted == 1);
    const char *others[] = {"00aa", "ffee"};
    assert_int_equal(tls_set_revoked(f->server_tls, others, 2, NULL), 0);
    rpc_server_drop_revoked(f->server);
    settle(f);
    assert_int_equal(p.ends, 0);
    const char *ours[] = {"ffee", f->client_files.serial, "00aa"};
    assert_int_equal(tls_set_revoked(f->server_tls, ours, 3, NULL), 0);
    rpc_server_drop_revoked(f->server);
    RUN_UNTIL(f, p.ends == 1 && f->ended == 1);
    assert_int_equal(p.status, RPC_UNAVAILABLE);
    expect(f, &q, PATH_ECHO, RPC_UNAUTHENTICATED, "our certificate was revoked");
    assert_int_equal(tls_set_revoked(f->server_tls, NULL, 0, NULL), 0);
    fixture_channel(f, &f->client_files, "node", NULL);
    assert_int_equal(probe_echo(f, PATH_ECHO, &q), RPC_OK);
    probe_done(&q);
}

static void renewed_files_count_for_new_connections(void **state)
{
    struct fixture *f = *state;
    struct probe p = {0};
    fixture_serve(f, true);
    assert_int_equal(probe_echo(f, PATH_ECHO, &p), RPC_OK);
    char old[64];
    snprintf(old, sizeof(old), "%s", f->last_peer.serial);
    testca_issue(
        f->ca, "client", &(struct testca_leaf){.role = "agent", .id_text = f->client_files.id_text}, &f->client_files);
    assert_int_equal(tls_reload(f->client_tls, NULL), 0);
    assert_int_equal(probe_echo(f, PATH_ECHO, &p), RPC_OK);
    assert_string_equal(f->last_peer.serial, old); /* the connection is the old one */
    rpc_channel_free(f->channel);
    f->channel = NULL;
    assert_int_equal(rpc_channel_new(f->loop, f->address, f->client_tls, "node", NULL, NULL, &f->channel, NULL), 0);
    assert_int_equal(probe_echo(f, PATH_ECHO, &p), RPC_OK);
    assert_string_equal(f->last_peer.serial, f->client_files.serial);
    probe_done(&p);
}

static void files_that_are_missing_or_do_not_fit_are_named(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    struct tls_context *tls = NULL;
    struct tls_files files = f->server_files.files;
    files.certificate = "/nonexistent/cert.pem";
    assert_int_equal(tls_server_new(&files, false, &tls, &err), -1);
    assert_non_null(strstr(err.text, "/nonexistent/cert.pem"));
    assert_true(err.correction[0] != '\0');
    files = f->server_files.files;
    files.key = f->client_files.key;
    assert_int_equal(tls_server_new(&files, false, &tls, &err), -1);
    assert_non_null(strstr(err.text, f->client_files.key));
    files = f->server_files.files;
    files.ca = f->client_files.key;
    assert_int_equal(tls_client_new(&files, NULL, &tls, &err), -1);
    assert_int_equal(tls_client_new(&files, "12ab", &tls, &err), -1);
    assert_null(tls);
}

static void a_failed_reload_keeps_the_old_files(void **state)
{
    struct fixture *f = *state;
    struct probe p = {0};
    fixture_serve(f, true);
    assert_int_equal(file_replace(f->server_files.certificate, "junk", 4, 0600, NULL), 0);
    assert_int_equal(tls_reload(f->server_tls, NULL), -1);
    assert_int_equal(probe_echo(f, PATH_ECHO, &p), RPC_OK);
    probe_done(&p);
}

static void identity_and_validity_are_read_from_a_file(void **state)
{
    struct fixture *f = *state;
    struct tls_peer peer;
    uint64_t from, to;
    struct buf pem = BUF_INIT(65536);
    assert_int_equal(file_read(f->client_files.certificate, &pem, NULL), 0);
    assert_int_equal(tls_certificate_read((const char *)pem.data, pem.len, &peer, &from, &to, NULL), 0);
    assert_string_equal(peer.role, "agent");
    assert_true(ident_equal(&peer.id, &f->client_files.id));
    assert_true(from < clock_utc_usec() && to > clock_utc_usec());
    assert_true(to - from == 7200 * USEC_PER_SEC);
    assert_int_equal(tls_certificate_read("nothing", 7, &peer, &from, &to, NULL), -1);
    buf_done(&pem);
}

/* ---- ALPN and versions, with a bare OpenSSL client ---- */

static bool bare_client(struct fixture *f, const char *alpn, int version)
{
    char command[1200];
    snprintf(command, sizeof(command),
        "exec timeout 60 openssl s_client -connect %s -cert %s -key %s -CAfile %s %s %s -verify_return_error "
        "</dev/null 2>&1",
        f->address, f->client_files.certificate, f->client_files.key, f->client_files.ca, alpn,
        version == TLS1_2_VERSION ? "-tls1_2" : "-tls1_3");
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    char output[16384];
    struct pollfd exit_of_child = {.fd = fileno(pipe), .events = POLLIN}; /* its end of the pipe closes when it exits */
    uint64_t until = clock_mono_usec() + 90 * USEC_PER_SEC;
    do {
        assert_true(clock_mono_usec() < until);
        assert_true(sd_event_run(f->loop, 20000) >= 0);
    } while (poll(&exit_of_child, 1, 0) == 0 || read(exit_of_child.fd, output, sizeof(output)) > 0);
    return pclose(pipe) == 0;
}

static void alpn_h2_is_required(void **state)
{
    struct fixture *f = *state;
    fixture_serve(f, true);
    assert_true(bare_client(f, "-alpn h2", TLS1_3_VERSION));
    assert_false(bare_client(f, "-alpn http/1.1", TLS1_3_VERSION));
    struct probe p = {0};
    assert_int_equal(probe_echo(f, PATH_ECHO, &p), RPC_OK);
    probe_done(&p);
}

static void tls_1_2_is_refused(void **state)
{
    struct fixture *f = *state;
    fixture_serve(f, true);
    assert_false(bare_client(f, "-alpn h2", TLS1_2_VERSION));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(an_expired_client_is_refused_and_told),
        TEST(an_expired_server_is_refused),
        TEST(a_certificate_of_tomorrow_is_refused),
        TEST(a_clock_that_is_behind_is_known_as_such),
        TEST(a_clock_that_may_be_ahead_is_named),
        TEST(a_client_of_another_ca_is_refused_and_told),
        TEST(a_server_of_another_ca_is_refused),
        TEST(a_certificate_without_identity_is_refused),
        TEST(a_role_that_does_not_exist_is_refused),
        TEST(the_server_must_have_the_expected_role),
        TEST(the_server_must_have_the_expected_id),
        TEST(anonymous_clients_may_call_open_methods_alone),
        TEST(anonymous_clients_are_refused_elsewhere),
        TEST(another_fingerprint_is_refused),
        TEST(a_pinned_ca_must_have_signed_the_server),
        TEST(revocation_ends_open_connections_and_refuses_new_ones),
        TEST(renewed_files_count_for_new_connections),
        TEST(files_that_are_missing_or_do_not_fit_are_named),
        TEST(a_failed_reload_keeps_the_old_files),
        TEST(identity_and_validity_are_read_from_a_file),
        TEST(alpn_h2_is_required),
        TEST(tls_1_2_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
