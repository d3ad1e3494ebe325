/* SPDX-License-Identifier: Apache-2.0
 *
 * YAML as JSON values and back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "hub/cli/yaml_json.h"
#include "transport/base/mem.h"

static json_t *parse(const char *text, struct err *err)
{
    json_t *value = NULL;

    return yaml_json_parse(text, strlen(text), &value, err) == 0 ? value : NULL;
}

static void plain_values_are_what_the_core_schema_says(void **state)
{
    static const char *const rows[][2] = {
        {"a: 7", "{\"a\":7}"},
        {"a: -12", "{\"a\":-12}"},
        {"a: 1.5", "{\"a\":1.5}"},
        {"a: true", "{\"a\":true}"},
        {"a: ~", "{\"a\":null}"},
        {"a:", "{\"a\":null}"},
        {"a: yes", "{\"a\":\"yes\"}"},
        {"a: '7'", "{\"a\":\"7\"}"},
        {"a: \"true\"", "{\"a\":\"true\"}"},
        {"a: 1.2.3.4", "{\"a\":\"1.2.3.4\"}"},
        {"a: 08:30", "{\"a\":\"08:30\"}"},
        {"- e\n- .\n- inf", "[\"e\",\".\",\"inf\"]"},
        {"a: |\n  two\n  lines\n", "{\"a\":\"two\\nlines\\n\"}"},
        {"{a: [1, {b: c}]}", "{\"a\":[1,{\"b\":\"c\"}]}"},
        {"{\"a\": [1, 2]}", "{\"a\":[1,2]}"},
        {"# only a comment before\na: b # and after", "{\"a\":\"b\"}"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct err err = ERR_INIT;
        json_t *value = parse(rows[i][0], &err);
        AUTO_FREE char *text = value ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;

        json_decref(value);
        if (!text || strcmp(text, rows[i][1]) != 0)
            fail_msg("%s\nis %s (%s)", rows[i][0], text ? text : "refused", err.text);
    }
}

static void what_is_not_for_files_of_people_is_refused_with_its_line(void **state)
{
    static const char *const rows[][2] = {
        {"", "line 1"},
        {"a: [1", "line"},
        {"a: b\n c: d", "line 2"},
        {"a: 1\na: 2", "line 2"},
        {"a: &x 1\nb: *x", "anchors"},
        {"a: !!binary aGk=", "tags"},
        {"? [a]\n: b", "key"},
        {"a: 1\n---\nb: 2", "second document"},
        {"a: \"\\0\"", "zero"},
        {"a: \xff\xfe", "line"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct err err = ERR_INIT;
        json_t *value = parse(rows[i][0], &err);

        if (value)
            fail_msg("not refused: %s", rows[i][0]);
        assert_int_equal(err.code, ERR_INVALID);
        if (!strstr(err.text, rows[i][1]))
            fail_msg("%s\nwas refused with: %s", rows[i][0], err.text);
    }
}

static void depth_has_a_bound(void **state)
{
    char text[4001];
    struct err err = ERR_INIT;

    (void)state;
    memset(text, '[', 4000);
    text[4000] = '\0';
    assert_null(parse(text, &err));
    assert_non_null(strstr(err.text, "deep"));
}

static void what_is_written_reads_back_to_the_same(void **state)
{
    static const char source[] =
        "{\"name\":\"shop\",\"t\":[\"true\",\"7\",\"~\",\"\",\"null\",\"yes\",\" a \",\"a: b\",\"- "
        "x\",\"#\",\"\\u00e5\\u4e2d\","
        "\"two\\nlines\",\"1e3\",\"*a\",\"&b\",\"!c\",\"%d\",\"@e\"],\"n\":[1,-2,0.25,true,false,null,[],{},[[1],[2]]],"
        "\"m\":{\"x\":{\"y\":[{\"z\":1},{\"z\":\"2\"}]}}}";
    json_t *value = json_loads(source, 0, NULL), *again;
    char *text = NULL;
    size_t size = 0;
    struct err err = ERR_INIT;
    FILE *out = open_memstream(&text, &size);

    (void)state;
    assert_int_equal(yaml_json_write(value, out, &err), 0);
    fclose(out);
    again = parse(text, &err);
    if (!json_equal(value, again))
        fail_msg("%s\n%s", text, err.text);
    json_decref(value);
    json_decref(again);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_values_are_what_the_core_schema_says),
        cmocka_unit_test(what_is_not_for_files_of_people_is_refused_with_its_line),
        cmocka_unit_test(depth_has_a_bound),
        cmocka_unit_test(what_is_written_reads_back_to_the_same),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
