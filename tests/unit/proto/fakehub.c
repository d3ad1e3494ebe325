/* SPDX-License-Identifier: Apache-2.0
 *
 * A hub for tests, on the real server, with the real messages.
 */
#include "tests/unit/proto/fakehub.h"

#include <openssl/x509.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "transport/base/clock.h"
#include "transport/base/mem.h"
#include "transport/proto/wire.h"

static void on_end(struct rpc_call *call, void *arg, enum rpc_status status, const char *text)
{
    struct fakehub *hub = arg;
    (void)status;
    (void)text;
    if (hub->session == call)
        hub->session = NULL;
}

/* ---- enrolment ---- */

static void answer(struct fakehub *hub, struct rpc_call *call, const ProtobufCBinaryData *csr, const char *role)
{
    Leeward__Control__V1__EnrolReply reply = LEEWARD__CONTROL__V1__ENROL_REPLY__INIT;
    struct buf b = BUF_INIT(65536);
    struct testca *other = hub->wrong_ca ? testca_new("/tmp", "leeward-wrong-ca") : NULL;
    reply.id = hub->id_text;
    reply.certificate_pem = testca_sign_csr(
        hub->ca, csr->data, (long)csr->len, role, hub->id_text, hub->life_sec != 0 ? hub->life_sec : 3600);
    reply.ca_pem = testca_pem(other != NULL ? other : hub->ca);
    assert_int_equal(wire_pack(&reply.base, &b, NULL), 0);
    assert_true(rpc_call_send(call, &b, NULL) >= 0);
    rpc_call_finish(call, RPC_OK, NULL);
    free(reply.certificate_pem);
    free(reply.ca_pem);
    if (other != NULL) {
        (void)unlink(testca_path(other));
        testca_free(other);
    }
}

static void key_of_csr(const ProtobufCBinaryData *csr, struct buf *out)
{
    const unsigned char *der = csr->data;
    unsigned char *key = NULL;
    X509_REQ *request = d2i_X509_REQ(NULL, &der, (long)csr->len);
    assert_non_null(request);
    int n = i2d_X509_PUBKEY(X509_REQ_get_X509_PUBKEY(request), &key);
    assert_int_equal(buf_append(out, key, (size_t)n, NULL), 0);
    OPENSSL_free(key);
    X509_REQ_free(request);
}

static void enrol_message(struct rpc_call *call, void *arg, struct buf *message)
{
    struct fakehub *hub = arg;
    struct buf key = BUF_INIT(1000);
    ProtobufCMessage *m = NULL;
    assert_int_equal(
        wire_unpack(&leeward__control__v1__enrol_request__descriptor, message->data, message->len, &m, NULL), 0);
    const Leeward__Control__V1__EnrolRequest *request = (const Leeward__Control__V1__EnrolRequest *)m;
    key_of_csr(&request->csr_der, &key);
    bool same_key = key.len == hub->used_csr_key.len && memcmp(key.data, hub->used_csr_key.data, key.len) == 0;
    if (hub->refuse != NULL) {
        rpc_call_finish(call, RPC_PERMISSION_DENIED, hub->refuse);
    } else if (strcmp(hub->used_token, request->token) == 0 && !same_key) {
        rpc_call_finish(call, RPC_PERMISSION_DENIED, "the token was used already; make a new one");
    } else {
        snprintf(hub->used_token, sizeof(hub->used_token), "%s", request->token);
        buf_clear(&hub->used_csr_key);
        assert_int_equal(buf_append(&hub->used_csr_key, key.data, key.len, NULL), 0);
        answer(hub, call, &request->csr_der, request->role);
    }
    buf_done(&key);
    wire_free(m);
}

static void renew_message(struct rpc_call *call, void *arg, struct buf *message)
{
    struct fakehub *hub = arg;
    ProtobufCMessage *m = NULL;
    assert_int_equal(
        wire_unpack(&leeward__control__v1__renew_request__descriptor, message->data, message->len, &m, NULL), 0);
    assert_true(rpc_call_peer(call)->authenticated);
    hub->renewals++;
    ident_to_text(&rpc_call_peer(call)->id, hub->id_text);
    hub->life_sec = 3600;
    answer(hub, call, &((const Leeward__Control__V1__RenewRequest *)m)->csr_der, rpc_call_peer(call)->role);
    wire_free(m);
}

/* ---- session ---- */

void fakehub_send(struct fakehub *hub, const Leeward__Control__V1__Directive *directive)
{
    struct buf b = BUF_INIT(1 << 20);
    assert_non_null(hub->session);
    assert_int_equal(wire_pack(&directive->base, &b, NULL), 0);
    assert_true(rpc_call_send(hub->session, &b, NULL) >= 0);
}

