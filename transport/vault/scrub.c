/* SPDX-License-Identifier: Apache-2.0
 *
 * A scrub is first a job on the machine's lane (what is committed, the key, which segments there are), then one job per segment on
 * the vault's idle threads, a few at a time, and at the end one for the index. Their results are put together on the loop.
 *
 * Giving way: idle threads are SCHED_IDLE with idle I/O priority, so they get what nobody else wants; and there is a pace (vaultpace.h).
 */
#include "transport/vault/scrub.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "transport/base/clock.h"
#include "transport/vault/vaultd_private.h"

struct scrub {
    struct vmachine *vm;
    struct scrub_spec spec;
    struct verify_spec verify;
    struct verify_result result;
    struct err err;
    uint64_t *numbers;
    struct verify_span *spans;
    bool *finished;
    size_t count, next, running;
    size_t through; /* of numbers: so many from the first on are finished, and nothing was found in them */
    uint64_t points;
    _Atomic uint64_t total_bytes; /* set on the lane */
    _Atomic bool cancelled;
    _Atomic uint64_t done_bytes;
};

struct scrub_job {
    struct vaultjob job;
    struct scrub *s;
    size_t index; /* of numbers */
    struct verify_result result;
};

/* On the idle threads. */
static void pace(void *arg, uint64_t bytes)
{
    struct scrub *s = arg;
    struct vaultd *d = s->vm->d;
    vaultpace_wait(&d->scrub_pace, &d->ingest_usec, bytes, &s->cancelled);
}

/* ---- the end ---- */

static void scrub_free(struct scrub *s)
{
    keyring_cleanse(&s->verify.keys);
    verify_result_done(&s->result);
    free(s->numbers);
    free(s->spans);
    free(s->finished);
    free(s);
}

static void scrub_finish(struct scrub *s)
{
    struct scrub_end end = {.err = s->err.code == ERR_NONE ? NULL : &s->err,
        .result = &s->result,
        .points = s->points,
        .after = s->spec.after_segment,
        .through = s->spec.after_segment};
    if (s->count > 1) /* the last one is still being written */
        end.through = s->numbers[s->count - 2];
    s->spec.done(s->spec.arg, &end);
    scrub_free(s);
}

/* The first failure counts, and ends the rest. */
static void fail(struct scrub *s, const struct err *why)
{
    if (s->err.code == ERR_NONE)
        err_copy(&s->err, why);
    atomic_store(&s->cancelled, true);
}

static void go_on(struct scrub *s);

static void join(struct scrub *s, const struct verify_result *r)
{
    struct err err = ERR_INIT;
    if (verify_result_join(&s->result, r, &err) < 0)
        fail(s, &err);
}

/* ---- the index ---- */

static int index_run(struct vaultjob *job, struct err *err)
{
    struct scrub_job *j = (struct scrub_job *)job;
    struct scrub *s = j->s;
    size_t count = 0;
    for (size_t i = 0; i < s->count; i++)
        if (!s->spans[i].gone)
            s->spans[count++] = s->spans[i];
    if (verify_order(&s->verify, s->spans, count, &j->result, err) < 0)
        return -1;
    return verify_index(&s->verify, &j->result, err);
}

static void index_done(struct vaultjob *job)
{
    struct scrub_job *j = (struct scrub_job *)job;
    struct scrub *s = j->s;
    if (job->result < 0)
        fail(s, &job->err);
    else
        join(s, &j->result);
    verify_result_done(&j->result);
    free(j);
    scrub_finish(s);
}

static struct scrub_job *job_new(
    struct scrub *s, int (*run)(struct vaultjob *j, struct err *err), void (*done)(struct vaultjob *j))
{
    struct scrub_job *j = mem_new(struct scrub_job);
    struct err err = ERR_INIT;
    if (j == NULL) {
        (void)err_set(&err, ERR_NOMEM, "no memory to verify");
        fail(s, &err);
        return NULL;
    }
    j->s = s;
    j->job.run = run;
    j->job.done = done;
    return j;
}

/* ---- segments ---- */

static int segment_run(struct vaultjob *job, struct err *err)
{
    struct scrub_job *j = (struct scrub_job *)job;
    struct scrub *s = j->s;
    return verify_segment(
        &s->verify, s->numbers[j->index], j->index + 1 < s->count, &s->spans[j->index], &j->result, err);
}

/* What was found counts only once the pass has ended: a pass that goes on after a restart must come by it again. */
static bool is_good(const struct scrub *s, uint64_t number)
{
    for (size_t i = 0; i < s->result.listed; i++)
        if (s->result.damages[i].segment == number)
            return false;
    return s->result.damage_count == s->result.listed;
}

