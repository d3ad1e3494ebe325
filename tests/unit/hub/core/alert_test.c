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

static enum alert_change evaluate(
    const struct alert_rule *rule, struct alert_state *s, enum health_level level, uint64_t now)
{
    return alert_evaluate(rule, &alert_timing_default, s, &(const struct health){.level = level}, now);
}

/* Evaluates every five seconds from `from` up to `to`, with the same level; how often each change came. */
static void run(const struct alert_rule *rule, struct alert_state *s, enum health_level level, unsigned from,
    unsigned to, unsigned ret_changes[ALERT_FORGOTTEN + 1])
{
    for (unsigned sec = from; sec < to; sec += 5)
        ret_changes[evaluate(rule, s, level, BEGIN + sec * SEC)]++;
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
    assert_int_equal(evaluate(rule, &s, HEALTH_CRITICAL, BEGIN), ALERT_RAISED);
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
    assert_int_equal(evaluate(&plain, &s, HEALTH_HEALTHY, BEGIN), ALERT_UNCHANGED);
    assert_int_equal(evaluate(&plain, &s, HEALTH_WARNING, BEGIN + SEC), ALERT_BEGUN);
    assert_int_equal(s.level, HEALTH_WARNING);
    assert_true(s.since_usec == BEGIN + SEC);
}

/* As run(), for a finding. */
static void run_found(const struct health *found, struct alert_state *s, unsigned from, unsigned to,
    unsigned ret_changes[ALERT_FORGOTTEN + 1])
{
    for (unsigned sec = from; sec < to; sec += 5)
        ret_changes[alert_evaluate(&plain, &alert_timing_default, s, found, BEGIN + sec * SEC)]++;
}

static void test_what_another_alert_explains_is_not_told_twice_but_never_left_out(void **state)
{
    const struct health explained = {.level = HEALTH_WARNING, .explained = true}, alone = {.level = HEALTH_WARNING};
    struct alert_state s = {0};
    unsigned changes[ALERT_FORGOTTEN + 1] = {0};

    (void)state;
    run_found(&explained, &s, 0, 600, changes);
    assert_int_equal(s.phase, ALERT_NONE);
    run_found(&alone, &s, 600, 640, changes);
    run_found(&explained, &s, 640, 700, changes);
    assert_int_equal(changes[ALERT_FORGOTTEN], 1);
    run_found(&alone, &s, 700, 765, changes); /* with nothing to explain it any more it is told like any other */
    assert_int_equal(changes[ALERT_RAISED], 1);
    assert_int_equal(s.phase, ALERT_FIRING);
    run_found(&explained, &s, 765, 2000, changes); /* who was told of it is not told that it is over */
    assert_int_equal(s.phase, ALERT_FIRING);
    s.phase = ALERT_ACKNOWLEDGED;
    run_found(&explained, &s, 2000, 3000, changes);
    assert_int_equal(s.phase, ALERT_ACKNOWLEDGED);
    assert_int_equal(changes[ALERT_RAISED] + changes[ALERT_WORSENED], 1);
    run(&plain, &s, HEALTH_HEALTHY, 3000, 3125, changes);
    assert_int_equal(s.phase, ALERT_RESOLVED);
}

static void test_a_finding_with_patience_stands_that_much_longer(void **state)
{
    const struct health patient = {.level = HEALTH_WARNING, .patience_usec = 90 * SEC};
    struct alert_state s = {0};
    unsigned changes[ALERT_FORGOTTEN + 1] = {0};

    (void)state;
    run_found(&patient, &s, 0, 150, changes);
    assert_int_equal(s.phase, ALERT_PENDING);
    run_found(&patient, &s, 150, 155, changes);
    assert_int_equal(s.phase, ALERT_FIRING);
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

/* As a group's, by the same setting. */
static void test_a_kind_of_point_is_late_after_two_intervals_and_the_moment_of_the_settings(void **state)
{
    struct health_limits patient = health_limits_default;
    struct health_machine m = good_machine();
    struct health_findings found;

    (void)state;
    patient.silent_usec = 300 * SEC;
    m.application_interval_usec = m.filesystem_interval_usec = 60 * SEC;
    m.application_age_usec = m.filesystem_age_usec = 150 * SEC;
    health_find_machine(&m, NULL, &found);
    assert_int_equal(found.count, 0);
    m.application_age_usec = m.filesystem_age_usec = 151 * SEC;
    health_find_machine(&m, NULL, &found);
    assert_int_equal(found.count, 2);
    health_find_machine(&m, &patient, &found);
    assert_int_equal(found.count, 0);
    m.application_age_usec = 421 * SEC;
    health_find_machine(&m, &patient, &found);
    assert_true(found.count == 1 && is_among(&found, "no_app_point", HEALTH_WARNING));
}

static struct health_group late_group(void)
{
    return (struct health_group){.interval_usec = 60 * SEC,
        .members = 2,
        .age_usec = 151 * SEC,
        .list_age_usec = 86400 * SEC * 365,
        .absent = "",
        .absent_state = MACHINE_PROTECTED,
        .news_usec = 5 * SEC,
        .missed = true,
        .culprit = "db1",
        .cause = "connection refused",
        .remedy = ""};
}

static void test_a_group_is_late_after_two_intervals_and_only_if_it_should_make_points(void **state)
{
    static const struct {
        uint64_t interval_sec, age_sec;
        bool late;
    } rows[] = {{60, 150, false}, {60, 151, true}, {1, 32, false}, {1, 33, true}, {86400, 172830, false},
        {86400, 172831, true}, {0, 1000000, false}};
    struct health_group g = late_group();
    struct health_findings found;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        g.interval_usec = rows[i].interval_sec * SEC;
        g.age_usec = rows[i].age_sec * SEC;
        health_find_group(&g, NULL, &found);
        assert_int_equal(found.count, rows[i].late);
        assert_true(!rows[i].late || is_among(&found, "no_group_point", HEALTH_WARNING));
    }
    g = late_group();
    g.members = 1;
    health_find_group(&g, NULL, &found);
    assert_int_equal(found.count, 0);
    g = late_group();
    g.first_copy = true;
    health_find_group(&g, NULL, &found);
    assert_int_equal(found.count, 0);
    g = late_group();
    g.list_age_usec = 150 * SEC; /* or its interval */
    health_find_group(&g, NULL, &found);
    assert_int_equal(found.count, 0);
}

