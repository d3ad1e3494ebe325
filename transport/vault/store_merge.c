/* SPDX-License-Identifier: Apache-2.0
 *
 * Merging of runs, so that a view looks through few of them whatever the history is:
 *   tier        four neighbouring deltas of about the same size become one. Entries that a point inside still needs go to its
 *               history; because a view at such a point must sweep that, a delta with points inside stays below a limit.
 *   pruning     neighbouring deltas between which retention has dropped all points become one, without history, of any size.
 *   trimming    a delta whose history is mostly that of dropped points is written anew alone (store_compact.c finds them).
 *   cumulative  when the deltas behind the last cumulative run come to half of it, or are many, the whole block map is written anew.
 *               Points from there on need nothing older.
 * Deltas are never merged across a cumulative run's sequence. A run that no retained point can need any more is dropped.
 *
 * The merge itself touches only immutable files and a copy of the points, so it may run beside everything else; only the
 * change of the manifest belongs to the lane.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "transport/base/crashpoint.h"
#include "transport/vault/overlay.h"
#include "transport/vault/store_private.h"

#define TIER_RUNS 4u
#define TIER_BASE 1024u
#define TIER_FACTOR 4u
#define INSIDE_FACTOR 5u     /* x flush_extents: entries of a delta that has points inside */
#define CUMULATIVE_FACTOR 8u /* x flush_extents: deltas below this are never worth a cumulative run */
#define CUMULATIVE_RUNS                                                                                                \
    256u /* behind a cumulative one: where points keep them apart they never come to half of a large disk */
#define MERGE_RUNS_MAX 512u

struct store_merge {
    int runs_fd;       /* a copy */
    uint64_t instance; /* of the store that planned it */
    struct run_info target;
    size_t input_count;
    uint64_t *inputs;        /* run ids, oldest first */
    struct pointlist points; /* those within target's sequences */
    struct memtable_history *history;
    size_t history_count, history_cap;
    bool written;
};

void store_merge_free(struct store_merge *m)
{
    if (m == NULL)
        return;
    if (m->runs_fd >= 0)
        (void)close(m->runs_fd);
    pointlist_done(&m->points);
    free(m->inputs);
    free(m->history);
    free(m);
}

/* ---- planning ---- */

struct group {
    size_t from, to; /* runs of the manifest, [from, to) */
    enum run_kind kind;
};

static unsigned tier_of(const struct run_info *run)
{
    unsigned tier = 0;
    for (uint64_t n = (run->top_count + run->history_count) / TIER_BASE; n > 0; n /= TIER_FACTOR)
        tier++;
    return tier;
}

static bool points_inside(const struct store *s, const struct run_info *first, const struct run_info *last)
{
    return pointlist_any(&s->points, first->first_sequence, last->last_sequence);
}

/* Index of the last cumulative run; run_count if there is none. */
static size_t last_cumulative(const struct manifest *m)
{
    for (size_t i = m->run_count; i > 0; i--)
        if (m->runs[i - 1].kind == RUN_CUMULATIVE)
            return i - 1;
    return m->run_count;
}

static bool plan_cumulative(const struct store *s, struct group *g)
{
    const struct manifest *m = &s->manifest;
    size_t base = last_cumulative(m);
    size_t from = base == m->run_count ? 0 : base + 1;
    uint64_t base_count = base == m->run_count ? 0 : m->runs[base].top_count;
    uint64_t least = (uint64_t)CUMULATIVE_FACTOR * s->flush_extents;
    uint64_t sum = 0;
    for (size_t i = from; i < m->run_count; i++)
        sum += m->runs[i].top_count;
    *g = (struct group){base == m->run_count ? 0 : base, m->run_count, RUN_CUMULATIVE};
    if (g->to - g->from > MERGE_RUNS_MAX)
        g->to = g->from + MERGE_RUNS_MAX; /* the rest behind it */
    return m->run_count - from > CUMULATIVE_RUNS || (sum >= least && sum >= base_count / 2);
}

/* The longest group of deltas from `from` on with no point inside. */
static bool plan_pruning(const struct store *s, size_t from, struct group *g)
{
    const struct manifest *m = &s->manifest;
    size_t to = from;
    while (to < m->run_count && to - from < MERGE_RUNS_MAX && m->runs[to].kind == RUN_DELTA &&
           !points_inside(s, &m->runs[from], &m->runs[to]))
        to++;
    *g = (struct group){from, to, RUN_DELTA};
    return to - from >= TIER_RUNS;
}

