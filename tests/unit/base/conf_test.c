/* SPDX-License-Identifier: Apache-2.0
 *
 * Configuration: the order of force, every type, ranges, secrets, unknown keys, garbage, and any allocation failing.
 */
#include "tests/unit/base/unit.h"

#include "transport/base/conf.h"
#include "transport/base/mem.h"

struct sample {
    char *hub, *token, *key;
    bool json;
    uint64_t count, spool_bytes, interval_usec;
};

static const struct conf_row rows[] = {
    {"hub", CONF_STRING, CONF_OFFSET(struct sample, hub), "localhost:9442", .max = 20, .help = "Where the hub is"},
    {"token", CONF_STRING, CONF_OFFSET(struct sample, token), NULL, .secret = true, .help = "Enrolment token"},
    {"key", CONF_STRING, CONF_OFFSET(struct sample, key), NULL, .secret = true, .no_argument = true, .help = "A key"},
    {"log-json", CONF_BOOL, CONF_OFFSET(struct sample, json), NULL, .help = "JSON lines"},
    {"count", CONF_UINT, CONF_OFFSET(struct sample, count), "3", 1, 100, .help = "A number"},
    {"spool-bytes", CONF_BYTES, CONF_OFFSET(struct sample, spool_bytes), "64M", .help = "Size of the spool"},
    {"interval", CONF_USEC, CONF_OFFSET(struct sample, interval_usec), "1s", 100000, 0, .help = "Between points"},
};

/* Loads with up to three arguments. */
static int load(struct sample *s, struct err *err, const char *a, const char *b, const char *c)
{
    char *argv[] = {(char *)"sample", (char *)a, (char *)b, (char *)c, NULL};
    int argc = 1;

    *s = (struct sample){0};
    while (argv[argc])
        argc++;
    return conf_load(rows, ARRAY_LEN(rows), "sample", "A sample", argc, argv, s, err);
}

static void done(struct sample *s)
{
    conf_done(rows, ARRAY_LEN(rows), s);
}

static void defaults_fill_what_nobody_set(void **state)
{
    struct sample s;

    (void)state;
    assert_int_equal(load(&s, NULL, NULL, NULL, NULL), 0);
    assert_string_equal(s.hub, "localhost:9442");
    assert_string_equal(s.token, "");
    assert_false(s.json);
    assert_int_equal(s.count, 3);
    assert_int_equal(s.spool_bytes, 64 << 20);
    assert_int_equal(s.interval_usec, 1000000);
    done(&s);
}

static char *write_file(void **state, const char *content)
{
    char *path = mem_printf("%s/sample.conf", (const char *)*state);

    assert_int_equal(file_replace(path, content, strlen(content), 0600, NULL), 0);
    return path;
}

static void command_line_beats_environment_beats_file(void **state)
{
    AUTO_FREE char *path = write_file(state, "# a comment\n"
                                             "hub = \"from-file:1\"\n"
                                             "count = 7\nspool-bytes = 2G\ninterval = 500ms\nlog-json = true\n");
    struct sample s;
    struct err err = ERR_INIT;

    assert_int_equal(load(&s, &err, "--config", path, NULL), 0);
    assert_string_equal(s.hub, "from-file:1");
    assert_int_equal(s.count, 7);
    assert_true(s.spool_bytes == 2ULL << 30);
    assert_int_equal(s.interval_usec, 500000);
    assert_true(s.json);
    done(&s);
    setenv("LEEWARD_SPOOL_BYTES", "3K", 1);
    setenv("LEEWARD_COUNT", "8", 1);
    AUTO_FREE char *config = mem_printf("--config=%s", path);
    assert_int_equal(load(&s, &err, "--count=9", config, "--log-json=false"), 0);
    assert_int_equal(s.count, 9);
    assert_int_equal(s.spool_bytes, 3072);
    assert_false(s.json);
    assert_string_equal(s.hub, "from-file:1");
    done(&s);
    unsetenv("LEEWARD_SPOOL_BYTES");
    unsetenv("LEEWARD_COUNT");
}

