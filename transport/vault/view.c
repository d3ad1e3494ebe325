/* SPDX-License-Identifier: Apache-2.0
 *
 * A view is a stack of layers, newest first: runs of which it uses the top, and at most one block map in memory, made from
 * the run that has the point in its middle. The lowest layer is the newest cumulative run that is not younger than the point.
 * A lookup goes down the stack until a layer covers the place; newer layers that begin behind it bound the piece.
 */
#include "transport/vault/view.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "transport/log/segment.h"
#include "transport/vault/extmap.h"
#include "transport/vault/manifest.h"
#include "transport/vault/recordread.h"
#include "transport/vault/storemeta.h"

#define OPEN_TRIES 5 /* a merge may remove runs between our look at the manifest and at them */

struct view_layer {
    struct run *run;
    struct extmap *map; /* instead of run */
};

struct view {
    struct ident machine;
    struct mark mark;
    size_t layer_count;
    struct view_layer *layers; /* newest first */
    struct recordread *records;
};

static void layers_free(struct view *v)
{
    for (size_t i = 0; i < v->layer_count; i++) {
        run_close(v->layers[i].run);
        extmap_free(v->layers[i].map);
    }
    free(v->layers);
    v->layers = NULL;
    v->layer_count = 0;
}

void view_close(struct view *v)
{
    if (v == NULL)
        return;
    layers_free(v);
    recordread_free(v->records);
    free(v);
}

/* ---- the run that has the point in its middle ---- */

struct aged {
    size_t count;
    struct extent *items;
};

static int compare_age(const void *a, const void *b)
{
    return extent_compare_age(a, b);
}

/* All entries of the run that a point at `sequence` may see, oldest first. */
static int collect(struct run *run, uint64_t sequence, struct aged *a, struct err *err)
{
    const struct run_info *info = run_get_info(run);
    uint64_t dead;
    a->items = mem_alloc(info->top_count + info->history_count + 1, sizeof(*a->items));
    if (a->items == NULL)
        return err_set(err, ERR_NOMEM, "no memory to open a point");
    for (uint64_t i = 0; i < info->top_count; i++) {
        if (run_top_at(run, i, &a->items[a->count], err) < 0)
            return -1;
        a->count += a->items[a->count].sequence <= sequence;
    }
    for (uint64_t i = 0; i < info->history_count; i++) {
        if (run_history_at(run, i, &a->items[a->count], &dead, err) < 0)
            return -1;
        a->count += a->items[a->count].sequence <= sequence && dead > sequence;
    }
    qsort(a->items, a->count, sizeof(a->items[0]), compare_age);
    return 0;
}

static int map_from_run(struct run *run, uint64_t sequence, struct extmap **ret_map, struct err *err)
{
    struct aged a = {0};
    struct extmap *map AUTO_OF(extmap) = extmap_new();
    int result = map == NULL ? err_set(err, ERR_NOMEM, "no memory to open a point") : collect(run, sequence, &a, err);
    for (size_t i = 0; result == 0 && i < a.count; i++)
        result = extmap_insert(map, &a.items[i], NULL, NULL, err);
    free(a.items);
    if (result == 0)
        *ret_map = TAKE_PTR(map);
    return result;
}

/* ---- opening ---- */

static int layer_add(struct view *v, int runs_fd, const struct run_info *info, uint64_t sequence, struct err *err)
{
    struct run *run AUTO_OF(run) = NULL;
    struct view_layer *layer = &v->layers[v->layer_count];
    if (run_open(runs_fd, info->id, &v->machine, &run, err) < 0)
        return -1;
    if (info->last_sequence <= sequence)
        layer->run = TAKE_PTR(run);
    else if (map_from_run(run, sequence, &layer->map, err) < 0)
        return -1;
    v->layer_count++;
    return 0;
}

static int layers_open(
    struct view *v, const char *machine_dir, const struct manifest *m, uint64_t sequence, struct err *err)
{
    char *path AUTO_FREE = mem_printf("%s/runs", machine_dir);
    v->layers = mem_alloc(m->run_count + 1, sizeof(*v->layers));
    if (path == NULL || v->layers == NULL)
        return err_set(err, ERR_NOMEM, "no memory to open a point");
    int runs_fd AUTO_CLOSE = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (runs_fd < 0)
        return err_sys(err, errno, "opening %s", path);
    for (size_t i = m->run_count; i > 0; i--) {
        const struct run_info *info = &m->runs[i - 1];
        bool cumulative = info->kind == RUN_CUMULATIVE;
        if (cumulative ? info->last_sequence > sequence : info->first_sequence > sequence)
            continue;
        if (layer_add(v, runs_fd, info, sequence, err) < 0)
            return -1;
        if (cumulative)
            return 0;
    }
    return 0;
}

