/* SPDX-License-Identifier: Apache-2.0
 *
 * The words that openapi.json lists for translators are those that the hub's tables have: the console's tests hold its languages to that list.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "hub/api/openapi.h"
#include "hub/core/alert.h"
#include "hub/core/event_text.h"
#include "hub/core/health_text.h"
#include "hub/core/machine_state.h"
#include "hub/core/placement.h"
#include "hub/jobs/job_kind.h"
#include "transport/base/err.h"

/* Of "x-words"; the object lives as long as the document. */
static const json_t *words(const struct openapi *doc, const char *what)
{
    const json_t *list = json_object_get(json_object_get(openapi_root(doc), "x-words"), what);

    assert_true(json_is_object(list));
    return list;
}

static json_t *steps_of(const struct job_kind *kind)
{
    json_t *steps = json_object();

    for (const struct job_step *step = kind->steps; step->name; step++)
        assert_int_equal(json_object_set_new(steps, step->name, json_string(step->title)), 0);
    return steps;
}

static void kinds_of_jobs_and_their_steps_are_listed(void **state)
{
    struct err err = {0};
    struct openapi *doc AUTO_OF(openapi) = NULL;
    const struct job_kind *kind;
    size_t count = 0;

    (void)state;
    assert_int_equal(openapi_load(&doc, &err), 0);
    for (; (kind = job_kind_at(count)); count++) {
        json_t *steps = steps_of(kind);

        if (!json_equal(steps, json_object_get(words(doc, "jobs"), kind->name)))
            fail_msg("x-words.jobs.%s of openapi.json should be %s", kind->name, json_dumps(steps, 0));
        json_decref(steps);
    }
    assert_int_equal(json_object_size(words(doc, "jobs")), count);
}

/* A code with several texts has an object of them, by form. Takes the text. */
static void add_text(json_t *list, const char *code, const char *form, json_t *text)
{
    if (!form[0]) {
        assert_int_equal(json_object_set_new(list, code, text), 0);
        return;
    }
    if (!json_object_get(list, code))
        assert_int_equal(json_object_set_new(list, code, json_object()), 0);
    assert_int_equal(json_object_set_new(json_object_get(list, code), form, text), 0);
}

static void assert_listed(const struct openapi *doc, const char *what, const json_t *list)
{
    const char *code;
    json_t *text;

    json_object_foreach((json_t *)list, code, text)
    {
        if (!json_equal(text, json_object_get(words(doc, what), code)))
            fail_msg("x-words.%s.%s of openapi.json should be %s", what, code, json_dumps(text, 0));
    }
    assert_int_equal(json_object_size(words(doc, what)), json_object_size(list));
}

static void texts_of_findings_are_listed(void **state)
{
    struct err err = {0};
    struct openapi *doc AUTO_OF(openapi) = NULL;
    json_t *list = json_object();

    (void)state;
    assert_int_equal(openapi_load(&doc, &err), 0);
    for (size_t i = 0; i < health_text_count; i++) {
        const struct health_text *t = &health_texts[i];

        add_text(list, t->code, t->form, json_pack("{s:s, s:s}", "cause", t->cause, "remedy", t->remedy));
        assert_non_null(alert_rule_find(t->code));
    }
    assert_listed(doc, "findings", list);
    assert_int_equal(json_object_size(list), alert_rule_count);
    json_decref(list);
}

static void texts_of_events_are_listed(void **state)
{
    struct err err = {0};
    struct openapi *doc AUTO_OF(openapi) = NULL;
    json_t *list = json_object();

    (void)state;
    assert_int_equal(openapi_load(&doc, &err), 0);
    for (size_t i = 0; i < event_text_count; i++) {
        const struct event_text *t = &event_texts[i];

        add_text(list, t->code, t->form, json_pack("{s:s, s:s}", "text", t->text, "remedy", t->remedy));
    }
    assert_listed(doc, "events", list);
    json_decref(list);
}

static void words_that_values_may_be_are_listed(void **state)
{
    struct err err = {0};
    struct openapi *doc AUTO_OF(openapi) = NULL;
    json_t *moves = json_array(), *reasons = json_array();
    const json_t *listed;

    (void)state;
    assert_int_equal(openapi_load(&doc, &err), 0);
    listed = json_object_get(openapi_root(doc), "x-words");
    for (int m = 0; m < MOVE_COUNT; m++)
        assert_int_equal(json_array_append_new(moves, json_string(machine_move_name((enum machine_move)m))), 0);
    for (int r = 0; r <= PLACEMENT_BALANCE; r++)
        assert_int_equal(
            json_array_append_new(reasons, json_string(placement_reason_name((enum placement_reason)r))), 0);
    assert_int_equal(json_array_append_new(reasons, json_string("asked")), 0); /* by a person: move_steps.c */
    assert_true(json_equal(moves, json_object_get(listed, "moves")));
    assert_true(json_equal(reasons, json_object_get(listed, "reasons")));
    json_decref(moves);
    json_decref(reasons);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kinds_of_jobs_and_their_steps_are_listed),
        cmocka_unit_test(texts_of_findings_are_listed),
        cmocka_unit_test(texts_of_events_are_listed),
        cmocka_unit_test(words_that_values_may_be_are_listed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