static bool plan_tier(const struct store *s, size_t from, struct group *g)
{
    const struct manifest *m = &s->manifest;
    uint64_t entries = 0;
    size_t to = from;
    while (to < m->run_count && to - from < TIER_RUNS && m->runs[to].kind == RUN_DELTA &&
           tier_of(&m->runs[to]) <= tier_of(&m->runs[from])) {
        entries += m->runs[to].top_count + m->runs[to].history_count;
        to++;
    }
    *g = (struct group){from, to, RUN_DELTA};
    return to - from == TIER_RUNS && entries <= (uint64_t)INSIDE_FACTOR * s->flush_extents;
}

void store_trim(struct store *s, uint64_t run_id)
{
    if (s->trim_count < STORE_TRIMS_MAX)
        s->trims[s->trim_count++] = run_id;
}

/* A delta that is to be written anew on its own, to be rid of history that no point needs any more. */
static bool plan_trim(struct store *s, struct group *g)
{
    while (s->trim_count > 0) {
        uint64_t id = s->trims[--s->trim_count];
        for (size_t i = 0; i < s->manifest.run_count; i++) {
            *g = (struct group){i, i + 1, RUN_DELTA};
            if (s->manifest.runs[i].id == id && s->manifest.runs[i].kind == RUN_DELTA)
                return true;
        }
    }
    return false;
}

static bool plan_group(struct store *s, struct group *g)
{
    if (plan_cumulative(s, g) || plan_trim(s, g))
        return true;
    for (size_t i = 0; i < s->manifest.run_count; i++)
        if (plan_pruning(s, i, g) || plan_tier(s, i, g))
            return true;
    return false;
}

static int merge_fill(struct store *s, const struct group *g, struct store_merge *m, struct err *err)
{
    const struct run_info *runs = s->manifest.runs;
    m->runs_fd = dup(s->runs_fd);
    m->inputs = mem_alloc(g->to - g->from, sizeof(*m->inputs));
    if (m->runs_fd < 0 || m->inputs == NULL)
        return err_set(err, ERR_NOMEM, "no memory to merge index runs");
    for (size_t i = g->from; i < g->to; i++)
        m->inputs[m->input_count++] = runs[i].id;
    m->target = (struct run_info){.machine = s->machine,
        .kind = g->kind,
        .id = s->manifest.next_run_id++,
        .first_sequence = g->kind == RUN_CUMULATIVE ? 1 : runs[g->from].first_sequence,
        .last_sequence = runs[g->to - 1].last_sequence};
    size_t at = pointlist_at(&s->points, m->target.first_sequence);
    for (; g->kind == RUN_DELTA && at < s->points.count && s->points.items[at].sequence < m->target.last_sequence; at++)
        if (pointlist_add(&m->points, &s->points.items[at], err) < 0)
            return -1;
    return 0;
}

int store_merge_plan(struct store *s, struct store_merge **ret_merge, struct err *err)
{
    struct group g;
    if (s->merging || s->broken || !plan_group(s, &g))
        return 0;
    struct store_merge *m AUTO_OF(store_merge) = mem_new(struct store_merge);
    if (m == NULL)
        return err_set(err, ERR_NOMEM, "no memory to merge index runs");
    m->runs_fd = -1;
    m->instance = s->instance;
    if (merge_fill(s, &g, m, err) < 0)
        return -1;
    s->merging = true;
    *ret_merge = TAKE_PTR(m);
    return 1;
}

/* ---- running ---- */

static int history_keep(struct store_merge *m, const struct extent *e, uint64_t dead, struct err *err)
{
    if (!pointlist_any(&m->points, e->sequence, dead))
        return 0;
    if (m->history_count == m->history_cap) {
        size_t cap = m->history_cap == 0 ? 1024 : m->history_cap * 2;
        struct memtable_history *history = mem_resize(m->history, cap, sizeof(*history));
        if (history == NULL)
            return err_set(err, ERR_NOMEM, "no memory to merge index runs");
        m->history = history;
        m->history_cap = cap;
    }
    m->history[m->history_count++] = (struct memtable_history){*e, dead};
    return 0;
}

static int on_hidden(void *arg, const struct extent *e, uint64_t dead, struct err *err)
{
    return history_keep(arg, e, dead, err);
}

static int history_collect(struct store_merge *m, struct run *run, struct err *err)
{
    struct extent e;
    uint64_t dead;
    for (uint64_t i = 0; m->points.count > 0 && i < run_get_info(run)->history_count; i++)
        if (run_history_at(run, i, &e, &dead, err) < 0 || history_keep(m, &e, dead, err) < 0)
            return -1;
    return 0;
}

static int compare_history(const void *left, const void *right)
{
    const struct memtable_history *a = left;
    const struct memtable_history *b = right;
    if (a->extent.key != b->extent.key)
        return a->extent.key < b->extent.key ? -1 : 1;
    return extent_compare_age(&a->extent, &b->extent);
}

