/* SPDX-License-Identifier: Apache-2.0
 *
 * The pool and its statements. Happy path: acquire takes an idle connection whose socket is silent, a statement that
 * the connection has seen before runs as a prepared one, release puts it back. Failure modes: an idle connection that the
 * server closed is noticed by its readable socket and replaced; a server that is gone is tried again until acquire_usec
 * is over; SQLSTATE decides which error of ours a refusal is. Sources: libpq documentation, PostgreSQL Appendix A.
 */
#include "hub/db/db.h"

#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "hub/db/pgreply.h"
#include "transport/base/clock.h"
#include "transport/base/hash.h"

#define CONNECTIONS_DEFAULT 24
#define CONNECTIONS_MAX 256
#define ACQUIRE_DEFAULT_USEC (5 * USEC_PER_SEC)
#define REPLY_DEFAULT_USEC (25 * USEC_PER_SEC) /* above statement_timeout: a server that lives cancels by itself */
#define CONNECT_REPLY_USEC (5 * USEC_PER_SEC)
/* Each is a process of PostgreSQL that keeps the plans of hundreds of statements, some 10 MiB: those of a busy hour go again. */
#define IDLE_DEFAULT_USEC (60 * USEC_PER_SEC)
#define RETRY_FIRST_MSEC 50
#define RETRY_MAX_MSEC 500
#define PREPARED_MAX 512   /* constant statements of the whole hub, and lists; a power of two */
#define PREPARED_LISTS 192 /* of them; callers choose their texts, and must not crowd out the others */
#define NUMBER_TEXT_SIZE 40

struct db_conn {
    struct db *db;
    PGconn *pg;
    bool in_transaction;
    bool late; /* gave no answer in time: of no use any more */
    bool sacrificed;
    uint64_t reply_usec;
    uint64_t prepared[PREPARED_MAX]; /* hashes of the texts that this connection knows, open addressing; 0: free */
    unsigned prepared_count, prepared_lists;
    uint64_t given_back_usec;
    struct db_conn *next_idle;
};

struct db {
    char *dsn;
    unsigned connections_max;
    uint64_t acquire_usec;
    uint64_t reply_usec, idle_usec;
    pthread_mutex_t lock; /* guards idle and in_use */
    pthread_cond_t given_back;
    struct db_conn *idle; /* the one that was given back last is first, and taken first */
    unsigned in_use;      /* acquired or being connected */
    bool has_secret_key;
    uint8_t secret_key[DB_SECRET_KEY_SIZE];
};

static const char *const gone_hint =
    "Check that PostgreSQL runs and that --database is right; the hub goes on by itself when it is back.";

/* ---- errors ---- */

static const struct {
    const char *state; /* SQLSTATE or its class of two characters */
    enum err_code code;
} sqlstates[] = {
    {"23505", ERR_EXISTS},      /* unique_violation */
    {"23503", ERR_REFUSED},     /* foreign_key_violation */
    {"23514", ERR_INVALID},     /* check_violation */
    {"23502", ERR_INVALID},     /* not_null_violation */
    {"22", ERR_INVALID},        /* data exception: malformed uuid, number out of range, bad encoding */
    {"40", ERR_CONFLICT},       /* serialization failure, deadlock */
    {"55P03", ERR_CONFLICT},    /* lock_not_available */
    {"P0001", ERR_REFUSED},     /* raise_exception: one of our own triggers */
    {"53100", ERR_NOSPACE},     /* disk_full */
    {"53", ERR_UNAVAILABLE},    /* too many connections, out of memory */
    {"57", ERR_UNAVAILABLE},    /* shutdown, crash, cannot connect now */
    {"08", ERR_UNAVAILABLE},    /* connection exception */
    {"25006", ERR_UNAVAILABLE}, /* read-only: a standby */
};

static enum err_code code_of_sqlstate(const char *state)
{
    for (size_t i = 0; state && i < ARRAY_LEN(sqlstates); i++)
        if (strncmp(state, sqlstates[i].state, strlen(sqlstates[i].state)) == 0)
            return sqlstates[i].code;
    return ERR_INTERNAL;
}

