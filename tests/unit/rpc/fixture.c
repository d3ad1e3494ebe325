/* SPDX-License-Identifier: Apache-2.0
 *
 * The shared parts of the rpc tests.
 */
#include "tests/unit/rpc/fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "transport/base/clock.h"
#include "transport/base/file.h"
#include "transport/base/log.h"
#include "transport/base/mem.h"

/* ---- server ---- */

static void server_end(struct rpc_call *call, void *arg, enum rpc_status status, const char *text)
{
    struct fixture *f = arg;
    (void)text;
    if (f->stalled == call)
        f->stalled = NULL;
    f->ended++;
    f->last_end = status;
}

static void echo_message(struct rpc_call *call, void *arg, struct buf *message)
{
    struct err err = ERR_INIT;
    (void)arg;
    if (rpc_call_send(call, message, &err) < 0)
        rpc_call_fail(call, &err);
}

static void echo_half(struct rpc_call *call, void *arg)
{
    (void)arg;
    rpc_call_finish(call, RPC_OK, NULL);
}

static const struct rpc_call_ops echo_ops = {
    .on_message = echo_message, .on_half = echo_half, .on_end = server_end, .auto_consume = true};

static void hang_message(struct rpc_call *call, void *arg, struct buf *message)
{
    (void)call;
    (void)arg;
    (void)message;
}

static const struct rpc_call_ops hang_ops = {.on_message = hang_message, .on_end = server_end, .auto_consume = true};

static void stall_message(struct rpc_call *call, void *arg, struct buf *message)
{
    struct fixture *f = arg;
    f->stalled = call;
    f->stalled_bytes += message->len;
    f->stalled_messages++;
}

static const struct rpc_call_ops stall_ops = {.on_message = stall_message, .on_end = server_end};

static void flood_message(struct rpc_call *call, void *arg, struct buf *message)
{
    struct fixture *f = arg;
    (void)message;
    for (size_t i = 0; i < f->flood_count; i++) {
        struct buf b = BUF_INIT(f->flood_bytes + 1);
        assert_int_equal(buf_reserve(&b, f->flood_bytes, NULL), 0);
        memset(b.data, 'f', f->flood_bytes);
        b.len = f->flood_bytes;
        assert_true(rpc_call_send(call, &b, NULL) >= 0);
    }
    rpc_call_finish(call, RPC_OK, NULL);
}

static const struct rpc_call_ops flood_ops = {.on_message = flood_message, .on_end = server_end, .auto_consume = true};

static void early_message(struct rpc_call *call, void *arg, struct buf *message)
{
    (void)arg;
    (void)message;
    rpc_call_finish(call, RPC_NOT_FOUND, "100% nicht gef\xc3\xbcndig\n");
}

static const struct rpc_call_ops early_ops = {.on_message = early_message, .on_end = server_end, .auto_consume = true};

static int accept_with(struct rpc_call *call, struct fixture *f, const struct rpc_call_ops *ops,
    const struct rpc_call_ops **ret_ops, void **ret_arg)
{
    f->accepted++;
    f->last_peer = *rpc_call_peer(call);
    f->last_deadline = rpc_call_deadline(call);
    *ret_ops = ops;
    *ret_arg = f;
    return 0;
}

