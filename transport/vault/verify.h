/* SPDX-License-Identifier: Apache-2.0
 *
 * Full verification of a machine's store: every header, every payload's tag and hash, every mark's digest, every seal, and
 * every block of the index. Reads files only; runs beside everything else, on a worker thread.
 */
#ifndef TRANSPORT_VAULT_VERIFY_H
#define TRANSPORT_VAULT_VERIFY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "transport/base/err.h"
#include "transport/base/ident.h"
#include "transport/log/seal.h"

#define VERIFY_DAMAGES_MAX 1000u /* more are only counted */

struct verify_damage {
    uint64_t segment; /* 0: the index */
    uint64_t offset;
    uint64_t points_from; /* points from this sequence on may be hit; 0: none (the index is rebuilt) */
    char text[200];
};

struct verify_spec {
    const char *machine_dir;
    struct ident machine;
    struct seal_key key;
    uint64_t until_sequence;      /* what was committed when it began */
    _Atomic bool *cancelled;      /* NULL allowed */
    _Atomic uint64_t *done_bytes; /* counts up; NULL allowed */
};

struct verify_result {
    uint64_t records, bytes, marks;
    uint64_t damage_count;
    bool index_damaged;
    struct verify_damage *damages; /* the first VERIFY_DAMAGES_MAX; free them */
    size_t listed;
};

/* 0 also when damage was found: that is a result. -1: it could not be done, or ERR_CANCELLED. */
int verify_run(const struct verify_spec *spec, struct verify_result *ret_result, struct err *err);
void verify_result_done(struct verify_result *r);
/* Bytes of all segments, for the progress. */
uint64_t verify_total_bytes(const char *machine_dir);

#endif
