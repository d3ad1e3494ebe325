/* SPDX-License-Identifier: Apache-2.0
 *
 * A byte for each page of the map tells what a save has to write; a copy of a whole disk changes nearly all of it, a minute of a server a few.
 */
#include "mobility/insight/classmap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "transport/base/mem.h"

#define BLOCK_BYTES 65536u
#define PER_BYTE 4u
#define PAGE 4096u

struct classmap {
    char *path;
    uint8_t *bits;
    size_t length;
    uint64_t blocks;
    bool *changed; /* of each page, since the last save */
    bool any_changed;
};

static size_t page_count(const struct classmap *m)
{
    return (m->length + PAGE - 1) / PAGE;
}

static void classmap_free(struct classmap *m)
{
    if (!m)
        return;
    free(m->path);
    free(m->bits);
    free(m->changed);
    free(m);
}
DEFINE_AUTO(classmap, classmap_free)

static int load(struct classmap *m, struct err *err)
{
    int fd AUTO_CLOSE = open(m->path, O_RDONLY | O_CLOEXEC);
    size_t done = 0;
    ssize_t n;

    if (fd < 0)
        return errno == ENOENT ? 0 : err_sys(err, errno, "opening %s", m->path);
    while (done < m->length && (n = pread(fd, m->bits + done, m->length - done, (off_t)done)) != 0) {
        if (n < 0 && errno != EINTR)
            return err_sys(err, errno, "reading %s", m->path);
        done += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

int classmap_open(const char *path, uint64_t disk_bytes, struct classmap **ret_map, struct err *err)
{
    struct classmap *m AUTO_OF(classmap) = mem_new(struct classmap);

    if (!m)
        return err_set(err, ERR_NOMEM, "no memory for classes of blocks");
    m->blocks = (disk_bytes + BLOCK_BYTES - 1) / BLOCK_BYTES;
    m->length = (size_t)(m->blocks / PER_BYTE + 1);
    m->path = mem_strdup(path);
    m->bits = mem_alloc(m->length, 1);
    m->changed = mem_alloc(page_count(m), sizeof(bool));
    if (!m->path || !m->bits || !m->changed)
        return err_set(err, ERR_NOMEM, "no memory for classes of blocks");
    if (load(m, err) < 0)
        return -1;
    *ret_map = TAKE_PTR(m);
    return 0;
}

void classmap_close(struct classmap *m)
{
    if (!m)
        return;
    (void)classmap_save(m, NULL);
    classmap_free(m);
}

static int write_page(struct classmap *m, int fd, size_t page, struct err *err)
{
    size_t at = page * PAGE, end = at + PAGE < m->length ? at + PAGE : m->length;

    while (at < end) {
        ssize_t n = pwrite(fd, m->bits + at, end - at, (off_t)at);

        if (n < 0 && errno != EINTR)
            return err_sys(err, errno, "writing %s", m->path);
        at += n > 0 ? (size_t)n : 0;
    }
    m->changed[page] = false;
    return 0;
}

int classmap_save(struct classmap *m, struct err *err)
{
    if (!m->any_changed)
        return 0;
    int fd AUTO_CLOSE = open(m->path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    if (fd < 0)
        return err_sys(err, errno, "opening %s", m->path);
    if (ftruncate(fd, (off_t)m->length) < 0)
        return err_sys(err, errno, "sizing %s", m->path);
    for (size_t page = 0; page < page_count(m); page++)
        if (m->changed[page] && write_page(m, fd, page, err) < 0)
            return -1;
    m->any_changed = false;
    return 0;
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
    uint8_t *byte, old;

    if (block >= m->blocks)
        return;
    byte = &m->bits[block / PER_BYTE];
    old = *byte;
    *byte = (uint8_t)((old & ~(3u << shift)) | (unsigned)class << shift);
    if (*byte != old)
        m->any_changed = m->changed[block / PER_BYTE / PAGE] = true;
}
