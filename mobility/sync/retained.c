/* SPDX-License-Identifier: Apache-2.0
 *
 * Files: DIR/<number>.<slot>.dirty per disk and slot (.new until they are kept), and DIR/numbers: 8 bytes magic, u32 open slot, u32 zero, then per slot a
 * u64 last sequence (0: nothing closed in it), then 32 bits of XXH3 over all that. A numbers file that does not check means
 * that nothing is known to be committed: everything found is sent again.
 */
#include "mobility/sync/retained.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "transport/base/bytes.h"
#include "transport/base/file.h"
#include "transport/base/hash.h"

#define NUMBERS_MAGIC UINT64_C(0x31544552574c4d42)
#define NUMBERS_SIZE (16 + 8 * RETAINED_SLOTS + 4)

struct retained {
    char *dir;
    int numbers_fd;
    unsigned open; /* slot */
    uint64_t last[RETAINED_SLOTS];
    bool known[RETAINED_DISKS_MAX]; /* numbers[] holds */
    bool fresh[RETAINED_DISKS_MAX]; /* its files are not kept yet */
    uint32_t numbers[RETAINED_DISKS_MAX];
    struct dirty *sets[RETAINED_SLOTS][RETAINED_DISKS_MAX];
};

static int save_numbers(struct retained *s, struct err *err)
{
    uint8_t data[NUMBERS_SIZE] = {0};

    put_le64(data, NUMBERS_MAGIC);
    put_le32(data + 8, s->open);
    for (unsigned i = 0; i < RETAINED_SLOTS; i++)
        put_le64(data + 16 + 8 * i, s->last[i]);
    put_le32(data + NUMBERS_SIZE - 4, hash_32(data, NUMBERS_SIZE - 4));
    if (file_pwrite_all(s->numbers_fd, data, sizeof(data), 0, "numbers of retained changes", err) == 0)
        return 0;
    return err_hint(err, "free space in the file system of %s", s->dir);
}

static void load_numbers(struct retained *s)
{
    uint8_t data[NUMBERS_SIZE];

    if (pread(s->numbers_fd, data, sizeof(data), 0) != (ssize_t)sizeof(data) || get_le64(data) != NUMBERS_MAGIC ||
        get_le32(data + NUMBERS_SIZE - 4) != hash_32(data, NUMBERS_SIZE - 4) || get_le32(data + 8) >= RETAINED_SLOTS)
        return;
    s->open = get_le32(data + 8);
    for (unsigned i = 0; i < RETAINED_SLOTS; i++)
        s->last[i] = get_le64(data + 16 + 8 * i);
}

int retained_new(const char *dir, struct retained **ret_store, struct err *err)
{
    struct retained *s AUTO_OF(retained) = mem_new(struct retained);
    char path[PATH_MAX];

    if (!s)
        return err_set(err, ERR_NOMEM, "no memory for retained changes");
    s->numbers_fd = -1;
    s->dir = mem_strdup(dir);
    if (!s->dir)
        return err_set(err, ERR_NOMEM, "no memory for retained changes");
    if (file_make_dirs(dir, 0700, err) < 0)
        return -1;
    snprintf(path, sizeof(path), "%s/numbers", dir);
    s->numbers_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (s->numbers_fd < 0)
        return err_sys(err, errno, "opening %s", path);
    load_numbers(s);
    *ret_store = TAKE_PTR(s);
    return 0;
}

void retained_free(struct retained *s)
{
    if (!s)
        return;
    for (unsigned i = 0; i < RETAINED_SLOTS; i++)
        for (unsigned d = 0; d < RETAINED_DISKS_MAX; d++)
            dirty_close(s->sets[i][d]);
    if (s->numbers_fd >= 0)
        close(s->numbers_fd);
    free(s->dir);
    free(s);
}

