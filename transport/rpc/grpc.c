/* SPDX-License-Identifier: Apache-2.0
 *
 * gRPC framing. A message announces its length before it comes: the length is checked against the limit first, then the
 * memory is reserved once and each DATA chunk is appended once. Source: grpc/doc/PROTOCOL-HTTP2.md.
 */
#include "transport/rpc/grpc.h"

#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <string.h>

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

static int prefix_check(struct grpc_parser *p, struct err *err)
{
    const uint8_t *b = p->prefix;
    if (b[0] == 1)
        return err_set(err, ERR_UNSUPPORTED, "compressed messages are not taken; send identity encoding");
    if (b[0] != 0)
        return err_set(err, ERR_INVALID, "bad message prefix: flags 0x%02x", b[0]);
    size_t len = (size_t)b[1] << 24 | (size_t)b[2] << 16 | (size_t)b[3] << 8 | b[4];
    if (len > p->message_max)
        return err_set(err, ERR_TOO_LARGE, "message of %zu bytes is over the limit of %zu", len, p->message_max);
    buf_done(&p->message);
    p->message = BUF_INIT(len);
    return buf_reserve(&p->message, len, err);
}

ssize_t grpc_parse(struct grpc_parser *p, const uint8_t *data, size_t n, bool *ret_complete, struct err *err)
{
    size_t used = 0;
    *ret_complete = false;
    if (p->prefix_len < GRPC_PREFIX_SIZE) {
        used = min_size(n, GRPC_PREFIX_SIZE - p->prefix_len);
        memcpy(p->prefix + p->prefix_len, data, used);
        p->prefix_len += (unsigned)used;
        if (p->prefix_len < GRPC_PREFIX_SIZE)
            return (ssize_t)used;
        if (prefix_check(p, err) < 0)
            return -1;
    }
    size_t body = min_size(n - used, p->message.max - p->message.len);
    if (body > 0 && buf_append(&p->message, data + used, body, err) < 0)
        return -1;
    if (p->message.len == p->message.max) {
        p->prefix_len = 0;
        *ret_complete = true;
    }
    return (ssize_t)(used + body);
}

bool grpc_parser_is_between(const struct grpc_parser *p)
{
    return p->prefix_len == 0;
}

void grpc_parser_done(struct grpc_parser *p)
{
    buf_done(&p->message);
    p->prefix_len = 0;
}

void grpc_prefix(size_t message_bytes, uint8_t out[GRPC_PREFIX_SIZE])
{
    out[0] = 0;
    out[1] = (uint8_t)(message_bytes >> 24);
    out[2] = (uint8_t)(message_bytes >> 16);
    out[3] = (uint8_t)(message_bytes >> 8);
    out[4] = (uint8_t)message_bytes;
}

/* Units from the smallest; each value is the unit in nanoseconds. */
static const struct {
    char letter;
    uint64_t nsec;
} timeout_units[] = {
    {'n', 1},
    {'u', 1000},
    {'m', 1000000},
    {'S', 1000000000},
    {'M', 60000000000},
    {'H', 3600000000000},
};
#define TIMEOUT_UNITS (sizeof(timeout_units) / sizeof(timeout_units[0]))

int grpc_timeout_parse(const char *s, size_t n, uint64_t *ret_usec)
{
    uint64_t value = 0;
    if (n < 2 || n > 9)
        return -1;
    for (size_t i = 0; i < n - 1; i++) {
        if (s[i] < '0' || s[i] > '9')
            return -1;
        value = value * 10 + (uint64_t)(s[i] - '0');
    }
    for (size_t u = 0; u < TIMEOUT_UNITS; u++) {
        if (timeout_units[u].letter != s[n - 1])
            continue;
        uint64_t unit = timeout_units[u].nsec;
        *ret_usec = unit >= 1000 ? value * (unit / 1000) : (value + 999) / 1000;
        return 0;
    }
    return -1;
}

