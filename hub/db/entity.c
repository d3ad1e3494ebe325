/* SPDX-License-Identifier: Apache-2.0
 *
 * One SELECT builder for every kind of row. Field names, expressions and casts come from the entity's table alone;
 * what a caller gives becomes a parameter, or is looked up in the table and refused when it is not there.
 *
 * Pages follow the key, not an offset: a cursor is the sort field, its value and the key of the last row, so a list stays
 * right while rows come and go. NULL sorts as the zero of its type.
 */
#include "hub/db/entity.h"

#include <stdio.h>
#include <string.h>

#include "transport/base/buf.h"
#include "transport/base/bytes.h"
#include "transport/base/ident.h"

#define SQL_MAX (32 * 1024)
#define CURSOR_MAX 2048 /* hex digits of a sort value (names of at most 255 characters) and a key */
#define FILTERS_MAX 16
#define VALUE_MAX 4096
#define LIMIT_DEFAULT 100
#define LIMIT_MAX 500

/* A statement in the making. */
struct query {
    const struct db_entity *entity;
    struct buf sql;
    struct db_value values[DB_VALUES_MAX];
    size_t value_count;
    struct buf owned[FILTERS_MAX + 2]; /* texts that values point to */
    size_t owned_count;
    const struct db_column *sort; /* NULL: by key */
    bool descending;
    uint32_t limit;
};

static void query_done(struct query *q)
{
    buf_done(&q->sql);
    for (size_t i = 0; i < q->owned_count; i++)
        buf_done(&q->owned[i]);
}
#define AUTO_QUERY __attribute__((cleanup(query_done)))

static const struct db_column *column_by_field(const struct db_entity *entity, const char *field, unsigned flag)
{
    for (size_t i = 0; i < entity->column_count; i++)
        if ((entity->columns[i].flags & flag) && strcmp(entity->columns[i].field, field) == 0)
            return &entity->columns[i];
    return NULL;
}

/* "The fields are: a, b, c" */
static int hint_fields(const struct db_entity *entity, unsigned flag, struct err *err)
{
    char list[200] = "";
    size_t n = 0;

    for (size_t i = 0; i < entity->column_count && n < sizeof(list); i++)
        if (entity->columns[i].flags & flag)
            n += (size_t)snprintf(list + n, sizeof(list) - n, "%s%s", n ? ", " : "", entity->columns[i].field);
    return err_hint(err, "Known here: %s.", list);
}

static const char *cast_of(const struct db_column *c)
{
    static const char *const casts[] = {[DB_COL_TEXT] = "text",
        [DB_COL_U64] = "bigint",
        [DB_COL_I64] = "bigint",
        [DB_COL_BOOL] = "boolean",
        [DB_COL_F64] = "double precision",
        [DB_COL_TIME] = "timestamptz"};

    return c->param_cast ? c->param_cast : casts[c->type];
}

/* The expression to sort by, never NULL. */
static int append_sort(struct query *q, struct err *err)
{
    static const char *const zeros[] = {[DB_COL_TEXT] = "''",
        [DB_COL_U64] = "0",
        [DB_COL_I64] = "0",
        [DB_COL_BOOL] = "false",
        [DB_COL_F64] = "0",
        [DB_COL_TIME] = "'epoch'"};
    const struct db_column *c = q->sort;

    if (c->flags & DB_NOT_NULL)
        return buf_printf(&q->sql, err, "(%s)", c->sql);
    if (c->type == DB_COL_TEXT)
        return buf_printf(&q->sql, err, "coalesce((%s)::text, '')", c->sql);
    return buf_printf(&q->sql, err, "coalesce(%s, %s)", c->sql, zeros[c->type]);
}

static int append_columns(struct query *q, struct err *err)
{
    for (size_t i = 0; i < q->entity->column_count; i++) {
        const struct db_column *c = &q->entity->columns[i];
        const char *before = i ? ", " : "SELECT ";
        int rc = c->type == DB_COL_TIME
                     ? buf_printf(&q->sql, err, "%s(extract(epoch from %s) * 1000000)::bigint", before, c->sql)
                     : buf_printf(&q->sql, err, "%s%s", before, c->sql);

        if (rc < 0)
            return -1;
    }
    return 0;
}

