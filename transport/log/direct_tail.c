/* SPDX-License-Identifier: Apache-2.0
 *
 * The buffer stands for the file from `start` on, which is a multiple of BLOCK. Whole blocks go out by O_DIRECT; the rest of a
 * flush, less than a block, goes out through the page cache, which the kernel keeps coherent with the disk, and stays in the
 * buffer, so that the block is whole when more comes.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "transport/base/file.h"
#include "transport/log/direct_tail.h"

#define BLOCK 4096u                /* no disk's alignment is larger */
#define BUFFER_BYTES (1024u << 10) /* a disk is at its full speed with it, and half a processor's cache is left */

struct direct_tail {
    int fd;     /* the caller's */
    int direct; /* the same file, opened with O_DIRECT; -1: the disk wants a larger alignment */
    uint8_t *buffer;
    uint64_t start;
    size_t used;
};

void direct_tail_free(struct direct_tail *t)
{
    if (t == NULL)
        return;
    if (t->direct >= 0)
        (void)close(t->direct);
    free(t->buffer);
    free(t);
}

int direct_tail_new(int fd, uint64_t end, struct direct_tail **ret_tail, struct err *err)
{
    char path[40];
    struct direct_tail *t AUTO_OF(direct_tail) = mem_new(struct direct_tail);
    void *buffer = NULL;
    if (t == NULL)
        return err_set(err, ERR_NOMEM, "no memory to write past the page cache");
    t->fd = fd;
    t->direct = -1;
    if (posix_memalign(&buffer, BLOCK, BUFFER_BYTES) != 0)
        return err_set(err, ERR_NOMEM, "no memory to write past the page cache");
    t->buffer = buffer;
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    t->direct = open(path, O_WRONLY | O_DIRECT | O_CLOEXEC);
    if (t->direct < 0)
        return 0;
    t->used = end % BLOCK;
    t->start = end - t->used;
    if (file_pread_all(fd, t->buffer, t->used, t->start, "the end of a file", err) < 0)
        return -1;
    *ret_tail = TAKE_PTR(t);
    return 1;
}

/* Writes the first n bytes of the buffer, whole blocks. */
static int write_blocks(struct direct_tail *t, size_t n, struct err *err)
{
    size_t done = 0;
    while (t->direct >= 0 && done < n) {
        ssize_t wrote = pwrite(t->direct, t->buffer + done, n - done, (off_t)(t->start + done));
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote > 0) {
            done += (size_t)wrote - (size_t)wrote % BLOCK;
            if ((size_t)wrote >= BLOCK)
                continue;
        } else if (wrote < 0 && errno != EINVAL) {
            return err_sys(err, errno, "appending to a segment");
        }
        (void)close(t->direct); /* not with this alignment: like everybody else from now on */
        t->direct = -1;
    }
    return done == n ? 0 : file_pwrite_all(t->fd, t->buffer + done, n - done, t->start + done, "a segment", err);
}

static int write_out(struct direct_tail *t, struct err *err)
{
    size_t whole = t->used - t->used % BLOCK;
    if (whole == 0)
        return 0;
    if (write_blocks(t, whole, err) < 0)
        return -1;
    t->used -= whole;
    t->start += whole;
    memmove(t->buffer, t->buffer + whole, t->used);
    return 0;
}

int direct_tail_append(struct direct_tail *t, const struct iovec *iov, unsigned count, struct err *err)
{
    for (unsigned i = 0; i < count; i++) {
        const uint8_t *data = iov[i].iov_base;
        size_t left = iov[i].iov_len;
        while (left > 0) {
            size_t part = BUFFER_BYTES - t->used < left ? BUFFER_BYTES - t->used : left;
            memcpy(t->buffer + t->used, data, part);
            t->used += part;
            data += part;
            left -= part;
            if (t->used == BUFFER_BYTES && write_out(t, err) < 0)
                return -1;
        }
    }
    return 0;
}

int direct_tail_flush(struct direct_tail *t, struct err *err)
{
    if (write_out(t, err) < 0)
        return -1;
    return file_pwrite_all(t->fd, t->buffer, t->used, t->start, "a segment", err);
}
