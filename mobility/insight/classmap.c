/* SPDX-License-Identifier: Apache-2.0
 *
 * Its blocks are allocated when it is opened: a write into a hole of a mapped file on a full disk would be a SIGBUS.
 */
#include "mobility/insight/classmap.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "transport/base/mem.h"

#define BLOCK_BYTES 65536u
#define PER_BYTE 4u

struct classmap {
    uint8_t *bits;
    size_t length;
    uint64_t blocks;
};

int classmap_open(const char *path, uint64_t disk_bytes, struct classmap **ret_map, struct err *err)
{
    uint64_t blocks = (disk_bytes + BLOCK_BYTES - 1) / BLOCK_BYTES;
    size_t length = (size_t)(blocks / PER_BYTE + 1);
    int fd AUTO_CLOSE = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600), r;
    struct classmap *m;
    void *bits;

    if (fd < 0)
        return err_sys(err, errno, "opening %s", path);
    if (ftruncate(fd, (off_t)length) < 0)
        return err_sys(err, errno, "sizing %s", path);
    r = posix_fallocate(fd, 0, (off_t)length);
    if (r != 0)
        return err_sys(err, r, "sizing %s", path);
    bits = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (bits == MAP_FAILED)
        return err_sys(err, errno, "mapping %s", path);
    m = mem_new(struct classmap);
    if (!m) {
        munmap(bits, length);
        return err_set(err, ERR_NOMEM, "no memory for classes of blocks");
    }
    *m = (struct classmap){.bits = bits, .length = length, .blocks = blocks};
    *ret_map = m;
    return 0;
}

void classmap_close(struct classmap *m)
{
    if (!m)
        return;
    munmap(m->bits, m->length);
    free(m);
}

enum blockclass classmap_get(const struct classmap *m, uint64_t start)
{
    uint64_t block = start / BLOCK_BYTES;

    return block < m->blocks ? (enum blockclass)(m->bits[block / PER_BYTE] >> block % PER_BYTE * 2 & 3) : BLOCK_UNKNOWN;
}

void classmap_set(struct classmap *m, uint64_t start, enum blockclass class)
{
    uint64_t block = start / BLOCK_BYTES;
    unsigned shift = (unsigned)(block % PER_BYTE) * 2;
    uint8_t *byte;

    if (block >= m->blocks)
        return;
    byte = &m->bits[block / PER_BYTE];
    *byte = (uint8_t)((*byte & ~(3u << shift)) | (unsigned)class << shift);
}
