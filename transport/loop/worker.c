/* SPDX-License-Identifier: Apache-2.0
 *
 * The worker pool. Jobs wait in one of two queues, plain jobs and ready lanes, which the threads serve in
 * turn so that neither starves the other. A lane is ready when it has jobs and none of them runs; it goes to
 * the end of its queue after each job. A finished job moves to the list of done ones and the bell calls the
 * loop thread, which runs `done`.
 *
 * A job is entered among the done ones and its lane is let go under one lock, so `done` of a lane's last job
 * may free the lane at once.
 */
#include "transport/loop/worker.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>

#include "transport/base/clock.h"
#include "transport/base/mem.h"
#include "transport/loop/loop.h"

struct job_list {
    struct worker_job *head, *tail;
};

struct worker_lane {
    struct worker_pool *pool;
    struct job_list jobs;
    struct worker_lane *next_ready;
    bool busy; /* among the ready ones, or one of its jobs runs */
};

struct worker_pool {
    struct loop_bell *bell;
    size_t pending, queue_max; /* loop thread only */
    unsigned thread_count;
    char name[16]; /* pthread_setname_np's limit */

    /* The lock guards everything from here to `stopping`, and the members of every lane. */
    pthread_mutex_t lock;
    pthread_cond_t work, finished;
    struct job_list jobs, done;
    struct worker_lane *ready_head, *ready_tail;
    bool lane_turn; /* serve a lane first next time */
    bool stopping;

    pthread_t threads[];
};

static void push_job(struct job_list *list, struct worker_job *job)
{
    job->next = NULL;
    if (list->tail)
        list->tail->next = job;
    else
        list->head = job;
    list->tail = job;
}

static struct worker_job *pop_job(struct job_list *list)
{
    struct worker_job *job = list->head;

    if (job) {
        list->head = job->next;
        if (!list->head)
            list->tail = NULL;
    }
    return job;
}

static void push_ready(struct worker_pool *pool, struct worker_lane *lane)
{
    lane->next_ready = NULL;
    if (pool->ready_tail)
        pool->ready_tail->next_ready = lane;
    else
        pool->ready_head = lane;
    pool->ready_tail = lane;
}

static struct worker_lane *pop_ready(struct worker_pool *pool)
{
    struct worker_lane *lane = pool->ready_head;

    if (lane) {
        pool->ready_head = lane->next_ready;
        if (!pool->ready_head)
            pool->ready_tail = NULL;
    }
    return lane;
}

/* With the lock held: the next job, and its lane if it has one. NULL: nothing to do. */
static struct worker_job *next_job(struct worker_pool *pool, struct worker_lane **ret_lane)
{
    bool take_lane = pool->ready_head && (pool->lane_turn || !pool->jobs.head);

    pool->lane_turn = !take_lane;
    *ret_lane = take_lane ? pop_ready(pool) : NULL;
    return pop_job(*ret_lane ? &(*ret_lane)->jobs : &pool->jobs);
}

/* With the lock held. */
static void finish_job(struct worker_pool *pool, struct worker_job *job, struct worker_lane *lane)
{
    push_job(&pool->done, job);
    (void)pthread_cond_signal(&pool->finished);
    if (!lane)
        return;
    lane->busy = lane->jobs.head != NULL;
    if (lane->busy) {
        push_ready(pool, lane);
        (void)pthread_cond_signal(&pool->work);
    }
}

static void *work_until_stopped(void *arg)
{
    struct worker_pool *pool = arg;

    (void)pthread_setname_np(pthread_self(), pool->name);
    (void)pthread_mutex_lock(&pool->lock);
    while (!pool->stopping) {
        struct worker_lane *lane;
        struct worker_job *job = next_job(pool, &lane);
        if (!job) {
            (void)pthread_cond_wait(&pool->work, &pool->lock);
            continue;
        }
        (void)pthread_mutex_unlock(&pool->lock);
        job->was_run = true;
        job->run(job);
        (void)pthread_mutex_lock(&pool->lock);
        finish_job(pool, job, lane);
        loop_bell_post(pool->bell);
    }
    (void)pthread_mutex_unlock(&pool->lock);
    return NULL;
}

/* On the loop thread: runs `done` of everything that is finished. */
static void answer(void *arg)
{
    struct worker_pool *pool = arg;

    (void)pthread_mutex_lock(&pool->lock);
    struct job_list done = pool->done;
    pool->done = (struct job_list){0};
    (void)pthread_mutex_unlock(&pool->lock);
    for (struct worker_job *job; (job = pop_job(&done));) {
        pool->pending--;
        job->done(job);
    }
}

/* Threads take no signals: those belong to the loop. */
static int start_threads(struct worker_pool *pool, unsigned threads, struct err *err)
{
    sigset_t all, old;
    int rc = 0;

    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old);
    while (rc == 0 && pool->thread_count < threads) {
        rc = pthread_create(&pool->threads[pool->thread_count], NULL, work_until_stopped, pool);
        pool->thread_count += rc == 0;
    }
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    return rc == 0 ? 0 : err_sys(err, rc, "starting a worker thread");
}

