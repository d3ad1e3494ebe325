/* SPDX-License-Identifier: Apache-2.0
 *
 * Sessions and the login brake. All hubs on the database see the same rows, so a session moves between them and guessing
 * at several hubs counts as one.
 */
#include "hub/db/session_store.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "transport/base/clock.h"

#define PREFIX "lws_"
#define PREFIX_CHARS 4
#define RANDOM_BYTES 32
#define RANDOM_CHARS 43
#define FORGET "interval '15 minutes'"
#define WAIT_MAX_SEC 900u
#define KEY_SIZE 300

_Static_assert(SESSION_TEXT_SIZE == PREFIX_CHARS + RANDOM_CHARS + 1, "the text that the header promises");

static void sha256(const char *text, uint8_t out[crypto_hash_sha256_BYTES])
{
    crypto_hash_sha256(out, (const unsigned char *)text, strlen(text));
}

/* ---- sessions ---- */

int session_create(struct db_conn *conn, const struct session_spec *s, char ret_id[IDENT_TEXT_SIZE],
    char ret_text[SESSION_TEXT_SIZE], struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    unsigned char random[RANDOM_BYTES];
    uint8_t hash[crypto_hash_sha256_BYTES];

    randombytes_buf(random, sizeof(random));
    memcpy(ret_text, PREFIX, PREFIX_CHARS);
    sodium_bin2base64(
        ret_text + PREFIX_CHARS, RANDOM_CHARS + 1, random, sizeof(random), sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    sodium_memzero(random, sizeof(random));
    sha256(ret_text, hash);
    if (db_exec(conn, NULL, err, "UPDATE users SET last_login_at = now() WHERE id = $1", DB_S(s->user_id)) < 0 ||
        db_exec(conn, &r, err,
            "INSERT INTO sessions (user_id, hash, method, address, user_agent, idle_usec, expires_at)"
            " VALUES ($1, $2, $3, $4, left($5, 256), $6, $7) RETURNING id",
            DB_S(s->user_id), DB_X(hash, sizeof(hash)), DB_S(s->method), DB_S(s->address),
            DB_S(s->user_agent ? s->user_agent : ""), DB_U(s->idle_usec), DB_T(clock_utc_usec() + s->max_usec)) < 0)
        return err_wrap(err, "beginning a session");
    (void)snprintf(ret_id, IDENT_TEXT_SIZE, "%s", db_text(r, 0, 0));
    return 0;
}

bool session_text_is_well_formed(const char *text)
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

    return strlen(text) == SESSION_TEXT_SIZE - 1 && strncmp(text, PREFIX, PREFIX_CHARS) == 0 &&
           strspn(text + PREFIX_CHARS, alphabet) == RANDOM_CHARS;
}

int session_check(struct db_conn *conn, const char *text, struct db_set *ret_set, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    uint8_t hash[crypto_hash_sha256_BYTES];
    int n;

    if (!session_text_is_well_formed(text))
        return 0;
    sha256(text, hash);
    n = db_exec(conn, &r, err,
        "SELECT s.id, s.last_seen_at < now() - interval '1 minute' FROM sessions s JOIN users u ON u.id = s.user_id"
        " WHERE s.hash = $1 AND s.revoked_at IS NULL AND s.expires_at > now() AND NOT u.disabled"
        " AND s.last_seen_at > now() - s.idle_usec * interval '1 microsecond'",
        DB_X(hash, sizeof(hash)));
    if (n <= 0)
        return n;
    if (db_bool(r, 0, 1) &&
        db_exec(conn, NULL, err, "UPDATE sessions SET last_seen_at = now() WHERE id = $1", DB_S(db_text(r, 0, 0))) < 0)
        return -1;
    return db_get(conn, &db_sessions, db_text(r, 0, 0), ret_set, err);
}

int session_revoke(struct db_conn *conn, const char *id, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    int n = db_exec(
        conn, NULL, err, "UPDATE sessions SET revoked_at = now() WHERE id = $1 AND revoked_at IS NULL", DB_S(id));

    if (n != 0)
        return n < 0 ? -1 : 0;
    return db_need(conn, &db_sessions, id, &set, err);
}

void session_csrf(const char *text, char ret_csrf[SESSION_CSRF_SIZE])
{
    static const char purpose[] = "leeward csrf 1";
    unsigned char mac[32];

    _Static_assert(SESSION_CSRF_SIZE == 44, "32 bytes in base64url");
    (void)crypto_generichash(mac, sizeof(mac), (const unsigned char *)purpose, sizeof(purpose) - 1,
        (const unsigned char *)text, strnlen(text, crypto_generichash_KEYBYTES_MAX));
    sodium_bin2base64(ret_csrf, SESSION_CSRF_SIZE, mac, sizeof(mac), sodium_base64_VARIANT_URLSAFE_NO_PADDING);
}

/* ---- the brake ---- */

struct brake {
    char key[KEY_SIZE];
    unsigned allowed;
};
#define BRAKES 3

static void brakes_of(const char *name, const char *address, struct brake out[BRAKES])
{
    (void)snprintf(out[0].key, KEY_SIZE, "pair:%.160s@%.64s", name, address);
    out[0].allowed = 5;
    (void)snprintf(out[1].key, KEY_SIZE, "address:%.64s", address);
    out[1].allowed = 20;
    (void)snprintf(out[2].key, KEY_SIZE, "name:%.160s", name);
    out[2].allowed = 100;
}

static unsigned wait_after(uint64_t failures, unsigned allowed)
{
    uint64_t beyond = failures - allowed;

    return beyond >= 10 ? WAIT_MAX_SEC : 1u << beyond;
}

int login_brake_look(
    struct db_conn *conn, const char *name, const char *address, unsigned *ret_wait_sec, struct err *err)
{
    struct brake brakes[BRAKES];

    brakes_of(name, address, brakes);
    *ret_wait_sec = 0;
    for (size_t i = 0; i < BRAKES; i++) {
        AUTO_PGRESULT PGresult *r = NULL;
        int64_t left;
        int n = db_exec(conn, &r, err,
            "SELECT failures, ceil(extract(epoch FROM now() - last_at))::bigint FROM login_failures"
            " WHERE key = $1 AND last_at > now() - " FORGET,
            DB_S(brakes[i].key));

        if (n < 0)
            return -1;
        if (n == 0 || db_u64(r, 0, 0) < brakes[i].allowed)
            continue;
        left = (int64_t)wait_after(db_u64(r, 0, 0), brakes[i].allowed) - db_i64(r, 0, 1);
        if (left > (int64_t)*ret_wait_sec)
            *ret_wait_sec = (unsigned)left;
    }
    return 0;
}

int login_brake_failed(struct db_conn *conn, const char *name, const char *address, struct err *err)
{
    struct brake brakes[BRAKES];

    brakes_of(name, address, brakes);
    for (size_t i = 0; i < BRAKES; i++)
        if (db_exec(conn, NULL, err,
                "INSERT INTO login_failures AS f (key, failures) VALUES ($1, 1) ON CONFLICT (key) DO UPDATE SET"
                " failures = CASE WHEN f.last_at > now() - " FORGET " THEN f.failures + 1 ELSE 1 END,"
                " last_at = now()",
                DB_S(brakes[i].key)) < 0)
            return -1;
    return 0;
}

int login_brake_passed(struct db_conn *conn, const char *name, const char *address, struct err *err)
{
    struct brake brakes[BRAKES];

    brakes_of(name, address, brakes);
    return db_exec(conn, NULL, err, "DELETE FROM login_failures WHERE key = $1", DB_S(brakes[0].key)) < 0 ? -1 : 0;
}