/* The try that follows when nothing is in its way any more comes within the interval, or ten minutes. */
static void test_a_group_waits_for_its_next_try_before_it_is_an_alert(void **state)
{
    struct health_group g = late_group();
    struct health_findings found;

    (void)state;
    health_find_group(&g, NULL, &found);
    assert_true(found.list[0].patience_usec == 90 * SEC);
    g.interval_usec = 86400 * SEC;
    g.age_usec = 3 * 86400 * SEC;
    health_find_group(&g, NULL, &found);
    assert_true(found.list[0].patience_usec == 630 * SEC);
}

/* Only of a member whose own points do not come either can another alert be the explanation. */
static void test_a_group_is_explained_by_a_member_without_any_points(void **state)
{
    struct health_group g = late_group();
    struct health_findings found;

    (void)state;
    g.told_age_usec = 150 * SEC;
    health_find_group(&g, NULL, &found);
    assert_false(found.list[0].explained);
    g.told_age_usec = 151 * SEC;
    health_find_group(&g, NULL, &found);
    assert_true(found.list[0].explained);
}

/* A disk of a member that is copied makes no group point, nor does another list of members: who was told that the group is late hears no end of it, and nobody else of a beginning. */
static void test_a_group_that_was_late_stays_so_until_there_is_a_point(void **state)
{
    struct health_group g = late_group();
    struct health_findings found;

    (void)state;
    g.first_copy = true;
    g.was_late = true;
    health_find_group(&g, NULL, &found);
    assert_true(is_among(&found, "no_group_point", HEALTH_WARNING));
    assert_true(found.list[0].explained);
    g.first_copy = false;
    health_find_group(&g, NULL, &found);
    assert_false(found.list[0].explained);
    g.list_age_usec = 150 * SEC;
    health_find_group(&g, NULL, &found);
    assert_true(is_among(&found, "no_group_point", HEALTH_WARNING));
    assert_true(found.list[0].explained);
    g.list_age_usec = 151 * SEC;
    health_find_group(&g, NULL, &found);
    assert_false(found.list[0].explained);
    g.first_copy = true;
    g.age_usec = 150 * SEC; /* there is one */
    health_find_group(&g, NULL, &found);
    assert_int_equal(found.count, 0);
}

/* What a told alert and one that waits make of it. */
static void test_an_alert_of_a_group_outlives_a_first_copy_if_it_was_told(void **state)
{
    struct alert_state told = {.phase = ALERT_FIRING, .level = HEALTH_WARNING, .checked_usec = 1000 * SEC};
    struct alert_state waits = {.phase = ALERT_PENDING, .level = HEALTH_WARNING, .checked_usec = 1000 * SEC};
    struct health_group g = late_group();
    struct health_findings found;

    (void)state;
    g.first_copy = true;
    g.was_late = true;
    for (uint64_t now = 1001; now < 2000; now += 5) {
        health_find_group(&g, NULL, &found);
        assert_int_equal(
            alert_evaluate(alert_rule_find("no_group_point"), &alert_timing_default, &told, &found.list[0], now * SEC),
            ALERT_UNCHANGED);
    }
    assert_int_equal(told.phase, ALERT_FIRING);
    assert_int_equal(
        alert_evaluate(alert_rule_find("no_group_point"), &alert_timing_default, &waits, &found.list[0], 1001 * SEC),
        ALERT_FORGOTTEN);
}

