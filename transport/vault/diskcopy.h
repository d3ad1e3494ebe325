/* SPDX-License-Identifier: Apache-2.0
 *
 * Writing a disk at a point to a raw file or a block device, and reading it back. In steps of bounded size, so that others get
 * their turn, and so that it can be broken off and go on: behind the place up to which an earlier try came for certain, what is there
 * already is compared and only what differs is written.
 *
 * Nothing is said to be written that was not read back from the target afterwards and had the hash that the source made (P5).
 */
#ifndef TRANSPORT_VAULT_DISKCOPY_H
#define TRANSPORT_VAULT_DISKCOPY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "transport/base/err.h"
#include "transport/base/mem.h"
#include "transport/vault/view.h"

struct diskcopy;

struct diskcopy_spec {
    const struct view *view; /* must outlive the copy */
    uint32_t disk;
    int fd;         /* of the target, read-write; kept by the caller */
    bool is_device; /* else a file, which is made as long as the disk */
    bool again;     /* there may be something of an earlier try in it */
    uint64_t from;  /* ... which is complete and durable up to here */
};
/* ERR_NOT_FOUND: the point has no such disk. */
int diskcopy_new(const struct diskcopy_spec *spec, struct diskcopy **ret_copy, struct err *err);
void diskcopy_free(struct diskcopy *c); /* NULL is allowed */
DEFINE_AUTO(diskcopy, diskcopy_free)

/* Goes on by about that many bytes: 1 there is more, 0 all is written and verified. ERR_CORRUPT: the target gives back something else;
 * ERR_NOSPACE, ERR_IO, and what reading a view fails with. Any thread, one at a time. */
int diskcopy_step(struct diskcopy *c, uint64_t bytes, struct err *err);

struct diskcopy_progress {
    uint64_t size_bytes;
    uint64_t durable; /* written and synced up to here */
    bool verifying;
    uint64_t at;            /* of writing, or of verifying */
    uint64_t written_bytes; /* what really had to be written, zeros not counted */
};
void diskcopy_progress(const struct diskcopy *c, struct diskcopy_progress *ret_progress);

#endif
