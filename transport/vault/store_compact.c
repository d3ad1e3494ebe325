/* SPDX-License-Identifier: Apache-2.0
 *
 * See store_compact.h. Only sealed segments that lie wholly before what the index covers are touched, so recovery never begins to
 * replay within one that was rewritten.
 *
 * Which segments: those with the largest share of garbage first, down to the least share, until what is left of garbage in the log is
 * small. So a log from which most was thinned is rewritten once, and one that loses a little every minute is left alone
 * until it is worth it.
 *
 * Room: a new file needs as much as stays of the old one, out of the vault's reserve if need be. Where even that is not there the
 * segment is passed over, and others, of which less stays, make room for it.
 */
#include "transport/vault/store_compact.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "transport/base/buf.h"
#include "transport/base/log.h"
#include "transport/log/segment_rewrite.h"
#include "transport/vault/store_private.h"
#include "transport/vault/survey.h"

#define LEFT_PERCENT 3u        /* of the log: garbage that may stay */
#define TRIM_SHARE 8u          /* a run is written anew when an eighth of its entries is needless history */
#define SEGMENT_OVERHEAD 4200u /* header and seal */
#define CHUNK_BYTES 8u         /* in the table of a rewritten segment, at most one for each record */
#define SEGMENT_NUMBERS (1ULL << 32)
#define SEAL_SHARE 8u /* of a segment's size: with less in it, it is not worth a file */

/* What is needed of one segment. */
struct use {
    uint64_t bytes; /* of the file; 0: it is not there */
    uint64_t live, history;
    uint32_t records, marks;
    bool chosen;
};

struct store_compact {
    uint64_t instance; /* of the store that planned it */
    struct compact_spec spec;
    char *dir;
    int main_fd;
    struct run **runs;
    size_t run_count;
    struct pointlist points;
    uint64_t covered;    /* the newest content that must stay readable */
    uint64_t first, end; /* segments that may be rewritten: [first, end) */
    uint64_t last;       /* of the log */
    uint64_t last_bytes; /* of it, when this was planned */
    uint64_t mark_bytes;
    struct use *uses; /* of first..last */
    struct compact_space space;
    struct survey survey;
    uint64_t survey_from, survey_until; /* the segments that `survey` speaks of */
    uint64_t *trims;
    size_t trim_count;
    uint64_t next;  /* segment to look at next */
    uint64_t ready; /* has its new file; 0: none */
    struct segment_rewritten rewritten;
    size_t ref; /* while one is rewritten: the next record that stays */
    uint64_t chosen, done, freed;
    bool starved;
};

void store_compact_free(struct store_compact *c)
{
    if (c == NULL)
        return;
    if (c->ready != 0)
        segment_rewrite_discard(c->main_fd, c->ready);
    for (size_t i = 0; i < c->run_count; i++)
        run_close(c->runs[i]);
    free(c->runs);
    pointlist_done(&c->points);
    survey_done(&c->survey);
    free(c->uses);
    free(c->trims);
    free(c->dir);
    if (c->main_fd >= 0)
        (void)close(c->main_fd);
    free(c);
}

/* ---- plan ---- */

static int runs_open(const struct store *s, struct store_compact *c, struct err *err)
{
    const struct manifest *m = &s->manifest;
    c->runs = mem_alloc(m->run_count + 1, sizeof(struct run *));
    c->trims = mem_alloc(m->run_count + 1, sizeof(*c->trims));
    if (c->runs == NULL || c->trims == NULL)
        return err_set(err, ERR_NOMEM, "no memory for compaction");
    for (; c->run_count < m->run_count; c->run_count++)
        if (run_open(s->runs_fd, m->runs[c->run_count].id, &s->machine, &c->runs[c->run_count], err) < 0)
            return -1;
    return 0;
}

static int points_copy(const struct store *s, struct store_compact *c, struct err *err)
{
    c->points.items = mem_alloc(s->points.count + 1, sizeof(*c->points.items));
    if (c->points.items == NULL)
        return err_set(err, ERR_NOMEM, "no memory for compaction");
    if (s->points.count > 0)
        memcpy(c->points.items, s->points.items, s->points.count * sizeof(*c->points.items));
    c->points.count = c->points.cap = s->points.count;
    return 0;
}

