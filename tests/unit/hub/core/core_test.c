/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "hub/core/health.h"
#include "hub/core/machine_state.h"
#include "hub/core/placement.h"
#include "hub/core/plain_text.h"
#include "hub/core/skew.h"
#include "transport/base/clock.h"
#include "hub/core/capacity.h"
#include "hub/core/policy.h"
#include "hub/core/work_hours.h"

#define SEC 1000000ULL

/* ---- states ---- */

static bool row_allows(enum machine_state from, enum machine_move move, enum machine_state *to)
{
    for (size_t i = 0; i < machine_move_count; i++) {
        if (machine_moves[i].from == from && machine_moves[i].move == move) {
            *to = machine_moves[i].to;
            return true;
        }
    }
    return false;
}

static void test_every_row_of_the_table_moves_and_everything_else_is_refused(void **state)
{
    (void)state;
    for (int s = 0; s < MACHINE_STATE_COUNT; s++) {
        for (int m = 0; m < MOVE_COUNT; m++) {
            enum machine_state want = MACHINE_UNPROTECTED, got = MACHINE_UNPROTECTED;
            struct err err = ERR_INIT;
            bool allowed = row_allows((enum machine_state)s, (enum machine_move)m, &want);
            int rc = machine_move((enum machine_state)s, (enum machine_move)m, &got, &err);

            assert_int_equal(rc, allowed ? 0 : -1);
            if (allowed) {
                assert_int_equal(got, want);
                continue;
            }
            assert_int_equal(err.code, ERR_REFUSED);
            assert_true(err.correction[0] != '\0');
        }
    }
}

static void test_no_move_stands_twice_and_every_state_can_be_left_and_reached(void **state)
{
    (void)state;
    bool left[MACHINE_STATE_COUNT] = {false}, reached[MACHINE_STATE_COUNT] = {[MACHINE_UNPROTECTED] = true};

    for (size_t i = 0; i < machine_move_count; i++) {
        for (size_t j = i + 1; j < machine_move_count; j++)
            assert_false(
                machine_moves[i].from == machine_moves[j].from && machine_moves[i].move == machine_moves[j].move);
        if (machine_moves[i].from != machine_moves[i].to) {
            left[machine_moves[i].from] = true;
            reached[machine_moves[i].to] = true;
        }
    }
    for (int s = 0; s < MACHINE_STATE_COUNT; s++) {
        assert_true(left[s]);
        assert_true(reached[s]);
    }
}

static void test_names_of_states_go_both_ways(void **state)
{
    (void)state;
    for (int s = 0; s < MACHINE_STATE_COUNT; s++)
        assert_int_equal(machine_state_from_name(machine_state_name((enum machine_state)s)), s);
    assert_int_equal(machine_state_from_name("asleep"), -1);
    assert_string_equal(machine_state_name((enum machine_state)99), "unknown");
}

