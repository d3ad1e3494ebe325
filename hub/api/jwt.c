/* SPDX-License-Identifier: Apache-2.0
 *
 * header.payload.signature: take apart, find the key, check, and only then read the claims. A key is used with the one
 * algorithm that its type has here, and only if the header names that algorithm too.
 */
#include "hub/api/jwt.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <sodium.h>
#include <string.h>

#include "transport/base/mem.h"

#define COORDINATE_BYTES 32u /* of P-256 */
#define RSA_BITS_MIN 2048
#define RSA_BITS_MAX 8192 /* more would only cost time */

static void pkey_free_indirect(EVP_PKEY **p)
{
    EVP_PKEY_free(*p);
}
#define AUTO_PKEY __attribute__((cleanup(pkey_free_indirect)))

struct bytes {
    unsigned char *data;
    size_t len;
};

static void bytes_done(struct bytes *b)
{
    free(b->data);
}
#define AUTO_BYTES __attribute__((cleanup(bytes_done)))

/* base64url without padding, n characters. */
static int decode(const char *text, size_t n, struct bytes *out)
{
    out->data = mem_alloc(n + 1, 1);
    return out->data && n > 0 &&
                   sodium_base642bin(
                       out->data, n, text, n, NULL, &out->len, NULL, sodium_base64_VARIANT_URLSAFE_NO_PADDING) == 0
               ? 0
               : -1;
}

static json_t *decode_json(const char *text, size_t n)
{
    AUTO_BYTES struct bytes b = {0};
    json_t *json = decode(text, n, &b) == 0 ? json_loadb((char *)b.data, b.len, JSON_REJECT_DUPLICATES, NULL) : NULL;

    if (json_is_object(json))
        return json;
    json_decref(json);
    return NULL;
}

/* ---- keys ---- */

static const char *member(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));

    return text ? text : "";
}

static BIGNUM *number(const json_t *jwk, const char *name)
{
    const char *text = member(jwk, name);
    AUTO_BYTES struct bytes b = {0};

    return strlen(text) < 2048 && decode(text, strlen(text), &b) == 0 ? BN_bin2bn(b.data, (int)b.len, NULL) : NULL;
}

static EVP_PKEY *from_params(const char *type, OSSL_PARAM_BLD *build)
{
    OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(build);
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
    EVP_PKEY *key = NULL;

    if (!params || !ctx || EVP_PKEY_fromdata_init(ctx) != 1 ||
        EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, params) != 1)
        key = NULL;
    EVP_PKEY_CTX_free(ctx);
    OSSL_PARAM_free(params);
    return key;
}

static EVP_PKEY *rsa_key(const json_t *jwk)
{
    BIGNUM *n = number(jwk, "n"), *e = number(jwk, "e");
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    EVP_PKEY *key = NULL;

    if (n && e && build && BN_num_bits(n) >= RSA_BITS_MIN && BN_num_bits(n) <= RSA_BITS_MAX && BN_num_bits(e) <= 64 &&
        OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_N, n) == 1 &&
        OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_E, e) == 1)
        key = from_params("RSA", build);
    OSSL_PARAM_BLD_free(build);
    BN_free(n);
    BN_free(e);
    return key;
}

static EVP_PKEY *ec_key(const json_t *jwk)
{
    unsigned char point[1 + 2 * COORDINATE_BYTES] = {POINT_CONVERSION_UNCOMPRESSED};
    BIGNUM *x = number(jwk, "x"), *y = number(jwk, "y");
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    EVP_PKEY *key = NULL;

    if (x && y && build && strcmp(member(jwk, "crv"), "P-256") == 0 &&
        BN_bn2binpad(x, point + 1, COORDINATE_BYTES) == COORDINATE_BYTES &&
        BN_bn2binpad(y, point + 1 + COORDINATE_BYTES, COORDINATE_BYTES) == COORDINATE_BYTES &&
        OSSL_PARAM_BLD_push_utf8_string(build, OSSL_PKEY_PARAM_GROUP_NAME, "prime256v1", 0) == 1 &&
        OSSL_PARAM_BLD_push_octet_string(build, OSSL_PKEY_PARAM_PUB_KEY, point, sizeof(point)) == 1)
        key = from_params("EC", build); /* refuses a point that is not on the curve */
    OSSL_PARAM_BLD_free(build);
    BN_free(x);
    BN_free(y);
    return key;
}

static const struct algorithm {
    const char *name, *key_type;
    EVP_PKEY *(*make_key)(const json_t *jwk);
} algorithms[] = {{"RS256", "RSA", rsa_key}, {"ES256", "EC", ec_key}};

