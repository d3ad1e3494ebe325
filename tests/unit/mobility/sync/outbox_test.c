/* SPDX-License-Identifier: Apache-2.0
 *
 * The stream to a node that refuses it, goes away or is another one: what is told of it, and how long is paused.
 */
#include "mobility/sync/outbox.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/mobility/track/loopdisk.h"
#include "tests/unit/rpc/rununtil.h"
#include "transport/base/buf.h"
#include "transport/proto/replication.pb-c.h"
#include "transport/proto/wire.h"

struct scene {
    char dir[64], address[128];
    sd_event *loop;
    struct rpc_server *node;
    struct uplink *link;
    struct outbox *outbox;
    unsigned refused;
};

static uint64_t channel_pause_usec;

int __real_rpc_channel_new(sd_event *loop, const char *address, struct tls_context *tls, const char *expect_role,
    const struct ident *expect_id, const struct rpc_limits *limits, struct rpc_channel **ret_channel, struct err *err);
int __wrap_rpc_channel_new(sd_event *loop, const char *address, struct tls_context *tls, const char *expect_role,
    const struct ident *expect_id, const struct rpc_limits *limits, struct rpc_channel **ret_channel, struct err *err);

int __wrap_rpc_channel_new(sd_event *loop, const char *address, struct tls_context *tls, const char *expect_role,
    const struct ident *expect_id, const struct rpc_limits *limits, struct rpc_channel **ret_channel, struct err *err)
{
    channel_pause_usec = limits ? limits->backoff_max_usec : 0;
    return __real_rpc_channel_new(loop, address, tls, expect_role, expect_id, limits, ret_channel, err);
}

/* ---- a node that refuses ---- */

static void on_open(struct rpc_call *call, void *arg, struct buf *message)
{
    Leeward__Replication__V1__Refused refused = LEEWARD__REPLICATION__V1__REFUSED__INIT;
    Leeward__Replication__V1__ReplicateReply reply = LEEWARD__REPLICATION__V1__REPLICATE_REPLY__INIT;
    struct buf b AUTO_BUF = BUF_INIT(4096);

    (void)message;
    refused.code = (char *)"refused";
    refused.text = (char *)"it has moved";
    refused.correction = (char *)"wait for the hub";
    reply.kind_case = LEEWARD__REPLICATION__V1__REPLICATE_REPLY__KIND_REFUSED;
    reply.refused = &refused;
    assert_int_equal(wire_pack(&reply.base, &b, NULL), 0);
    assert_true(rpc_call_send(call, &b, NULL) >= 0);
    rpc_call_finish(call, RPC_FAILED_PRECONDITION, "see what was said");
    ((struct scene *)arg)->refused++;
}

static void on_gone(struct rpc_call *call, void *arg, enum rpc_status status, const char *text)
{
    (void)call;
    (void)arg;
    (void)status;
    (void)text;
}

static int accept_stream(
    struct rpc_call *call, void *arg, const struct rpc_call_ops **ret_ops, void **ret_arg, struct err *err)
{
    static const struct rpc_call_ops ops = {.on_message = on_open, .on_end = on_gone, .auto_consume = true};

    (void)call;
    (void)err;
    *ret_ops = &ops;
    *ret_arg = arg;
    return 0;
}

static void nothing(void *arg)
{
    (void)arg;
}

static int begin(void **state)
{
    static const struct rpc_method methods[] = {
        {.path = "/leeward.replication.v1.Replication/Replicate", .accept = accept_stream, .allow_anonymous = true}};
    static struct scene scene;
    const struct uplink_ops ops = {.to_loop = nothing, .to_capture = nothing};
    const struct uplink_opening opening = {.generation = 1, .epoch = 1, .next_sequence = 1};
    struct scene *s = &scene;

    memset(s, 0, sizeof(*s));
    temp_init(s->dir);
    assert_true(snprintf(s->address, sizeof(s->address), "unix:%s/node.sock", s->dir) < (int)sizeof(s->address));
    assert_true(sd_event_new(&s->loop) >= 0);
    const struct outbox_conf conf = {.loop = s->loop, .software = "test"};

    assert_int_equal(rpc_server_new(s->loop, s->address, NULL, methods, 1, s, NULL, &s->node, NULL), 0);
    assert_int_equal(uplink_new(&ops, 1 << 20, &s->link, NULL), 0);
    assert_int_equal(outbox_new(&conf, s->link, &s->outbox, NULL), 0);
    uplink_prepare(s->link, &opening);
    assert_int_equal(outbox_set_target(s->outbox, s->address, NULL, NULL), 0);
    *state = s;
    return 0;
}

static int end(void **state)
{
    struct scene *s = *state;

    outbox_free(s->outbox);
    uplink_free(s->link);
    rpc_server_free(s->node);
    sd_event_unref(s->loop);
    temp_done(s->dir);
    return 0;
}

static bool tells(const struct scene *s, const char *text)
{
    return strstr(outbox_trouble(s->outbox)->text, text) != NULL;
}

/* ---- tests ---- */

/* Not that the call ended then; and no remedy of it is left when something else is the matter. */
static void what_is_told_is_the_last_call(void **state)
{
    struct scene *s = *state;

    RUN_UNTIL(s, s->refused >= 2);
    RUN_UNTIL(s, tells(s, "refused"));
    assert_string_equal(outbox_trouble(s->outbox)->text, "the node refused: it has moved");
    assert_string_equal(outbox_trouble(s->outbox)->correction, "wait for the hub");
    rpc_server_free(s->node);
    s->node = NULL;
    RUN_UNTIL(s, !tells(s, "refused"));
    assert_true(tells(s, s->address));
    assert_string_equal(outbox_trouble(s->outbox)->correction, "");
}

static void what_is_told_is_not_of_another_node(void **state)
{
    struct scene *s = *state;
    char other[128];

    RUN_UNTIL(s, tells(s, "refused"));
    assert_true(snprintf(other, sizeof(other), "unix:%s/other.sock", s->dir) < (int)sizeof(other));
    assert_int_equal(outbox_set_target(s->outbox, other, NULL, NULL), 0);
    assert_int_equal(outbox_trouble(s->outbox)->code, ERR_NONE);
    RUN_UNTIL(s, tells(s, other));
}

/* Calls that find the channel pausing fail: two long pauses would add up. */
static void the_channel_adds_no_pause(void **state)
{
    (void)state;
    assert_true(channel_pause_usec > 0 && channel_pause_usec <= 200 * USEC_PER_MSEC);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_told_is_the_last_call, begin, end),
        cmocka_unit_test_setup_teardown(what_is_told_is_not_of_another_node, begin, end),
        cmocka_unit_test_setup_teardown(the_channel_adds_no_pause, begin, end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
