/* SPDX-License-Identifier: Apache-2.0
 *
 * The test CA, on OpenSSL. Anything that fails aborts: it is the test that is broken then.
 */
#include "tests/unit/rpc/testca.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "transport/base/bytes.h"
#include "transport/base/mem.h"

#define MUST(x)                                                                                                        \
    do {                                                                                                               \
        if (!(x)) {                                                                                                    \
            fprintf(stderr, "test CA: %s failed\n", #x);                                                               \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

struct testca {
    EVP_PKEY *key;
    X509 *certificate;
    char dir[200];
    char path[256];
    char fingerprint[65];
};

static void write_pem(const char *path, X509 *certificate, X509 *extra, EVP_PKEY *key)
{
    FILE *f = fopen(path, "w");
    MUST(f != NULL);
    if (certificate != NULL)
        MUST(PEM_write_X509(f, certificate) == 1);
    if (extra != NULL)
        MUST(PEM_write_X509(f, extra) == 1);
    if (key != NULL)
        MUST(PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL) == 1);
    MUST(fclose(f) == 0);
}

static void add_extension(X509 *certificate, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, issuer, certificate, NULL, NULL, 0);
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    MUST(ext != NULL && X509_add_ext(certificate, ext, -1) == 1);
    X509_EXTENSION_free(ext);
}

static X509 *certificate_new(EVP_PKEY *key, const char *cn, X509 *issuer, long from_sec, long to_sec)
{
    unsigned char serial[16];
    X509 *c = X509_new();
    MUST(c != NULL && RAND_bytes(serial, sizeof(serial)) == 1);
    serial[0] = (unsigned char)((serial[0] & 0x7f) | 0x40);
    BIGNUM *number = BN_bin2bn(serial, sizeof(serial), NULL);
    MUST(BN_to_ASN1_INTEGER(number, X509_get_serialNumber(c)) != NULL);
    BN_free(number);
    MUST(X509_set_version(c, 2) == 1 && X509_set_pubkey(c, key) == 1);
    MUST(X509_gmtime_adj(X509_getm_notBefore(c), from_sec) != NULL &&
         X509_gmtime_adj(X509_getm_notAfter(c), to_sec) != NULL);
    X509_NAME *name = X509_NAME_new();
    MUST(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)cn, -1, -1, 0) == 1);
    MUST(X509_set_subject_name(c, name) == 1);
    MUST(X509_set_issuer_name(c, issuer != NULL ? X509_get_subject_name(issuer) : name) == 1);
    X509_NAME_free(name);
    return c;
}

struct testca *testca_new(const char *dir, const char *name)
{
    struct testca *ca = calloc(1, sizeof(*ca));
    MUST(ca != NULL);
    snprintf(ca->dir, sizeof(ca->dir), "%s", dir);
    snprintf(ca->path, sizeof(ca->path), "%s/%s.pem", dir, name);
    ca->key = EVP_EC_gen("P-256");
    MUST(ca->key != NULL);
    ca->certificate = certificate_new(ca->key, name, NULL, -3600, 86400);
    add_extension(ca->certificate, ca->certificate, NID_basic_constraints, "critical,CA:TRUE");
    add_extension(ca->certificate, ca->certificate, NID_key_usage, "critical,keyCertSign,cRLSign");
    add_extension(ca->certificate, ca->certificate, NID_subject_key_identifier, "hash");
    MUST(X509_sign(ca->certificate, ca->key, EVP_sha256()) > 0);
    write_pem(ca->path, ca->certificate, NULL, NULL);
    unsigned char digest[32];
    unsigned size = 0;
    MUST(X509_digest(ca->certificate, EVP_sha256(), digest, &size) == 1);
    bytes_to_hex(digest, sizeof(digest), ca->fingerprint);
    return ca;
}

void testca_free(struct testca *ca)
{
    if (ca == NULL)
        return;
    EVP_PKEY_free(ca->key);
    X509_free(ca->certificate);
    free(ca);
}

