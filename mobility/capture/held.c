/* SPDX-License-Identifier: Apache-2.0
 *
 * An arena with a list of pieces over it. Dropping a piece does not give its bytes back; the arena is emptied as a whole.
 */
#include "mobility/capture/held.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "transport/base/mem.h"

#define KEEP_BYTES (1u << 20) /* of touched memory, between cycles */

struct held_piece {
    struct reader_piece piece; /* data points into the arena */
    bool dropped;
};

int held_set_room(struct held *h, size_t max_bytes, struct err *err)
{
    void *memory;

    if (h->memory && h->room == max_bytes)
        return 0;
    held_done(h);
    memory = mmap(NULL, max_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return err_sys(err, errno, "reserving %zu bytes for held blocks", max_bytes);
    mem_keep_from_children(memory, max_bytes);
    h->memory = memory;
    h->room = max_bytes;
    return 0;
}

void held_done(struct held *h)
{
    if (h->memory)
        (void)munmap(h->memory, h->room);
    free(h->pieces);
    memset(h, 0, sizeof(*h));
}

size_t held_free_bytes(const struct held *h)
{
    return h->room - h->used;
}

static struct held_piece *new_piece(struct held *h)
{
    struct held_piece *grown;

    if (h->count == h->slots) {
        size_t slots = h->slots ? h->slots * 2 : 64;
        grown = mem_resize(h->pieces, slots, sizeof(*grown));
        if (!grown)
            return NULL;
        h->pieces = grown;
        h->slots = slots;
    }
    return &h->pieces[h->count++];
}

int held_add(struct held *h, const struct reader_piece *piece, struct err *err)
{
    size_t bytes = piece->data ? piece->length : 0;
    struct held_piece *p;

    if (bytes > held_free_bytes(h))
        return err_set(err, ERR_TOO_LARGE, "more than %zu bytes changed", h->room);
    p = new_piece(h);
    if (!p)
        return err_set(err, ERR_NOMEM, "held blocks");
    p->piece = *piece;
    p->dropped = false;
    if (piece->data) {
        memcpy(h->memory + h->used, piece->data, piece->length);
        p->piece.data = h->memory + h->used;
        h->used += bytes;
    }
    return 0;
}

static bool lies_in(const struct reader_piece *p, const struct dirty *set)
{
    uint64_t step = 1ull << dirty_granule_shift(set);

    for (uint64_t at = p->start; at < p->start + p->length; at = (at / step + 1) * step)
        if (!dirty_test(set, at))
            return false;
    return true;
}

void held_supersede(struct held *h, unsigned disk, const struct dirty *again)
{
    if (dirty_is_empty(again))
        return;
    for (size_t i = 0; i < h->count; i++)
        if (!h->pieces[i].dropped && h->pieces[i].piece.disk == disk && lies_in(&h->pieces[i].piece, again))
            h->pieces[i].dropped = true;
}

int held_deliver(struct held *h, reader_sink sink, void *arg, struct err *err)
{
    int result = 0;

    for (size_t i = 0; i < h->count && result == 0; i++)
        if (!h->pieces[i].dropped)
            result = sink(arg, &h->pieces[i].piece, err);
    held_clear(h);
    return result;
}

void held_clear(struct held *h)
{
    if (h->used > KEEP_BYTES)
        (void)madvise(h->memory + KEEP_BYTES, h->room - KEEP_BYTES, MADV_DONTNEED);
    h->count = 0;
    h->used = 0;
}
