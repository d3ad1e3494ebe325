/* SPDX-License-Identifier: Apache-2.0
 *
 * A node that is to go: agents leave behind whole sets, nothing new comes in, and the vault gets what was spooled.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "tests/unit/node/node_world.h"
#include "transport/base/clock.h"
#include "transport/node/machine.h"

#define LONG_USEC (120 * USEC_PER_SEC)

struct drained {
    unsigned calls;
    bool all;
};

static void note(void *arg, bool all)
{
    struct drained *d = arg;
    d->calls++;
    d->all = all;
}

static struct world *world_of(void **state)
{
    return *state;
}

static void test_everything_is_committed_before_it_goes(void **state)
{
    struct world *w = world_of(state);
    struct drained d = {0};
    const char *reason;
    world_open_agent(w);
    for (uint64_t s = 1; s <= 5; s++)
        fake_agent_send_set(w->agent, s, (unsigned)s * 10, 30);
    world_until(w, w->agent->spooled >= 1 || w->agent->committed >= 1);
    assert_true(node_is_ready(w->node, &reason));
    assert_int_equal(node_drain(w->node, LONG_USEC, note, &d, NULL), 0);
    assert_int_equal(node_drain(w->node, LONG_USEC, note, &d, NULL), 0);
    assert_false(node_is_ready(w->node, &reason));
    assert_non_null(strstr(reason, "draining"));
    world_until(w, d.calls > 0 && w->agent->ended);
    assert_int_equal(d.calls, 1);
    assert_true(d.all);
    assert_int_equal(w->agent->status, RPC_UNAVAILABLE);
    /* Whatever was acknowledged as spooled is in the vault, whole. */
    assert_true(w->vault->committed >= w->agent->spooled);
    assert_int_equal(w->vault->broken_rules, 0);
}

static void test_set_under_way_ends_first(void **state)
{
    struct world *w = world_of(state);
    struct drained d = {0};
    AUTO_BUF struct buf half = BUF_INIT(64u << 20);
    AUTO_BUF struct buf whole = BUF_INIT(64u << 20);
    size_t offset = 0, before = 0;
    struct record r;
    const uint8_t *payload;
    world_open_agent(w);
    fake_agent_set(w->agent, 1, 0, 100, false, &half);
    (void)fake_agent_send(w->agent, &half);
    world_until(w, w->vault->batches > 0);
    unsigned opens = w->vault->opens;
    assert_int_equal(node_drain(w->node, LONG_USEC, note, &d, NULL), 0);
    for (unsigned i = 0; i < 50; i++)
        (void)sd_event_run(w->loop, 5000);
    assert_false(w->agent->ended);
    assert_int_equal(d.calls, 0);
    fake_agent_set(w->agent, 1, 0, 100, true, &whole);
    while (record_next(whole.data, whole.len, &offset, &r, &payload, NULL) == 1 && r.kind != RECORD_MARK)
        before = offset;
    buf_clear(&half);
    assert_int_equal(buf_append(&half, whole.data + before, whole.len - before, NULL), 0);
    (void)fake_agent_send(w->agent, &half);
    world_until(w, d.calls == 1 && w->agent->ended);
    assert_true(d.all);
    assert_int_equal(w->vault->committed, 1);
    assert_int_equal(w->vault->opens, opens); /* its stream never broke */
    assert_true(world_same_disks(w));
}

/* Its last segment was given back: there is nothing of it in the spool, and no set of it is open. */
static void test_agent_that_was_quiet_goes_at_once(void **state)
{
    struct world *w = world_of(state);
    struct drained d = {0};
    world_open_agent(w);
    fake_agent_send_set(w->agent, 1, 0, 10);
    world_until(w, w->agent->committed == 1);
    world_until(w, (machine_trim(w->node->machines, true), w->node->machines->spooled.bytes == 0));
    assert_int_equal(node_drain(w->node, 10 * LONG_USEC, note, &d, NULL), 0);
    world_until(w, d.calls == 1 && w->agent->ended);
    assert_true(d.all);
}

static void test_nobody_new_comes_in(void **state)
{
    struct world *w = world_of(state);
    struct drained d = {0};
    world_open_agent(w);
    fake_vault_stop(w->vault);
    fake_agent_send_set(w->agent, 1, 0, 20);
    world_until(w, w->agent->spooled == 1);
    assert_int_equal(node_drain(w->node, LONG_USEC, note, &d, NULL), 0);
    world_until(w, w->agent->ended);
    fake_agent_open(w->agent, 1, w->agent->epoch, 2);
    for (unsigned i = 0; i < 20; i++)
        (void)sd_event_run(w->loop, 5000);
    assert_int_equal(w->agent->opened_count, 0);
    world_start_vault(w);
    world_until(w, d.calls == 1);
    assert_true(d.all);
    assert_int_equal(w->vault->committed, 1);
}

static void test_vault_that_stays_away_costs_the_wait_only(void **state)
{
    struct world *w = world_of(state);
    struct drained d = {0};
    world_open_agent(w);
    fake_agent_send_set(w->agent, 1, 0, 10);
    world_until(w, w->agent->committed == 1);
    fake_vault_stop(w->vault);
    fake_agent_send_set(w->agent, 2, 10, 50);
    world_until(w, w->agent->spooled == 2);
    assert_int_equal(node_drain(w->node, 200 * USEC_PER_MSEC, note, &d, NULL), 0);
    world_until(w, d.calls == 1);
    assert_false(d.all);
    world_stop_node(w);
    world_start_vault(w);
    world_start_node(w);
    world_apply(w, true);
    world_until(w, w->vault->committed == 2); /* what had stayed in the spool */
    assert_true(world_same_disks(w));
}

static void test_metrics_name_the_machine(void **state)
{
    struct world *w = world_of(state);
    AUTO_BUF struct buf out = BUF_INIT(1u << 20);
    world_open_agent(w);
    fake_agent_send_set(w->agent, 1, 0, 10);
    world_until(w, w->agent->committed == 1);
    assert_int_equal(node_metrics(w->node, &out, NULL), 0);
    const char *text = buf_str(&out, NULL);
    assert_non_null(strstr(text, "\nleeward_node_ready 1\n"));
    assert_non_null(strstr(text, "\nleeward_node_streams 1\n"));
    assert_non_null(strstr(text, "\nleeward_node_machine_committed_sequence{machine=\""));
    assert_null(strstr(text, "leeward_node_received_bytes_total 0\n"));
}

int main(void)
{
#define DRAIN_TEST(name) cmocka_unit_test_setup_teardown(name, world_set_up, world_tear_down)
    const struct CMUnitTest tests[] = {
        DRAIN_TEST(test_everything_is_committed_before_it_goes),
        DRAIN_TEST(test_set_under_way_ends_first),
        DRAIN_TEST(test_agent_that_was_quiet_goes_at_once),
        DRAIN_TEST(test_nobody_new_comes_in),
        DRAIN_TEST(test_vault_that_stays_away_costs_the_wait_only),
        DRAIN_TEST(test_metrics_name_the_machine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
