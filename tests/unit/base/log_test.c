/* SPDX-License-Identifier: Apache-2.0
 *
 * Log lines, read back from standard error through a pipe.
 */
#include "tests/unit/base/unit.h"

#include <fcntl.h>
#include <math.h>
#include <unistd.h>

#include "transport/base/log.h"
#include "transport/base/mem.h"

static char line[8192];
static int pipe_fds[2], saved_stderr;

static void capture_begin(void)
{
    assert_int_equal(pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK), 0);
    saved_stderr = dup(STDERR_FILENO);
    dup2(pipe_fds[1], STDERR_FILENO);
}

static void capture_end(void)
{
    ssize_t n = read(pipe_fds[0], line, sizeof(line) - 1);

    dup2(saved_stderr, STDERR_FILENO);
    close(saved_stderr);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
    line[n > 0 ? n : 0] = '\0';
}

#define CAPTURE(...)                                                                                                   \
    do {                                                                                                               \
        capture_begin();                                                                                               \
        log_event(__VA_ARGS__);                                                                                        \
        capture_end();                                                                                                 \
    } while (0)

static void line_has_time_level_event_and_fields(void **state)
{
    (void)state;
    log_set_json(false);
    CAPTURE(LOG_INFO, "ready", LOG_S("addr", "1.2.3.4:5"), LOG_U("n", 7), LOG_I("d", -7), LOG_B("b", true),
        LOG_F("f", 1.5));
    assert_non_null(strstr(line, "Z info ready addr=1.2.3.4:5 n=7 d=-7 b=true f=1.5\n"));
    CAPTURE(LOG_WARN, "alone");
    assert_non_null(strstr(line, " warn alone\n"));
}

static void values_are_quoted_and_escaped(void **state)
{
    (void)state;
    CAPTURE(LOG_INFO, "x", LOG_S("a", "two words"), LOG_S("b", "q\"\\"), LOG_S("c", "l\nm\x1b[31m"), LOG_S("d", ""),
        LOG_S("e", NULL));
    assert_non_null(strstr(line, "a=\"two words\" b=\"q\\\"\\\\\" c=\"l\\nm\\u001b[31m\" d=\"\" e=\"\"\n"));
}

static void json_line_is_json(void **state)
{
    (void)state;
    log_set_json(true);
    CAPTURE(LOG_ERROR, "x", LOG_S("a", "q\"\xff\xc3\xa5"), LOG_U("n", UINT64_MAX), LOG_F("f", (double)NAN));
    log_set_json(false);
    assert_int_equal(strncmp(line, "{\"time\":\"2", 10), 0);
    assert_non_null(strstr(line, "\"level\":\"error\",\"event\":\"x\",\"a\":\"q\\\"\xef\xbf\xbd\xc3\xa5\""));
    assert_non_null(strstr(line, ",\"n\":18446744073709551615,\"f\":null}\n"));
}

static void long_line_is_cut_at_a_field(void **state)
{
    char text[5000];

    (void)state;
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    CAPTURE(LOG_INFO, "x", LOG_S("a", "1"), LOG_S("b", text), LOG_S("c", "3"));
    assert_non_null(strstr(line, "x a=1 cut=true\n"));
}

static void level_and_daemon_are_respected(void **state)
{
    (void)state;
    CAPTURE(LOG_DEBUG, "hidden");
    assert_string_equal(line, "");
    log_set_level(LOG_DEBUG);
    log_set_daemon("leeward-test");
    CAPTURE(LOG_DEBUG, "shown", LOG_S("k", "v"));
    assert_non_null(strstr(line, "debug shown daemon=leeward-test k=v\n"));
    log_set_level(LOG_INFO);
    log_set_daemon(NULL);
    assert_int_equal(log_level_from_name("warn"), LOG_WARN);
    assert_int_equal(log_level_from_name("loud"), -1);
}

static void journal_gets_the_priority_and_no_time(void **state)
{
    (void)state;
    setenv("JOURNAL_STREAM", "1:2", 1);
    CAPTURE(LOG_ERROR, "bad");
    unsetenv("JOURNAL_STREAM");
    assert_string_equal(line, "<3>error bad\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(line_has_time_level_event_and_fields),
        cmocka_unit_test(values_are_quoted_and_escaped),
        cmocka_unit_test(json_line_is_json),
        cmocka_unit_test(long_line_is_cut_at_a_field),
        cmocka_unit_test(level_and_daemon_are_respected),
        cmocka_unit_test(journal_gets_the_priority_and_no_time),
    };

    unsetenv("JOURNAL_STREAM");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
