/* SPDX-License-Identifier: Apache-2.0
 *
 * Reads a run through a memory map. The header and the file's length are checked at open; each block when it is first
 * touched (binary search included: a damaged key must not lead it astray), remembered in a bitmap of bytes. Whatever does
 * not fit is ERR_CORRUPT, never a wrong extent.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "transport/base/bytes.h"
#include "transport/base/hash.h"
#include "transport/vault/run.h"
#include "transport/vault/run_format.h"

#define RUN_COUNT_MAX (1ULL << 36) /* entries; 2 TiB of index: far above any disk, far below an overflow */

struct run {
    struct run_info info;
    const uint8_t *map;
    size_t map_bytes;
    uint64_t top_blocks;
    uint64_t history_blocks;
    _Atomic uint8_t *checked; /* per block: 1 = its checksum was right */
};

static uint64_t blocks_for(uint64_t entries, uint64_t per_block)
{
    return (entries + per_block - 1) / per_block;
}

static int header_decode(const uint8_t *p, const char *name, struct run_info *ret_info, struct err *err)
{
    if (memcmp(p, RUN_MAGIC, RUN_MAGIC_SIZE - 1) != 0)
        return err_set(err, ERR_CORRUPT, "%s is not a complete index run", name);
    if (p[RUN_MAGIC_SIZE - 1] != (uint8_t)RUN_MAGIC[RUN_MAGIC_SIZE - 1])
        return err_set(err, ERR_UNSUPPORTED, "%s has the unknown format version %u", name, p[RUN_MAGIC_SIZE - 1]);
    if (get_le32(p + RUN_H_CHECK) != hash_32(p, RUN_H_CHECK))
        return err_set(err, ERR_CORRUPT, "the header of %s is damaged", name);
    struct run_info info = {.kind = p[RUN_H_KIND] == RUN_CUMULATIVE ? RUN_CUMULATIVE : RUN_DELTA,
        .id = get_le64(p + RUN_H_ID),
        .first_sequence = get_le64(p + RUN_H_FIRST),
        .last_sequence = get_le64(p + RUN_H_LAST),
        .top_count = get_le64(p + RUN_H_TOPS),
        .history_count = get_le64(p + RUN_H_HISTORY)};
    memcpy(info.machine.bytes, p + RUN_H_MACHINE, IDENT_SIZE);
    if (p[RUN_H_KIND] > RUN_CUMULATIVE || info.top_count > RUN_COUNT_MAX || info.history_count > RUN_COUNT_MAX)
        return err_set(err, ERR_CORRUPT, "the header of %s makes no sense", name);
    *ret_info = info;
    return 0;
}

static int run_map(struct run *r, int fd, const char *name, struct err *err)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return err_sys(err, errno, "looking at the index run %s", name);
    if (st.st_size < (off_t)RUN_BLOCK_SIZE)
        return err_set(err, ERR_CORRUPT, "the index run %s is cut short", name);
    r->map_bytes = (size_t)st.st_size;
    void *map = mmap(NULL, r->map_bytes, PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        return err_sys(err, errno, "mapping the index run %s", name);
    r->map = map;
    return 0;
}

static int run_check_shape(struct run *r, uint64_t id, const struct ident *machine, const char *name, struct err *err)
{
    if (header_decode(r->map, name, &r->info, err) < 0)
        return -1;
    if (r->info.id != id || !ident_equal(&r->info.machine, machine))
        return err_set(err, ERR_CORRUPT, "the index run %s belongs to another machine or place", name);
    r->top_blocks = blocks_for(r->info.top_count, RUN_TOP_PER_BLOCK);
    r->history_blocks = blocks_for(r->info.history_count, RUN_HISTORY_PER_BLOCK);
    if (r->map_bytes != (1 + r->top_blocks + r->history_blocks) * RUN_BLOCK_SIZE)
        return err_set(err, ERR_CORRUPT, "the index run %s has the wrong length", name);
    r->checked = mem_alloc(r->top_blocks + r->history_blocks + 1, sizeof(*r->checked));
    if (r->checked == NULL)
        return err_set(err, ERR_NOMEM, "no memory to open an index run");
    return 0;
}

int run_open(int dirfd, uint64_t id, const struct ident *machine, struct run **ret_run, struct err *err)
{
    char name[RUN_NAME_SIZE];
    run_name(id, name);
    int fd AUTO_CLOSE = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return err_sys(err, errno, "opening the index run %s", name);
    struct run *r AUTO_OF(run) = mem_new(struct run);
    if (r == NULL)
        return err_set(err, ERR_NOMEM, "no memory to open an index run");
    if (run_map(r, fd, name, err) < 0 || run_check_shape(r, id, machine, name, err) < 0)
        return -1;
    *ret_run = TAKE_PTR(r);
    return 0;
}

void run_close(struct run *r)
{
    if (r == NULL)
        return;
    if (r->map != NULL)
        (void)munmap((void *)(uintptr_t)r->map, r->map_bytes);
    free((void *)r->checked);
    free(r);
}

const struct run_info *run_get_info(const struct run *r)
{
    return &r->info;
}

/* Do the entries make sense: no empty extent, none that leaves its disk, in order, and in top without overlap? */
static bool entries_are_sane(const uint8_t *block, unsigned count, unsigned size)
{
    uint64_t least = 0;
    for (unsigned i = 0; i < count; i++) {
        const uint8_t *p = block + RUN_BLOCK_HEAD + (size_t)i * size;
        uint64_t key = get_le64(p + RUN_E_KEY);
        uint32_t sectors = get_le32(p + RUN_E_SECTORS);
        if (key < least || sectors == 0 || sectors > EXTENT_SECTORS_MAX ||
            (key & EXTENT_SECTOR_MASK) > EXTENT_SECTOR_MASK - sectors)
            return false;
        least = size == RUN_TOP_SIZE ? key + sectors : key;
    }
    return true;
}