static int add_value(struct query *q, struct db_value v, struct err *err)
{
    if (q->value_count >= DB_VALUES_MAX)
        return err_set(err, ERR_TOO_LARGE, "too many values in one query");
    q->values[q->value_count++] = v;
    return (int)q->value_count;
}

/* Keeps a text for as long as the query; NULL with err. */
static struct buf *own(struct query *q, struct err *err)
{
    if (q->owned_count >= ARRAY_LEN(q->owned)) {
        err_set(err, ERR_TOO_LARGE, "too many filters; at most %d are allowed", FILTERS_MAX);
        return NULL;
    }
    struct buf *b = &q->owned[q->owned_count++];

    buf_init(b, 2 * VALUE_MAX + 64);
    return b;
}

/* 'a,b' -> '{"a","b"}', the text form of an array. */
static int array_literal(const char *list, struct buf *out, struct err *err)
{
    if (buf_append_str(out, "{\"", err) < 0)
        return -1;
    for (const char *s = list; *s; s++) {
        if (*s == ','
                ? buf_append_str(out, "\",\"", err) < 0
                : ((*s == '"' || *s == '\\') && buf_append_str(out, "\\", err) < 0) || buf_append(out, s, 1, err) < 0)
            return -1;
    }
    return buf_append_str(out, "\"}", err);
}

static int like_pattern(const char *text, struct buf *out, struct err *err)
{
    if (buf_append_str(out, "%", err) < 0)
        return -1;
    for (const char *s = text; *s; s++) {
        if ((*s == '%' || *s == '_' || *s == '\\') && buf_append_str(out, "\\", err) < 0)
            return -1;
        if (buf_append(out, s, 1, err) < 0)
            return -1;
    }
    return buf_append_str(out, "%", err);
}

/* One filter with a text that has to be built first: IN lists and patterns. */
static int append_built(struct query *q, const struct db_column *c, const struct db_filter *f, struct err *err)
{
    struct buf *b = own(q, err);
    const char *text;
    int n;

    if (!b || (f->op == DB_LIKE ? like_pattern(f->value, b, err) : array_literal(f->value, b, err)) < 0)
        return -1;
    if (!(text = buf_str(b, err)) || (n = add_value(q, DB_S(text), err)) < 0)
        return -1;
    if (f->op == DB_LIKE)
        return buf_printf(&q->sql, err, " AND (%s)::text ILIKE $%d::text", c->sql, n);
    return buf_printf(&q->sql, err, " AND (%s) = ANY ($%d::%s[])", c->sql, n, cast_of(c));
}

static int append_filter(struct query *q, const struct db_filter *f, struct err *err)
{
    const struct db_column *c = column_by_field(q->entity, f->field, DB_FILTER);
    static const char *const operators[] = {[DB_EQ] = "=", [DB_NE] = "IS DISTINCT FROM", [DB_GE] = ">=", [DB_LT] = "<"};
    int n;

    if (!c) {
        err_set(err, ERR_INVALID, "%s: %ss cannot be filtered by it", f->field, q->entity->name);
        return hint_fields(q->entity, DB_FILTER, err);
    }
    if (strlen(f->value) > VALUE_MAX)
        return err_set(err, ERR_INVALID, "%s: a filter value has at most %d characters", f->field, VALUE_MAX);
    if (f->op == DB_EQ && f->value[0] == '\0')
        return buf_printf(&q->sql, err, " AND coalesce((%s)::text, '') = ''", c->sql);
    if (f->op == DB_LIKE || (f->op == DB_EQ && strchr(f->value, ',')))
        return append_built(q, c, f, err);
    if ((n = add_value(q, DB_S(f->value), err)) < 0)
        return -1;
    return buf_printf(&q->sql, err, " AND (%s) %s $%d::%s", c->sql, operators[f->op], n, cast_of(c));
}

static int append_from(struct query *q, const struct db_page *page, struct err *err)
{
    if (buf_printf(&q->sql, err, " FROM %s WHERE true", q->entity->from) < 0)
        return -1;
    for (size_t i = 0; page && i < page->filter_count; i++)
        if (append_filter(q, &page->filters[i], err) < 0)
            return -1;
    return 0;
}

/* ---- sorting and cursors ---- */