void grpc_timeout_format(uint64_t usec, char out[GRPC_TIMEOUT_SIZE])
{
    size_t u = 1;
    uint64_t value = usec;
    while (value > 99999999 && u + 1 < TIMEOUT_UNITS) {
        u++;
        uint64_t unit_usec = timeout_units[u].nsec / 1000;
        value = usec / unit_usec + (usec % unit_usec != 0);
    }
    if (value > 99999999)
        value = 99999999;
    (void)snprintf(out, GRPC_TIMEOUT_SIZE, "%u%c", (unsigned)value, timeout_units[u].letter);
}

int grpc_text_encode(const char *text, struct buf *out, struct err *err)
{
    size_t n = strnlen(text, GRPC_TEXT_MAX);
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        bool plain = c >= 0x20 && c <= 0x7e && c != '%';
        if ((plain ? buf_append(out, &c, 1, err) : buf_printf(out, err, "%%%02X", c)) < 0)
            return -1;
    }
    return 0;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

void grpc_text_decode(const char *s, size_t n, char *out, size_t size)
{
    size_t o = 0;
    for (size_t i = 0; i < n && o + 1 < size; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c == '%' && i + 2 < n && hex_digit(s[i + 1]) >= 0 && hex_digit(s[i + 2]) >= 0) {
            c = (unsigned char)(hex_digit(s[i + 1]) * 16 + hex_digit(s[i + 2]));
            i += 2;
        }
        out[o++] = c < 0x20 || c == 0x7f ? '?' : (char)c;
    }
    out[o] = '\0';
}

enum rpc_status grpc_status_parse(const char *s, size_t n)
{
    unsigned value = 0;
    if (n < 1 || n > 2)
        return RPC_UNKNOWN;
    for (size_t i = 0; i < n; i++) {
        if (s[i] < '0' || s[i] > '9')
            return RPC_UNKNOWN;
        value = value * 10 + (unsigned)(s[i] - '0');
    }
    return value <= RPC_UNAUTHENTICATED ? (enum rpc_status)value : RPC_UNKNOWN;
}

enum rpc_status grpc_status_from_http(unsigned http_status)
{
    switch (http_status) {
    case 400:
        return RPC_INTERNAL;
    case 401:
        return RPC_UNAUTHENTICATED;
    case 403:
        return RPC_PERMISSION_DENIED;
    case 404:
        return RPC_UNIMPLEMENTED;
    case 429:
    case 502:
    case 503:
    case 504:
        return RPC_UNAVAILABLE;
    default:
        return RPC_UNKNOWN;
    }
}

enum rpc_status grpc_status_from_reset(uint32_t h2_error)
{
    switch (h2_error) {
    case NGHTTP2_REFUSED_STREAM:
        return RPC_UNAVAILABLE;
    case NGHTTP2_CANCEL:
        return RPC_CANCELLED;
    case NGHTTP2_ENHANCE_YOUR_CALM:
        return RPC_RESOURCE_EXHAUSTED;
    case NGHTTP2_INADEQUATE_SECURITY:
        return RPC_PERMISSION_DENIED;
    default:
        return RPC_INTERNAL;
    }
}

bool grpc_content_type_is_ours(const char *s, size_t n)
{
    static const char name[] = "application/grpc";
    size_t len = sizeof(name) - 1;
    return n >= len && memcmp(s, name, len) == 0 && (n == len || s[len] == '+' || s[len] == ';');
}

const char *grpc_status_name(enum rpc_status status)
{
    static const char *const names[] = {"ok", "cancelled", "unknown", "invalid_argument", "deadline_exceeded",
        "not_found", "already_exists", "permission_denied", "resource_exhausted", "failed_precondition", "aborted",
        "out_of_range", "unimplemented", "internal", "unavailable", "data_loss", "unauthenticated"};
    return (unsigned)status < sizeof(names) / sizeof(names[0]) ? names[status] : "unknown";
}
