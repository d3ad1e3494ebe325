/* SPDX-License-Identifier: Apache-2.0
 *
 * The life of an alert, walked through second by second: what lasts is raised, what is gone for a while is cleared, what flickers does
 * neither. And the findings that alerts are made of.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "hub/core/alert.h"
#include "transport/base/mem.h"

#define SEC 1000000ULL
#define BEGIN (1000 * SEC)

static const struct alert_rule plain = {.code = "rpo_not_met", .title = "t"};

/* Evaluates every five seconds from `from` up to `to`, with the same level; how often each change came. */
static void run(const struct alert_rule *rule, struct alert_state *s, enum health_level level, unsigned from,
    unsigned to, unsigned ret_changes[ALERT_FORGOTTEN + 1])
{
    for (unsigned sec = from; sec < to; sec += 5)
        ret_changes[alert_evaluate(rule, &alert_timing_default, s, level, BEGIN + sec * SEC)]++;
}

static void test_what_lasts_is_raised_once_and_cleared_once(void **state)
{
    struct alert_state s = {0};
    unsigned changes[ALERT_FORGOTTEN + 1] = {0};

    (void)state;
    run(&plain, &s, HEALTH_WARNING, 0, 60, changes);
    assert_int_equal(s.phase, ALERT_PENDING);
    assert_int_equal(changes[ALERT_RAISED], 0);
    run(&plain, &s, HEALTH_WARNING, 60, 600, changes);
    assert_int_equal(s.phase, ALERT_FIRING);
    assert_int_equal(changes[ALERT_BEGUN], 1);
    assert_int_equal(changes[ALERT_RAISED], 1);
    assert_true(s.since_usec == BEGIN);
    run(&plain, &s, HEALTH_HEALTHY, 600, 720, changes);
    assert_int_equal(s.phase, ALERT_FIRING);
    run(&plain, &s, HEALTH_HEALTHY, 720, 800, changes);
    assert_int_equal(s.phase, ALERT_RESOLVED);
    assert_int_equal(changes[ALERT_CLEARED], 1);
}

static void test_what_flickers_neither_raises_nor_clears(void **state)
{
    struct alert_state s = {0};
    unsigned changes[ALERT_FORGOTTEN + 1] = {0};

    (void)state;
    for (unsigned at = 0; at < 1200; at += 60) { /* half a minute bad, half a minute good */
        run(&plain, &s, HEALTH_CRITICAL, at, at + 30, changes);
        run(&plain, &s, HEALTH_HEALTHY, at + 30, at + 60, changes);
    }
    assert_int_equal(changes[ALERT_RAISED], 0);
    assert_int_equal(changes[ALERT_FORGOTTEN], 20);
    run(&plain, &s, HEALTH_CRITICAL, 1200, 1300, changes);
    assert_int_equal(changes[ALERT_RAISED], 1);
    for (unsigned at = 1300; at < 2500; at += 60) {
        run(&plain, &s, HEALTH_HEALTHY, at, at + 30, changes);
        run(&plain, &s, HEALTH_CRITICAL, at + 30, at + 60, changes);
    }
    assert_int_equal(s.phase, ALERT_FIRING);
    assert_int_equal(changes[ALERT_CLEARED], 0);
    assert_int_equal(changes[ALERT_RAISED], 1);
}

static void test_worse_is_told_again_even_if_acknowledged_and_milder_is_not(void **state)
{
    struct alert_state s = {0};
    unsigned changes[ALERT_FORGOTTEN + 1] = {0};

    (void)state;
    run(&plain, &s, HEALTH_WARNING, 0, 100, changes);
    s.phase = ALERT_ACKNOWLEDGED;
    run(&plain, &s, HEALTH_WARNING, 100, 200, changes);
    assert_int_equal(s.phase, ALERT_ACKNOWLEDGED);
    run(&plain, &s, HEALTH_CRITICAL, 200, 300, changes);
    assert_int_equal(changes[ALERT_WORSENED], 1);
    assert_int_equal(s.phase, ALERT_FIRING);
    for (unsigned at = 300; at < 900; at += 60) { /* between two levels: critical all the time */
        run(&plain, &s, HEALTH_WARNING, at, at + 30, changes);
        run(&plain, &s, HEALTH_CRITICAL, at + 30, at + 60, changes);
    }
    assert_int_equal(changes[ALERT_WORSENED], 1);
    run(&plain, &s, HEALTH_WARNING, 900, 1100, changes);
    assert_int_equal(changes[ALERT_EASED], 1);
    assert_int_equal(s.level, HEALTH_WARNING);
    assert_int_equal(changes[ALERT_RAISED], 1);
}

