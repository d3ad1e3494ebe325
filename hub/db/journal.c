/* SPDX-License-Identifier: Apache-2.0
 *
 * Append-only things. Events and audit entries are numbered under an advisory lock that is held until the transaction ends,
 * so that a reader who has seen number N will never see a smaller one appear.
 */
#include "hub/db/journal.h"

#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "hub/core/event_text.h"
#include "hub/db/news.h"
#include "hub/db/text_values.h"
#include "transport/base/buf.h"
#include "transport/base/bytes.h"
#include "transport/base/clock.h"

#define EVENTS_LOCK "5333274"
#define AUDIT_LOCK "5333275"
#define EVENT_TEXT_SIZE 1200
#define AUDIT_TEXT_MAX (256 * 1024)
#define HASH_HEX_SIZE (2 * crypto_hash_sha256_BYTES + 1)
#define VERIFY_BATCH "1000"

static const char *or_empty(const char *s)
{
    return s ? s : "";
}

static int begin_own(struct db_conn *conn, bool *ret_own, struct err *err)
{
    *ret_own = !db_in_transaction(conn);
    return *ret_own ? db_begin(conn, err) : 0;
}

static int end_own(struct db_conn *conn, bool own, int rc, struct err *err)
{
    if (!own)
        return rc;
    if (rc < 0) {
        db_rollback(conn);
        return -1;
    }
    return db_commit(conn, err);
}

/* ---- events ---- */

/* In the words of the table. */
static int say(const struct event_spec *e, char text[EVENT_TEXT_SIZE], char remedy[EVENT_TEXT_SIZE], struct err *err)
{
    const struct event_text *words = e->values ? event_text_find(e->code, e->values) : NULL;

    if (!words)
        return err_set(err, ERR_INTERNAL, "event %s has no text", e->code);
    text_value_fill(words->text, e->values, text, EVENT_TEXT_SIZE);
    text_value_fill(words->remedy, e->values, remedy, EVENT_TEXT_SIZE);
    return 0;
}

static int event_insert(struct db_conn *conn, const struct event_spec *e, struct err *err)
{
    char text[EVENT_TEXT_SIZE], remedy[EVENT_TEXT_SIZE];
    AUTO_FREE char *values = text_values_dump(e->values);

    if (!values)
        return err_set(err, ERR_NOMEM, "no memory for an event");
    if (!e->text && say(e, text, remedy, err) < 0)
        return -1;
    if (db_exec(conn, NULL, err, "SELECT pg_advisory_xact_lock(" EVENTS_LOCK ")") < 0 ||
        db_exec(conn, NULL, err,
            "INSERT INTO events (at, severity, code, text, remedy, text_values, machine_id, node_id, vault_id, job_id, "
            "actor, told_by, told_id)"
            " VALUES (coalesce($1, now()), $2, $3, $4, $5, $6::jsonb, $7, $8, $9, $10, $11, $12, $13)"
            " ON CONFLICT (told_by, told_id) WHERE told_id IS NOT NULL DO NOTHING",
            DB_T(e->at_utc_usec), DB_S(e->severity), DB_S(e->code), DB_S(e->text ? e->text : text),
            DB_S(e->text ? or_empty(e->remedy) : remedy), DB_S(values), DB_ID(e->machine_id), DB_ID(e->node_id),
            DB_ID(e->vault_id), DB_ID(e->job_id), DB_S(or_empty(e->actor)), DB_ID(e->told_by), DB_ID(e->told_id)) < 0)
        return err_wrap(err, "event %s", e->code);
    return news_tell(conn, NEWS_EVENTS, err);
}

int event_append(struct db_conn *conn, const struct event_spec *spec, struct err *err)
{
    bool own;

    if (begin_own(conn, &own, err) < 0)
        return -1;
    return end_own(conn, own, event_insert(conn, spec, err), err);
}

int event_range(struct db_conn *conn, uint64_t *ret_first, uint64_t *ret_last, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;

    if (db_exec(conn, &r, err, "SELECT coalesce(min(seq), 0), coalesce(max(seq), 0) FROM events") < 0)
        return -1;
    *ret_first = db_u64(r, 0, 0);
    *ret_last = db_u64(r, 0, 1);
    return 0;
}

/* ---- audit ---- */

struct audit_fields {
    uint64_t seq, at;
    const char *text[8]; /* actor .. request_id */
};

/* Every field with its length before it, so that no two entries read alike. */
static int audit_hash(const char *previous, const struct audit_fields *f, char out[HASH_HEX_SIZE], struct err *err)
{
    AUTO_BUF struct buf b = BUF_INIT(AUDIT_TEXT_MAX);
    uint8_t hash[crypto_hash_sha256_BYTES];

    if (buf_printf(&b, err, "%s\n%" PRIu64 "\n%" PRIu64 "\n", previous, f->seq, f->at) < 0)
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(f->text); i++)
        if (buf_printf(&b, err, "%zu:", strlen(f->text[i])) < 0 || buf_append_str(&b, f->text[i], err) < 0)
            return -1;
    crypto_hash_sha256(hash, b.data, b.len);
    bytes_to_hex(hash, sizeof(hash), out);
    return 0;
}

