/* SPDX-License-Identifier: Apache-2.0
 *
 * See the header. The table of pages grows to the last one that is needed: eight bytes for 2 GiB of a disk.
 */
#include "transport/vault/copyset.h"

#include <stdlib.h>
#include <string.h>

#include "transport/base/mem.h"

#define PAGE_BYTES 4096u
#define PAGE_BLOCKS (PAGE_BYTES * 8)
#define WORD_BITS 64u

static int table_reach(struct copyset *s, size_t page, struct err *err)
{
    if (page < s->page_cap)
        return 0;
    size_t cap = s->page_cap < 16 ? 16 : s->page_cap;
    while (cap <= page)
        cap *= 2;
    uint64_t **pages = mem_resize(s->pages, cap, sizeof(*pages));
    if (pages == NULL)
        return err_set(err, ERR_NOMEM, "no memory for what has changed since the point before");
    memset(pages + s->page_cap, 0, (cap - s->page_cap) * sizeof(*pages));
    s->pages = pages;
    s->page_cap = cap;
    return 0;
}

/* 1; 0: there are as many as there may be; -1. */
static int page_reach(struct copyset *s, size_t page, struct err *err)
{
    if (table_reach(s, page, err) < 0)
        return -1;
    if (s->pages[page] != NULL)
        return 1;
    if (s->page_count == COPYSET_PAGES_MAX)
        return 0;
    s->pages[page] = mem_alloc(1, PAGE_BYTES);
    if (s->pages[page] == NULL)
        return err_set(err, ERR_NOMEM, "no memory for what has changed since the point before");
    memset(s->pages[page], 0, PAGE_BYTES);
    s->page_count++;
    return 1;
}

static void mark_in_page(struct copyset *s, uint64_t *page, unsigned from, unsigned to)
{
    for (unsigned i = from; i < to; i++) {
        uint64_t bit = 1ULL << (i % WORD_BITS);
        s->count += (page[i / WORD_BITS] & bit) == 0;
        page[i / WORD_BITS] |= bit;
    }
}

int copyset_mark(struct copyset *s, uint64_t from, uint64_t to, struct err *err)
{
    while (from < to) {
        size_t page = (size_t)(from / PAGE_BLOCKS);
        uint64_t end = ((uint64_t)page + 1) * PAGE_BLOCKS < to ? ((uint64_t)page + 1) * PAGE_BLOCKS : to;
        int result = page_reach(s, page, err);
        if (result <= 0)
            return result;
        mark_in_page(s, s->pages[page], (unsigned)(from % PAGE_BLOCKS), (unsigned)(end - page * PAGE_BLOCKS));
        from = end;
    }
    return 1;
}

static uint64_t next_in_page(const uint64_t *page, unsigned from)
{
    for (unsigned w = from / WORD_BITS; w < PAGE_BLOCKS / WORD_BITS; w++) {
        uint64_t bits = w == from / WORD_BITS ? page[w] & (UINT64_MAX << (from % WORD_BITS)) : page[w];
        if (bits != 0)
            return w * WORD_BITS + (unsigned)__builtin_ctzll(bits);
    }
    return UINT64_MAX;
}

uint64_t copyset_next(const struct copyset *s, uint64_t from)
{
    for (size_t page = (size_t)(from / PAGE_BLOCKS); page < s->page_cap; page++) {
        unsigned at = page == from / PAGE_BLOCKS ? (unsigned)(from % PAGE_BLOCKS) : 0;
        uint64_t found = s->pages[page] == NULL ? UINT64_MAX : next_in_page(s->pages[page], at);
        if (found != UINT64_MAX)
            return (uint64_t)page * PAGE_BLOCKS + found;
    }
    return UINT64_MAX;
}

void copyset_clear(struct copyset *s)
{
    for (size_t i = 0; i < s->page_cap; i++)
        free(s->pages[i]);
    free(s->pages);
    *s = (struct copyset){0};
}