static void advance(struct scrub *s)
{
    size_t before = s->through;
    while (s->through + 1 < s->count && s->finished[s->through] && is_good(s, s->numbers[s->through]))
        s->through++;
    if (s->through > before && s->spec.progress != NULL)
        s->spec.progress(s->spec.arg, s->numbers[s->through - 1]);
}

static void segment_done(struct vaultjob *job)
{
    struct scrub_job *j = (struct scrub_job *)job;
    struct scrub *s = j->s;
    s->running--;
    if (job->result < 0) {
        fail(s, &job->err);
    } else {
        join(s, &j->result);
        s->finished[j->index] = true;
        advance(s);
    }
    verify_result_done(&j->result);
    free(j);
    go_on(s);
}

static int submit(struct scrub *s, struct scrub_job *j)
{
    struct err err = ERR_INIT;
    if (j == NULL)
        return -1;
    if (vaultjob_idle(s->vm->d, s->vm, &j->job, &err) == 0)
        return 0;
    fail(s, &err);
    free(j);
    return -1;
}

static void go_on(struct scrub *s)
{
    if (s->vm->d->stopping && s->err.code == ERR_NONE)
        (void)err_set(&s->err, ERR_CANCELLED, "the vault is ending");
    while (
        s->err.code == ERR_NONE && !atomic_load(&s->cancelled) && s->next < s->count && s->running < s->spec.threads) {
        struct scrub_job *j = job_new(s, segment_run, segment_done);
        if (j != NULL)
            j->index = s->next;
        if (submit(s, j) < 0)
            break;
        s->next++;
        s->running++;
    }
    if (s->running > 0)
        return;
    if (s->err.code == ERR_NONE && atomic_load(&s->cancelled))
        (void)err_set(&s->err, ERR_CANCELLED, "verification was cancelled");
    if (s->err.code != ERR_NONE || submit(s, job_new(s, index_run, index_done)) < 0)
        scrub_finish(s);
}

/* ---- the beginning ---- */

static int take_segments(struct scrub *s, struct err *err)
{
    size_t from = 0;
    if (verify_segments(s->vm->dir, &s->numbers, &s->count, err) < 0)
        return -1;
    while (from < s->count && s->numbers[from] <= s->spec.after_segment)
        from++;
    s->count -= from;
    if (s->count > 0)
        memmove(s->numbers, s->numbers + from, s->count * sizeof(s->numbers[0]));
    s->spans = mem_alloc(s->count + 1, sizeof(*s->spans));
    s->finished = mem_alloc(s->count + 1, sizeof(*s->finished));
    if (s->spans == NULL || s->finished == NULL)
        return err_set(err, ERR_NOMEM, "no memory to verify");
    atomic_store(&s->total_bytes, verify_bytes(s->vm->dir, s->numbers, s->count));
    return 0;
}

static int prepare_run(struct vaultjob *job, struct err *err)
{
    struct scrub *s = ((struct scrub_job *)job)->s;
    struct store *store;
    if (vmachine_store(job->vm, &store, err) < 0 || store_mend_meta(store, err) < 0)
        return -1;
    store_keys(store, &s->verify.keys);
    s->verify.until_sequence = store_committed(store);
    s->points = store_points(store)->count;
    return take_segments(s, err);
}

static void prepare_done(struct vaultjob *job)
{
    struct scrub_job *j = (struct scrub_job *)job;
    struct scrub *s = j->s;
    if (job->result < 0)
        fail(s, &job->err);
    free(j);
    go_on(s);
}

int scrub_start(struct vmachine *vm, const struct scrub_spec *spec, struct scrub **ret_scrub, struct err *err)
{
    struct scrub *s = mem_new(struct scrub);
    struct scrub_job *j = mem_new(struct scrub_job);
    if (s == NULL || j == NULL) {
        free(s);
        free(j);
        return err_set(err, ERR_NOMEM, "no memory to verify");
    }
    s->vm = vm;
    s->spec = *spec;
    s->verify = (struct verify_spec){.machine_dir = vm->dir,
        .after_segment = spec->after_segment,
        .machine = vm->id,
        .cancelled = &s->cancelled,
        .done_bytes = &s->done_bytes,
        .pace = spec->paced ? pace : NULL,
        .pace_arg = s};
    j->s = s;
    j->job.run = prepare_run;
    j->job.done = prepare_done;
    if (vaultjob_lane(vm, &j->job, err) < 0) {
        free(j);
        scrub_free(s);
        return -1;
    }
    *ret_scrub = s;
    return 0;
}

void scrub_cancel(struct scrub *s)
{
    atomic_store(&s->cancelled, true);
}

void scrub_get_progress(const struct scrub *s, uint64_t *ret_done_bytes, uint64_t *ret_total_bytes)
{
    *ret_done_bytes = atomic_load(&s->done_bytes);
    *ret_total_bytes = atomic_load(&s->total_bytes);
}
