/* SPDX-License-Identifier: Apache-2.0
 *
 * Making a spool smaller while its vault is away: of the change sets in it, only what the last one leaves is of use to anybody once
 * there is no room to keep them all. Records that a later set overwrites are taken out, and the crash-consistent points in between
 * become progress marks: they still commit, in the same sequence, but nobody can open them. So P1 holds: every point that remains
 * has all that was written before it.
 *
 * Points that somebody or something made for a purpose stay, with all that they need: file-system- and application-consistent ones, tagged
 * ones, those that were asked for, group points, and the first one behind a copy. So does the last point of what is joined, and everything
 * behind it; and so does each point that is in the way of nothing: no record before it is overwritten behind it.
 *
 * The work goes from the newest sealed segment to the oldest, one in each step; each is replaced as a whole by a file that is durable.
 * Between two steps, and after a crash in any of them, the spool is whole.
 */
#ifndef TRANSPORT_NODE_SPOOL_JOIN_H
#define TRANSPORT_NODE_SPOOL_JOIN_H

#include <stdint.h>

#include "transport/node/spool.h"

struct spool_join;

struct spool_joined {
    uint64_t bytes;  /* that the spool has less than before */
    uint64_t points; /* that became progress */
};

/* Ends the segment that grows, now or behind the next mark, so that it can take part. Returns 1 and a join to step through; 0 when
 * there is nothing to join. ERR_NOMEM, ERR_IO, ERR_NOSPACE. */
int spool_join_new(struct spool *s, struct spool_join **ret_join, struct err *err);
void spool_join_free(struct spool_join *j); /* NULL is allowed; at any time */
DEFINE_AUTO(spool_join, spool_join_free)

/* One segment. Returns 1 when there is more to do, 0 at the end. The first round only counts: where less than an eighth would go, all
 * points stay. On failure what was done so far counts, and the join is over. ERR_NOMEM, ERR_IO, ERR_NOSPACE, ERR_CORRUPT.
 * A spool that was begun anew meanwhile ends it. */
int spool_join_step(struct spool_join *j, struct spool *s, struct err *err);
struct spool_joined spool_join_result(const struct spool_join *j);

#endif
