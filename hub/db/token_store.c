/* SPDX-License-Identifier: Apache-2.0
 *
 * Tokens: drawn, shown once, stored as SHA-256. The checksum at the end of an API token (the low 30 bits of XXH3-32 of what
 * goes before, in base64url without its top bits) lets a mistyped token, or a secret scanner's false alarm, be told
 * without the database.
 */
#include "hub/db/token_store.h"

#include <assert.h>
#include <sodium.h>
#include <string.h>

#include "transport/base/clock.h"
#include "transport/base/hash.h"

#define RANDOM_BYTES 32
#define RANDOM_CHARS 43
#define CHECK_CHARS 6
#define PREFIX_CHARS 4
#define LAST_USED_USEC (60 * USEC_PER_SEC) /* how precisely it is known: a write for each request would be too dear */
#define ENROLMENT_LIFE_USEC (24 * 3600 * USEC_PER_SEC)

static_assert(
    API_TOKEN_TEXT_SIZE == PREFIX_CHARS + RANDOM_CHARS + CHECK_CHARS + 1, "the text that the header promises");
static_assert(
    ENROLMENT_TOKEN_TEXT_SIZE == PREFIX_CHARS + RANDOM_CHARS + 1 + 64 + 1, "the text that the header promises");

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static void sha256(const char *text, uint8_t out[crypto_hash_sha256_BYTES])
{
    crypto_hash_sha256(out, (const unsigned char *)text, strlen(text));
}

/* prefix + 43 characters, NUL-terminated. */
static void draw(const char *prefix, char *out)
{
    unsigned char random[RANDOM_BYTES];

    randombytes_buf(random, sizeof(random));
    memcpy(out, prefix, PREFIX_CHARS);
    sodium_bin2base64(
        out + PREFIX_CHARS, RANDOM_CHARS + 1, random, sizeof(random), sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    sodium_memzero(random, sizeof(random));
}

static void checksum(const char *text, char out[CHECK_CHARS + 1])
{
    uint32_t sum = hash_32(text, PREFIX_CHARS + RANDOM_CHARS);

    for (int i = 0; i < CHECK_CHARS; i++, sum >>= 5)
        out[i] = alphabet[sum & 31];
    out[CHECK_CHARS] = '\0';
}

/* ---- API tokens ---- */

int api_token_create(struct db_conn *conn, const struct api_token_spec *spec, char ret_id[IDENT_TEXT_SIZE],
    char ret_text[API_TOKEN_TEXT_SIZE], struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    uint8_t hash[crypto_hash_sha256_BYTES];

    draw("lwt_", ret_text);
    checksum(ret_text, ret_text + PREFIX_CHARS + RANDOM_CHARS);
    sha256(ret_text, hash);
    if (db_exec(conn, &r, err,
            "INSERT INTO api_tokens (name, hash, role, scopes, created_by, expires_at, user_id)"
            " VALUES ($1, $2, $3, coalesce($4, '[]')::jsonb, $5, $6, $7) RETURNING id",
            DB_S(spec->name), DB_X(hash, sizeof(hash)), DB_S(spec->role), DB_S(spec->scopes_json),
            DB_S(spec->created_by ? spec->created_by : ""), DB_T(spec->expires_at), DB_ID(spec->user_id)) < 0)
        return err_wrap(err, "making an API token");
    memcpy(ret_id, db_text(r, 0, 0), IDENT_TEXT_SIZE);
    return 0;
}

static int revoked(struct db_conn *conn, int touched, const struct db_entity *entity, const char *id, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};

    if (touched < 0)
        return -1;
    /* Revoked before: that is what was asked for. */
    return touched > 0 ? 0 : db_need(conn, entity, id, &set, err);
}

int api_token_revoke(struct db_conn *conn, const char *id, struct err *err)
{
    int n = db_exec(conn, NULL, err,
        "UPDATE api_tokens SET revoked_at = now(), version = version + 1 WHERE id = $1 AND revoked_at IS NULL",
        DB_S(id));

    return revoked(conn, n, &db_api_tokens, id, err);
}

bool api_token_is_well_formed(const char *text)
{
    char sum[CHECK_CHARS + 1];

    if (strlen(text) != API_TOKEN_TEXT_SIZE - 1 || strncmp(text, "lwt_", PREFIX_CHARS) != 0 ||
        strspn(text + PREFIX_CHARS, alphabet) != RANDOM_CHARS + CHECK_CHARS)
        return false;
    checksum(text, sum);
    return strcmp(sum, text + PREFIX_CHARS + RANDOM_CHARS) == 0;
}