static void test_an_agent_moves_its_machine_only_while_it_replicates(void **state)
{
    static const struct {
        enum machine_state state;
        const char *says;
        bool has_point;
        int move; /* -1: none */
    } rows[] = {
        {MACHINE_ENABLING, "initial_replication", false, MOVE_INITIAL_BEGUN},
        {MACHINE_ENABLING, "protected", true, MOVE_FIRST_POINT},
        {MACHINE_ENABLING, "protected", false, -1}, /* P1: no point, not protected */
        {MACHINE_INITIAL_REPLICATION, "initial_replication", false, -1},
        {MACHINE_INITIAL_REPLICATION, "protected", true, MOVE_FIRST_POINT},
        {MACHINE_PROTECTED, "protected", true, -1},
        {MACHINE_PROTECTED, "resynchronizing", true, MOVE_RESYNC},
        {MACHINE_RESYNCHRONIZING, "protected", true, MOVE_RESYNC_DONE},
        {MACHINE_UNPROTECTED, "protected", true, -1},
        {MACHINE_FAILED_OVER, "protected", true, -1},
        {MACHINE_COMMITTED, "resynchronizing", true, -1},
        {MACHINE_PROTECTED, "idle", true, -1},
        {MACHINE_PROTECTED, "", true, -1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        enum machine_move move = MOVE_COUNT;
        bool moves = machine_move_from_agent(rows[i].state, rows[i].says, rows[i].has_point, &move);

        assert_int_equal(moves, rows[i].move >= 0);
        if (moves)
            assert_int_equal(move, rows[i].move);
    }
}

/* ---- policy ---- */

static void test_the_default_policy_is_valid(void **state)
{
    struct policy p;
    struct err err = ERR_INIT;

    (void)state;
    policy_default(&p);
    assert_int_equal(policy_check(&p, &err), 0);
}

static void test_policies_out_of_bounds_name_the_field(void **state)
{
    struct {
        size_t offset;
        uint64_t value;
        const char *field;
    } rows[] = {
        {offsetof(struct policy, interval_usec), 0, "interval_usec"},
        {offsetof(struct policy, interval_usec), 99999, "interval_usec"},
        {offsetof(struct policy, interval_usec), UINT64_MAX, "interval_usec"},
        {offsetof(struct policy, filesystem_interval_usec), 9 * SEC, "filesystem_interval_usec"},
        {offsetof(struct policy, app_interval_usec), 1, "app_interval_usec"},
        {offsetof(struct policy, rpo_target_usec), 10, "rpo_target_usec"},
        {offsetof(struct policy, keep_all_usec), 0, "keep_all_usec"},
        {offsetof(struct policy, keep_minute_usec), 60 * SEC, "keep_minute_usec"}, /* shorter than keep_all */
        {offsetof(struct policy, keep_day_usec), 3600 * SEC, "keep_day_usec"},
        {offsetof(struct policy, freeze_budget_usec), 11 * SEC, "freeze_budget_usec"},
        {offsetof(struct policy, throttle_bytes_per_sec), 5, "throttle_bytes_per_sec"},
        {offsetof(struct policy, work_hours_throttle_bytes_per_sec), 5, "work_hours_throttle_bytes_per_sec"},
        {offsetof(struct policy, cpu_limit_percent), 10001, "cpu_limit_percent"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct policy p;
        struct err err = ERR_INIT;

        policy_default(&p);
        memcpy((char *)&p + rows[i].offset, &rows[i].value, sizeof(uint64_t));
        assert_int_equal(policy_check(&p, &err), -1);
        assert_int_equal(err.code, ERR_INVALID);
        assert_int_equal(strncmp(err.text, rows[i].field, strlen(rows[i].field)), 0);
        assert_true(err.correction[0] != '\0');
    }
}

static void test_a_target_below_the_interval_is_refused(void **state)
{
    struct policy p;
    struct err err = ERR_INIT;

    (void)state;
    policy_default(&p);
    p.interval_usec = 60 * SEC;
    assert_int_equal(policy_check(&p, &err), -1);
    assert_non_null(strstr(err.text, "rpo_target_usec"));
}

static void test_tiers_may_be_off(void **state)
{
    struct policy p;
    struct err err = ERR_INIT;

    (void)state;
    policy_default(&p);
    p.keep_minute_usec = p.keep_day_usec = 0;
    assert_int_equal(policy_check(&p, &err), 0);
}

static void test_working_hours_are_read_as_people_write_them(void **state)
{
    static const struct {
        const char *text;
        uint32_t days, from, to;
    } rows[] = {
        {"mon-fri 08:00-18:00", 31, 480, 1080},
        {"Sat 9:30-13:00", 32, 570, 780},
        {"sat-mon 22:00-06:00", 32 | 64 | 1, 1320, 360},
        {"daily 00:00-24:00", 127, 0, 1440},
    };
    static const char *const wrong[] = {"mon", "mon 8-18", "xyz 08:00-18:00", "mon 08:00-08:00", "mon 24:01-25:00",
        "mon 08:61-09:00", "mon 08:00-09:00,", ",", "mon 08:00-09:00 tue", "mon-tue-wed 08:00-09:00",
        "mon 08:00-09:00;"};
    struct work_window w[WORK_HOURS_MAX];
    struct err err = ERR_INIT;
    size_t n;

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_int_equal(work_hours_parse(rows[i].text, w, &n, &err), 0);
        assert_int_equal(n, 1);
        assert_int_equal(w[0].days, rows[i].days);
        assert_int_equal(w[0].from_minute, rows[i].from);
        assert_int_equal(w[0].to_minute, rows[i].to);
    }
    assert_int_equal(work_hours_parse("mon-fri 08:00-18:00, sat 09:00-13:00", w, &n, &err), 0);
    assert_int_equal(n, 2);
    assert_int_equal(work_hours_parse("", w, &n, &err), 0);
    assert_int_equal(n, 0);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_int_equal(work_hours_parse(wrong[i], w, &n, &err), -1);
        assert_int_equal(err.code, ERR_INVALID);
        assert_true(err.correction[0] != '\0');
    }
}

/* ---- capacity ---- */

