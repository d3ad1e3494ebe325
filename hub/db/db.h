/* SPDX-License-Identifier: Apache-2.0
 *
 * PostgreSQL for threads that may block: a pool of connections, parameterised statements only, transactions.
 * Used by API threads, job threads and the workers of the control plane; never on an event loop.
 *
 * A statement is a constant text with $1..$n; values travel apart from it, so nothing that a peer sends is
 * ever parsed as SQL. Constant texts are prepared once per connection.
 *
 * Lost connections: a statement outside a transaction is repeated once on a fresh connection when the server
 * closed the old one before the statement was sent. Otherwise the caller gets ERR_UNAVAILABLE with a
 * correction and may try again; db_acquire waits for a server that restarts (acquire_usec). A server that
 * stands still is given up after reply_usec, and the pool's idle connections with it.
 */
#ifndef HUB_DB_DB_H
#define HUB_DB_DB_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "transport/base/err.h"
#include "transport/base/mem.h"

struct db;      /* the pool; any thread */
struct db_conn; /* one connection; the thread that acquired it */

#define DB_SECRET_KEY_SIZE 32u

struct db_options {
    const char *dsn;           /* libpq conninfo or postgresql:// URI */
    unsigned connections_max;  /* 0 = 24 */
    uint64_t acquire_usec;     /* how long db_acquire waits for a free connection or the server; 0 = 5 s */
    uint64_t reply_usec;       /* how long a statement waits for the server's answer; 0 = 25 s */
    uint64_t idle_usec;        /* a connection that nobody wanted for so long is closed; 0 = 60 s */
    const uint8_t *secret_key; /* DB_SECRET_KEY_SIZE bytes, copied; NULL: no secrets are stored (secret_box.h) */
};

/* Does not connect yet. */
int db_new(const struct db_options *options, struct db **ret_db, struct err *err);
/* With every connection released. NULL is allowed. */
void db_free(struct db *db);
/* A connection that works, or ERR_UNAVAILABLE (server gone, pool used up) with a correction. */
int db_acquire(struct db *db, struct db_conn **ret_conn, struct err *err);
/* Whether the server answers, within timeout_usec. */
int db_ping(struct db *db, uint64_t timeout_usec, struct err *err);
/* Rolls back what is open and gives it back. NULL is allowed. */
void db_release(struct db_conn *conn);
DEFINE_AUTO(db_conn, db_release)

int db_begin(struct db_conn *conn, struct err *err); /* READ COMMITTED */
/* The same, but the commit does not wait for the disk: whole or not at all as ever, but what a crash of PostgreSQL takes back is
 * computed anew by the caller. For thousands of small changes in a row. */
int db_begin_relaxed(struct db_conn *conn, struct err *err);
int db_commit(struct db_conn *conn, struct err *err);
void db_rollback(struct db_conn *conn); /* does nothing outside a transaction */
/* How long statements of this connection wait for their answer until it is released; 0: without limit (migrations). */
void db_allow(struct db_conn *conn, uint64_t reply_usec);
bool db_in_transaction(const struct db_conn *conn);
/* PostgreSQL gave this transaction up for the sake of another one (deadlock, serialization failure): it may be tried again from its beginning. Until the
 * next db_begin. */
bool db_was_sacrificed(const struct db_conn *conn);
const struct db *db_of(const struct db_conn *conn);
const uint8_t *db_secret_key(const struct db *db); /* NULL: none */

/* ---- statements ---- */
struct db_value {
    enum { DB_VALUE_TEXT, DB_VALUE_U64, DB_VALUE_I64, DB_VALUE_BOOL, DB_VALUE_F64, DB_VALUE_TIME, DB_VALUE_BYTES } type;
    union {
        const char *s;
        uint64_t u;
        int64_t i;
        bool b;
        double f;
        struct {
            const void *data;
            size_t len;
        } bytes;
    } v;
};

#define DB_S(x) ((struct db_value){.type = DB_VALUE_TEXT, .v.s = (x)})                       /* NULL -> NULL */
#define DB_ID(x) ((struct db_value){.type = DB_VALUE_TEXT, .v.s = (x) && *(x) ? (x) : NULL}) /* "" -> NULL too */
#define DB_U(x) ((struct db_value){.type = DB_VALUE_U64, .v.u = (uint64_t)(x)})
#define DB_I(x) ((struct db_value){.type = DB_VALUE_I64, .v.i = (int64_t)(x)})
#define DB_B(x) ((struct db_value){.type = DB_VALUE_BOOL, .v.b = (x)})
#define DB_F(x) ((struct db_value){.type = DB_VALUE_F64, .v.f = (x)})
#define DB_T(x) ((struct db_value){.type = DB_VALUE_TIME, .v.u = (x)}) /* UTC microseconds; 0 -> NULL */
#define DB_X(p, n) ((struct db_value){.type = DB_VALUE_BYTES, .v.bytes = {(p), (n)}})
#define DB_VALUES_MAX 48

/* Parsed once for each connection, or each time. Texts that depend on what a caller wants (filters, sorting, limit) are prepared as
 * long as there are few of them. */
enum db_prepare { DB_PREPARE_NEVER, DB_PREPARE_ALWAYS, DB_PREPARE_LIST };

/* Runs one statement with its values. Returns the number of rows (SELECT, RETURNING) or of rows touched; -1
 * with err. ret_result may be NULL; else PQclear it (AUTO_PGRESULT). A unique violation is ERR_EXISTS, a
 * foreign-key or check violation ERR_REFUSED or ERR_INVALID, a malformed uuid or number ERR_INVALID, a
 * serialization failure ERR_CONFLICT. */
int db_exec_values(struct db_conn *conn, PGresult **ret_result, struct err *err, const char *sql,
    const struct db_value *values, size_t count, enum db_prepare prepare);
#define db_exec(conn, ret_result, err, sql, ...)                                                                       \
    db_exec_values((conn), (ret_result), (err), (sql), (const struct db_value[]){{0}, ##__VA_ARGS__} + 1,              \
        sizeof((const struct db_value[]){{0}, ##__VA_ARGS__}) / sizeof(struct db_value) - 1, DB_PREPARE_ALWAYS)
/* Several statements without values (migrations, LISTEN). */
int db_script(struct db_conn *conn, const char *sql, struct err *err);

static inline void pgresult_clear_indirect(PGresult **r)
{
    PQclear(*r);
}
#define AUTO_PGRESULT __attribute__((cleanup(pgresult_clear_indirect)))

/* libpq's own handle, for LISTEN (hub/db/news.c). */
PGconn *db_raw(struct db_conn *conn);

/* Fields of a result; NULL reads as "", 0, false. Text lives as long as the result. */
const char *db_text(const PGresult *r, int row, int col);
uint64_t db_u64(const PGresult *r, int row, int col);
int64_t db_i64(const PGresult *r, int row, int col);
bool db_bool(const PGresult *r, int row, int col);

#endif
