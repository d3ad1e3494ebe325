/* SPDX-License-Identifier: Apache-2.0
 *
 * Loading: the marks of a machine are listed (names alone tell serial and base), and the chain from the newest one's base to it is read and
 * applied. An uploader that writes meanwhile may take away marks that a new full one replaces; then the list is read again.
 */
#include "transport/vault/bucketstate.h"

#include <stdlib.h>
#include <string.h>

enum {
    MARKS_MAX = 65536, /* listed: an uploader leaves about a hundred */
    RELOADS = 5,
};

void bucketstate_init(struct bucketstate *st, const struct ident *machine)
{
    *st = (struct bucketstate){.machine = *machine};
    bucketmark_init(&st->last);
}

void bucketstate_done(struct bucketstate *st)
{
    for (size_t i = 0; i < st->count; i++)
        free(st->files[i].pieces);
    free(st->files);
    st->files = NULL;
    st->count = st->cap = 0;
    bucketmark_done(&st->last);
}

/* ---- files ---- */

static int compare_file(const struct bucket_file *f, const struct bucket_entry *e)
{
    if (f->kind != e->kind)
        return f->kind < e->kind ? -1 : 1;
    int owners = memcmp(f->owner.bytes, e->owner.bytes, IDENT_SIZE);
    if (owners != 0)
        return owners;
    return f->number < e->number ? -1 : f->number > e->number;
}

