/* SPDX-License-Identifier: Apache-2.0
 *
 * Recovery at start. The last segment is scanned to its last valid mark and cut behind it; then everything in the log behind
 * what the manifest covers is replayed into the memtable. When the manifest, a run or the point list is missing or damaged,
 * all of the index is thrown away and the whole log is replayed.
 *
 * Failure modes: a gap in the numbers, or damage before a later mark means that committed data is gone or unreadable. That is
 * an error (ERR_CORRUPT) and never silently repaired: the source may have forgotten it already. A log that ends before what
 * the index covers has lost its newest points and nothing else: that is said aloud, the index is made anew from what is there,
 * and the older points stay open to everybody. The source learns from the answer to its next Open that it must compare hashes.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "transport/base/log.h"
#include "transport/vault/store_private.h"

static void dir_close_indirect(DIR **d)
{
    if (*d != NULL)
        (void)closedir(*d);
}
#define AUTO_DIR __attribute__((cleanup(dir_close_indirect)))

static DIR *dir_open_at(int dirfd)
{
    int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (d == NULL && fd >= 0)
        (void)close(fd);
    return d;
}

/* ---- the index on disk ---- */

static bool manifest_names(const struct manifest *m, uint64_t run_id)
{
    for (size_t i = 0; i < m->run_count; i++)
        if (m->runs[i].id == run_id)
            return true;
    return false;
}

/* Removes runs that no manifest names: leftovers of a crash. */
static int runs_sweep(struct store *s, struct err *err)
{
    DIR *d AUTO_DIR = dir_open_at(s->runs_fd);
    struct dirent *entry;
    uint64_t id;
    if (d == NULL)
        return err_sys(err, errno, "listing the index runs");
    while ((entry = readdir(d)) != NULL) {
        if (run_id_from_name(entry->d_name, &id) < 0)
            continue;
        if (id >= s->manifest.next_run_id)
            s->manifest.next_run_id = id + 1;
        if (!manifest_names(&s->manifest, id))
            (void)unlinkat(s->runs_fd, entry->d_name, 0);
    }
    return 0;
}

static int index_check(struct store *s, struct err *err)
{
    for (size_t i = 0; i < s->manifest.run_count; i++) {
        struct run *run AUTO_OF(run) = NULL;
        if (run_open(s->runs_fd, s->manifest.runs[i].id, &s->machine, &run, err) < 0)
            return -1;
    }
    return 0;
}

static int index_load(struct store *s, struct err *err)
{
    if (manifest_load(s->dir, &s->machine, &s->manifest, err) < 0)
        return -1;
    if (index_check(s, err) < 0)
        return -1;
    return pointlist_load(s->dir, s->manifest.points_id, &s->machine, s->manifest.point_count, &s->points, err);
}

/* Begins with an empty index; the old point list's file is not reused. */
static void index_reset(struct store *s)
{
    uint64_t points_id = s->manifest.points_id + 1;
    manifest_done(&s->manifest);
    pointlist_done(&s->points);
    memtable_clear(&s->memtable);
    manifest_init(&s->manifest, &s->machine);
    s->manifest.points_id = points_id;
    s->had_first = false;
    s->last_mark.sequence = 0;
    s->committed = (struct log_position){0};
}

/* ---- the log ---- */

struct segment_span {
    uint64_t first, last; /* 0: none */
    uint64_t count;
};

static int segments_list(struct store *s, struct segment_span *ret_span, struct err *err)
{
    DIR *d AUTO_DIR = dir_open_at(s->main_fd);
    struct segment_span span = {0};
    struct dirent *entry;
    uint64_t number;
    if (d == NULL)
        return err_sys(err, errno, "listing the segments of the log");
    while ((entry = readdir(d)) != NULL) {
        if (segment_number_from_name(entry->d_name, &number) < 0)
            continue;
        span.count++;
        span.first = span.first == 0 || number < span.first ? number : span.first;
        span.last = number > span.last ? number : span.last;
    }
    if (span.count > 0 && span.count != span.last - span.first + 1)
        return err_set(err, ERR_CORRUPT, "%llu segments are missing from the log",
            (unsigned long long)(span.last - span.first + 1 - span.count));
    *ret_span = span;
    return 0;
}

