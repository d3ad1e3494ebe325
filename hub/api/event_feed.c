/* SPDX-License-Identifier: Apache-2.0
 *
 * One mutex guards ring and streams; it is held for memory work only, the query runs without it. Entries are numbered
 * from 0 as they enter the ring; a stream remembers the number that it wants next, so falling behind is one comparison.
 */
#include "hub/api/event_feed.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "hub/api/row_json.h"
#include "transport/base/clock.h"
#include "transport/base/log.h"
#include "transport/base/mem.h"

#define PAGE 500u

struct entry {
    uint64_t seq;
    char *text;
    size_t len;
    char machine_id[IDENT_TEXT_SIZE];
    char severity[12];
};

struct event_stream {
    struct event_feed *feed;
    struct event_stream *next;
    uint64_t want;      /* number of the entry to send next */
    size_t sent;        /* bytes of it that went out already */
    const char *notice; /* text that goes out before it: greeting, heartbeat, resync; static */
    size_t notice_sent;
    uint64_t quiet_since_usec;
    uint64_t after;     /* seen by the client, although the ring may learn of it only now */
    uint64_t ends_usec; /* then the client comes again and shows who it is */
    bool asleep;
    char machine_id[IDENT_TEXT_SIZE];
    char severities[64];
    void (*sleep)(void *arg);
    void (*wake)(void *arg);
    void *arg;
};

struct event_feed {
    struct db *db;
    pthread_t thread;
    bool started;
    pthread_mutex_t lock; /* everything below */
    pthread_cond_t news;
    bool stopping, has_news;
    struct entry ring[EVENT_FEED_KEPT];
    uint64_t count;    /* entries that ever entered */
    uint64_t last_seq; /* of the newest entry */
    bool loaded;       /* the past is in the ring */
    struct event_stream *streams;
    unsigned stream_count;
    bool ending; /* streams that are open are to end */
};

#define E(member_name, row_form, member)                                                                               \
    {                                                                                                                  \
        member_name, row_form, offsetof(struct event_row, member)                                                      \
    }
static const struct row_json_member event_members[] = {
    E("seq", ROW_NUMBER, seq),
    E("at", ROW_TIME, at),
    E("severity", ROW_TEXT, severity),
    E("code", ROW_TEXT, code),
    E("text", ROW_TEXT, text),
    E("remedy", ROW_TEXT, remedy),
    E("values", ROW_OBJECT, values_json),
    E("machine_id", ROW_TEXT_OR_NULL, machine_id),
    E("machine_name", ROW_TEXT_OR_NULL, machine_name),
    E("node_id", ROW_TEXT_OR_NULL, node_id),
    E("vault_id", ROW_TEXT_OR_NULL, vault_id),
    E("job_id", ROW_TEXT_OR_NULL, job_id),
    E("actor", ROW_TEXT_OR_NULL, actor),
};
#undef E

json_t *event_row_json(const struct event_row *row)
{
    return row_json(row, event_members, ARRAY_LEN(event_members));
}

/* ---- the ring ---- */

static uint64_t ring_first(const struct event_feed *feed)
{
    return feed->count > EVENT_FEED_KEPT ? feed->count - EVENT_FEED_KEPT : 0;
}

static void ring_add(struct event_feed *feed, const struct event_row *row)
{
    struct entry *entry = &feed->ring[feed->count % EVENT_FEED_KEPT];
    json_t *json = event_row_json(row);
    AUTO_FREE char *data = json ? json_dumps(json, REPLY_JSON_FLAGS) : NULL;
    char *text = data ? mem_printf("id: %llu\ndata: %s\n\n", (unsigned long long)row->seq, data) : NULL;

    json_decref(json);
    feed->last_seq = row->seq;
    if (!text) /* no memory: clients see a gap in the ids, and the list has it */
        return;
    free(entry->text);
    *entry = (struct entry){.seq = row->seq, .text = text, .len = strlen(text)};
    (void)snprintf(entry->machine_id, sizeof(entry->machine_id), "%s", row->machine_id);
    (void)snprintf(entry->severity, sizeof(entry->severity), "%s", row->severity);
    feed->count++;
}

/* Reads what is newer than the ring, one page; returns how many came, -1 when the database does not answer. */
static int load_page(struct event_feed *feed, uint64_t after, const char *sort, uint32_t limit, bool backwards)
{
    char from[24];
    const struct db_filter newer = {"seq", DB_GE, from};
    const struct db_page page = {.filters = &newer, .filter_count = 1, .sort = sort, .limit = limit};
    AUTO_DB_SET struct db_set set = {0};
    struct db_conn *conn AUTO_OF(db_conn) = NULL;
    struct err err = ERR_INIT;

    (void)snprintf(from, sizeof(from), "%llu", (unsigned long long)after + 1);
    if (db_acquire(feed->db, &conn, &err) < 0 || db_list(conn, &db_events, &page, &set, &err) < 0) {
        log_event(LOG_DEBUG, "event_feed_waits", LOG_E(&err));
        return -1;
    }
    pthread_mutex_lock(&feed->lock);
    for (size_t i = 0; i < set.count; i++)
        ring_add(feed, db_at(&set, struct event_row, backwards ? set.count - 1 - i : i));
    pthread_mutex_unlock(&feed->lock);
    return (int)set.count;
}