static void test_a_group_says_who_and_why(void **state)
{
    static const struct {
        const char *absent, *culprit, *cause, *remedy;
        enum machine_state state;
        uint64_t news_sec;
        bool missed;
        const char *says;
    } rows[] = {
        {"", "db1", "connection refused", "", MACHINE_PROTECTED, 5, true, "due every 60 s: db1: connection refused"},
        {"", "db1", "slow", "be quick", MACHINE_PROTECTED, 5, true, ": db1: slow"},
        {"", "db1", "slow", "be quick", MACHINE_PROTECTED, 151, true, "no member says why"}, /* it was said long ago */
        {"", "", "slow", "be quick", MACHINE_PROTECTED, 5, true, "no member says why"},      /* of whom that is */
        {"", "", "", "", MACHINE_PROTECTED, 5, false, "they are made, but not every part"},
        {"web1", "db1", "slow", "be quick", MACHINE_PROTECTED, 5, true, "web1 is not connected"},
        {"web1", "", "", "", MACHINE_UNPROTECTED, 5, true, "web1 is not protected"},
        {"web1", "", "", "", MACHINE_INITIAL_REPLICATION, 5, true, "a disk of web1 is copied"},
        {"web1", "", "", "", MACHINE_RESYNCHRONIZING, 5, true, "the disks of web1 are compared"},
        {"web1", "", "", "", MACHINE_REVERSE_PROTECTED, 5, true, "the replica of web1 runs"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct health_group g = late_group();
        struct health_findings found;

        g.absent = rows[i].absent;
        g.absent_state = rows[i].state;
        g.culprit = rows[i].culprit;
        g.cause = rows[i].cause;
        g.remedy = rows[i].remedy;
        g.missed = rows[i].missed;
        g.news_usec = rows[i].news_sec * SEC;
        health_find_group(&g, NULL, &found);
        assert_non_null(strstr(found.list[0].cause, "No group point for 151 s"));
        assert_non_null(strstr(found.list[0].cause, rows[i].says));
        assert_true(found.list[0].remedy[0]);
        assert_int_equal(strcmp(found.list[0].remedy, "be quick") == 0, strstr(rows[i].says, "slow") != NULL);
    }

    /* One that was made is followed by the next an interval later, one that was missed within ten minutes. */
    struct health_group daily = late_group();
    struct health_findings found;

    daily.interval_usec = 86400 * SEC;
    daily.age_usec = 3 * 86400 * SEC;
    daily.news_usec = 86400 * SEC;
    health_find_group(&daily, NULL, &found);
    assert_non_null(strstr(found.list[0].cause, "no member says why"));
    daily.missed = false;
    health_find_group(&daily, NULL, &found);
    assert_non_null(strstr(found.list[0].cause, "they are made"));
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
    struct health_group g = late_group();
    struct health_findings found;

    (void)state;
    g.age_usec = 126 * SEC;
    health_find_group(&g, NULL, &found);
    assert_int_equal(found.count, 0);
    g.age_usec = 125 * SEC;
    health_find_group(&g, &strict, &found);
    assert_int_equal(found.count, 0);
    g.age_usec = 126 * SEC;
    g.news_usec = 126 * SEC; /* and all that it is compared with */
    g.told_age_usec = 125 * SEC;
    health_find_group(&g, &strict, &found);
    assert_true(is_among(&found, "no_group_point", HEALTH_WARNING));
    assert_true(found.list[0].patience_usec == 65 * SEC);
    assert_false(found.list[0].explained);
    assert_non_null(strstr(found.list[0].cause, "no member says why"));
    g.told_age_usec = 126 * SEC;
    health_find_group(&g, &strict, &found);
    assert_true(found.list[0].explained);
    g.told_age_usec = 0;
    g.list_age_usec = 125 * SEC;
    health_find_group(&g, &strict, &found);
    assert_true(found.list[0].explained);
    g.list_age_usec = 126 * SEC;
    health_find_group(&g, &strict, &found);
    assert_false(found.list[0].explained);
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
        cmocka_unit_test(test_what_another_alert_explains_is_not_told_twice_but_never_left_out),
        cmocka_unit_test(test_a_finding_with_patience_stands_that_much_longer),
        cmocka_unit_test(test_a_kind_of_point_is_late_after_two_intervals_and_the_moment_of_the_settings),
        cmocka_unit_test(test_a_group_is_late_after_two_intervals_and_only_if_it_should_make_points),
        cmocka_unit_test(test_a_group_waits_for_its_next_try_before_it_is_an_alert),
        cmocka_unit_test(test_a_group_is_explained_by_a_member_without_any_points),
        cmocka_unit_test(test_a_group_that_was_late_stays_so_until_there_is_a_point),
        cmocka_unit_test(test_an_alert_of_a_group_outlives_a_first_copy_if_it_was_told),
        cmocka_unit_test(test_a_group_says_who_and_why),
        cmocka_unit_test(test_each_finding_of_a_machine_has_its_rule),
        cmocka_unit_test(test_limits_move_the_findings),
        cmocka_unit_test(test_rules_have_words_of_their_own),
    };

    return cmocka_run_group_tests_name("alert", tests, NULL, NULL);
}