static int merge_write(struct store_merge *m, struct run *const *runs, struct run_writer *w, struct err *err)
{
    struct overlay *o AUTO_OF(overlay) = NULL;
    struct extent e;
    int got;
    if (overlay_new(runs, m->input_count, on_hidden, m, &o, err) < 0)
        return -1;
    while ((got = overlay_next(o, &e, err)) > 0)
        if (run_writer_top(w, &e, err) < 0)
            return -1;
    for (size_t i = 0; got == 0 && i < m->input_count; i++)
        got = history_collect(m, runs[i], err);
    if (got < 0)
        return -1;
    if (m->history_count > 0)
        qsort(m->history, m->history_count, sizeof(m->history[0]), compare_history);
    for (size_t i = 0; i < m->history_count; i++)
        if (run_writer_history(w, &m->history[i].extent, m->history[i].dead, err) < 0)
            return -1;
    return run_writer_finish(w, &m->target, err);
}

static int inputs_open(struct store_merge *m, struct run **runs, struct err *err)
{
    for (size_t i = 0; i < m->input_count; i++) /* the newest comes first in an overlay */
        if (run_open(m->runs_fd, m->inputs[m->input_count - 1 - i], &m->target.machine, &runs[i], err) < 0)
            return -1;
    return 0;
}

int store_merge_run(struct store_merge *m, struct err *err)
{
    struct run_writer *w AUTO_OF(run_writer) = NULL;
    struct run **runs AUTO_FREE = mem_alloc(m->input_count, sizeof(*runs));
    if (runs == NULL)
        return err_set(err, ERR_NOMEM, "no memory to merge index runs");
    int result = inputs_open(m, runs, err);
    if (result == 0)
        result = run_writer_new(m->runs_fd, &m->target, &w, err);
    if (result == 0)
        result = merge_write(m, runs, w, err);
    for (size_t i = 0; i < m->input_count; i++)
        run_close(runs[i]);
    m->written = result == 0;
    crashpoint_pass("merge.written");
    return result < 0 ? err_wrap(err, "merging index runs") : 0;
}

/* ---- finishing ---- */

/* Is there a later cumulative run such that every retained point that could use this run lies behind it? */
static bool run_is_needless(const struct store *s, const struct manifest *m, const struct run_info *run)
{
    uint64_t from = run->kind == RUN_DELTA ? run->first_sequence : run->last_sequence;
    for (size_t i = 0; i < m->run_count; i++) {
        const struct run_info *later = &m->runs[i];
        if (later->kind == RUN_CUMULATIVE && later->id != run->id && later->last_sequence >= run->last_sequence &&
            !pointlist_any(&s->points, from, later->last_sequence))
            return true;
    }
    return false;
}

static void unlink_gone(struct store *s, const struct manifest *before)
{
    for (size_t i = 0; i < before->run_count; i++) {
        bool still = false;
        for (size_t j = 0; j < s->manifest.run_count && !still; j++)
            still = s->manifest.runs[j].id == before->runs[i].id;
        if (!still) {
            char name[RUN_NAME_SIZE];
            run_name(before->runs[i].id, name);
            (void)unlinkat(s->runs_fd, name, 0);
        }
    }
}

static int manifest_after(const struct store *s, const struct store_merge *m, struct manifest *next, struct err *err)
{
    if (manifest_copy(&s->manifest, next, err) < 0)
        return -1;
    for (size_t i = 0; m->target.kind == RUN_DELTA && i < m->input_count; i++)
        manifest_remove(next, m->inputs[i]);
    if (manifest_add(next, &m->target, err) < 0)
        return -1;
    for (size_t i = next->run_count; i > 0; i--)
        if (run_is_needless(s, next, &next->runs[i - 1]))
            manifest_remove(next, next->runs[i - 1].id);
    return 0;
}

int store_merge_finish(struct store *s, struct store_merge *m, struct err *err)
{
    struct manifest next AUTO_MANIFEST = {0};
    if (m->instance != s->instance)
        return 0; /* the store was opened again meanwhile, and has removed the file */
    s->merging = false;
    if (!m->written)
        return 0;
    bool stands = false;
    if (manifest_after(s, m, &next, err) < 0 || manifest_store(s->dir, &next, &stands, err) < 0) {
        char name[RUN_NAME_SIZE];
        run_name(m->target.id, name);
        if (!stands)
            (void)unlinkat(s->runs_fd, name, 0);
        s->broken = s->broken || stands; /* opened again, it goes by the manifest that is there */
        return -1;
    }
    crashpoint_pass("merge.manifest");
    struct manifest before AUTO_MANIFEST = s->manifest;
    s->manifest = next;
    next = (struct manifest){0};
    unlink_gone(s, &before);
    return 0;
}