/* A key without `use`, `alg` or `kid` leaves them open; a header without `kid` takes any key of its type. */
static bool key_fits(const json_t *jwk, const struct algorithm *a, const char *kid)
{
    const char *use = member(jwk, "use"), *alg = member(jwk, "alg"), *own = member(jwk, "kid");

    return strcmp(member(jwk, "kty"), a->key_type) == 0 && (!*use || strcmp(use, "sig") == 0) &&
           (!*alg || strcmp(alg, a->name) == 0) && (!*kid || strcmp(own, kid) == 0);
}

/* ---- signatures ---- */

/* r and s side by side become the DER that OpenSSL reads. */
static int der_of(const struct bytes *raw, unsigned char **ret_der)
{
    ECDSA_SIG *sig = ECDSA_SIG_new();
    BIGNUM *r = NULL, *s = NULL;
    int len = -1;

    if (sig && raw->len == 2 * COORDINATE_BYTES) {
        r = BN_bin2bn(raw->data, COORDINATE_BYTES, NULL);
        s = BN_bin2bn(raw->data + COORDINATE_BYTES, COORDINATE_BYTES, NULL);
        if (r && s && ECDSA_SIG_set0(sig, r, s) == 1) {
            r = s = NULL;
            len = i2d_ECDSA_SIG(sig, ret_der);
        }
    }
    BN_free(r);
    BN_free(s);
    ECDSA_SIG_free(sig);
    return len;
}

static bool digest_fits(EVP_PKEY *key, const char *text, size_t n, const unsigned char *signature, size_t len)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool fits = ctx && EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL, key) == 1 &&
                EVP_DigestVerify(ctx, signature, len, (const unsigned char *)text, n) == 1;

    EVP_MD_CTX_free(ctx);
    return fits;
}

static bool signature_fits(EVP_PKEY *key, const char *text, size_t n, const struct bytes *signature)
{
    unsigned char *der = NULL;
    bool fits;
    int len;

    if (EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA)
        return digest_fits(key, text, n, signature->data, signature->len);
    len = der_of(signature, &der);
    fits = len > 0 && digest_fits(key, text, n, der, (size_t)len);
    OPENSSL_free(der);
    return fits;
}

/* 1, 0, -1 as jwt_verify. */
static int check(const struct algorithm *a, const char *kid, const json_t *jwk_set, const char *text, size_t n,
    const struct bytes *signature, struct err *err)
{
    const json_t *jwk;
    bool tried = false;
    size_t i;

    json_array_foreach(json_object_get(jwk_set, "keys"), i, jwk)
    {
        AUTO_PKEY EVP_PKEY *key = key_fits(jwk, a, kid) ? a->make_key(jwk) : NULL;

        if (!key)
            continue;
        tried = true;
        if (signature_fits(key, text, n, signature))
            return 1;
    }
    return tried ? err_set(err, ERR_UNAUTHENTICATED, "the signature of the token is wrong") : 0;
}

static const struct algorithm *algorithm_of(const json_t *header)
{
    for (size_t i = 0; i < ARRAY_LEN(algorithms); i++)
        if (strcmp(member(header, "alg"), algorithms[i].name) == 0)
            return &algorithms[i];
    return NULL;
}

static int verify_parts(
    const char *text, const char *dot, const char *last, const json_t *jwk_set, json_t **ret_claims, struct err *err)
{
    json_t *header = decode_json(text, (size_t)(dot - text));
    const struct algorithm *a = algorithm_of(header);
    AUTO_BYTES struct bytes signature = {0};
    int rc;

    if (!header)
        rc = err_set(err, ERR_UNAUTHENTICATED, "the token is malformed");
    else if (!a || json_object_get(header, "crit"))
        rc = err_set(err, ERR_UNAUTHENTICATED, "the token is signed with %.20s; RS256 and ES256 are taken",
            member(header, "alg"));
    else if (decode(last + 1, strlen(last + 1), &signature) < 0)
        rc = err_set(err, ERR_UNAUTHENTICATED, "the token has no signature");
    else
        rc = check(a, member(header, "kid"), jwk_set, text, (size_t)(last - text), &signature, err);
    json_decref(header);
    if (rc == 1 && !(*ret_claims = decode_json(dot + 1, (size_t)(last - dot - 1))))
        return err_set(err, ERR_UNAUTHENTICATED, "the claims of the token are no JSON object");
    return rc;
}

int jwt_verify(const char *text, const json_t *jwk_set, json_t **ret_claims, struct err *err)
{
    const char *dot = strchr(text, '.');
    const char *last = dot ? strchr(dot + 1, '.') : NULL;

    if (strnlen(text, JWT_TEXT_MAX) == JWT_TEXT_MAX || !last || strchr(last + 1, '.'))
        return err_set(err, ERR_UNAUTHENTICATED, "the token is malformed");
    return verify_parts(text, dot, last, jwk_set, ret_claims, err);
}