static bool block_is_good(const uint8_t *block, uint64_t number, unsigned count, unsigned size)
{
    return get_le32(block + RUN_B_CHECK) == hash_32(block + 4, RUN_BLOCK_SIZE - 4) &&
           get_le32(block + RUN_B_NUMBER) == (uint32_t)number && get_le16(block + RUN_B_COUNT) == count &&
           entries_are_sane(block, count, size);
}

/* The block, checked when it is first used. It must have `count` entries of `size` bytes. NULL: it has not. */
static const uint8_t *block_get(struct run *r, uint64_t number, unsigned count, unsigned size, struct err *err)
{
    const uint8_t *block = r->map + (number + 1) * RUN_BLOCK_SIZE;
    if (atomic_load_explicit(&r->checked[number], memory_order_relaxed) == 0) {
        if (!block_is_good(block, number, count, size)) {
            (void)err_set(err, ERR_CORRUPT, "block %llu of the index run %016llx is damaged",
                (unsigned long long)number, (unsigned long long)r->info.id);
            (void)err_hint(err, "run `leeward vault verify`: the index is rebuilt from the log");
            return NULL;
        }
        atomic_store_explicit(&r->checked[number], 1, memory_order_relaxed);
    }
    return block;
}

static unsigned entries_in(uint64_t total, uint64_t block, unsigned per_block)
{
    uint64_t left = total - block * per_block;
    return left < per_block ? (unsigned)left : per_block;
}

static const uint8_t *top_block_get(struct run *r, uint64_t number, struct err *err)
{
    return block_get(r, number, entries_in(r->info.top_count, number, RUN_TOP_PER_BLOCK), RUN_TOP_SIZE, err);
}

static void entry_decode(const uint8_t *p, struct extent *ret_extent)
{
    *ret_extent = (struct extent){.key = get_le64(p + RUN_E_KEY),
        .sequence = get_le64(p + RUN_E_SEQUENCE),
        .sectors = get_le32(p + RUN_E_SECTORS),
        .segment = get_le32(p + RUN_E_SEGMENT),
        .offset = get_le32(p + RUN_E_OFFSET),
        .flags = get_le16(p + RUN_E_FLAGS)};
}

int run_top_at(struct run *r, uint64_t index, struct extent *ret_extent, struct err *err)
{
    const uint8_t *block = top_block_get(r, index / RUN_TOP_PER_BLOCK, err);
    if (block == NULL)
        return -1;
    entry_decode(block + RUN_BLOCK_HEAD + index % RUN_TOP_PER_BLOCK * RUN_TOP_SIZE, ret_extent);
    return 0;
}

int run_history_at(struct run *r, uint64_t index, struct extent *ret_extent, uint64_t *ret_dead, struct err *err)
{
    uint64_t number = index / RUN_HISTORY_PER_BLOCK;
    unsigned count = entries_in(r->info.history_count, number, RUN_HISTORY_PER_BLOCK);
    const uint8_t *block = block_get(r, r->top_blocks + number, count, RUN_HISTORY_SIZE, err);
    if (block == NULL)
        return -1;
    const uint8_t *p = block + RUN_BLOCK_HEAD + index % RUN_HISTORY_PER_BLOCK * RUN_HISTORY_SIZE;
    entry_decode(p, ret_extent);
    *ret_dead = get_le64(p + RUN_E_DEAD);
    return 0;
}

/* Last block whose first key is <= key; 0 if there is none. */
static int block_search(struct run *r, uint64_t key, uint64_t *ret_number, struct err *err)
{
    uint64_t low = 0;
    uint64_t high = r->top_blocks;
    while (high - low > 1) {
        uint64_t mid = low + (high - low) / 2;
        const uint8_t *block = top_block_get(r, mid, err);
        if (block == NULL)
            return -1;
        if (get_le64(block + RUN_BLOCK_HEAD + RUN_E_KEY) <= key)
            low = mid;
        else
            high = mid;
    }
    *ret_number = low;
    return 0;
}

/* First entry of the block that ends behind key; count if none does. */
static unsigned entry_search(const uint8_t *block, unsigned count, uint64_t key)
{
    unsigned low = 0;
    unsigned high = count;
    while (low < high) {
        unsigned mid = low + (high - low) / 2;
        const uint8_t *p = block + RUN_BLOCK_HEAD + (size_t)mid * RUN_TOP_SIZE;
        if (get_le64(p + RUN_E_KEY) + get_le32(p + RUN_E_SECTORS) <= key)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

int run_find(struct run *r, uint64_t key, struct extent *ret_extent, struct err *err)
{
    if (r->top_blocks == 0)
        return 0;
    uint64_t number = 0;
    if (block_search(r, key, &number, err) < 0)
        return -1;
    const uint8_t *block = top_block_get(r, number, err);
    if (block == NULL)
        return -1;
    unsigned count = entries_in(r->info.top_count, number, RUN_TOP_PER_BLOCK);
    uint64_t index = number * RUN_TOP_PER_BLOCK + entry_search(block, count, key);
    if (index == r->info.top_count)
        return 0;
    return run_top_at(r, index, ret_extent, err) < 0 ? -1 : 1;
}

int run_verify(struct run *r, struct err *err)
{
    struct extent e;
    uint64_t dead;
    for (uint64_t i = 0; i < r->top_blocks; i++)
        if (top_block_get(r, i, err) == NULL)
            return -1;
    for (uint64_t i = 0; i < r->info.history_count; i += RUN_HISTORY_PER_BLOCK)
        if (run_history_at(r, i, &e, &dead, err) < 0)
            return -1;
    return 0;
}
