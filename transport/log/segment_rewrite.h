/* SPDX-License-Identifier: Apache-2.0
 *
 * Rewriting a sealed segment without the records that nobody needs any more: how thinned history gives its space back.
 * What stays is copied byte for byte, neither decrypted nor compressed anew, so it stays what its source sealed; and it keeps the
 * place that it had (segment.h), so no index changes.
 *
 * The new file is made beside the old one and durable before it takes its name in one rename: a crash leaves the one or the
 * other. Readers that have the old one open go on with it.
 */
#ifndef TRANSPORT_LOG_SEGMENT_REWRITE_H
#define TRANSPORT_LOG_SEGMENT_REWRITE_H

#include "transport/log/mark.h"
#include "transport/log/segment.h"

#define SEGMENT_REWRITE_SUFFIX ".rewrite" /* behind the segment's name, until it has it */

struct segment_rewrite_spec {
    int dirfd;
    uint64_t number;
    /* Does the record at this place stay? m: the mark, for marks; else NULL. Called in order. */
    bool (*stays)(void *arg, const struct record *r, const struct mark *m, uint64_t place);
    /* The first sequence >= the given one that must stay readable. */
    uint64_t (*next_needed)(void *arg, uint64_t sequence);
    /* About every MiB: so many bytes were read and written since. It may wait; what was written is on its way to the disk by then, so that the
     * sync at the end is short. -1 ends it. NULL is allowed. */
    int (*went_on)(void *arg, uint64_t bytes, struct err *err);
    void *arg;
};

struct segment_rewritten {
    uint64_t records;      /* data and zero records that stayed */
    uint64_t bytes_before; /* of the file */
    uint64_t bytes_after;
};

/* Makes the new file, durable, under its temporary name. ERR_REFUSED: not sealed, or it has no mark; ERR_CORRUPT: it is damaged and must
 * stay as it is; ERR_NOSPACE. */
int segment_rewrite(const struct segment_rewrite_spec *spec, struct segment_rewritten *ret_rewritten, struct err *err);
/* Puts the new file in the place of the old one. Durable when it returns. */
int segment_rewrite_commit(int dirfd, uint64_t number, struct err *err);
/* Removes what segment_rewrite made; nothing there is fine. */
void segment_rewrite_discard(int dirfd, uint64_t number);

#endif
