/* SPDX-License-Identifier: Apache-2.0
 *
 * TLS contexts: what is trusted, what is shown, who is refused. TLS 1.3 alone, ALPN h2, no session tickets (a resumed
 * session would skip the check of the certificate, and with it revocation). A peer's certificate passes OpenSSL's chain,
 * validity and purpose checks first; then it must carry an identity of ours and must not be revoked. With a pinned CA
 * (enrolment) trust is a self-signed certificate in the server's own chain whose SHA-256 is the one in the token.
 */
#include "transport/rpc/tls.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "transport/base/bytes.h"
#include "transport/base/clock.h"
#include "transport/base/mem.h"
#include "transport/rpc/tls_internal.h"

#define URN_PREFIX "urn:leeward:"
/* Hardware does AES-128-GCM a third faster than AES-256-GCM; both are far beyond reach. */
#define CIPHERSUITES "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"

static const unsigned char alpn_h2[] = {2, 'h', '2'};
static const char *const roles[] = {"hub", "agent", "node", "vault"};

int tls_error(struct err *err, enum err_code code, const char *what)
{
    unsigned long first = ERR_peek_error();
    const char *reason = ERR_reason_error_string(first);
    err_set(err, code, "%s: %s", what, reason != NULL ? reason : "unknown TLS error");
    ERR_clear_error();
    return -1;
}

/* ---- identity ---- */

static int identity_from_urn(const char *urn, size_t n, struct tls_peer *peer)
{
    char text[80];
    size_t prefix = sizeof(URN_PREFIX) - 1;
    if (n >= sizeof(text) || memchr(urn, '\0', n) != NULL || n < prefix || memcmp(urn, URN_PREFIX, prefix) != 0)
        return -1;
    memcpy(text, urn + prefix, n - prefix);
    text[n - prefix] = '\0';
    char *colon = strchr(text, ':');
    if (colon == NULL || ident_from_text(colon + 1, &peer->id) < 0)
        return -1;
    *colon = '\0';
    for (size_t i = 0; i < ARRAY_LEN(roles); i++)
        if (strcmp(text, roles[i]) == 0) {
            memcpy(peer->role, text, strlen(text) + 1);
            return 0;
        }
    return -1;
}

static void serial_to_hex(const X509 *certificate, char out[64])
{
    uint8_t bytes[31];
    BIGNUM *number = ASN1_INTEGER_to_BN(X509_get0_serialNumber(certificate), NULL);
    out[0] = '\0';
    if (number != NULL && BN_num_bytes(number) <= (int)sizeof(bytes))
        bytes_to_hex(bytes, (size_t)BN_bn2bin(number, bytes), out);
    BN_free(number);
}

int tls_peer_read(X509 *certificate, struct tls_peer *ret_peer, struct err *err)
{
    struct tls_peer peer = {.authenticated = true};
    unsigned uris = 0;
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type != GEN_URI)
            continue;
        const ASN1_STRING *uri = name->d.uniformResourceIdentifier;
        if (identity_from_urn((const char *)ASN1_STRING_get0_data(uri), (size_t)ASN1_STRING_length(uri), &peer) < 0)
            uris = 1; /* any other URI spoils it */
        uris++;
    }
    GENERAL_NAMES_free(names);
    serial_to_hex(certificate, peer.serial);
    if (uris != 1 || peer.serial[0] == '\0')
        return err_set(err, ERR_UNAUTHENTICATED, "the peer's certificate carries no identity of this product");
    *ret_peer = peer;
    return 0;
}

static uint64_t utc_usec(const ASN1_TIME *t)
{
    struct tm tm;
    time_t sec = ASN1_TIME_to_tm(t, &tm) == 1 ? timegm(&tm) : 0;
    return sec > 0 ? (uint64_t)sec * USEC_PER_SEC : 0;
}

int tls_certificate_read(const char *pem, size_t n, struct tls_peer *ret_peer, uint64_t *ret_from_utc_usec,
    uint64_t *ret_to_utc_usec, struct err *err)
{
    ERR_clear_error();
    BIO *bio = n > INT_MAX ? NULL : BIO_new_mem_buf(pem, (int)n);
    X509 *certificate = bio == NULL ? NULL : PEM_read_bio_X509(bio, NULL, NULL, NULL);
    BIO_free(bio);
    if (certificate == NULL)
        return tls_error(err, ERR_CORRUPT, "not a PEM certificate");
    int rc = tls_peer_read(certificate, ret_peer, err);
    *ret_from_utc_usec = utc_usec(X509_get0_notBefore(certificate));
    *ret_to_utc_usec = utc_usec(X509_get0_notAfter(certificate));
    X509_free(certificate);
    return rc;
}

static int serial_compare(const void *a, const void *b)
{
    return strcasecmp(a, b);
}

bool tls_is_revoked(const struct tls_context *tls, const char *serial)
{
    return tls->revoked_count > 0 &&
           bsearch(serial, tls->revoked, tls->revoked_count, sizeof(tls->revoked[0]), serial_compare) != NULL;
}