int worker_pool_new(sd_event *loop, const char *name, unsigned threads, size_t queue_max, struct worker_pool **ret_pool,
    struct err *err)
{
    struct worker_pool *pool = mem_alloc(1, sizeof(*pool) + threads * sizeof(pool->threads[0]));
    pthread_condattr_t attr;

    if (!pool)
        return err_set(err, ERR_NOMEM, "out of memory for the workers %s", name);
    pool->queue_max = queue_max;
    (void)snprintf(pool->name, sizeof(pool->name), "%.15s", name);
    (void)pthread_mutex_init(&pool->lock, NULL);
    (void)pthread_cond_init(&pool->work, NULL);
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&pool->finished, &attr);
    (void)pthread_condattr_destroy(&attr);
    if (loop_bell_new(loop, answer, pool, &pool->bell, err) < 0 || start_threads(pool, threads, err) < 0) {
        worker_pool_free(pool);
        return -1;
    }
    *ret_pool = pool;
    return 0;
}

/* Until a job is among the finished ones. */
static bool wait_finished(struct worker_pool *pool, uint64_t until_usec)
{
    const struct timespec until = {
        .tv_sec = (time_t)(until_usec / USEC_PER_SEC), .tv_nsec = (long)(until_usec % USEC_PER_SEC * 1000)};
    int rc = 0;

    (void)pthread_mutex_lock(&pool->lock);
    while (!pool->done.head && rc == 0)
        rc = pthread_cond_timedwait(&pool->finished, &pool->lock, &until);
    (void)pthread_mutex_unlock(&pool->lock);
    return rc == 0;
}

int worker_pool_drain(struct worker_pool *pool, uint64_t limit_usec)
{
    uint64_t until = clock_mono_usec() + limit_usec;

    while (pool->pending > 0) {
        if (!wait_finished(pool, until))
            return -1;
        answer(pool);
        if (pool->pending > 0 && clock_mono_usec() >= until)
            return -1; /* also while something is always finished, for what `done` submits */
    }
    return 0;
}

static void stop_threads(struct worker_pool *pool)
{
    (void)pthread_mutex_lock(&pool->lock);
    pool->stopping = true;
    (void)pthread_cond_broadcast(&pool->work);
    (void)pthread_mutex_unlock(&pool->lock);
    for (unsigned i = 0; i < pool->thread_count; i++)
        (void)pthread_join(pool->threads[i], NULL);
}

/* What was never begun follows what was finished, each lane in its order. No thread runs any more. */
static void drop_waiting(struct worker_pool *pool)
{
    struct worker_lane *lane;

    for (struct worker_job *job; (job = pop_job(&pool->jobs));)
        push_job(&pool->done, job);
    while ((lane = pop_ready(pool))) {
        for (struct worker_job *job; (job = pop_job(&lane->jobs));)
            push_job(&pool->done, job);
        lane->busy = false;
    }
}

void worker_pool_free(struct worker_pool *pool)
{
    if (!pool)
        return;
    stop_threads(pool);
    drop_waiting(pool);
    answer(pool);
    loop_bell_free(pool->bell);
    (void)pthread_cond_destroy(&pool->work);
    (void)pthread_cond_destroy(&pool->finished);
    (void)pthread_mutex_destroy(&pool->lock);
    free(pool);
}

/* `stopping` is only ever set by the loop thread, which is the one that asks here. */
static int admit(struct worker_pool *pool, struct worker_job *job, struct err *err)
{
    if (pool->stopping)
        return err_set(err, ERR_CANCELLED, "the workers %s stop", pool->name);
    if (pool->pending >= pool->queue_max)
        return err_set(err, ERR_NOMEM, "%zu jobs wait for the workers %s already", pool->pending, pool->name);
    pool->pending++;
    job->was_run = false;
    return 0;
}

int worker_submit(struct worker_pool *pool, struct worker_job *job, struct err *err)
{
    if (admit(pool, job, err) < 0)
        return -1;
    (void)pthread_mutex_lock(&pool->lock);
    push_job(&pool->jobs, job);
    (void)pthread_cond_signal(&pool->work);
    (void)pthread_mutex_unlock(&pool->lock);
    return 0;
}

size_t worker_pending(const struct worker_pool *pool)
{
    return pool->pending;
}

struct worker_lane *worker_lane_new(struct worker_pool *pool)
{
    struct worker_lane *lane = mem_new(struct worker_lane);

    if (lane)
        lane->pool = pool;
    return lane;
}

void worker_lane_free(struct worker_lane *lane)
{
    free(lane);
}

int worker_lane_submit(struct worker_lane *lane, struct worker_job *job, struct err *err)
{
    struct worker_pool *pool = lane->pool;

    if (admit(pool, job, err) < 0)
        return -1;
    (void)pthread_mutex_lock(&pool->lock);
    push_job(&lane->jobs, job);
    if (!lane->busy) {
        lane->busy = true;
        push_ready(pool, lane);
        (void)pthread_cond_signal(&pool->work);
    }
    (void)pthread_mutex_unlock(&pool->lock);
    return 0;
}
