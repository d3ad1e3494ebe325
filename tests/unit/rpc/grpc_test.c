/* SPDX-License-Identifier: Apache-2.0
 *
 * gRPC framing without a connection: messages in any cutting, timeouts, texts, statuses; addresses.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <nghttp2/nghttp2.h>
#include <string.h>

#include "transport/base/mem.h"
#include "transport/rpc/address.h"
#include "transport/rpc/grpc.h"
#include "transport/rpc/limits.h"

static void messages_come_out_whole_however_they_are_cut(void **state)
{
    static const uint8_t stream[] = "\0\0\0\0\3abc\0\0\0\0\0\0\0\0\0\1z";
    (void)state;
    for (size_t cut = 1; cut < sizeof(stream); cut++) {
        struct grpc_parser p = {.message_max = 10};
        size_t lengths[4], count = 0;
        for (size_t at = 0; at < sizeof(stream) - 1;) {
            bool complete = false;
            size_t n = sizeof(stream) - 1 - at < cut ? sizeof(stream) - 1 - at : cut;
            ssize_t used = grpc_parse(&p, stream + at, n, &complete, NULL);
            assert_true(used > 0 && (size_t)used <= n);
            at += (size_t)used;
            if (complete) {
                lengths[count++] = p.message.len;
                buf_done(&p.message);
            }
        }
        assert_int_equal(count, 3);
        assert_int_equal(lengths[0], 3);
        assert_int_equal(lengths[1], 0);
        assert_int_equal(lengths[2], 1);
        assert_true(grpc_parser_is_between(&p));
        grpc_parser_done(&p);
    }
}

static void a_message_over_the_limit_is_not_stored(void **state)
{
    struct grpc_parser p = {.message_max = 10};
    struct err err = ERR_INIT;
    bool complete;
    (void)state;
    assert_int_equal(grpc_parse(&p, (const uint8_t *)"\0\0\0\0\x0bx", 6, &complete, &err), -1);
    assert_int_equal(err.code, ERR_TOO_LARGE);
    assert_null(p.message.data);
    grpc_parser_done(&p);
}

static void timeouts_parse_and_format(void **state)
{
    static const struct {
        const char *text;
        int rc;
        uint64_t usec;
    } rows[] = {{"1H", 0, 3600000000}, {"2M", 0, 120000000}, {"3S", 0, 3000000}, {"4m", 0, 4000}, {"5u", 0, 5},
        {"1500n", 0, 2}, {"0S", 0, 0}, {"99999999H", 0, 99999999ULL * 3600000000ULL}, {"100000000S", -1, 0},
        {"S", -1, 0}, {"", -1, 0}, {"1", -1, 0}, {"1x", -1, 0}, {"-1S", -1, 0}, {"1 S", -1, 0}};
    char text[GRPC_TIMEOUT_SIZE];
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint64_t usec = 0;
        assert_int_equal(grpc_timeout_parse(rows[i].text, strlen(rows[i].text), &usec), rows[i].rc);
        assert_true(usec == rows[i].usec);
    }
    for (uint64_t usec = 0; usec < 1ULL << 58; usec = usec * 3 + 7) {
        uint64_t back = 0;
        grpc_timeout_format(usec, text);
        assert_int_equal(grpc_timeout_parse(text, strlen(text), &back), 0);
        assert_true(back >= usec); /* never shorter */
        assert_true(back - usec <= usec / 100000 + 1);
    }
    grpc_timeout_format(UINT64_MAX, text);
    assert_string_equal(text, "99999999H");
}

static void texts_survive_the_header(void **state)
{
    static const char *const texts[] = {"", "plain", "100 %", "gr\xc3\xbc\xc3\x9f dich", "a;b", "\x7f"};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        char back[64];
        struct buf b = BUF_INIT(1024);
        assert_int_equal(grpc_text_encode(texts[i], &b, NULL), 0);
        for (size_t n = 0; n < b.len; n++)
            assert_true(b.data[n] >= 0x20 && b.data[n] <= 0x7e);
        grpc_text_decode((const char *)b.data, b.len, back, sizeof(back));
        assert_string_equal(back, strcmp(texts[i], "\x7f") == 0 ? "?" : texts[i]);
        buf_done(&b);
    }
    char out[8];
    grpc_text_decode("%4%zz%41%4", 10, out, sizeof(out));
    assert_string_equal(out, "%4%zzA%");
}

