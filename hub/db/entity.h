/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading rows. Each kind of thing has one struct db_entity (columns, what may be filtered and sorted) and
 * one row struct (hub/db/rows.h); db_list and db_get serve them all. Strings in a row point into its set and
 * live until db_set_done.
 *
 *     AUTO_DB_SET struct db_set set = {0};
 *     if (db_list(conn, &db_machines, &page, &set, err) < 0)
 *         return -1;
 *     for (size_t i = 0; i < set.count; i++) {
 *         const struct machine_row *m = db_at(&set, struct machine_row, i);
 */
#ifndef HUB_DB_ENTITY_H
#define HUB_DB_ENTITY_H

#include "hub/db/db.h"

enum db_column_type {
    DB_COL_TEXT, /* const char *; NULL -> "" */
    DB_COL_U64,  /* uint64_t */
    DB_COL_I64,  /* int64_t */
    DB_COL_BOOL, /* bool */
    DB_COL_F64,  /* double */
    DB_COL_TIME, /* uint64_t, UTC microseconds; NULL -> 0 */
};

enum db_column_flags {
    DB_FILTER = 1,   /* may stand in a filter */
    DB_SORT = 2,     /* may be sorted by */
    DB_NOT_NULL = 4, /* its expression is never NULL, so that an index may serve the sort */
};

struct db_column {
    const char *field; /* the word of the API: "state", "last_seen_at" */
    const char *sql;   /* expression over the entity's FROM; never from outside */
    enum db_column_type type;
    unsigned flags;
    size_t offset;          /* of the member in the row struct */
    const char *param_cast; /* SQL type of a filter value: "uuid", "text", "bigint", ... */
};

struct db_entity {
    const char *name; /* "machine", for messages */
    const char *from; /* "machines m JOIN ..." */
    const struct db_column *columns;
    size_t column_count;
    size_t row_size;
    const char *key_sql;      /* the unique column that ends every ordering: "m.id" */
    const char *key_cast;     /* its SQL type */
    const char *name_sql;     /* db_get also accepts this, NULL: only the key */
    const char *default_sort; /* "name" or "-created_at" */
};

struct db_set {
    void *items; /* row structs, count of them */
    size_t count;
    char *next; /* cursor of the next page; NULL: this was the last */
    PGresult *result;
};
void db_set_done(struct db_set *set);
#define AUTO_DB_SET __attribute__((cleanup(db_set_done)))
#define db_at(set, type, i) (&((const type *)(set)->items)[i])

enum db_op {
    DB_EQ, /* equals; of several values separated by ',' any */
    DB_NE,
    DB_LIKE, /* contains, case does not matter */
    DB_GE,
    DB_LT
};

struct db_filter {
    const char *field;
    enum db_op op;
    const char *value; /* text; times as RFC 3339; "" matches NULL with DB_EQ */
};

struct db_page {
    const struct db_filter *filters;
    size_t filter_count; /* at most 16 */
    const char *sort;    /* "name", "-name"; NULL: the entity's default */
    const char *cursor;  /* db_set.next of the page before; NULL: from the start */
    uint32_t limit;      /* 1..500; 0 = 100 */
};

/* One page. Unknown field, unsortable field, bad value, foreign cursor: ERR_INVALID with a correction. */
int db_list(struct db_conn *conn, const struct db_entity *entity, const struct db_page *page, struct db_set *ret_set,
    struct err *err);
/* One row by key or name. 1: found; 0: no such row; -1: err (several of that name: ERR_CONFLICT). */
int db_get(struct db_conn *conn, const struct db_entity *entity, const char *key_or_name, struct db_set *ret_set,
    struct err *err);
/* As db_get, but absence is ERR_NOT_FOUND with a correction. Returns 0. */
int db_need(struct db_conn *conn, const struct db_entity *entity, const char *key_or_name, struct db_set *ret_set,
    struct err *err);
/* The key alone: what costs a row of many columns to find out is not asked. */
int db_need_key(struct db_conn *conn, const struct db_entity *entity, const char *key_or_name, char *ret_key,
    size_t size, struct err *err);
/* The one row for which a condition in SQL holds, over the entity's FROM, with one value ($1): 1, 0 or -1. */
int db_get_where(struct db_conn *conn, const struct db_entity *entity, const char *condition, struct db_value value,
    struct db_set *ret_set, struct err *err);
int db_count(struct db_conn *conn, const struct db_entity *entity, const struct db_page *page, uint64_t *ret_count,
    struct err *err);

#endif
