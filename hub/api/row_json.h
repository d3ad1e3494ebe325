/* SPDX-License-Identifier: Apache-2.0
 *
 * Rows of the database as JSON, by tables: one line per member says where in the row struct it is and how it is written.
 */
#ifndef HUB_API_ROW_JSON_H
#define HUB_API_ROW_JSON_H

#include <jansson.h>
#include <stddef.h>

#include "hub/api/http_request.h"
#include "hub/db/entity.h"
#include "transport/base/buf.h"

enum row_json_form {
    ROW_TEXT,           /* const char *; as it is */
    ROW_TEXT_OR_NULL,   /* const char *; "" -> null */
    ROW_NUMBER,         /* uint64_t */
    ROW_SIGNED_OR_NULL, /* int64_t; negative -> null */
    ROW_DIGITS,         /* uint64_t that may pass 2^53: a string */
    ROW_ETAG,           /* uint64_t: a string */
    ROW_BOOL,
    ROW_TIME,           /* uint64_t UTC microseconds; 0 -> null */
    ROW_SECONDS,        /* uint64_t microseconds -> number of seconds */
    ROW_SIGNED_SECONDS, /* int64_t */
    ROW_PERCENT,        /* uint64_t permille -> number of percent */
    ROW_ARRAY,          /* const char * that holds a JSON array; anything else -> [] */
    ROW_OBJECT,         /* const char * that holds a JSON object; anything else -> {} */
    ROW_OBJECT_OR_NULL,
};

struct row_json_member {
    const char *name;
    enum row_json_form form;
    size_t offset;
};

/* A new object, NULL without memory. */
json_t *row_json(const void *row, const struct row_json_member *members, size_t count);
/* Members of one row more into an object; what it has of these names is replaced. -1 without memory. */
int row_json_add(json_t *object, const void *row, const struct row_json_member *members, size_t count);
/* Seconds as a JSON number without superfluous digits: an integer where they are whole. */
json_t *row_json_seconds(int64_t usec);
json_t *row_json_time(uint64_t utc_usec);

/* A query parameter of a list that filters a field of the entity. */
struct row_filter {
    const char *parameter, *field;
    enum db_op op;
};
#define ROW_LIST_FILTERS_MAX 12

struct row_list {
    const struct db_entity *entity;
    const struct row_filter *filters;
    size_t filter_count;
    /* A fixed condition, such as the machine whose points are listed; field NULL: none. */
    struct db_filter fixed;
    const char *sort; /* NULL: the entity's default */
    json_t *(*item)(const struct request *r, const void *row);
    /* Or, in its place, the item as text (row_text.h): for lists that are long and asked for often. */
    int (*text)(const struct request *r, const void *row, struct buf *out);
};
/* Answers with one page as limit, cursor, sort and the filters of the request say. */
int row_list_serve(struct request *r, const struct row_list *list, struct err *err);
/* Answers with one item that is written as text. */
int row_text_reply(struct request *r, int (*text)(const struct request *r, const void *row, struct buf *out),
    const void *row, struct err *err);

#endif
