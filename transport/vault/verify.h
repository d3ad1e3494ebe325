/* SPDX-License-Identifier: Apache-2.0
 *
 * Verification of a machine's store: every header, every payload's tag and hash, every mark's digest, every seal, and every
 * block of the index. Reads files only; runs beside everything else, on worker threads. Segments stand for themselves (no
 * change set crosses them), so any number of them can be verified at the same time and in any order.
 *
 * Behind a damaged place the walk goes on at the next record that can be believed, so that one bad sector costs what lies in
 * it and no more.
 */
#ifndef TRANSPORT_VAULT_VERIFY_H
#define TRANSPORT_VAULT_VERIFY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "transport/base/err.h"
#include "transport/base/ident.h"
#include "transport/vault/keyring.h"

#define VERIFY_DAMAGES_MAX 1000u /* more are only counted */

enum verify_kind {
    VERIFY_INDEX,   /* a run or the manifest: it is rebuilt from the log */
    VERIFY_LOG,     /* segments, seals, order: nothing that one record could stand for */
    VERIFY_MARK,    /* the mark of points_from */
    VERIFY_PAYLOAD, /* of `record`, whose header is good */
    VERIFY_HEADERS, /* records whose headers are gone: all in [offset, end) */
};

struct verify_damage {
    enum verify_kind kind;
    uint64_t segment;     /* 0: the index */
    uint64_t offset, end; /* bytes of the segment; end 0: unknown */
    uint64_t points_from; /* points from this sequence on may be hit; 0: none (the index is rebuilt) */
    struct record record; /* VERIFY_PAYLOAD */
    char text[200];
};

struct verify_spec {
    const char *machine_dir;
    struct ident machine;
    struct keyring keys;
    uint64_t after_segment;       /* the segments behind it are verified, none of which may be missing; 0: all */
    uint64_t until_sequence;      /* what was committed when it began */
    _Atomic bool *cancelled;      /* NULL allowed */
    _Atomic uint64_t *done_bytes; /* counts up; NULL allowed */
    /* Called about every mebibyte with the bytes that were read since; may wait. NULL allowed. */
    void (*pace)(void *arg, uint64_t bytes);
    void *pace_arg;
};

struct verify_result {
    uint64_t records, bytes, marks;
    uint64_t damage_count;
    bool index_damaged;
    struct verify_damage *damages; /* the first VERIFY_DAMAGES_MAX; free them */
    size_t listed;
};

/* Everything, one segment after the other. 0 also when damage was found: that is a result. -1: it could not be done, or
 * ERR_CANCELLED. */
int verify_run(const struct verify_spec *spec, struct verify_result *ret_result, struct err *err);

/* The same in parts. The numbers of all segments, ascending (free them). */
int verify_segments(const char *machine_dir, uint64_t **ret_numbers, size_t *ret_count, struct err *err);

struct verify_span {
    uint64_t number;
    uint64_t first_sequence, last_sequence; /* last < first: no change set */
    bool gone;                              /* it was removed meanwhile */
};
/* One segment; adds to *result. direct: it is not written any more. */
int verify_segment(const struct verify_spec *spec, uint64_t number, bool direct, struct verify_span *ret_span,
    struct verify_result *result, struct err *err);
/* Do the segments follow on each other up to spec->until_sequence? Adds to *result. */
int verify_order(const struct verify_spec *spec, const struct verify_span *spans, size_t count,
    struct verify_result *result, struct err *err);
int verify_index(const struct verify_spec *spec, struct verify_result *result, struct err *err);

/* Adds what `from` has to `to`. */
int verify_result_join(struct verify_result *to, const struct verify_result *from, struct err *err);
void verify_result_done(struct verify_result *r);
/* Bytes of these segments, for the progress. */
uint64_t verify_bytes(const char *machine_dir, const uint64_t *numbers, size_t count);
/* "index", "log", "mark", "payload", "headers". */
const char *verify_kind_name(enum verify_kind kind);

#endif