int api_token_check(struct db_conn *conn, const char *text, struct db_set *ret_set, struct err *err)
{
    uint8_t hash[crypto_hash_sha256_BYTES];
    const struct api_token_row *token;
    int found;

    if (!api_token_is_well_formed(text))
        return 0;
    sha256(text, hash);
    found = db_get_where(conn, &db_api_tokens,
        "t.hash = $1 AND t.revoked_at IS NULL AND (t.expires_at IS NULL OR t.expires_at > now())"
        " AND NOT coalesce(u.disabled, false)",
        DB_X(hash, sizeof(hash)), ret_set, err);
    if (found <= 0)
        return found;
    token = db_at(ret_set, struct api_token_row, 0);
    if (clock_utc_usec() < token->last_used_at + LAST_USED_USEC)
        return 1;
    if (db_exec(conn, NULL, err,
            "UPDATE api_tokens SET last_used_at = now()"
            " WHERE id = $1 AND coalesce(last_used_at < now() - interval '1 minute', true)",
            DB_S(token->id)) >= 0)
        return 1;
    db_set_done(ret_set);
    return -1;
}

/* ---- enrolment tokens ---- */

int enrolment_token_create(struct db_conn *conn, const struct enrolment_token_spec *spec, const char *ca_sha256_hex,
    char ret_id[IDENT_TEXT_SIZE], char ret_text[ENROLMENT_TOKEN_TEXT_SIZE], struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    uint8_t hash[crypto_hash_sha256_BYTES];
    uint64_t expires = spec->expires_at ? spec->expires_at : clock_utc_usec() + ENROLMENT_LIFE_USEC;

    if (strlen(ca_sha256_hex) != 64)
        return err_set(err, ERR_INTERNAL, "the CA's fingerprint has %zu digits", strlen(ca_sha256_hex));
    draw("lwe_", ret_text);
    ret_text[PREFIX_CHARS + RANDOM_CHARS] = '.';
    memcpy(ret_text + PREFIX_CHARS + RANDOM_CHARS + 1, ca_sha256_hex, 65);
    sha256(ret_text, hash);
    if (db_exec(conn, &r, err,
            "INSERT INTO enrolment_tokens (name, hash, role, site_id, created_by, expires_at)"
            " VALUES ($1, $2, $3, $4, $5, $6) RETURNING id",
            DB_S(spec->name ? spec->name : ""), DB_X(hash, sizeof(hash)), DB_S(spec->role), DB_ID(spec->site_id),
            DB_S(spec->created_by ? spec->created_by : ""), DB_T(expires)) < 0)
        return err_wrap(err, "making an enrolment token");
    memcpy(ret_id, db_text(r, 0, 0), IDENT_TEXT_SIZE);
    return 0;
}

int enrolment_token_revoke(struct db_conn *conn, const char *id, struct err *err)
{
    int n = db_exec(conn, NULL, err,
        "UPDATE enrolment_tokens SET revoked_at = now(), version = version + 1"
        " WHERE id = $1 AND revoked_at IS NULL",
        DB_S(id));

    return revoked(conn, n, &db_enrolment_tokens, id, err);
}

static void use_take(const PGresult *r, struct enrolment_use *use)
{
    strncpy(use->subject_id, db_text(r, 0, 0), IDENT_TEXT_SIZE - 1);
    strncpy(use->site_id, db_text(r, 0, 1), IDENT_TEXT_SIZE - 1);
    use->subject_id[IDENT_TEXT_SIZE - 1] = use->site_id[IDENT_TEXT_SIZE - 1] = '\0';
}

int enrolment_token_use(struct db_conn *conn, const char *text, const char *role, const uint8_t key_sha256[32],
    struct enrolment_use *use, struct err *err)
{
    AUTO_PGRESULT PGresult *fresh = NULL;
    AUTO_PGRESULT PGresult *again = NULL;
    uint8_t hash[crypto_hash_sha256_BYTES];
    int n;

    sha256(text, hash);
    use->again = false;
    n = db_exec(conn, &fresh, err,
        "UPDATE enrolment_tokens SET used_at = now(), used_by = $3, used_key = $4, version = version + 1"
        " WHERE hash = $1 AND role = $2 AND used_at IS NULL AND revoked_at IS NULL AND expires_at > now()"
        " RETURNING used_by, site_id",
        DB_X(hash, sizeof(hash)), DB_S(role), DB_S(use->subject_id), DB_X(key_sha256, 32));
    if (n < 0)
        return -1;
    if (n > 0) {
        use_take(fresh, use);
        return 1;
    }
    n = db_exec(conn, &again, err,
        "SELECT used_by, site_id FROM enrolment_tokens"
        " WHERE hash = $1 AND role = $2 AND used_key = $3 AND revoked_at IS NULL AND expires_at > now()",
        DB_X(hash, sizeof(hash)), DB_S(role), DB_X(key_sha256, 32));
    if (n <= 0)
        return n;
    use_take(again, use);
    use->again = true;
    return 1;
}
