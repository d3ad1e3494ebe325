/* SPDX-License-Identifier: Apache-2.0
 *
 * A sweep over the keys with all entries of all runs, tops and histories. At each place the versions that cover it stand in the
 * order of the log; a version is needed when a point lies between its own change set and the one that follows it, and the last one
 * is what the newest content shows. Entries that merging has pruned are not missed: nothing needed them, so they decide nothing.
 */
#include "transport/vault/survey.h"

#include <stdlib.h>
#include <string.h>

#include "transport/vault/extent.h"

/* One part of one run, walked. */
struct source {
    struct run *run;
    size_t number; /* of the run */
    bool history;
    uint64_t next, count;
    struct extent now;
    uint64_t dead;
};

struct version {
    struct extent e;
    uint64_t dead; /* UINT64_MAX: it is in a top */
    size_t run;
    bool history;
    bool needed, live;
};

struct sweep {
    const struct survey_spec *spec;
    struct survey *out;
    size_t refs_cap, refs_max;
    struct source *heap; /* the one with the lowest key first */
    size_t heap_count;
    struct version *active; /* those that cover the position, oldest first */
    size_t active_count, active_cap;
};

/* ---- records that are needed ---- */

static int compare_refs(const void *left, const void *right)
{
    const struct survey_ref *a = left;
    const struct survey_ref *b = right;
    if (a->segment != b->segment)
        return a->segment < b->segment ? -1 : 1;
    if (a->offset != b->offset)
        return a->offset < b->offset ? -1 : 1;
    return (int)b->live - (int)a->live;
}

/* Each record once; live when any mention of it was. */
static void refs_unique(struct survey *v)
{
    size_t kept = 0;
    if (v->count == 0)
        return;
    qsort(v->refs, v->count, sizeof(v->refs[0]), compare_refs);
    for (size_t i = 0; i < v->count; i++)
        if (kept == 0 || v->refs[i].segment != v->refs[kept - 1].segment ||
            v->refs[i].offset != v->refs[kept - 1].offset)
            v->refs[kept++] = v->refs[i];
    v->count = kept;
}

/* Too many: those of the higher segments are left to the next survey, but never those of the lowest. */
static int refs_narrow(struct sweep *w, struct err *err)
{
    struct survey *v = w->out;
    refs_unique(v);
    if (v->count < w->refs_max / 4 * 3)
        return 0;
    uint32_t lowest = v->refs[0].segment;
    uint32_t middle = v->refs[v->count / 2].segment;
    v->until = middle > lowest ? middle : (uint64_t)lowest + 1;
    v->count = survey_at(v, v->until, 0);
    if (v->count >= w->refs_max / 4 * 3)
        w->refs_max *= 2; /* one segment of a very large change set */
    return w->refs_max > UINT32_MAX ? err_set(err, ERR_TOO_LARGE, "a segment has too many records to look through") : 0;
}

static int refs_add(struct sweep *w, const struct version *n, struct err *err)
{
    struct survey *v = w->out;
    if (n->e.segment < w->spec->from || n->e.segment >= v->until)
        return 0;
    if (v->count == w->refs_max && refs_narrow(w, err) < 0)
        return -1;
    if (n->e.segment >= v->until)
        return 0;
    if (v->count == w->refs_cap) {
        size_t cap = w->refs_cap == 0 ? 1024 : w->refs_cap * 2;
        struct survey_ref *refs = mem_resize(v->refs, cap, sizeof(*refs));
        if (refs == NULL)
            return err_set(err, ERR_NOMEM, "no memory to look through the index");
        v->refs = refs;
        w->refs_cap = cap;
    }
    v->refs[v->count++] =
        (struct survey_ref){n->e.segment, n->e.offset, (uint16_t)(n->e.flags >> EXTENT_STORED_SHIFT), n->live};
    return 0;
}