const char *testca_path(const struct testca *ca)
{
    return ca->path;
}

const char *testca_fingerprint(const struct testca *ca)
{
    return ca->fingerprint;
}

static X509 *leaf_new(
    struct testca *ca, EVP_PKEY *key, const char *cn, const char *role, const char *id_text, long from_sec, long to_sec)
{
    char san[400];
    X509 *leaf = certificate_new(key, cn, ca->certificate, from_sec, to_sec);
    add_extension(leaf, ca->certificate, NID_basic_constraints, "critical,CA:FALSE");
    add_extension(leaf, ca->certificate, NID_ext_key_usage, "serverAuth,clientAuth");
    if (role != NULL) {
        snprintf(san, sizeof(san), "URI:urn:leeward:%s:%s,DNS:%s.leeward.internal,DNS:%s.%s.leeward.internal", role,
            id_text, role, id_text, role);
        add_extension(leaf, ca->certificate, NID_subject_alt_name, san);
    }
    MUST(X509_sign(leaf, ca->key, EVP_sha256()) > 0);
    return leaf;
}

void testca_issue(struct testca *ca, const char *name, const struct testca_leaf *leaf, struct testca_files *out)
{
    unsigned char serial[31];
    char id_text[IDENT_TEXT_SIZE] = ""; /* the caller's may lie in *out */
    if (leaf->id_text != NULL)
        snprintf(id_text, sizeof(id_text), "%s", leaf->id_text);
    memset(out, 0, sizeof(*out));
    snprintf(out->certificate, sizeof(out->certificate), "%s/%s.cert.pem", ca->dir, name);
    snprintf(out->key, sizeof(out->key), "%s/%s.key.pem", ca->dir, name);
    snprintf(out->ca, sizeof(out->ca), "%s", ca->path);
    if (id_text[0] != '\0')
        MUST(ident_from_text(id_text, &out->id) == 0);
    else
        MUST(ident_random(&out->id) == 0);
    ident_to_text(&out->id, out->id_text);
    bool usual = leaf->from_sec == 0 && leaf->to_sec == 0;
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *c =
        leaf_new(ca, key, name, leaf->role, out->id_text, usual ? -3600 : leaf->from_sec, usual ? 3600 : leaf->to_sec);
    write_pem(out->certificate, c, leaf->with_ca ? ca->certificate : NULL, NULL);
    write_pem(out->key, NULL, NULL, key);
    BIGNUM *number = ASN1_INTEGER_to_BN(X509_get0_serialNumber(c), NULL);
    bytes_to_hex(serial, (size_t)BN_bn2bin(number, serial), out->serial);
    BN_free(number);
    X509_free(c);
    EVP_PKEY_free(key);
    out->files = (struct tls_files){out->certificate, out->key, out->ca};
}

static char *pem_text(X509 *certificate)
{
    char *data = NULL;
    BIO *bio = BIO_new(BIO_s_mem());
    MUST(bio != NULL && PEM_write_bio_X509(bio, certificate) == 1);
    long n = BIO_get_mem_data(bio, &data);
    char *text = mem_strndup(data, (size_t)n);
    BIO_free(bio);
    return text;
}

char *testca_sign_csr(
    struct testca *ca, const unsigned char *der, long der_len, const char *role, const char *id_text, long to_sec)
{
    X509_REQ *request = d2i_X509_REQ(NULL, &der, der_len);
    MUST(request != NULL);
    EVP_PKEY *key = X509_REQ_get_pubkey(request);
    MUST(X509_REQ_verify(request, key) == 1);
    X509 *leaf = leaf_new(ca, key, "enrolled", role, id_text, -3600, to_sec);
    char *text = pem_text(leaf);
    X509_free(leaf);
    EVP_PKEY_free(key);
    X509_REQ_free(request);
    return text;
}

char *testca_pem(const struct testca *ca)
{
    return pem_text(ca->certificate);
}
