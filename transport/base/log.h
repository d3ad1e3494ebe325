/* SPDX-License-Identifier: Apache-2.0
 *
 * The log: one event per line on standard error, `event key=value ...`, or one JSON object per line when asked for.
 *     log_event(LOG_WARN, "node_lost", LOG_S("node", id), LOG_U("silent_ms", ms));
 * The event name is a stable word; values are quoted where they need it and control characters escaped. Nothing secret
 * is ever passed here: tokens, keys and passwords have no formatter.
 * With standard error on the journal (JOURNAL_STREAM set) each line is prefixed with its priority `<N>`.
 */
#ifndef TRANSPORT_BASE_LOG_H
#define TRANSPORT_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "transport/base/err.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

struct log_field {
    const char *key;
    enum { LOG_FIELD_STR, LOG_FIELD_U64, LOG_FIELD_I64, LOG_FIELD_BOOL, LOG_FIELD_F64 } type;
    union {
        const char *s;
        uint64_t u;
        int64_t i;
        bool b;
        double f;
    } v;
};

#define LOG_S(k, x) ((struct log_field){.key = (k), .type = LOG_FIELD_STR, .v.s = (x)})
#define LOG_U(k, x) ((struct log_field){.key = (k), .type = LOG_FIELD_U64, .v.u = (uint64_t)(x)})
#define LOG_I(k, x) ((struct log_field){.key = (k), .type = LOG_FIELD_I64, .v.i = (int64_t)(x)})
#define LOG_B(k, x) ((struct log_field){.key = (k), .type = LOG_FIELD_BOOL, .v.b = (x)})
#define LOG_F(k, x) ((struct log_field){.key = (k), .type = LOG_FIELD_F64, .v.f = (x)})
/* The text and code of an error as two fields (error=, code=). */
#define LOG_E(e) LOG_S("error", (e)->text), LOG_S("code", err_code_name((e)->code))

void log_fields(enum log_level level, const char *event, const struct log_field *fields, unsigned count);
#define log_event(level, event, ...)                                                                                   \
    log_fields((level), (event), (const struct log_field[]){{0}, ##__VA_ARGS__} + 1,                                   \
        (unsigned)(sizeof((const struct log_field[]){{0}, ##__VA_ARGS__}) / sizeof(struct log_field)) - 1)

void log_set_level(enum log_level level);
void log_set_json(bool on);
/* A fixed field in every line of this process, "daemon=leeward-vault". The text must live as long as the process. */
void log_set_daemon(const char *name);
/* "debug", "info", "warn", "error" -> level; -1 otherwise. */
int log_level_from_name(const char *name);

#endif
