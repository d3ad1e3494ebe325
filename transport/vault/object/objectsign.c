/* SPDX-License-Identifier: Apache-2.0
 *
 * SigV4 and SharedKey. Both make one text of a request in an order of their own and give its HMAC-SHA256; they differ in the
 * order, and SigV4 derives a key of the day, region and service first. HMAC and hash are OpenSSL's.
 */
#include "transport/vault/object/objectsign.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "transport/base/bytes.h"
#include "transport/base/clock.h"
#include "transport/base/mem.h"

enum { MAC_BYTES = 32, AZURE_KEY_MAX = 512 };

static void utc_time(uint64_t utc_usec, const char *format, char *out, size_t n)
{
    time_t t = (time_t)(utc_usec / USEC_PER_SEC);
    struct tm tm;

    if (gmtime_r(&t, &tm) == NULL || strftime(out, n, format, &tm) == 0)
        out[0] = '\0';
}

void objectsign_v4_time(uint64_t utc_usec, char out[17])
{
    utc_time(utc_usec, "%Y%m%dT%H%M%SZ", out, 17);
}

void objectsign_http_time(uint64_t utc_usec, char out[30])
{
    utc_time(utc_usec, "%a, %d %b %Y %H:%M:%S GMT", out, 30);
}

int objectsign_sha256(const void *data, size_t n, char out[OBJECTSIGN_SHA256_HEX], struct err *err)
{
    uint8_t hash[MAC_BYTES];
    static const uint8_t nothing[1];

    if (EVP_Digest(n > 0 ? data : nothing, n, hash, NULL, EVP_sha256(), NULL) != 1)
        return err_set(err, ERR_INTERNAL, "SHA-256 failed");
    bytes_to_hex(hash, sizeof(hash), out);
    return 0;
}

static int mac(const void *key, size_t key_len, const void *text, size_t n, uint8_t out[MAC_BYTES], struct err *err)
{
    unsigned len = 0;

    if (HMAC(EVP_sha256(), key, (int)key_len, text, n, out, &len) == NULL || len != MAC_BYTES)
        return err_set(err, ERR_INTERNAL, "HMAC failed");
    return 0;
}

int objectsign_encode(struct buf *b, const char *text, struct err *err)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";

    for (const char *c = text; *c != '\0'; c++) {
        bool keep = strchr(plain, *c) != NULL;

        if ((keep ? buf_append(b, c, 1, err) : buf_printf(b, err, "%%%02X", (unsigned char)*c)) < 0)
            return -1;
    }
    return 0;
}

/* By name, then by value. Both services order by the bytes. */
static int pair_order(const void *a, const void *b)
{
    const struct sign_pair *x = a, *y = b;
    int by_name = strcmp(x->name, y->name);

    return by_name != 0 ? by_name : strcmp(x->value, y->value);
}

static void sorted_pairs(const struct sign_pair *from, size_t count, struct sign_pair *to)
{
    memcpy(to, from, count * sizeof(*to));
    qsort(to, count, sizeof(*to), pair_order);
}

int objectsign_query(struct buf *b, const struct sign_request *r, struct err *err)
{
    struct sign_pair pairs[OBJECTSIGN_PAIRS_MAX];

    sorted_pairs(r->query, r->query_count, pairs);
    for (size_t i = 0; i < r->query_count; i++) {
        if ((i > 0 && buf_append_str(b, "&", err) < 0) || objectsign_encode(b, pairs[i].name, err) < 0 ||
            buf_append_str(b, "=", err) < 0 || objectsign_encode(b, pairs[i].value, err) < 0)
            return -1;
    }
    return 0;
}

/* ---- SigV4 ---- */

/* A header's value without spaces at its ends, and with one where there were more. */
static int append_trimmed(struct buf *b, const char *value, struct err *err)
{
    bool pending = false, any = false;

    for (const char *c = value; *c != '\0'; c++) {
        if (*c == ' ') {
            pending = any;
            continue;
        }
        if ((pending && buf_append_str(b, " ", err) < 0) || buf_append(b, c, 1, err) < 0)
            return -1;
        pending = false;
        any = true;
    }
    return 0;
}

static int append_signed_names(struct buf *b, const struct sign_pair *headers, size_t count, struct err *err)
{
    for (size_t i = 0; i < count; i++) {
        if (buf_printf(b, err, "%s%s", i > 0 ? ";" : "", headers[i].name) < 0)
            return -1;
    }
    return 0;
}

int objectsign_v4_canonical(const struct sign_request *r, const char *body_hash, struct buf *out, struct err *err)
{
    struct sign_pair headers[OBJECTSIGN_PAIRS_MAX];

    sorted_pairs(r->headers, r->headers_count, headers);
    if (buf_printf(out, err, "%s\n%s\n", r->method, r->path) < 0 || objectsign_query(out, r, err) < 0 ||
        buf_append_str(out, "\n", err) < 0)
        return -1;
    for (size_t i = 0; i < r->headers_count; i++) {
        if (buf_printf(out, err, "%s:", headers[i].name) < 0 || append_trimmed(out, headers[i].value, err) < 0 ||
            buf_append_str(out, "\n", err) < 0)
            return -1;
    }
    if (buf_append_str(out, "\n", err) < 0 || append_signed_names(out, headers, r->headers_count, err) < 0)
        return -1;
    return buf_printf(out, err, "\n%s", body_hash);
}

