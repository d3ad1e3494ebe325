/* SPDX-License-Identifier: Apache-2.0
 *
 * A snapshot of a branch's block map: a run (run.h) with a manifest (manifest.h) beside it that says which mark of the log it covers. Opening
 * takes the map from there and replays only what stands behind, so that it does not cost more with all that was ever written.
 *
 * A snapshot is a cache: one that is missing, damaged or ahead of a log that lost its end is passed over, and the whole log replayed.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "transport/base/log.h"
#include "transport/vault/branch_private.h"
#include "transport/vault/manifest.h"
#include "transport/vault/run.h"

/* Writing costs 32 bytes for each extent in the map: so many new records make it worth while, and half of the map when that is more. */
#define RECORDS_MIN 32768u
#define RECORDS_MIN_AT_CLOSE 1024u

/* Removes runs that are not the one of that id: leftovers of a crash. */
static void sweep(const struct branch *b, uint64_t keep_id)
{
    int fd = openat(b->dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry;
    uint64_t id;
    if (d == NULL && fd >= 0)
        (void)close(fd);
    while (d != NULL && (entry = readdir(d)) != NULL)
        if (run_id_from_name(entry->d_name, &id) == 0 && id != keep_id)
            (void)unlinkat(b->dirfd, entry->d_name, 0);
    if (d != NULL)
        (void)closedir(d);
}

/* ---- writing ---- */

static int write_run(struct branch *b, uint64_t id, struct run_info *ret_info, struct err *err)
{
    struct run_info info = {.machine = b->info.machine,
        .kind = RUN_CUMULATIVE,
        .id = id,
        .first_sequence = 1,
        .last_sequence = b->sequence};
    struct run_writer *w AUTO_OF(run_writer) = NULL;
    struct extmap_cursor at = {0};
    struct extent e;
    if (run_writer_new(b->dirfd, &info, &w, err) < 0)
        return -1;
    while (extmap_next(b->map, &at, &e) > 0)
        if (run_writer_top(w, &e, err) < 0)
            return -1;
    return run_writer_finish(w, ret_info, err);
}

static void remove_run(const struct branch *b, uint64_t id)
{
    char name[RUN_NAME_SIZE];
    run_name(id, name);
    (void)unlinkat(b->dirfd, name, 0);
}

static int write_snapshot(struct branch *b, struct err *err)
{
    struct manifest m AUTO_MANIFEST = {0};
    struct run_info info;
    bool stands = false;
    manifest_init(&m, &b->info.machine);
    m.next_run_id = b->snapshot_id + 2;
    m.covered = (struct log_position){b->sequence, b->segment, segment_end(b->writer)};
    if (write_run(b, b->snapshot_id + 1, &info, err) < 0)
        return -1;
    if (manifest_add(&m, &info, err) < 0 || manifest_store(b->dir, &m, &stands, err) < 0) {
        if (stands)
            b->snapshot_id++;
        else
            remove_run(b, b->snapshot_id + 1); /* the next one has this number again */
        return -1;
    }
    b->snapshot_id++;
    b->noted = 0;
    sweep(b, b->snapshot_id);
    return 0;
}

void branch_snapshot_take(struct branch *b, bool closing)
{
    struct err err = ERR_INIT;
    size_t least = extmap_count(b->map) / 2 > RECORDS_MIN ? extmap_count(b->map) / 2 : RECORDS_MIN;
    if (b->broken || b->sequence == 0 || b->writer == NULL || b->pending_records > 0 ||
        b->noted < (closing ? RECORDS_MIN_AT_CLOSE : least))
        return;
    if (branch_check_room(b, extmap_count(b->map) * RUN_TOP_SIZE, &err) < 0 || write_snapshot(b, &err) < 0)
        log_event(LOG_WARN, "branch_snapshot_failed", LOG_S("branch", b->dir), LOG_E(&err));
}

/* ---- reading ---- */

static int load_run(struct branch *b, const struct run_info *info, struct err *err)
{
    struct run *run AUTO_OF(run) = NULL;
    if (run_open(b->dirfd, info->id, &b->info.machine, &run, err) < 0)
        return -1;
    for (uint64_t i = 0; i < run_get_info(run)->top_count; i++) {
        struct extent e;
        if (run_top_at(run, i, &e, err) < 0 || extmap_insert(b->map, &e, NULL, NULL, err) < 0)
            return -1;
    }
    return 0;
}

/* Is the mark that the snapshot covers still in the log? */
static bool log_reaches(const struct log_position *covered, uint64_t segments, uint64_t end)
{
    return covered->segment > 0 &&
           (covered->segment < segments || (covered->segment == segments && covered->offset <= end));
}

/* For good: the log may grow past the place that the snapshot covers, and would seem to fit it then. */
static void drop(struct branch *b, const struct err *why)
{
    log_event(LOG_WARN, "branch_snapshot_unusable", LOG_S("branch", b->dir), LOG_E(why));
    extmap_clear(b->map);
    if (unlinkat(b->dirfd, "manifest", 0) == 0)
        (void)fsync(b->dirfd);
}

void branch_snapshot_load(struct branch *b, uint64_t segments, uint64_t end, struct log_position *ret_position)
{
    struct manifest m AUTO_MANIFEST = {0};
    struct err err = ERR_INIT;
    *ret_position = (struct log_position){0, 1, SEGMENT_HEADER_SIZE};
    if (manifest_load(b->dir, &b->info.machine, &m, &err) < 0) {
        if (err.code != ERR_NOT_FOUND)
            drop(b, &err);
        sweep(b, 0);
        return;
    }
    if (m.run_count == 1 && log_reaches(&m.covered, segments, end) && load_run(b, &m.runs[0], &err) == 0) {
        b->snapshot_id = m.runs[0].id;
        *ret_position = m.covered;
    } else {
        drop(b, &err);
    }
    sweep(b, b->snapshot_id);
}