/* The first line of a libpq message, without its newline. */
static int set_from_message(struct err *err, enum err_code code, const char *context, const char *message)
{
    int len = (int)strcspn(message ? message : "", "\n");

    err_set(err, code, "%s: %.*s", context, len, message ? message : "");
    if (code == ERR_UNAVAILABLE)
        err_hint(err, "%s", gone_hint);
    else if (code == ERR_NOSPACE)
        err_hint(err, "Free space on the disk of the hub's PostgreSQL.");
    return -1;
}

static int fail_result(struct db_conn *conn, const PGresult *r, struct err *err)
{
    const char *state = r ? PQresultErrorField(r, PG_DIAG_SQLSTATE) : NULL;
    const char *primary = r ? PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY) : NULL;

    if (conn->late) {
        err_set(err, ERR_UNAVAILABLE, "database: PostgreSQL gave no answer within %llu ms",
            (unsigned long long)(conn->reply_usec / USEC_PER_MSEC));
        return err_hint(err, "Look whether PostgreSQL or its disk stands still; the hub goes on by itself.");
    }
    if (PQstatus(conn->pg) != CONNECTION_OK || !state)
        return set_from_message(err, ERR_UNAVAILABLE, "database", PQerrorMessage(conn->pg));
    if (strncmp(state, "40", 2) == 0)
        conn->sacrificed = true;
    return set_from_message(err, code_of_sqlstate(state), "database", primary);
}

/* ---- connections ---- */

static bool conn_is_usable(const struct db_conn *conn)
{
    return !conn->late && PQstatus(conn->pg) == CONNECTION_OK;
}

static void conn_close(struct db_conn *conn)
{
    if (!conn)
        return;
    PQfinish(conn->pg);
    free(conn);
}

/* ---- answers ---- */

static void drop_idle(struct db *db)
{
    struct db_conn *conn;

    pthread_mutex_lock(&db->lock);
    conn = TAKE_PTR(db->idle);
    pthread_mutex_unlock(&db->lock);
    while (conn) {
        struct db_conn *next = conn->next_idle;

        (void)shutdown(PQsocket(conn->pg), SHUT_RDWR); /* PQfinish waits for nobody then */
        conn_close(conn);
        conn = next;
    }
}

/* The answer to what was sent (1: it was), or NULL. Where one connection gets none the idle ones would get none either:
 * who asks next connects anew, and hears within seconds whether there is a server. */
static PGresult *take_reply(struct db_conn *conn, int sent)
{
    if (conn->late || sent != 1)
        return NULL;
    PGresult *r = pgreply_take(conn->pg, conn->reply_usec, &conn->late);

    if (conn->late)
        drop_idle(conn->db);
    return r;
}

static int run_simple(struct db_conn *conn, const char *sql, struct err *err)
{
    AUTO_PGRESULT PGresult *r = take_reply(conn, conn->late ? 0 : PQsendQuery(conn->pg, sql));
    ExecStatusType status = PQresultStatus(r);

    return status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK ? 0 : fail_result(conn, r, err);
}

/* What every statement may rely on: ISO times in UTC, and no surprise from the server's defaults. */
static int conn_setup(struct db_conn *conn, struct err *err)
{
    return run_simple(conn,
        "SET timezone = 'UTC'; SET datestyle = 'ISO'; SET client_encoding = 'UTF8'; SET bytea_output = 'hex';"
        "SET standard_conforming_strings = on; SET lock_timeout = '10s'; SET statement_timeout = '20s';"
        "SET idle_in_transaction_session_timeout = '60s'; SET search_path = public;"
        /* Statements are written so that one plan serves all values; planning costs as much as running the small ones. */
        "SET plan_cache_mode = force_generic_plan; SET application_name = 'leeward-hub';"
        /* Compiling the sweep's statements costs a second each time, and saves none of it. */
        "SET jit = off",
        err);
}

static void ignore_notice(void *arg, const PGresult *r)
{
    (void)arg;
    (void)r;
}