static void test_a_steady_disk_needs_its_churn_and_a_bursty_one_less_than_its_peak(void **state)
{
    static uint64_t steady[600], bursty[600];
    struct policy p;
    struct capacity_input in = {.size_bytes = 1ull << 40,
        .used_bytes = 100ull << 30,
        .per_second = steady,
        .seconds = 600,
        .per_minute_bytes = 60ull * 10000000, /* every write goes elsewhere */
        .compressed_permille = 500,
        .policy = &p};
    struct capacity c;
    struct err err = ERR_INIT;

    (void)state;
    policy_default(&p);
    for (size_t i = 0; i < 600; i++) {
        steady[i] = 10000000;
        bursty[i] = i % 60 == 0 ? 600000000 : 0;
    }
    assert_int_equal(capacity_predict(&in, &c, &err), 0);
    assert_true(c.average_per_sec > 4.99e6 && c.average_per_sec < 5.01e6);
    assert_true(c.link_bytes_per_sec > 4.8e6 && c.link_bytes_per_sec < 5.1e6);
    assert_true(c.rpo_p99_sec <= 15.1);
    assert_true(c.first_copy_bytes > 53.6e9 && c.first_copy_bytes < 53.8e9);
    /* every second of a day, nothing of it coalesced */
    assert_true(c.all_points_bytes > 0.99 * 86400 * 5e6 && c.all_points_bytes < 1.01 * 86400 * 5e6);
    assert_true(c.vault_bytes > c.first_copy_bytes + c.all_points_bytes);
    in.per_second = bursty;
    assert_int_equal(capacity_predict(&in, &c, &err), 0);
    assert_true(c.link_bytes_per_sec > 5e6 && c.link_bytes_per_sec < 30e6);
    assert_true(c.peak_per_sec > 299e6);
    in.link_bytes_per_sec = 1000000; /* never catches up */
    assert_int_equal(capacity_predict(&in, &c, &err), 0);
    assert_true(c.rpo_max_sec > 1000);
}

