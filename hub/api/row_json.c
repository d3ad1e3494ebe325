/* SPDX-License-Identifier: Apache-2.0
 *
 * The writers of each form, and the one way in which all lists are read, filtered and paged.
 */
#include "hub/api/row_json.h"

#include <stdio.h>
#include <string.h>

#include "transport/base/buf.h"
#include "transport/base/clock.h"

json_t *row_json_seconds(int64_t usec)
{
    if (usec % (int64_t)USEC_PER_SEC == 0)
        return json_integer(usec / (int64_t)USEC_PER_SEC);
    return json_real((double)usec / 1e6);
}

json_t *row_json_time(uint64_t utc_usec)
{
    char text[CLOCK_RFC3339_SIZE];

    if (utc_usec == 0)
        return json_null();
    clock_rfc3339(utc_usec, text);
    return json_string(text);
}

static json_t *digits(uint64_t n)
{
    char text[24];

    (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)n);
    return json_string(text);
}

/* What is stored as JSON text; `kind` refuses another shape than the document promises. */
static json_t *parsed(const char *text, json_type kind, json_t *instead)
{
    json_t *value;

    if (text && strcmp(text, "[]") == 0 && kind == JSON_ARRAY && json_is_array(instead))
        return instead; /* as most are: no parser for these */
    if (text && strcmp(text, "{}") == 0 && kind == JSON_OBJECT && json_is_object(instead))
        return instead;
    value = text ? json_loads(text, JSON_REJECT_DUPLICATES, NULL) : NULL;
    if (value && json_typeof(value) == kind) {
        json_decref(instead);
        return value;
    }
    json_decref(value);
    return instead;
}

static json_t *write_member(const char *at, enum row_json_form form)
{
    const char *text = NULL;
    uint64_t u = 0;
    int64_t i = 0;

    if (form == ROW_TEXT || form == ROW_TEXT_OR_NULL || form >= ROW_ARRAY)
        memcpy(&text, at, sizeof(text));
    else if (form != ROW_BOOL)
        memcpy(&u, at, sizeof(u));
    memcpy(&i, &u, sizeof(i));
    switch (form) {
    case ROW_TEXT:
        return json_string(text ? text : "");
    case ROW_TEXT_OR_NULL:
        return text && *text ? json_string(text) : json_null();
    case ROW_NUMBER:
        return json_integer(u > INT64_MAX ? INT64_MAX : (json_int_t)u);
    case ROW_SIGNED_OR_NULL:
        return i < 0 ? json_null() : json_integer(i);
    case ROW_DIGITS:
    case ROW_ETAG:
        return digits(u);
    case ROW_BOOL:
        return json_boolean(*(const bool *)at);
    case ROW_TIME:
        return row_json_time(u);
    case ROW_SECONDS:
        return row_json_seconds(u > INT64_MAX ? INT64_MAX : (int64_t)u);
    case ROW_SIGNED_SECONDS:
        return row_json_seconds(i);
    case ROW_PERCENT:
        return u % 10 == 0 ? json_integer((json_int_t)(u / 10)) : json_real((double)u / 10);
    case ROW_ARRAY:
        return parsed(text, JSON_ARRAY, json_array());
    case ROW_OBJECT:
        return parsed(text, JSON_OBJECT, json_object());
    case ROW_OBJECT_OR_NULL:
        return parsed(text, JSON_OBJECT, json_null());
    }
    return NULL;
}

int row_json_add(json_t *object, const void *row, const struct row_json_member *members, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        json_t *value = write_member((const char *)row + members[i].offset, members[i].form);

        if (!value) /* text that is no UTF-8 (a volume label may be anything) */
            value = json_string("?");
        if (json_object_set_new_nocheck(object, members[i].name, value) < 0) /* names of tables are ASCII */
            return -1;
    }
    return 0;
}

json_t *row_json(const void *row, const struct row_json_member *members, size_t count)
{
    json_t *object = json_object();

    if (object && row_json_add(object, row, members, count) == 0)
        return object;
    json_decref(object);
    return NULL;
}

#define NUMBER_SIZE 24
#define PAGE_TEXT_MAX (64u * 1024u * 1024u)