static int conn_open(struct db *db, struct db_conn **ret_conn, struct err *err)
{
    struct db_conn *conn = mem_new(struct db_conn);

    if (!conn)
        return err_set(err, ERR_NOMEM, "no memory for a database connection");
    conn->db = db;
    conn->reply_usec = db->reply_usec < CONNECT_REPLY_USEC ? db->reply_usec : CONNECT_REPLY_USEC;
    const char *keys[] = {"dbname", "connect_timeout", NULL};
    const char *values[] = {db->dsn, "5", NULL};

    conn->pg = PQconnectdbParams(keys, values, 1);
    if (PQstatus(conn->pg) != CONNECTION_OK) {
        set_from_message(err, ERR_UNAVAILABLE, "connecting to PostgreSQL", PQerrorMessage(conn->pg));
        conn_close(conn);
        return -1;
    }
    PQsetNoticeReceiver(conn->pg, ignore_notice, NULL);
    if (PQsetnonblocking(conn->pg, 1) != 0 || conn_setup(conn, err) < 0) {
        conn_close(conn);
        return -1;
    }
    conn->reply_usec = db->reply_usec;
    *ret_conn = conn;
    return 0;
}

/* An idle connection is silent. One that has something to say says good-bye: what the server writes before it closes reads like any other message, and
 * only the statement that comes next would notice. */
static bool conn_is_alive(struct db_conn *conn)
{
    struct pollfd p = {.fd = PQsocket(conn->pg), .events = POLLIN};

    return conn_is_usable(conn) && p.fd >= 0 && poll(&p, 1, 0) == 0;
}

/* ---- the pool ---- */

int db_new(const struct db_options *options, struct db **ret_db, struct err *err)
{
    struct db *db = mem_new(struct db);
    pthread_condattr_t attr;

    if (sodium_init() < 0) { /* tokens are drawn and hashed with it, on any thread */
        free(db);
        return err_set(err, ERR_INTERNAL, "libsodium cannot be used");
    }
    if (!db || !(db->dsn = mem_strdup(options->dsn))) {
        free(db);
        return err_set(err, ERR_NOMEM, "no memory for the database pool");
    }
    db->connections_max = options->connections_max ? options->connections_max : CONNECTIONS_DEFAULT;
    if (db->connections_max > CONNECTIONS_MAX)
        db->connections_max = CONNECTIONS_MAX;
    db->acquire_usec = options->acquire_usec ? options->acquire_usec : ACQUIRE_DEFAULT_USEC;
    db->reply_usec = options->reply_usec ? options->reply_usec : REPLY_DEFAULT_USEC;
    db->idle_usec = options->idle_usec ? options->idle_usec : IDLE_DEFAULT_USEC;
    db->has_secret_key = options->secret_key != NULL;
    if (options->secret_key)
        memcpy(db->secret_key, options->secret_key, sizeof(db->secret_key));
    pthread_mutex_init(&db->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&db->given_back, &attr);
    pthread_condattr_destroy(&attr);
    *ret_db = db;
    return 0;
}

void db_free(struct db *db)
{
    if (!db)
        return;
    while (db->idle) {
        struct db_conn *conn = db->idle;

        db->idle = conn->next_idle;
        conn_close(conn);
    }
    pthread_cond_destroy(&db->given_back);
    pthread_mutex_destroy(&db->lock);
    sodium_memzero(db->secret_key, sizeof(db->secret_key));
    free(db->dsn);
    free(db);
}

static struct timespec timespec_of_usec(uint64_t usec)
{
    return (struct timespec){.tv_sec = (time_t)(usec / USEC_PER_SEC), .tv_nsec = (long)(usec % USEC_PER_SEC) * 1000};
}

/* Takes a place in the pool: an idle connection (*ret_conn) or the right to open one (NULL). 0, or -1 at the deadline. */
static int pool_take(struct db *db, uint64_t deadline_usec, struct db_conn **ret_conn)
{
    struct timespec until = timespec_of_usec(deadline_usec);
    int rc = 0;

    pthread_mutex_lock(&db->lock);
    while (!db->idle && db->in_use >= db->connections_max && rc == 0)
        rc = pthread_cond_timedwait(&db->given_back, &db->lock, &until);
    if (!db->idle && db->in_use >= db->connections_max) {
        pthread_mutex_unlock(&db->lock);
        return -1;
    }
    *ret_conn = db->idle;
    if (db->idle)
        db->idle = db->idle->next_idle;
    db->in_use++;
    pthread_mutex_unlock(&db->lock);
    return 0;
}