static void test_blocks_that_are_written_again_and_again_take_little_history(void **state)
{
    static uint64_t seconds[120];
    struct policy p;
    struct capacity_input in = {.size_bytes = 1ull << 40,
        .used_bytes = 1 << 30,
        .per_second = seconds,
        .seconds = 120,
        .per_minute_bytes = 10000000, /* the same ones */
        .compressed_permille = 1000,
        .policy = &p};
    struct capacity same, other;
    struct err err = ERR_INIT;

    (void)state;
    policy_default(&p);
    for (size_t i = 0; i < 120; i++)
        seconds[i] = 10000000;
    assert_int_equal(capacity_predict(&in, &same, &err), 0);
    in.per_minute_bytes = 600000000;
    assert_int_equal(capacity_predict(&in, &other, &err), 0);
    assert_true(same.thinned_bytes < other.thinned_bytes / 20);
    assert_true(same.changed_per_day_bytes < 10000001);
    in.seconds = 0;
    assert_int_equal(capacity_predict(&in, &same, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
}

/* ---- placement ---- */

static void test_the_least_loaded_node_of_the_site_gets_the_machine(void **state)
{
    const struct placement_node nodes[] = {
        {.online = true, .same_site = false, .machines = 0},
        {.online = true, .same_site = true, .machines = 9, .cpu_permille = 700},
        {.online = true, .same_site = true, .machines = 5, .cpu_permille = 210},
        {.online = true, .same_site = true, .machines = 4, .cpu_permille = 290}, /* the same tenth: fewer machines */
        {.online = false, .same_site = true, .machines = 0},
        {.online = true, .same_site = true, .drain = true},
    };
    struct err err = ERR_INIT;
    size_t best = 99;

    (void)state;
    assert_int_equal(placement_node(nodes, 6, &best, &err), 1);
    assert_int_equal(best, 3);
}

static void test_a_full_spool_comes_last(void **state)
{
    const struct placement_node nodes[] = {
        {.online = true, .same_site = true, .spool_permille = 950},
        {.online = true, .same_site = false, .spool_permille = 100},
    };
    struct err err = ERR_INIT;
    size_t best = 99;

    (void)state;
    assert_int_equal(placement_node(nodes, 2, &best, &err), 1);
    assert_int_equal(best, 1);
    assert_int_equal(placement_node(nodes, 1, &best, &err), 1);
    assert_int_equal(best, 0);
}

static void test_without_a_node_there_is_a_reason(void **state)
{
    const struct placement_node node = {.online = true, .drain = true};
    struct err err = ERR_INIT;
    size_t best = 99;

    (void)state;
    assert_int_equal(placement_node(&node, 1, &best, &err), 0);
    assert_int_equal(placement_node(NULL, 0, &best, &err), 0);
    assert_int_equal(err.code, ERR_UNAVAILABLE);
    assert_true(err.correction[0] != '\0');
}

/* ---- moves ---- */

#define LONG_AGO (3600 * USEC_PER_SEC)
#define MB 1000000ULL

/* Nodes 0..n-1, all well; machines in turn on them. */
struct fleet {
    struct placement_node nodes[8];
    struct placement_machine machines[64];
    struct placement_fleet fleet;
    struct placement_move moves[64];
};

static void fleet_make(struct fleet *f, size_t nodes, size_t machines)
{
    *f = (struct fleet){
        .fleet = {.node_count = nodes, .machine_count = machines, .settled = true, .since_balance_usec = LONG_AGO}};
    f->fleet.nodes = f->nodes;
    f->fleet.machines = f->machines;
    for (size_t i = 0; i < nodes; i++)
        f->nodes[i] = (struct placement_node){.online = true, .zone = 1, .up_usec = LONG_AGO};
    for (size_t i = 0; i < machines; i++)
        f->machines[i] = (struct placement_machine){
            .node = i % nodes, .pin = PLACEMENT_NONE, .zone = 1, .churn_bytes_per_sec = MB, .settled_usec = LONG_AGO};
}

static size_t fleet_plan(struct fleet *f, size_t max)
{
    struct err err = ERR_INIT;
    int n = placement_plan(&f->fleet, f->moves, max, &err);

    assert_true(n >= 0 && (size_t)n <= max);
    for (int i = 0; i < n; i++) {
        const struct placement_move *m = &f->moves[i];

        assert_true(m->from != m->to && m->to < f->fleet.node_count);
        assert_true(f->nodes[m->to].online && !f->nodes[m->to].drain && !f->nodes[m->to].gone);
        assert_false(f->machines[m->machine].moving);
    }
    return (size_t)n;
}

static void fleet_obey(struct fleet *f, size_t moves)
{
    for (size_t i = 0; i < moves; i++)
        f->machines[f->moves[i].machine].node = f->moves[i].to;
}

static size_t machines_on(const struct fleet *f, size_t node)
{
    size_t n = 0;

    for (size_t i = 0; i < f->fleet.machine_count; i++)
        n += f->machines[i].node == node;
    return n;
}

static void test_equal_nodes_are_left_alone(void **state)
{
    struct fleet f;

    (void)state;
    fleet_make(&f, 5, 12); /* 3, 3, 2, 2, 2 */
    assert_int_equal(fleet_plan(&f, 64), 0);
    for (size_t i = 0; i < 12; i++) /* noise */
        f.machines[i].churn_bytes_per_sec = MB + i * 17077 % 200000;
    for (size_t i = 0; i < 5; i++)
        f.nodes[i].cpu_permille = 300 + i * 60;
    assert_int_equal(fleet_plan(&f, 64), 0);
}

static void test_the_machines_of_a_node_that_is_gone_spread_over_the_others_at_once(void **state)
{
    struct fleet f;

    (void)state;
    fleet_make(&f, 5, 60);
    f.nodes[2].online = false;
    assert_int_equal(fleet_plan(&f, 64), 0); /* its session is over: it may come back */
    f.nodes[2].gone = true;
    assert_int_equal(fleet_plan(&f, 64), 12);
    assert_int_equal(f.moves[0].reason, PLACEMENT_GONE);
    fleet_obey(&f, 12);
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(machines_on(&f, i), i == 2 ? 0 : 15);
    assert_int_equal(fleet_plan(&f, 64), 0);
}

static void test_nobody_is_gone_before_the_nodes_could_report(void **state)
{
    struct fleet f;

    (void)state;
    fleet_make(&f, 3, 9);
    f.nodes[0].gone = true;
    f.nodes[0].online = false;
    f.fleet.settled = false;
    assert_int_equal(fleet_plan(&f, 64), 0);
    f.nodes[1].drain = true; /* that is a person's wish, whatever nodes say */
    assert_int_equal(fleet_plan(&f, 64), 3);
}

static void test_with_no_other_node_everything_stays(void **state)
{
    struct fleet f;

    (void)state;
    fleet_make(&f, 1, 4);
    f.nodes[0].drain = true;
    assert_int_equal(fleet_plan(&f, 64), 0);
    f.nodes[0].gone = true;
    assert_int_equal(fleet_plan(&f, 64), 0);
}

static void test_a_drained_node_is_left_a_few_at_a_time_and_a_machine_that_moves_is_left_alone(void **state)
{
    struct fleet f;
    size_t n;

    (void)state;
    fleet_make(&f, 2, 40);
    f.nodes[0].drain = true;
    n = fleet_plan(&f, 64);
    assert_in_range(n, 1, 10);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(f.moves[i].reason, PLACEMENT_DRAIN);
        f.machines[f.moves[i].machine].moving = true;
    }
    assert_int_equal(fleet_plan(&f, 64), 0); /* those first */
    for (unsigned rounds = 0; n > 0; rounds++) {
        assert_in_range(rounds, 0, 20);
        fleet_obey(&f, n);
        for (size_t i = 0; i < 40; i++)
            f.machines[i].moving = false;
        n = fleet_plan(&f, 64);
    }
    assert_int_equal(machines_on(&f, 0), 0);
}

static void test_a_pin_counts_while_its_node_can_be_used(void **state)
{
    struct fleet f;

    (void)state;
    fleet_make(&f, 3, 3);
    f.machines[0].pin = 2;
    assert_int_equal(fleet_plan(&f, 64), 1);
    assert_int_equal(f.moves[0].to, 2);
    assert_int_equal(f.moves[0].reason, PLACEMENT_PIN);
    fleet_obey(&f, 1);
    f.nodes[0].up_usec = LONG_AGO;
    f.machines[2].churn_bytes_per_sec = 50 * MB; /* no balance for a pinned one */
    f.machines[2].pin = 2;
    assert_int_equal(fleet_plan(&f, 64), 0);
    f.nodes[2].drain = true;
    assert_int_equal(fleet_plan(&f, 64), 2);
    fleet_obey(&f, 2);
    assert_int_equal(fleet_plan(&f, 64), 0);
    f.nodes[2].drain = false;
    assert_int_equal(fleet_plan(&f, 64), 2);
}

static void test_a_machine_goes_home_when_its_site_has_a_node_again(void **state)
{
    struct fleet f;

    (void)state;
    fleet_make(&f, 2, 4);
    f.nodes[1].zone = 2;
    for (size_t i = 0; i < 4; i++) {
        f.machines[i].node = 0;
        f.machines[i].zone = 2;
    }
    f.nodes[1].up_usec = USEC_PER_SEC; /* has just come */
    assert_int_equal(fleet_plan(&f, 64), 0);
    f.nodes[1].up_usec = LONG_AGO;
    assert_int_equal(fleet_plan(&f, 64), 1); /* one at a time */
    assert_int_equal(f.moves[0].reason, PLACEMENT_ZONE);
    f.fleet.since_balance_usec = USEC_PER_SEC;
    assert_int_equal(fleet_plan(&f, 64), 0);
    f.nodes[0].gone = true;
    f.nodes[0].online = false; /* need does not wait; and the site counts first, then that there is a node at all */
    assert_int_equal(fleet_plan(&f, 64), 4);
}

static void test_a_node_that_came_gets_its_share_one_by_one_and_then_there_is_rest(void **state)
{
    struct fleet f;
    unsigned moves = 0;

    (void)state;
    fleet_make(&f, 5, 50);
    for (size_t i = 0; i < 50; i++)
        f.machines[i].node = i % 4; /* 13, 13, 12, 12, 0 */
    while (fleet_plan(&f, 64) > 0) {
        assert_int_equal(f.moves[0].reason, PLACEMENT_BALANCE);
        assert_int_equal(f.moves[0].to, 4);
        fleet_obey(&f, 1);
        assert_in_range(++moves, 1, 10);
    }
    assert_in_range(machines_on(&f, 4), 8, 10);
}

static void test_a_hot_node_gives_a_machine_to_a_cool_one_and_does_not_get_it_back(void **state)
{
    struct fleet f;

    (void)state;
    fleet_make(&f, 2, 16);
    f.nodes[0].cpu_permille = 950;
    f.nodes[1].cpu_permille = 600;
    assert_int_equal(fleet_plan(&f, 64), 1); /* an eighth of 950 changes sides */
    assert_int_equal(f.moves[0].from, 0);
    fleet_obey(&f, 1);
    f.nodes[0].cpu_permille = 831;
    f.nodes[1].cpu_permille = 719;
    assert_int_equal(fleet_plan(&f, 64), 0);
    f.nodes[0].cpu_permille = 950;
    f.nodes[1].cpu_permille = 700; /* as hot */
    assert_int_equal(fleet_plan(&f, 64), 0);
}

static void test_a_machine_that_has_just_come_is_not_moved_for_balance(void **state)
{
    struct fleet f;

    (void)state;
    fleet_make(&f, 2, 8);
    for (size_t i = 0; i < 8; i++) {
        f.machines[i].node = 0;
        f.machines[i].settled_usec = 60 * USEC_PER_SEC;
    }
    assert_int_equal(fleet_plan(&f, 64), 0);
    f.machines[5].settled_usec = LONG_AGO;
    assert_int_equal(fleet_plan(&f, 64), 1);
    assert_int_equal(f.moves[0].machine, 5);
}

/* Whatever comes: moves are legal (fleet_plan checks), as many as allowed, and what is obeyed comes to rest. */
static void test_any_fleet_comes_to_rest(void **state)
{
    uint64_t seed = 88172645463325252ULL;

    (void)state;
    for (unsigned round = 0; round < 300; round++) {
        struct fleet f;
        unsigned steps = 0;
        size_t n;

        fleet_make(&f, 1 + round % 8, round % 61);
        for (size_t i = 0; i < f.fleet.node_count; i++) {
            seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
            f.nodes[i].online = seed % 7 != 0;
            f.nodes[i].gone = seed % 7 == 0;
            f.nodes[i].drain = seed % 5 == 0;
            f.nodes[i].zone = (uint32_t)(seed >> 20) % 3;
            f.nodes[i].spool_permille = (seed >> 30) % 1000;
        }
        for (size_t i = 0; i < f.fleet.machine_count; i++) {
            seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
            f.machines[i].node = seed % 11 == 0 ? PLACEMENT_NONE : (seed >> 8) % f.fleet.node_count;
            f.machines[i].pin = seed % 3 ? PLACEMENT_NONE : (seed >> 16) % f.fleet.node_count;
            f.machines[i].zone = (uint32_t)(seed >> 24) % 3;
            f.machines[i].churn_bytes_per_sec = (seed >> 30) % (20 * MB);
        }
        while ((n = fleet_plan(&f, 16)) > 0) {
            fleet_obey(&f, n);
            assert_in_range(++steps, 1, 200);
        }
    }
}

static void test_the_vault_of_another_site_with_most_room_is_taken(void **state)
{
    const struct placement_vault vaults[] = {
        {.online = true, .accepting = true, .other_site = false, .free_bytes = 900},
        {.online = true, .accepting = true, .other_site = true, .free_bytes = 500},
        {.online = true, .accepting = true, .other_site = true, .free_bytes = 600},
        {.online = true, .accepting = false, .other_site = true, .free_bytes = 999},
        {.online = false, .accepting = true, .other_site = true, .free_bytes = 999},
    };
    struct err err = ERR_INIT;
    size_t best = 99;

    (void)state;
    assert_int_equal(placement_vault(vaults, 5, 100, &best, &err), 1);
    assert_int_equal(best, 2);
    assert_int_equal(placement_vault(vaults, 5, 1000, &best, &err), 0);
    assert_int_equal(err.code, ERR_NOSPACE);
    assert_int_equal(placement_vault(vaults + 3, 2, 1, &best, &err), 0);
    assert_int_equal(err.code, ERR_UNAVAILABLE);
}

/* ---- health ---- */

static struct health_machine good_machine(void)
{
    return (struct health_machine){.state = MACHINE_PROTECTED,
        .rpo_usec = SEC,
        .rpo_target_usec = 15 * SEC,
        .agent_state = "protected",
        .agent_cause = "",
        .agent_remedy = "",
        .node_online = true,
        .vault_online = true,
        .vault_accepting = true};
}

static void test_a_machine_within_its_target_is_healthy(void **state)
{
    const struct health_machine m = good_machine();
    struct health h;

    (void)state;
    health_of_machine(&m, &h);
    assert_int_equal(h.level, HEALTH_HEALTHY);
    assert_string_equal(h.cause, "");
}

static void test_rpo_above_target_warns_and_above_thrice_is_critical(void **state)
{
    struct health_machine m = good_machine();
    struct health h;

    (void)state;
    m.rpo_usec = 16 * SEC;
    health_of_machine(&m, &h);
    assert_int_equal(h.level, HEALTH_WARNING);
    m.rpo_usec = 46 * SEC;
    health_of_machine(&m, &h);
    assert_int_equal(h.level, HEALTH_CRITICAL);
    assert_non_null(strstr(h.cause, "RPO"));
    assert_true(h.remedy[0] != '\0');
    m.state = MACHINE_RESYNCHRONIZING; /* it would lose as much */
    health_of_machine(&m, &h);
    assert_int_equal(h.level, HEALTH_CRITICAL);
    assert_non_null(strstr(h.cause, "compared"));
    m.state = MACHINE_INITIAL_REPLICATION; /* of a disk that was added: the others have points */
    health_of_machine(&m, &h);
    assert_int_equal(h.level, HEALTH_CRITICAL);
    m.rpo_usec = 0; /* there is none yet */
    health_of_machine(&m, &h);
    assert_int_equal(h.level, HEALTH_HEALTHY);
}

static void test_a_source_whose_replica_runs_is_told_why_nothing_is_taken(void **state)
{
    static const struct {
        enum machine_state state;
        const char *remedy;
    } cases[] = {
        {MACHINE_FAILED_OVER, "rollback"}, {MACHINE_COMMITTED, "reprotect"}, {MACHINE_REVERSE_PROTECTED, "failback"}};
    struct health_machine m = good_machine();
    struct health h;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        m.state = cases[i].state;
        health_of_machine(&m, &h);
        assert_int_equal(h.level, HEALTH_WARNING);
        assert_string_equal(h.code, "source_fenced");
        assert_non_null(strstr(h.cause, "nothing that the source sends is taken"));
        assert_non_null(strstr(h.remedy, cases[i].remedy));
    }
    m.silent_usec = 3600 * SEC; /* it is off, as it should be */
    health_of_machine(&m, &h);
    assert_string_not_equal(h.code, "source_fenced");
}