static int query_sort(struct query *q, const struct db_page *page, struct err *err)
{
    const char *sort = page && page->sort && page->sort[0] ? page->sort : q->entity->default_sort;

    q->descending = sort[0] == '-';
    sort += q->descending;
    q->sort = column_by_field(q->entity, sort, DB_SORT);
    if (!q->sort) {
        err_set(err, ERR_INVALID, "%s: %ss cannot be sorted by it", sort, q->entity->name);
        return hint_fields(q->entity, DB_SORT, err);
    }
    return 0;
}

static int bad_cursor(struct err *err)
{
    err_set(err, ERR_INVALID, "cursor: not a cursor of this list");
    return err_hint(err, "Give `next` of the page before, with the same sort, or leave it out to begin.");
}

/* hex("FIELD\nKEY\nVALUE"); the value last, since it may hold newlines. */
static int cursor_make(const struct query *q, const char *value, const char *key, char **ret_cursor, struct err *err)
{
    AUTO_BUF struct buf b = BUF_INIT(CURSOR_MAX / 2);
    char *hex;

    if (buf_printf(&b, err, "%s%s\n%s\n%s", q->descending ? "-" : "", q->sort->field, key, value) < 0)
        return -1;
    hex = mem_alloc(2 * b.len + 1, 1);
    if (!hex)
        return err_set(err, ERR_NOMEM, "no memory for a cursor");
    bytes_to_hex(b.data, b.len, hex);
    *ret_cursor = hex;
    return 0;
}

/* Splits a cursor in place: *ret_key and *ret_value point into text. */
static int cursor_parse(const struct query *q, const char *cursor, struct buf *text, const char **ret_key,
    const char **ret_value, struct err *err)
{
    size_t n = strlen(cursor) / 2;
    char *s, *key, *value;

    if (n == 0 || n > CURSOR_MAX / 2 || buf_reserve(text, n + 1, err) < 0 ||
        bytes_from_hex(cursor, text->data, n) < 0 || memchr(text->data, 0, n))
        return bad_cursor(err);
    text->data[n] = 0;
    s = (char *)text->data;
    if (!(key = strchr(s, '\n')) || !(value = strchr(key + 1, '\n')))
        return bad_cursor(err);
    *key++ = *value++ = '\0';
    if ((s[0] == '-') != q->descending || strcmp(s + q->descending, q->sort->field) != 0)
        return bad_cursor(err);
    *ret_key = key;
    *ret_value = value;
    return 0;
}

/* (sort, key) beyond the cursor. The first comparison alone lets an index on the sort column find the place. */
static int append_cursor(struct query *q, const char *cursor, struct err *err)
{
    struct buf *text = own(q, err);
    const char *key = NULL, *value = NULL, *op = q->descending ? "<" : ">";
    int v, k;

    if (!text || cursor_parse(q, cursor, text, &key, &value, err) < 0)
        return -1;
    if ((v = add_value(q, DB_S(value), err)) < 0 || (k = add_value(q, DB_S(key), err)) < 0)
        return -1;
    if (buf_append_str(&q->sql, " AND ", err) < 0 || append_sort(q, err) < 0 ||
        buf_printf(&q->sql, err, " %s= $%d::%s AND (", op, v, cast_of(q->sort)) < 0 || append_sort(q, err) < 0)
        return -1;
    return buf_printf(&q->sql, err, ", %s) %s ($%d::%s, $%d::%s)", q->entity->key_sql, op, v, cast_of(q->sort), k,
        q->entity->key_cast);
}

static int append_order(struct query *q, struct err *err)
{
    const char *way = q->descending ? "DESC" : "ASC";

    if (buf_append_str(&q->sql, " ORDER BY ", err) < 0 || append_sort(q, err) < 0)
        return -1;
    /* One row more than asked for tells whether there is a next page. */
    return buf_printf(&q->sql, err, " %s, %s %s LIMIT %u", way, q->entity->key_sql, way, q->limit + 1);
}

/* ---- rows ---- */

static void fill_field(void *member, const struct db_column *c, const PGresult *r, int row, int col)
{
    switch (c->type) {
    case DB_COL_TEXT:
        *(const char **)member = db_text(r, row, col);
        break;
    case DB_COL_U64:
    case DB_COL_TIME:
        *(uint64_t *)member = db_u64(r, row, col);
        break;
    case DB_COL_I64:
        *(int64_t *)member = db_i64(r, row, col);
        break;
    case DB_COL_BOOL:
        *(bool *)member = db_bool(r, row, col);
        break;
    case DB_COL_F64:
        *(double *)member = strtod(db_text(r, row, col), NULL);
        break;
    }
}

