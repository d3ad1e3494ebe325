/* SPDX-License-Identifier: Apache-2.0
 *
 * The scan driver, for kernels without BTF: it keeps in a file, for every 64 KiB of each disk, the hash of what the caller has read of it
 * last, and a drain reads the disk and hands out the blocks whose hash is another one. A drain changes nothing in the table: it says of
 * the disk as it is whether it is what was read, whatever came and went in between.
 *
 * A block is whole in the table or not at all: what was read of it in part leaves 0, unless the parts come one behind the other from its
 * start to its end, as they do where some of its sectors cannot be read. Those count as content of their own kind, in steps of 4 KiB.
 * It counts no barriers, but whether anything was written, so its points need a quiet disk (DESIGN.md).
 *
 *   file   header 4 KiB | one little-endian hash per block; 0: nothing is known of what was read
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mobility/track/tracker_driver.h"
#include "transport/base/file.h"
#include "transport/base/hash.h"
#include "transport/base/mem.h"

#define BLOCK_BYTES 65536u
#define READ_BYTES (1u << 20)
#define HEADER_BYTES 4096u
#define STEP_BYTES 4096u          /* of a block that cannot be read as a whole */
#define UNREADABLE_BYTE 0xbd      /* a step that cannot be read is hashed as so many of these */
#define MAGIC 0x324e414353574cull /* "LWSCAN2" */
#define UNKNOWN 0ull              /* no content has this hash */
/* Of a table that is written front to back: this many entries, then it is left to the page cache. */
#define NOTES_KEPT (1u << 17)

struct scan_header {
    uint64_t magic;
    uint64_t size_bytes;
    uint64_t disk_sequence;
    uint64_t incarnation;
    uint8_t boot_id[16];
};

struct scan {
    char *dir;
    char instance[40];
    uint8_t boot_id[16];
    uint8_t *buffer; /* READ_BYTES, aligned */
    /* The block that is being noted part by part, as far as it is there. */
    const struct tracker_disk *parts_of; /* NULL: none */
    uint64_t parts_start;
    size_t parts_length, parts_spoiled; /* before this byte nothing that comes is taken */
    uint8_t *parts;                     /* BLOCK_BYTES */
};

struct scan_disk {
    char path[512]; /* of the table */
    int disk_fd, table_fd;
    struct scan_header *header;
    uint64_t *hashes;
    size_t mapped;
    uint64_t changed_bytes;
    uint64_t notes;     /* since the table was last left to the page cache */
    uint64_t uncounted; /* times that the kernel did not tell what was written */
};

static size_t table_bytes(uint64_t size_bytes)
{
    uint64_t blocks = (size_bytes + BLOCK_BYTES - 1) / BLOCK_BYTES;

    return (size_t)(HEADER_BYTES + blocks * sizeof(uint64_t));
}

/* --- the table --------------------------------------------------------------------------------------------------------- */

static void unmap_table(struct scan_disk *d)
{
    if (d->header)
        (void)munmap(d->header, d->mapped);
    d->header = NULL;
}

/* Maps the table for a disk of this size, with storage for all of it. */
static int map_table(struct scan_disk *d, uint64_t size_bytes, struct err *err)
{
    size_t bytes = table_bytes(size_bytes);
    int code = posix_fallocate(d->table_fd, 0, (off_t)bytes);
    void *base;

    if (code != 0) {
        (void)err_sys(err, code, "reserving %zu bytes for %s", bytes, d->path);
        return err_hint(err, "free space in the agent's data folder");
    }
    unmap_table(d);
    base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, d->table_fd, 0);
    if (base == MAP_FAILED)
        return err_sys(err, errno, "mapping %s", d->path);
    mem_keep_from_children(base, bytes);
    d->header = base;
    d->hashes = (uint64_t *)((char *)base + HEADER_BYTES);
    d->mapped = bytes;
    return 0;
}

