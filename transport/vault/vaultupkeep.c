/* SPDX-License-Identifier: Apache-2.0
 *
 * What a machine's index needs from time to time, each as jobs that never hold up replication for long: writing the memtable
 * to a run, merging runs (planned and finished on the lane, run beside it), and retention.
 */
#include <stdlib.h>
#include <string.h>

#include "transport/base/clock.h"
#include "transport/base/log.h"
#include "transport/vault/opening.h"
#include "transport/vault/vaultd_private.h"
#include "transport/vault/vaultspace.h"

#define COPY_LOOKS_USEC (3600 * USEC_PER_SEC)
#define LEARN_LOT 256u /* marks: some seconds of a disk that seeks */

/* ---- flush ---- */

static int flush_run(struct vaultjob *j, struct err *err)
{
    struct store *s;
    return vmachine_store(j->vm, &s, err) < 0 ? -1 : store_flush(s, err);
}

static void flush_done(struct vaultjob *j)
{
    j->vm->flushing = false;
    if (j->result < 0 && j->err.code != ERR_CANCELLED)
        log_event(LOG_ERROR, "flush_failed", LOG_S("machine", j->vm->id_text), LOG_E(&j->err));
    else if (j->result == 0)
        vaultupkeep_merge(j->vm);
    free(j);
}

void vaultupkeep_flush(struct vmachine *vm)
{
    struct vaultjob *j = vm->flushing ? NULL : mem_new(struct vaultjob);
    if (j == NULL)
        return;
    j->run = flush_run;
    j->done = flush_done;
    if (vaultjob_lane(vm, j, NULL) < 0)
        free(j);
    else
        vm->flushing = true;
}

/* ---- merge: plan on the lane, run on the pool, finish on the lane, and again while there is something to do ---- */

struct merge_job {
    struct vaultjob job;
    struct store_merge *merge;
};

static void merge_end(struct merge_job *m)
{
    if (m->job.result < 0 && m->job.err.code != ERR_CANCELLED)
        log_event(LOG_ERROR, "merge_failed", LOG_S("machine", m->job.vm->id_text), LOG_E(&m->job.err));
    m->job.vm->merging = false;
    store_merge_free(m->merge);
    free(m);
}

static int finish_run(struct vaultjob *j, struct err *err)
{
    struct merge_job *m = (struct merge_job *)j;
    return j->vm->store == NULL ? 0 : store_merge_finish(j->vm->store, m->merge, err);
}

static void finish_done(struct vaultjob *j)
{
    struct vmachine *vm = j->vm;
    bool again = j->result == 0;
    merge_end((struct merge_job *)j);
    if (again)
        vaultupkeep_merge(vm);
}

static int merge_run(struct vaultjob *j, struct err *err)
{
    return store_merge_run(((struct merge_job *)j)->merge, err);
}

static void merge_done(struct vaultjob *j)
{
    struct merge_job *m = (struct merge_job *)j;
    if (j->result < 0 && j->err.code != ERR_CANCELLED)
        log_event(LOG_ERROR, "merge_failed", LOG_S("machine", j->vm->id_text), LOG_E(&j->err));
    j->run = finish_run; /* also after a failure: the store waits for the end of the merge */
    j->done = finish_done;
    if (vaultjob_lane(j->vm, j, NULL) < 0)
        merge_end(m);
}

static int plan_run(struct vaultjob *j, struct err *err)
{
    struct store *s;
    return vmachine_store(j->vm, &s, err) < 0 ? -1 : store_merge_plan(s, &((struct merge_job *)j)->merge, err);
}

static void plan_done(struct vaultjob *j)
{
    struct merge_job *m = (struct merge_job *)j;
    if (j->result <= 0) {
        merge_end(m);
        return;
    }
    j->run = merge_run;
    j->done = merge_done;
    if (vaultjob_pool(j->vm->d, j->vm, j, NULL) < 0)
        merge_end(m);
}

