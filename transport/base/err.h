/* SPDX-License-Identifier: Apache-2.0
 *
 * The error object of the whole product. A function that can fail returns int (0 or more is success, -1 is failure)
 * and takes a caller-owned `struct err *err` as its last argument; NULL is allowed when the caller does not want to
 * know why. There is no allocation here, so reporting "out of memory" cannot itself fail.
 *
 * One table (err.c) maps each code to its text, HTTP status, gRPC status and whether trying again can help.
 */
#ifndef TRANSPORT_BASE_ERR_H
#define TRANSPORT_BASE_ERR_H

#include <stdbool.h>
#include <stdarg.h>

enum err_code {
    ERR_NONE = 0,
    ERR_INTERNAL,        /* our own bug, or a state that must not be */
    ERR_NOMEM,           /* memory, or a bounded resource of ours, is used up */
    ERR_IO,              /* a device, file or socket failed */
    ERR_NOSPACE,         /* a disk or a spool is full */
    ERR_INVALID,         /* input that is wrong whatever the state is */
    ERR_NOT_FOUND,
    ERR_EXISTS,
    ERR_CONFLICT,        /* somebody else changed it first */
    ERR_REFUSED,         /* right input, wrong state: stale generation, sealed, locked */
    ERR_DENIED,          /* known peer, not allowed */
    ERR_UNAUTHENTICATED, /* unknown peer */
    ERR_UNAVAILABLE,     /* peer or service cannot be reached now */
    ERR_TIMEOUT,
    ERR_CANCELLED,
    ERR_CORRUPT,         /* stored or received bytes fail their checksum, hash or format */
    ERR_UNSUPPORTED,     /* unknown version, missing kernel feature */
    ERR_TOO_LARGE,       /* over a limit that this side sets */
    ERR_CODE_COUNT
};

struct err {
    enum err_code code;
    int sys_errno;        /* errno where the cause was a system call, else 0 */
    char text[320];       /* what happened, outermost context first, no newline */
    char correction[240]; /* what the reader can do about it; may be empty */
};

#define ERR_INIT {0}

/* Each returns -1, so that a test, its context and the exit are one line:
 *     if (n < 0) return err_sys(err, errno, "reading %s", path); */
int err_set(struct err *err, enum err_code code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
int err_vset(struct err *err, enum err_code code, const char *fmt, va_list ap);
/* Takes the code from errnum (ENOSPC -> ERR_NOSPACE, ENOENT -> ERR_NOT_FOUND, ...) and appends strerror(errnum). */
int err_sys(struct err *err, int errnum, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Puts "context: " before the text that is already there; keeps code, errno and correction. */
int err_wrap(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Sets the correction. Call after err_set/err_sys. */
int err_hint(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void err_clear(struct err *err);
void err_copy(struct err *to, const struct err *from);

/* Stable lower-case word for a code, "not_found": used in logs and as the `code` of API problems. Never NULL. */
const char *err_code_name(enum err_code code);
/* The code for a word that err_code_name() gave; ERR_INTERNAL for any other. */
enum err_code err_code_from_name(const char *name);
int err_http_status(enum err_code code); /* 200 for ERR_NONE */
int err_grpc_status(enum err_code code); /* 0..16 */
enum err_code err_from_grpc_status(int grpc_status);
bool err_is_retryable(enum err_code code); /* the same request may succeed later without a change */

#endif
