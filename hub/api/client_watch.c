/* SPDX-License-Identifier: Apache-2.0
 *
 * One mutex guards the list of clients; a client leaves it before its descriptor is closed, so that shutdown() never
 * reaches a descriptor that was given out again. A walk over a thousand clients once a second costs microseconds.
 */
#include "hub/api/client_watch.h"

#include <pthread.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <time.h>

#include "transport/base/clock.h"
#include "transport/base/log.h"
#include "transport/base/mem.h"

struct client {
    struct client *next, **link;
    int fd;
    uint64_t deadline_usec; /* 0: none */
};

struct client_watch {
    pthread_t thread;
    pthread_mutex_t lock; /* the list and `stopping` */
    pthread_cond_t stop;
    struct client *clients;
    bool stopping;
};

static void shut_late(struct client_watch *watch)
{
    uint64_t now = clock_mono_usec();
    unsigned late = 0;

    for (struct client *c = watch->clients; c; c = c->next)
        if (c->deadline_usec && c->deadline_usec <= now) {
            c->deadline_usec = 0;
            (void)shutdown(c->fd, SHUT_RDWR);
            late++;
        }
    if (late)
        log_event(LOG_WARN, "api_clients_too_slow", LOG_U("count", late));
}

static void *watch_main(void *arg)
{
    struct client_watch *watch = arg;

    (void)pthread_setname_np(pthread_self(), "api-clients");
    pthread_mutex_lock(&watch->lock);
    while (!watch->stopping) {
        struct timespec until;

        (void)clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += 1;
        (void)pthread_cond_timedwait(&watch->stop, &watch->lock, &until);
        shut_late(watch);
    }
    pthread_mutex_unlock(&watch->lock);
    return NULL;
}

int client_watch_start(struct client_watch **ret_watch, struct err *err)
{
    struct client_watch *watch = mem_new(struct client_watch);
    pthread_condattr_t attr;

    if (!watch)
        return err_set(err, ERR_NOMEM, "no memory for the API's clients");
    (void)pthread_mutex_init(&watch->lock, NULL);
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&watch->stop, &attr);
    (void)pthread_condattr_destroy(&attr);
    if (pthread_create(&watch->thread, NULL, watch_main, watch) != 0) {
        free(watch);
        return err_set(err, ERR_NOMEM, "cannot start the thread that watches the API's clients");
    }
    *ret_watch = watch;
    return 0;
}

void client_watch_stop(struct client_watch *watch)
{
    if (!watch)
        return;
    pthread_mutex_lock(&watch->lock);
    watch->stopping = true;
    pthread_cond_signal(&watch->stop);
    pthread_mutex_unlock(&watch->lock);
    (void)pthread_join(watch->thread, NULL);
    (void)pthread_cond_destroy(&watch->stop);
    (void)pthread_mutex_destroy(&watch->lock);
    free(watch);
}

struct client *client_enter(struct client_watch *watch, int fd)
{
    struct client *c = mem_new(struct client);

    if (!c)
        return NULL;
    c->fd = fd;
    c->deadline_usec = clock_mono_usec() + CLIENT_REQUEST_SEC * USEC_PER_SEC;
    pthread_mutex_lock(&watch->lock);
    c->next = watch->clients;
    c->link = &watch->clients;
    if (c->next)
        c->next->link = &c->next;
    watch->clients = c;
    pthread_mutex_unlock(&watch->lock);
    return c;
}

void client_leave(struct client_watch *watch, struct client *c)
{
    if (!c)
        return;
    pthread_mutex_lock(&watch->lock);
    *c->link = c->next;
    if (c->next)
        c->next->link = c->link;
    pthread_mutex_unlock(&watch->lock);
    free(c);
}

void client_allow(struct client_watch *watch, struct client *c, unsigned seconds)
{
    if (!c)
        return;
    pthread_mutex_lock(&watch->lock);
    c->deadline_usec = seconds ? clock_mono_usec() + seconds * USEC_PER_SEC : 0;
    pthread_mutex_unlock(&watch->lock);
}
