/* SPDX-License-Identifier: Apache-2.0
 *
 * Events as they come, for any number of Server-Sent-Events clients with one thread and one query: a thread of the feed
 * reads what is new, keeps the last EVENT_FEED_KEPT of them as finished text in a ring, and wakes the streams. A stream is
 * a place in the ring; a client that asks to go on from before the ring, or falls out of it, gets `event: resync`.
 * Format: WHATWG HTML, "Server-sent events".
 */
#ifndef HUB_API_EVENT_FEED_H
#define HUB_API_EVENT_FEED_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "hub/db/rows.h"
#include "transport/base/err.h"

#define EVENT_FEED_KEPT 4096u
#define EVENT_STREAMS_MAX 256u
#define EVENT_HEARTBEAT_SEC 15u
#define EVENT_STREAM_SEC 300u /* a stream ends then; who was locked out meanwhile does not come in again */

struct event_feed;
struct event_stream;

/* Starts the thread. The database need not be there yet. */
int event_feed_start(struct db *db, struct event_feed **ret_feed, struct err *err);
/* Ends all streams, joins the thread. Streams must be closed before event_feed_free. Both accept NULL. */
void event_feed_stop(struct event_feed *feed);
void event_feed_free(struct event_feed *feed);
/* Something was recorded; any thread. */
void event_feed_news(struct event_feed *feed);
/* Ends the streams that are open; clients come back elsewhere. */
void event_feed_end_streams(struct event_feed *feed);

struct event_stream_spec {
    bool resume; /* go on after the event `after` */
    uint64_t after;
    const char *machine_id; /* NULL: all */
    const char *severities; /* "warning,error"; NULL: all */
};
/* ERR_UNAVAILABLE when EVENT_STREAMS_MAX are open. */
int event_stream_open(
    struct event_feed *feed, const struct event_stream_spec *spec, struct event_stream **ret_stream, struct err *err);
void event_stream_close(struct event_stream *stream); /* NULL is allowed */
/* Before the first read: `sleep` is called inside event_stream_read when there is nothing to send, `wake` from another
 * thread when there is again. Neither may call back into the feed. */
void event_stream_bind(struct event_stream *stream, void (*sleep)(void *arg), void (*wake)(void *arg), void *arg);
/* Up to n bytes; 0: nothing now, `sleep` was called; -1: the stream is over. */
ssize_t event_stream_read(struct event_stream *stream, char *out, size_t n);

/* An event as the API shows it; new reference, NULL without memory. */
json_t *event_row_json(const struct event_row *row);

#endif