/* Takes r. */
static int set_fill(const struct db_entity *entity, PGresult *r, size_t count, struct db_set *ret_set, struct err *err)
{
    char *items = mem_alloc(count ? count : 1, entity->row_size);

    if (!items) {
        PQclear(r);
        return err_set(err, ERR_NOMEM, "no memory for %zu rows", count);
    }
    for (size_t i = 0; i < count; i++)
        for (size_t c = 0; c < entity->column_count; c++)
            fill_field(
                items + i * entity->row_size + entity->columns[c].offset, &entity->columns[c], r, (int)i, (int)c);
    *ret_set = (struct db_set){.items = items, .count = count, .result = r};
    return 0;
}

void db_set_done(struct db_set *set)
{
    free(set->items);
    free(set->next);
    PQclear(set->result);
    *set = (struct db_set){0};
}

static int query_run(
    struct query *q, struct db_conn *conn, enum db_prepare prepare, PGresult **ret_result, struct err *err)
{
    const char *sql = buf_str(&q->sql, err);

    return sql ? db_exec_values(conn, ret_result, err, sql, q->values, q->value_count, prepare) : -1;
}

static int page_check(const struct db_page *page, struct err *err)
{
    if (page && page->filter_count > FILTERS_MAX)
        return err_set(err, ERR_INVALID, "too many filters; at most %d are allowed", FILTERS_MAX);
    if (page && page->limit > LIMIT_MAX) {
        err_set(err, ERR_INVALID, "limit: %u is over %d", page->limit, LIMIT_MAX);
        return err_hint(err, "Ask for at most %d and follow `next`.", LIMIT_MAX);
    }
    return 0;
}

static int build_list(struct query *q, const struct db_page *page, struct err *err)
{
    if (query_sort(q, page, err) < 0 || append_columns(q, err) < 0)
        return -1;
    if (buf_append_str(&q->sql, ", (", err) < 0 || append_sort(q, err) < 0 ||
        buf_printf(&q->sql, err, ")::text, (%s)::text", q->entity->key_sql) < 0)
        return -1;
    if (append_from(q, page, err) < 0)
        return -1;
    if (page && page->cursor && page->cursor[0] && append_cursor(q, page->cursor, err) < 0)
        return -1;
    return append_order(q, err);
}

int db_list(struct db_conn *conn, const struct db_entity *entity, const struct db_page *page, struct db_set *ret_set,
    struct err *err)
{
    AUTO_QUERY struct query q = {.entity = entity, .sql = BUF_INIT(SQL_MAX)};
    PGresult *r = NULL;
    size_t count;
    int n;

    q.limit = page && page->limit ? page->limit : LIMIT_DEFAULT;
    if (page_check(page, err) < 0 || build_list(&q, page, err) < 0)
        return -1;
    if ((n = query_run(&q, conn, DB_PREPARE_LIST, &r, err)) < 0)
        return -1;
    count = (size_t)n > q.limit ? q.limit : (size_t)n;
    if (set_fill(entity, r, count, ret_set, err) < 0)
        return -1;
    if ((size_t)n <= q.limit)
        return 0;
    if (cursor_make(&q, db_text(r, (int)count - 1, (int)entity->column_count),
            db_text(r, (int)count - 1, (int)entity->column_count + 1), &ret_set->next, err) < 0) {
        db_set_done(ret_set);
        return -1;
    }
    return 0;
}

int db_count(struct db_conn *conn, const struct db_entity *entity, const struct db_page *page, uint64_t *ret_count,
    struct err *err)
{
    AUTO_QUERY struct query q = {.entity = entity, .sql = BUF_INIT(SQL_MAX)};
    AUTO_PGRESULT PGresult *r = NULL;

    if (page_check(page, err) < 0 || buf_append_str(&q.sql, "SELECT count(*)", err) < 0 ||
        append_from(&q, page, err) < 0 || query_run(&q, conn, DB_PREPARE_LIST, &r, err) < 0)
        return -1;
    *ret_count = db_u64(r, 0, 0);
    return 0;
}