static int open_table(struct scan_disk *d, struct err *err)
{
    d->table_fd = open(d->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (d->table_fd < 0)
        return err_sys(err, errno, "opening %s", d->path);
    if (flock(d->table_fd, LOCK_EX | LOCK_NB) < 0)
        return errno == EWOULDBLOCK ? err_set(err, ERR_CONFLICT, "%s is in use by another process", d->path)
                                    : err_sys(err, errno, "locking %s", d->path);
    return 0;
}

/* Takes over the table of an earlier process of this boot for this very device. */
static bool adopt_table(const struct scan *s, struct tracker_disk *disk, struct scan_disk *d)
{
    struct scan_header h;
    struct stat st;

    if (pread(d->table_fd, &h, sizeof(h), 0) != (ssize_t)sizeof(h) || h.magic != MAGIC || h.incarnation == 0 ||
        h.disk_sequence != disk->sequence || memcmp(h.boot_id, s->boot_id, sizeof(h.boot_id)) != 0)
        return false;
    if (h.size_bytes > disk->size_bytes || fstat(d->table_fd, &st) < 0 ||
        st.st_size < (off_t)table_bytes(h.size_bytes) || map_table(d, h.size_bytes, NULL) < 0)
        return false;
    disk->size_bytes = h.size_bytes;
    disk->granule_shift = tracker_granule_shift(h.size_bytes);
    return true;
}

static int new_incarnation(uint64_t *ret_number, struct err *err)
{
    do {
        if (getrandom(ret_number, sizeof(*ret_number), 0) != (ssize_t)sizeof(*ret_number))
            return err_sys(err, errno, "getting a random number");
    } while (*ret_number == 0);
    return 0;
}

/* --- reading ------------------------------------------------------------------------------------------------------------- */

static uint64_t hash_of(const uint8_t *data, size_t n)
{
    uint64_t hash = hash_64(data, n);

    return hash == UNKNOWN ? hash + 1 : hash;
}

/* A block that could not be read as a whole. */
static void read_in_steps(const struct scan_disk *d, uint8_t *data, uint64_t at, size_t n)
{
    for (size_t done = 0; done < n; done += STEP_BYTES) {
        size_t length = n - done < STEP_BYTES ? n - done : STEP_BYTES;

        if (pread(d->disk_fd, data + done, length, (off_t)(at + done)) != (ssize_t)length)
            memset(data + done, UNREADABLE_BYTE, length);
    }
}

/* Hashes the blocks of [at, at + n). Where the read fails they are read one by one. */
static void hash_range(const struct scan_disk *d, uint8_t *buffer, uint64_t at, size_t n, uint64_t *hashes)
{
    bool whole = pread(d->disk_fd, buffer, n, (off_t)at) == (ssize_t)n;

    for (size_t i = 0; i * BLOCK_BYTES < n; i++) {
        size_t length = n - i * BLOCK_BYTES < BLOCK_BYTES ? n - i * BLOCK_BYTES : BLOCK_BYTES;
        uint8_t *data = buffer + i * BLOCK_BYTES;

        if (!whole && pread(d->disk_fd, data, length, (off_t)(at + i * BLOCK_BYTES)) != (ssize_t)length)
            read_in_steps(d, data, at + i * BLOCK_BYTES, length);
        hashes[i] = hash_of(data, length);
    }
}

typedef int (*block_sink)(void *arg, uint64_t block, uint64_t hash, struct err *err);

static int each_block(
    const struct scan *s, const struct scan_disk *d, uint64_t size_bytes, block_sink sink, void *arg, struct err *err)
{
    uint64_t hashes[READ_BYTES / BLOCK_BYTES];

    for (uint64_t at = 0; at < size_bytes; at += READ_BYTES) {
        size_t n = size_bytes - at < READ_BYTES ? (size_t)(size_bytes - at) : READ_BYTES;
        hash_range(d, s->buffer, at, n, hashes);
        for (size_t i = 0; i * BLOCK_BYTES < n; i++)
            if (sink(arg, at / BLOCK_BYTES + i, hashes[i], err) < 0)
                return -1;
    }
    return 0;
}

/* --- disks --------------------------------------------------------------------------------------------------------------- */

/* Empty: nothing was read of the disk yet. */
static int make_table(const struct scan *s, const struct tracker_disk *disk, struct scan_disk *d, struct err *err)
{
    uint64_t incarnation;

    if (new_incarnation(&incarnation, err) < 0)
        return -1;
    if (ftruncate(d->table_fd, 0) < 0)
        return err_sys(err, errno, "emptying %s", d->path);
    if (map_table(d, disk->size_bytes, err) < 0)
        return -1;
    d->header->size_bytes = disk->size_bytes;
    d->header->disk_sequence = disk->sequence;
    d->header->incarnation = incarnation;
    memcpy(d->header->boot_id, s->boot_id, sizeof(s->boot_id));
    __atomic_store_n(&d->header->magic, MAGIC, __ATOMIC_RELEASE); /* the rest is there */
    return 0;
}

static void free_disk(struct scan_disk *d)
{
    if (!d)
        return;
    unmap_table(d);
    if (d->disk_fd >= 0)
        (void)close(d->disk_fd);
    if (d->table_fd >= 0)
        (void)close(d->table_fd);
    free(d);
}

static void table_path(const struct scan *s, const char *disk_path, char *out, size_t size)
{
    char name[WHOLEDISK_NAME_MAX + 8];

    (void)snprintf(name, sizeof(name), "%s", disk_path + strlen("/dev/"));
    for (char *c = name; *c; c++)
        if (*c == '/')
            *c = '!';
    (void)snprintf(out, size, "%s/%s.%s.scan", s->dir, s->instance, name);
}

static int open_disk(const struct scan *s, struct tracker_disk *disk, struct scan_disk *d, struct err *err)
{
    d->disk_fd = open(disk->path, O_RDONLY | O_DIRECT | O_CLOEXEC);
    if (d->disk_fd < 0)
        return err_sys(err, errno, "opening %s", disk->path);
    if (open_table(d, err) < 0)
        return -1;
    return adopt_table(s, disk, d) ? 0 : make_table(s, disk, d, err);
}

static int scan_add(void *state, struct tracker_disk *disk, struct err *err)
{
    struct scan_disk *d = mem_new(struct scan_disk);
    struct scan *s = state;

    if (!d)
        return err_set(err, ERR_NOMEM, "tracker");
    d->disk_fd = d->table_fd = -1;
    table_path(s, disk->path, d->path, sizeof(d->path));
    if (open_disk(s, disk, d, err) < 0) {
        free_disk(d);
        return -1;
    }
    memcpy(disk->tag.boot_id, s->boot_id, sizeof(disk->tag.boot_id));
    disk->tag.incarnation = d->header->incarnation;
    disk->state = d;
    return 0;
}

static void forget_parts(struct scan *s, const struct tracker_disk *disk)
{
    if (s->parts_of == disk)
        s->parts_of = NULL;
}

static void scan_release(void *state, struct tracker_disk *disk)
{
    forget_parts(state, disk);
    free_disk(disk->state);
}

static int scan_remove(void *state, struct tracker_disk *disk, struct err *err)
{
    const struct scan_disk *d = disk->state;

    (void)state;
    if (unlink(d->path) < 0 && errno != ENOENT)
        return err_sys(err, errno, "removing %s", d->path);
    return 0;
}

/* What was added was not read yet, so the next drain hands it out. */
static int scan_resize(void *state, struct tracker_disk *disk, uint64_t size_bytes, struct err *err)
{
    uint64_t first = disk->size_bytes / BLOCK_BYTES, end = (size_bytes + BLOCK_BYTES - 1) / BLOCK_BYTES;
    struct scan_disk *d = disk->state;

    if (map_table(d, size_bytes, err) < 0)
        return -1;
    forget_parts(state, disk);
    for (uint64_t i = first; i < end; i++)
        d->hashes[i] = UNKNOWN;
    d->header->size_bytes = disk->size_bytes = size_bytes;
    return 0;
}

/* --- what was read ------------------------------------------------------------------------------------------------------- */

static void store_hash(struct scan_disk *d, uint64_t block, uint64_t hash)
{
    if (d->hashes[block] == hash)
        return;
    d->hashes[block] = hash;
    if (++d->notes % NOTES_KEPT == 0)
        (void)madvise(d->header, d->mapped, MADV_DONTNEED); /* of a file: stays in the page cache, not in our memory */
}

/* Whether the part goes on where what was noted last ended, or begins a block. Else what is there of a block is not what was read last of it. */
static bool follow_parts(struct scan *s, const struct tracker_disk *disk, uint64_t start)
{
    if (start % BLOCK_BYTES == 0) {
        s->parts_of = disk;
        s->parts_start = start;
        s->parts_length = s->parts_spoiled = 0;
    }
    if (s->parts_of != disk || s->parts_start + s->parts_length != start)
        s->parts_of = NULL;
    return s->parts_of != NULL;
}

/* The drain reads such a block in steps, and cannot read one of which a sector cannot be read. */
static void spoil_steps(uint8_t *parts, size_t from, size_t end, size_t block_bytes)
{
    from -= from % STEP_BYTES;
    end += (STEP_BYTES - end % STEP_BYTES) % STEP_BYTES;
    memset(parts + from, UNREADABLE_BYTE, (end < block_bytes ? end : block_bytes) - from);
}

/* Within one block, and not all of it. Data in a step that is spoiled already stays spoiled. */
static void add_part(struct scan *s, size_t block_bytes, size_t length, const void *data)
{
    size_t from = s->parts_length, spoiled = s->parts_spoiled > from ? s->parts_spoiled - from : 0;

    s->parts_length += length;
    if (!data) {
        spoil_steps(s->parts, from, s->parts_length, block_bytes);
        s->parts_spoiled = s->parts_length + (STEP_BYTES - s->parts_length % STEP_BYTES) % STEP_BYTES;
    } else if (length > spoiled) {
        memcpy(s->parts + from + spoiled, (const uint8_t *)data + spoiled, length - spoiled);
    }
}

/* What could not be read changes nothing in what was read before it. */
static void note_part(
    struct scan *s, struct tracker_disk *disk, uint64_t start, uint32_t length, size_t block_bytes, const void *data)
{
    struct scan_disk *d = disk->state;
    bool next = follow_parts(s, disk, start);

    if (data)
        store_hash(d, start / BLOCK_BYTES, UNKNOWN);
    if (!next)
        return;
    add_part(s, block_bytes, length, data);
    if (s->parts_length < block_bytes)
        return;
    store_hash(d, start / BLOCK_BYTES, hash_of(s->parts, block_bytes));
    s->parts_of = NULL;
}

static void scan_note_read(void *state, struct tracker_disk *disk, uint64_t start, uint32_t length, const void *data)
{
    struct scan *s = state;

    while (length > 0) {
        uint64_t block = start / BLOCK_BYTES, rest = disk->size_bytes - block * BLOCK_BYTES;
        size_t block_bytes = rest < BLOCK_BYTES ? (size_t)rest : BLOCK_BYTES;
        uint32_t n = (uint32_t)(block * BLOCK_BYTES + block_bytes - start);

        if (n > length)
            n = length;
        if (data && n == block_bytes) {
            store_hash(disk->state, block, hash_of(data, n));
            s->parts_of = NULL;
        } else {
            note_part(s, disk, start, n, block_bytes, data);
        }
        start += n;
        length -= n;
        data = data ? (const uint8_t *)data + n : NULL;
    }
}

/* --- draining ------------------------------------------------------------------------------------------------------------ */

struct comparison {
    struct tracker_disk *disk;
    struct dirty *round, *pending;
    uint64_t granules;
};

static int compare_block(void *arg, uint64_t block, uint64_t hash, struct err *err)
{
    struct comparison *x = arg;
    struct scan_disk *d = x->disk->state;
    uint64_t start = block * BLOCK_BYTES, rest = x->disk->size_bytes - start;
    uint64_t length = rest < BLOCK_BYTES ? rest : BLOCK_BYTES, step = 1ull << x->disk->granule_shift;

    if (d->hashes[block] == hash)
        return 0;
    if (x->pending && dirty_set(x->pending, start, length, err) < 0)
        return -1;
    if (x->round && dirty_set(x->round, start, length, err) < 0)
        return -1;
    d->changed_bytes += length;
    x->granules += (length + step - 1) / step;
    return 0;
}

static int scan_drain(void *state, struct tracker_disk *disk, struct dirty *round, struct dirty *pending,
    uint64_t *ret_granules, struct err *err)
{
    struct comparison x = {.disk = disk, .round = round, .pending = pending};
    struct scan_disk *d = disk->state;

    if (each_block(state, d, disk->size_bytes, compare_block, &x, err) < 0)
        return -1;
    (void)madvise(d->header, d->mapped, MADV_DONTNEED); /* of a file: stays in the page cache, not in our memory */
    if (ret_granules)
        *ret_granules = x.granules;
    return 0;
}

/* --- life ------------------------------------------------------------------------------------------------------------------ */

static void scan_close(void *state)
{
    struct scan *s = state;

    free(s->dir);
    free(s->buffer);
    free(s->parts);
    free(s);
}

static int fill_state(struct scan *s, const struct tracker_config *config, struct err *err)
{
    (void)snprintf(s->instance, sizeof(s->instance), "%s", config->instance);
    s->dir = mem_strdup(config->state_dir);
    s->parts = mem_alloc(1, BLOCK_BYTES);
    if (!s->dir || !s->parts || posix_memalign((void **)&s->buffer, 4096, READ_BYTES) != 0)
        return err_set(err, ERR_NOMEM, "tracker");
    if (file_make_dirs(s->dir, 0700, err) < 0)
        return -1;
    return wholedisk_boot_id(s->boot_id, err);
}

static int scan_open(const struct tracker_config *config, void **ret_state, struct err *err)
{
    struct scan *s;

    if (!config->state_dir[0])
        return err_set(err, ERR_INVALID, "the scan tracker needs a folder for its tables");
    s = mem_new(struct scan);
    if (!s)
        return err_set(err, ERR_NOMEM, "tracker");
    if (fill_state(s, config, err) < 0) {
        scan_close(s);
        return -1;
    }
    *ret_state = s;
    return 0;
}

static bool is_kept(const struct scan *s, const char *name, struct tracker_disk *const *disks, size_t count)
{
    char path[512];

    for (size_t i = 0; i < count; i++) {
        table_path(s, disks[i]->path, path, sizeof(path));
        if (strcmp(strrchr(path, '/') + 1, name) == 0)
            return true;
    }
    return false;
}

static bool is_table_of(const struct scan *s, const char *name)
{
    size_t n = strlen(s->instance), length = strlen(name);

    return length > n + 5 && strncmp(name, s->instance, n) == 0 && name[n] == '.' &&
           strcmp(name + length - 5, ".scan") == 0;
}

static int scan_forget_others(void *state, struct tracker_disk *const *disks, size_t count, struct err *err)
{
    const struct scan *s = state;
    struct dirent *entry;
    DIR *dir = opendir(s->dir);

    if (!dir)
        return errno == ENOENT ? 0 : err_sys(err, errno, "listing %s", s->dir);
    while ((entry = readdir(dir)) != NULL)
        if (is_table_of(s, entry->d_name) && !is_kept(s, entry->d_name, disks, count))
            (void)unlinkat(dirfd(dir), entry->d_name, 0);
    (void)closedir(dir);
    return 0;
}

static int scan_destroy(const struct tracker_config *config, struct err *err)
{
    struct scan s = {.dir = (char *)config->state_dir};

    if (!config->state_dir[0])
        return 0;
    (void)snprintf(s.instance, sizeof(s.instance), "%s", config->instance);
    return scan_forget_others(&s, NULL, 0, err);
}

/* --- what it cannot tell --------------------------------------------------------------------------------------------------- */

/* The kernel counts the bytes of a write before its submitter can see it complete (blk_account_io_completion). Where it does not tell them
 * the count is another one each time, and no multiple of a sector. */
static uint64_t scan_barriers(void *state, const struct tracker_disk *disk)
{
    struct scan_disk *d = disk->state;
    uint64_t bytes;

    (void)state;
    return wholedisk_bytes_written(disk->dev, &bytes) == 0 ? bytes : 2 * d->uncounted++ + 1;
}

static bool scan_countable(void *state, struct tracker_disk *disk, struct err *why)
{
    uint64_t bytes;

    (void)state;
    if (wholedisk_bytes_written(disk->dev, &bytes) == 0)
        return true;
    (void)err_set(why, ERR_UNSUPPORTED, "the kernel does not count the writes of %s", tracker_disk_path(disk));
    (void)err_hint(why, "run 'echo 1 > /sys/block/NAME/queue/iostats'");
    return false;
}

static void scan_stats(void *state, const struct tracker_disk *disk, struct tracker_stats *ret_stats)
{
    (void)state;
    ret_stats->bytes = ((const struct scan_disk *)disk->state)->changed_bytes;
}

static bool scan_is_unknown(void *state, const struct tracker_disk *disk)
{
    (void)state, (void)disk;
    return false;
}

static void scan_acknowledge(void *state, struct tracker_disk *disk)
{
    (void)state, (void)disk;
}

static uint64_t scan_event_cost(void *state, uint64_t *ret_events)
{
    (void)state;
    if (ret_events)
        *ret_events = 0;
    return 0;
}

const struct tracker_driver tracker_scan_driver = {
    .name = "scan",
    .open = scan_open,
    .close = scan_close,
    .destroy = scan_destroy,
    .add = scan_add,
    .release = scan_release,
    .remove = scan_remove,
    .forget_others = scan_forget_others,
    .resize = scan_resize,
    .drain = scan_drain,
    .note_read = scan_note_read,
    .compares = true,
    .barriers = scan_barriers,
    .countable = scan_countable,
    .stats = scan_stats,
    .is_unknown = scan_is_unknown,
    .acknowledge = scan_acknowledge,
    .event_cost_nsec = scan_event_cost,
};
