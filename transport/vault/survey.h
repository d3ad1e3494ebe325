/* SPDX-License-Identifier: Apache-2.0
 *
 * Which records of a machine's log are still needed, and by whom: by the newest content (live), or only by older points that
 * retention keeps (history). All else is garbage. It is found out from the index alone: all runs are swept together in the order
 * of their keys, and of each place all versions are known at once.
 *
 * Memory is bounded: of the records that are needed at most SURVEY_REFS_MAX are held. When there are more, the survey stops at a
 * segment (`until`), and the next one begins there.
 */
#ifndef TRANSPORT_VAULT_SURVEY_H
#define TRANSPORT_VAULT_SURVEY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "transport/base/err.h"
#include "transport/vault/pointlist.h"
#include "transport/vault/run.h"

#define SURVEY_REFS_MAX (4u << 20) /* 48 MiB; a segment has fewer records unless one change set was that large */

/* A record that is needed. */
struct survey_ref {
    uint32_t segment;
    uint32_t offset;
    uint16_t units; /* of its payload, EXTENT_STORED_UNIT bytes each, rounded up */
    bool live;      /* the newest content needs it */
};

struct survey_spec {
    struct run *const *runs; /* the whole index */
    size_t run_count;
    const struct pointlist *points;
    uint64_t from, until;    /* segments, [from, until) */
    size_t refs_max;         /* 0: SURVEY_REFS_MAX */
    _Atomic bool *cancelled; /* NULL allowed */
};

struct survey {
    struct survey_ref *refs; /* by segment and offset, each record once */
    size_t count;
    uint64_t until;     /* spec's, or lower: where the next survey must begin */
    uint64_t *needless; /* per run: entries of its history that no point needs any more */
};

int survey_run(const struct survey_spec *spec, struct survey *ret_survey, struct err *err);
void survey_done(struct survey *v);
/* Index of the first record at or behind segment/offset; count if there is none. */
size_t survey_at(const struct survey *v, uint64_t segment, uint64_t offset);

#endif
