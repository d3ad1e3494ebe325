/* SPDX-License-Identifier: Apache-2.0
 *
 * See storelock.h; FORMAT.md has the bytes of the file.
 */
#include "transport/vault/storelock.h"

#include <string.h>

#include "transport/base/buf.h"
#include "transport/base/bytes.h"
#include "transport/base/file.h"
#include "transport/base/hash.h"
#include "transport/base/mem.h"

#define LOCKS_MAGIC "LWLCK\0\0\1"
#define HEAD_SIZE 32u
#define SPAN_SIZE 24u
#define FILE_MAX (HEAD_SIZE + STORELOCK_SPANS_MAX * SPAN_SIZE + HASH_SIZE)

static const struct storelock_span *span_of(const struct storelock *l, uint64_t sequence)
{
    const struct storelock_span *found = NULL;
    for (size_t i = 0; i < l->count && l->spans[i].from_sequence <= sequence; i++)
        found = &l->spans[i];
    return found;
}

uint64_t storelock_until(const struct storelock *l, const struct point *p)
{
    const struct storelock_span *span = span_of(l, p->sequence);
    if (l->damaged)
        return UINT64_MAX;
    if (span == NULL || span->lock_usec == 0)
        return 0;
    uint64_t until =
        p->committed_utc_usec > UINT64_MAX - span->lock_usec ? UINT64_MAX : p->committed_utc_usec + span->lock_usec;
    return until > span->until_utc_usec ? until : span->until_utc_usec;
}

uint64_t storelock_current(const struct storelock *l)
{
    return l->count == 0 ? 0 : l->spans[l->count - 1].lock_usec;
}

static void join_oldest(struct storelock *l)
{
    struct storelock_span *a = &l->spans[0];
    const struct storelock_span *b = &l->spans[1];
    a->lock_usec = a->lock_usec > b->lock_usec ? a->lock_usec : b->lock_usec;
    a->until_utc_usec = a->until_utc_usec > b->until_utc_usec ? a->until_utc_usec : b->until_utc_usec;
    memmove(&l->spans[1], &l->spans[2], (l->count - 2) * sizeof(l->spans[0]));
    l->count--;
}

/* Spans of the same lock become one. */
static void join_equal(struct storelock *l)
{
    size_t kept = 0;
    for (size_t i = 0; i < l->count; i++) {
        struct storelock_span *last = kept > 0 ? &l->spans[kept - 1] : NULL;
        if (last != NULL && last->lock_usec == l->spans[i].lock_usec &&
            last->until_utc_usec == l->spans[i].until_utc_usec)
            continue;
        l->spans[kept++] = l->spans[i];
    }
    l->count = kept;
}

bool storelock_apply(struct storelock *l, uint64_t lock_usec, uint64_t next_sequence)
{
    uint64_t lock = lock_usec < STORELOCK_USEC_MAX ? lock_usec : STORELOCK_USEC_MAX;
    if (l->damaged || lock == storelock_current(l))
        return false;
    if (l->count == 0)
        l->spans[l->count++] = (struct storelock_span){.from_sequence = 0};
    if (l->spans[l->count - 1].from_sequence < next_sequence) {
        if (l->count == STORELOCK_SPANS_MAX)
            join_oldest(l);
        l->spans[l->count++] = (struct storelock_span){.from_sequence = next_sequence};
    }
    l->spans[l->count - 1].lock_usec = lock; /* no point has this span yet */
    for (size_t i = 0; i + 1 < l->count; i++)
        if (l->spans[i].lock_usec < lock)
            l->spans[i].lock_usec = lock;
    join_equal(l);
    return true;
}

bool storelock_recount(struct storelock *l, uint64_t now_utc_usec)
{
    bool changed = false;
    for (size_t i = 0; i < l->count && !l->damaged; i++) {
        uint64_t until = now_utc_usec + l->spans[i].lock_usec;
        if (l->spans[i].lock_usec == 0 || l->spans[i].until_utc_usec >= until)
            continue;
        l->spans[i].until_utc_usec = until;
        changed = true;
    }
    return changed;
}

/* ---- the file ---- */

static bool decode(const uint8_t *p, size_t n, const struct ident *machine, struct storelock *l)
{
    if (n < HEAD_SIZE + HASH_SIZE || n > FILE_MAX || (n - HEAD_SIZE - HASH_SIZE) % SPAN_SIZE != 0)
        return false;
    if (memcmp(p, LOCKS_MAGIC, 8) != 0 || memcmp(p + 8, machine->bytes, IDENT_SIZE) != 0 || !hash_is_sealed(p, n))
        return false;
    for (const uint8_t *at = p + HEAD_SIZE; at < p + n - HASH_SIZE; at += SPAN_SIZE)
        l->spans[l->count++] = (struct storelock_span){get_le64(at), get_le64(at + 8), get_le64(at + 16)};
    return true;
}

int storelock_load(const char *machine_dir, const struct ident *machine, struct storelock *ret_lock, struct err *err)
{
    struct buf content AUTO_BUF = BUF_INIT(FILE_MAX + 1);
    char *path AUTO_FREE = mem_printf("%s/locks", machine_dir);
    struct err why = ERR_INIT;
    *ret_lock = (struct storelock){0};
    if (path == NULL)
        return err_set(err, ERR_NOMEM, "no memory for the retention lock");
    if (file_read(path, &content, &why) < 0) {
        if (why.code == ERR_NOT_FOUND)
            return 0;
        ret_lock->damaged = why.code == ERR_TOO_LARGE || why.code == ERR_IO || why.code == ERR_CORRUPT;
        if (!ret_lock->damaged)
            err_copy(err, &why);
        return ret_lock->damaged ? 0 : -1;
    }
    if (!decode(content.data, content.len, machine, ret_lock))
        *ret_lock = (struct storelock){.damaged = true};
    return 0;
}

int storelock_store(const char *machine_dir, const struct ident *machine, const struct storelock *l, struct err *err)
{
    uint8_t content[FILE_MAX] = LOCKS_MAGIC;
    size_t n = HEAD_SIZE;
    char *path AUTO_FREE = mem_printf("%s/locks", machine_dir);
    if (path == NULL)
        return err_set(err, ERR_NOMEM, "no memory for the retention lock");
    if (l->damaged) {
        (void)err_set(err, ERR_CORRUPT, "the file locks in %s is damaged: all points count as locked", machine_dir);
        return err_hint(err, "put it back from a copy");
    }
    memcpy(content + 8, machine->bytes, IDENT_SIZE);
    for (size_t i = 0; i < l->count; i++, n += SPAN_SIZE) {
        put_le64(content + n, l->spans[i].from_sequence);
        put_le64(content + n + 8, l->spans[i].lock_usec);
        put_le64(content + n + 16, l->spans[i].until_utc_usec);
    }
    hash_seal(content, n);
    return file_replace(path, content, n + HASH_SIZE, 0600, err);
}