int view_read_mark(const char *machine_dir, const struct point *p, struct mark *ret_mark, struct err *err)
{
    struct segment_reader *reader AUTO_OF(segment_reader) = NULL;
    uint8_t *payload AUTO_FREE = mem_alloc(1, MARK_PAYLOAD_MAX);
    char *path AUTO_FREE = mem_printf("%s/main", machine_dir);
    struct record r;
    if (payload == NULL || path == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a mark");
    int dirfd AUTO_CLOSE = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dirfd < 0)
        return err_sys(err, errno, "opening %s", path);
    if (segment_open(dirfd, p->segment, &reader, err) < 0) {
        if (err != NULL && err->code == ERR_NOT_FOUND) /* the list leads there: that is damage */
            (void)err_set(err, ERR_CORRUPT, "segment %u, with the mark of point %llu, is missing from the log",
                p->segment, (unsigned long long)p->sequence);
        return -1;
    }
    if (segment_pread(reader, p->offset, &r, payload, MARK_PAYLOAD_MAX, err) < 0)
        return -1;
    if (r.kind != RECORD_MARK)
        return err_set(err, ERR_CORRUPT, "the mark of point %llu is not there", (unsigned long long)p->sequence);
    if (mark_decode(&r, payload, ret_mark, err) < 0)
        return -1;
    return ret_mark->sequence == p->sequence
               ? 0
               : err_set(err, ERR_CORRUPT, "the point list leads from point %llu to the mark of %llu",
                     (unsigned long long)p->sequence, (unsigned long long)ret_mark->sequence);
}

static int find_point(
    const char *machine_dir, const struct manifest *m, uint64_t sequence, struct mark *ret_mark, struct err *err)
{
    struct point p;
    int got = pointlist_lookup(machine_dir, m->points_id, &m->machine, m->point_count, sequence, &p, err);
    if (got < 0)
        return -1;
    if (got > 0)
        return view_read_mark(machine_dir, &p, ret_mark, err);
    if (m->point_count == 0)
        return err_set(err, ERR_NOT_FOUND, "the machine has no recovery point yet");
    (void)err_set(err, ERR_NOT_FOUND, "there is no recovery point %llu", (unsigned long long)sequence);
    return err_hint(err, "`leeward point list` shows those that there are");
}

/* mark->sequence 0: the latest point; mark->disk_count 0: the mark itself is still to be found. */
static int open_once(struct view *v, const char *machine_dir, const struct mark *mark, struct err *err)
{
    struct manifest m AUTO_MANIFEST = {0};
    if (manifest_load(machine_dir, &v->machine, &m, err) < 0)
        return -1;
    if (mark->sequence > m.covered.sequence)
        return err_set(
            err, ERR_UNAVAILABLE, "the index does not reach point %llu yet", (unsigned long long)mark->sequence);
    v->mark = *mark;
    if (mark->disk_count == 0 && find_point(machine_dir, &m, mark->sequence, &v->mark, err) < 0)
        return -1;
    return layers_open(v, machine_dir, &m, v->mark.sequence, err);
}

static int open_layers(struct view *v, const char *machine_dir, const struct mark *mark, struct err *err)
{
    for (int i = 1;; i++) {
        struct err why = ERR_INIT;
        if (open_once(v, machine_dir, mark, &why) == 0)
            return 0;
        layers_free(v);
        bool gone = why.code == ERR_NOT_FOUND && why.sys_errno == ENOENT;
        if (!gone || i == OPEN_TRIES) {
            err_copy(err, &why);
            return -1;
        }
    }
}

static int open_records(
    struct view *v, const char *machine_dir, const struct keyring *keys, size_t cache_bytes, struct err *err)
{
    char *path AUTO_FREE = mem_printf("%s/main", machine_dir);
    if (path == NULL)
        return err_set(err, ERR_NOMEM, "no memory to open a point");
    int dirfd AUTO_CLOSE = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dirfd < 0)
        return err_sys(err, errno, "opening %s", path);
    return recordread_new(dirfd, keys, cache_bytes, &v->records, err);
}