void vaultupkeep_merge(struct vmachine *vm)
{
    struct merge_job *m = vm->merging || vm->d->stopping ? NULL : mem_new(struct merge_job);
    if (m == NULL)
        return;
    m->job.run = plan_run;
    m->job.done = plan_done;
    if (vaultjob_lane(vm, &m->job, NULL) < 0)
        free(m);
    else
        vm->merging = true;
}

/* ---- an index that is damaged ---- */

static int rebuild_run(struct vaultjob *job, struct err *err)
{
    struct store *s;
    store_discard_index(job->vm->store);
    return vmachine_store(job->vm, &s, err);
}

static void rebuild_done(struct vaultjob *job)
{
    if (job->result < 0 && job->err.code != ERR_CANCELLED)
        log_event(LOG_ERROR, "index_rebuild_failed", LOG_S("machine", job->vm->id_text), LOG_E(&job->err));
    free(job);
}

void vaultupkeep_rebuild(struct vmachine *vm)
{
    struct vaultjob *j = mem_new(struct vaultjob);
    if (j == NULL)
        return;
    j->run = rebuild_run;
    j->done = rebuild_done;
    if (vaultjob_lane(vm, j, NULL) < 0)
        free(j);
}

/* ---- retention ---- */

struct thin_job {
    struct vaultjob job;
    struct thin_tiers tiers;
    uint64_t *pinned; /* points that are open; branches add theirs */
    size_t pinned_count;
    bool hurries; /* room is needed, or somebody waits for it */
    uint64_t *dropped;
    size_t dropped_count;
};

static int pin(struct thin_job *t, uint64_t sequence, struct err *err)
{
    uint64_t *pinned = mem_resize(t->pinned, t->pinned_count + 1, sizeof(*pinned));
    if (pinned == NULL)
        return err_set(err, ERR_NOMEM, "no memory for retention");
    t->pinned = pinned;
    t->pinned[t->pinned_count++] = sequence;
    return 0;
}

/* What a branch stands on is kept, open or not. A branch that cannot be read stops retention: better too much than too little. */
static int pin_branches(struct thin_job *t, struct err *err)
{
    struct branch_list list AUTO_BRANCH_LIST = {0};
    if (branchlist_load(t->job.vm->dir, &list, err) < 0)
        return -1;
    for (size_t i = 0; i < list.count; i++) {
        if (list.items[i].damaged) {
            (void)err_set(
                err, ERR_CORRUPT, "the branch %s is damaged: retention cannot tell what it needs", list.items[i].name);
            return err_hint(err, "discard the branch");
        }
        if (pin(t, list.items[i].info.base_sequence, err) < 0)
            return -1;
    }
    return 0;
}

static int compare_sequence(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left;
    uint64_t b = *(const uint64_t *)right;
    return a < b ? -1 : a > b;
}

/* The store would keep them anyway; the hub must not be told that they went. */
static void leave_locked(struct thin_job *t, const struct store *s)
{
    uint64_t now = store_lock_now(s);
    size_t kept = 0;
    for (size_t i = 0; i < t->dropped_count; i++) {
        const struct point *p = pointlist_find(store_points(s), t->dropped[i]);
        if (p != NULL && !store_point_is_locked(s, p, now))
            t->dropped[kept++] = t->dropped[i];
    }
    t->dropped_count = kept;
}

static bool is_worth_it(const struct thin_job *t, size_t points)
{
    struct vmachine *vm = t->job.vm;
    uint64_t now = clock_mono_usec();
    if (t->dropped_count > 0 && vm->thin_since_usec == 0)
        vm->thin_since_usec = now;
    uint64_t waited = vm->thin_since_usec == 0 ? 0 : now - vm->thin_since_usec;
    bool worth = t->dropped_count > 0 && (t->hurries || thin_is_worth_it(points, t->dropped_count, waited));
    if (worth || t->dropped_count == 0)
        vm->thin_since_usec = 0;
    return worth;
}

/* After a start the times of group points are in their marks alone. They are read in lots, so that a slow disk does not keep the lane from what comes in;
 * nothing goes until all are there. 1: they are; 0; -1. */