/* The key of the day: HMAC of date, region, service and "aws4_request", each with the one before as key. */
static int v4_day_key(const struct sign_v4_key *key, const char *time, uint8_t out[MAC_BYTES], struct err *err)
{
    AUTO_FREE char *first = mem_printf("AWS4%s", key->secret);
    int rc = -1;

    if (first == NULL)
        return err_set(err, ERR_NOMEM, "out of memory for a signature");
    if (mac(first, strlen(first), time, 8, out, err) == 0 &&
        mac(out, MAC_BYTES, key->region, strlen(key->region), out, err) == 0 &&
        mac(out, MAC_BYTES, key->service, strlen(key->service), out, err) == 0)
        rc = mac(out, MAC_BYTES, "aws4_request", 12, out, err);
    OPENSSL_cleanse(first, strlen(first));
    return rc;
}

int objectsign_v4(const struct sign_request *r, const struct sign_v4_key *key, const char *time, const char *body_hash,
    struct buf *authorization, struct err *err)
{
    AUTO_BUF struct buf text = BUF_INIT(OBJECTSIGN_TEXT_MAX);
    struct sign_pair headers[OBJECTSIGN_PAIRS_MAX];
    char hash[OBJECTSIGN_SHA256_HEX], signature[2 * MAC_BYTES + 1];
    uint8_t day_key[MAC_BYTES], sum[MAC_BYTES];

    if (objectsign_v4_canonical(r, body_hash, &text, err) < 0 || objectsign_sha256(text.data, text.len, hash, err) < 0)
        return -1;
    buf_clear(&text);
    if (buf_printf(&text, err, "AWS4-HMAC-SHA256\n%s\n%.8s/%s/%s/aws4_request\n%s", time, time, key->region,
            key->service, hash) < 0 ||
        v4_day_key(key, time, day_key, err) < 0 || mac(day_key, sizeof(day_key), text.data, text.len, sum, err) < 0)
        return -1;
    OPENSSL_cleanse(day_key, sizeof(day_key));
    bytes_to_hex(sum, sizeof(sum), signature);
    sorted_pairs(r->headers, r->headers_count, headers);
    if (buf_printf(authorization, err, "AWS4-HMAC-SHA256 Credential=%s/%.8s/%s/%s/aws4_request, SignedHeaders=",
            key->id, time, key->region, key->service) < 0 ||
        append_signed_names(authorization, headers, r->headers_count, err) < 0)
        return -1;
    return buf_printf(authorization, err, ", Signature=%s", signature);
}

/* ---- SharedKey ---- */

static const char *header_of(const struct sign_request *r, const char *name)
{
    for (size_t i = 0; i < r->headers_count; i++) {
        if (strcmp(r->headers[i].name, name) == 0)
            return r->headers[i].value;
    }
    return "";
}

/* The standard headers in their fixed order, each a line, also when it is empty. An empty body has no length here. */
static int append_standard(struct buf *b, const struct sign_request *r, struct err *err)
{
    static const char *const names[] = {"content-encoding", "content-language", "content-length", "content-md5",
        "content-type", "date", "if-modified-since", "if-match", "if-none-match", "if-unmodified-since", "range"};

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        const char *value = header_of(r, names[i]);

        if (strcmp(names[i], "content-length") == 0 && strcmp(value, "0") == 0)
            value = "";
        if (buf_printf(b, err, "%s\n", value) < 0)
            return -1;
    }
    return 0;
}

int objectsign_azure_text(const struct sign_request *r, const char *account, struct buf *out, struct err *err)
{
    struct sign_pair pairs[OBJECTSIGN_PAIRS_MAX];

    if (buf_printf(out, err, "%s\n", r->method) < 0 || append_standard(out, r, err) < 0)
        return -1;
    sorted_pairs(r->headers, r->headers_count, pairs);
    for (size_t i = 0; i < r->headers_count; i++) {
        if (strncmp(pairs[i].name, "x-ms-", 5) == 0 &&
            buf_printf(out, err, "%s:%s\n", pairs[i].name, pairs[i].value) < 0)
            return -1;
    }
    if (buf_printf(out, err, "/%s%s", account, r->path) < 0)
        return -1;
    sorted_pairs(r->query, r->query_count, pairs);
    for (size_t i = 0; i < r->query_count; i++) {
        if (buf_printf(out, err, "\n%s:%s", pairs[i].name, pairs[i].value) < 0)
            return -1;
    }
    return 0;
}

/* EVP_DecodeBlock counts padding as zero bytes; they are taken off again. */
static int decode_key(const char *base64, uint8_t out[AZURE_KEY_MAX], size_t *ret_n, struct err *err)
{
    size_t n = strlen(base64), digits = strcspn(base64, "=");
    bool is_whole = n > 0 && n % 4 == 0 && n / 4 * 3 <= AZURE_KEY_MAX && n - digits <= 2;
    int got = is_whole ? EVP_DecodeBlock(out, (const uint8_t *)base64, (int)n) : -1;

    if (got <= 0) {
        err_set(err, ERR_INVALID, "the account key is not base64");
        return err_hint(err, "copy the whole key, with the equals signs at its end");
    }
    *ret_n = (size_t)got - (n - digits);
    return 0;
}

int objectsign_azure(const struct sign_request *r, const char *account, const char *key_base64,
    struct buf *authorization, struct err *err)
{
    AUTO_BUF struct buf text = BUF_INIT(OBJECTSIGN_TEXT_MAX);
    uint8_t key[AZURE_KEY_MAX], sum[MAC_BYTES];
    char base64[4 * (MAC_BYTES + 2) / 3 + 1];
    size_t n = 0;

    if (objectsign_azure_text(r, account, &text, err) < 0 || decode_key(key_base64, key, &n, err) < 0)
        return -1;
    int rc = mac(key, n, text.data, text.len, sum, err);
    OPENSSL_cleanse(key, sizeof(key));
    if (rc < 0)
        return -1;
    EVP_EncodeBlock((uint8_t *)base64, sum, MAC_BYTES);
    return buf_printf(authorization, err, "SharedKey %s:%s", account, base64);
}
