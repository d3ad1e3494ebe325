/* SPDX-License-Identifier: Apache-2.0
 *
 * See damagehit.h. A damaged header means a walk over all entries of the index: rare, and tens of milliseconds for a million.
 */
#include "transport/vault/damagehit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "transport/base/mem.h"
#include "transport/vault/manifest.h"
#include "transport/vault/run.h"
#include "transport/vault/view.h"

/* ---- which records ---- */

static struct quarantine_item item_of(const struct verify_damage *d, uint64_t now_utc_usec)
{
    struct quarantine_item item = {.kind = d->kind,
        .segment = d->segment,
        .offset = d->offset,
        .end = d->end,
        .sequence = d->points_from,
        .found_utc_usec = now_utc_usec};
    (void)snprintf(item.text, sizeof(item.text), "%.63s", d->text);
    if (d->kind != VERIFY_PAYLOAD)
        return item;
    item.disk = d->record.disk;
    item.start = d->record.start;
    item.length = d->record.length;
    item.hash = d->record.hash;
    item.has_hash = true;
    return item;
}

/* What is known already keeps its state and when it was found. */
static int put_item(struct quarantine *q, const struct quarantine_item *item, size_t *ret_new, struct err *err)
{
    if (quarantine_find(q, item->segment, item->offset) != NULL)
        return 0;
    int added = quarantine_put(q, item, err);
    *ret_new += added > 0;
    return added < 0 ? -1 : 0;
}

/* An entry of the index leads into the place: its record gets an item, which grows over all that is visible of the record. */
static int take_extent(
    struct quarantine *found, const struct quarantine_item *place, const struct extent *e, struct err *err)
{
    if (e->segment != place->segment || e->offset < place->offset || (place->end != 0 && e->offset >= place->end) ||
        (e->flags & EXTENT_ZERO) != 0) /* that it is zeros is known without its record */
        return 0;
    uint64_t start = extent_key_bytes(e->key);
    uint64_t end = start + (uint64_t)e->sectors * RECORD_SECTOR;
    struct quarantine_item *known = quarantine_find(found, e->segment, e->offset);
    if (known != NULL) {
        uint64_t known_end = known->start + known->length;
        known->start = start < known->start ? start : known->start;
        known->length = (end > known_end ? end : known_end) - known->start;
        return 0;
    }
    struct quarantine_item item = *place;
    item.offset = e->offset;
    item.end = e->offset + RECORD_HEADER_SIZE + extent_stored_bytes(e);
    item.sequence = e->sequence;
    item.disk = extent_key_disk(e->key);
    item.start = start;
    item.length = end - start;
    return quarantine_put(found, &item, err) < 0 ? -1 : 0;
}

static int take_run(struct run *run, const struct quarantine_item *place, struct quarantine *found, struct err *err)
{
    const struct run_info *info = run_get_info(run);
    struct extent e;
    uint64_t dead;
    for (uint64_t i = 0; i < info->top_count; i++)
        if (run_top_at(run, i, &e, err) < 0 || take_extent(found, place, &e, err) < 0)
            return -1;
    for (uint64_t i = 0; i < info->history_count; i++)
        if (run_history_at(run, i, &e, &dead, err) < 0 || take_extent(found, place, &e, err) < 0)
            return -1;
    return 0;
}

static int take_index(
    const struct damagehit *h, const struct quarantine_item *place, struct quarantine *found, struct err *err)
{
    struct manifest m AUTO_MANIFEST = {0};
    char *path AUTO_FREE = mem_printf("%s/runs", h->machine_dir);
    int dirfd AUTO_CLOSE = path == NULL ? -1 : open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dirfd < 0)
        return err_sys(err, errno, "opening the index runs");
    if (manifest_load(h->machine_dir, &h->machine, &m, err) < 0)
        return -1;
    for (size_t i = 0; i < m.run_count; i++) {
        struct run *run AUTO_OF(run) = NULL;
        struct err gone = ERR_INIT;
        if (run_open(dirfd, m.runs[i].id, &h->machine, &run, &gone) < 0) {
            if (gone.code == ERR_NOT_FOUND) /* merged away: what it had is in another one */
                continue;
            err_copy(err, &gone);
            return -1;
        }
        if (take_run(run, place, found, err) < 0)
            return -1;
    }
    return 0;
}

int damagehit_items(const struct damagehit *h, const struct verify_damage *damage, uint64_t now_utc_usec,
    struct quarantine *q, size_t *ret_new, struct err *err)
{
    struct quarantine_item place = item_of(damage, now_utc_usec);
    struct quarantine found = {0};
    int result = 0;
    *ret_new = 0;
    if (damage->kind == VERIFY_INDEX)
        return 0;
    if (damage->kind == VERIFY_HEADERS)
        result = take_index(h, &place, &found, err);
    for (size_t i = 0; result == 0 && i < found.count; i++)
        result = put_item(q, &found.items[i], ret_new, err);
    if (result == 0 && found.count == 0)
        result = put_item(q, &place, ret_new, err);
    quarantine_done(&found);
    return result;
}

/* ---- which points ---- */

static int is_shown(const struct damagehit *h, const struct quarantine_item *item, uint64_t sequence, struct err *err)
{
    struct view *v AUTO_OF(view) = NULL;
    struct mark *mark AUTO_FREE = mem_new(struct mark);
    if (mark == NULL)
        return err_set(err, ERR_NOMEM, "no memory to look at a point");
    mark->sequence = sequence;
    mark->disk_count = 1; /* only its block map is looked at */
    if (view_open_mark(h->machine_dir, mark, &h->keys, RECORD_BLOCK_SIZE, &v, err) < 0)
        return -1;
    uint64_t key = extent_key(item->disk, item->start);
    uint64_t end = extent_key(item->disk, item->start + item->length);
    while (key < end) {
        struct piece p;
        if (view_piece(v, key, end, &p, err) < 0)
            return -1;
        if (p.kind == PIECE_DATA && p.extent.segment == item->segment && p.extent.offset == item->offset)
            return 1;
        key += p.sectors;
    }
    return 0;
}

/* Points low..high-1 come into question, those that show the record first. *ret_end: behind the last one that does. */
static int search(const struct damagehit *h, const struct quarantine_item *item, size_t low, size_t high,
    size_t *ret_end, struct err *err)
{
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int shown = is_shown(h, item, h->points.items[mid].sequence, err);
        if (shown < 0)
            return -1;
        if (shown > 0)
            low = mid + 1;
        else
            high = mid;
    }
    *ret_end = low;
    return 0;
}

int damagehit_points(const struct damagehit *h, struct quarantine_item *item, struct err *err)
{
    size_t first = pointlist_at(&h->points, item->sequence);
    size_t end = h->points.count;
    int now = 0;
    if (item->kind == VERIFY_MARK) {
        end = pointlist_at(&h->points, item->sequence + 1);
    } else if (item->length > 0) {
        now = is_shown(h, item, h->newest, err);
        if (now < 0 || (now == 0 && search(h, item, first, end, &end, err) < 0))
            return -1;
    } else if (item->kind == VERIFY_HEADERS) {
        end = first; /* nothing in the index leads there */
    }
    item->now = now > 0;
    item->points = end - first;
    item->first_point = item->points == 0 ? 0 : h->points.items[first].sequence;
    item->last_point = item->points == 0 ? 0 : h->points.items[end - 1].sequence;
    return 0;
}
