/* SPDX-License-Identifier: Apache-2.0
 *
 * Builds change sets: pieces of disks become records in batches of about 1 MiB on the link, and a mark closes each set. The
 * builder owns the sequence. A set that grows beyond 64 MiB is closed by a progress mark by itself, so that neither the node
 * nor the vault ever has to hold an unbounded one; what was sent is durable then, but no recovery point.
 *
 * One thread at a time calls it; it may compress on several (changeset_set_threads).
 */
#ifndef MOBILITY_SYNC_CHANGESET_H
#define MOBILITY_SYNC_CHANGESET_H

#include <stdbool.h>
#include <stdint.h>

#include "mobility/sync/pace.h"
#include "mobility/sync/uplink.h"
#include "transport/base/err.h"
#include "transport/base/mem.h"
#include "transport/log/mark.h"

#define CHANGESET_BATCH_BYTES (1u << 20)
#define CHANGESET_PROGRESS_BYTES (64u << 20) /* of the disk, not of the wire */

struct changeset;

int changeset_new(struct uplink *link, struct changeset **ret_set, struct err *err);
void changeset_free(struct changeset *set); /* NULL allowed */
DEFINE_AUTO(changeset, changeset_free)

/* What stands in every mark until the next call: machine, generation, epoch and disks are copied from it. */
void changeset_set_frame(struct changeset *set, const struct mark *frame);
void changeset_set_level(struct changeset *set, int zstd_level); /* 0: raw */
/* Every batch is paid for there; NULL: nothing is. Must live as long as the set. */
void changeset_set_pace(struct changeset *set, struct pace *pace);
/* Pieces that are compressed are so on this many threads beside the caller's from now on, each with that nice value; memory for them is taken
 * with the first piece (see sealpool.h). 0: on the caller's alone, and the memory is given back; to be said between change sets. */
void changeset_set_threads(struct changeset *set, unsigned threads, int nice);
/* The next mark gets this number; whatever was begun is dropped. */
void changeset_restart(struct changeset *set, uint64_t sequence);
uint64_t changeset_next_sequence(const struct changeset *set);

/* Appends one piece (see struct reader_piece: at most 64 KiB, within one 64 KiB block). Errors: those of uplink_push. */
int changeset_add(
    struct changeset *set, uint32_t disk, uint64_t start, const void *data, uint32_t length, struct err *err);
/* Of the image at the coming marks, until it is set again: blocks of 4 KiB that the source could not read, and those of them that a
 * mark has room to list (`ranges` as in struct mark; those of disks that are not in the frame are left out). */
void changeset_set_unreadable(struct changeset *set, uint64_t blocks, const struct mark_range *ranges, uint32_t count);
/* The next mark of a point carries this id, and no other does. */
void changeset_set_group_point(struct changeset *set, const struct ident *id);
/* Closes the set. tag may be NULL. *ret_sequence is the mark's. */
int changeset_close(struct changeset *set, enum mark_kind kind, unsigned flags, uint64_t time_utc_usec, const char *tag,
    uint64_t *ret_sequence, struct err *err);
bool changeset_is_empty(const struct changeset *set);          /* no record since the last mark */
uint64_t changeset_sent_bytes(const struct changeset *set);    /* batches handed to the link since changeset_new */
uint64_t changeset_changed_bytes(const struct changeset *set); /* of disks, since changeset_new */
uint64_t changeset_waited_usec(
    const struct changeset *set); /* for room in the queue of the link, since changeset_new */

#endif
