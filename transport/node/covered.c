/* SPDX-License-Identifier: Apache-2.0
 *
 * A hash table with open addressing. A slot belongs to the round in which it was taken: resetting begins a new round, and slots of
 * earlier ones count as empty, so that thousands of resets cost nothing.
 */
#include "transport/node/covered.h"

#include "transport/log/record.h"

#define SECTORS_PER_BLOCK (RECORD_BLOCK_SIZE / RECORD_SECTOR)
#define WORDS (SECTORS_PER_BLOCK / 64)
#define SLOTS_FIRST 1024u
#define RANGE_BLOCKS_MAX 4096u /* a longer one, a discarded disk, would only fill the table */
#define DISK_SHIFT 46u         /* above the number of any block of a disk of 2^62 bytes */

struct slot {
    uint64_t key;
    uint64_t sectors[WORDS];
    uint32_t round; /* 0: never taken */
    uint32_t set;   /* this one and those before it in the log cover all of `sectors` */
};

struct covered {
    struct slot *slots;
    size_t size; /* a power of two */
    size_t used, used_max;
    uint32_t round;
};

struct covered *covered_new(size_t blocks_max)
{
    struct covered *c = mem_new(struct covered);
    if (c == NULL)
        return NULL;
    c->slots = mem_alloc(SLOTS_FIRST, sizeof(*c->slots));
    if (c->slots == NULL) {
        free(c);
        return NULL;
    }
    c->size = SLOTS_FIRST;
    c->used_max = blocks_max;
    c->round = 1;
    return c;
}

void covered_free(struct covered *c)
{
    if (c == NULL)
        return;
    free(c->slots);
    free(c);
}

void covered_reset(struct covered *c)
{
    c->used = 0;
    if (++c->round != 0)
        return;
    for (size_t i = 0; i < c->size; i++) /* the numbers are used up: begin with them anew */
        c->slots[i].round = 0;
    c->round = 1;
}

/* The slot of the key, or the empty one where it would be. */
static struct slot *find(struct slot *slots, size_t size, uint32_t round, uint64_t key)
{
    uint64_t mixed = key * 0x9e3779b97f4a7c15u; /* golden ratio: neighbours of a disk spread over the table */
    size_t i = (size_t)(mixed ^ (mixed >> 32)) & (size - 1);
    while (slots[i].round == round && slots[i].key != key)
        i = (i + 1) & (size - 1);
    return &slots[i];
}

static void grow(struct covered *c)
{
    size_t size = c->size * 2;
    struct slot *bigger = mem_alloc(size, sizeof(*bigger));
    if (bigger == NULL)
        return; /* then the caller finds it too full, and notes nothing more */
    for (size_t i = 0; i < c->size; i++) {
        if (c->slots[i].round == c->round)
            *find(bigger, size, c->round, c->slots[i].key) = c->slots[i];
    }
    free(c->slots);
    c->slots = bigger;
    c->size = size;
}

/* At most three quarters are taken, so that searching always ends. */
static struct slot *take(struct covered *c, uint64_t key, uint32_t set)
{
    struct slot *s = find(c->slots, c->size, c->round, key);
    if (s->round == c->round)
        return s;
    if (c->used >= c->used_max)
        return NULL;
    if (c->used >= c->size / 4 * 3) {
        grow(c);
        if (c->used >= c->size / 4 * 3)
            return NULL;
        s = find(c->slots, c->size, c->round, key);
    }
    *s = (struct slot){.key = key, .round = c->round, .set = set};
    c->used++;
    return s;
}

/* The part of a range that lies in one block. */
struct part {
    uint64_t key;
    uint64_t sectors[WORDS];
};

static struct part part_of(uint32_t disk, uint64_t block, uint64_t start, uint64_t end)
{
    struct part p = {.key = (uint64_t)disk << DISK_SHIFT | block};
    uint64_t base = block * RECORD_BLOCK_SIZE;
    unsigned first = start > base ? (unsigned)((start - base) / RECORD_SECTOR) : 0;
    unsigned behind =
        end < base + RECORD_BLOCK_SIZE ? (unsigned)((end - base) / RECORD_SECTOR) : (unsigned)SECTORS_PER_BLOCK;
    for (unsigned i = first; i < behind; i++)
        p.sectors[i / 64] |= UINT64_C(1) << i % 64;
    return p;
}

static bool is_long(uint64_t length)
{
    return length > (uint64_t)RANGE_BLOCKS_MAX * RECORD_BLOCK_SIZE;
}

static bool is_within(const uint64_t sectors[WORDS], const uint64_t whole[WORDS])
{
    for (unsigned i = 0; i < WORDS; i++) {
        if ((sectors[i] & ~whole[i]) != 0)
            return false;
    }
    return true;
}

void covered_add(struct covered *c, uint32_t disk, uint64_t start, uint64_t length, uint32_t set)
{
    uint64_t end = start + length;
    if (is_long(length))
        return;
    for (uint64_t block = start / RECORD_BLOCK_SIZE; block * RECORD_BLOCK_SIZE < end; block++) {
        struct part p = part_of(disk, block, start, end);
        struct slot *s = take(c, p.key, set);
        if (s == NULL)
            continue;
        if (is_within(s->sectors, p.sectors))
            s->set = set;
        for (unsigned i = 0; i < WORDS; i++)
            s->sectors[i] |= p.sectors[i];
    }
}

bool covered_has(const struct covered *c, uint32_t disk, uint64_t start, uint64_t length, uint32_t *ret_set)
{
    uint64_t end = start + length;
    uint32_t set = UINT32_MAX;
    if (is_long(length))
        return false;
    for (uint64_t block = start / RECORD_BLOCK_SIZE; block * RECORD_BLOCK_SIZE < end; block++) {
        struct part p = part_of(disk, block, start, end);
        const struct slot *s = find(c->slots, c->size, c->round, p.key);
        if (s->round != c->round || !is_within(p.sectors, s->sectors))
            return false;
        set = s->set < set ? s->set : set;
    }
    *ret_set = set;
    return true;
}