static void welcome(struct fakehub *hub)
{
    Leeward__Control__V1__Welcome w = LEEWARD__CONTROL__V1__WELCOME__INIT;
    Leeward__Control__V1__Directive d = LEEWARD__CONTROL__V1__DIRECTIVE__INIT;
    w.hub_id = (char *)"hub";
    w.status_interval_msec = 250;
    w.clock_utc_usec = clock_utc_usec() + 60 * USEC_PER_SEC;
    w.tells_what_is_stored = !hub->is_old;
    d.kind_case = LEEWARD__CONTROL__V1__DIRECTIVE__KIND_WELCOME;
    d.welcome = &w;
    fakehub_send(hub, &d);
}

static void event_is_stored(struct fakehub *hub, ProtobufCBinaryData *id)
{
    Leeward__Control__V1__EventsStored stored = LEEWARD__CONTROL__V1__EVENTS_STORED__INIT;
    Leeward__Control__V1__Directive d = LEEWARD__CONTROL__V1__DIRECTIVE__INIT;
    stored.n_ids = 1;
    stored.ids = id;
    d.kind_case = LEEWARD__CONTROL__V1__DIRECTIVE__KIND_EVENTS_STORED;
    d.events_stored = &stored;
    fakehub_send(hub, &d);
}

void fakehub_desire_node(struct fakehub *hub, uint64_t version)
{
    Leeward__Control__V1__NodeDesired n = LEEWARD__CONTROL__V1__NODE_DESIRED__INIT;
    Leeward__Control__V1__Directive d = LEEWARD__CONTROL__V1__DIRECTIVE__INIT;
    n.version = version;
    d.kind_case = LEEWARD__CONTROL__V1__DIRECTIVE__KIND_NODE;
    d.node = &n;
    fakehub_send(hub, &d);
}

void fakehub_desire_agent(struct fakehub *hub, Leeward__Control__V1__AgentDesired *desired)
{
    Leeward__Control__V1__Directive d = LEEWARD__CONTROL__V1__DIRECTIVE__INIT;
    d.kind_case = LEEWARD__CONTROL__V1__DIRECTIVE__KIND_AGENT;
    d.agent = desired;
    fakehub_send(hub, &d);
}

void fakehub_command(struct fakehub *hub, const char *command_id)
{
    Leeward__Control__V1__Command c = LEEWARD__CONTROL__V1__COMMAND__INIT;
    Leeward__Control__V1__Directive d = LEEWARD__CONTROL__V1__DIRECTIVE__INIT;
    c.command_id = (char *)(uintptr_t)command_id;
    d.kind_case = LEEWARD__CONTROL__V1__DIRECTIVE__KIND_COMMAND;
    d.command = &c;
    fakehub_send(hub, &d);
}

static void session_message(struct rpc_call *call, void *arg, struct buf *message)
{
    struct fakehub *hub = arg;
    ProtobufCMessage *m = NULL;
    assert_int_equal(wire_unpack(&leeward__control__v1__report__descriptor, message->data, message->len, &m, NULL), 0);
    const Leeward__Control__V1__Report *r = (const Leeward__Control__V1__Report *)m;
    hub->reports++;
    hub->clock_utc_usec = r->clock_utc_usec;
    switch (r->kind_case) {
    case LEEWARD__CONTROL__V1__REPORT__KIND_HELLO:
        hub->hellos++;
        hub->hello_version = r->hello->desired_version;
        hub->session = call;
        if (!hub->mute)
            welcome(hub);
        break;
    case LEEWARD__CONTROL__V1__REPORT__KIND_NODE_STATUS:
    case LEEWARD__CONTROL__V1__REPORT__KIND_AGENT_STATUS:
        hub->statuses++;
        break;
    case LEEWARD__CONTROL__V1__REPORT__KIND_INVENTORY:
        break;
    case LEEWARD__CONTROL__V1__REPORT__KIND_EVENT:
        hub->events++;
        hub->errors += strcmp(r->event->severity, "error") == 0;
        snprintf(hub->last_event, sizeof(hub->last_event), "%s", r->event->code);
        assert_int_equal(r->event->id.len, sizeof(hub->last_event_id));
        memcpy(hub->last_event_id, r->event->id.data, sizeof(hub->last_event_id));
        if (!hub->forgetful && !hub->is_old)
            event_is_stored(hub, &r->event->id);
        break;
    case LEEWARD__CONTROL__V1__REPORT__KIND_COMMAND_RESULT:
        hub->results++;
        snprintf(hub->last_result_id, sizeof(hub->last_result_id), "%s", r->command_result->command_id);
        snprintf(hub->last_result_code, sizeof(hub->last_result_code), "%s", r->command_result->code);
        break;
    case LEEWARD__CONTROL__V1__REPORT__KIND_GROUP_NEWS:
        hub->group_news++;
        hub->group_missed = r->group_news->missed;
        hub->group_age_usec = r->group_news->age_usec;
        break;
    default:
        fail_msg("unexpected report");
    }
    wire_free(m);
}

