/* SPDX-License-Identifier: Apache-2.0
 *
 * Sweeps, see segsweep.h. The buffer has room for what is left of one piece in front of the next, so that records which cross
 * pieces are whole in memory. open(2) on O_DIRECT: memory, offsets and lengths are aligned to the page; a file system that has
 * no such thing refuses the open (EINVAL), and is read through the page cache.
 */
#include "transport/vault/segsweep.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE 4096u

struct segsweep {
    int fd;
    struct segment_info info;
    struct segment_reader *reader; /* knows the places of a rewritten segment */
    uint8_t *memory;               /* SEGSWEEP_WANT_MAX, then a piece */
    uint64_t at;                   /* file offset of *data */
    uint8_t *data;
    size_t len;
    uint64_t next; /* file offset of the next piece */
    bool ended;
};

static int read_header(struct segsweep *s, int dirfd, uint64_t number, struct err *err)
{
    if (segment_open(dirfd, number, &s->reader, err) < 0)
        return -1;
    s->info = *segment_reader_info(s->reader);
    return 0;
}

static int open_file(int dirfd, uint64_t number, bool direct, struct err *err)
{
    char name[SEGMENT_NAME_SIZE];
    segment_name(number, name);
    int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | (direct ? O_DIRECT : 0));
    if (fd < 0 && direct && errno == EINVAL)
        fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? err_sys(err, errno, "opening segment %llu", (unsigned long long)number) : fd;
}

int segsweep_open(int dirfd, uint64_t number, bool direct, struct segsweep **ret_sweep, struct err *err)
{
    struct segsweep *s AUTO_OF(segsweep) = mem_new(struct segsweep);
    if (s == NULL)
        return err_set(err, ERR_NOMEM, "no memory to read a segment");
    s->fd = -1;
    void *memory = NULL;
    if (posix_memalign(&memory, PAGE, SEGSWEEP_WANT_MAX + SEGSWEEP_PIECE) != 0)
        return err_set(err, ERR_NOMEM, "no memory to read a segment");
    s->memory = memory;
    s->data = s->memory + SEGSWEEP_WANT_MAX;
    if (read_header(s, dirfd, number, err) < 0)
        return -1;
    s->fd = open_file(dirfd, number, direct, err);
    if (s->fd < 0)
        return -1;
    *ret_sweep = TAKE_PTR(s);
    return 0;
}

void segsweep_close(struct segsweep *s)
{
    if (s == NULL)
        return;
    if (s->fd >= 0)
        (void)close(s->fd);
    segment_reader_close(s->reader);
    free(s->memory);
    free(s);
}

uint64_t segsweep_place(const struct segsweep *s, uint64_t offset)
{
    return segment_reader_place_at(s->reader, offset);
}

const struct segment_info *segsweep_info(const struct segsweep *s)
{
    return &s->info;
}

static ssize_t read_at(int fd, uint8_t *out, size_t n, uint64_t offset)
{
    ssize_t got;
    do {
        got = pread(fd, out, n, (off_t)offset);
    } while (got < 0 && errno == EINTR);
    return got;
}

/* The medium has pages that it cannot read: they become zeros, which no check takes for records; the others count. */
static ssize_t read_around(int fd, uint8_t *piece, uint64_t offset)
{
    struct stat st;
    size_t n = 0;
    if (fstat(fd, &st) < 0)
        return -1;
    for (; n < SEGSWEEP_PIECE && offset + n < (uint64_t)st.st_size; n += PAGE)
        if (read_at(fd, piece + n, PAGE, offset + n) < 0)
            memset(piece + n, 0, PAGE);
    uint64_t left = offset < (uint64_t)st.st_size ? (uint64_t)st.st_size - offset : 0;
    return (ssize_t)(left < n ? left : n);
}

/* Short reads are the end of the file, or end before a page that cannot be read; asking again tells. Past the page cache only whole pages are
 * asked for, and what ends within one is the end. */
static ssize_t read_piece(int fd, uint8_t *piece, uint64_t offset)
{
    size_t n = 0;
    while (n < SEGSWEEP_PIECE && n % PAGE == 0) {
        ssize_t got = read_at(fd, piece + n, SEGSWEEP_PIECE - n, offset + n);
        if (got < 0)
            return errno == EIO ? read_around(fd, piece, offset) : -1;
        if (got == 0)
            break;
        n += (size_t)got;
    }
    return (ssize_t)n;
}

/* Puts the next piece behind the `left` bytes at the end of the present one. */
static int next_piece(struct segsweep *s, size_t left, struct err *err)
{
    uint8_t *piece = s->memory + SEGSWEEP_WANT_MAX;
    memmove(piece - left, s->data + s->len - left, left);
    s->at = s->next - left;
    s->data = piece - left;
    s->len = left;
    ssize_t n = read_piece(s->fd, piece, s->next);
    if (n < 0)
        return err_sys(err, errno, "reading segment %llu at byte %llu", (unsigned long long)s->info.number,
            (unsigned long long)s->next);
    s->ended = (size_t)n < SEGSWEEP_PIECE;
    s->next += (uint64_t)n;
    s->len += (size_t)n;
    return 0;
}

int segsweep_look(
    struct segsweep *s, uint64_t offset, size_t want, const uint8_t **ret_data, size_t *ret_have, struct err *err)
{
    if (offset < s->at || want > SEGSWEEP_WANT_MAX)
        return err_set(err, ERR_INTERNAL, "a sweep of a segment goes forward, record by record");
    while (!s->ended && offset + want > s->at + s->len) {
        size_t left = offset < s->at + s->len ? (size_t)(s->at + s->len - offset) : 0;
        if (next_piece(s, left, err) < 0)
            return -1;
    }
    size_t skip = offset < s->at + s->len ? (size_t)(offset - s->at) : s->len;
    *ret_data = s->data + skip;
    *ret_have = s->len - skip;
    return 0;
}
