/* SPDX-License-Identifier: Apache-2.0
 *
 * Writing out the index: memtable to a run, new points to the point list, and then the manifest that names both and says
 * how far into the log they reach. In this order, each durable before the next: a crash in between leaves files that nothing
 * names. Taking points off the list goes through a new list file for the same reason.
 */
#include <string.h>
#include <unistd.h>

#include "transport/base/clock.h"
#include "transport/base/crashpoint.h"
#include "transport/base/log.h"
#include "transport/vault/store_private.h"

bool store_wants_flush(const struct store *s)
{
    return memtable_count(&s->memtable) >= s->flush_extents;
}

static int run_make(struct store *s, struct run_info *ret_info, struct err *err)
{
    struct run_writer *w AUTO_OF(run_writer) = NULL;
    struct run_info info = {.machine = s->machine,
        .kind = RUN_DELTA,
        .id = s->manifest.next_run_id,
        .first_sequence = s->manifest.covered.sequence + 1,
        .last_sequence = s->committed.sequence};
    if (run_writer_new(s->runs_fd, &info, &w, err) < 0 || memtable_write(&s->memtable, w, err) < 0)
        return -1;
    return run_writer_finish(w, ret_info, err);
}

static void run_remove(struct store *s, uint64_t id)
{
    char name[RUN_NAME_SIZE];
    run_name(id, name);
    (void)unlinkat(s->runs_fd, name, 0);
}

/* As manifest_store. */
static int manifest_switch(struct store *s, const struct run_info *run, bool *ret_stands, struct err *err)
{
    struct manifest next AUTO_MANIFEST = {0};
    if (manifest_copy(&s->manifest, &next, err) < 0)
        return -1;
    if (run != NULL && (next.next_run_id++, manifest_add(&next, run, err) < 0))
        return -1;
    next.covered = s->committed;
    next.point_count = s->points.count;
    if (manifest_store(s->dir, &next, ret_stands, err) < 0)
        return -1;
    manifest_done(&s->manifest);
    s->manifest = next;
    next = (struct manifest){0};
    return 0;
}

static int points_save(struct store *s, struct err *err)
{
    size_t saved = (size_t)s->manifest.point_count;
    if (s->points.count == saved && saved > 0)
        return 0;
    return pointlist_store(s->dir, s->manifest.points_id, &s->machine, &s->points, saved, err);
}

int store_flush(struct store *s, struct err *err)
{
    struct run_info run;
    bool any = memtable_count(&s->memtable) > 0;
    if (s->committed.sequence == s->manifest.covered.sequence)
        return 0;
    if (any && run_make(s, &run, err) < 0)
        return err_wrap(err, "writing an index run");
    crashpoint_pass("flush.run");
    bool saved = points_save(s, err) == 0, stands = false;
    crashpoint_pass("flush.points");
    if (!saved || manifest_switch(s, any ? &run : NULL, &stands, err) < 0) {
        if (any && !stands)
            run_remove(s, run.id);
        s->broken = s->broken || stands; /* opened again, it goes by the manifest that is there */
        return -1;
    }
    crashpoint_pass("flush.manifest");
    memtable_clear(&s->memtable);
    return 0;
}

void store_discard_index(struct store *s)
{
    char *path AUTO_FREE = s == NULL ? NULL : mem_printf("%s/manifest", s->dir);
    if (path == NULL)
        return;
    (void)unlink(path);
    s->broken = true;
}

static bool is_listed(const uint64_t *sequences, size_t count, size_t *at, uint64_t sequence)
{
    while (*at < count && sequences[*at] < sequence)
        (*at)++;
    return *at < count && sequences[*at] == sequence;
}

/* What stays; the newest always does, and what is locked. */
static int points_without(
    const struct store *s, const uint64_t *sequences, size_t count, struct pointlist *to, struct err *err)
{
    const struct pointlist *from = &s->points;
    uint64_t now = store_lock_now(s);
    size_t at = 0;
    for (size_t i = 0; i < from->count; i++) {
        bool newest = i + 1 == from->count;
        if (is_listed(sequences, count, &at, from->items[i].sequence) && !newest &&
            !store_point_is_locked(s, &from->items[i], now))
            continue;
        if (pointlist_add(to, &from->items[i], err) < 0)
            return -1;
    }
    return 0;
}

static int points_replace(struct store *s, struct pointlist *kept, struct err *err)
{
    struct manifest next AUTO_MANIFEST = {0};
    if (manifest_copy(&s->manifest, &next, err) < 0)
        return -1;
    next.points_id++;
    next.point_count = kept->count;
    bool stands = false;
    if (pointlist_store(s->dir, next.points_id, &s->machine, kept, 0, err) < 0 ||
        manifest_store(s->dir, &next, &stands, err) < 0) {
        if (!stands)
            pointlist_unlink(s->dir, next.points_id);
        s->broken = s->broken || stands;
        return -1;
    }
    crashpoint_pass("drop.manifest");
    pointlist_unlink(s->dir, s->manifest.points_id);
    manifest_done(&s->manifest);
    s->manifest = next;
    next = (struct manifest){0};
    return 0;
}

int store_drop_points(struct store *s, const uint64_t *sequences, size_t count, size_t *ret_dropped, struct err *err)
{
    struct pointlist kept = {0};
    *ret_dropped = 0;
    if (store_flush(s, err) < 0)
        return -1;
    if (points_without(s, sequences, count, &kept, err) < 0) {
        pointlist_done(&kept);
        return -1;
    }
    size_t dropped = s->points.count - kept.count;
    if (dropped > 0 && points_replace(s, &kept, err) < 0) {
        pointlist_done(&kept);
        return -1;
    }
    pointlist_done(&s->points);
    s->points = kept;
    *ret_dropped = dropped;
    return 0;
}