static void test_the_cause_behind_a_missed_rpo_is_named_first(void **state)
{
    struct health_machine m = good_machine();
    struct health h;

    (void)state;
    m.rpo_usec = 100 * SEC;
    m.vault_online = false;
    health_of_machine(&m, &h);
    assert_int_equal(h.level, HEALTH_CRITICAL);
    assert_non_null(strstr(h.cause, "vault"));
}

static void test_a_silent_agent_is_critical_when_protected_and_unknown_otherwise(void **state)
{
    struct health_machine m = good_machine();
    struct health h;

    (void)state;
    m.silent_usec = 60 * SEC;
    health_of_machine(&m, &h);
    assert_int_equal(h.level, HEALTH_CRITICAL);
    m.state = MACHINE_UNPROTECTED;
    m.silent_usec = UINT64_MAX;
    health_of_machine(&m, &h);
    assert_int_equal(h.level, HEALTH_UNKNOWN);
}

/* What is sent comes late, by more or less: the sample that was least late counts, and old ones go. */
static void test_the_least_late_sample_tells_the_skew(void **state)
{
    static const uint64_t late[] = {4, 0, 9, 300, 2};
    struct skew_watch w = {0};
    uint64_t now = 1000000 * SEC;

    (void)state;
    assert_int_equal(skew_usec(&w), 0);
    for (size_t i = 0; i < 5; i++)
        skew_add(&w, now - 20 * SEC, now + late[i] * SEC);
    assert_int_equal(skew_usec(&w), -(int64_t)(20 * SEC));
    skew_add(&w, now + 7 * SEC, now); /* set forward: seen at once */
    assert_int_equal(skew_usec(&w), 7 * SEC);
    for (unsigned i = 0; i < SKEW_SAMPLES - 1; i++)
        skew_add(&w, now - SEC, now);
    assert_int_equal(skew_usec(&w), 7 * SEC);
    skew_add(&w, now - SEC, now); /* set back: when the others have gone */
    assert_int_equal(skew_usec(&w), -(int64_t)SEC);
}

