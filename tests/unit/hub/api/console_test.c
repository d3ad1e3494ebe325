/* SPDX-License-Identifier: Apache-2.0
 *
 * Which file of the console a request gets, and in which form; on a table of its own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "hub/api/console.h"
#include "transport/base/mem.h"

static const unsigned char blob[] = "<index><index.gz><x.js><x.js.gz><x.js.br>";
static const struct console_file files[] = {
    {"/assets/x-1.js", "text/javascript", "0123456789abcdef", true, {{17, 6}, {23, 9}, {32, 9}}},
    {"/index.html", "text/html", "fedcba9876543210", false, {{0, 7}, {7, 10}, {0, 0}}},
};

static struct console_answer answer;

static bool ask(const char *method, const char *path, const char *accept, const char *encoding, const char *tag)
{
    const struct console_request request = {method, path, accept, encoding, tag};

    return console_find(files, ARRAY_LEN(files), blob, &request, &answer);
}

static const char *header(const char *name)
{
    for (size_t i = 0; answer.headers[i].name; i++)
        if (strcmp(answer.headers[i].name, name) == 0)
            return answer.headers[i].value;
    return NULL;
}

static void assert_body(const char *text)
{
    assert_int_equal(answer.body_len, strlen(text));
    assert_memory_equal(answer.body, text, strlen(text));
}

static void serves_best_encoding_that_client_takes(void **state)
{
    (void)state;
    assert_true(ask("GET", "/assets/x-1.js", "*/*", "gzip, deflate, br", NULL));
    assert_body("<x.js.br>");
    assert_string_equal(header("Content-Encoding"), "br");
    assert_true(ask("GET", "/assets/x-1.js", "*/*", "gzip", NULL));
    assert_body("<x.js.gz>");
    assert_true(ask("GET", "/assets/x-1.js", "*/*", "br;q=0, gzip;q=0.5", NULL));
    assert_body("<x.js.gz>");
    assert_true(ask("GET", "/assets/x-1.js", "*/*", NULL, NULL));
    assert_body("<x.js>");
    assert_null(header("Content-Encoding"));
    assert_true(ask("GET", "/index.html", "*/*", "br", NULL)); /* not there as br */
    assert_body("<index>");
}

static void hashed_names_are_kept_for_good(void **state)
{
    (void)state;
    assert_true(ask("GET", "/assets/x-1.js", NULL, NULL, NULL));
    assert_string_equal(header("Cache-Control"), "public, max-age=31536000, immutable");
    assert_string_equal(header("Vary"), "Accept-Encoding");
    assert_true(ask("GET", "/index.html", NULL, NULL, NULL));
    assert_string_equal(header("Cache-Control"), "no-cache");
}

static void known_tag_is_answered_without_body(void **state)
{
    char tag[CONSOLE_ETAG_SIZE], list[2 * CONSOLE_ETAG_SIZE + 16];

    (void)state;
    assert_true(ask("GET", "/index.html", NULL, "gzip", NULL));
    (void)snprintf(tag, sizeof(tag), "%s", answer.etag);
    assert_true(ask("GET", "/index.html", NULL, "gzip", tag));
    assert_int_equal(answer.status, 304);
    assert_int_equal(answer.body_len, 0);
    assert_string_equal(header("ETag"), tag);
    (void)snprintf(list, sizeof(list), "\"other\" , W/%s", tag);
    assert_true(ask("GET", "/index.html", NULL, "gzip", list));
    assert_int_equal(answer.status, 304);
    assert_true(ask("GET", "/index.html", NULL, NULL, tag)); /* another form has another tag */
    assert_int_equal(answer.status, 200);
    (void)snprintf(list, sizeof(list), "%sx", tag);
    assert_true(ask("GET", "/index.html", NULL, "gzip", list));
    assert_int_equal(answer.status, 200);
}

static void browser_gets_index_for_pages_of_the_client(void **state)
{
    (void)state;
    assert_true(ask("GET", "/", NULL, NULL, NULL));
    assert_body("<index>");
    assert_true(ask("GET", "/machines/4711", "text/html,application/xhtml+xml;q=0.9", NULL, NULL));
    assert_body("<index>");
    assert_false(ask("GET", "/machines/4711", "application/json", NULL, NULL));
    assert_false(ask("GET", "/machines/4711", "text/html;q=0", NULL, NULL));
    assert_false(ask("GET", "/machines/4711", NULL, NULL, NULL));
}

