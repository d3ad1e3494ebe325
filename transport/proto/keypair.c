/* SPDX-License-Identifier: Apache-2.0
 *
 * Keys and requests on OpenSSL. The key never leaves its file but to sign.
 */
#include "transport/proto/keypair.h"

#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "transport/base/bytes.h"
#include "transport/base/file.h"

#define KEY_PEM_MAX 16384u
#define COMMON_NAME_MAX 64u /* RFC 5280, ub-common-name */

static int crypto_failed(struct err *err, enum err_code code, const char *what)
{
    const char *reason = ERR_reason_error_string(ERR_peek_error());
    err_set(err, code, "%s: %s", what, reason != NULL ? reason : "unknown error");
    ERR_clear_error();
    return -1;
}

static int key_load(const char *path, EVP_PKEY **ret_key, struct err *err)
{
    AUTO_BUF struct buf pem = BUF_INIT(KEY_PEM_MAX);
    if (file_read(path, &pem, err) < 0)
        return -1;
    ERR_clear_error();
    BIO *bio = BIO_new_mem_buf(pem.data, (int)pem.len);
    EVP_PKEY *key = bio == NULL ? NULL : PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
    BIO_free(bio);
    explicit_bzero(pem.data, pem.len);
    if (key == NULL) {
        crypto_failed(err, ERR_CORRUPT, "the key file is damaged");
        err_wrap(err, "%s", path);
        return err_hint(err, "remove the identity folder and enrol again with a new token");
    }
    *ret_key = key;
    return 0;
}

static int key_store(EVP_PKEY *key, const char *path, struct err *err)
{
    char *data = NULL;
    ERR_clear_error();
    BIO *bio = BIO_new(BIO_s_secmem());
    if (bio == NULL || PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) != 1) {
        BIO_free(bio);
        return crypto_failed(err, ERR_NOMEM, "writing a key");
    }
    long n = BIO_get_mem_data(bio, &data);
    int rc = file_replace(path, data, (size_t)n, 0600, err);
    BIO_free(bio);
    return rc;
}

int keypair_ensure(const char *path, struct err *err)
{
    EVP_PKEY *key = NULL;
    if (access(path, F_OK) == 0) {
        int rc = key_load(path, &key, err);
        EVP_PKEY_free(key);
        return rc;
    }
    ERR_clear_error();
    key = EVP_EC_gen("P-256");
    if (key == NULL)
        return crypto_failed(err, ERR_INTERNAL, "making a key");
    int rc = key_store(key, path, err);
    EVP_PKEY_free(key);
    return rc;
}

static X509_REQ *request_make(EVP_PKEY *key, const char *name)
{
    X509_REQ *request = X509_REQ_new();
    X509_NAME *subject = X509_NAME_new();
    int len = (int)strnlen(name, COMMON_NAME_MAX);
    bool ok = request != NULL && subject != NULL &&
              X509_NAME_add_entry_by_NID(
                  subject, NID_commonName, MBSTRING_UTF8, (const unsigned char *)name, len, -1, 0) == 1 &&
              X509_REQ_set_subject_name(request, subject) == 1 && X509_REQ_set_pubkey(request, key) == 1 &&
              X509_REQ_sign(request, key, EVP_sha256()) > 0;
    X509_NAME_free(subject);
    if (ok)
        return request;
    X509_REQ_free(request);
    return NULL;
}

int keypair_request(const char *path, const char *name, struct buf *out, struct err *err)
{
    EVP_PKEY *key = NULL;
    unsigned char *der = NULL;
    if (key_load(path, &key, err) < 0)
        return -1;
    ERR_clear_error();
    X509_REQ *request = request_make(key, name);
    int n = request == NULL ? -1 : i2d_X509_REQ(request, &der);
    int rc =
        n > 0 ? buf_append(out, der, (size_t)n, err) : crypto_failed(err, ERR_INTERNAL, "making a certificate request");
    OPENSSL_free(der);
    X509_REQ_free(request);
    EVP_PKEY_free(key);
    return rc;
}

static X509 *certificate_parse(const char *pem, size_t n, struct err *err)
{
    ERR_clear_error();
    BIO *bio = n > INT_MAX ? NULL : BIO_new_mem_buf(pem, (int)n);
    X509 *certificate = bio == NULL ? NULL : PEM_read_bio_X509(bio, NULL, NULL, NULL);
    BIO_free(bio);
    if (certificate == NULL)
        crypto_failed(err, ERR_CORRUPT, "not a PEM certificate");
    return certificate;
}

int keypair_match(const char *path, const char *pem, size_t n, struct err *err)
{
    EVP_PKEY *key = NULL;
    if (key_load(path, &key, err) < 0)
        return -1;
    X509 *certificate = certificate_parse(pem, n, err);
    int rc = certificate == NULL ? -1 : 0;
    if (rc == 0 && X509_check_private_key(certificate, key) != 1) {
        ERR_clear_error();
        rc = err_set(err, ERR_CORRUPT, "the certificate is for another key than %s", path);
    }
    X509_free(certificate);
    EVP_PKEY_free(key);
    return rc;
}

int keypair_fingerprint(const char *pem, size_t n, char out[65], struct err *err)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    X509 *certificate = certificate_parse(pem, n, err);
    if (certificate == NULL)
        return -1;
    int ok = X509_digest(certificate, EVP_sha256(), digest, &size);
    X509_free(certificate);
    if (ok != 1 || size != 32)
        return crypto_failed(err, ERR_INTERNAL, "hashing a certificate");
    bytes_to_hex(digest, size, out);
    return 0;
}