int tls_set_revoked(struct tls_context *tls, const char *const *serials, unsigned count, struct err *err)
{
    char(*list)[64] = mem_alloc(count == 0 ? 1 : count, sizeof(*list));
    if (list == NULL)
        return err_set(err, ERR_NOMEM, "no memory for %u revoked certificates", count);
    for (unsigned i = 0; i < count; i++) {
        if (strlen(serials[i]) >= sizeof(*list)) {
            free(list);
            return err_set(err, ERR_INVALID, "certificate serial is too long");
        }
        memcpy(list[i], serials[i], strlen(serials[i]) + 1);
    }
    qsort(list, count, sizeof(*list), serial_compare);
    free(tls->revoked);
    tls->revoked = list;
    tls->revoked_count = count;
    return 0;
}

/* ---- verification ---- */

static struct tls_context *context_of(X509_STORE_CTX *store)
{
    SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    return SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
}

/* For what is said about it (secure.c). */
static void keep_refused(X509_STORE_CTX *store)
{
    SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    X509 **refused = SSL_get_app_data(ssl), *certificate = X509_STORE_CTX_get_current_cert(store);
    if (refused == NULL || certificate == NULL || X509_up_ref(certificate) != 1)
        return;
    X509_free(*refused);
    *refused = certificate;
}

/* After OpenSSL's own checks of each certificate; the leaf (depth 0) comes last. */
static int verify_identity(int ok, X509_STORE_CTX *store)
{
    if (!ok)
        keep_refused(store);
    if (!ok || X509_STORE_CTX_get_error_depth(store) != 0)
        return ok;
    struct tls_peer peer;
    if (tls_peer_read(X509_STORE_CTX_get_current_cert(store), &peer, NULL) < 0) {
        X509_STORE_CTX_set_error(store, X509_V_ERR_APPLICATION_VERIFICATION);
        return 0;
    }
    if (tls_is_revoked(context_of(store), peer.serial)) {
        X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_REVOKED);
        return 0;
    }
    return 1;
}

static bool certificate_is_pinned(X509 *certificate, const struct tls_context *tls)
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    return X509_digest(certificate, EVP_sha256(), digest, &size) == 1 && size == TLS_FINGERPRINT_SIZE &&
           memcmp(digest, tls->pin, size) == 0 &&
           X509_NAME_cmp(X509_get_subject_name(certificate), X509_get_issuer_name(certificate)) == 0;
}

/* Replaces OpenSSL's look-up of trust by the one certificate with the pinned fingerprint, then verifies as usual. */
static int verify_pinned(X509_STORE_CTX *store, void *arg)
{
    struct tls_context *tls = arg;
    STACK_OF(X509) *shown = X509_STORE_CTX_get0_untrusted(store);
    STACK_OF(X509) *trusted = sk_X509_new_null();
    for (int i = 0; trusted != NULL && i < sk_X509_num(shown); i++)
        if (certificate_is_pinned(sk_X509_value(shown, i), tls))
            (void)sk_X509_push(trusted, sk_X509_value(shown, i));
    int ok = 0;
    if (trusted != NULL && sk_X509_num(trusted) > 0) {
        X509_STORE_CTX_set0_trusted_stack(store, trusted);
        ok = X509_verify_cert(store);
    } else {
        X509_STORE_CTX_set_error(store, X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN);
    }
    sk_X509_free(trusted);
    return ok > 0;
}

