/* SPDX-License-Identifier: Apache-2.0
 *
 * Each thread: form what is due, claim one delivery, let go of the database, send, note the answer. Happy path ends in `delivered`. A
 * failure is tried again after 5 s, then twice as long each time up to an hour, for a day; then the delivery has failed and an event
 * says so. A hub that is killed while it sends leaves a lease; a receiver that had taken the message by then gets it once more with the
 * same id.
 */
#include "hub/notify/notify.h"

#include <pthread.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "hub/db/channel_store.h"
#include "hub/db/journal.h"
#include "hub/db/secret_box.h"
#include "hub/notify/alert_message.h"
#include "hub/notify/courier.h"
#include "hub/notify/weekly_report.h"
#include "transport/base/clock.h"
#include "transport/base/log.h"

/* So that one receiver that hangs does not keep the others waiting. */
#define THREADS 3u
#define LEASE_USEC (30 * USEC_PER_SEC) /* above COURIER_TIMEOUT_SEC */
#define RETRY_FIRST_USEC (5 * USEC_PER_SEC)
#define RETRY_MAX_USEC (3600 * USEC_PER_SEC)
#define GIVE_UP_USEC (24 * 3600 * USEC_PER_SEC)
#define ERROR_PAUSE_USEC (2 * USEC_PER_SEC)

struct notify {
    struct db *db;
    struct news *news;
    const char *hub_id;
    atomic_bool stopping;
    pthread_t threads[THREADS];
    unsigned thread_count;
};

static uint64_t retry_after(const struct delivery_claim *c)
{
    uint64_t wait = RETRY_FIRST_USEC;

    if (clock_utc_usec() - c->created_at > GIVE_UP_USEC)
        return 0;
    for (uint64_t i = 1; i < c->attempts && wait < RETRY_MAX_USEC; i++)
        wait *= 2;
    wait = wait < RETRY_MAX_USEC ? wait : RETRY_MAX_USEC;
    return wait + clock_jitter_usec(wait / 4);
}

static int send_one(struct notify *n, const struct delivery_claim *c, struct err *err)
{
    AUTO_ALERT_MESSAGE struct alert_message message = {0};
    struct delivery_claim opened = *c;
    char *secret = NULL;
    int rc;

    if (alert_message_make(c, n->hub_id, &message, err) < 0 ||
        secret_open(n->db, c->channel_id, c->secret, &secret, err) < 0)
        return -1;
    opened.secret = secret;
    rc = courier_send(&opened, &message, &n->stopping, err);
    sodium_memzero(secret, strlen(secret));
    free(secret);
    return rc;
}

static int give_up(struct db_conn *conn, const struct delivery_claim *c, const struct err *why, struct err *err)
{
    const struct event_spec event = {.severity = "error",
        .code = "delivery_failed",
        .values = TEXT_VALUES(VALUE_TEXT("channel", c->channel_name), VALUE_TEXT("problem", why->text))};

    return event_append(conn, &event, err);
}

static int settle(struct notify *n, const struct delivery_claim *c, int sent, const struct err *why, struct err *err)
{
    struct db_conn *conn AUTO_OF(db_conn) = NULL;
    uint64_t retry = sent < 0 ? retry_after(c) : 0;

    if (db_acquire(n->db, &conn, err) < 0)
        return -1;
    if (sent == 0)
        return delivery_done(conn, c->id, err);
    log_event(LOG_WARN, "delivery_refused", LOG_S("channel", c->channel_name), LOG_S("delivery", c->id),
        LOG_U("attempt", c->attempts), LOG_E(why));
    if (db_begin(conn, err) < 0)
        return -1;
    if (delivery_failed(conn, c->id, why->text, retry, err) < 0 || (retry == 0 && give_up(conn, c, why, err) < 0)) {
        db_rollback(conn);
        return -1;
    }
    return db_commit(conn, err);
}

/* 1: one was worked on; 0: none is due, *ret_wait_usec says when; -1. No connection is held while a receiver is talked to. */
static int work(struct notify *n, uint64_t *ret_wait_usec, struct err *err)
{
    struct db_conn *conn AUTO_OF(db_conn) = NULL;
    struct delivery_claim claim = {0};
    struct err why = ERR_INIT;
    uint64_t form_wait = 0;
    int rc;

    if (db_acquire(n->db, &conn, err) < 0 || weekly_report_look(conn, err) < 0 ||
        delivery_form(conn, &form_wait, err) < 0)
        return -1;
    rc = delivery_claim(conn, LEASE_USEC, &claim, ret_wait_usec, err);
    *ret_wait_usec = form_wait < *ret_wait_usec ? form_wait : *ret_wait_usec;
    db_release(TAKE_PTR(conn));
    if (rc <= 0)
        return rc;
    rc = send_one(n, &claim, &why);
    if (rc == 0 || !atomic_load(&n->stopping))
        rc = settle(n, &claim, rc, &why, err);
    delivery_claim_done(&claim);
    return rc < 0 ? -1 : 1;
}

static void *notify_main(void *arg)
{
    struct notify *n = arg;

    while (!atomic_load(&n->stopping)) {
        uint64_t seen = news_count(n->news, NEWS_ALERTS), wait_usec = ERROR_PAUSE_USEC;
        struct err err = ERR_INIT;
        int rc = work(n, &wait_usec, &err);

        if (rc < 0 && err.code != ERR_UNAVAILABLE) /* a lost database is logged where it is watched (news) */
            log_event(LOG_ERROR, "notify_failed", LOG_E(&err));
        if (rc <= 0 && !atomic_load(&n->stopping))
            (void)news_wait(n->news, NEWS_ALERTS, seen, rc < 0 ? ERROR_PAUSE_USEC : wait_usec);
    }
    return NULL;
}

int notify_start(struct db *db, struct news *news, const char *hub_id, struct notify **ret_notify, struct err *err)
{
    struct notify *n = mem_new(struct notify);

    if (!n)
        return err_set(err, ERR_NOMEM, "no memory for notifications");
    n->db = db;
    n->news = news;
    n->hub_id = hub_id;
    if (courier_init(err) < 0) {
        free(n);
        return -1;
    }
    for (unsigned i = 0; i < THREADS; i++) {
        int rc = pthread_create(&n->threads[i], NULL, notify_main, n);

        if (rc != 0) {
            notify_stop(n);
            return err_sys(err, rc, "starting a thread for notifications");
        }
        (void)pthread_setname_np(n->threads[i], "notify");
        n->thread_count++;
    }
    *ret_notify = n;
    return 0;
}

void notify_stop(struct notify *n)
{
    if (!n)
        return;
    atomic_store(&n->stopping, true);
    news_poke(n->news);
    for (unsigned i = 0; i < n->thread_count; i++)
        pthread_join(n->threads[i], NULL);
    free(n);
}
