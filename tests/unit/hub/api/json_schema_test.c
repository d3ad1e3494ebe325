/* SPDX-License-Identifier: Apache-2.0
 *
 * The validator by itself: each keyword accepts what it should and names what it refuses.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "hub/api/json_schema.h"
#include "transport/base/mem.h"

static const char root_text[] =
    "{\"defs\":{\"name\":{\"type\":\"string\",\"minLength\":2},\"loop\":{\"$ref\":\"#/defs/loop\"},"
    "\"tree\":{\"type\":\"object\",\"properties\":{\"next\":{\"$ref\":\"#/defs/tree\"}},"
    "\"additionalProperties\":false}}}";

/* The code of the first fault, "" when the value is valid. Static memory. */
static const char *fault_of(const char *schema_text, const char *value_text, char pointer[64])
{
    static char code[64];
    json_t *root = json_loads(root_text, 0, NULL), *schema = json_loads(schema_text, 0, NULL);
    json_t *value = json_loads(value_text, JSON_DECODE_ANY, NULL), *errors = json_array();
    const json_t *fault;
    bool valid;

    assert_non_null(root);
    assert_non_null(schema);
    assert_non_null(value);
    valid = json_schema_valid(root, schema, value, "", errors);
    assert_true(valid == (json_array_size(errors) == 0));
    fault = json_array_get(errors, 0);
    (void)snprintf(code, sizeof(code), "%s", fault ? json_string_value(json_object_get(fault, "code")) : "");
    if (pointer)
        (void)snprintf(pointer, 64, "%s", fault ? json_string_value(json_object_get(fault, "pointer")) : "");
    json_decref(root);
    json_decref(schema);
    json_decref(value);
    json_decref(errors);
    return code;
}

static const struct row {
    const char *schema, *good, *bad, *code;
} rows[] = {
    {"{\"type\":\"string\"}", "\"a\"", "1", "type"},
    {"{\"type\":\"number\"}", "1", "\"1\"", "type"},
    {"{\"type\":\"integer\"}", "1", "1.5", "type"},
    {"{\"type\":[\"string\",\"null\"]}", "null", "false", "type"},
    {"{\"enum\":[\"a\",\"b\"]}", "\"b\"", "\"c\"", "enum"},
    {"{\"const\":\"all\"}", "\"all\"", "\"some\"", "const"},
    {"{\"required\":[\"a\"]}", "{\"a\":1}", "{}", "required"},
    {"{\"properties\":{\"a\":{\"type\":\"string\"}},\"additionalProperties\":false}", "{\"a\":\"\"}", "{\"b\":1}",
        "unknown_field"},
    {"{\"additionalProperties\":{\"type\":\"string\"}}", "{\"x\":\"\"}", "{\"x\":1}", "type"},
    {"{\"minProperties\":1}", "{\"a\":1}", "{}", "too_few"},
    {"{\"items\":{\"type\":\"string\"}}", "[\"a\"]", "[1]", "type"},
    {"{\"minItems\":1}", "[1]", "[]", "too_few"},
    {"{\"maxItems\":1}", "[1]", "[1,2]", "too_many"},
    {"{\"uniqueItems\":true}", "[1,2]", "[1,1]", "not_unique"},
    {"{\"minLength\":2}", "\"\\u00e5\\u00e4\"", "\"\\u00e5\"", "too_short"},
    {"{\"maxLength\":2}", "\"\\u00e5\\u00e4\"", "\"abc\"", "too_long"},
    {"{\"pattern\":\"^[a-z]+$\"}", "\"abc\"", "\"ab1\"", "pattern"},
    {"{\"format\":\"uuid\"}", "\"11111111-1111-4111-8111-111111111111\"", "\"11111111\"", "format"},
    {"{\"format\":\"date-time\"}", "\"2026-11-21T05:00:34Z\"", "\"yesterday\"", "format"},
    {"{\"format\":\"uint64\"}", "\"18446744073709551615\"", "\"-1\"", "format"},
    {"{\"minimum\":1}", "1", "0", "too_small"},
    {"{\"maximum\":1}", "1", "2", "too_large"},
    {"{\"anyOf\":[{\"type\":\"string\"},{\"type\":\"null\"}]}", "null", "1", "any_of"},
    {"{\"oneOf\":[{\"type\":\"integer\"},{\"type\":\"number\"}]}", "1.5", "1", "one_of"},
    {"{\"allOf\":[{\"type\":\"string\"},{\"minLength\":1}]}", "\"a\"", "\"\"", "too_short"},
    {"{\"$ref\":\"#/defs/name\"}", "\"ab\"", "\"a\"", "too_short"},
    {"{\"$ref\":\"#/defs/tree\"}", "{\"next\":{\"next\":{}}}", "{\"next\":{\"prev\":{}}}", "unknown_field"},
};

