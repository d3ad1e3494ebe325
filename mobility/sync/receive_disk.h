/* SPDX-License-Identifier: Apache-2.0
 *
 * One disk that is written back: opening it for oneself, and one pass over it.
 */
#ifndef MOBILITY_SYNC_RECEIVE_DISK_H
#define MOBILITY_SYNC_RECEIVE_DISK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "transport/base/err.h"
#include "transport/base/ident.h"
#include "transport/base/mem.h"
#include "transport/proto/vaultask.h"

struct receive_disk;

struct receive_figures {
    uint64_t compared_bytes; /* of the disk, that were read and hashed */
    uint64_t written_bytes;  /* that were different */
    uint64_t traffic_bytes;  /* of messages in both directions */
};

struct receive_pass {
    struct vaultask *ask;
    struct ident machine;
    uint64_t sequence; /* the point */
    uint64_t
        after; /* the disk holds this one already, unless somebody else has written to it since; 0: nobody knows what it holds */
    const uint32_t *numbers; /* of all disks that are written: the point must have no other; NULL: not looked at */
    unsigned number_count;
    struct receive_figures *figures;
    bool (*goes_on)(void *arg, uint64_t at_bytes, uint64_t size_bytes); /* now and then; false: stop */
    void *arg;
};

/* By its key (inventory.h), exclusively. ERR_NOT_FOUND: no such disk; ERR_REFUSED: in use, or the root's. */
int receive_disk_open(const char *key, uint32_t number, struct receive_disk **ret_disk, struct err *err);
void receive_disk_close(struct receive_disk *d); /* NULL is allowed */
DEFINE_AUTO(receive_disk, receive_disk_close)

/* Which point the vault would give (sequence 0: the newest), and whether the disk is large enough for it, and all of its disks are written:
 * ERR_REFUSED; ERR_NOT_FOUND: the point has no disk of that number. */
int receive_disk_look(struct receive_disk *d, const struct receive_pass *pass, uint64_t *ret_sequence, struct err *err);
/* Afterwards the disk holds the point, durably. ERR_CANCELLED: told to stop; ERR_IO: it gives back something else than was written. */
int receive_disk_pass(struct receive_disk *d, const struct receive_pass *pass, struct err *err);
dev_t receive_disk_device(const struct receive_disk *d);
const char *receive_disk_key(const struct receive_disk *d);
/* What the kernel still has of it is on the disk. */
int receive_disk_sync(struct receive_disk *d, struct err *err);
/* Has the kernel read its partitions anew. */
void receive_disk_reread(struct receive_disk *d);

#endif