int view_open_mark(const char *machine_dir, const struct mark *mark, const struct keyring *keys, size_t cache_bytes,
    struct view **ret_view, struct err *err)
{
    struct store_meta meta;
    struct view *v AUTO_OF(view) = mem_new(struct view);
    if (v == NULL)
        return err_set(err, ERR_NOMEM, "no memory to open a point");
    if (storemeta_load(machine_dir, &meta, err) < 0)
        return -1;
    v->machine = meta.machine;
    if (open_layers(v, machine_dir, mark, err) < 0 || open_records(v, machine_dir, keys, cache_bytes, err) < 0)
        return -1;
    *ret_view = TAKE_PTR(v);
    return 0;
}

int view_open(const char *machine_dir, uint64_t sequence, const struct keyring *keys, size_t cache_bytes,
    struct view **ret_view, struct err *err)
{
    struct mark *wanted AUTO_FREE = mem_new(struct mark);
    if (wanted == NULL)
        return err_set(err, ERR_NOMEM, "no memory to open a point");
    wanted->sequence = sequence;
    return view_open_mark(machine_dir, wanted, keys, cache_bytes, ret_view, err);
}

const struct mark *view_mark(const struct view *v)
{
    return &v->mark;
}

const struct mark_disk *view_disk(const struct view *v, uint32_t number)
{
    for (uint32_t i = 0; i < v->mark.disk_count; i++)
        if (v->mark.disks[i].number == number)
            return &v->mark.disks[i];
    return NULL;
}

/* ---- reading ---- */

static int layer_find(const struct view_layer *l, uint64_t key, struct extent *ret_extent, struct err *err)
{
    return l->map != NULL ? extmap_find(l->map, key, ret_extent) : run_find(l->run, key, ret_extent, err);
}

int view_piece(const struct view *v, uint64_t key, uint64_t end, struct piece *ret_piece, struct err *err)
{
    for (size_t i = 0; i < v->layer_count; i++) {
        struct extent e;
        int got = layer_find(&v->layers[i], key, &e, err);
        if (got < 0)
            return -1;
        if (got == 0 || e.key >= end)
            continue;
        if (e.key > key) { /* a lower layer is seen up to there */
            end = e.key;
            continue;
        }
        uint64_t until = extent_end(&e) < end ? extent_end(&e) : end;
        *ret_piece = (struct piece){
            .kind = (e.flags & EXTENT_ZERO) != 0 ? PIECE_ZERO : PIECE_DATA, .sectors = until - key, .extent = e};
        return 0;
    }
    *ret_piece = (struct piece){.kind = PIECE_HOLE, .sectors = end - key};
    return 0;
}

int view_read_piece(
    const struct view *v, const struct piece *p, uint64_t start, size_t n, uint8_t *out, struct err *err)
{
    return recordread_get(v->records, &p->extent, start, n, out, err);
}

int view_record(const struct view *v, const struct piece *p, struct record *ret_record, struct err *err)
{
    return recordread_header(v->records, &p->extent, ret_record, err);
}

int view_read(const struct view *v, uint32_t disk, uint64_t start, size_t n, uint8_t *out, struct err *err)
{
    const struct mark_disk *d = view_disk(v, disk);
    if (d == NULL)
        return err_set(err, ERR_NOT_FOUND, "the machine had no disk %u at that point", disk);
    if (start > d->size_bytes || n > d->size_bytes - start)
        return err_set(err, ERR_INVALID, "the range reaches out of the disk");
    uint64_t end_key = extent_key(disk, start + n + RECORD_SECTOR - 1);
    while (n > 0) {
        struct piece p;
        uint64_t key = extent_key(disk, start);
        if (view_piece(v, key, end_key, &p, err) < 0)
            return -1;
        uint64_t in_piece = extent_key_bytes(key + p.sectors) - start;
        size_t part = in_piece < n ? (size_t)in_piece : n;
        if (p.kind != PIECE_DATA)
            memset(out, 0, part);
        else if (view_read_piece(v, &p, start, part, out, err) < 0)
            return -1;
        start += part;
        out += part;
        n -= part;
    }
    return 0;
}