static int audit_insert(struct db_conn *conn, const struct audit_spec *a, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    char hash[HASH_HEX_SIZE];
    struct audit_fields f = {.at = clock_utc_usec(),
        .text = {or_empty(a->actor), or_empty(a->action), or_empty(a->object_kind), or_empty(a->object_id),
            or_empty(a->outcome), a->detail_json ? a->detail_json : "{}", or_empty(a->address),
            or_empty(a->request_id)}};

    if (db_exec(conn, NULL, err, "SELECT pg_advisory_xact_lock(" AUDIT_LOCK ")") < 0 ||
        db_exec(conn, &r, err, "SELECT seq, hash FROM audit_log ORDER BY seq DESC LIMIT 1") < 0)
        return -1;
    f.seq = PQntuples(r) ? db_u64(r, 0, 0) + 1 : 1;
    if (audit_hash(PQntuples(r) ? db_text(r, 0, 1) : "", &f, hash, err) < 0)
        return -1;
    return db_exec(conn, NULL, err,
               "INSERT INTO audit_log (seq, at, actor, action, object_kind, object_id, outcome, detail, address,"
               " request_id, hash) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
               DB_U(f.seq), DB_T(f.at), DB_S(f.text[0]), DB_S(f.text[1]), DB_S(f.text[2]), DB_S(f.text[3]),
               DB_S(f.text[4]), DB_S(f.text[5]), DB_S(f.text[6]), DB_S(f.text[7]), DB_S(hash)) < 0
               ? -1
               : 0;
}

int audit_append(struct db_conn *conn, const struct audit_spec *spec, struct err *err)
{
    bool own;

    if (begin_own(conn, &own, err) < 0)
        return -1;
    return end_own(conn, own, audit_insert(conn, spec, err), err);
}

/* Checks one batch of rows behind *last. 1: all fit; 0: *ret_bad_seq does not. */
static int verify_batch(
    const PGresult *r, uint64_t *last, char previous[HASH_HEX_SIZE], uint64_t *ret_bad_seq, struct err *err)
{
    for (int i = 0; i < PQntuples(r); i++) {
        struct audit_fields f = {.seq = db_u64(r, i, 0), .at = db_u64(r, i, 1)};
        char hash[HASH_HEX_SIZE];

        for (size_t t = 0; t < ARRAY_LEN(f.text); t++)
            f.text[t] = db_text(r, i, (int)t + 2);
        if (audit_hash(previous, &f, hash, err) < 0)
            return -1;
        if (f.seq != *last + 1 || strcmp(hash, db_text(r, i, 10)) != 0) {
            *ret_bad_seq = f.seq;
            return 0;
        }
        *last = f.seq;
        memcpy(previous, hash, HASH_HEX_SIZE);
    }
    return 1;
}

int audit_verify(struct db_conn *conn, uint64_t *ret_bad_seq, struct err *err)
{
    char previous[HASH_HEX_SIZE] = "";
    uint64_t last = 0;

    for (;;) {
        AUTO_PGRESULT PGresult *r = NULL;
        int n = db_exec(conn, &r, err,
            "SELECT seq, (extract(epoch from at) * 1000000)::bigint, actor, action, object_kind, object_id, outcome,"
            " detail, address, request_id, hash FROM audit_log WHERE seq > $1 ORDER BY seq LIMIT " VERIFY_BATCH,
            DB_U(last));

        if (n <= 0)
            return n < 0 ? -1 : 1;
        n = verify_batch(r, &last, previous, ret_bad_seq, err);
        if (n <= 0)
            return n;
    }
}

/* ---- Idempotency-Key ---- */

static int idempotency_known(const PGresult *r, const char *fingerprint, unsigned *ret_status, char **ret_body,
    char **ret_location, struct err *err)
{
    if (strcmp(db_text(r, 0, 0), fingerprint) != 0) {
        err_set(err, ERR_INVALID, "this Idempotency-Key was used for another request");
        return err_hint(err, "Take a new key for a new request.");
    }
    if (PQgetisnull(r, 0, 1)) {
        err_set(err, ERR_CONFLICT, "a request with this Idempotency-Key is being worked on");
        return err_hint(err, "Wait and repeat the same request.");
    }
    *ret_status = (unsigned)db_u64(r, 0, 1);
    *ret_body = mem_strdup(db_text(r, 0, 2));
    *ret_location = mem_strdup(db_text(r, 0, 3));
    if (*ret_body && *ret_location)
        return 0;
    free(TAKE_PTR(*ret_body));
    free(TAKE_PTR(*ret_location));
    return err_set(err, ERR_NOMEM, "no memory for a stored answer");
}

int idempotency_begin(struct db_conn *conn, const char *actor, const char *key, const char *fingerprint,
    unsigned *ret_status, char **ret_body, char **ret_location, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    int n;

    if (db_exec(conn, NULL, err,
            "DELETE FROM idempotency_keys WHERE actor = $1 AND key = $2 AND created_at < now() - interval '24 hours'",
            DB_S(actor), DB_S(key)) < 0)
        return -1;
    /* A second request with the key waits here for the first one's transaction. */
    n = db_exec(conn, NULL, err,
        "INSERT INTO idempotency_keys (actor, key, fingerprint) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        DB_S(actor), DB_S(key), DB_S(fingerprint));
    if (n != 0)
        return n < 0 ? -1 : 1;
    n = db_exec(conn, &r, err,
        "SELECT fingerprint, status, body, location FROM idempotency_keys WHERE actor = $1 AND key = $2", DB_S(actor),
        DB_S(key));
    if (n < 0)
        return -1;
    if (n == 0)
        return err_set(err, ERR_CONFLICT, "the request with this Idempotency-Key was just forgotten");
    return idempotency_known(r, fingerprint, ret_status, ret_body, ret_location, err);
}

int idempotency_finish(struct db_conn *conn, const char *actor, const char *key, unsigned status, const char *body,
    const char *location, struct err *err)
{
    return db_exec(conn, NULL, err,
               "UPDATE idempotency_keys SET status = $3, body = $4, location = $5 WHERE actor = $1 AND key = $2",
               DB_S(actor), DB_S(key), DB_U(status), DB_S(or_empty(body)), DB_S(or_empty(location))) < 0
               ? -1
               : 0;
}