static void load_new(struct event_feed *feed)
{
    int n;

    if (!feed->loaded) { /* the newest page of the past, turned round */
        if (load_page(feed, 0, "-seq", PAGE, true) < 0)
            return;
        pthread_mutex_lock(&feed->lock);
        feed->loaded = true;
        pthread_mutex_unlock(&feed->lock);
    }
    do
        n = load_page(feed, feed->last_seq, "seq", PAGE, false);
    while (n == (int)PAGE);
}

/* ---- streams ---- */

static bool severity_listed(const char *list, const char *severity)
{
    size_t n = strlen(severity);

    for (const char *at = list; *at; at += strcspn(at, ",") + (at[strcspn(at, ",")] == ','))
        if (strcspn(at, ",") == n && strncmp(at, severity, n) == 0)
            return true;
    return false;
}

static bool stream_wants(const struct event_stream *s, const struct entry *e)
{
    return e->seq > s->after && (!s->machine_id[0] || strcmp(s->machine_id, e->machine_id) == 0) &&
           (!s->severities[0] || severity_listed(s->severities, e->severity));
}

static const char greeting[] = "retry: 3000\n: events follow\n\n";
static const char heartbeat[] = ": still here\n\n";
static const char resync[] = "event: resync\ndata: {}\n\n";

/* Passes over what the client did not ask for and notices that it fell behind; true when there is something to send. */
static bool stream_advance(struct event_stream *s)
{
    struct event_feed *feed = s->feed;

    if (s->notice)
        return true;
    if (s->want < ring_first(feed)) {
        s->notice = resync;
        s->sent = 0;
        s->want = feed->count;
        return true;
    }
    while (s->want < feed->count && !stream_wants(s, &feed->ring[s->want % EVENT_FEED_KEPT]))
        s->want++;
    if (s->want < feed->count)
        return true;
    if (clock_mono_usec() - s->quiet_since_usec >= EVENT_HEARTBEAT_SEC * USEC_PER_SEC)
        s->notice = heartbeat;
    return s->notice != NULL;
}

static size_t take(char *out, size_t room, const char *text, size_t len, size_t *sent)
{
    size_t n = len - *sent < room ? len - *sent : room;

    memcpy(out, text + *sent, n);
    *sent += n;
    return n;
}

static size_t stream_fill(struct event_stream *s, char *out, size_t room)
{
    size_t n = 0;

    while (n < room && stream_advance(s)) {
        if (s->notice) {
            n += take(out + n, room - n, s->notice, strlen(s->notice), &s->notice_sent);
            if (s->notice_sent == strlen(s->notice)) {
                s->notice = NULL;
                s->notice_sent = 0;
                s->quiet_since_usec = clock_mono_usec();
            }
        } else {
            const struct entry *e = &s->feed->ring[s->want % EVENT_FEED_KEPT];

            n += take(out + n, room - n, e->text, e->len, &s->sent);
            if (s->sent == e->len) {
                s->want++;
                s->sent = 0;
            }
        }
    }
    if (n > 0)
        s->quiet_since_usec = clock_mono_usec();
    return n;
}

ssize_t event_stream_read(struct event_stream *s, char *out, size_t n)
{
    struct event_feed *feed = s->feed;
    ssize_t rc;

    pthread_mutex_lock(&feed->lock);
    rc = feed->ending || clock_mono_usec() >= s->ends_usec ? -1 : (ssize_t)stream_fill(s, out, n);
    if (rc == 0) {
        s->asleep = true;
        s->sleep(s->arg);
    }
    pthread_mutex_unlock(&feed->lock);
    return rc;
}

/* With the lock held. */
static void wake_streams(struct event_feed *feed)
{
    for (struct event_stream *s = feed->streams; s; s = s->next)
        if (s->asleep && (feed->ending || stream_advance(s))) {
            s->asleep = false;
            s->wake(s->arg);
        }
}

/* Where in the ring a client goes on. */
static void stream_place(struct event_stream *s, const struct event_stream_spec *spec)
{
    struct event_feed *feed = s->feed;

    s->notice = greeting;
    s->want = feed->count;
    if (!spec->resume)
        return;
    if (spec->after > feed->last_seq + EVENT_FEED_KEPT) { /* of another database, or made up */
        s->notice = resync;
        s->after = 0;
        return;
    }
    while (s->want > ring_first(feed) && feed->ring[(s->want - 1) % EVENT_FEED_KEPT].seq > spec->after)
        s->want--;
    /* Events between `after` and the ring's first may be missing, unless the ring reaches back to it. */
    if (s->want == ring_first(feed) && s->want < feed->count &&
        feed->ring[s->want % EVENT_FEED_KEPT].seq > spec->after + 1) {
        s->notice = resync;
        s->want = feed->count;
    }
}