static void set_path(
    const struct retained *s, unsigned slot, unsigned disk, const char *kind, char *out, size_t out_size)
{
    snprintf(out, out_size, "%s/%u.%u.%s", s->dir, s->numbers[disk], slot, kind);
}

static void close_disk(struct retained *s, unsigned disk)
{
    for (unsigned i = 0; i < RETAINED_SLOTS; i++) {
        dirty_close(s->sets[i][disk]);
        s->sets[i][disk] = NULL;
    }
}

static void remove_files(const struct retained *s, unsigned disk)
{
    static const char *const kinds[] = {"dirty", "new"};
    char path[PATH_MAX];

    for (unsigned i = 0; i < RETAINED_SLOTS; i++)
        for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
            set_path(s, i, disk, kinds[k], path, sizeof(path));
            (void)unlink(path);
        }
}

struct geometry {
    uint64_t size_bytes;
    unsigned granule_shift;
    const struct dirty_tag *tag;
};

/* 1: all sets are there and continue; 0: they do not, and none is open. */
static int open_kept(struct retained *s, unsigned disk, const struct geometry *g, struct err *err)
{
    char path[PATH_MAX];
    bool resumed = true;

    for (unsigned i = 0; i < RETAINED_SLOTS && resumed; i++) {
        set_path(s, i, disk, "dirty", path, sizeof(path));
        if (access(path, F_OK) < 0)
            resumed = false;
        else if (dirty_open(path, g->size_bytes, g->granule_shift, g->tag, &s->sets[i][disk], &resumed, err) < 0)
            return -1;
    }
    if (!resumed)
        close_disk(s, disk);
    return resumed;
}

static int open_fresh(struct retained *s, unsigned disk, const struct geometry *g, struct err *err)
{
    char path[PATH_MAX];
    bool ignored;

    remove_files(s, disk);
    for (unsigned i = 0; i < RETAINED_SLOTS; i++) {
        set_path(s, i, disk, "new", path, sizeof(path));
        if (dirty_open(path, g->size_bytes, g->granule_shift, g->tag, &s->sets[i][disk], &ignored, err) < 0)
            return -1;
    }
    return 0;
}

int retained_add(struct retained *s, unsigned disk, uint32_t number, uint64_t size_bytes, unsigned granule_shift,
    const struct dirty_tag *tag, bool *ret_resumed, struct err *err)
{
    const struct geometry g = {.size_bytes = size_bytes, .granule_shift = granule_shift, .tag = tag};
    int kept;

    if (disk >= RETAINED_DISKS_MAX || s->sets[0][disk])
        return err_set(err, ERR_EXISTS, "disk %u is retained already or out of range", disk);
    s->numbers[disk] = number;
    s->known[disk] = true;
    kept = open_kept(s, disk, &g, err);
    if (kept < 0 || (kept == 0 && open_fresh(s, disk, &g, err) < 0)) {
        close_disk(s, disk);
        return err_wrap(err, "retained changes of disk %u", disk);
    }
    s->fresh[disk] = kept == 0;
    *ret_resumed = kept > 0;
    return 0;
}

/* A kill between two of them leaves one that is missing: the next process learns again that nothing is known. */
int retained_keep(struct retained *s, unsigned disk, struct err *err)
{
    char from[PATH_MAX], to[PATH_MAX];

    for (unsigned i = 0; i < RETAINED_SLOTS && s->fresh[disk]; i++) {
        set_path(s, i, disk, "new", from, sizeof(from));
        set_path(s, i, disk, "dirty", to, sizeof(to));
        if (rename(from, to) < 0)
            return err_sys(err, errno, "renaming %s", from);
    }
    s->fresh[disk] = false;
    return 0;
}

void retained_detach(struct retained *s, unsigned disk)
{
    if (disk < RETAINED_DISKS_MAX)
        close_disk(s, disk);
}

void retained_remove(struct retained *s, unsigned disk)
{
    if (disk >= RETAINED_DISKS_MAX || !s->known[disk])
        return;
    close_disk(s, disk);
    s->known[disk] = false;
    remove_files(s, disk);
}

