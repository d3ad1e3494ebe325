/* SPDX-License-Identifier: Apache-2.0
 *
 * Every text of the table is found by something, with a value for each of its places; and values come to their places.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "hub/core/health.h"
#include "hub/core/health_text.h"

#define SEC 1000000ULL
#define DAY (86400 * SEC)
#define TEXTS_MAX 64

static const struct text_value *value_of(const struct health *h, const char *name)
{
    for (const struct text_value *v = h->values; v->name; v++)
        if (strcmp(v->name, name) == 0)
            return v;
    return NULL;
}

static void assert_places_have_values(const struct health *h, const char *text)
{
    for (const char *at = strchr(text, '{'); at; at = strchr(at + 1, '{')) {
        char name[32];

        assert_int_equal(sscanf(at, "{%31[a-z_]}", name), 1);
        if (!value_of(h, name))
            fail_msg("%s has no value for {%s}", h->code, name);
    }
}

/* What was found has its text in the table, which is noted in `seen`. */
static void note(const struct health_findings *found, bool seen[TEXTS_MAX])
{
    for (size_t i = 0; i < found->count; i++) {
        const struct health *h = &found->list[i];
        const struct text_value *form = value_of(h, "form");
        const struct health_text *text = health_text_find(h->code, form ? form->text : "");

        if (!text)
            fail_msg("%s %s is in no table", h->code, form ? form->text : "");
        assert_places_have_values(h, text->cause);
        assert_places_have_values(h, text->remedy);
        seen[text - health_texts] = true;
    }
}

static struct health_machine good_machine(void)
{
    return (struct health_machine){.state = MACHINE_PROTECTED,
        .rpo_target_usec = 15 * SEC,
        .agent_state = "protected",
        .node_online = true,
        .vault_online = true,
        .vault_accepting = true};
}

static void find_in_machines(bool seen[TEXTS_MAX])
{
    struct health_machine list[] = {good_machine(), good_machine(), good_machine(), good_machine(), good_machine(),
        good_machine(), {.state = MACHINE_PROTECTED, .silent_usec = UINT64_MAX}};
    struct health_findings found;

    list[0].silent_usec = 3600 * SEC;
    list[0].rpo_usec = 16 * SEC;
    list[0].application_age_usec = list[0].filesystem_age_usec = DAY;
    list[0].application_interval_usec = list[0].filesystem_interval_usec = 60 * SEC;
    list[1].damage_count = 2;
    list[1].drill_overdue_usec = DAY;
    list[1].agent_cause = list[2].agent_cause = "no node";
    list[2].agent_state = "error";
    list[2].looks_encrypted = true;
    list[1].state = MACHINE_RESYNCHRONIZING;
    list[1].rpo_usec = DAY;
    list[3].state = MACHINE_FAILED_OVER;
    list[3].clock_skew_usec = (int64_t)DAY;
    list[4].state = MACHINE_COMMITTED;
    list[4].certificate_left_usec = -1;
    list[5].state = MACHINE_REVERSE_PROTECTED;
    list[5].clock_skew_usec = -(int64_t)DAY;
    list[5].certificate_left_usec = (int64_t)DAY;
    for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++) {
        health_find_machine(&list[i], NULL, &found);
        note(&found, seen);
    }
}

static void find_in_peers(bool seen[TEXTS_MAX])
{
    const struct health_node nodes[] = {{.silent_usec = DAY},
        {.silent_usec = UINT64_MAX, .spool_bytes = 9, .spool_limit_bytes = 10, .cause = "slow", .remedy = "wait"}};
    const struct health_vault vaults[] = {{.silent_usec = DAY, .free_bytes = 1, .capacity_bytes = 10},
        {.silent_usec = UINT64_MAX, .free_bytes = 9, .capacity_bytes = 10, .full_in_usec = DAY, .cause = "full"},
        {.accepting = true, .cause = "behind", .remedy = "look"}};
    const struct health_hub hubs[] = {{.clock_behind_usec = (int64_t)DAY}, {.clock_behind_usec = -(int64_t)DAY}};
    struct health_findings found;

    for (size_t i = 0; i < 2; i++) {
        health_find_node(&nodes[i], NULL, &found);
        note(&found, seen);
        health_find_hub(&hubs[i], NULL, &found);
        note(&found, seen);
    }
    for (size_t i = 0; i < 3; i++) {
        health_find_vault(&vaults[i], NULL, &found);
        note(&found, seen);
    }
}