static void test_times_that_no_clock_shows_stay_numbers(void **state)
{
    struct skew_watch w = {0};

    (void)state;
    skew_add(&w, 0, UINT64_MAX);
    assert_true(skew_usec(&w) < -(int64_t)SEC && skew_usec(&w) > INT64_MIN / 4);
    skew_add(&w, UINT64_MAX, 0);
    assert_true(skew_usec(&w) > (int64_t)SEC && skew_usec(&w) < INT64_MAX / 4);
}

static void test_an_age_does_not_depend_on_the_clock_that_dated_it(void **state)
{
    const uint64_t now = 1000000 * SEC;

    (void)state;
    assert_int_equal(skew_age_usec(now, now - 3 * SEC, 0), 3 * SEC);
    assert_int_equal(skew_age_usec(now, now - 3 * SEC - 60 * SEC, -(int64_t)(60 * SEC)), 3 * SEC);
    assert_int_equal(skew_age_usec(now, now - 3 * SEC + 60 * SEC, 60 * SEC), 3 * SEC);
    assert_int_equal(skew_age_usec(now, now + SEC, 0), 0);
    assert_true(skew_age_usec(UINT64_MAX, 0, INT64_MAX / 4) > SEC && skew_age_usec(0, UINT64_MAX, -1) == 0);
}