/* Takes out those that nobody has wanted for long. With the lock held. */
static struct db_conn *take_unwanted(struct db *db, uint64_t now)
{
    struct db_conn **at = &db->idle, *unwanted;

    while (*at && now - (*at)->given_back_usec <= db->idle_usec)
        at = &(*at)->next_idle;
    unwanted = *at;
    *at = NULL;
    return unwanted;
}

static void pool_give(struct db *db, struct db_conn *conn)
{
    struct db_conn *unwanted;

    pthread_mutex_lock(&db->lock);
    uint64_t now = clock_mono_usec(); /* not before the lock: nothing in the list may be newer */

    db->in_use--;
    unwanted = take_unwanted(db, now);
    if (conn) {
        conn->given_back_usec = now;
        conn->next_idle = db->idle;
        db->idle = conn;
    }
    pthread_cond_signal(&db->given_back);
    pthread_mutex_unlock(&db->lock);
    while ((conn = unwanted)) {
        unwanted = conn->next_idle;
        conn_close(conn);
    }
}

static int acquire_until(struct db *db, uint64_t deadline, struct db_conn **ret_conn, struct err *err)
{
    struct db_conn *conn = NULL;
    int wait_msec = RETRY_FIRST_MSEC;

    if (pool_take(db, deadline, &conn) < 0) {
        err_set(err, ERR_UNAVAILABLE, "all %u database connections are in use", db->connections_max);
        return err_hint(err, "Try again; if it stays so, look for long-running statements in PostgreSQL.");
    }
    if (conn && !conn_is_alive(conn)) {
        conn_close(conn);
        conn = NULL;
    }
    while (!conn && conn_open(db, &conn, err) < 0) {
        if ((err && err->code == ERR_NOMEM) || clock_mono_usec() + (uint64_t)wait_msec * 1000 > deadline) {
            pool_give(db, NULL);
            return -1;
        }
        (void)poll(NULL, 0, wait_msec); /* back-off towards a server that restarts */
        wait_msec = wait_msec * 2 > RETRY_MAX_MSEC ? RETRY_MAX_MSEC : wait_msec * 2;
    }
    err_clear(err);
    conn->next_idle = NULL;
    *ret_conn = conn;
    return 0;
}

int db_acquire(struct db *db, struct db_conn **ret_conn, struct err *err)
{
    return acquire_until(db, clock_mono_usec() + db->acquire_usec, ret_conn, err);
}

int db_ping(struct db *db, uint64_t timeout_usec, struct err *err)
{
    struct db_conn *conn AUTO_OF(db_conn) = NULL;

    if (acquire_until(db, clock_mono_usec() + timeout_usec, &conn, err) < 0)
        return -1;
    return db_exec(conn, NULL, err, "SELECT 1") < 0 ? -1 : 0;
}

void db_release(struct db_conn *conn)
{
    struct db *db;

    if (!conn)
        return;
    db = conn->db;
    db_rollback(conn);
    conn->reply_usec = db->reply_usec;
    if (!conn_is_usable(conn) || PQtransactionStatus(conn->pg) != PQTRANS_IDLE) {
        conn_close(conn);
        conn = NULL;
    }
    pool_give(db, conn);
}

/* ---- transactions ---- */

static int begin_with(struct db_conn *conn, const char *sql, struct err *err)
{
    if (conn->in_transaction)
        return err_set(err, ERR_INTERNAL, "a transaction is open already");
    conn->sacrificed = false;
    if (run_simple(conn, sql, err) < 0)
        return -1;
    conn->in_transaction = true;
    return 0;
}

int db_begin(struct db_conn *conn, struct err *err)
{
    return begin_with(conn, "BEGIN", err);
}

int db_begin_relaxed(struct db_conn *conn, struct err *err)
{
    return begin_with(conn, "BEGIN; SET LOCAL synchronous_commit = off", err);
}