static bool key_fits(const struct db_entity *entity, const char *key)
{
    struct ident id;

    if (strcmp(entity->key_cast, "uuid") == 0)
        return ident_from_text(key, &id) == 0;
    if (strcmp(entity->key_cast, "bigint") == 0)
        return key[0] && strlen(key) <= 18 && strspn(key, "0123456789") == strlen(key);
    return true;
}

static int not_one(const struct db_entity *entity, int n, const char *name, struct err *err)
{
    err_set(err, ERR_CONFLICT, "%d %ss are named %s", n, entity->name, name);
    return err_hint(err, "Give the id instead of the name.");
}

/* " AND KEY = $1", or the name's. 0: nothing can have this key, and there are no names. */
static int append_key(struct query *q, const char *key_or_name, struct err *err)
{
    bool by_key = key_fits(q->entity, key_or_name);

    if (!by_key && !q->entity->name_sql)
        return 0;
    if (append_from(q, NULL, err) < 0 || add_value(q, DB_S(key_or_name), err) < 0)
        return -1;
    if (by_key ? buf_printf(&q->sql, err, " AND %s = $1::%s", q->entity->key_sql, q->entity->key_cast) < 0
               : buf_printf(&q->sql, err, " AND %s = $1::text", q->entity->name_sql) < 0)
        return -1;
    return 1;
}

/* Runs what asks for one row: 1 with *ret_set, 0 or -1. */
static int get_one(struct query *q, struct db_conn *conn, const char *name, struct db_set *ret_set, struct err *err)
{
    PGresult *r = NULL;
    int n = query_run(q, conn, DB_PREPARE_ALWAYS, &r, err);

    if (n < 0)
        return -1;
    if (n == 1)
        return set_fill(q->entity, r, 1, ret_set, err) < 0 ? -1 : 1;
    PQclear(r);
    return n == 0 ? 0 : not_one(q->entity, n, name, err);
}

int db_get(struct db_conn *conn, const struct db_entity *entity, const char *key_or_name, struct db_set *ret_set,
    struct err *err)
{
    AUTO_QUERY struct query q = {.entity = entity, .sql = BUF_INIT(SQL_MAX)};
    int rc;

    if (append_columns(&q, err) < 0)
        return -1;
    if ((rc = append_key(&q, key_or_name, err)) <= 0)
        return rc;
    return get_one(&q, conn, key_or_name, ret_set, err);
}

int db_get_where(struct db_conn *conn, const struct db_entity *entity, const char *condition, struct db_value value,
    struct db_set *ret_set, struct err *err)
{
    AUTO_QUERY struct query q = {.entity = entity, .sql = BUF_INIT(SQL_MAX)};

    if (append_columns(&q, err) < 0 || append_from(&q, NULL, err) < 0 || add_value(&q, value, err) < 0 ||
        buf_printf(&q.sql, err, " AND %s", condition) < 0)
        return -1;
    return get_one(&q, conn, "that", ret_set, err);
}

static int no_such(const struct db_entity *entity, const char *key_or_name, struct err *err)
{
    err_set(err, ERR_NOT_FOUND, "there is no %s %s", entity->name, key_or_name);
    return err_hint(err, "List the %ss to see their names and ids.", entity->name);
}

int db_need_key(struct db_conn *conn, const struct db_entity *entity, const char *key_or_name, char *ret_key,
    size_t size, struct err *err)
{
    AUTO_QUERY struct query q = {.entity = entity, .sql = BUF_INIT(SQL_MAX)};
    AUTO_PGRESULT PGresult *r = NULL;
    int n;

    if (buf_printf(&q.sql, err, "SELECT (%s)::text", entity->key_sql) < 0 ||
        (n = append_key(&q, key_or_name, err)) < 0 ||
        (n > 0 && (n = query_run(&q, conn, DB_PREPARE_ALWAYS, &r, err)) < 0))
        return -1;
    if (n != 1)
        return n == 0 ? no_such(entity, key_or_name, err) : not_one(entity, n, key_or_name, err);
    (void)snprintf(ret_key, size, "%s", db_text(r, 0, 0));
    return 0;
}

int db_need(struct db_conn *conn, const struct db_entity *entity, const char *key_or_name, struct db_set *ret_set,
    struct err *err)
{
    int found = db_get(conn, entity, key_or_name, ret_set, err);

    return found == 0 ? no_such(entity, key_or_name, err) : found < 0 ? -1 : 0;
}