size_t survey_at(const struct survey *v, uint64_t segment, uint64_t offset)
{
    size_t low = 0;
    size_t high = v->count;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        const struct survey_ref *r = &v->refs[mid];
        if (r->segment < segment || (r->segment == segment && r->offset < offset))
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

/* ---- the sources, by their next key ---- */

static void heap_sink(struct sweep *w, size_t i)
{
    for (;;) {
        size_t least = i;
        for (size_t child = 2 * i + 1; child <= 2 * i + 2 && child < w->heap_count; child++)
            if (w->heap[child].now.key < w->heap[least].now.key)
                least = child;
        if (least == i)
            return;
        struct source swap = w->heap[i];
        w->heap[i] = w->heap[least];
        w->heap[least] = swap;
        i = least;
    }
}

/* 1: `now` is the next entry; 0: there is none. */
static int source_advance(struct source *s, struct err *err)
{
    s->dead = UINT64_MAX;
    if (s->next == s->count)
        return 0;
    int got = s->history ? run_history_at(s->run, s->next, &s->now, &s->dead, err)
                         : run_top_at(s->run, s->next, &s->now, err);
    s->next++;
    return got < 0 ? -1 : 1;
}

static int heap_fill(struct sweep *w, struct err *err)
{
    w->heap = mem_alloc(2 * w->spec->run_count + 1, sizeof(*w->heap));
    if (w->heap == NULL)
        return err_set(err, ERR_NOMEM, "no memory to look through the index");
    for (size_t i = 0; i < 2 * w->spec->run_count; i++) {
        struct run *run = w->spec->runs[i / 2];
        const struct run_info *info = run_get_info(run);
        struct source *s = &w->heap[w->heap_count];
        *s = (struct source){.run = run, .number = i / 2, .history = i % 2 == 1};
        s->count = s->history ? info->history_count : info->top_count;
        int got = source_advance(s, err);
        if (got < 0)
            return -1;
        w->heap_count += (size_t)got;
    }
    for (size_t i = w->heap_count; i > 0; i--)
        heap_sink(w, i - 1);
    return 0;
}

/* ---- the versions at the position ---- */

static int version_leave(struct sweep *w, const struct version *n, struct err *err)
{
    if (n->needed)
        return refs_add(w, n, err);
    w->out->needless[n->run] += n->history;
    return 0;
}

static int active_leave(struct sweep *w, uint64_t position, struct err *err)
{
    size_t kept = 0;
    for (size_t i = 0; i < w->active_count; i++) {
        if (extent_end(&w->active[i].e) > position)
            w->active[kept++] = w->active[i];
        else if (version_leave(w, &w->active[i], err) < 0)
            return -1;
    }
    w->active_count = kept;
    return 0;
}

static int compare_versions(const void *left, const void *right)
{
    const struct version *a = left;
    const struct version *b = right;
    int order = extent_compare_age(&a->e, &b->e);
    if (order != 0)
        return order;
    return a->dead < b->dead ? -1 : a->dead > b->dead;
}

/* Puts active[from..] in order among those before, which are in order. */
static void active_merge(struct sweep *w, size_t from)
{
    if (from == w->active_count)
        return;
    if (w->active_count - from > 1)
        qsort(w->active + from, w->active_count - from, sizeof(w->active[0]), compare_versions);
    if (from == 0 || compare_versions(&w->active[from - 1], &w->active[from]) <= 0)
        return;
    if (w->active_count - from > 8) {
        qsort(w->active, w->active_count, sizeof(w->active[0]), compare_versions);
        return;
    }
    for (size_t i = from; i < w->active_count; i++) {
        struct version n = w->active[i];
        size_t at = i;
        while (at > 0 && compare_versions(&n, &w->active[at - 1]) < 0)
            at--;
        memmove(&w->active[at + 1], &w->active[at], (i - at) * sizeof(n));
        w->active[at] = n;
    }
}

static int active_enter(struct sweep *w, uint64_t position, struct err *err)
{
    size_t from = w->active_count;
    while (w->heap_count > 0 && w->heap[0].now.key == position) {
        struct source *s = &w->heap[0];
        if (w->active_count == w->active_cap) {
            size_t cap = w->active_cap == 0 ? 64 : w->active_cap * 2;
            struct version *active = mem_resize(w->active, cap, sizeof(*active));
            if (active == NULL)
                return err_set(err, ERR_NOMEM, "no memory to look through the index");
            w->active = active;
            w->active_cap = cap;
        }
        w->active[w->active_count++] =
            (struct version){.e = s->now, .dead = s->dead, .run = s->number, .history = s->history};
        int got = source_advance(s, err);
        if (got < 0)
            return -1;
        if (got == 0)
            *s = w->heap[--w->heap_count];
        heap_sink(w, 0);
    }
    active_merge(w, from);
    return 0;
}

/* From the position up to the next one, which of them does somebody need? */
static void active_judge(struct sweep *w)
{
    for (size_t i = 0; i < w->active_count; i++) {
        struct version *n = &w->active[i];
        bool last = i + 1 == w->active_count;
        uint64_t before = last ? UINT64_MAX : w->active[i + 1].e.sequence;
        if (n->dead < before)
            before = n->dead;
        if (before == UINT64_MAX)
            n->live = n->needed = true;
        else if (!n->needed)
            n->needed = pointlist_any(w->spec->points, n->e.sequence, before);
    }
}

static uint64_t position_next(const struct sweep *w)
{
    uint64_t next = w->heap_count > 0 ? w->heap[0].now.key : UINT64_MAX;
    for (size_t i = 0; i < w->active_count; i++)
        if (extent_end(&w->active[i].e) < next)
            next = extent_end(&w->active[i].e);
    return next;
}

static int sweep_all(struct sweep *w, struct err *err)
{
    uint64_t steps = 0;
    while (w->heap_count > 0 || w->active_count > 0) {
        uint64_t position = position_next(w);
        if ((++steps & 0xFFFF) == 0 && w->spec->cancelled != NULL && atomic_load(w->spec->cancelled))
            return err_set(err, ERR_CANCELLED, "looking through the index was cancelled");
        if (active_leave(w, position, err) < 0 || active_enter(w, position, err) < 0)
            return -1;
        active_judge(w);
    }
    refs_unique(w->out);
    return 0;
}

int survey_run(const struct survey_spec *spec, struct survey *ret_survey, struct err *err)
{
    struct survey out = {.until = spec->until, .needless = mem_alloc(spec->run_count + 1, sizeof(*out.needless))};
    struct sweep w = {.spec = spec, .out = &out, .refs_max = spec->refs_max == 0 ? SURVEY_REFS_MAX : spec->refs_max};
    int result = out.needless == NULL ? err_set(err, ERR_NOMEM, "no memory to look through the index") : 0;
    if (result == 0)
        result = heap_fill(&w, err);
    if (result == 0)
        result = sweep_all(&w, err);
    free(w.heap);
    free(w.active);
    if (result < 0)
        survey_done(&out);
    else
        *ret_survey = out;
    return result;
}

void survey_done(struct survey *v)
{
    free(v->refs);
    free(v->needless);
    *v = (struct survey){0};
}
