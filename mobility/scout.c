/* SPDX-License-Identifier: Apache-2.0
 *
 * A thread that sleeps until a look is asked for. It and the asker each hold the structure, and whoever lets go last frees it: a look may
 * take seconds, which nobody who wants to end should wait for.
 */
#include "mobility/scout.h"

#include <errno.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <time.h>

#include "transport/base/clock.h"
#include "transport/base/mem.h"

struct scout {
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    unsigned holders;
    bool stop;
    void (*found)(void *arg);
    void *arg;
    bool asked;                        /* since the last look began */
    uint64_t began_usec;               /* of the last look that ended; 0: none has */
    struct inventory *found_inventory; /* of it; NULL: it failed, or was handed out */
    struct err problem;                /* of it; code ERR_NONE: none, or it was told */
};

static void release(struct scout *s)
{
    bool last;

    pthread_mutex_lock(&s->lock);
    last = --s->holders == 0;
    pthread_mutex_unlock(&s->lock);
    if (!last)
        return;
    inventory_free(s->found_inventory);
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

/* With the lock, which it lets go of meanwhile. */
static void look(struct scout *s)
{
    struct inventory *inventory = NULL;
    struct err problem = ERR_INIT;
    uint64_t began = clock_mono_usec();

    s->asked = false;
    pthread_mutex_unlock(&s->lock);
    (void)inventory_scan(NULL, &inventory, &problem);
    pthread_mutex_lock(&s->lock);
    inventory_free(s->found_inventory);
    s->found_inventory = inventory;
    err_copy(&s->problem, &problem);
    s->began_usec = began;
    pthread_cond_broadcast(&s->changed);
    if (!s->stop)
        s->found(s->arg);
}

static void *scout_main(void *arg)
{
    struct scout *s = arg;

    prctl(PR_SET_NAME, "scout");
    pthread_mutex_lock(&s->lock);
    while (!s->stop)
        if (s->asked)
            look(s);
        else
            pthread_cond_wait(&s->changed, &s->lock);
    pthread_mutex_unlock(&s->lock);
    release(s);
    return NULL;
}

int scout_new(void (*found)(void *arg), void *arg, struct scout **ret_scout, struct err *err)
{
    struct scout *s = mem_new(struct scout);
    pthread_condattr_t attr;
    pthread_t thread;
    int r;

    if (!s)
        return err_set(err, ERR_NOMEM, "no memory to look for disks");
    s->found = found;
    s->arg = arg;
    s->holders = 2;
    s->problem = (struct err)ERR_INIT;
    pthread_mutex_init(&s->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->changed, &attr);
    pthread_condattr_destroy(&attr);
    r = pthread_create(&thread, NULL, scout_main, s);
    if (r != 0) {
        s->holders = 1;
        release(s);
        return err_sys(err, r, "starting the thread that looks for disks");
    }
    (void)pthread_detach(thread);
    *ret_scout = s;
    return 0;
}

void scout_free(struct scout *s)
{
    if (!s)
        return;
    pthread_mutex_lock(&s->lock);
    s->stop = true;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    release(s);
}

void scout_ask(struct scout *s)
{
    pthread_mutex_lock(&s->lock);
    s->asked = true;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

int scout_take(struct scout *s, uint64_t since_usec, uint64_t wait_usec, struct inventory **ret_inventory,
    uint64_t *ret_began_usec, struct err *err)
{
    uint64_t until = clock_mono_usec() + wait_usec;
    struct timespec ts = {.tv_sec = (time_t)(until / USEC_PER_SEC), .tv_nsec = (long)(until % USEC_PER_SEC * 1000)};
    int r = 0;

    pthread_mutex_lock(&s->lock);
    while (
        s->began_usec < since_usec && wait_usec > 0 && pthread_cond_timedwait(&s->changed, &s->lock, &ts) != ETIMEDOUT)
        ;
    if (s->found_inventory) {
        *ret_inventory = TAKE_PTR(s->found_inventory);
        *ret_began_usec = s->began_usec;
        r = 1;
    } else if (s->problem.code != ERR_NONE) {
        if (err)
            err_copy(err, &s->problem);
        err_clear(&s->problem);
        r = -1;
    }
    pthread_mutex_unlock(&s->lock);
    return r;
}
