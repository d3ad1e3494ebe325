/* SPDX-License-Identifier: Apache-2.0
 *
 * A node that may send only so much to the vault: nothing is lost or reordered, from the spool and past it, and no more goes out than allowed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/node/node_world.h"
#include "transport/base/clock.h"

static void apply(struct world *w, uint64_t rate, uint64_t machine_rate)
{
    Leeward__Control__V1__NodeDesired desired = LEEWARD__CONTROL__V1__NODE_DESIRED__INIT;
    Leeward__Control__V1__NodeMachine machine = LEEWARD__CONTROL__V1__NODE_MACHINE__INIT;
    Leeward__Control__V1__NodeMachine *machines[] = {&machine};
    machine.machine_id = w->agent_files.id_text;
    machine.generation = w->generation;
    machine.vault_id = w->vault_files.id_text;
    machine.vault_endpoint = w->vault_address;
    machine.compress_level = 1;
    desired.version = 2;
    desired.machines = machines;
    desired.n_machines = 1;
    desired.throttle_bytes_per_sec = rate;
    desired.machine_throttle_bytes_per_sec = machine_rate;
    node_apply(w->node, &desired);
}

static double figure(struct world *w, const char *name)
{
    AUTO_BUF struct buf b = BUF_INIT(1u << 20);
    char line[128];
    assert_int_equal(node_metrics(w->node, &b, NULL), 0);
    assert_int_equal(buf_append(&b, "", 1, NULL), 0);
    (void)snprintf(line, sizeof(line), "\n%s ", name);
    const char *at = strstr((const char *)b.data, line);
    assert_non_null(at);
    return strtod(at + strlen(line), NULL);
}

/* Bytes over the time in which they were allowed, both by the node's own counters: a busy machine makes it less, never more. */
static void assert_kept(struct world *w, double rate)
{
    double seconds = figure(w, "leeward_node_throttled_seconds_total");
    double bytes = figure(w, "leeward_node_throttled_bytes_total");
    assert_true(bytes > 0);
    assert_true(bytes <= rate * (seconds + 0.25) * 1.01 + (1u << 20)); /* the burst, and the last piece */
}

static void test_what_is_spooled_goes_out_at_the_rate(void **state)
{
    struct world *w = *state;
    world_open_agent(w);
    apply(w, 4u << 20, 0);
    for (uint64_t s = 1; s <= 12; s++)
        fake_agent_send_set(w->agent, s, (unsigned)s * 16, 32);
    world_until(w, w->agent->committed == 12); /* Spooled of the last may never be said: it is committed by then */
    assert_kept(w, 4u << 20);
    assert_true(figure(w, "leeward_node_throttled_seconds_total") > 1);
    assert_true(world_same_disks(w));
}

static void test_a_first_copy_goes_past_the_spool_at_the_rate(void **state)
{
    struct world *w = *state;
    w->vault->no_point = true;
    w->agent->kind = MARK_PROGRESS;
    apply(w, 0, 4u << 20);
    world_open_agent(w);
    for (uint64_t s = 1; s <= 6; s++)
        fake_agent_send_set(w->agent, s, (unsigned)s * 16, 48);
    world_until(w, w->agent->committed == 6);
    assert_int_equal((int)figure(w, "leeward_node_spool_bytes"), 0);
    assert_kept(w, 4u << 20);
    assert_true(world_same_disks(w));
}

static void test_a_set_larger_than_the_spool_goes_past_it_at_the_rate(void **state)
{
    struct world *w = *state;
    world_stop_node(w);
    w->spool_bytes = NODE_SPOOL_MIN;
    world_start_node(w);
    apply(w, 16u << 20, 0);
    world_open_agent(w);
    fake_agent_send_set(w->agent, 1, 0, 800);
    fake_agent_send_set(w->agent, 2, 1, 10);
    world_until(w, w->agent->committed == 2);
    assert_kept(w, 16u << 20);
    assert_true(world_same_disks(w));
}

static void test_a_bound_that_is_lifted_lets_everything_go(void **state)
{
    struct world *w = *state;
    world_open_agent(w);
    apply(w, 64u << 10, 0);
    for (uint64_t s = 1; s <= 20; s++)
        fake_agent_send_set(w->agent, s, (unsigned)s * 16, 64);
    world_until(w, w->agent->spooled == 20);
    assert_true(w->agent->committed < 20);
    apply(w, 0, 0);
    world_until(w, w->agent->committed == 20);
    assert_true(world_same_disks(w));
}

static void test_a_vault_or_an_agent_lost_under_a_bound_costs_nothing(void **state)
{
    struct world *w = *state;
    AUTO_BUF struct buf half = BUF_INIT(64u << 20);
    world_open_agent(w);
    apply(w, 2u << 20, 0);
    for (uint64_t s = 1; s <= 4; s++)
        fake_agent_send_set(w->agent, s, (unsigned)s * 16, 32);
    world_until(w, w->vault->batches > 0);
    fake_vault_stop(w->vault);
    world_until(w, w->agent->spooled == 4);
    world_start_vault(w);
    fake_agent_set(w->agent, 5, 50, 60, false, &half);
    (void)fake_agent_send(w->agent, &half);
    unsigned batches = w->vault->batches;
    world_until(w, w->vault->batches > batches);
    fake_agent_open(w->agent, 1, w->agent->epoch, 5);
    world_until(w, w->agent->opened_count == 1);
    assert_int_equal(w->agent->expected, 5);
    fake_agent_send_set(w->agent, 5, 50, 60);
    fake_agent_send_set(w->agent, 6, 0, 3);
    world_until(w, w->agent->committed == 6);
    assert_kept(w, 2u << 20);
    assert_true(world_same_disks(w));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, world_set_up, world_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_what_is_spooled_goes_out_at_the_rate),
        TEST(test_a_first_copy_goes_past_the_spool_at_the_rate),
        TEST(test_a_set_larger_than_the_spool_goes_past_it_at_the_rate),
        TEST(test_a_bound_that_is_lifted_lets_everything_go),
        TEST(test_a_vault_or_an_agent_lost_under_a_bound_costs_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
