/* SPDX-License-Identifier: Apache-2.0
 *
 * Making a sealed segment of one log a segment of another, in place: its file header, the sequences of its marks and its seal
 * are written anew; no other record is touched or moved. Planning reads, and gives what is to be written as a patch; applying a patch
 * twice does no harm, so it can be made durable first and applied again after a crash.
 */
#ifndef TRANSPORT_LOG_SEGMENT_RELABEL_H
#define TRANSPORT_LOG_SEGMENT_RELABEL_H

#include <stdbool.h>
#include <stdint.h>

#include "transport/base/buf.h"
#include "transport/base/err.h"
#include "transport/log/segment.h"

struct segment_relabel {
    struct ident log;        /* of the log that it is to belong to; zero: the main line */
    uint64_t number;         /* in it */
    uint64_t first_sequence; /* of its first mark */
    uint64_t generation, epoch;
    uint64_t
        point_utc_usec; /* its last mark becomes a crash-consistent point of this time; 0: all stay of the kind they are */
};

/* Appends the patch for the segment `number` in dirfd. *ret_next_sequence follows its last mark. ERR_CORRUPT: it is damaged, or has no
 * good seal; ERR_TOO_LARGE: out is too small. */
int segment_relabel_plan(int dirfd, uint64_t number, const struct segment_relabel *spec, struct buf *out,
    uint64_t *ret_next_sequence, struct err *err);
/* Writes it and syncs the file. ERR_CORRUPT: it is no patch for this file. */
int segment_relabel_apply(int dirfd, uint64_t number, const uint8_t *patch, size_t n, struct err *err);

#endif