static int select_alpn(
    SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in, unsigned in_len, void *arg)
{
    (void)ssl;
    (void)arg;
    for (unsigned i = 0; i < in_len; i += 1u + in[i])
        if (in[i] == 2 && i + 2 < in_len && memcmp(in + i, alpn_h2, sizeof(alpn_h2)) == 0) {
            *out = in + i + 1;
            *out_len = 2;
            return SSL_TLSEXT_ERR_OK;
        }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* ---- contexts ---- */

static int files_load(SSL_CTX *ssl, const struct tls_context *tls, struct err *err)
{
    char what[200];
    if (tls->ca != NULL && SSL_CTX_load_verify_locations(ssl, tls->ca, NULL) != 1) {
        (void)snprintf(what, sizeof(what), "reading the CA certificate %s", tls->ca);
        tls_error(err, ERR_CORRUPT, what);
        return err_hint(err, "check that the file exists, is readable and holds PEM certificates");
    }
    if (tls->certificate == NULL)
        return 0;
    if (SSL_CTX_use_certificate_chain_file(ssl, tls->certificate) != 1) {
        (void)snprintf(what, sizeof(what), "reading the certificate %s", tls->certificate);
        tls_error(err, ERR_CORRUPT, what);
        return err_hint(err, "check that the file exists, is readable and holds a PEM certificate");
    }
    if (SSL_CTX_use_PrivateKey_file(ssl, tls->key, SSL_FILETYPE_PEM) != 1 || SSL_CTX_check_private_key(ssl) != 1) {
        (void)snprintf(what, sizeof(what), "reading the key %s", tls->key);
        tls_error(err, ERR_CORRUPT, what);
        return err_hint(err, "the key must be PEM, readable, and the one that the certificate was made for");
    }
    return 0;
}

static int context_settings(SSL_CTX *ssl, struct tls_context *tls)
{
    int mode = SSL_VERIFY_PEER;
    if (tls->is_server && !tls->allow_anonymous)
        mode |= SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
    SSL_CTX_set_verify(ssl, mode, verify_identity);
    SSL_CTX_set_verify_depth(ssl, 4);
    if (tls->pinned)
        SSL_CTX_set_cert_verify_callback(ssl, verify_pinned, tls);
    if (tls->is_server)
        SSL_CTX_set_alpn_select_cb(ssl, select_alpn, NULL);
    SSL_CTX_set_options(ssl, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
    /* Idle connections hold no record buffers: ten thousand agents on one hub. */
    SSL_CTX_set_mode(
        ssl, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    return SSL_CTX_set_min_proto_version(ssl, TLS1_3_VERSION) == 1 && SSL_CTX_set_num_tickets(ssl, 0) == 1 &&
                   SSL_CTX_set_ciphersuites(ssl, CIPHERSUITES) == 1 && SSL_CTX_set_app_data(ssl, tls) == 1 &&
                   (tls->is_server || SSL_CTX_set_alpn_protos(ssl, alpn_h2, sizeof(alpn_h2)) == 0)
               ? 0
               : -1;
}

int tls_reload(struct tls_context *tls, struct err *err)
{
    ERR_clear_error();
    SSL_CTX *ssl = SSL_CTX_new(tls->is_server ? TLS_server_method() : TLS_client_method());
    if (ssl == NULL)
        return tls_error(err, ERR_NOMEM, "making a TLS context");
    if (context_settings(ssl, tls) < 0) {
        tls_error(err, ERR_INTERNAL, "making a TLS context");
        SSL_CTX_free(ssl);
        return -1;
    }
    if (files_load(ssl, tls, err) < 0) {
        SSL_CTX_free(ssl);
        return -1;
    }
    SSL_CTX_free(tls->ssl);
    tls->ssl = ssl;
    return 0;
}

static int path_copy(const char *path, char **ret_copy)
{
    if (path == NULL)
        return 0;
    *ret_copy = mem_strdup(path);
    return *ret_copy == NULL ? -1 : 0;
}

static int context_new(
    const struct tls_files *files, struct tls_context *tls, struct tls_context **ret_tls, struct err *err)
{
    tls->refs = 1;
    if (path_copy(files->certificate, &tls->certificate) < 0 || path_copy(files->key, &tls->key) < 0 ||
        (!tls->pinned && path_copy(files->ca, &tls->ca) < 0))
        err_set(err, ERR_NOMEM, "no memory for a TLS context");
    else if (tls_reload(tls, err) == 0) {
        *ret_tls = tls;
        return 0;
    }
    tls_context_free(tls);
    return -1;
}

int tls_server_new(const struct tls_files *files, bool allow_anonymous, struct tls_context **ret_tls, struct err *err)
{
    if (files->certificate == NULL || files->key == NULL || files->ca == NULL)
        return err_set(err, ERR_INVALID, "a TLS server needs a certificate, a key and a CA");
    struct tls_context *tls = mem_new(struct tls_context);
    if (tls == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a TLS context");
    tls->is_server = true;
    tls->allow_anonymous = allow_anonymous;
    return context_new(files, tls, ret_tls, err);
}

int tls_client_new(
    const struct tls_files *files, const char *ca_sha256_hex, struct tls_context **ret_tls, struct err *err)
{
    if ((files->certificate == NULL) != (files->key == NULL) || (files->ca == NULL && ca_sha256_hex == NULL))
        return err_set(err, ERR_INVALID, "a TLS client needs a CA, and certificate and key together or neither");
    struct tls_context *tls = mem_new(struct tls_context);
    if (tls == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a TLS context");
    if (ca_sha256_hex != NULL && bytes_from_hex(ca_sha256_hex, tls->pin, sizeof(tls->pin)) < 0) {
        free(tls);
        return err_set(err, ERR_INVALID, "a CA fingerprint is 64 hex digits");
    }
    tls->pinned = ca_sha256_hex != NULL;
    return context_new(files, tls, ret_tls, err);
}

struct tls_context *tls_context_ref(struct tls_context *tls)
{
    if (tls != NULL)
        tls->refs++;
    return tls;
}

void tls_context_free(struct tls_context *tls)
{
    if (tls == NULL || --tls->refs > 0)
        return;
    SSL_CTX_free(tls->ssl);
    free(tls->certificate);
    free(tls->key);
    free(tls->ca);
    free(tls->revoked);
    free(tls);
}
