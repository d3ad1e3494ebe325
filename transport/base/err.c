/* SPDX-License-Identifier: Apache-2.0
 *
 * The error object and the one table that gives each code its word, its HTTP status, its gRPC status
 * (grpc/doc/ statuscodes.md) and whether the same request may succeed later. Formatting never allocates: a
 * text that is too long for the object is cut, on a UTF-8 character boundary, and what is no UTF-8 becomes a question mark.
 */
#include "transport/base/err.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "transport/base/mem.h"

struct err_row {
    const char *name;
    int http;
    int grpc;
    bool retryable;
};

static const struct err_row err_rows[ERR_CODE_COUNT] = {
    [ERR_NONE] = {"ok", 200, 0, false},
    [ERR_INTERNAL] = {"internal", 500, 13, false},
    [ERR_NOMEM] = {"out_of_memory", 503, 8, true},
    [ERR_IO] = {"io_error", 500, 13, true},
    [ERR_NOSPACE] = {"no_space", 507, 8, true},
    [ERR_INVALID] = {"invalid", 400, 3, false},
    [ERR_NOT_FOUND] = {"not_found", 404, 5, false},
    [ERR_EXISTS] = {"already_exists", 409, 6, false},
    [ERR_CONFLICT] = {"conflict", 412, 10, false},
    [ERR_REFUSED] = {"refused", 409, 9, false},
    [ERR_DENIED] = {"denied", 403, 7, false},
    [ERR_UNAUTHENTICATED] = {"unauthenticated", 401, 16, false},
    [ERR_UNAVAILABLE] = {"unavailable", 503, 14, true},
    [ERR_TIMEOUT] = {"timeout", 504, 4, true},
    [ERR_CANCELLED] = {"cancelled", 499, 1, false},
    [ERR_CORRUPT] = {"corrupt", 500, 15, false},
    [ERR_UNSUPPORTED] = {"unsupported", 501, 12, false},
    [ERR_TOO_LARGE] = {"too_large", 413, 11, false},
};

/* What a gRPC status means here, by number. Several codes share one status, so this is not the reverse of the
 * table: UNKNOWN (2) and DATA_LOSS (15) have their own meaning, OUT_OF_RANGE (11) is how we say "too large".
 */
static const enum err_code err_of_grpc[] = {
    ERR_NONE,
    ERR_CANCELLED,
    ERR_INTERNAL,
    ERR_INVALID,
    ERR_TIMEOUT,
    ERR_NOT_FOUND,
    ERR_EXISTS,
    ERR_DENIED,
    ERR_NOSPACE,
    ERR_REFUSED,
    ERR_CONFLICT,
    ERR_TOO_LARGE,
    ERR_UNSUPPORTED,
    ERR_INTERNAL,
    ERR_UNAVAILABLE,
    ERR_CORRUPT,
    ERR_UNAUTHENTICATED,
};

static const struct {
    int errnum;
    enum err_code code;
} err_of_errno[] = {
    {ENOMEM, ERR_NOMEM},
    {ENOBUFS, ERR_NOMEM},
    {EMFILE, ERR_NOMEM},
    {ENFILE, ERR_NOMEM},
    {ENOSPC, ERR_NOSPACE},
    {EDQUOT, ERR_NOSPACE},
    {EFBIG, ERR_TOO_LARGE},
    {E2BIG, ERR_TOO_LARGE},
    {EMSGSIZE, ERR_TOO_LARGE},
    {ENAMETOOLONG, ERR_INVALID},
    {EINVAL, ERR_INVALID},
    {EDOM, ERR_INVALID},
    {ERANGE, ERR_INVALID},
    {ENOTDIR, ERR_INVALID},
    {EISDIR, ERR_INVALID},
    {ENOENT, ERR_NOT_FOUND},
    {ENODEV, ERR_NOT_FOUND},
    {ENXIO, ERR_NOT_FOUND},
    {ESRCH, ERR_NOT_FOUND},
    {EEXIST, ERR_EXISTS},
    {EADDRINUSE, ERR_EXISTS},
    {EBUSY, ERR_REFUSED},
    {EROFS, ERR_REFUSED},
    {ENOTEMPTY, ERR_REFUSED},
    {EACCES, ERR_DENIED},
    {EPERM, ERR_DENIED},
    {EAGAIN, ERR_UNAVAILABLE},
    {ECONNREFUSED, ERR_UNAVAILABLE},
    {ECONNRESET, ERR_UNAVAILABLE},
    {ECONNABORTED, ERR_UNAVAILABLE},
    {EPIPE, ERR_UNAVAILABLE},
    {EHOSTUNREACH, ERR_UNAVAILABLE},
    {ENETUNREACH, ERR_UNAVAILABLE},
    {ENETDOWN, ERR_UNAVAILABLE},
    {ENOTCONN, ERR_UNAVAILABLE},
    {EINTR, ERR_UNAVAILABLE},
    {ETIMEDOUT, ERR_TIMEOUT},
    {ETIME, ERR_TIMEOUT},
    {ECANCELED, ERR_CANCELLED},
    {EBADMSG, ERR_CORRUPT},
    {EILSEQ, ERR_CORRUPT},
    {EOPNOTSUPP, ERR_UNSUPPORTED},
    {ENOSYS, ERR_UNSUPPORTED},
    {ENOTTY, ERR_UNSUPPORTED},
};

