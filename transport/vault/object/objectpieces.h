/* SPDX-License-Identifier: Apache-2.0
 *
 * A part of a file that becomes one object, read piece by piece: for objects over OBJECT_SINGLE_MAX, which services take in pieces, so
 * that a lost connection costs a piece and not all. Never more than one piece is in memory.
 */
#ifndef TRANSPORT_VAULT_OBJECT_OBJECTPIECES_H
#define TRANSPORT_VAULT_OBJECT_OBJECTPIECES_H

#include "transport/vault/object/object.h"

enum {
    OBJECT_SINGLE_MAX = 16 << 20,
    OBJECT_PIECE_BYTES = 8 << 20, /* S3 wants 5 MiB at least in all but the last */
    OBJECT_PIECES_MAX = 10000,    /* S3's; Azure takes 50,000 */
};

struct object_pieces {
    int fd;
    uint64_t offset, bytes; /* of the file */
    unsigned count;
    struct buf data; /* the piece that was read last */
};

/* ERR_TOO_LARGE: over OBJECT_PIECES_MAX pieces. The file is the caller's and must not change. */
int objectpieces_init(struct object_pieces *p, int fd, uint64_t offset, uint64_t bytes, struct err *err);
void objectpieces_done(struct object_pieces *p);
static inline void objectpieces_done_indirect(struct object_pieces *p)
{
    objectpieces_done(p);
}
#define AUTO_PIECES __attribute__((cleanup(objectpieces_done_indirect)))

/* Reads piece `index` (0 to count - 1) into p->data. */
int objectpieces_read(struct object_pieces *p, unsigned index, struct err *err);

#endif