#define ACCEPT(name)                                                                                                   \
    static int accept_##name(                                                                                          \
        struct rpc_call *call, void *arg, const struct rpc_call_ops **ret_ops, void **ret_arg, struct err *err)        \
    {                                                                                                                  \
        (void)err;                                                                                                     \
        return accept_with(call, arg, &name##_ops, ret_ops, ret_arg);                                                  \
    }
ACCEPT(echo)
ACCEPT(hang)
ACCEPT(stall)
ACCEPT(flood)
ACCEPT(early)

static int accept_fail(
    struct rpc_call *call, void *arg, const struct rpc_call_ops **ret_ops, void **ret_arg, struct err *err)
{
    (void)call;
    (void)arg;
    (void)ret_ops;
    (void)ret_arg;
    err_set(err, ERR_REFUSED, "stale generation 3");
    return err_hint(err, "open again with generation 4");
}

static const struct rpc_method methods[] = {
    {PATH_ECHO, accept_echo, false},
    {PATH_HANG, accept_hang, false},
    {PATH_STALL, accept_stall, false},
    {PATH_FAIL, accept_fail, false},
    {PATH_FLOOD, accept_flood, false},
    {PATH_EARLY, accept_early, false},
    {PATH_OPEN, accept_echo, true},
};

void fixture_release(struct fixture *f)
{
    assert_non_null(f->stalled);
    rpc_call_consume(f->stalled, f->stalled_bytes);
    f->stalled_bytes = 0;
}

/* ---- set-up ---- */

int fixture_setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    log_set_level(LOG_ERROR);
    snprintf(f->dir, sizeof(f->dir), "/tmp/leeward-rpc-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    f->ca = testca_new(f->dir, "ca");
    testca_issue(f->ca, "server", &(struct testca_leaf){.role = "node"}, &f->server_files);
    testca_issue(f->ca, "client", &(struct testca_leaf){.role = "agent"}, &f->client_files);
    assert_true(sd_event_new(&f->loop) >= 0);
    *state = f;
    return 0;
}

int fixture_teardown(void **state)
{
    struct fixture *f = *state;
    rpc_channel_free(f->channel);
    rpc_server_free(f->server);
    tls_context_free(f->server_tls);
    tls_context_free(f->client_tls);
    testca_free(f->ca);
    sd_event_unref(f->loop);
    assert_int_equal(file_remove_tree(f->dir, NULL), 0);
    free(f);
    return 0;
}

void fixture_channel(struct fixture *f, const struct testca_files *files, const char *role, const struct ident *id)
{
    struct err err = ERR_INIT;
    rpc_channel_free(f->channel);
    f->channel = NULL;
    tls_context_free(f->client_tls);
    f->client_tls = NULL;
    if (files != NULL && tls_client_new(&files->files, NULL, &f->client_tls, &err) < 0)
        fail_msg("%s", err.text);
    if (rpc_channel_new(f->loop, f->address, f->client_tls, role, id, &f->client_limits, &f->channel, &err) < 0)
        fail_msg("%s", err.text);
}

void fixture_serve(struct fixture *f, bool tls)
{
    struct err err = ERR_INIT;
    char listen[128];
    if (tls) {
        snprintf(listen, sizeof(listen), "127.0.0.1:0");
        if (tls_server_new(&f->server_files.files, f->anonymous, &f->server_tls, &err) < 0)
            fail_msg("%s", err.text);
    } else {
        snprintf(listen, sizeof(listen), "unix:%s/s.sock", f->dir);
    }
    if (rpc_server_new(
            f->loop, listen, f->server_tls, methods, ARRAY_LEN(methods), f, &f->server_limits, &f->server, &err) < 0)
        fail_msg("%s", err.text);
    if (tls)
        snprintf(f->address, sizeof(f->address), "127.0.0.1:%u", rpc_server_port(f->server));
    else
        memcpy(f->address, listen, sizeof(listen));
    fixture_channel(f, tls ? &f->client_files : NULL, "node", NULL);
}

void settle(struct fixture *f)
{
    while (sd_event_run(f->loop, 20000) > 0)
        ;
}

/* ---- client ---- */

static void probe_message(struct rpc_call *call, void *arg, struct buf *message)
{
    struct probe *p = arg;
    size_t n = message->len;
    p->messages++;
    p->bytes += n;
    buf_move(&p->last, message);
    if (!p->hold)
        rpc_call_consume(call, n);
}

static void probe_writable(struct rpc_call *call, void *arg)
{
    (void)call;
    ((struct probe *)arg)->writables++;
}

static void probe_end(struct rpc_call *call, void *arg, enum rpc_status status, const char *text)
{
    struct probe *p = arg;
    assert_ptr_equal(call, p->call);
    p->call = NULL;
    p->ends++;
    p->status = status;
    snprintf(p->text, sizeof(p->text), "%s", text);
}

const struct rpc_call_ops probe_ops = {.on_message = probe_message, .on_writable = probe_writable, .on_end = probe_end};

void probe_start(struct fixture *f, struct probe *p, const char *path, uint64_t timeout_usec, bool fail_fast)
{
    struct err err = ERR_INIT;
    buf_done(&p->last);
    memset(p, 0, sizeof(*p));
    uint64_t deadline = timeout_usec == 0 ? 0 : clock_mono_usec() + timeout_usec;
    if (rpc_call_start(f->channel, path, deadline, fail_fast, &probe_ops, p, &p->call, &err) < 0)
        fail_msg("%s", err.text);
}

void probe_send_bytes(struct probe *p, size_t n, uint8_t fill)
{
    struct buf b = BUF_INIT(n + 1);
    assert_int_equal(buf_reserve(&b, n + 1, NULL), 0);
    memset(b.data, fill, n);
    b.len = n;
    assert_true(rpc_call_send(p->call, &b, NULL) >= 0);
}

void probe_send(struct probe *p, const char *text)
{
    struct buf b = BUF_INIT(4096);
    assert_int_equal(buf_append_str(&b, text, NULL), 0);
    assert_true(rpc_call_send(p->call, &b, NULL) >= 0);
}

void probe_done(struct probe *p)
{
    buf_done(&p->last);
}

enum rpc_status probe_echo(struct fixture *f, const char *path, struct probe *p)
{
    probe_start(f, p, path, 10 * USEC_PER_SEC, true);
    probe_send(p, "hello");
    rpc_call_half_close(p->call);
    RUN_UNTIL(f, p->ends == 1);
    return p->status;
}