static void leaves_everything_else_to_the_api(void **state)
{
    static const char *const paths[] = {"/api/v1/machines", "/api", "/api/", "/healthz", "/readyz", "/metrics",
        "/assets/gone-1.js", "/assets/", "", "x"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(paths); i++)
        assert_false(ask("GET", paths[i], "text/html", NULL, NULL));
    assert_false(ask("POST", "/index.html", "text/html", NULL, NULL));
    assert_false(ask("OPTIONS", "/", "text/html", NULL, NULL));
    assert_true(ask("HEAD", "/", NULL, NULL, NULL));
}

static void path_is_a_name_and_nothing_more(void **state)
{
    static const char *const paths[] = {"/assets/../index.html", "/assets/%2e%2e/index.html", "//index.html",
        "/index.html/", "/assets/x-1.js/..", "/../../etc/passwd", "/INDEX.HTML"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(paths); i++)
        assert_false(ask("GET", paths[i], "*/*;q=0", NULL, NULL));
}

static void policy_allows_no_inline_and_no_text_as_script(void **state)
{
    const char *policy;

    (void)state;
    assert_true(ask("GET", "/", NULL, NULL, NULL));
    policy = header("Content-Security-Policy");
    assert_non_null(policy);
    assert_non_null(strstr(policy, "default-src 'none'"));
    assert_non_null(strstr(policy, "require-trusted-types-for 'script'"));
    assert_non_null(strstr(policy, "frame-ancestors 'none'"));
    assert_null(strstr(policy, "unsafe"));
    assert_null(strstr(policy, "http"));
}

static void weights_of_accept_headers_count(void **state)
{
    (void)state;
    assert_true(console_accepts("gzip", "gzip"));
    assert_true(console_accepts(" br , GZIP ; q=0.001", "gzip"));
    assert_true(console_accepts("*", "gzip"));
    assert_false(console_accepts("gzip;q=0", "gzip"));
    assert_false(console_accepts("gzip; q=0.000, *", "gzip"));
    assert_false(console_accepts("*;q=0", "gzip"));
    assert_false(console_accepts("gzipx", "gzip"));
    assert_false(console_accepts("x-gzip", "gzip"));
    assert_false(console_accepts("", "gzip"));
    assert_false(console_accepts(",,;q=1,", "gzip"));
    assert_false(console_accepts(NULL, "gzip"));
    assert_true(console_accepts("text/html;level=1;q=0.4", "text/html"));
    assert_false(console_accepts("text/html;level=1;q=0", "text/html"));
}

/* The table that is linked in, where there is one. */
static void built_files_hold_together(void **state)
{
    (void)state;
    for (size_t i = 0; i < console_file_count; i++) {
        const struct console_request request = {"GET", console_files[i].path, NULL, "gzip, br", NULL};

        assert_true(console_find(console_files, console_file_count, console_blob, &request, &answer));
        assert_int_equal(answer.status, 200);
        assert_true(answer.body_len > 0);
        if (console_files[i].at[CONSOLE_GZIP].len > 0)
            assert_memory_equal(console_blob + console_files[i].at[CONSOLE_GZIP].offset, "\x1f\x8b", 2);
        if (strcmp(console_files[i].path, "/index.html") == 0)
            assert_memory_equal(console_blob + console_files[i].at[CONSOLE_PLAIN].offset, "<!doctype html>", 15);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(serves_best_encoding_that_client_takes),
        cmocka_unit_test(hashed_names_are_kept_for_good),
        cmocka_unit_test(known_tag_is_answered_without_body),
        cmocka_unit_test(browser_gets_index_for_pages_of_the_client),
        cmocka_unit_test(leaves_everything_else_to_the_api),
        cmocka_unit_test(path_is_a_name_and_nothing_more),
        cmocka_unit_test(policy_allows_no_inline_and_no_text_as_script),
        cmocka_unit_test(weights_of_accept_headers_count),
        cmocka_unit_test(built_files_hold_together),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