int retained_resize(struct retained *s, unsigned disk, uint64_t size_bytes, struct err *err)
{
    for (unsigned i = 0; i < RETAINED_SLOTS; i++)
        if (s->sets[i][disk] && dirty_resize(s->sets[i][disk], size_bytes, err) < 0)
            return -1;
    return 0;
}

struct dirty *retained_open_set(struct retained *s, unsigned disk)
{
    return s->sets[s->open][disk];
}

static bool has_bits(const struct retained *s, unsigned slot, unsigned disk)
{
    return s->sets[slot][disk] && !dirty_is_empty(s->sets[slot][disk]);
}

static bool any_bits(const struct retained *s, unsigned slot, const bool *in)
{
    for (unsigned d = 0; d < RETAINED_DISKS_MAX; d++)
        if (in[d] && has_bits(s, slot, d))
            return true;
    return false;
}

static void clear_slot(struct retained *s, unsigned slot)
{
    for (unsigned d = 0; d < RETAINED_DISKS_MAX; d++)
        if (s->sets[slot][d] && !dirty_is_empty(s->sets[slot][d]))
            dirty_clear_all(s->sets[slot][d]);
}

static int free_slot(const struct retained *s)
{
    for (unsigned i = 0; i < RETAINED_SLOTS; i++)
        if (i != s->open && s->last[i] == 0)
            return (int)i;
    return -1;
}

int retained_close(struct retained *s, uint64_t sequence, const bool *in, struct err *err)
{
    unsigned old = s->open;
    int next = free_slot(s);

    if (next < 0 || !any_bits(s, old, in))
        return 0;
    for (unsigned d = 0; d < RETAINED_DISKS_MAX; d++)
        if (!in[d] && has_bits(s, old, d) && dirty_or(s->sets[next][d], s->sets[old][d], err) < 0)
            return -1;
    s->last[old] = sequence;
    s->last[next] = 0;
    s->open = (unsigned)next;
    if (save_numbers(s, err) < 0)
        return -1;
    for (unsigned d = 0; d < RETAINED_DISKS_MAX; d++)
        if (!in[d] && has_bits(s, old, d))
            dirty_clear_all(s->sets[old][d]);
    return 0;
}

/* The numbers of emptied slots are written with the next close: an old number of an empty slot does no harm. */
void retained_commit(struct retained *s, uint64_t sequence)
{
    for (unsigned i = 0; i < RETAINED_SLOTS; i++) {
        if (i == s->open || s->last[i] == 0 || s->last[i] > sequence)
            continue;
        clear_slot(s, i);
        s->last[i] = 0;
    }
}

int retained_reopen(struct retained *s, struct err *err)
{
    for (unsigned i = 0; i < RETAINED_SLOTS; i++) {
        if (i == s->open)
            continue;
        for (unsigned d = 0; d < RETAINED_DISKS_MAX; d++)
            if (s->sets[i][d] && !dirty_is_empty(s->sets[i][d]) &&
                dirty_or(s->sets[s->open][d], s->sets[i][d], err) < 0)
                return -1;
        clear_slot(s, i);
        s->last[i] = 0;
    }
    s->last[s->open] = 0;
    return save_numbers(s, err);
}

void retained_forget(struct retained *s, unsigned disk, uint64_t start, uint64_t length)
{
    if (s->sets[s->open][disk])
        dirty_clear(s->sets[s->open][disk], start, length);
}

uint64_t retained_bytes(const struct retained *s)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < RETAINED_SLOTS; i++)
        for (unsigned d = 0; d < RETAINED_DISKS_MAX; d++)
            if (s->sets[i][d])
                sum += dirty_bytes(s->sets[i][d]);
    return sum;
}

int retained_destroy(const char *dir, struct err *err)
{
    return file_remove_tree(dir, err);
}