static const struct rpc_call_ops enrol_ops = {.on_message = enrol_message, .on_end = on_end, .auto_consume = true};
static const struct rpc_call_ops renew_ops = {.on_message = renew_message, .on_end = on_end, .auto_consume = true};
static const struct rpc_call_ops session_ops = {.on_message = session_message, .on_end = on_end, .auto_consume = true};

#define ACCEPT(name)                                                                                                   \
    static int accept_##name(                                                                                          \
        struct rpc_call *call, void *arg, const struct rpc_call_ops **ret_ops, void **ret_arg, struct err *err)        \
    {                                                                                                                  \
        (void)call;                                                                                                    \
        (void)err;                                                                                                     \
        *ret_ops = &name##_ops;                                                                                        \
        *ret_arg = arg;                                                                                                \
        return 0;                                                                                                      \
    }
ACCEPT(enrol)
ACCEPT(renew)
ACCEPT(session)

static const struct rpc_method methods[] = {
    {"/leeward.control.v1.Enrolment/Enrol", accept_enrol, true},
    {"/leeward.control.v1.Control/Renew", accept_renew, false},
    {"/leeward.control.v1.Control/Session", accept_session, false},
};

/* ---- life ---- */

void fakehub_init(struct fakehub *hub, const char *dir)
{
    struct ident id;
    memset(hub, 0, sizeof(*hub));
    hub->ca = testca_new(dir, "hub-ca");
    testca_issue(hub->ca, "hub", &(struct testca_leaf){.role = "hub", .with_ca = true}, &hub->files);
    hub->used_csr_key = BUF_INIT(1000);
    assert_int_equal(ident_random(&id), 0);
    ident_to_text(&id, hub->id_text);
}

void fakehub_start(struct fakehub *hub, sd_event *loop, const char *address)
{
    struct err err = ERR_INIT;
    if (tls_server_new(&hub->files.files, true, &hub->tls, &err) < 0 ||
        rpc_server_new(loop, address, hub->tls, methods, ARRAY_LEN(methods), hub, NULL, &hub->server, &err) < 0)
        fail_msg("%s", err.text);
    snprintf(hub->address, sizeof(hub->address), "127.0.0.1:%u", rpc_server_port(hub->server));
}

void fakehub_stop(struct fakehub *hub)
{
    rpc_server_free(TAKE_PTR(hub->server));
    tls_context_free(TAKE_PTR(hub->tls));
}

void fakehub_done(struct fakehub *hub)
{
    fakehub_stop(hub);
    buf_done(&hub->used_csr_key);
    testca_free(hub->ca);
}

void fakehub_identify(
    struct fakehub *hub, const char *role, struct testca_files *files, struct enrol_identity *ret_identity)
{
    testca_issue(hub->ca, role, &(struct testca_leaf){.role = role}, files);
    ret_identity->id = files->id;
    memcpy(ret_identity->id_text, files->id_text, IDENT_TEXT_SIZE);
    (void)snprintf(ret_identity->role, sizeof(ret_identity->role), "%s", role);
    ret_identity->files = files->files;
}

void fakehub_token(const struct fakehub *hub, char letter, char out[160])
{
    char secret[44];
    memset(secret, letter, 43);
    secret[43] = '\0';
    snprintf(out, 160, "lwe_%s.%s", secret, testca_fingerprint(hub->ca));
}

pid_t fakehub_fork(struct fakehub *hub)
{
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        sd_event *loop = NULL;
        assert_true(sd_event_new(&loop) >= 0);
        fakehub_start(hub, loop, hub->address[0] != '\0' ? hub->address : "127.0.0.1:0");
        if (write(ready[1], hub->address, sizeof(hub->address)) != sizeof(hub->address))
            _exit(1);
        while (sd_event_run(loop, UINT64_MAX) >= 0)
            ;
        _exit(0);
    }
    assert_int_equal(read(ready[0], hub->address, sizeof(hub->address)), sizeof(hub->address));
    close(ready[0]);
    close(ready[1]);
    return pid;
}