static void unknown_key_in_a_file_is_an_error_with_its_line(void **state)
{
    AUTO_FREE char *path = write_file(state, "count = 1\ncuont = 2\n");
    struct sample s;
    struct err err = ERR_INIT;

    assert_int_equal(load(&s, &err, "--config", path, NULL), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_non_null(strstr(err.text, "cuont"));
    assert_non_null(strstr(err.text, "line 2"));
    assert_true(strlen(err.correction) > 0);
    assert_null(s.hub);
}

static void garbage_in_a_file_is_an_error(void **state)
{
    static const char *const garbage[] = {
        "count",
        "count = ",
        "= 5",
        "count = {1, 2}",
        "hub = \"never ends",
        "\x01\x02\xff\xfe",
        "section { count = 5 }",
        "hub = aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "count = 18446744073709551616",
        "include(\"/nonexistent\")",
    };
    struct sample s;

    for (size_t i = 0; i < ARRAY_LEN(garbage); i++) {
        AUTO_FREE char *path = write_file(state, garbage[i]);
        struct err err = ERR_INIT;
        assert_int_equal(load(&s, &err, "--config", path, NULL), -1);
        assert_int_equal(err.code, ERR_INVALID);
        assert_true(strlen(err.text) > 0);
    }
}

static void missing_file_is_named(void **state)
{
    struct sample s;
    struct err err = ERR_INIT;

    (void)state;
    assert_int_equal(load(&s, &err, "--config=/nonexistent/leeward.conf", NULL, NULL), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_non_null(strstr(err.text, "/nonexistent/leeward.conf"));
}

static void wrong_arguments_are_refused(void **state)
{
    static const char *const wrong[] = {"--nonsense=1", "count", "-c", "--", "--count", "--count=0", "--count=101",
        "--count=-1", "--count=1x", "--count=", "--spool-bytes=1Q", "--spool-bytes=99999999T", "--interval=1ms",
        "--interval=soon", "--log-json=perhaps", "--hub-file=x", "--hub=aaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "--config"};
    struct sample s;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        struct err err = ERR_INIT;
        assert_int_equal(load(&s, &err, wrong[i], NULL, NULL), -1);
        assert_int_equal(err.code, ERR_INVALID);
        assert_null(s.hub);
    }
}

static void bounds_are_told_as_one_would_write_them(void **state)
{
    static const struct {
        const char *argument, *correction;
    } rows_of[] = {{"--interval=1ms", "It must be 100ms at least."}, {"--count=101", "It may be from 1 to 100."},
        {"--rest=5s", "It may be from 0s to 2s."}, {"--age=1m", "It may be from 90s to 2d."}};
    static const struct conf_row more[] = {
        {"interval", CONF_USEC, CONF_OFFSET(struct sample, interval_usec), "1s", 100000, 0, .help = "Between points"},
        {"count", CONF_UINT, CONF_OFFSET(struct sample, count), "3", 1, 100, .help = "A number"},
        {"rest", CONF_USEC, CONF_OFFSET(struct sample, interval_usec), "1s", 0, 2000000, .help = "A rest"},
        {"age", CONF_USEC, CONF_OFFSET(struct sample, interval_usec), "2h", 90000000, 172800000000, .help = "An age"}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows_of); i++) {
        char *argv[] = {(char *)"sample", (char *)rows_of[i].argument, NULL};
        struct sample s = {0};
        struct err err = ERR_INIT;

        assert_int_equal(conf_load(more, ARRAY_LEN(more), "sample", "A sample", 2, argv, &s, &err), -1);
        assert_string_equal(err.correction, rows_of[i].correction);
    }
}

static void units_are_understood(void **state)
{
    struct sample s;

    (void)state;
    assert_int_equal(load(&s, NULL, "--spool-bytes=5", "--interval", "2h"), 0);
    assert_int_equal(s.spool_bytes, 5);
    assert_true(s.interval_usec == 7200000000ULL);
    done(&s);
    assert_int_equal(load(&s, NULL, "--spool-bytes=1TiB", "--log-json", NULL), 0);
    assert_true(s.spool_bytes == 1ULL << 40);
    assert_true(s.json);
    done(&s);
}

static void secret_comes_from_a_file_without_its_line_break(void **state)
{
    AUTO_FREE char *path = write_file(state, "lwe_secret\n");
    struct sample s;

    assert_int_equal(load(&s, NULL, "--token-file", path, NULL), 0);
    assert_string_equal(s.token, "lwe_secret");
    done(&s);
}

static void secret_that_a_command_line_would_show_is_refused_there(void **state)
{
    AUTO_FREE char *path = write_file(state, "very-secret\n");
    struct sample s;
    struct err err = ERR_INIT;

    assert_int_equal(load(&s, &err, "--key", "very-secret", NULL), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_null(strstr(err.text, "very-secret"));
    assert_non_null(strstr(err.correction, "--key-file"));
    assert_int_equal(load(&s, &err, "--key-file", path, NULL), 0);
    assert_string_equal(s.key, "very-secret");
    done(&s);
}

static void secret_is_in_no_message(void **state)
{
    char secret[5000];
    struct sample s;
    struct err err = ERR_INIT;

    (void)state;
    memset(secret, 'S', sizeof(secret) - 1);
    secret[sizeof(secret) - 1] = '\0';
    assert_int_equal(load(&s, &err, "--token", secret, NULL), -1);
    assert_null(strstr(err.text, "SSS"));
}

static void required_key_must_be_set(void **state)
{
    static const struct conf_row needs[] = {
        {"data", CONF_STRING, 0, NULL, .required = true, .help = "Where the data is"},
    };
    char *argv[] = {(char *)"sample", NULL};
    char *data = NULL;
    struct err err = ERR_INIT;

    (void)state;
    assert_int_equal(conf_load(needs, 1, "sample", "A sample", 1, argv, &data, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_non_null(strstr(err.correction, "--data"));
    assert_null(data);
}

static void every_allocation_may_fail(void **state)
{
    AUTO_FREE char *path = write_file(state, "count = 7\nhub = x\n");
    bool failed = true;

    for (long n = 1; failed; n++) {
        struct sample s;
        struct err err = ERR_INIT;
        mem_fail_at(n);
        failed = load(&s, &err, "--config", path, "--token=t") < 0;
        mem_fail_at(0);
        assert_int_equal(err.code, failed ? ERR_NOMEM : ERR_NONE);
        assert_true(failed == (s.hub == NULL));
        done(&s);
        assert_true(n < 200);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_fill_what_nobody_set),
        cmocka_unit_test(command_line_beats_environment_beats_file),
        cmocka_unit_test(unknown_key_in_a_file_is_an_error_with_its_line),
        cmocka_unit_test(garbage_in_a_file_is_an_error),
        cmocka_unit_test(missing_file_is_named),
        cmocka_unit_test(wrong_arguments_are_refused),
        cmocka_unit_test(bounds_are_told_as_one_would_write_them),
        cmocka_unit_test(units_are_understood),
        cmocka_unit_test(secret_comes_from_a_file_without_its_line_break),
        cmocka_unit_test(secret_that_a_command_line_would_show_is_refused_there),
        cmocka_unit_test(secret_is_in_no_message),
        cmocka_unit_test(required_key_must_be_set),
        cmocka_unit_test(every_allocation_may_fail),
    };

    return cmocka_run_group_tests(tests, unit_temp_new, unit_temp_done);
}