int db_commit(struct db_conn *conn, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;

    if (!conn->in_transaction)
        return err_set(err, ERR_INTERNAL, "no transaction is open");
    conn->in_transaction = false;
    r = take_reply(conn, conn->late ? 0 : PQsendQuery(conn->pg, "COMMIT"));
    if (PQresultStatus(r) != PGRES_COMMAND_OK)
        return fail_result(conn, r, err);
    /* A transaction that failed earlier answers COMMIT with ROLLBACK. */
    if (strcmp(PQcmdStatus(r), "COMMIT") != 0)
        return err_set(err, ERR_CONFLICT, "database: the transaction had failed and was rolled back");
    return 0;
}

void db_rollback(struct db_conn *conn)
{
    if (!conn->in_transaction)
        return;
    conn->in_transaction = false;
    (void)run_simple(conn, "ROLLBACK", NULL);
}

void db_allow(struct db_conn *conn, uint64_t reply_usec)
{
    conn->reply_usec = reply_usec;
}

bool db_in_transaction(const struct db_conn *conn)
{
    return conn->in_transaction;
}

bool db_was_sacrificed(const struct db_conn *conn)
{
    return conn->sacrificed;
}

const struct db *db_of(const struct db_conn *conn)
{
    return conn->db;
}

const uint8_t *db_secret_key(const struct db *db)
{
    return db->has_secret_key ? db->secret_key : NULL;
}

/* ---- statements ---- */

/* The parameter arrays of one statement. */
struct params {
    const char *text[DB_VALUES_MAX];
    int length[DB_VALUES_MAX];
    int format[DB_VALUES_MAX];
    char number[DB_VALUES_MAX][NUMBER_TEXT_SIZE];
    int count;
};

static void param_time(struct params *p, size_t i, uint64_t utc_usec)
{
    if (utc_usec == 0)
        return;
    clock_rfc3339(utc_usec, p->number[i]);
    p->text[i] = p->number[i];
}

static void param_number(struct params *p, size_t i, const struct db_value *v)
{
    char *out = p->number[i];

    if (v->type == DB_VALUE_U64) /* what a peer counts beyond bigint stays at its end */
        snprintf(out, NUMBER_TEXT_SIZE, "%" PRIu64, v->v.u > INT64_MAX ? (uint64_t)INT64_MAX : v->v.u);
    else if (v->type == DB_VALUE_I64)
        snprintf(out, NUMBER_TEXT_SIZE, "%" PRId64, v->v.i);
    else
        snprintf(out, NUMBER_TEXT_SIZE, "%.17g", v->v.f);
    p->text[i] = out;
}

static void param_set(struct params *p, size_t i, const struct db_value *v)
{
    switch (v->type) {
    case DB_VALUE_TEXT:
        p->text[i] = v->v.s;
        break;
    case DB_VALUE_BOOL:
        p->text[i] = v->v.b ? "t" : "f";
        break;
    case DB_VALUE_TIME:
        param_time(p, i, v->v.u);
        break;
    case DB_VALUE_BYTES:
        p->text[i] = v->v.bytes.data ? v->v.bytes.data : "";
        p->length[i] = (int)v->v.bytes.len;
        p->format[i] = 1;
        break;
    default:
        param_number(p, i, v);
    }
}

static void prepared_name(uint64_t hash, char out[24])
{
    snprintf(out, 24, "s%016" PRIx64, hash);
}

static bool has_room(const struct db_conn *conn, enum db_prepare prepare)
{
    return conn->prepared_count < PREPARED_MAX * 3 / 4 &&
           (prepare != DB_PREPARE_LIST || conn->prepared_lists < PREPARED_LISTS);
}

/* 1: this connection knows the text under *ret_hash; 0: there is no room for it, run it unprepared; -1. */
static int prepare_once(
    struct db_conn *conn, const char *sql, enum db_prepare prepare, uint64_t *ret_hash, struct err *err)
{
    uint64_t hash = hash_64(sql, strlen(sql)) | 1;
    size_t slot = (hash >> 1) & (PREPARED_MAX - 1);
    char name[24];

    for (; conn->prepared[slot]; slot = (slot + 1) & (PREPARED_MAX - 1)) {
        if (conn->prepared[slot] == hash) {
            *ret_hash = hash;
            return 1;
        }
    }
    if (!has_room(conn, prepare))
        return 0;
    prepared_name(hash, name);
    AUTO_PGRESULT PGresult *r = take_reply(conn, conn->late ? 0 : PQsendPrepare(conn->pg, name, sql, 0, NULL));

