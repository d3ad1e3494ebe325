/* SPDX-License-Identifier: Apache-2.0
 *
 * Happy path: prefix and key id agree, the box opens under the context of its place. Failure modes: another key (a database with hubs of
 * different CAs, or a CA made anew), a text that was altered or moved: both are told apart and neither is guessed at.
 */
#include "hub/db/secret_box.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "transport/base/bytes.h"
#include "transport/base/mem.h"

#define PREFIX "lws1:"
#define PREFIX_LEN 5u
#define KEY_ID_CHARS 8u
#define HEAD_LEN (PREFIX_LEN + KEY_ID_CHARS + 1)
#define NONCE crypto_aead_xchacha20poly1305_ietf_NPUBBYTES
#define TAG crypto_aead_xchacha20poly1305_ietf_ABYTES
#define SECRET_MAX 4096u
#define BASE64 sodium_base64_VARIANT_URLSAFE_NO_PADDING

_Static_assert(DB_SECRET_KEY_SIZE == crypto_aead_xchacha20poly1305_ietf_KEYBYTES, "size of a key");

static void key_id(const uint8_t *key, char out[KEY_ID_CHARS + 1])
{
    uint8_t hash[crypto_generichash_BYTES_MIN];

    (void)crypto_generichash(hash, sizeof(hash), (const uint8_t *)"leeward secret key id", 21, key, DB_SECRET_KEY_SIZE);
    bytes_to_hex(hash, KEY_ID_CHARS / 2, out);
}

static int no_key(struct err *err)
{
    return err_set(err, ERR_INTERNAL, "this hub has no key for secrets");
}

int secret_seal(struct db_conn *conn, const char *place, const char *secret, char **ret_sealed, struct err *err)
{
    const uint8_t *key = db_secret_key(db_of(conn));
    uint8_t box[NONCE + SECRET_MAX + TAG];
    size_t n = strlen(secret), size;
    unsigned long long len;
    char id[KEY_ID_CHARS + 1];
    char *text;

    if (n == 0) {
        *ret_sealed = mem_strdup("");
        return *ret_sealed ? 0 : err_set(err, ERR_NOMEM, "no memory for a secret");
    }
    if (!key)
        return no_key(err);
    if (n > SECRET_MAX)
        return err_set(err, ERR_TOO_LARGE, "a secret has at most %u bytes", SECRET_MAX);
    randombytes_buf(box, NONCE);
    (void)crypto_aead_xchacha20poly1305_ietf_encrypt(
        box + NONCE, &len, (const uint8_t *)secret, n, (const uint8_t *)place, strlen(place), NULL, box, key);
    size = HEAD_LEN + sodium_base64_ENCODED_LEN(NONCE + len, BASE64);
    text = mem_alloc(size, 1);
    if (!text)
        return err_set(err, ERR_NOMEM, "no memory for a secret");
    key_id(key, id);
    (void)snprintf(text, size, PREFIX "%s:", id);
    (void)sodium_bin2base64(text + HEAD_LEN, size - HEAD_LEN, box, NONCE + (size_t)len, BASE64);
    *ret_sealed = text;
    return 0;
}

static int unreadable(struct err *err, const char *why)
{
    (void)err_set(err, ERR_CORRUPT, "a stored secret cannot be read: %s", why);
    return err_hint(err, "Give all hubs of this database the same DATA/ca, or set the secret anew.");
}

int secret_open(const struct db *db, const char *place, const char *sealed, char **ret_secret, struct err *err)
{
    const uint8_t *key = db_secret_key(db);
    uint8_t box[NONCE + SECRET_MAX + TAG];
    AUTO_FREE char *plain = NULL;
    char id[KEY_ID_CHARS + 1];
    unsigned long long len;
    size_t n;

    if (!sealed[0]) {
        *ret_secret = mem_strdup("");
        return *ret_secret ? 0 : err_set(err, ERR_NOMEM, "no memory for a secret");
    }
    if (!key)
        return no_key(err);
    key_id(key, id);
    if (strncmp(sealed, PREFIX, PREFIX_LEN) != 0 || strlen(sealed) <= HEAD_LEN || sealed[HEAD_LEN - 1] != ':')
        return unreadable(err, "it is not sealed");
    if (strncmp(sealed + PREFIX_LEN, id, KEY_ID_CHARS) != 0)
        return unreadable(err, "it was sealed by a hub with another CA");
    if (sodium_base642bin(box, sizeof(box), sealed + HEAD_LEN, strlen(sealed + HEAD_LEN), NULL, &n, NULL, BASE64) !=
            0 ||
        n < NONCE + TAG)
        return unreadable(err, "it was altered");
    if (!(plain = mem_alloc(n - NONCE - TAG + 1, 1)))
        return err_set(err, ERR_NOMEM, "no memory for a secret");
    if (crypto_aead_xchacha20poly1305_ietf_decrypt(
            (uint8_t *)plain, &len, NULL, box + NONCE, n - NONCE, (const uint8_t *)place, strlen(place), box, key) != 0)
        return unreadable(err, "it was altered");
    plain[len] = 0;
    *ret_secret = TAKE_PTR(plain);
    return 0;
}

static int seal_row(struct db_conn *conn, const char *id, const char *secret, struct err *err)
{
    AUTO_FREE char *sealed = NULL;

    if (secret_seal(conn, id, secret, &sealed, err) < 0)
        return -1;
    return db_exec(conn, NULL, err, "UPDATE alert_channels SET secret = $2, secret_sealed = true WHERE id = $1",
               DB_S(id), DB_S(sealed)) < 0
               ? -1
               : 0;
}

int secret_seal_old(struct db_conn *conn, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    int n;

    if (db_begin(conn, err) < 0)
        return -1;
    n = db_exec(conn, &r, err, "SELECT id, secret FROM alert_channels WHERE NOT secret_sealed FOR UPDATE");
    for (int i = 0; i < n; i++)
        if (seal_row(conn, db_text(r, i, 0), db_text(r, i, 1), err) < 0)
            n = -1;
    if (n < 0) {
        db_rollback(conn);
        return -1;
    }
    return db_commit(conn, err);
}
