/* SPDX-License-Identifier: Apache-2.0
 *
 * What was drained from the tracker and is not yet committed by the vault (P2). It lies in dirty sets that are files under
 * /run: they outlive the agent, not a reboot (after which everything is compared anyway).
 *
 * The store has a few slots; a slot has one dirty set per disk and the number of the last change set whose blocks it holds.
 * One slot is open: the tracker drains into it. Closing a change set gives the open slot that number and opens a free slot;
 * where none is free the slot stays open and goes on collecting, which costs exactness (more is sent again after a
 * failure) and never memory. `Committed(n)` empties every closed slot whose number is at most n. What has to be sent again
 * is joined into the open slot, and the next cycle starts with all that is in it.
 *
 *   drain -> open slot -> close(7) -> [7] -> committed(7) -> free
 *                              \-> lost link, new epoch: reopen() -> open slot -> sent again
 *
 * A kill at any instruction leaves a superset: bits are set in the open slot before they are cleared in the tracker, slots are
 * joined before they are emptied, and the small file with the numbers is written in one piece.
 *
 * One thread at a time.
 */
#ifndef MOBILITY_SYNC_RETAINED_H
#define MOBILITY_SYNC_RETAINED_H

#include <stdbool.h>
#include <stdint.h>

#include "mobility/track/dirty.h"
#include "transport/base/err.h"
#include "transport/base/mem.h"
#include "transport/log/mark.h"

#define RETAINED_SLOTS 4u
#define RETAINED_DISKS_MAX MARK_DISKS_MAX

struct retained;

/* dir is made if it is not there. */
int retained_new(const char *dir, struct retained **ret_store, struct err *err);
void retained_free(struct retained *store); /* the files stay; NULL allowed */
DEFINE_AUTO(retained, retained_free)

/* Adds a disk under a small index of the caller's; `number` names its files and stays the same over restarts. *ret_resumed false: nothing is known of what an earlier process drained,
 * so the disk has to be resynchronized, and the next process learns the same until retained_keep. True: whatever was not committed is in the open slot again. */
int retained_add(struct retained *store, unsigned disk, uint32_t number, uint64_t size_bytes, unsigned granule_shift,
    const struct dirty_tag *tag, bool *ret_resumed, struct err *err);
/* What is known of a disk that was not resumed is true from here on: that it has to be resynchronized is durable elsewhere. */
int retained_keep(struct retained *store, unsigned disk, struct err *err);
/* Closes the sets of a disk; the files stay. */
void retained_detach(struct retained *store, unsigned disk);
/* Forgets a disk that was added and removes its files. */
void retained_remove(struct retained *store, unsigned disk);
int retained_resize(struct retained *store, unsigned disk, uint64_t size_bytes, struct err *err);

/* The set that tracker_drain gets as `pending`. Valid until the next call that closes, commits or reopens. */
struct dirty *retained_open_set(struct retained *store, unsigned disk);
/* All that is drained so far of the disks with in[disk] belongs to change sets up to `sequence`. That of the others stays
 * open. in: RETAINED_DISKS_MAX entries. */
int retained_close(struct retained *store, uint64_t sequence, const bool *in, struct err *err);
/* The vault has everything up to `sequence`. */
void retained_commit(struct retained *store, uint64_t sequence);
/* Everything that is not committed has to be sent again: it is all in the open slot afterwards. */
int retained_reopen(struct retained *store, struct err *err);
/* Empties the open set of one disk of [start, start + length): the caller knows that this was committed and that nothing was
 * drained into it since. */
void retained_forget(struct retained *store, unsigned disk, uint64_t start, uint64_t length);
/* Bytes that are drained and not committed, over all disks (a block in two slots counts twice). */
uint64_t retained_bytes(const struct retained *store);
/* Removes all files of the store in dir. */
int retained_destroy(const char *dir, struct err *err);

#endif
