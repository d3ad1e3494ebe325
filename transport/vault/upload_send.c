/* SPDX-License-Identifier: Apache-2.0
 *
 * Pieces and marks on their way into the bucket, and out of it again.
 *
 * A piece's name has its hash, so a name that is taken is this very piece, sent by an earlier try. A mark's name has only its serial: when
 * it is taken, the object must have our bytes; else another vault writes to the same place, and nothing more is written.
 * Deleting may fail (rights, retention locks of the bucket): what is left is garbage, and said in the log.
 */
#include <stdlib.h>
#include <string.h>

#include "transport/base/clock.h"
#include "transport/base/file.h"
#include "transport/base/log.h"
#include "transport/vault/upload_private.h"

enum {
    PIECE_MAX = 8 << 20,  /* of a file that grows */
    ASK_BYTES = 1 << 20,  /* from here on it is cheaper to ask whether a piece is there than to send it in vain */
    READ_BYTES = 1 << 20, /* of a file at once, for its hash */
    FULL_EVERY = 64,      /* marks, until one names everything again */
};

int upload_list_add(struct entry_list *l, const struct bucket_entry *e, struct err *err)
{
    if ((l->count & (l->count - 1)) == 0) { /* full at each power of two */
        struct bucket_entry *items = mem_resize(l->items, l->count == 0 ? 1 : l->count * 2, sizeof(*items));
        if (items == NULL)
            return err_set(err, ERR_NOMEM, "no memory for the list of a bucket");
        l->items = items;
    }
    l->items[l->count++] = *e;
    return 0;
}

/* ---- pieces ---- */

int upload_hash(int fd, uint64_t from, uint64_t bytes, struct hash128 *ret_hash, struct err *err)
{
    AUTO_FREE uint8_t *data = mem_alloc(1, READ_BYTES);
    struct hash_stream *stream = hash_stream_new();
    int rc = data == NULL || stream == NULL ? err_set(err, ERR_NOMEM, "no memory to read a file") : 0;

    for (uint64_t at = 0; rc == 0 && at < bytes;) {
        size_t n = bytes - at < READ_BYTES ? (size_t)(bytes - at) : (size_t)READ_BYTES;
        rc = file_pread_all(fd, data, n, from + at, "a file of the vault", err);
        if (rc == 0)
            hash_stream_add(stream, data, n);
        at += n;
    }
    if (rc == 0)
        hash_stream_get(stream, ret_hash);
    hash_stream_free(stream);
    return rc;
}

/* What the new piece, or the end of the file, takes the place of. */
static int doom_pieces(struct upload *u, const struct bucket_entry *file, struct err *err)
{
    const struct bucket_file *f = bucketstate_file(&u->state, file);

    for (size_t i = 0; f != NULL && i < f->count; i++) {
        struct bucket_entry e = bucketstate_entry(f, &f->pieces[i]);
        if (upload_list_add(&u->doomed, &e, err) < 0)
            return -1;
    }
    return 0;
}

static int is_there(struct upload_turn *t, const char *name, uint64_t bytes, struct err *err)
{
    uint64_t size = 0;
    int found = object_size(t->objects, name, &size, err);

    if (found == 1 && size != bytes) {
        (void)err_set(err, ERR_CORRUPT, "%s has another size than its name says", name);
        return err_hint(err, "nothing but this vault may write there; delete that object");
    }
    return found;
}

static int not_there(const char *name, struct err *err)
{
    (void)err_set(err, ERR_UNAVAILABLE, "the service says that %s is there, and does not have it", name);
    return err_hint(
        err, "the upload tries it again; look for something between the vault and the service that answers for it");
}

/* Where the name is taken, it must be this very piece, from an earlier try. */
static int send_object(struct upload_turn *t, const char *name, const struct bucket_entry *e, int fd, struct err *err)
{
    int put = object_put_file(t->objects, name, fd, e->offset, e->bytes, err);

    if (put < 0)
        return -1;
    if (put == 1) {
        t->result->sent_bytes += e->bytes;
        return 0;
    }
    int there = is_there(t, name, e->bytes, err);
    return there == 0 ? not_there(name, err) : there < 0 ? -1 : 0;
}