static int learn_groups(struct thin_job *t, struct store *s, struct err *err)
{
    size_t places[LEARN_LOT], n;
    do {
        n = thin_unknown(store_points(s), &t->tiers, store_lock_now(s), places, LEARN_LOT);
        for (size_t i = 0; i < n; i++)
            if (store_learn_group(s, places[i], err) < 0)
                return -1;
    } while (n == LEARN_LOT && t->hurries);
    return n < LEARN_LOT;
}

static int thin_run(struct vaultjob *j, struct err *err)
{
    struct thin_job *t = (struct thin_job *)j;
    struct store *s;
    size_t gone = 0;
    if (vmachine_store(j->vm, &s, err) < 0 || pin_branches(t, err) < 0)
        return -1;
    if (t->pinned_count > 0)
        qsort(t->pinned, t->pinned_count, sizeof(t->pinned[0]), compare_sequence);
    int known = learn_groups(t, s, err);
    if (known <= 0)
        return known;
    if (thin_plan(store_points(s), &t->tiers, store_lock_now(s), t->pinned, t->pinned_count, &t->dropped,
            &t->dropped_count, err) < 0)
        return -1;
    leave_locked(t, s);
    if (!is_worth_it(t, store_points(s)->count)) {
        t->dropped_count = 0;
        return 0;
    }
    return vaultreport_note_dropped(j->vm, t->dropped, t->dropped_count, err) < 0
               ? -1
               : store_drop_points(s, t->dropped, t->dropped_count, &gone, err);
}

static void thin_done(struct vaultjob *j)
{
    struct thin_job *t = (struct thin_job *)j;
    if (j->result < 0 && j->err.code != ERR_CANCELLED)
        log_event(LOG_ERROR, "retention_failed", LOG_S("machine", j->vm->id_text), LOG_E(&j->err));
    /* The new list may stand all the same: it is told what is not on it any more. Without room for it there is none, and what would be told again with
     * each try is all points. */
    if (j->result < 0 && t->dropped_count > 0 && j->err.code != ERR_NOSPACE)
        j->vm->dropped_untold = true;
    if (j->result == 0 && t->dropped_count > 0) {
        log_event(LOG_INFO, "points_dropped", LOG_S("machine", j->vm->id_text), LOG_U("count", t->dropped_count));
        vaultreport_dropped(j->vm, t->dropped, t->dropped_count);
        vaultupkeep_merge(j->vm);
        vaultspace_thinned(j->vm);
    }
    free(t->pinned);
    free(t->dropped);
    free(t);
}

/* What a copy in another vault stands on, else all of it would have to be compared, and what it is just taking over. */
static int pin_readers(struct thin_job *t, const struct vmachine *vm)
{
    for (unsigned i = 0; i < vm->reader_count; i++)
        if (pin(t, vm->readers[i].held, NULL) < 0 || pin(t, vm->readers[i].taking, NULL) < 0)
            return -1;
    return 0;
}

/* After a start nothing is known of what copies stand on until they look. One that is gone for good keeps nothing for longer. */
static bool a_copy_may_look_yet(const struct vmachine *vm)
{
    uint64_t now = clock_mono_usec();
    for (unsigned i = 0; i < vm->reader_count; i++)
        if (!vm->readers[i].heard && now < vm->readers[i].known_usec + COPY_LOOKS_USEC)
            return true;
    return false;
}

void vaultupkeep_thin(struct vmachine *vm)
{
    struct thin_job *t = a_copy_may_look_yet(vm) ? NULL : mem_new(struct thin_job);
    if (t == NULL)
        return;
    t->job.run = thin_run;
    t->job.done = thin_done;
    t->tiers = vm->tiers;
    t->hurries = vm->d->full || vm->d->asked_space != NULL;
    if (opening_pinned(vm, &t->pinned, &t->pinned_count, NULL) < 0 || pin_readers(t, vm) < 0 ||
        vaultjob_lane(vm, &t->job, NULL) < 0) {
        free(t->pinned);
        free(t);
    }
}