/* A value of the request as the text that a filter takes; number is memory for it. */
static const char *filter_text(const json_t *value, char number[NUMBER_SIZE])
{
    if (json_is_boolean(value))
        return json_is_true(value) ? "true" : "false";
    if (!json_is_integer(value))
        return json_string_value(value);
    (void)snprintf(number, NUMBER_SIZE, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    return number;
}

/* Filters of the request in the order of the list's table. */
static size_t collect_filters(const struct request *r, const struct row_list *list,
    struct db_filter out[ROW_LIST_FILTERS_MAX + 1], char numbers[ROW_LIST_FILTERS_MAX + 1][NUMBER_SIZE])
{
    size_t n = 0;

    if (list->fixed.field)
        out[n++] = list->fixed;
    for (size_t i = 0; i < list->filter_count && n < ROW_LIST_FILTERS_MAX; i++) {
        const json_t *value = json_object_get(r->query, list->filters[i].parameter);

        if (!value)
            continue;
        out[n] = (struct db_filter){
            .field = list->filters[i].field,
            .op = list->filters[i].op,
            .value = filter_text(value, numbers[n]),
        };
        n++;
    }
    return n;
}

/* Items speak of seconds where rows have microseconds. */
static const char *sort_field(const char *sort, char out[80])
{
    static const char seconds[] = "_seconds";
    size_t n = sort ? strlen(sort) : 0, end = sizeof(seconds) - 1;

    if (n <= end || n >= 72 || strcmp(sort + n - end, seconds) != 0)
        return sort;
    (void)snprintf(out, 80, "%.*s_usec", (int)(n - end), sort);
    return out;
}

/* Each item becomes text and goes before the next one is made: a page as a tree of some thousand small pieces takes longer to free than to make. */
static int append_item(const char *text, size_t n, void *arg)
{
    return buf_append(arg, text, n, NULL);
}

static int append_json(const struct request *r, const struct row_list *list, const void *row, struct buf *out)
{
    json_t *item = list->item(r, row);
    int rc = item ? json_dump_callback(item, append_item, out, REPLY_JSON_FLAGS) : -1;

    json_decref(item);
    return rc;
}

static int append_items(const struct request *r, const struct row_list *list, const struct db_set *set, struct buf *out)
{
    for (size_t i = 0; i < set->count; i++) {
        const void *row = (const char *)set->items + i * list->entity->row_size;

        if ((i > 0 && buf_append(out, ",", 1, NULL) < 0) ||
            (list->text ? list->text(r, row, out) : append_json(r, list, row, out)) < 0)
            return -1;
    }
    return 0;
}

static int reply_page(struct request *r, const struct row_list *list, const struct db_set *set, struct err *err)
{
    AUTO_BUF struct buf text = BUF_INIT(PAGE_TEXT_MAX);

    if (buf_append_str(&text, "{\"items\":[", NULL) < 0 || append_items(r, list, set, &text) < 0 ||
        buf_append_str(&text, "]", NULL) < 0 ||
        (set->next && buf_printf(&text, NULL, ",\"next\":\"%s\"", set->next) < 0) || /* hex digits */
        buf_append_str(&text, "}", NULL) < 0 || !buf_str(&text, NULL))
        return err_set(err, ERR_NOMEM, "no memory for a list");
    (void)reply_text(r, 200, NULL, (char *)text.data, text.len);
    text.data = NULL;
    return 0;
}

int row_list_serve(struct request *r, const struct row_list *list, struct err *err)
{
    struct db_filter filters[ROW_LIST_FILTERS_MAX + 1];
    char numbers[ROW_LIST_FILTERS_MAX + 1][NUMBER_SIZE];
    char field[80];
    const struct db_page page = {
        .filters = filters,
        .filter_count = collect_filters(r, list, filters, numbers),
        .sort = request_query(r, "sort") ? sort_field(request_query(r, "sort"), field) : list->sort,
        .cursor = request_query(r, "cursor"),
        .limit = (uint32_t)request_query_int(r, "limit", 100),
    };
    AUTO_DB_SET struct db_set set = {0};

    if (db_list(r->conn, list->entity, &page, &set, err) < 0)
        return -1;
    return reply_page(r, list, &set, err);
}

/* As JSON, since whoever keeps or changes an answer wants its members. */
int row_text_reply(struct request *r, int (*text)(const struct request *r, const void *row, struct buf *out),
    const void *row, struct err *err)
{
    AUTO_BUF struct buf out = BUF_INIT(PAGE_TEXT_MAX);

    if (text(r, row, &out) < 0)
        return err_set(err, ERR_NOMEM, "no memory for an item");
    return reply_json(r, 200, json_loadb((const char *)out.data, out.len, 0, NULL), err);
}
