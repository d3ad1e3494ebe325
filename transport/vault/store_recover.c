/* SPDX-License-Identifier: Apache-2.0
 *
 * Recovery at start. The last segment is scanned to its last valid mark (store_tail.c) and cut behind it; then everything in the log behind
 * what the manifest covers is replayed into the memtable. When the manifest, a run or the point list is missing or damaged,
 * all of the index is thrown away and the whole log is replayed.
 *
 * Failure modes, other than a torn tail:
 *   damage in the last segment   it is left as it is and a new one begun. What the index covers stays; what cannot be
 *                                reached behind the damage is lost.
 *   damage that only the replay meets, in the last segment   the same.
 *   the log ends early           what is behind its last mark is lost; the index is made again.
 * What the medium does not give back (EIO) is damage as any other, once it was asked for some times with pauses: what is given up at the end of the log is
 * given up for good.
 * When committed change sets were lost the epoch goes up: the source must open anew, learns that the vault has less, and
 * compares its disks. Nothing of that is silent (store_lost_commits). A hole in the middle that must be replayed is ERR_CORRUPT: what stands
 * behind it would be read without what is missing.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "transport/base/clock.h"
#include "transport/base/file.h"
#include "transport/base/log.h"
#include "transport/log/segment_rewrite.h"
#include "transport/vault/store_private.h"
#include "transport/vault/view.h"

#define END_TRIES 4u /* of the log's end, when the disk refuses to read it */
#define END_PAUSE_USEC 250000u

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
    if (file_sync_dir(s->dir, err) < 0) /* the manifest that was read is the one that stays */
        return -1;
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