static int replay_mark(struct store *s, const struct record *r, const uint8_t *payload, uint64_t segment, uint64_t at,
    uint64_t end, struct err *err)
{
    struct mark *m AUTO_FREE = mem_new(struct mark);
    if (m == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a mark");
    if (mark_decode(r, payload, m, err) < 0)
        return -1;
    if (m->sequence != s->committed.sequence + 1)
        return err_set(err, ERR_CORRUPT, "change set %llu stands behind %llu", (unsigned long long)m->sequence,
            (unsigned long long)s->committed.sequence);
    if (store_pending_check(s, m, err) < 0)
        return -1;
    return store_apply(s, m, segment, at, end, m->time_utc_usec, err);
}

static int replay_segment(struct store *s, uint64_t number, uint64_t offset, uint64_t stop_at, struct err *err)
{
    struct segment_reader *reader AUTO_OF(segment_reader) = NULL;
    if (segment_open(s->main_fd, number, &reader, err) < 0)
        return -1;
    while (stop_at == 0 || offset < stop_at) {
        struct record r;
        const uint8_t *payload;
        uint64_t at = offset;
        int got = segment_read_next(reader, &offset, &r, &payload, err);
        if (got <= 0)
            return got;
        if (r.kind == RECORD_SEAL)
            continue;
        if (r.kind == RECORD_MARK) {
            if (replay_mark(s, &r, payload, number, at, offset, err) < 0)
                return -1;
            if (store_wants_flush(s) && store_flush(s, err) < 0)
                return -1;
        } else if (store_pending_add(s, &r, number, at, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int replay(struct store *s, const struct segment_span *span, uint64_t last_end, struct err *err)
{
    uint64_t number = s->committed.segment == 0 ? span->first : s->committed.segment;
    uint64_t offset = s->committed.segment == 0 ? SEGMENT_HEADER_SIZE : s->committed.offset;
    for (; span->last != 0 && number <= span->last; number++) {
        if (replay_segment(s, number, offset, number == span->last ? last_end : 0, err) < 0)
            return err_wrap(err, "segment %llu", (unsigned long long)number);
        if (s->pending.records != 0)
            return err_set(err, ERR_CORRUPT, "segment %llu ends within a change set", (unsigned long long)number);
        offset = SEGMENT_HEADER_SIZE;
    }
    return 0;
}

/* Is the place that the index covers still in the log? */
static bool log_reaches(const struct log_position *covered, const struct segment_span *span, uint64_t last_end)
{
    if (covered->segment == 0)
        return true;
    return covered->segment < span->last || (covered->segment == span->last && covered->offset <= last_end);
}

/* The newest mark, when the tail held none: it is the one that the newest point has, or the last of its segment. */
static void on_mark(void *arg, const struct record *r, const uint8_t *payload, uint64_t end_bytes)
{
    struct store *s = arg;
    struct mark *m AUTO_FREE = mem_new(struct mark);
    (void)end_bytes;
    if (m != NULL && mark_decode(r, payload, m, NULL) == 0 && m->sequence > s->last_mark.sequence)
        s->last_mark = *m;
}

static int load_last_mark(struct store *s, struct err *err)
{
    uint64_t number = s->committed.segment;
    while (s->last_mark.sequence < s->committed.sequence && number > 0) {
        uint64_t end;
        bool sealed;
        if (segment_recover(s->main_fd, number, on_mark, s, &end, &sealed, err) < 0)
            return -1;
        number--;
    }
    return 0;
}

static int recover_log(struct store *s, struct segment_span *span, uint64_t *ret_end, bool *ret_sealed, struct err *err)
{
    *ret_end = SEGMENT_HEADER_SIZE;
    *ret_sealed = false;
    if (segments_list(s, span, err) < 0)
        return -1;
    if (span->last == 0)
        return 0;
    if (segment_recover(s->main_fd, span->last, NULL, NULL, ret_end, ret_sealed, err) < 0)
        return err_wrap(err, "segment %llu", (unsigned long long)span->last);
    if (!*ret_sealed && segment_reopen(s->main_fd, span->last, *ret_end, &s->writer, err) < 0)
        return -1;
    s->writer_number = span->last;
    return 0;
}

static int recover_index(struct store *s, const struct segment_span *span, uint64_t end, struct err *err)
{
    struct err why = ERR_INIT;
    if (index_load(s, &why) < 0) {
        if (why.code != ERR_NOT_FOUND && why.code != ERR_CORRUPT && why.code != ERR_UNSUPPORTED) {
            err_copy(err, &why);
            return -1;
        }
        if (span->count > 0)
            log_event(
                why.code == ERR_NOT_FOUND ? LOG_INFO : LOG_WARN, "index_rebuild", LOG_S("dir", s->dir), LOG_E(&why));
        index_reset(s);
    }
    if (!log_reaches(&s->manifest.covered, span, end)) {
        log_event(LOG_ERROR, "log_lost_its_end", LOG_S("dir", s->dir), LOG_U("covered", s->manifest.covered.sequence),
            LOG_U("segment", span->last), LOG_U("end", end));
        index_reset(s);
    }
    s->committed = s->manifest.covered;
    s->had_first = s->points.count > 0;
    return runs_sweep(s, err);
}

int store_recover(struct store *s, struct err *err)
{
    struct segment_span span = {0};
    uint64_t end;
    bool sealed;
    if (recover_log(s, &span, &end, &sealed, err) < 0 || recover_index(s, &span, end, err) < 0)
        return -1;
    if (s->committed.segment == 0 && span.first > 1)
        return err_set(err, ERR_CORRUPT, "the log begins at segment %llu", (unsigned long long)span.first);
    if (replay(s, &span, sealed ? 0 : end, err) < 0 || load_last_mark(s, err) < 0)
        return -1;
    if (s->writer != NULL)
        s->committed = (struct log_position){s->committed.sequence, s->writer_number, end};
    if (s->last_mark.epoch > s->meta.epoch)
        s->meta.epoch = s->last_mark.epoch;
    return 0;
}
