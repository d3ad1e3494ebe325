/* SPDX-License-Identifier: Apache-2.0
 *
 * Cutting a file into pieces.
 */
#include "transport/vault/object/objectpieces.h"

#include "transport/base/file.h"

int objectpieces_init(struct object_pieces *p, int fd, uint64_t offset, uint64_t bytes, struct err *err)
{
    uint64_t count = (bytes + OBJECT_PIECE_BYTES - 1) / OBJECT_PIECE_BYTES;

    *p = (struct object_pieces){.fd = fd, .offset = offset, .bytes = bytes, .data = BUF_INIT(OBJECT_PIECE_BYTES)};
    if (count > OBJECT_PIECES_MAX)
        return err_set(err, ERR_TOO_LARGE, "%llu bytes are too many for one object", (unsigned long long)bytes);
    p->count = (unsigned)count;
    return 0;
}

void objectpieces_done(struct object_pieces *p)
{
    buf_done(&p->data);
}

int objectpieces_read(struct object_pieces *p, unsigned index, struct err *err)
{
    uint64_t from = (uint64_t)index * OBJECT_PIECE_BYTES;
    size_t n = p->bytes - from < OBJECT_PIECE_BYTES ? (size_t)(p->bytes - from) : (size_t)OBJECT_PIECE_BYTES;

    buf_clear(&p->data);
    if (buf_reserve(&p->data, n, err) < 0 ||
        file_pread_all(p->fd, p->data.data, n, p->offset + from, "a file to upload", err) < 0)
        return -1;
    p->data.len = n;
    return 0;
}