int event_stream_open(
    struct event_feed *feed, const struct event_stream_spec *spec, struct event_stream **ret_stream, struct err *err)
{
    struct event_stream *s = mem_new(struct event_stream);
    bool full;

    if (!s)
        return err_set(err, ERR_NOMEM, "no memory for an event stream");
    s->feed = feed;
    s->quiet_since_usec = clock_mono_usec();
    s->ends_usec = s->quiet_since_usec + EVENT_STREAM_SEC * USEC_PER_SEC;
    s->after = spec->resume ? spec->after : 0;
    (void)snprintf(s->machine_id, sizeof(s->machine_id), "%s", spec->machine_id ? spec->machine_id : "");
    (void)snprintf(s->severities, sizeof(s->severities), "%s", spec->severities ? spec->severities : "");
    pthread_mutex_lock(&feed->lock);
    full = feed->stream_count >= EVENT_STREAMS_MAX || feed->ending;
    if (!full) {
        stream_place(s, spec);
        s->next = feed->streams;
        feed->streams = s;
        feed->stream_count++;
    }
    pthread_mutex_unlock(&feed->lock);
    if (full) {
        free(s);
        (void)err_set(err, ERR_UNAVAILABLE, "%u event streams are open, or the hub is going down", EVENT_STREAMS_MAX);
        return err_hint(err, "Close streams that nobody reads, or read the list of events instead.");
    }
    *ret_stream = s;
    return 0;
}

void event_stream_bind(struct event_stream *s, void (*sleep)(void *arg), void (*wake)(void *arg), void *arg)
{
    s->sleep = sleep;
    s->wake = wake;
    s->arg = arg;
}

void event_stream_close(struct event_stream *s)
{
    if (!s)
        return;
    pthread_mutex_lock(&s->feed->lock);
    for (struct event_stream **at = &s->feed->streams; *at; at = &(*at)->next)
        if (*at == s) {
            *at = s->next;
            s->feed->stream_count--;
            break;
        }
    pthread_mutex_unlock(&s->feed->lock);
    free(s);
}

/* ---- the thread ---- */

static void wait_for_news(struct event_feed *feed)
{
    struct timespec until;

    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += 1; /* heartbeats, and news that got lost with a connection of the database */
    pthread_mutex_lock(&feed->lock);
    while (!feed->has_news && !feed->stopping)
        if (pthread_cond_timedwait(&feed->news, &feed->lock, &until) != 0)
            break;
    feed->has_news = false;
    pthread_mutex_unlock(&feed->lock);
}

static bool is_stopping(struct event_feed *feed)
{
    bool stopping;

    pthread_mutex_lock(&feed->lock);
    stopping = feed->stopping;
    pthread_mutex_unlock(&feed->lock);
    return stopping;
}

static void *feed_main(void *arg)
{
    struct event_feed *feed = arg;

    (void)pthread_setname_np(pthread_self(), "api-events");
    while (!is_stopping(feed)) {
        load_new(feed);
        pthread_mutex_lock(&feed->lock);
        wake_streams(feed);
        pthread_mutex_unlock(&feed->lock);
        wait_for_news(feed);
    }
    return NULL;
}

int event_feed_start(struct db *db, struct event_feed **ret_feed, struct err *err)
{
    struct event_feed *feed = mem_new(struct event_feed);
    pthread_condattr_t attr;

    if (!feed)
        return err_set(err, ERR_NOMEM, "no memory for the event feed");
    feed->db = db;
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&feed->news, &attr);
    (void)pthread_condattr_destroy(&attr);
    (void)pthread_mutex_init(&feed->lock, NULL);
    if (pthread_create(&feed->thread, NULL, feed_main, feed) != 0) {
        event_feed_free(feed);
        return err_set(err, ERR_NOMEM, "cannot start the thread of the event feed");
    }
    feed->started = true;
    *ret_feed = feed;
    return 0;
}

void event_feed_news(struct event_feed *feed)
{
    pthread_mutex_lock(&feed->lock);
    feed->has_news = true;
    pthread_cond_signal(&feed->news);
    pthread_mutex_unlock(&feed->lock);
}

void event_feed_end_streams(struct event_feed *feed)
{
    pthread_mutex_lock(&feed->lock);
    feed->ending = true;
    wake_streams(feed);
    pthread_mutex_unlock(&feed->lock);
}

void event_feed_stop(struct event_feed *feed)
{
    if (!feed || !feed->started)
        return;
    event_feed_end_streams(feed);
    pthread_mutex_lock(&feed->lock);
    feed->stopping = true;
    pthread_cond_signal(&feed->news);
    pthread_mutex_unlock(&feed->lock);
    (void)pthread_join(feed->thread, NULL);
    feed->started = false;
}

void event_feed_free(struct event_feed *feed)
{
    if (!feed)
        return;
    event_feed_stop(feed);
    for (size_t i = 0; i < EVENT_FEED_KEPT; i++)
        free(feed->ring[i].text);
    (void)pthread_cond_destroy(&feed->news);
    (void)pthread_mutex_destroy(&feed->lock);
    free(feed);
}
