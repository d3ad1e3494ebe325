/* SPDX-License-Identifier: Apache-2.0
 *
 * Worker threads for what blocks: disk, compression, encryption, SQL. A pool owns its threads and a queue; a job runs
 * on one of them and its `done` runs later on the event-loop thread that owns the pool (woken through an eventfd).
 * Data is moved into the job and back, never shared.
 */
#ifndef TRANSPORT_LOOP_WORKER_H
#define TRANSPORT_LOOP_WORKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "transport/base/err.h"

struct worker_pool;

struct worker_job {
    void (*run)(struct worker_job *job);  /* on a worker thread */
    void (*done)(struct worker_job *job); /* on the loop thread, in completion order; may free the job */
    struct worker_job *next;              /* the pool's own */
    bool was_run;                         /* the pool's own */
};

/* In `done`: false when the pool was freed before the job began. */
static inline bool worker_job_was_run(const struct worker_job *job)
{
    return job->was_run;
}

/* threads >= 1; queue_max bounds the jobs that wait or run. Threads are named `name` for ps -L. */
int worker_pool_new(sd_event *loop, const char *name, unsigned threads, size_t queue_max, struct worker_pool **ret_pool,
    struct err *err);
/* Lets what was submitted come to its end, and what `done` submits meanwhile, for at most that long: before worker_pool_free where
 * nothing of it may be lost. 0: nothing is pending any more; -1: the time was over. Loop thread only. */
int worker_pool_drain(struct worker_pool *pool, uint64_t limit_usec);
/* Waits for running jobs, drops those not begun after calling their done (run was then not called: see
 * worker_job_was_run), frees. NULL is allowed. Loop thread only. */
void worker_pool_free(struct worker_pool *pool);
/* Embed struct worker_job as the first member of your own. ERR_NOMEM when the queue is full: that is back-pressure,
 * not a failure. Loop thread only. */
int worker_submit(struct worker_pool *pool, struct worker_job *job, struct err *err);
size_t worker_pending(const struct worker_pool *pool); /* submitted and not yet done */
/* A serial lane: jobs of one lane run one after the other, in order, on any thread of the pool. */
struct worker_lane;
struct worker_lane *worker_lane_new(struct worker_pool *pool);
void worker_lane_free(struct worker_lane *lane); /* with nothing pending in it */
int worker_lane_submit(struct worker_lane *lane, struct worker_job *job, struct err *err);

#endif