static void each_keyword_accepts_and_refuses(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (*fault_of(rows[i].schema, rows[i].good, NULL))
            fail_msg("%s refuses %s", rows[i].schema, rows[i].good);
        if (strcmp(fault_of(rows[i].schema, rows[i].bad, NULL), rows[i].code) != 0)
            fail_msg("%s does not refuse %s with %s", rows[i].schema, rows[i].bad, rows[i].code);
    }
}

static void a_fault_names_its_place(void **state)
{
    char pointer[64];

    (void)state;
    (void)fault_of("{\"properties\":{\"a/b\":{\"items\":{\"type\":\"string\"}}}}", "{\"a/b\":[\"x\",2]}", pointer);
    assert_string_equal(pointer, "/a~1b/1");
}

static void a_schema_that_leads_nowhere_is_a_fault_and_no_crash(void **state)
{
    (void)state;
    assert_string_equal(fault_of("{\"$ref\":\"#/defs/none\"}", "1", NULL), "schema");
    assert_string_equal(fault_of("{\"$ref\":\"#/defs/loop\"}", "1", NULL), "schema");
    assert_string_equal(fault_of("{\"$ref\":\"http://elsewhere/\"}", "1", NULL), "schema");
}

static void a_value_deeper_than_the_bound_is_refused(void **state)
{
    char text[1024] = "";
    size_t n = 0;

    (void)state;
    for (int i = 0; i < 90; i++)
        n += (size_t)snprintf(text + n, sizeof(text) - n, "{\"next\":");
    n += (size_t)snprintf(text + n, sizeof(text) - n, "{}");
    for (int i = 0; i < 90; i++)
        n += (size_t)snprintf(text + n, sizeof(text) - n, "}");
    assert_string_equal(fault_of("{\"$ref\":\"#/defs/tree\"}", text, NULL), "schema");
}

static void faults_are_bounded(void **state)
{
    json_t *schema = json_loads("{\"items\":{\"type\":\"string\"}}", 0, NULL), *value = json_array(),
           *errors = json_array();

    (void)state;
    for (int i = 0; i < 1000; i++)
        json_array_append_new(value, json_integer(i));
    assert_false(json_schema_valid(schema, schema, value, "", errors));
    assert_int_equal(json_array_size(errors), JSON_SCHEMA_ERRORS_MAX);
    json_decref(schema);
    json_decref(value);
    json_decref(errors);
}

static void an_unknown_keyword_is_found_at_any_depth(void **state)
{
    json_t *schema = json_loads("{\"properties\":{\"a\":{\"items\":{\"anyOf\":[{\"multipleOf\":2}]}}}}", 0, NULL);

    (void)state;
    assert_string_equal(json_schema_unknown_keyword(schema), "multipleOf");
    json_decref(schema);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_keyword_accepts_and_refuses),
        cmocka_unit_test(a_fault_names_its_place),
        cmocka_unit_test(a_schema_that_leads_nowhere_is_a_fault_and_no_crash),
        cmocka_unit_test(a_value_deeper_than_the_bound_is_refused),
        cmocka_unit_test(faults_are_bounded),
        cmocka_unit_test(an_unknown_keyword_is_found_at_any_depth),
    };

    return cmocka_run_group_tests_name("hub_json_schema", tests, NULL, NULL);
}
