/* SPDX-License-Identifier: Apache-2.0
 *
 * News between threads and between hubs: LISTEN/NOTIFY turned into counters. A thread of its own holds one
 * connection, listens, and counts per topic; after a lost connection every topic counts as changed. Whoever
 * waits reads the counter first, then the database, then waits for the counter to move: nothing is missed.
 */
#ifndef HUB_DB_NEWS_H
#define HUB_DB_NEWS_H

#include "hub/db/db.h"

enum news_topic {
    NEWS_JOBS,         /* a job was queued, changed, cancelled or answered */
    NEWS_EVENTS,       /* a row in events */
    NEWS_DESIRED,      /* a desired version grew */
    NEWS_CERTIFICATES, /* one was revoked */
    NEWS_COMMANDS,     /* one was queued for an agent, node or vault */
    NEWS_ALERTS,       /* an alert was raised, worsened or resolved; a delivery is due */
    NEWS_TOPIC_COUNT
};

struct news;
/* `hear` (may be NULL) runs on the thread of news for each change and must not block. */
int news_start(
    struct db *db, void (*hear)(void *arg, enum news_topic topic), void *arg, struct news **ret_news, struct err *err);
void news_stop(struct news *news); /* wakes every waiter; NULL is allowed */
uint64_t news_count(struct news *news, enum news_topic topic);
/* Waits until the counter is not `seen` or timeout_usec is over; returns the counter. Any thread. */
uint64_t news_wait(struct news *news, enum news_topic topic, uint64_t seen, uint64_t timeout_usec);
/* Whether it is connected and listens right now: the quickest sign that the database is there. */
bool news_is_connected(struct news *news);
/* Wakes every waiter once, as if each topic had news. */
void news_poke(struct news *news);
/* Wakes those of this process who wait for the topic: something that nobody else need hear of has changed when they must look again. */
void news_nudge(struct news *news, enum news_topic topic);
/* Tells all hubs on this database, when the caller's transaction commits (at once outside one). */
int news_tell(struct db_conn *conn, enum news_topic topic, struct err *err);

#endif