    if (PQresultStatus(r) != PGRES_COMMAND_OK)
        return fail_result(conn, r, err);
    conn->prepared[slot] = hash;
    conn->prepared_count++;
    conn->prepared_lists += prepare == DB_PREPARE_LIST;
    *ret_hash = hash;
    return 1;
}

static int run_params(struct db_conn *conn, const char *sql, const struct params *p, enum db_prepare prepare,
    PGresult **ret_result, struct err *err)
{
    uint64_t hash = 0;
    int known = prepare != DB_PREPARE_NEVER ? prepare_once(conn, sql, prepare, &hash, err) : 0;
    char name[24];
    int sent = 0;

    if (known < 0)
        return -1;
    if (known && !conn->late) {
        prepared_name(hash, name);
        sent = PQsendQueryPrepared(conn->pg, name, p->count, p->text, p->length, p->format, 0);
    } else if (!conn->late) {
        sent = PQsendQueryParams(conn->pg, sql, p->count, NULL, p->text, p->length, p->format, 0);
    }
    *ret_result = take_reply(conn, sent);
    switch (PQresultStatus(*ret_result)) {
    case PGRES_TUPLES_OK:
    case PGRES_COMMAND_OK:
        return 0;
    default:
        return fail_result(conn, *ret_result, err);
    }
}

/* Replaces a dead connection in place. */
static int conn_renew(struct db_conn *conn, struct err *err)
{
    struct db_conn *fresh = NULL;

    if (conn_open(conn->db, &fresh, err) < 0)
        return -1;
    PQfinish(conn->pg);
    *conn = *fresh;
    free(fresh);
    err_clear(err);
    return 0;
}

/* Reading again is harmless; whether a change was made before the connection broke, nobody can tell. */
static bool may_repeat(const struct db_conn *conn, const char *sql)
{
    return !conn->in_transaction && !conn->late && PQstatus(conn->pg) != CONNECTION_OK &&
           strncmp(sql, "SELECT ", 7) == 0;
}

static int rows_touched(const PGresult *r)
{
    const char *touched = PQcmdTuples((PGresult *)r);

    if (PQresultStatus(r) == PGRES_TUPLES_OK)
        return PQntuples(r);
    return touched[0] ? (int)strtol(touched, NULL, 10) : 0;
}

int db_exec_values(struct db_conn *conn, PGresult **ret_result, struct err *err, const char *sql,
    const struct db_value *values, size_t count, enum db_prepare prepare)
{
    struct params p;
    AUTO_PGRESULT PGresult *r = NULL;
    int n;

    if (count > DB_VALUES_MAX)
        return err_set(err, ERR_INTERNAL, "a statement with %zu values", count);
    memset(p.text, 0, sizeof(p.text));
    memset(p.length, 0, sizeof(p.length));
    memset(p.format, 0, sizeof(p.format));
    p.count = (int)count;
    for (size_t i = 0; i < count; i++)
        param_set(&p, i, &values[i]);
    if (run_params(conn, sql, &p, prepare, &r, err) < 0) {
        if (!may_repeat(conn, sql) || conn_renew(conn, err) < 0)
            return -1;
        PQclear(TAKE_PTR(r));
        if (run_params(conn, sql, &p, prepare, &r, err) < 0)
            return -1;
    }
    n = rows_touched(r);
    if (ret_result)
        *ret_result = TAKE_PTR(r);
    return n;
}

int db_script(struct db_conn *conn, const char *sql, struct err *err)
{
    return run_simple(conn, sql, err);
}

PGconn *db_raw(struct db_conn *conn)
{
    return conn->pg;
}

/* ---- fields ---- */

const char *db_text(const PGresult *r, int row, int col)
{
    return PQgetvalue(r, row, col); /* "" for NULL */
}

uint64_t db_u64(const PGresult *r, int row, int col)
{
    return strtoull(PQgetvalue(r, row, col), NULL, 10);
}

int64_t db_i64(const PGresult *r, int row, int col)
{
    return strtoll(PQgetvalue(r, row, col), NULL, 10);
}

bool db_bool(const PGresult *r, int row, int col)
{
    return PQgetvalue(r, row, col)[0] == 't';
}
