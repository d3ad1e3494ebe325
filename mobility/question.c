/* SPDX-License-Identifier: Apache-2.0
 *
 * One thread per question, and a list of those that nobody waits for any more. Who waits and who asks agree under one lock on which of
 * them frees the question. Failure modes: without a thread it is asked here, as if there were no limit (a machine that has none
 * left has other troubles); when too many are open, nobody is asked.
 */
#include "mobility/question.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "transport/base/clock.h"
#include "transport/base/mem.h"

#define OPEN_MAX 1024u           /* threads that hang at the same time: a large array has hundreds of paths */
#define STACK_BYTES (512u << 10) /* libblkid keeps its buffers on the heap */

/* Guards what follows, and the module's own part of all questions. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct question *open_ones; /* abandoned and not answered */
static unsigned open_count;

static void abandon(struct question *q)
{
    q->is_abandoned = true;
    q->next = open_ones;
    open_ones = q;
    open_count++;
}

static void forget(struct question *q)
{
    struct question **at = &open_ones;

    while (*at != q)
        at = &(*at)->next;
    *at = q->next;
    open_count--;
}

static void *ask_main(void *arg)
{
    struct question *q = arg;
    bool abandoned;

    q->ask(q);
    pthread_mutex_lock(&lock);
    q->is_answered = true;
    abandoned = q->is_abandoned;
    if (abandoned)
        forget(q);
    else
        pthread_cond_signal(&q->answered);
    pthread_mutex_unlock(&lock);
    if (abandoned) {
        pthread_cond_destroy(&q->answered);
        free(q);
    }
    return NULL;
}

static int start(struct question *q)
{
    pthread_attr_t attr;
    pthread_t thread;
    int r;

    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    r = pthread_create(&thread, &attr, ask_main, q);
    pthread_attr_destroy(&attr);
    return r;
}

static void init(struct question *q, const char *whom)
{
    pthread_condattr_t attr;

    (void)snprintf(q->whom, sizeof(q->whom), "%s", whom);
    q->is_answered = q->is_abandoned = false;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&q->answered, &attr);
    pthread_condattr_destroy(&attr);
}

static bool is_worth_asking(const char *whom)
{
    for (const struct question *q = open_ones; q; q = q->next)
        if (strcmp(q->whom, whom) == 0)
            return false;
    return open_count < OPEN_MAX;
}

/* With the lock. */
static bool wait_for_answer(struct question *q, uint64_t limit_usec)
{
    uint64_t until = clock_mono_usec() + limit_usec;
    struct timespec ts = {.tv_sec = (time_t)(until / USEC_PER_SEC), .tv_nsec = (long)(until % USEC_PER_SEC * 1000)};

    while (!q->is_answered)
        if (pthread_cond_timedwait(&q->answered, &lock, &ts) == ETIMEDOUT && !q->is_answered) {
            abandon(q);
            return false;
        }
    return true;
}

bool question_put(struct question *q, const char *whom, uint64_t limit_usec)
{
    bool answered;

    init(q, whom);
    pthread_mutex_lock(&lock);
    answered = is_worth_asking(q->whom);
    pthread_mutex_unlock(&lock);
    if (answered && start(q) != 0) {
        q->ask(q);
    } else if (answered) {
        pthread_mutex_lock(&lock);
        answered = wait_for_answer(q, limit_usec);
        pthread_mutex_unlock(&lock);
        if (!answered)
            return false; /* it is its thread's */
    }
    pthread_cond_destroy(&q->answered);
    if (!answered)
        free(q);
    return answered;
}