static void test_text_is_cut_between_characters(void **state)
{
    static const struct {
        const char *in, *out; /* cut to eight bytes and the NUL */
    } cases[] = {{"", ""}, {"plain", "plain"}, {"abcdefghi", "abcdefgh"}, {"abcdefg\u0416", "abcdefg"},
        {"abcdef\u0416", "abcdef\u0416"}, {"abcdef\u4e2d", "abcdef"}, {"abcde\u4e2d", "abcde\u4e2d"},
        {"abcde\U0001f600", "abcde"}, {"a\nb\x7f", "a b "}, {"a\xd0:b", "a?:b"}, {"\x80\xff", "??"},
        {"\xed\xa0\x80", "???"}, {"\xc0\xaf", "??"}};
    char text[64];

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        plain_text_copy(text, 9, cases[i].in);
        assert_string_equal(text, cases[i].out);
        (void)snprintf(text, 9, "%s", cases[i].in); /* whoever cut it did not look */
        plain_text_tidy(text);
        assert_string_equal(text, cases[i].out);
    }
}

/* Three peers that agree know better than one hub; two may both be wrong. */
static void test_most_peers_tell_that_it_is_the_hubs_clock(void **state)
{
    struct health_hub in = {0};
    struct health_findings found;

    (void)state;
    assert_int_equal(skew_of_hub(20 * (int64_t)SEC, 2, 5 * SEC), 0);
    assert_int_equal(skew_of_hub(-20 * (int64_t)SEC, 3, 5 * SEC), -20 * (int64_t)SEC);
    assert_int_equal(skew_of_hub(5 * (int64_t)SEC, 3, 5 * SEC), 0);
    in.clock_peers = 3;
    health_find_hub(&in, NULL, &found);
    assert_int_equal(found.count, 0);
    in.clock_behind_usec = 20 * (int64_t)SEC;
    health_find_hub(&in, NULL, &found);
    assert_int_equal(found.count, 1);
    assert_string_equal(found.list[0].code, "clock_skew");
    assert_string_equal(found.list[0].cause, "Its clock is 20 s slow by the clocks of most of its 3 peers");
    in.clock_behind_usec = -20 * (int64_t)SEC;
    health_find_hub(&in, NULL, &found);
    assert_non_null(strstr(found.list[0].cause, "20 s fast"));
}

static void test_a_wrong_clock_warns(void **state)
{
    struct health_machine m = good_machine();
    struct health h;

    (void)state;
    m.clock_skew_usec = -(int64_t)(7 * SEC);
    health_of_machine(&m, &h);
    assert_int_equal(h.level, HEALTH_WARNING);
    assert_non_null(strstr(h.cause, "7 s slow"));

    const struct health_node n = {
        .spool_limit_bytes = 1000, .cause = "", .remedy = "", .clock_skew_usec = (int64_t)(7200 * SEC)};
    const struct health_vault v = {.accepting = true,
        .free_bytes = 900,
        .capacity_bytes = 1000,
        .cause = "",
        .remedy = "",
        .clock_skew_usec = -(int64_t)(6 * SEC)};
    health_of_node(&n, &h);
    assert_string_equal(h.code, "clock_skew");
    assert_string_equal(h.cause, "Its clock is 7200 s fast");
    assert_string_equal(h.remedy, "Let the node keep its clock by NTP.");
    health_of_vault(&v, &h);
    assert_string_equal(h.code, "clock_skew");
    assert_string_equal(h.cause, "Its clock is 6 s slow");
}