/* The index of the file, or where it would be. */
static size_t place_of(const struct bucketstate *st, const struct bucket_entry *e)
{
    size_t low = 0, high = st->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (compare_file(&st->files[middle], e) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool is_file(const struct bucketstate *st, size_t at, const struct bucket_entry *e)
{
    return at < st->count && compare_file(&st->files[at], e) == 0;
}

const struct bucket_file *bucketstate_file(const struct bucketstate *st, const struct bucket_entry *e)
{
    size_t at = place_of(st, e);

    return is_file(st, at, e) ? &st->files[at] : NULL;
}

const struct bucket_file *bucketstate_find(const struct bucketstate *st, enum bucket_kind kind, uint64_t number)
{
    return bucketstate_file(st, &(struct bucket_entry){.kind = kind, .number = number});
}

struct bucket_entry bucketstate_entry(const struct bucket_file *f, const struct bucket_piece *p)
{
    return (struct bucket_entry){.kind = f->kind,
        .owner = f->owner,
        .number = f->number,
        .offset = p->offset,
        .bytes = p->bytes,
        .hash = p->hash};
}

bool bucketstate_has(const struct bucketstate *st, const struct bucket_entry *piece)
{
    const struct bucket_file *f = bucketstate_file(st, piece);

    for (size_t i = 0; f != NULL && i < f->count; i++)
        if (f->pieces[i].offset == piece->offset && f->pieces[i].bytes == piece->bytes &&
            hash_equal(&f->pieces[i].hash, &piece->hash))
            return true;
    return false;
}

static int file_insert(struct bucketstate *st, size_t at, const struct bucket_entry *e, struct err *err)
{
    if (st->count == st->cap) {
        size_t cap = st->cap == 0 ? 64 : st->cap * 2;
        struct bucket_file *files = mem_resize(st->files, cap, sizeof(*files));
        if (files == NULL)
            return err_set(err, ERR_NOMEM, "no memory for the list of a bucket");
        st->files = files;
        st->cap = cap;
    }
    memmove(&st->files[at + 1], &st->files[at], (st->count - at) * sizeof(st->files[0]));
    st->files[at] = (struct bucket_file){.kind = e->kind, .owner = e->owner, .number = e->number};
    st->count++;
    return 0;
}

static void file_remove(struct bucketstate *st, size_t at)
{
    free(st->files[at].pieces);
    memmove(&st->files[at], &st->files[at + 1], (st->count - at - 1) * sizeof(st->files[0]));
    st->count--;
}

static int piece_add(struct bucket_file *f, const struct bucket_entry *e, struct err *err)
{
    size_t keep = e->offset == 0 ? 0 : f->count;
    struct bucket_piece *pieces = mem_resize(f->pieces, keep + 1, sizeof(*pieces));

    if (pieces == NULL)
        return err_set(err, ERR_NOMEM, "no memory for the list of a bucket");
    f->pieces = pieces;
    f->pieces[keep] = (struct bucket_piece){e->offset, e->bytes, e->hash};
    f->count = keep + 1;
    f->bytes = e->offset + e->bytes;
    return 0;
}

int bucketstate_change(struct bucketstate *st, const struct bucket_entry *e, struct err *err)
{
    size_t at = place_of(st, e);
    bool found = is_file(st, at, e);

    if ((e->gone && !found) || (!e->gone && e->offset != (found && e->offset > 0 ? st->files[at].bytes : 0)))
        return err_set(err, ERR_CORRUPT, "a mark in the bucket does not follow on the one before it");
    if (e->gone) {
        file_remove(st, at);
        return 0;
    }
    if (!found && file_insert(st, at, e, err) < 0)
        return -1;
    if (piece_add(&st->files[at], e, err) == 0)
        return 0;
    if (!found)
        file_remove(st, at);
    return -1;
}

/* ---- marks ---- */

int bucketstate_apply(struct bucketstate *st, const struct bucketmark *m, struct err *err)
{
    bool full = m->base == m->serial;

    if (!ident_equal(&m->machine, &st->machine))
        return err_set(err, ERR_CORRUPT, "a mark in the bucket is another machine's");
    if (full ? st->count > 0 : m->serial != st->last.serial + 1 || m->base != st->last.base)
        return err_set(err, ERR_CORRUPT, "a mark in the bucket does not follow on the one before it");
    for (size_t i = 0; i < m->count; i++)
        if (bucketstate_change(st, &m->entries[i], err) < 0)
            return -1;
    bucketmark_done(&st->last);
    st->last = *m;
    st->last.entries = NULL;
    st->last.count = 0;
    st->last.manifest = BUF_INIT(BUCKETMARK_BYTES_MAX);
    return m->manifest.len == 0 ? 0 : buf_append(&st->last.manifest, m->manifest.data, m->manifest.len, err);
}

int bucketstate_entries(const struct bucketstate *st, struct bucketmark *m, struct err *err)
{
    size_t count = 0;

    for (size_t i = 0; i < st->count; i++)
        count += st->files[i].count;
    m->entries = mem_alloc(count + 1, sizeof(*m->entries));
    if (m->entries == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a mark of the bucket");
    for (size_t i = 0; i < st->count; i++)
        for (size_t k = 0; k < st->files[i].count; k++)
            m->entries[m->count++] = bucketstate_entry(&st->files[i], &st->files[i].pieces[k]);
    return 0;
}

static int check_index(const struct bucketstate *st, const struct manifest *man, struct err *err)
{
    const struct bucket_file *points = bucketstate_find(st, BUCKET_POINTS, man->points_id);

    for (size_t i = 0; i < man->run_count; i++)
        if (bucketstate_find(st, BUCKET_RUN, man->runs[i].id) == NULL)
            return err_set(
                err, ERR_CORRUPT, "index run %llu is not in the bucket", (unsigned long long)man->runs[i].id);
    if (man->point_count > 0 && (points == NULL || points->bytes / 64 <= man->point_count))
        return err_set(err, ERR_CORRUPT, "the list of recovery points is not in the bucket");
    return 0;
}

int bucketstate_check(const struct bucketstate *st, struct err *err)
{
    const struct bucketmark *m = &st->last;
    const struct bucket_file *tail = bucketstate_find(st, BUCKET_SEGMENT, m->committed.segment);
    struct manifest man AUTO_MANIFEST = {0};

    if (tail == NULL || tail->bytes < m->committed.offset)
        return err_set(err, ERR_CORRUPT, "the log in the bucket does not reach its mark");
    if (m->manifest.len == 0)
        return 0;
    if (manifest_decode(m->manifest.data, m->manifest.len, &st->machine, &man, err) < 0)
        return -1;
    return check_index(st, &man, err);
}

/* ---- loading ---- */

struct mark_name {
    uint64_t serial, base;
};

struct mark_names {
    struct mark_name *items;
    size_t count;
};

static int take_name(void *arg, const struct object_entry *entry, struct err *err)
{
    struct mark_names *names = arg;
    struct mark_name n;
    struct ident whose;

    if (bucketmark_parse_name(entry->name, &whose, &n.serial, &n.base) < 0)
        return 0;
    if (names->count == MARKS_MAX) {
        (void)err_set(err, ERR_TOO_LARGE, "the bucket lists more than %d marks of one machine", MARKS_MAX);
        return err_hint(err, "no vault of ours leaves so many: check that the URL is the right one");
    }
    struct mark_name *items = mem_resize(names->items, names->count + 1, sizeof(*items));
    if (items == NULL)
        return err_set(err, ERR_NOMEM, "no memory for the marks of a bucket");
    names->items = items;
    items[names->count++] = n;
    return 0;
}

static int list_marks(
    const struct ident *machine, struct object_store *objects, struct mark_names *names, struct err *err)
{
    char prefix[BUCKETMARK_NAME_SIZE];

    bucketmark_name(machine, 1, 1, prefix);
    strrchr(prefix, '/')[1] = '\0';
    return object_walk(objects, prefix, take_name, names, err);
}

static int compare_names(const void *left, const void *right)
{
    const struct mark_name *a = left, *b = right;

    return a->serial < b->serial ? -1 : a->serial > b->serial;
}

/* 1; 0: the object is not there any more. */
static int apply_one(struct bucketstate *st, struct object_store *objects, const struct mark_name *n, struct err *err)
{
    struct bucketmark m AUTO_BUCKETMARK;
    AUTO_BUF struct buf bytes = BUF_INIT(BUCKETMARK_BYTES_MAX);
    char name[BUCKETMARK_NAME_SIZE];

    bucketmark_init(&m);
    bucketmark_name(&st->machine, n->serial, n->base, name);
    int found = object_get(objects, name, 0, OBJECT_WHOLE, &bytes, err);
    if (found <= 0)
        return found;
    if (bucketmark_decode(bytes.data, bytes.len, &m, err) < 0)
        return err_wrap(err, "%s", name);
    if (m.serial != n->serial || m.base != n->base)
        return err_set(err, ERR_CORRUPT, "%s is another mark than its name says", name);
    return bucketstate_apply(st, &m, err) < 0 ? err_wrap(err, "%s", name) : 1;
}

/* Names in their order. 1; 0: one of the chain was not there. */
static int apply_chain(
    struct bucketstate *st, struct object_store *objects, const struct mark_names *names, struct err *err)
{
    const struct mark_name *newest = &names->items[names->count - 1];
    uint64_t next = newest->base;

    for (size_t i = 0; i < names->count; i++) {
        if (names->items[i].serial < newest->base)
            continue;
        if (names->items[i].serial != next || names->items[i].base != newest->base)
            return 0;
        int applied = apply_one(st, objects, &names->items[i], err);
        if (applied <= 0)
            return applied;
        next++;
    }
    return 1;
}

/* As bucketstate_load; 2: marks of the chain were not there. */
static int load_once(struct bucketstate *st, struct object_store *objects, struct err *err)
{
    struct mark_names names = {0};
    int loaded = list_marks(&st->machine, objects, &names, err);

    if (loaded == 0 && names.count > 0) {
        qsort(names.items, names.count, sizeof(names.items[0]), compare_names);
        loaded = apply_chain(st, objects, &names, err);
        loaded = loaded == 0 ? 2 : loaded;
    }
    free(names.items);
    return loaded;
}

int bucketstate_load(struct bucketstate *st, struct object_store *objects, struct err *err)
{
    struct ident machine = st->machine;

    for (int attempt = 0; attempt < RELOADS; attempt++) {
        int loaded = load_once(st, objects, err);
        if (loaded != 2)
            return loaded;
        bucketstate_done(st);
        bucketstate_init(st, &machine);
    }
    (void)err_set(err, ERR_CORRUPT, "marks of the machine are missing in the bucket");
    return err_hint(err, "delete the marks behind the gap to go back to what stands before it");
}
