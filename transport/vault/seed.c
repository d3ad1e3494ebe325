/* SPDX-License-Identifier: Apache-2.0
 *
 * Happy path: holes and zeros are skipped, the rest is sealed as a node would, in change sets of bounded size under an epoch of their own.
 * Failure modes: an agent that begins meanwhile has a higher epoch and ends the seed; a file that cannot be read to its end, or a full
 * disk, leave what is committed, which is as good a base as any.
 */
#include "transport/vault/seed.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "transport/base/bytes.h"
#include "transport/base/clock.h"
#include "transport/log/seal.h"
#include "transport/vault/seed_private.h"

#define BATCH_BYTES (2u << 20)
#define BATCH_MAX (8u << 20)
#define SET_BYTES (32u << 20)     /* of content in one change set */
#define STEP_BYTES (128ull << 20) /* of a file in one step: other jobs of the machine wait that long */
#define LEVEL 1
#define TAG_FORMAT SEED_TAG "%" PRIu32 " %" PRIu64

struct seed_file {
    struct mark_disk disk;
    char *path; /* "": none */
    int fd;
    uint64_t size_bytes;
};

struct seed {
    struct seed_file *files;
    size_t count, current;
    uint64_t at; /* of the current file */
    bool begun;
    struct seed_progress progress;
    struct store_opened opened;
    struct seal_work *work;
    struct record_digest *digest;
    struct buf plain, batch;
    uint8_t *block; /* RECORD_BLOCK_SIZE */
    uint64_t records, bytes, nonce;
};

bool seed_is_mark(const struct mark *m)
{
    return m != NULL && m->kind == MARK_PROGRESS && strncmp(m->tag, SEED_TAG, sizeof(SEED_TAG) - 1) == 0;
}

/* ---- files ---- */

static int size_of(int fd, uint64_t *ret_bytes, struct err *err)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return err_sys(err, errno, "looking at it");
    if (S_ISBLK(st.st_mode))
        return ioctl(fd, BLKGETSIZE64, ret_bytes) < 0 ? err_sys(err, errno, "asking for its size") : 0;
    if (!S_ISREG(st.st_mode))
        return err_set(err, ERR_INVALID, "it is neither a file nor a block device");
    *ret_bytes = (uint64_t)st.st_size;
    return 0;
}

/* Formats that one may well have at hand; taken for raw they would be useless and look right. */
static int check_format(int fd, uint64_t size, struct err *err)
{
    static const struct {
        const char *magic, *name;
        bool at_end; /* in a footer of 512 bytes */
    } known[] = {{"QFI\xfb", "qcow2", false}, {"KDMV", "vmdk", false}, {"# Disk DescriptorFile", "vmdk", false},
        {"vhdxfile", "vhdx", false}, {"<<< ", "vdi", false}, {"conectix", "vhd", false}, {"conectix", "vhd", true}};
    char head[32] = "", foot[32] = "";
    if (pread(fd, head, sizeof(head) - 1, 0) < 0 ||
        (size >= 512 && pread(fd, foot, sizeof(foot) - 1, (off_t)(size - 512)) < 0))
        return err_sys(err, errno, "reading it");
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (memcmp(known[i].at_end ? foot : head, known[i].magic, strlen(known[i].magic)) == 0) {
            (void)err_set(err, ERR_INVALID, "it is a %s image", known[i].name);
            return err_hint(err, "convert it first: qemu-img convert -O raw FILE RAW");
        }
    return 0;
}

static int check_size(const struct seed_file *f, struct err *err)
{
    if (f->size_bytes == 0)
        return err_set(err, ERR_INVALID, "it is empty");
    if (f->size_bytes <= f->disk.size_bytes)
        return 0;
    (void)err_set(
        err, ERR_INVALID, "it has %" PRIu64 " bytes, and the disk only %" PRIu64, f->size_bytes, f->disk.size_bytes);
    return err_hint(err, "see that it is a copy of that disk: the whole one, not of another");
}

