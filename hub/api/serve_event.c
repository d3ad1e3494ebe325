/* SPDX-License-Identifier: Apache-2.0
 *
 * Events: the list of what happened, and the stream of what happens.
 */
#include "hub/api/serve.h"

#include <stdlib.h>

#include "hub/api/event_feed.h"
#include "hub/api/row_json.h"
#include "hub/db/rows.h"

static json_t *event_json(const struct request *r, const void *row)
{
    (void)r;
    return event_row_json(row);
}

static const struct row_filter event_filters[] = {
    {"severity", "severity", DB_EQ},
    {"code", "code", DB_EQ},
    {"machine_id", "machine_id", DB_EQ},
    {"after", "at", DB_GE},
    {"before", "at", DB_LT},
};

int serve_event_list(struct request *r, struct err *err)
{
    const struct row_list list = {
        .entity = &db_events,
        .filters = event_filters,
        .filter_count = ARRAY_LEN(event_filters),
        .item = event_json,
    };

    return row_list_serve(r, &list, err);
}

int serve_event_stream(struct request *r, struct err *err)
{
    const char *last = r->headers.last_event_id;
    const struct event_stream_spec spec = {
        .resume = last && *last,
        .after = last ? strtoull(last, NULL, 10) : 0,
        .machine_id = request_query(r, "machine_id"),
        .severities = request_query(r, "severity"),
    };
    struct event_stream *stream;

    if (event_stream_open(r->services->feed, &spec, &stream, err) < 0)
        return -1;
    reply_clear(r);
    r->reply.status = 200;
    r->reply.content_type = "text/event-stream";
    r->reply.stream = stream;
    return 0;
}
