/* SPDX-License-Identifier: Apache-2.0
 *
 * See droplog.h; FORMAT.md has the bytes of the file.
 */
#include "transport/vault/droplog.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "transport/base/buf.h"
#include "transport/base/bytes.h"
#include "transport/base/file.h"
#include "transport/base/hash.h"
#include "transport/base/mem.h"

#define DROPLOG_MAGIC "LWDRP\0\0\1"
#define HEAD_SIZE 32u
#define ITEM_SIZE 8u
#define COUNT_UNSURE UINT64_MAX
#define FILE_MAX (HEAD_SIZE + (size_t)DROPLOG_ITEMS_MAX * ITEM_SIZE + HASH_SIZE)

void droplog_done(struct droplog *l)
{
    free(l->items);
    *l = (struct droplog){0};
}

static int reserve(struct droplog *l, size_t count, struct err *err)
{
    size_t cap = l->cap == 0 ? 64 : l->cap;
    while (cap < count)
        cap *= 2;
    if (cap == l->cap)
        return 0;
    struct droplog_item *items = mem_resize(l->items, cap, sizeof(*items));
    if (items == NULL)
        return err_set(err, ERR_NOMEM, "no memory for %zu dropped points", count);
    l->items = items;
    l->cap = cap;
    return 0;
}

static void doubt(struct droplog *l, uint64_t now_usec)
{
    l->count = 0;
    l->unsure = true;
    l->unsure_usec = now_usec;
}

int droplog_add(struct droplog *l, const uint64_t *sequences, size_t count, uint64_t now_usec, struct err *err)
{
    if (count > DROPLOG_ITEMS_MAX - l->count) {
        doubt(l, now_usec);
        return 0;
    }
    if (reserve(l, l->count + count, err) < 0)
        return -1;
    for (size_t i = 0; i < count; i++)
        l->items[l->count++] = (struct droplog_item){sequences[i], now_usec};
    return 0;
}

void droplog_leave(struct droplog *l, const struct pointlist *points)
{
    size_t kept = 0;
    for (size_t i = 0; i < l->count; i++)
        if (pointlist_find(points, l->items[i].sequence) == NULL)
            l->items[kept++] = l->items[i];
    l->count = kept;
}

bool droplog_forget(struct droplog *l, uint64_t until_usec)
{
    size_t gone = 0;
    bool is_sure = l->unsure && l->unsure_usec <= until_usec;
    while (gone < l->count && l->items[gone].noted_usec <= until_usec)
        gone++;
    if (gone > 0)
        memmove(l->items, l->items + gone, (l->count - gone) * sizeof(l->items[0]));
    l->count -= gone;
    l->unsure = l->unsure && !is_sure;
    return is_sure || gone > 0;
}

/* ---- the file ---- */

static bool is_good(const struct buf *b, const struct ident *machine, uint64_t *ret_count)
{
    if (b->len < HEAD_SIZE + HASH_SIZE || memcmp(b->data, DROPLOG_MAGIC, 8) != 0 ||
        memcmp(b->data + 8, machine->bytes, IDENT_SIZE) != 0)
        return false;
    if (!hash_is_sealed(b->data, b->len))
        return false;
    *ret_count = get_le64(b->data + 24);
    return *ret_count <= DROPLOG_ITEMS_MAX && b->len == HEAD_SIZE + *ret_count * ITEM_SIZE + HASH_SIZE;
}

int droplog_load(const char *machine_dir, const struct ident *machine, struct droplog *l, struct err *err)
{
    struct buf content AUTO_BUF = BUF_INIT(FILE_MAX);
    char *path AUTO_FREE = mem_printf("%s/dropped", machine_dir);
    uint64_t count;
    if (path == NULL)
        return err_set(err, ERR_NOMEM, "no memory for dropped points");
    l->unsure = file_read(path, &content, NULL) < 0 || !is_good(&content, machine, &count);
    if (l->unsure)
        return 0;
    if (reserve(l, (size_t)count, err) < 0)
        return -1;
    for (; l->count < count; l->count++)
        l->items[l->count] =
            (struct droplog_item){.sequence = get_le64(content.data + HEAD_SIZE + l->count * ITEM_SIZE)};
    return 0;
}

int droplog_store(const char *machine_dir, const struct ident *machine, const struct droplog *l, struct err *err)
{
    size_t count = l->unsure ? 0 : l->count, size = HEAD_SIZE + count * ITEM_SIZE;
    char *path AUTO_FREE = mem_printf("%s/dropped", machine_dir);
    uint8_t *out AUTO_FREE = mem_alloc(1, size + HASH_SIZE);
    if (path == NULL || out == NULL)
        return err_set(err, ERR_NOMEM, "no memory for dropped points");
    memcpy(out, DROPLOG_MAGIC, 8);
    memcpy(out + 8, machine->bytes, IDENT_SIZE);
    put_le64(out + 24, l->unsure ? COUNT_UNSURE : l->count);
    for (size_t i = 0; i < count; i++)
        put_le64(out + HEAD_SIZE + i * ITEM_SIZE, l->items[i].sequence);
    hash_seal(out, size);
    return file_replace(path, out, size + HASH_SIZE, 0600, err);
}

int droplog_lose(const char *machine_dir, struct droplog *l, uint64_t now_usec, struct err *err)
{
    char *path AUTO_FREE = mem_printf("%s/dropped", machine_dir);
    if (path == NULL)
        return err_set(err, ERR_NOMEM, "no memory for dropped points");
    if (unlink(path) < 0 && errno != ENOENT)
        return err_sys(err, errno, "removing %s", path);
    doubt(l, now_usec);
    return file_sync_dir(machine_dir, err);
}
