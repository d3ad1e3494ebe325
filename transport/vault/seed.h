/* SPDX-License-Identifier: Apache-2.0
 *
 * A seed: an older copy of a machine's disks (an export, any raw image, a disk that was sent by post) becomes what the vault holds of the
 * machine before its agent begins. The agent then compares by hash, and only what differs travels.
 *
 * A seed is written as change sets of progress, so it is never a recovery point: nobody can open it, and what it says counts only where
 * the source has the same. A wrong or damaged file costs the line what it differs, and nothing else. Each of its marks says in its tag how
 * far it is ("seed DISK BYTE"), so a vault that was killed goes on where it was.
 */
#ifndef TRANSPORT_VAULT_SEED_H
#define TRANSPORT_VAULT_SEED_H

#include "transport/vault/store.h"

struct seed;

struct seed_disk {
    uint32_t number;
    uint64_t size_bytes; /* of the machine's disk */
    uint32_t sector_bytes;
    const char *name; /* of it on its machine, "sda" */
    const char *path; /* absolute; "": there is no seed of this disk */
};

struct seed_progress {
    uint64_t at_bytes, total_bytes; /* of the files */
    uint64_t taken_bytes;           /* of them, not zeros: became content */
    bool resumed;
};

/* Opens and checks the files. disks: all that will be protected, ascending by number; copied. ERR_INVALID: not raw, empty, larger than
 * the disk; ERR_NOT_FOUND and others of opening. */
int seed_open(const struct seed_disk *disks, size_t count, struct seed **ret_seed, struct err *err);
void seed_free(struct seed *s); /* NULL allowed */
DEFINE_AUTO(seed, seed_free)
/* The machine's lane: writes the next piece, bounded in size. 1: there is more. 0: all is committed. ERR_REFUSED: the vault holds more of the
 * machine than a seed, or replication has begun. */
int seed_step(struct seed *s, struct store *store, struct err *err);
void seed_get_progress(const struct seed *s, struct seed_progress *ret_progress);

#endif