static void test_what_costs_data_is_raised_at_once_and_ransomware_stays_until_somebody_looked(void **state)
{
    const struct alert_rule *rule = alert_rule_find("looks_encrypted");
    struct alert_state s = {0};
    unsigned changes[ALERT_FORGOTTEN + 1] = {0};

    (void)state;
    assert_int_equal(alert_evaluate(rule, &alert_timing_default, &s, HEALTH_CRITICAL, BEGIN), ALERT_RAISED);
    run(rule, &s, HEALTH_HEALTHY, 5, 4000, changes);
    assert_int_equal(s.phase, ALERT_FIRING);
    s.phase = ALERT_ACKNOWLEDGED;
    run(rule, &s, HEALTH_HEALTHY, 4000, 4010, changes);
    assert_int_equal(s.phase, ALERT_RESOLVED);
}

static void test_time_in_which_no_hub_looked_counts_for_nothing(void **state)
{
    struct alert_state s = {0};
    unsigned changes[ALERT_FORGOTTEN + 1] = {0};

    (void)state;
    run(&plain, &s, HEALTH_WARNING, 0, 10, changes);
    run(&plain, &s, HEALTH_WARNING, 3600, 3655, changes); /* an hour later */
    assert_int_equal(changes[ALERT_RAISED], 0);
    run(&plain, &s, HEALTH_WARNING, 3655, 3665, changes);
    assert_int_equal(changes[ALERT_RAISED], 1);
    run(&plain, &s, HEALTH_HEALTHY, 3665, 3670, changes);
    run(&plain, &s, HEALTH_HEALTHY, 9000, 9100, changes);
    assert_int_equal(changes[ALERT_CLEARED], 0);
}

static void test_a_resolved_one_begins_anew(void **state)
{
    struct alert_state s = {.phase = ALERT_RESOLVED, .level = HEALTH_CRITICAL, .since_usec = 1, .checked_usec = BEGIN};

    (void)state;
    assert_int_equal(alert_evaluate(&plain, &alert_timing_default, &s, HEALTH_HEALTHY, BEGIN), ALERT_UNCHANGED);
    assert_int_equal(alert_evaluate(&plain, &alert_timing_default, &s, HEALTH_WARNING, BEGIN + SEC), ALERT_BEGUN);
    assert_int_equal(s.level, HEALTH_WARNING);
    assert_true(s.since_usec == BEGIN + SEC);
}

/* ---- findings ---- */

static struct health_machine good_machine(void)
{
    return (struct health_machine){.state = MACHINE_PROTECTED,
        .rpo_usec = SEC,
        .rpo_target_usec = 15 * SEC,
        .agent_state = "protected",
        .node_online = true,
        .vault_online = true,
        .vault_accepting = true,
        .certificate_left_usec = (int64_t)(80 * 86400 * SEC)};
}

static bool is_among(const struct health_findings *found, const char *code, enum health_level level)
{
    for (size_t i = 0; i < found->count; i++)
        if (strcmp(found->list[i].code, code) == 0)
            return found->list[i].level == level && found->list[i].cause[0] && found->list[i].remedy[0];
    return false;
}

