/* SPDX-License-Identifier: Apache-2.0
 *
 * One thread on one connection that LISTENs to the channel `leeward`; the payload is the topic. Happy path: poll on the
 * socket and the stop eventfd, count, wake waiters. When the connection breaks it connects again and counts every topic
 * as changed, because what happened meanwhile was not heard.
 */
#include "hub/db/news.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>

#include "transport/base/clock.h"
#include "transport/base/log.h"

/* A silent connection may be dead without a FIN (a failed-over managed cluster): ask it this often. */
#define PROBE_MSEC 10000
#define RECONNECT_MSEC 500

static const char *const topic_names[NEWS_TOPIC_COUNT] = {
    [NEWS_JOBS] = "jobs",
    [NEWS_EVENTS] = "events",
    [NEWS_DESIRED] = "desired",
    [NEWS_CERTIFICATES] = "certificates",
    [NEWS_COMMANDS] = "commands",
    [NEWS_ALERTS] = "alerts",
};

struct news {
    struct db *db;
    void (*hear)(void *arg, enum news_topic topic);
    void *arg;
    pthread_t thread;
    int stop_fd;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    uint64_t counts[NEWS_TOPIC_COUNT];
    bool stopped, connected;
};

static void count_topic(struct news *news, enum news_topic topic)
{
    pthread_mutex_lock(&news->lock);
    news->counts[topic]++;
    pthread_cond_broadcast(&news->changed);
    pthread_mutex_unlock(&news->lock);
    if (news->hear)
        news->hear(news->arg, topic);
}

static void count_all(struct news *news)
{
    for (int t = 0; t < NEWS_TOPIC_COUNT; t++)
        count_topic(news, (enum news_topic)t);
}

static void take_notifications(struct news *news, PGconn *pg)
{
    bool heard[NEWS_TOPIC_COUNT] = {false};

    for (PGnotify *n; (n = PQnotifies(pg)); PQfreemem(n))
        for (int t = 0; t < NEWS_TOPIC_COUNT; t++)
            heard[t] |= strcmp(n->extra, topic_names[t]) == 0;
    for (int t = 0; t < NEWS_TOPIC_COUNT; t++)
        if (heard[t])
            count_topic(news, (enum news_topic)t);
}

static void set_connected(struct news *news, bool connected)
{
    pthread_mutex_lock(&news->lock);
    news->connected = connected;
    pthread_mutex_unlock(&news->lock);
}

static bool is_stopped(struct news *news)
{
    pthread_mutex_lock(&news->lock);
    bool stopped = news->stopped;

    pthread_mutex_unlock(&news->lock);
    return stopped;
}

/* Until the connection breaks or it is time to stop. */
static void listen_on(struct news *news, struct db_conn *conn)
{
    PGconn *pg = db_raw(conn);

    if (db_script(conn, "LISTEN leeward", NULL) < 0)
        return;
    set_connected(news, true);
    count_all(news);
    while (!is_stopped(news)) {
        struct pollfd p[2] = {
            {.fd = PQsocket(pg), .events = POLLIN},
            {.fd = news->stop_fd, .events = POLLIN},
        };
        int n = poll(p, 2, PROBE_MSEC);

        if (n < 0 && errno != EINTR)
            return;
        if (n == 0 && db_script(conn, "SELECT 1", NULL) < 0)
            return;
        if (PQconsumeInput(pg) != 1 || PQstatus(pg) != CONNECTION_OK)
            return;
        take_notifications(news, pg);
    }
    (void)db_script(conn, "UNLISTEN *", NULL);
}

static void *news_main(void *arg)
{
    struct news *news = arg;
    bool lost = false;

    while (!is_stopped(news)) {
        struct db_conn *conn AUTO_OF(db_conn) = NULL;
        struct err err = ERR_INIT;

        if (db_acquire(news->db, &conn, &err) == 0) {
            if (lost)
                log_event(LOG_INFO, "database_back");
            lost = false;
            listen_on(news, conn);
            set_connected(news, false);
            continue;
        }
        if (!lost)
            log_event(LOG_ERROR, "database_lost", LOG_E(&err), LOG_S("correction", err.correction));
        lost = true;
        struct pollfd p = {.fd = news->stop_fd, .events = POLLIN};

        (void)poll(&p, 1, RECONNECT_MSEC);
    }
    return NULL;
}

int news_start(
    struct db *db, void (*hear)(void *arg, enum news_topic topic), void *arg, struct news **ret_news, struct err *err)
{
    struct news *news = mem_new(struct news);
    pthread_condattr_t attr;
    int rc;

    if (!news)
        return err_set(err, ERR_NOMEM, "no memory for the news thread");
    *news = (struct news){.db = db, .hear = hear, .arg = arg, .stop_fd = eventfd(0, EFD_CLOEXEC)};
    if (news->stop_fd < 0) {
        free(news);
        return err_sys(err, errno, "making an eventfd");
    }
    pthread_mutex_init(&news->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&news->changed, &attr);
    pthread_condattr_destroy(&attr);
    if ((rc = pthread_create(&news->thread, NULL, news_main, news)) != 0) {
        (void)close(news->stop_fd);
        free(news);
        return err_sys(err, rc, "starting the news thread");
    }
    *ret_news = news;
    return 0;
}

void news_stop(struct news *news)
{
    if (!news)
        return;
    pthread_mutex_lock(&news->lock);
    news->stopped = true;
    pthread_cond_broadcast(&news->changed);
    pthread_mutex_unlock(&news->lock);
    (void)eventfd_write(news->stop_fd, 1);
    pthread_join(news->thread, NULL);
    (void)close(news->stop_fd);
    pthread_cond_destroy(&news->changed);
    pthread_mutex_destroy(&news->lock);
    free(news);
}

uint64_t news_count(struct news *news, enum news_topic topic)
{
    pthread_mutex_lock(&news->lock);
    uint64_t count = news->counts[topic];

    pthread_mutex_unlock(&news->lock);
    return count;
}

uint64_t news_wait(struct news *news, enum news_topic topic, uint64_t seen, uint64_t timeout_usec)
{
    uint64_t at = clock_mono_usec() + timeout_usec, count;
    struct timespec until = {.tv_sec = (time_t)(at / USEC_PER_SEC), .tv_nsec = (long)(at % USEC_PER_SEC) * 1000};
    int rc = 0;

    pthread_mutex_lock(&news->lock);
    while (news->counts[topic] == seen && !news->stopped && rc == 0)
        rc = pthread_cond_timedwait(&news->changed, &news->lock, &until);
    count = news->counts[topic];
    pthread_mutex_unlock(&news->lock);
    return count;
}

bool news_is_connected(struct news *news)
{
    pthread_mutex_lock(&news->lock);
    bool connected = news->connected;

    pthread_mutex_unlock(&news->lock);
    return connected;
}

void news_poke(struct news *news)
{
    pthread_mutex_lock(&news->lock);
    for (int t = 0; t < NEWS_TOPIC_COUNT; t++)
        news->counts[t]++;
    pthread_cond_broadcast(&news->changed);
    pthread_mutex_unlock(&news->lock);
}

void news_nudge(struct news *news, enum news_topic topic)
{
    pthread_mutex_lock(&news->lock);
    news->counts[topic]++;
    pthread_cond_broadcast(&news->changed);
    pthread_mutex_unlock(&news->lock);
}

int news_tell(struct db_conn *conn, enum news_topic topic, struct err *err)
{
    return db_exec(conn, NULL, err, "SELECT pg_notify('leeward', $1)", DB_S(topic_names[topic])) < 0 ? -1 : 0;
}