static void find_in_groups(bool seen[TEXTS_MAX])
{
    struct health_findings found;
    struct health_group g = {.interval_usec = SEC,
        .members = 2,
        .age_usec = DAY,
        .list_age_usec = DAY,
        .absent = "web1",
        .culprit = "db1",
        .cause = "slow",
        .remedy = ""};

    for (g.absent_state = MACHINE_UNPROTECTED; g.absent_state < MACHINE_STATE_COUNT; g.absent_state++) {
        health_find_group(&g, NULL, &found);
        note(&found, seen);
    }
    g.absent = "";
    for (int i = 0; i < 4; i++) {
        g.missed = i > 0;
        g.remedy = i > 1 ? "be quick" : "";
        g.news_usec = i > 2 ? UINT64_MAX : 0;
        health_find_group(&g, NULL, &found);
        note(&found, seen);
    }
}

static void test_each_text_is_found_by_something(void **state)
{
    bool seen[TEXTS_MAX] = {false};

    (void)state;
    assert_true(health_text_count <= TEXTS_MAX);
    find_in_machines(seen);
    find_in_peers(seen);
    find_in_groups(seen);
    for (size_t i = 0; i < health_text_count; i++)
        if (!seen[i] && strcmp(health_texts[i].code, "job_failed") != 0) /* of alert_watch.c */
            fail_msg("nothing finds %s %s", health_texts[i].code, health_texts[i].form);
}

static void test_a_finding_has_its_values_beside_its_text(void **state)
{
    struct health_machine m = good_machine();
    struct health h;

    (void)state;
    m.rpo_usec = 3600 * SEC;
    health_of_machine(&m, &h);
    assert_string_equal(h.cause, "The RPO is 3600 s, its target 15 s");
    assert_int_equal(value_of(&h, "rpo_seconds")->number, 3600);
    assert_int_equal(value_of(&h, "target_seconds")->number, 15);
    m.rpo_usec = 0;
    m.agent_cause = "/dev/vdb {remedy} 漢字";
    m.agent_remedy = "give it {cause}";
    health_of_machine(&m, &h);
    assert_string_equal(h.cause, m.agent_cause); /* what somebody says is no text with places */
    assert_string_equal(h.remedy, m.agent_remedy);
    assert_string_equal(value_of(&h, "cause")->text, m.agent_cause);
}

static void test_a_text_without_values_and_one_that_is_unknown(void **state)
{
    struct health h;

    (void)state;
    health_say(&h, HEALTH_WARNING, "vault_refuses", TEXT_VALUES({0}));
    assert_string_equal(h.cause, "Its vault accepts no data");
    assert_null(h.values[0].name);
    health_say(&h, HEALTH_WARNING, "vault_full", TEXT_VALUES(VALUE_TEXT("form", "sideways")));
    assert_string_equal(h.cause, "vault_full");
    assert_string_equal(h.remedy, "");
}

static void test_texts_are_cut_between_characters(void **state)
{
    static const struct {
        const char *text, *value, *cut;
        size_t size;
    } rows[] = {
        {"a {x} b", "12", "a 12 b", 7}, {"a {x} b", "12", "a 12 ", 6}, {"a {x} b", "12", "", 1},
        {"{x}", "åäö", "åä", 6},                                 /* 2 bytes each */
        {"{x}", "漢字", "漢", 6},                                /* 3 bytes each */
        {"{x}{x}", "漢", "漢漢", 7}, {"{y}|{x", "1", "|{x", 20}, /* no value, no place */
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char text[32];

        text_value_fill(rows[i].text, TEXT_VALUES(VALUE_TEXT("x", rows[i].value)), text, rows[i].size);
        assert_string_equal(text, rows[i].cut);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_text_is_found_by_something),
        cmocka_unit_test(test_a_finding_has_its_values_beside_its_text),
        cmocka_unit_test(test_a_text_without_values_and_one_that_is_unknown),
        cmocka_unit_test(test_texts_are_cut_between_characters),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