static enum err_code code_of_errno(int errnum)
{
    for (size_t i = 0; i < ARRAY_LEN(err_of_errno); i++)
        if (err_of_errno[i].errnum == errnum)
            return err_of_errno[i].code;
    return ERR_IO;
}

static const struct err_row *row_of(enum err_code code)
{
    return &err_rows[(unsigned)code < ERR_CODE_COUNT ? code : ERR_INTERNAL];
}

/* Puts ": tail" behind the text as far as there is room. */
static void join(char *text, size_t size, const char *tail)
{
    size_t len = strlen(text);
    const char *const parts[] = {": ", tail};

    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        size_t n = strnlen(parts[i], size - 1 - len);
        memcpy(text + len, parts[i], n);
        len += n;
    }
    text[len] = '\0';
}

/* Drops a UTF-8 sequence that the end of the array cut in two, and turns line breaks into spaces. */
/* How long the character is that begins here: 0 where none does, SIZE_MAX where the text ends within it. As RFC 3629 has it: no overlong
 * forms, no surrogates, nothing above U+10FFFF, which PostgreSQL does not take either. */
static size_t utf8_length(const unsigned char *p)
{
    size_t n = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf5 ? 4 : 0;
    unsigned char least = p[0] == 0xe0 ? 0xa0 : p[0] == 0xf0 ? 0x90 : 0x80;
    unsigned char most = p[0] == 0xed ? 0x9f : p[0] == 0xf4 ? 0x8f : 0xbf;

    for (size_t i = 1; i < n; i++) {
        if (p[i] == '\0')
            return SIZE_MAX;
        if (p[i] < (i == 1 ? least : 0x80) || p[i] > (i == 1 ? most : 0xbf))
            return 0;
    }
    return n;
}

/* One line of valid UTF-8, whoever cut the text and wherever it is from: it goes into answers and into the database. */
static void tidy(char *text)
{
    for (char *p = text; *p;) {
        size_t n = utf8_length((const unsigned char *)p);

        if (n == SIZE_MAX) {
            *p = '\0';
            return;
        }
        if (n == 0 || *p == '\n' || *p == '\r')
            *p = n == 0 ? '?' : ' ';
        p += n == 0 ? 1 : n;
    }
}

int err_vset(struct err *err, enum err_code code, const char *fmt, va_list ap)
{
    /* An argument may point into *err itself (err_set(err, code, "%s", err->text)). */
    char text[sizeof(err->text)];

    if (!err)
        return -1;
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    tidy(text);
    err->code = code;
    err->sys_errno = 0;
    memcpy(err->text, text, sizeof(text));
    err->correction[0] = '\0';
    return -1;
}

int err_set(struct err *err, enum err_code code, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    (void)err_vset(err, code, fmt, ap);
    va_end(ap);
    return -1;
}

int err_sys(struct err *err, int errnum, const char *fmt, ...)
{
    char reason[128];
    va_list ap;

    if (!err)
        return -1;
    va_start(ap, fmt);
    (void)err_vset(err, code_of_errno(errnum), fmt, ap);
    va_end(ap);
    err->sys_errno = errnum;
    size_t len = strlen(err->text);
    (void)snprintf(err->text + len, sizeof(err->text) - len, ": %s", strerror_r(errnum, reason, sizeof(reason)));
    tidy(err->text);
    return -1;
}

int err_wrap(struct err *err, const char *fmt, ...)
{
    char text[sizeof(err->text)];
    va_list ap;

    if (!err)
        return -1;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    join(text, sizeof(text), err->text);
    tidy(text);
    memcpy(err->text, text, sizeof(text));
    return -1;
}

int err_hint(struct err *err, const char *fmt, ...)
{
    char text[sizeof(err->correction)];
    va_list ap;

    if (!err)
        return -1;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    tidy(text);
    memcpy(err->correction, text, sizeof(text));
    return -1;
}

void err_clear(struct err *err)
{
    if (err)
        *err = (struct err)ERR_INIT;
}

void err_copy(struct err *to, const struct err *from)
{
    if (to && from && to != from)
        *to = *from;
}

const char *err_code_name(enum err_code code)
{
    return row_of(code)->name;
}

enum err_code err_code_from_name(const char *name)
{
    for (unsigned code = 0; name && code < ERR_CODE_COUNT; code++)
        if (strcmp(err_rows[code].name, name) == 0)
            return (enum err_code)code;
    return ERR_INTERNAL;
}

int err_http_status(enum err_code code)
{
    return row_of(code)->http;
}

int err_grpc_status(enum err_code code)
{
    return row_of(code)->grpc;
}

enum err_code err_from_grpc_status(int grpc_status)
{
    if (grpc_status < 0 || (size_t)grpc_status >= ARRAY_LEN(err_of_grpc))
        return ERR_INTERNAL;
    return err_of_grpc[grpc_status];
}

bool err_is_retryable(enum err_code code)
{
    return row_of(code)->retryable;
}