static void test_filling_spools_and_vaults_are_told(void **state)
{
    struct health_node n = {.spool_bytes = 850, .spool_limit_bytes = 1000, .cause = "", .remedy = ""};
    struct health_vault v = {.accepting = true, .free_bytes = 40, .capacity_bytes = 1000, .cause = "", .remedy = ""};
    struct health h;

    (void)state;
    health_of_node(&n, &h);
    assert_int_equal(h.level, HEALTH_WARNING);
    n.spool_bytes = 960;
    health_of_node(&n, &h);
    assert_int_equal(h.level, HEALTH_CRITICAL);
    health_of_vault(&v, &h);
    assert_int_equal(h.level, HEALTH_CRITICAL);
    v = (struct health_vault){.accepting = false, .cause = "The disk is full", .remedy = "Free space"};
    health_of_vault(&v, &h);
    assert_int_equal(h.level, HEALTH_CRITICAL);
    assert_string_equal(h.cause, "The disk is full");
    assert_string_equal(h.remedy, "Free space");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_row_of_the_table_moves_and_everything_else_is_refused),
        cmocka_unit_test(test_no_move_stands_twice_and_every_state_can_be_left_and_reached),
        cmocka_unit_test(test_names_of_states_go_both_ways),
        cmocka_unit_test(test_an_agent_moves_its_machine_only_while_it_replicates),
        cmocka_unit_test(test_the_default_policy_is_valid),
        cmocka_unit_test(test_policies_out_of_bounds_name_the_field),
        cmocka_unit_test(test_a_target_below_the_interval_is_refused),
        cmocka_unit_test(test_tiers_may_be_off),
        cmocka_unit_test(test_working_hours_are_read_as_people_write_them),
        cmocka_unit_test(test_a_steady_disk_needs_its_churn_and_a_bursty_one_less_than_its_peak),
        cmocka_unit_test(test_blocks_that_are_written_again_and_again_take_little_history),
        cmocka_unit_test(test_the_least_loaded_node_of_the_site_gets_the_machine),
        cmocka_unit_test(test_a_full_spool_comes_last),
        cmocka_unit_test(test_without_a_node_there_is_a_reason),
        cmocka_unit_test(test_equal_nodes_are_left_alone),
        cmocka_unit_test(test_the_machines_of_a_node_that_is_gone_spread_over_the_others_at_once),
        cmocka_unit_test(test_nobody_is_gone_before_the_nodes_could_report),
        cmocka_unit_test(test_with_no_other_node_everything_stays),
        cmocka_unit_test(test_a_drained_node_is_left_a_few_at_a_time_and_a_machine_that_moves_is_left_alone),
        cmocka_unit_test(test_a_pin_counts_while_its_node_can_be_used),
        cmocka_unit_test(test_a_machine_goes_home_when_its_site_has_a_node_again),
        cmocka_unit_test(test_a_node_that_came_gets_its_share_one_by_one_and_then_there_is_rest),
        cmocka_unit_test(test_a_hot_node_gives_a_machine_to_a_cool_one_and_does_not_get_it_back),
        cmocka_unit_test(test_a_machine_that_has_just_come_is_not_moved_for_balance),
        cmocka_unit_test(test_any_fleet_comes_to_rest),
        cmocka_unit_test(test_the_vault_of_another_site_with_most_room_is_taken),
        cmocka_unit_test(test_a_machine_within_its_target_is_healthy),
        cmocka_unit_test(test_rpo_above_target_warns_and_above_thrice_is_critical),
        cmocka_unit_test(test_a_source_whose_replica_runs_is_told_why_nothing_is_taken),
        cmocka_unit_test(test_the_cause_behind_a_missed_rpo_is_named_first),
        cmocka_unit_test(test_a_silent_agent_is_critical_when_protected_and_unknown_otherwise),
        cmocka_unit_test(test_the_least_late_sample_tells_the_skew),
        cmocka_unit_test(test_an_age_does_not_depend_on_the_clock_that_dated_it),
        cmocka_unit_test(test_times_that_no_clock_shows_stay_numbers),
        cmocka_unit_test(test_text_is_cut_between_characters),
        cmocka_unit_test(test_most_peers_tell_that_it_is_the_hubs_clock),
        cmocka_unit_test(test_a_wrong_clock_warns),
        cmocka_unit_test(test_filling_spools_and_vaults_are_told),
    };

    return cmocka_run_group_tests_name("hub_core", tests, NULL, NULL);
}