static uint64_t mark_bytes(const struct store *s)
{
    struct buf b AUTO_BUF = BUF_INIT(RECORD_HEADER_SIZE + MARK_PAYLOAD_MAX);
    return s->last_mark.sequence != 0 && mark_append(&s->last_mark, &b, NULL) == 0 ? b.len : 256;
}

static uint64_t lowest_segment(int main_fd, uint64_t below)
{
    char name[SEGMENT_NAME_SIZE];
    struct stat st;
    uint64_t number = below;
    for (; number > 1; number--) {
        segment_name(number - 1, name);
        if (fstatat(main_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            break;
    }
    return number;
}

int store_compact_plan(
    struct store *s, const struct compact_spec *spec, struct store_compact **ret_compact, struct err *err)
{
    if (s->broken)
        return err_set(err, ERR_IO, "the store failed before and must be opened again");
    if (store_flush(s, err) < 0)
        return -1;
    if (s->manifest.covered.segment == 0)
        return 0;
    struct store_compact *c AUTO_OF(store_compact) = mem_new(struct store_compact);
    if (c == NULL)
        return err_set(err, ERR_NOMEM, "no memory for compaction");
    c->main_fd = fcntl(s->main_fd, F_DUPFD_CLOEXEC, 0);
    c->dir = mem_strdup(s->dir);
    if (c->main_fd < 0 || c->dir == NULL)
        return err_set(err, ERR_NOMEM, "no memory for compaction");
    c->instance = s->instance;
    c->spec = *spec;
    c->covered = s->manifest.covered.sequence;
    c->end = s->manifest.covered.segment;
    c->last = s->writer_number > c->end ? s->writer_number : c->end;
    c->first = c->next = lowest_segment(c->main_fd, c->end);
    c->last_bytes = s->writer == NULL ? 0 : s->committed.offset;
    c->mark_bytes = mark_bytes(s);
    if (runs_open(s, c, err) < 0 || points_copy(s, c, err) < 0)
        return -1;
    *ret_compact = TAKE_PTR(c);
    return 1;
}

/* ---- look ---- */

static struct use *use_of(struct store_compact *c, uint64_t segment)
{
    return segment >= c->first && segment <= c->last ? &c->uses[segment - c->first] : NULL;
}

static int survey_window(struct store_compact *c, uint64_t from, struct err *err)
{
    struct survey_spec spec = {.runs = c->runs,
        .run_count = c->run_count,
        .points = &c->points,
        .from = from,
        .until = SEGMENT_NUMBERS,
        .refs_max = c->spec.refs_max,
        .cancelled = c->spec.cancelled};
    survey_done(&c->survey);
    c->survey_until = 0;
    if (survey_run(&spec, &c->survey, err) < 0)
        return -1;
    c->survey_from = from;
    c->survey_until = c->survey.until;
    return 0;
}

static void count_refs(struct store_compact *c)
{
    for (size_t i = 0; i < c->survey.count; i++) {
        const struct survey_ref *r = &c->survey.refs[i];
        struct use *u = use_of(c, r->segment);
        uint64_t bytes = RECORD_HEADER_SIZE + (uint64_t)r->units * EXTENT_STORED_UNIT;
        if (u == NULL)
            continue;
        u->records++;
        *(r->live ? &u->live : &u->history) += bytes;
    }
}

static void count_marks(struct store_compact *c)
{
    for (size_t i = 0; i < c->points.count; i++) {
        struct use *u = use_of(c, c->points.items[i].segment);
        if (u != NULL)
            u->marks++;
    }
}

static void count_files(struct store_compact *c)
{
    for (uint64_t number = c->first; number <= c->last; number++) {
        char name[SEGMENT_NAME_SIZE];
        struct stat st;
        segment_name(number, name);
        if (fstatat(c->main_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
            c->uses[number - c->first].bytes = (uint64_t)st.st_size;
    }
}

static uint64_t use_needed(const struct store_compact *c, const struct use *u)
{
    return SEGMENT_OVERHEAD + u->live + u->history + u->marks * c->mark_bytes + (uint64_t)u->records * CHUNK_BYTES;
}

static uint64_t use_garbage(const struct store_compact *c, const struct use *u)
{
    uint64_t needed = use_needed(c, u);
    return u->bytes > needed ? u->bytes - needed : 0;
}

static void sum_up(struct store_compact *c)
{
    struct compact_space *sum = &c->space;
    for (uint64_t number = c->first; number <= c->last; number++) {
        const struct use *u = use_of(c, number);
        sum->segments += u->bytes > 0;
        sum->log_bytes += u->bytes;
        sum->live_bytes += u->live;
        sum->garbage_bytes += use_garbage(c, u);
    }
    /* Rounding in the index: the three must give the whole. */
    uint64_t needed = sum->log_bytes - sum->garbage_bytes;
    sum->live_bytes = sum->live_bytes < needed ? sum->live_bytes : needed;
    sum->history_bytes = needed - sum->live_bytes;
    for (size_t i = 0; i < c->run_count; i++) {
        const struct run_info *info = run_get_info(c->runs[i]);
        sum->index_bytes += RUN_BLOCK_SIZE + info->top_count * RUN_TOP_SIZE + info->history_count * RUN_HISTORY_SIZE;
    }
    sum->index_bytes += c->points.count * sizeof(uint64_t) * 8;
}

/* Takes those with at least this share of garbage. Returns what garbage would be left. */
static uint64_t choose_above(struct store_compact *c, unsigned percent)
{
    uint64_t left = c->space.garbage_bytes;
    c->chosen = 0;
    for (uint64_t number = c->first; number < c->end; number++) {
        struct use *u = use_of(c, number);
        uint64_t garbage = use_garbage(c, u);
        u->chosen = u->bytes > 0 && garbage * 100 >= u->bytes * percent;
        if (u->chosen) {
            left -= garbage;
            c->chosen++;
        }
    }
    return left;
}

static void choose(struct store_compact *c)
{
    const struct compact_space *s = &c->space;
    if (s->garbage_bytes == 0 || s->garbage_bytes * 100 < s->log_bytes * c->spec.start_percent)
        return;
    for (unsigned percent = 50;; percent /= 2) {
        bool last = percent <= c->spec.least_percent;
        uint64_t left = choose_above(c, last ? c->spec.least_percent : percent);
        if (last || left * 100 <= (s->log_bytes - s->garbage_bytes) * LEFT_PERCENT)
            return;
    }
}

static void find_trims(struct store_compact *c)
{
    for (size_t i = 0; i < c->run_count; i++) {
        const struct run_info *info = run_get_info(c->runs[i]);
        if (c->survey.needless[i] * TRIM_SHARE > info->top_count + info->history_count)
            c->trims[c->trim_count++] = info->id;
    }
}

int store_compact_look(struct store_compact *c, struct err *err)
{
    c->uses = mem_alloc(c->last - c->first + 1, sizeof(*c->uses));
    if (c->uses == NULL)
        return err_set(err, ERR_NOMEM, "no memory for compaction");
    for (uint64_t from = 0; from < SEGMENT_NUMBERS; from = c->survey_until) {
        if (survey_window(c, from, err) < 0)
            return -1;
        count_refs(c);
        if (from == 0)
            find_trims(c);
    }
    count_marks(c);
    count_files(c);
    sum_up(c);
    choose(c);
    return 0;
}

const struct compact_space *store_compact_space(const struct store_compact *c)
{
    return &c->space;
}

/* The segment that is being written is left alone, whatever is in it. When half of it is garbage it ends here: the next look finds it
 * sealed. */
static void seal_garbage(struct store *s, struct store_compact *c)
{
    struct err err = ERR_INIT;
    uint64_t needed = use_needed(c, use_of(c, c->last));
    if (s->writer_number != c->last || c->last_bytes < s->segment_bytes / SEAL_SHARE || needed * 2 > c->last_bytes)
        return;
    if (store_seal_quietly(s, &err) < 0)
        log_event(LOG_WARN, "segment_not_sealed", LOG_S("dir", s->dir), LOG_U("segment", c->last), LOG_E(&err));
}

void store_compact_trim(struct store *s, struct store_compact *c)
{
    if (c->instance == s->instance)
        seal_garbage(s, c);
    for (size_t i = 0; i < c->trim_count && c->instance == s->instance; i++)
        store_trim(s, c->trims[i]);
}

/* ---- rewriting one ---- */

static bool stays(void *arg, const struct record *r, const struct mark *m, uint64_t place)
{
    struct store_compact *c = arg;
    const struct survey *v = &c->survey;
    (void)r;
    if (m != NULL)
        return (m->flags & MARK_FIRST) != 0 || m->sequence == c->covered ||
               pointlist_find(&c->points, m->sequence) != NULL;
    if (c->ref == v->count || v->refs[c->ref].segment != c->next || v->refs[c->ref].offset != place)
        return false;
    c->ref++;
    return true;
}

static uint64_t next_needed(void *arg, uint64_t sequence)
{
    const struct store_compact *c = arg;
    size_t at = pointlist_at(&c->points, sequence);
    uint64_t next = at < c->points.count ? c->points.items[at].sequence : UINT64_MAX;
    return next < c->covered || sequence > c->covered ? next : c->covered;
}

/* -1: it is to end. */
static int went_on(void *arg, uint64_t bytes, struct err *err)
{
    struct store_compact *c = arg;
    if (c->spec.pace != NULL)
        c->spec.pace(c->spec.pace_arg, bytes);
    if (c->spec.cancelled != NULL && atomic_load(c->spec.cancelled))
        return err_set(err, ERR_CANCELLED, "compaction was cancelled");
    return 0;
}

static int rewrite_one(struct store_compact *c, struct err *err)
{
    struct segment_rewrite_spec spec = {.dirfd = c->main_fd,
        .number = c->next,
        .stays = stays,
        .next_needed = next_needed,
        .went_on = went_on,
        .arg = c};
    if ((c->next < c->survey_from || c->next >= c->survey_until) && survey_window(c, c->next, err) < 0)
        return -1;
    c->ref = survey_at(&c->survey, c->next, 0);
    if (segment_rewrite(&spec, &c->rewritten, err) < 0)
        return -1;
    if (c->ref == survey_at(&c->survey, c->next + 1, 0) && c->rewritten.bytes_after < c->rewritten.bytes_before)
        return 0;
    segment_rewrite_discard(c->main_fd, c->next);
    if (c->rewritten.bytes_after >= c->rewritten.bytes_before)
        return err_set(err, ERR_REFUSED, "segment %llu does not get smaller", (unsigned long long)c->next);
    return err_set(
        err, ERR_CORRUPT, "the index leads to a record that segment %llu does not have", (unsigned long long)c->next);
}

/* Is it something that concerns this segment alone? */
static bool passes_over(struct store_compact *c, const struct err *why)
{
    if (why->code == ERR_NOSPACE)
        c->starved = true;
    if (why->code != ERR_REFUSED)
        log_event(LOG_WARN, "segment_not_rewritten", LOG_S("dir", c->dir), LOG_U("segment", c->next), LOG_E(why));
    return why->code == ERR_NOSPACE || why->code == ERR_CORRUPT || why->code == ERR_REFUSED || why->code == ERR_IO ||
           why->code == ERR_NOT_FOUND || why->code == ERR_UNSUPPORTED;
}

int store_compact_rewrite(struct store_compact *c, struct err *err)
{
    for (; c->next < c->end; c->next++) {
        struct err why = ERR_INIT;
        if (c->spec.cancelled != NULL && atomic_load(c->spec.cancelled))
            return err_set(err, ERR_CANCELLED, "compaction was cancelled");
        if (!use_of(c, c->next)->chosen)
            continue;
        c->done++;
        if (rewrite_one(c, &why) == 0) {
            c->ready = c->next++;
            return 1;
        }
        if (!passes_over(c, &why)) {
            err_copy(err, &why);
            return -1;
        }
    }
    return 0;
}

int store_compact_finish(struct store *s, struct store_compact *c, struct err *err)
{
    uint64_t number = c->ready;
    if (number == 0)
        return 0;
    c->ready = 0;
    if (s->broken || s->instance != c->instance) {
        segment_rewrite_discard(c->main_fd, number);
        return err_set(err, ERR_CANCELLED, "the store was opened again meanwhile");
    }
    if (segment_rewrite_commit(c->main_fd, number, err) < 0) {
        segment_rewrite_discard(c->main_fd, number);
        return -1;
    }
    c->freed += c->rewritten.bytes_before - c->rewritten.bytes_after;
    return 0;
}

uint64_t store_compact_freed(const struct store_compact *c)
{
    return c->freed;
}

bool store_compact_starved(const struct store_compact *c)
{
    return c->starved;
}

void store_compact_progress(const struct store_compact *c, uint64_t *ret_done, uint64_t *ret_total)
{
    *ret_done = c->done;
    *ret_total = c->chosen;
}