static void test_each_finding_of_a_machine_has_its_rule(void **state)
{
    struct health_machine m = good_machine();
    struct health_findings found;

    (void)state;
    health_find_machine(&m, NULL, &found);
    assert_int_equal(found.count, 0);
    m = (struct health_machine){.state = MACHINE_PROTECTED,
        .silent_usec = 60 * SEC,
        .rpo_usec = 100 * SEC,
        .rpo_target_usec = 15 * SEC,
        .application_age_usec = 1000 * SEC,
        .application_interval_usec = 60 * SEC,
        .filesystem_age_usec = 1000 * SEC,
        .filesystem_interval_usec = 60 * SEC,
        .clock_skew_usec = (int64_t)(60 * SEC),
        .agent_state = "error",
        .agent_cause = "no disk",
        .agent_remedy = "give it one",
        .damage_count = 3,
        .damaged_points = 5,
        .looks_encrypted = true,
        .certificate_left_usec = -1};
    health_find_machine(&m, NULL, &found);
    assert_int_equal(found.count, 12);
    for (size_t i = 0; i < found.count; i++) {
        assert_non_null(alert_rule_find(found.list[i].code));
        assert_true(found.list[i].cause[0] && found.list[i].remedy[0]);
    }
    assert_true(is_among(&found, "integrity_damaged", HEALTH_CRITICAL));
    assert_true(is_among(&found, "looks_encrypted", HEALTH_CRITICAL));
    assert_true(is_among(&found, "certificate_expiry", HEALTH_CRITICAL));
    assert_true(is_among(&found, "no_app_point", HEALTH_WARNING));
}

static void test_limits_move_the_findings(void **state)
{
    const struct health_limits strict = {.silent_usec = 5 * SEC,
        .clock_skew_usec = SEC,
        .full_warning_percent = 50,
        .full_critical_percent = 60,
        .forecast_usec = 30 * 86400 * SEC,
        .certificate_usec = 90 * 86400 * SEC};
    const struct health_node n = {.spool_bytes = 65, .spool_limit_bytes = 100};
    const struct health_vault v = {
        .accepting = true, .free_bytes = 90, .capacity_bytes = 100, .full_in_usec = 20 * 86400 * SEC};
    struct health_machine m = good_machine();
    struct health_findings found;

    (void)state;
    m.silent_usec = 6 * SEC;
    m.clock_skew_usec = -(int64_t)(2 * SEC);
    health_find_machine(&m, NULL, &found);
    assert_int_equal(found.count, 0);
    health_find_machine(&m, &strict, &found);
    assert_true(is_among(&found, "agent_silent", HEALTH_CRITICAL));
    assert_true(is_among(&found, "clock_skew", HEALTH_WARNING));
    assert_true(is_among(&found, "certificate_expiry", HEALTH_WARNING));
    health_find_node(&n, NULL, &found);
    assert_int_equal(found.count, 0);
    health_find_node(&n, &strict, &found);
    assert_true(is_among(&found, "spool_filling", HEALTH_CRITICAL));
    health_find_vault(&v, NULL, &found);
    assert_int_equal(found.count, 0);
    health_find_vault(&v, &strict, &found);
    assert_true(is_among(&found, "vault_filling", HEALTH_WARNING));
}

static void test_rules_have_words_of_their_own(void **state)
{
    (void)state;
    for (size_t i = 0; i < alert_rule_count; i++) {
        assert_true(strlen(alert_rules[i].title) > 8);
        assert_ptr_equal(alert_rule_find(alert_rules[i].code), &alert_rules[i]);
    }
    for (enum alert_phase p = ALERT_NONE; p <= ALERT_RESOLVED; p++)
        assert_int_equal(alert_phase_from_name(alert_phase_name(p)), p);
    assert_null(alert_rule_find("nonsense"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_lasts_is_raised_once_and_cleared_once),
        cmocka_unit_test(test_what_flickers_neither_raises_nor_clears),
        cmocka_unit_test(test_worse_is_told_again_even_if_acknowledged_and_milder_is_not),
        cmocka_unit_test(test_what_costs_data_is_raised_at_once_and_ransomware_stays_until_somebody_looked),
        cmocka_unit_test(test_time_in_which_no_hub_looked_counts_for_nothing),
        cmocka_unit_test(test_a_resolved_one_begins_anew),
        cmocka_unit_test(test_each_finding_of_a_machine_has_its_rule),
        cmocka_unit_test(test_limits_move_the_findings),
        cmocka_unit_test(test_rules_have_words_of_their_own),
    };

    return cmocka_run_group_tests_name("alert", tests, NULL, NULL);
}
