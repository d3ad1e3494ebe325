/* SPDX-License-Identifier: Apache-2.0
 *
 * Configuration of a daemon: one table of rows drives the parser of the file (libconfuse), the command line, the
 * validation, `--help` and the reference in docs/. Unknown keys are errors. The order of force: command line
 * (`--key value` or `--key=value`), environment (LEEWARD_KEY, dashes as underscores), file (`key = value`), default.
 */
#ifndef TRANSPORT_BASE_CONF_H
#define TRANSPORT_BASE_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "transport/base/err.h"

enum conf_type {
    CONF_STRING,
    CONF_BOOL,   /* --key, --key=true|false */
    CONF_UINT,   /* plain number */
    CONF_BYTES,  /* number with K, M, G, T suffix (powers of 1024) -> bytes */
    CONF_USEC,   /* duration, see clock_parse_duration -> microseconds */
};

struct conf_row {
    const char *key; /* "spool-bytes": lower case, dashes */
    enum conf_type type;
    size_t offset;   /* of the member in the daemon's config struct: char *, bool, or uint64_t */
    const char *fallback; /* default as text; NULL: empty string, false, 0 */
    uint64_t min, max;    /* of numbers, inclusive; max 0 = no bound. For strings: longest length, 0 = 4096 */
    bool required;
    bool secret;          /* never printed; also accepted as --key-file PATH */
    bool no_argument;     /* of a secret: --key VALUE is refused, since everybody on the machine can read it */
    const char *help;     /* one line, with the unit */
};

#define CONF_OFFSET(type, member) offsetof(type, member)

/* Fills *config (zeroed by the caller) from all four sources. `--config FILE` names the file; `--help` and
 * `--version` print and make the function return 1 (the caller exits 0). Returns 0 when filled, -1 with err and its
 * correction set otherwise. Strings are allocated; conf_done frees them. */
int conf_load(const struct conf_row *rows, size_t row_count, const char *daemon, const char *summary, int argc,
    char **argv, void *config, struct err *err);
void conf_done(const struct conf_row *rows, size_t row_count, void *config);
/* A number of bytes as in a CONF_BYTES row: "64M" is 64 << 20. 0; -1: it is none. */
int conf_parse_bytes(const char *text, uint64_t *ret_bytes);
/* The reference of one table as Markdown on standard output: `--help-markdown`. */
void conf_print_markdown(const struct conf_row *rows, size_t row_count, const char *daemon, const char *summary);

#endif