static int send_piece(struct upload_turn *t, struct bucket_entry *e, int fd, struct err *err)
{
    char name[BUCKETMARK_NAME_SIZE];

    if (upload_hash(fd, e->offset, e->bytes, &e->hash, err) < 0)
        return -1;
    bucketmark_piece_name(&t->u->machine, e, name);
    int there = e->bytes < ASK_BYTES ? 0 : is_there(t, name, e->bytes, err);
    if (there < 0 || (there == 0 && send_object(t, name, e, fd, err) < 0))
        return -1;
    if (e->offset == 0 && doom_pieces(t->u, e, err) < 0)
        return -1;
    if (upload_list_add(&t->u->changes, e, err) < 0)
        return -1;
    return bucketstate_change(&t->u->state, e, err);
}

int upload_send_file(struct upload_turn *t, const struct bucket_entry *file, int fd, uint64_t from, uint64_t to,
    bool is_whole, struct err *err)
{
    for (uint64_t at = from; at < to;) {
        struct bucket_entry e = {
            .kind = file->kind, .owner = file->owner, .number = file->number, .offset = at, .bytes = to - at};
        if (!is_whole && e.bytes > PIECE_MAX)
            e.bytes = PIECE_MAX;
        if (send_piece(t, &e, fd, err) < 0)
            return -1;
        at += e.bytes;
    }
    return 0;
}

int upload_send_gone(struct upload_turn *t, const struct bucket_entry *file, struct err *err)
{
    struct bucket_entry e = {.kind = file->kind, .owner = file->owner, .number = file->number, .gone = true};

    if (doom_pieces(t->u, &e, err) < 0 || upload_list_add(&t->u->changes, &e, err) < 0)
        return -1;
    return bucketstate_change(&t->u->state, &e, err);
}

/* ---- taking away ---- */

static void delete_object(struct upload_turn *t, const char *name)
{
    struct err err = ERR_INIT;

    if (object_delete(t->objects, name, &err) < 0 && err.code != ERR_CANCELLED)
        log_event(LOG_WARN, "bucket_delete_failed", LOG_S("object", name), LOG_E(&err));
}

static void delete_doomed(struct upload_turn *t)
{
    char name[BUCKETMARK_NAME_SIZE];

    for (size_t i = 0; i < t->u->doomed.count; i++) {
        if (bucketstate_has(&t->u->state, &t->u->doomed.items[i]))
            continue;
        bucketmark_piece_name(&t->u->machine, &t->u->doomed.items[i], name);
        delete_object(t, name);
    }
    free(t->u->doomed.items);
    t->u->doomed = (struct entry_list){0};
}

static bool is_leftover(const struct upload *u, const char *name)
{
    struct ident machine;
    struct bucket_entry e;
    uint64_t serial, base;

    if (bucketmark_parse_name(name, &machine, &serial, &base) == 0)
        return ident_equal(&machine, &u->machine) && serial < u->state.last.base;
    if (bucketmark_parse_piece_name(name, &machine, &e) == 0)
        return ident_equal(&machine, &u->machine) && !bucketstate_has(&u->state, &e);
    return false;
}

static int sweep_one(void *arg, const struct object_entry *entry, struct err *err)
{
    struct upload_turn *t = arg;

    (void)err;
    if (is_leftover(t->u, entry->name))
        delete_object(t, entry->name);
    return 0;
}

/* What an upload that was killed left behind: once, right behind a mark, when all that counts is named. */
static int sweep(struct upload_turn *t, struct err *err)
{
    char prefix[BUCKETMARK_NAME_SIZE];

    bucketmark_name(&t->u->machine, 1, 1, prefix);
    *strstr(prefix, "marks/") = '\0';
    return object_walk(t->objects, prefix, sweep_one, t, err);
}