/* The same for lists of points: of the old list and the new one, only one is named after a crash between them. */
static int points_sweep(struct store *s, struct err *err)
{
    int fd AUTO_CLOSE = open(s->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d AUTO_DIR = fd < 0 ? NULL : dir_open_at(fd);
    struct dirent *entry;
    uint64_t id;
    if (d == NULL)
        return err_sys(err, errno, "listing the files in %s", s->dir);
    while ((entry = readdir(d)) != NULL)
        if (pointlist_id_from_name(entry->d_name, &id) == 0 && id != s->manifest.points_id)
            (void)unlinkat(fd, entry->d_name, 0);
    return 0;
}

static bool run_is(const struct run_info *run, const struct run_info *named)
{
    return run->kind == named->kind && run->first_sequence == named->first_sequence &&
           run->last_sequence == named->last_sequence && run->top_count == named->top_count &&
           run->history_count == named->history_count;
}

static int index_check(struct store *s, struct err *err)
{
    for (size_t i = 0; i < s->manifest.run_count; i++) {
        struct run *run AUTO_OF(run) = NULL;
        const struct run_info *named = &s->manifest.runs[i];
        if (run_open(s->runs_fd, named->id, &s->machine, &run, err) < 0)
            return -1;
        if (!run_is(run_get_info(run), named))
            return err_set(err, ERR_CORRUPT, "the index run %016llx is another one than the manifest names",
                (unsigned long long)named->id);
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

struct log_span {
    uint64_t first, last; /* segments; 0: none */
    uint64_t count;
    uint64_t end; /* of the last one */
    bool damaged; /* the last one is, before a later mark */
};

/* Begins with an empty index. No number is given again, also where the manifest and the files that had them are gone: the bucket may still have
 * something else under it. */
static void index_reset(struct store *s, const struct log_span *log)
{
    uint64_t now = log->count == 0 ? 0 : clock_utc_usec(); /* a new machine has never had any */
    uint64_t points_id = s->manifest.points_id < now ? now : s->manifest.points_id + 1;
    uint64_t run_id = s->manifest.next_run_id < now ? now : s->manifest.next_run_id;
    s->rebuilt = true;
    manifest_done(&s->manifest);
    pointlist_done(&s->points);
    memtable_clear(&s->memtable);
    manifest_init(&s->manifest, &s->machine);
    s->manifest.points_id = points_id;
    s->manifest.next_run_id = run_id;
    s->had_first = false;
    s->last_mark.sequence = 0;
    s->committed = (struct log_position){0};
}

/* ---- the log ---- */

/* In a rewritten segment marks are missing, and records of the sets that are left: what stands between two marks counts as one
 * set, that of the second. Whoever needed it apart is gone. */
static int replay_mark(struct store *s, const struct segment_info *info, const struct record *r, const uint8_t *payload,
    uint64_t at, uint64_t end, struct err *err)
{
    struct mark *m AUTO_FREE = mem_new(struct mark);
    if (m == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a mark");
    if (mark_decode(r, payload, m, err) < 0)
        return -1;
    bool follows = info->revision == 0 ? m->sequence == s->committed.sequence + 1
                                       : m->sequence > s->committed.sequence && m->sequence <= info->last_sequence;
    if (!follows)
        return err_set(err, ERR_CORRUPT, "change set %llu stands behind %llu", (unsigned long long)m->sequence,
            (unsigned long long)s->committed.sequence);
    if (info->revision == 0 && store_pending_check(s, m, err) < 0)
        return -1;
    return store_apply(s, m, info->number, at, end, m->time_utc_usec, err);
}

/* What a rewritten segment has behind its last mark belongs to the last set that it once had. */
static int replay_end(struct store *s, const struct segment_info *info, struct err *err)
{
    if (info->revision == 0 || s->committed.sequence >= info->last_sequence)
        return 0;
    return store_apply_end(s, info->last_sequence, info->number, info->end_bytes, err);
}

static bool is_unread(const struct err *why)
{
    return why->code == ERR_IO && why->sys_errno == EIO;
}

static bool is_damage(const struct err *why)
{
    return why->code == ERR_CORRUPT || is_unread(why);
}

/* What is replayed of a segment. */
struct replay_span {
    uint64_t number, offset;
    uint64_t stop_at; /* the end of the last one, as it was found just now; 0: its own */
    uint64_t before;  /* with this change set the next one begins */
};

/* Nothing behind this place can be read (1), or something else is wrong (-1): also where it was read a moment ago. */
static int replay_stops(struct store *s, const struct replay_span *span, const struct err *why, struct err *err)
{
    if (!is_damage(why) || (span->stop_at != 0 && is_unread(why))) {
        err_copy(err, why);
        return -1;
    }
    log_event(LOG_ERROR, "segment_damaged", LOG_S("dir", s->dir), LOG_U("segment", span->number), LOG_E(why));
    store_pending_clear(s);
    return 1;
}

/* 0: to its end; 1: to a place behind which nothing can be read, or counts (what is pending is dropped); -1. */
static int replay_segment(struct store *s, const struct replay_span *span, struct err *err)
{
    struct segment_reader *reader AUTO_OF(segment_reader) = NULL;
    uint64_t offset = span->offset;
    if (segment_open(s->main_fd, span->number, &reader, err) < 0)
        return -1;
    const struct segment_info *info = segment_reader_info(reader);
    while (span->stop_at == 0 || offset < span->stop_at) {
        struct record r;
        const uint8_t *payload;
        struct err why = ERR_INIT;
        if (s->committed.sequence + 1 == span->before && info->revision == 0) /* it was left there, damaged */
            break;
        int got = segment_read_next(reader, &offset, &r, &payload, &why);
        if (got < 0)
            return replay_stops(s, span, &why, err);
        if (got == 0)
            break;
        uint64_t at = segment_reader_place(reader);
        if (r.kind == RECORD_SEAL)
            continue;
        if (r.kind != RECORD_MARK && store_pending_add(s, &r, span->number, at, err) < 0)
            return -1;
        if (r.kind == RECORD_MARK && replay_mark(s, info, &r, payload, at, offset, &why) < 0)
            return replay_stops(s, span, &why, err);
        if (r.kind == RECORD_MARK && store_wants_flush(s) && store_flush(s, err) < 0)
            return -1;
    }
    return replay_end(s, info, err);
}

/* ---- points that are gone for good ---- */

static int lost_add(struct store *s, const struct segment_lost *lost, size_t count, struct err *err)
{
    if (count == 0)
        return 0;
    struct segment_lost *all = mem_resize(s->lost, s->lost_count + count, sizeof(*all));
    if (all == NULL)
        return err_set(err, ERR_NOMEM, "no memory for what rewriting took away");
    s->lost = all;
    memcpy(all + s->lost_count, lost, count * sizeof(*lost));
    s->lost_count += count;
    return 0;
}

static int compare_lost(const void *left, const void *right)
{
    const struct segment_lost *a = left;
    const struct segment_lost *b = right;
    return a->from < b->from ? -1 : a->from > b->from;
}

/* So that they can be searched: in order, without overlaps. */
static void lost_join(struct store *s)
{
    size_t kept = 0;
    if (s->lost_count > 0)
        qsort(s->lost, s->lost_count, sizeof(s->lost[0]), compare_lost);
    for (size_t i = 0; i < s->lost_count; i++) {
        struct segment_lost *last = kept > 0 ? &s->lost[kept - 1] : NULL;
        if (last != NULL && s->lost[i].from <= last->before)
            last->before = s->lost[i].before > last->before ? s->lost[i].before : last->before;
        else
            s->lost[kept++] = s->lost[i];
    }
    s->lost_count = kept;
}

/* The marks of dropped points may still be in the log while records that they need were taken out of another segment. Before the
 * whole log is replayed, all segments are asked for such points. */
static int lost_load(struct store *s, const struct log_span *log, struct err *err)
{
    for (uint64_t number = log->first; log->last != 0 && number <= log->last; number++) {
        struct segment_reader *reader AUTO_OF(segment_reader) = NULL;
        const struct segment_lost *lost;
        struct err why = ERR_INIT;
        if (segment_open(s->main_fd, number, &reader, &why) < 0)
            continue; /* the replay meets it and says so */
        size_t count = segment_reader_lost(reader, &lost);
        if (lost_add(s, lost, count, err) < 0)
            return -1;
    }
    lost_join(s);
    return 0;
}

/* Only what the index has covered once is ever rewritten: what comes behind it has nothing to do with lost points, unless the index
 * is being made anew. */
static bool replays_history(const struct store *s, const struct log_span *log)
{
    if (s->committed.segment == 0)
        return true;
    for (uint64_t number = s->committed.segment; number <= log->last; number++) {
        struct segment_reader *reader AUTO_OF(segment_reader) = NULL;
        if (segment_open(s->main_fd, number, &reader, NULL) == 0 && segment_reader_info(reader)->revision > 0)
            return true;
    }
    return false;
}

static void lost_forget(struct store *s)
{
    free(s->lost);
    s->lost = NULL;
    s->lost_count = 0;
}

/* 0: it does not say, or there is none. */
static uint64_t first_of(const struct store *s, uint64_t number)
{
    struct segment_reader *reader AUTO_OF(segment_reader) = NULL;
    return segment_open(s->main_fd, number, &reader, NULL) < 0 ? 0 : segment_reader_info(reader)->first_sequence;
}

/* Does the segment begin with the change set that comes next? */
static int follows_on(struct store *s, uint64_t number, struct err *err)
{
    struct segment_reader *reader AUTO_OF(segment_reader) = NULL;
    if (segment_open(s->main_fd, number, &reader, err) < 0)
        return -1;
    if (segment_reader_info(reader)->first_sequence == s->committed.sequence + 1)
        return 0;
    (void)err_set(err, ERR_CORRUPT, "change sets from %llu on are missing before segment %llu",
        (unsigned long long)s->committed.sequence + 1, (unsigned long long)number);
    return err_hint(err, "see leeward-vault salvage --help");
}

/* Not even the header of the last segment is right: nobody knows what it has behind what the index covers. */
static bool is_unreadable(const struct store *s, uint64_t number)
{
    struct segment_reader *reader AUTO_OF(segment_reader) = NULL;
    struct err why = ERR_INIT;
    return segment_open(s->main_fd, number, &reader, &why) < 0 && is_damage(&why);
}

static int replay(struct store *s, const struct log_span *log, struct err *err)
{
    uint64_t number = s->committed.segment == 0 ? log->first : s->committed.segment;
    uint64_t offset = s->committed.segment == 0 ? SEGMENT_HEADER_SIZE : s->committed.offset;
    for (; log->last != 0 && number <= log->last; number++) {
        bool last = number == log->last;
        if (last && log->damaged && is_unreadable(s, number)) {
            s->lost_commits = true;
            return 0;
        }
        if (offset == SEGMENT_HEADER_SIZE && s->committed.sequence > 0 && follows_on(s, number, err) < 0)
            return -1;
        const struct replay_span span = {.number = number,
            .offset = offset,
            .stop_at = last && !log->damaged ? log->end : 0,
            .before = last ? 0 : first_of(s, number + 1)};
        int got = replay_segment(s, &span, err);
        if (got < 0)
            return err_wrap(err, "segment %llu", (unsigned long long)number);
        if (got > 0 && last) { /* behind marks that do not count nothing may be appended: it would not count either */
            s->lost_commits = true;
            segment_writer_close(TAKE_PTR(s->writer));
        }
        store_pending_clear(s); /* an abandoned segment may end within a change set */
        offset = SEGMENT_HEADER_SIZE;
    }
    return 0;
}

/* ---- the end of the log ---- */

/* Left over from a crash in the middle of rewriting. */
static bool is_half_rewritten(const char *name)
{
    size_t n = strlen(name), suffix = strlen(SEGMENT_REWRITE_SUFFIX);
    return n > suffix && strcmp(name + n - suffix, SEGMENT_REWRITE_SUFFIX) == 0;
}

static int segments_list(struct store *s, struct log_span *log, struct err *err)
{
    DIR *d AUTO_DIR = dir_open_at(s->main_fd);
    struct dirent *entry;
    uint64_t number;
    if (d == NULL)
        return err_sys(err, errno, "listing the segments of the log");
    while ((entry = readdir(d)) != NULL) {
        if (is_half_rewritten(entry->d_name))
            (void)unlinkat(s->main_fd, entry->d_name, 0);
        if (segment_number_from_name(entry->d_name, &number) < 0)
            continue;
        log->count++;
        log->first = log->first == 0 || number < log->first ? number : log->first;
        log->last = number > log->last ? number : log->last;
    }
    return 0;
}

/* What is to be replayed must be there. Where the index leads over a missing segment, all that lies in others can still be read. */
static int check_missing(const struct store *s, const struct log_span *log, struct err *err)
{
    char name[SEGMENT_NAME_SIZE];
    uint64_t from = s->committed.segment == 0 ? log->first : s->committed.segment;
    if (log->count == 0 || log->count == log->last - log->first + 1)
        return 0;
    for (uint64_t number = from; number <= log->last; number++) {
        segment_name(number, name);
        if (faccessat(s->main_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
            continue;
        (void)err_set(err, ERR_CORRUPT, "segment %llu is missing from the log", (unsigned long long)number);
        return err_hint(err, "put it back from a copy, or see leeward-vault salvage --help");
    }
    log_event(
        LOG_ERROR, "segments_missing", LOG_S("dir", s->dir), LOG_U("count", log->last - log->first + 1 - log->count));
    return 0;
}

/* A path to the disk that is away for a moment must not cost the newest points. */
static int recover_tail(struct store *s, struct log_span *log, bool *ret_sealed, struct err *why)
{
    for (unsigned attempt = 1;; attempt++) {
        err_clear(why);
        if (store_tail_recover(s, log->last, &log->end, ret_sealed, why) == 0)
            return 0;
        if (!is_unread(why) || attempt == END_TRIES)
            return -1;
        log_event(LOG_WARN, "segment_not_read", LOG_S("dir", s->dir), LOG_U("segment", log->last),
            LOG_U("attempt", attempt), LOG_E(why));
        (void)usleep(END_PAUSE_USEC);
    }
}

/* Where the last segment ends, and a writer at its end unless it is sealed or damaged (then a new one will be begun). */
static int find_end(struct store *s, struct log_span *log, struct err *err)
{
    struct err why = ERR_INIT;
    bool sealed = false;
    if (log->last == 0)
        return 0;
    s->writer_number = log->last;
    if (recover_tail(s, log, &sealed, &why) < 0) {
        if (!is_damage(&why)) {
            err_copy(err, &why);
            return -1;
        }
        log_event(LOG_ERROR, "segment_damaged", LOG_S("dir", s->dir), LOG_U("segment", log->last), LOG_E(&why));
        log->damaged = true;
        return 0;
    }
    return sealed ? 0 : segment_reopen(s->main_fd, log->last, log->end, &s->writer, err);
}

/* Is the place that the index covers still in the log? */
static bool log_reaches(const struct log_position *covered, const struct log_span *log)
{
    if (covered->segment == 0 || covered->segment < log->last)
        return true;
    return covered->segment == log->last && (log->damaged || covered->offset <= log->end);
}

static int load_index(struct store *s, const struct log_span *log, struct err *err)
{
    struct err why = ERR_INIT;
    if (index_load(s, &why) < 0) {
        if (why.code != ERR_NOT_FOUND && why.code != ERR_CORRUPT && why.code != ERR_UNSUPPORTED) {
            err_copy(err, &why);
            return -1;
        }
        if (log->count > 0)
            log_event(
                why.code == ERR_NOT_FOUND ? LOG_INFO : LOG_WARN, "index_rebuild", LOG_S("dir", s->dir), LOG_E(&why));
        index_reset(s, log);
    }
    if (!log_reaches(&s->manifest.covered, log)) {
        s->lost_commits = true;
        index_reset(s, log);
    }
    s->committed = s->manifest.covered;
    s->had_first = s->points.count > 0;
    return runs_sweep(s, err) < 0 ? -1 : points_sweep(s, err);
}

/* ---- the newest mark, when the tail held none ---- */

static void on_mark(void *arg, const struct record *r, const uint8_t *payload, uint64_t end_bytes)
{
    struct store *s = arg;
    struct mark *m AUTO_FREE = mem_new(struct mark);
    (void)end_bytes;
    if (m != NULL && mark_decode(r, payload, m, NULL) == 0 && m->sequence > s->last_mark.sequence &&
        m->sequence <= s->committed.sequence)
        s->last_mark = *m;
}

static int load_last_mark(struct store *s, const struct log_span *log, struct err *err)
{
    uint64_t number = s->committed.segment;
    const struct pointlist *points = &s->points;
    if (points->count > 0 && s->last_mark.sequence == 0 &&
        view_read_mark(s->dir, &points->items[points->count - 1], &s->last_mark, NULL) < 0)
        s->last_mark.sequence = 0; /* damaged: an older one does */
    while (s->last_mark.sequence < s->committed.sequence && number >= log->first && number > 0) {
        uint64_t end;
        bool sealed;
        if (segment_recover(s->main_fd, number, on_mark, s, &end, &sealed, err) < 0 && !log->damaged)
            return -1;
        if (log->damaged && s->last_mark.sequence > 0)
            return 0;
        number--;
    }
    return 0;
}

/* Committed change sets are gone: nobody may go on as if they were there. */
static int raise_epoch(struct store *s, struct err *err)
{
    struct store_meta meta = s->meta;
    meta.epoch++;
    if (storemeta_store(s->dir, &meta, err) < 0)
        return -1;
    s->meta = meta;
    log_event(LOG_ERROR, "commits_lost", LOG_S("dir", s->dir), LOG_U("left", s->committed.sequence));
    return 0;
}

int store_recover(struct store *s, struct err *err)
{
    struct log_span log = {.end = SEGMENT_HEADER_SIZE};
    if (segments_list(s, &log, err) < 0 || find_end(s, &log, err) < 0 || load_index(s, &log, err) < 0)
        return -1;
    if (s->committed.segment == 0 && log.first > 1)
        return err_set(err, ERR_CORRUPT, "the log begins at segment %llu", (unsigned long long)log.first);
    if (check_missing(s, &log, err) < 0)
        return -1;
    if (replays_history(s, &log) && lost_load(s, &log, err) < 0)
        return -1;
    int replayed = replay(s, &log, err);
    lost_forget(s);
    if (replayed < 0 || load_last_mark(s, &log, err) < 0)
        return -1;
    if (s->writer != NULL)
        s->committed = (struct log_position){s->committed.sequence, s->writer_number, log.end};
    if (s->last_mark.epoch > s->meta.epoch)
        s->meta.epoch = s->last_mark.epoch;
    return s->lost_commits ? raise_epoch(s, err) : 0;
}