static int open_file(struct seed_file *f, const struct seed_disk *d, struct err *err)
{
    f->fd = -1;
    f->disk = (struct mark_disk){
        .number = d->number, .sector_bytes = d->sector_bytes ? d->sector_bytes : 512, .size_bytes = d->size_bytes};
    (void)snprintf(f->disk.name, sizeof(f->disk.name), "%s", d->name[0] != '\0' ? d->name : "disk");
    f->path = mem_strdup(d->path);
    if (f->path == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a seed");
    if (f->path[0] == '\0')
        return 0;
    if (f->path[0] != '/')
        return err_set(err, ERR_INVALID, "the path must be absolute");
    f->fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (f->fd < 0)
        return err_sys(err, errno, "opening it");
    if (size_of(f->fd, &f->size_bytes, err) < 0 || check_size(f, err) < 0)
        return -1;
    return check_format(f->fd, f->size_bytes, err);
}

int seed_open(const struct seed_disk *disks, size_t count, struct seed **ret_seed, struct err *err)
{
    struct seed *s AUTO_OF(seed) = mem_new(struct seed);
    if (s == NULL || count == 0 || count > MARK_DISKS_MAX)
        return err_set(err, s == NULL ? ERR_NOMEM : ERR_INVALID, "a seed of %zu disks cannot be taken", count);
    s->plain = (struct buf)BUF_INIT(1u << 20);
    s->batch = (struct buf)BUF_INIT(BATCH_MAX);
    s->files = mem_alloc(count, sizeof(*s->files));
    s->work = seal_work_new();
    s->digest = record_digest_new();
    s->block = mem_alloc(1, RECORD_BLOCK_SIZE);
    if (s->files == NULL || s->work == NULL || s->digest == NULL || s->block == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a seed");
    for (; s->count < count; s->count++) {
        struct seed_file *f = &s->files[s->count];
        if (s->count > 0 && disks[s->count].number <= f[-1].disk.number)
            return err_set(err, ERR_INVALID, "the disks of a seed are not in the order of their numbers");
        if (open_file(f, &disks[s->count], err) < 0) {
            s->count++;
            return err_wrap(err, "the seed %s", disks[s->count - 1].path);
        }
        s->progress.total_bytes += f->size_bytes;
    }
    *ret_seed = TAKE_PTR(s);
    return 0;
}

void seed_free(struct seed *s)
{
    if (s == NULL)
        return;
    for (size_t i = 0; i < s->count; i++) {
        if (s->files[i].path != NULL && s->files[i].fd >= 0)
            (void)close(s->files[i].fd);
        free(s->files[i].path);
    }
    free(s->files);
    seal_work_free(s->work);
    record_digest_free(s->digest);
    free(s->block);
    buf_done(&s->plain);
    buf_done(&s->batch);
    explicit_bzero(&s->opened, sizeof(s->opened));
    free(s);
}

/* ---- change sets ---- */

static int send(struct seed *s, struct store *store, struct err *err)
{
    uint64_t committed;
    int result = s->batch.len == 0 ? 0 : store_append(store, s->batch.data, s->batch.len, &committed, err);
    buf_clear(&s->batch);
    return result;
}

static int close_set(struct seed *s, struct store *store, struct err *err)
{
    struct mark *m AUTO_FREE = s->records == 0 ? NULL : mem_new(struct mark);
    if (s->records == 0)
        return 0;
    if (m == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a mark");
    store_machine(store, &m->machine);
    m->kind = MARK_PROGRESS;
    m->sequence = store_committed(store) + 1;
    m->generation = s->opened.generation;
    m->epoch = s->opened.epoch;
    m->time_utc_usec = clock_utc_usec();
    (void)snprintf(m->tag, sizeof(m->tag), TAG_FORMAT, s->files[s->current].disk.number, s->at);
    m->disk_count = (uint32_t)s->count;
    for (size_t i = 0; i < s->count; i++)
        m->disks[i] = s->files[i].disk;
    m->record_count = s->records;
    m->changed_bytes = s->bytes;
    record_digest_get(s->digest, &m->digest);
    s->records = s->bytes = 0;
    record_digest_reset(s->digest);
    if (mark_append(m, &s->batch, err) < 0 || send(s, store, err) < 0)
        return -1;
    return store_wants_flush(store) ? store_flush(store, err) : 0;
}

static int add_block(struct seed *s, uint32_t n, struct err *err)
{
    struct record r, sealed;
    buf_clear(&s->plain);
    if (seal_append_data(s->work, s->files[s->current].disk.number, s->at, s->block, n, 0, &s->plain, &r, err) < 0 ||
        seal_reseal(s->work, &r, s->plain.data + RECORD_HEADER_SIZE, LEVEL, &s->opened.data_key, s->opened.nonce_stream,
            ++s->nonce, &s->batch, &sealed, err) < 0)
        return -1;
    record_digest_add(s->digest, &sealed);
    s->records++;
    s->bytes += n;
    s->progress.taken_bytes += n;
    return 0;
}

/* ---- reading ---- */

/* A file whose end lies within a sector is one with zeros behind it. */
static int read_block(struct seed *s, uint32_t n, uint32_t *ret_length, struct err *err)
{
    const struct seed_file *f = &s->files[s->current];
    uint32_t got = 0, whole = (n + RECORD_SECTOR - 1) / RECORD_SECTOR * RECORD_SECTOR;
    while (got < n) {
        ssize_t r = pread(f->fd, s->block + got, n - got, (off_t)(s->at + got));
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return err_sys(err, errno, "reading the seed %s at byte %" PRIu64, f->path, s->at + got);
        if (r == 0)
            return err_set(err, ERR_IO, "the seed %s has become shorter", f->path);
        got += (uint32_t)r;
    }
    memset(s->block + got, 0, whole - got);
    *ret_length = whole;
    return 0;
}

/* Over a hole, to the beginning of the block in which data begins. */
static void skip_hole(struct seed *s)
{
    const struct seed_file *f = &s->files[s->current];
    off_t data = lseek(f->fd, (off_t)s->at, SEEK_DATA);
    if (data < 0 && errno == ENXIO)
        s->at = f->size_bytes;
    else if (data > (off_t)s->at)
        s->at = (uint64_t)data / RECORD_BLOCK_SIZE * RECORD_BLOCK_SIZE > s->at
                    ? (uint64_t)data / RECORD_BLOCK_SIZE * RECORD_BLOCK_SIZE
                    : s->at;
}

static int take_block(struct seed *s, struct err *err)
{
    const struct seed_file *f = &s->files[s->current];
    uint64_t left = f->size_bytes - s->at;
    uint32_t n = left < RECORD_BLOCK_SIZE ? (uint32_t)left : RECORD_BLOCK_SIZE, length = 0;
    if (read_block(s, n, &length, err) < 0)
        return -1;
    if (!bytes_are_zero(s->block, length) && add_block(s, length, err) < 0)
        return -1;
    s->at += n;
    return 0;
}

static uint64_t done_before(const struct seed *s)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < s->current; i++)
        sum += s->files[i].size_bytes;
    return sum;
}

/* One piece of the current file; 1: of this one there is more. */
static int take_piece(struct seed *s, struct store *store, struct err *err)
{
    const struct seed_file *f = &s->files[s->current];
    uint64_t until = s->at + STEP_BYTES;
    while (s->at < f->size_bytes && s->at < until && s->bytes < SET_BYTES) {
        skip_hole(s);
        if (s->at < f->size_bytes && take_block(s, err) < 0)
            return -1;
        if (s->batch.len >= BATCH_BYTES && send(s, store, err) < 0)
            return -1;
    }
    s->progress.at_bytes = done_before(s) + s->at;
    return close_set(s, store, err) < 0 ? -1 : s->at < f->size_bytes;
}

/* ---- the store ---- */

/* Goes on where an earlier run was. */
static void resume(struct seed *s, const struct mark *last)
{
    uint32_t number;
    uint64_t at;
    if (!seed_is_mark(last) || sscanf(last->tag, SEED_TAG "%" SCNu32 " %" SCNu64, &number, &at) != 2)
        return;
    for (size_t i = 0; i < s->count; i++)
        if (s->files[i].disk.number == number && at <= s->files[i].size_bytes) {
            s->current = i;
            s->at = at;
            s->progress.resumed = true;
        }
}

static int begin(struct seed *s, struct store *store, struct err *err)
{
    const struct mark *last = store_last_mark(store);
    if (last != NULL && !seed_is_mark(last)) {
        (void)err_set(err, ERR_REFUSED, "the vault holds replicated data of this machine already");
        return err_hint(err, "protect it without a seed: only what differs is sent then, too");
    }
    if (store_begin(store, store_generation(store), store_epoch(store) + 1, &s->opened, err) < 0)
        return -1;
    resume(s, last);
    s->begun = true;
    return 0;
}

int seed_step(struct seed *s, struct store *store, struct err *err)
{
    if (!s->begun && begin(s, store, err) < 0)
        return -1;
    if (store_epoch(store) != s->opened.epoch)
        return err_set(err, ERR_REFUSED, "replication of the machine has begun");
    while (s->current < s->count && s->at >= s->files[s->current].size_bytes) {
        s->current++;
        s->at = 0;
    }
    if (s->current == s->count)
        return store_flush(store, err);
    if (take_piece(s, store, err) < 0) {
        store_drop_open(store);
        return -1;
    }
    return 1;
}

void seed_get_progress(const struct seed *s, struct seed_progress *ret_progress)
{
    *ret_progress = s->progress;
}
