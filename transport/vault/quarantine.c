/* SPDX-License-Identifier: Apache-2.0
 *
 * The list and its file, which is replaced as a whole: 32 bytes, 192 per item, and a hash over all of it.
 */
#include "transport/vault/quarantine.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "transport/base/buf.h"
#include "transport/base/bytes.h"
#include "transport/base/file.h"
#include "transport/base/mem.h"

#define HEAD_SIZE 32u
#define ITEM_SIZE 192u
#define FLAG_HEALED 1u
#define FLAG_HASH 2u
#define FLAG_NOW 4u
#define QUARANTINE_MAGIC                                                                                               \
    {                                                                                                                  \
        'L', 'W', 'Q', 'U', 'A', 0, 0, 1                                                                               \
    }

static const uint8_t quarantine_magic[8] = QUARANTINE_MAGIC;

/* ---- the file ---- */

static void item_encode(const struct quarantine_item *i, uint8_t *p)
{
    const uint64_t numbers[] = {i->segment, i->offset, i->end, i->sequence, i->first_point, i->last_point, i->points,
        i->start, i->length, i->found_utc_usec};
    p[0] = (uint8_t)i->kind;
    p[1] = (uint8_t)((i->state == QUARANTINE_HEALED ? FLAG_HEALED : 0) | (i->has_hash ? FLAG_HASH : 0) |
                     (i->now ? FLAG_NOW : 0));
    put_le32(p + 4, i->disk);
    for (size_t n = 0; n < ARRAY_LEN(numbers); n++)
        put_le64(p + 8 + 8 * n, numbers[n]);
    memcpy(p + 88, i->hash.bytes, HASH_SIZE);
    memcpy(p + 104, i->text, sizeof(i->text));
}

static bool item_decode(const uint8_t *p, struct quarantine_item *i)
{
    uint64_t *const numbers[] = {&i->segment, &i->offset, &i->end, &i->sequence, &i->first_point, &i->last_point,
        &i->points, &i->start, &i->length, &i->found_utc_usec};
    *i = (struct quarantine_item){.kind = (enum verify_kind)p[0], .disk = get_le32(p + 4)};
    i->state = (p[1] & FLAG_HEALED) != 0 ? QUARANTINE_HEALED : QUARANTINE_DAMAGED;
    i->has_hash = (p[1] & FLAG_HASH) != 0;
    i->now = (p[1] & FLAG_NOW) != 0;
    for (size_t n = 0; n < ARRAY_LEN(numbers); n++)
        *numbers[n] = get_le64(p + 8 + 8 * n);
    memcpy(i->hash.bytes, p + 88, HASH_SIZE);
    memcpy(i->text, p + 104, sizeof(i->text) - 1);
    return p[0] <= VERIFY_HEADERS;
}

static bool is_good(const struct buf *b, const struct ident *machine)
{
    if (b->len < HEAD_SIZE + HASH_SIZE || memcmp(b->data, quarantine_magic, sizeof(quarantine_magic)) != 0 ||
        memcmp(b->data + 8, machine->bytes, IDENT_SIZE) != 0)
        return false;
    uint64_t count = get_le64(b->data + 24);
    if (count > QUARANTINE_ITEMS_MAX || b->len != HEAD_SIZE + count * ITEM_SIZE + HASH_SIZE)
        return false;
    return hash_is_sealed(b->data, b->len);
}

int quarantine_load(const char *machine_dir, const struct ident *machine, struct quarantine *q, struct err *err)
{
    struct buf content AUTO_BUF = BUF_INIT(HEAD_SIZE + QUARANTINE_ITEMS_MAX * ITEM_SIZE + HASH_SIZE);
    struct err why = ERR_INIT;
    char *path AUTO_FREE = mem_printf("%s/quarantine", machine_dir);
    *q = (struct quarantine){0};
    if (path == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a quarantine");
    if (file_read(path, &content, &why) < 0 || !is_good(&content, machine))
        return 0;
    size_t count = (size_t)get_le64(content.data + 24);
    q->items = mem_alloc(count + 1, sizeof(*q->items));
    if (q->items == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a quarantine");
    for (size_t i = 0; i < count; i++)
        q->count += item_decode(content.data + HEAD_SIZE + i * ITEM_SIZE, &q->items[q->count]);
    return 0;
}

int quarantine_store(const char *machine_dir, const struct ident *machine, const struct quarantine *q, struct err *err)
{
    size_t size = HEAD_SIZE + q->count * ITEM_SIZE;
    char *path AUTO_FREE = mem_printf("%s/quarantine", machine_dir);
    uint8_t *out AUTO_FREE = mem_alloc(1, size + HASH_SIZE);
    if (path == NULL || out == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a quarantine");
    if (q->count == 0)
        return unlink(path) < 0 && errno != ENOENT ? err_sys(err, errno, "removing %s", path) : 0;
    memcpy(out, quarantine_magic, sizeof(quarantine_magic));
    memcpy(out + 8, machine->bytes, IDENT_SIZE);
    put_le64(out + 24, q->count);
    for (size_t i = 0; i < q->count; i++)
        item_encode(&q->items[i], out + HEAD_SIZE + i * ITEM_SIZE);
    hash_seal(out, size);
    return file_replace(path, out, size + HASH_SIZE, 0600, err);
}

/* ---- the list ---- */

void quarantine_done(struct quarantine *q)
{
    free(q->items);
    *q = (struct quarantine){0};
}

int quarantine_copy(const struct quarantine *from, struct quarantine *to, struct err *err)
{
    *to = (struct quarantine){.items = mem_alloc(from->count + 1, sizeof(*to->items)), .count = from->count};
    if (to->items == NULL) {
        to->count = 0;
        return err_set(err, ERR_NOMEM, "no memory for a quarantine");
    }
    if (from->count > 0)
        memcpy(to->items, from->items, from->count * sizeof(*to->items));
    return 0;
}

/* The first item at that place or behind it. */
static size_t place_of(const struct quarantine *q, uint64_t segment, uint64_t offset)
{
    size_t low = 0;
    size_t high = q->count;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        const struct quarantine_item *i = &q->items[mid];
        if (i->segment < segment || (i->segment == segment && i->offset < offset))
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

struct quarantine_item *quarantine_find(const struct quarantine *q, uint64_t segment, uint64_t offset)
{
    size_t at = place_of(q, segment, offset);
    if (at == q->count || q->items[at].segment != segment || q->items[at].offset != offset)
        return NULL;
    return &q->items[at];
}

int quarantine_put(struct quarantine *q, const struct quarantine_item *item, struct err *err)
{
    struct quarantine_item *known = quarantine_find(q, item->segment, item->offset);
    if (known != NULL) {
        *known = *item;
        return 0;
    }
    if (q->count >= QUARANTINE_ITEMS_MAX)
        return 0;
    struct quarantine_item *items = mem_resize(q->items, q->count + 1, sizeof(*items));
    if (items == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a quarantine");
    q->items = items;
    size_t at = place_of(q, item->segment, item->offset);
    memmove(&items[at + 1], &items[at], (q->count - at) * sizeof(*items));
    items[at] = *item;
    q->count++;
    return 1;
}

void quarantine_remove(struct quarantine *q, size_t index)
{
    memmove(&q->items[index], &q->items[index + 1], (q->count - index - 1) * sizeof(q->items[0]));
    q->count--;
}