static void statuses_map(void **state)
{
    (void)state;
    assert_int_equal(grpc_status_parse("16", 2), RPC_UNAUTHENTICATED);
    assert_int_equal(grpc_status_parse("17", 2), RPC_UNKNOWN);
    assert_int_equal(grpc_status_parse("-1", 2), RPC_UNKNOWN);
    assert_int_equal(grpc_status_parse("", 0), RPC_UNKNOWN);
    assert_int_equal(grpc_status_from_http(503), RPC_UNAVAILABLE);
    assert_int_equal(grpc_status_from_http(404), RPC_UNIMPLEMENTED);
    assert_int_equal(grpc_status_from_reset(NGHTTP2_REFUSED_STREAM), RPC_UNAVAILABLE);
    assert_int_equal(grpc_status_from_reset(0xdeadbeef), RPC_INTERNAL);
    assert_true(grpc_content_type_is_ours("application/grpc;charset=utf8", 29));
    assert_false(grpc_content_type_is_ours("application/grpc-web", 20));
    assert_false(grpc_content_type_is_ours("", 0));
    assert_string_equal(grpc_status_name(RPC_DATA_LOSS), "data_loss");
    assert_string_equal(grpc_status_name((enum rpc_status)99), "unknown");
}

static void addresses_parse(void **state)
{
    static const char *const good[] = {"127.0.0.1:1", "[::1]:65535", "host.example:9442", "unix:/a", "a:0"};
    static const char *const bad[] = {
        "", ":", "host", "host:", ":1", "host:65536", "host:1x", "::1:5", "[]:1", "unix:", "host:-1", "host:999999"};
    struct address a;
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        assert_int_equal(address_parse(good[i], &a, NULL), 0);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct err err = ERR_INIT;
        assert_int_equal(address_parse(bad[i], &a, &err), -1);
        assert_int_equal(err.code, ERR_INVALID);
    }
    struct address_socket s;
    char text[ADDRESS_TEXT_SIZE];
    assert_int_equal(address_parse("[::1]:443", &a, NULL), 0);
    assert_int_equal(address_numeric(&a, &s, NULL), 1);
    address_format(&s, text);
    assert_string_equal(text, "[::1]:443");
    assert_int_equal(address_parse("host.example:443", &a, NULL), 0);
    assert_int_equal(address_numeric(&a, &s, NULL), 0);
}

static void limits_fit_each_other(void **state)
{
    struct rpc_limits l;
    (void)state;
    limits_resolve(NULL, &l);
    assert_true(
        l.message_max == (4u << 20) + (64u << 10) && l.stream_window == 12500000 && l.connection_window == 25000000);
    limits_resolve(&(struct rpc_limits){.message_max = 100u << 20, .connection_window = 5}, &l);
    assert_true(l.stream_window > 100u << 20 && l.connection_window >= l.stream_window);
    limits_resolve(
        &(struct rpc_limits){.message_max = SIZE_MAX, .stream_window = UINT32_MAX, .connection_window = UINT32_MAX},
        &l);
    assert_true(l.stream_window == 0x7fffffff && l.connection_window == 0x7fffffff && l.message_max < l.stream_window);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_come_out_whole_however_they_are_cut),
        cmocka_unit_test(a_message_over_the_limit_is_not_stored),
        cmocka_unit_test(timeouts_parse_and_format),
        cmocka_unit_test(texts_survive_the_header),
        cmocka_unit_test(statuses_map),
        cmocka_unit_test(addresses_parse),
        cmocka_unit_test(limits_fit_each_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