static void delete_stale_marks(struct upload_turn *t, uint64_t old_base)
{
    char name[BUCKETMARK_NAME_SIZE];

    for (uint64_t serial = old_base; old_base > 0 && serial < t->u->state.last.base; serial++) {
        bucketmark_name(&t->u->machine, serial, old_base, name);
        delete_object(t, name);
    }
}

/* ---- the mark ---- */

static int mark_make(struct upload_turn *t, struct bucketmark *m, struct err *err)
{
    const struct bucketmark *last = &t->u->state.last;
    const struct upload_source *src = t->src;

    m->machine = t->u->machine;
    m->serial = last->serial + 1;
    m->base = last->serial == 0 || last->serial - last->base + 1 >= FULL_EVERY ? m->serial : last->base;
    m->committed = src->committed;
    m->point = src->point;
    m->point_time_utc_usec = src->point_time_utc_usec;
    m->written_utc_usec = clock_utc_usec();
    memcpy(m->meta, src->meta, sizeof(m->meta));
    if (src->manifest_bytes.len > 0 &&
        buf_append(&m->manifest, src->manifest_bytes.data, src->manifest_bytes.len, err) < 0)
        return -1;
    if (m->base == m->serial)
        return bucketstate_entries(&t->u->state, m, err);
    m->entries = TAKE_PTR(t->u->changes.items);
    m->count = t->u->changes.count;
    t->u->changes.count = 0;
    return 0;
}

static int mark_put(struct upload_turn *t, const struct bucketmark *m, struct err *err)
{
    AUTO_BUF struct buf bytes = BUF_INIT(BUCKETMARK_BYTES_MAX), there = BUF_INIT(BUCKETMARK_BYTES_MAX);
    char name[BUCKETMARK_NAME_SIZE];

    bucketmark_name(&m->machine, m->serial, m->base, name);
    if (bucketmark_encode(m, &bytes, err) < 0)
        return -1;
    int put = object_put_new(t->objects, name, bytes.data, bytes.len, err);
    if (put != 0)
        return put < 0 ? -1 : 0;
    int found = object_get(t->objects, name, 0, OBJECT_WHOLE, &there, err);
    if (found == 0)
        return not_there(name, err);
    if (found < 0 || (found == 1 && there.len == bytes.len && memcmp(there.data, bytes.data, bytes.len) == 0))
        return found < 0 ? -1 : 0;
    (void)err_set(err, ERR_CONFLICT, "another vault writes to the same place in the bucket");
    return err_hint(err, "give each vault a prefix of its own in its bucket URL");
}

/* The state takes over the mark; its entries are in it already. */
static void mark_taken(struct upload *u, struct bucketmark *m)
{
    bucketmark_done(&u->state.last);
    free(m->entries);
    m->entries = NULL;
    m->count = 0;
    u->state.last = *m;
    bucketmark_init(m);
    free(u->changes.items);
    u->changes = (struct entry_list){0};
}

int upload_send_mark(struct upload_turn *t, struct err *err)
{
    struct bucketmark m AUTO_BUCKETMARK;
    uint64_t old_base = t->u->state.last.base;

    bucketmark_init(&m);
    if (mark_make(t, &m, err) < 0 || mark_put(t, &m, err) < 0) {
        t->u->loaded = false; /* whether it is there only the bucket knows */
        return -1;
    }
    mark_taken(t->u, &m);
    delete_doomed(t);
    if (t->u->state.last.base != old_base)
        delete_stale_marks(t, old_base);
    if (t->u->swept)
        return 0;
    t->u->swept = true;
    return sweep(t, err);
}

/* ---- all of it ---- */

static int purge_one(void *arg, const struct object_entry *entry, struct err *err)
{
    return object_delete(arg, entry->name, err);
}

int upload_purge(const struct ident *machine, struct object_store *objects, struct err *err)
{
    char prefix[BUCKETMARK_NAME_SIZE];

    bucketmark_name(machine, 1, 1, prefix);
    strrchr(prefix, '/')[1] = '\0';
    if (object_walk(objects, prefix, purge_one, objects, err) < 0)
        return -1;
    *strstr(prefix, "marks/") = '\0';
    return object_walk(objects, prefix, purge_one, objects, err);
}
