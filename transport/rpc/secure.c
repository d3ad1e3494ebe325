/* SPDX-License-Identifier: Apache-2.0
 *
 * OpenSSL on one connection. OpenSSL would write each record of 16 KiB with a system call of its own: a small BIO appends
 * them to the connection's output instead. Another one reads ahead, so that one system call brings many records too. OpenSSL could do that
 * itself, but it moves all that it has read ahead to the front of its buffer before each record, to align it: three and a half times what
 * came, with 128 KiB. It takes exactly one record at a time from here, decrypts it in a buffer of its own, and gives that buffer back
 * (SSL_MODE_RELEASE_BUFFERS); ours goes when it is empty and the socket has no more.
 */
#include "transport/rpc/secure.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "transport/base/mem.h"
#include "transport/rpc/tls_internal.h"

struct read_ahead {
    int fd;
    size_t size;
    uint8_t *data; /* NULL: nothing is held */
    size_t at, end;
    bool ended; /* the peer sends no more */
};

struct secure {
    struct tls_context *tls;
    SSL *ssl;
    X509 *refused; /* the peer's certificate that was not taken, or one above it; NULL: none */
    struct read_ahead in;
};

/* ---- a BIO that appends to a struct buf ---- */

static int sink_write(BIO *bio, const char *data, int n)
{
    struct buf *out = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    return n > 0 && buf_append(out, data, (size_t)n, NULL) == 0 ? n : -1;
}

static long sink_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
    (void)bio;
    (void)num;
    (void)ptr;
    return cmd == BIO_CTRL_FLUSH ? 1 : 0;
}

/* ---- a BIO that reads ahead ---- */

/* > 0: bytes that are there now; 0: none, and `ended`; -1 with errno. */
static ssize_t read_more(struct read_ahead *in)
{
    ssize_t n;
    if (in->data == NULL)
        in->data = mem_resize(NULL, in->size, 1);
    if (in->data == NULL) {
        errno = ENOMEM;
        return -1;
    }
    do {
        n = recv(in->fd, in->data, in->size, 0);
    } while (n < 0 && errno == EINTR);
    in->at = 0;
    in->end = n > 0 ? (size_t)n : 0;
    in->ended = n == 0;
    if (n <= 0) {
        int why = errno;
        free(TAKE_PTR(in->data));
        errno = why;
    }
    return n;
}

static int ahead_read(BIO *bio, char *data, int n)
{
    struct read_ahead *in = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (n <= 0)
        return 0;
    if (in->at == in->end) {
        ssize_t more = read_more(in);
        if (more < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            BIO_set_retry_read(bio);
        if (more <= 0)
            return (int)more;
    }
    size_t part = in->end - in->at < (size_t)n ? in->end - in->at : (size_t)n;
    memcpy(data, in->data + in->at, part);
    in->at += part;
    return (int)part;
}

static long ahead_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
    const struct read_ahead *in = BIO_get_data(bio);
    (void)num;
    (void)ptr;
    return cmd == BIO_CTRL_EOF && in->ended ? 1 : 0;
}

/* ---- making them ---- */

/* For the life of the process. Loops of several threads make connections, so they are made once and whole. */
static BIO_METHOD *sink_method, *ahead_method;
static pthread_once_t methods_once = PTHREAD_ONCE_INIT;

static void make_methods(void)
{
    BIO_METHOD *out = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "buf");
    BIO_METHOD *in = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "read ahead");
    if (out == NULL || in == NULL || BIO_meth_set_write(out, sink_write) != 1 ||
        BIO_meth_set_ctrl(out, sink_ctrl) != 1 || BIO_meth_set_read(in, ahead_read) != 1 ||
        BIO_meth_set_ctrl(in, ahead_ctrl) != 1) {
        BIO_meth_free(out);
        BIO_meth_free(in);
        return;
    }
    sink_method = out;
    ahead_method = in;
}

static BIO *bio_new(const BIO_METHOD *method, void *data)
{
    BIO *bio = method != NULL ? BIO_new(method) : NULL;
    if (bio != NULL) {
        BIO_set_data(bio, data);
        BIO_set_init(bio, 1);
    }
    return bio;
}

/* ---- connection ---- */

int secure_new(
    struct tls_context *tls, int fd, size_t read_ahead, struct buf *out, struct secure **ret_secure, struct err *err)
{
    struct secure *s = mem_new(struct secure);
    if (s == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a TLS connection");
    ERR_clear_error();
    (void)pthread_once(&methods_once, make_methods);
    s->in = (struct read_ahead){.fd = fd, .size = read_ahead};
    BIO *in_bio = bio_new(ahead_method, &s->in);
    BIO *out_bio = bio_new(sink_method, out);
    s->ssl = SSL_new(tls->ssl);
    if (s->ssl == NULL || in_bio == NULL || out_bio == NULL) {
        BIO_free(in_bio);
        BIO_free(out_bio);
        SSL_free(s->ssl);
        free(s);
        return tls_error(err, ERR_NOMEM, "no memory for a TLS connection");
    }
    SSL_set0_rbio(s->ssl, in_bio);
    SSL_set0_wbio(s->ssl, out_bio);
    SSL_set_app_data(s->ssl, &s->refused);
    if (tls->is_server)
        SSL_set_accept_state(s->ssl);
    else
        SSL_set_connect_state(s->ssl);
    s->tls = tls_context_ref(tls);
    *ret_secure = s;
    return 0;
}

void secure_free(struct secure *s)
{
    if (s == NULL)
        return;
    SSL_free(s->ssl);
    free(s->in.data);
    X509_free(s->refused);
    tls_context_free(s->tls);
    free(s);
}

/* ---- whose clock ---- */

/* Both certificates are of one authority. What this machine's clock says of its own tells which of the two clocks to doubt: it was issued in
 * the past, and to be renewed long before its end. */
enum own_validity { OWN_NOT_YET, OWN_VALID, OWN_EXPIRED };

static enum own_validity own_validity(const struct secure *s)
{
    const X509 *own = SSL_get_certificate(s->ssl);
    if (own == NULL)
        return OWN_VALID;
    if (X509_cmp_current_time(X509_get0_notBefore(own)) > 0)
        return OWN_NOT_YET;
    return X509_cmp_current_time(X509_get0_notAfter(own)) < 0 ? OWN_EXPIRED : OWN_VALID;
}

#define TIME_TEXT_SIZE 32

static const char *time_text(const ASN1_TIME *time, char out[TIME_TEXT_SIZE])
{
    struct tm tm;
    if (time == NULL || ASN1_TIME_to_tm(time, &tm) != 1 ||
        strftime(out, TIME_TEXT_SIZE, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
        (void)snprintf(out, TIME_TEXT_SIZE, "an unknown time");
    return out;
}

static const char *now_text(char out[TIME_TEXT_SIZE])
{
    struct tm tm;
    time_t now = time(NULL);
    if (gmtime_r(&now, &tm) == NULL || strftime(out, TIME_TEXT_SIZE, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
        (void)snprintf(out, TIME_TEXT_SIZE, "an unknown time");
    return out;
}

static int peer_expired(const struct secure *s, struct err *err)
{
    char until[TIME_TEXT_SIZE], now[TIME_TEXT_SIZE];
    err_set(err, ERR_UNAUTHENTICATED, "the peer's certificate has expired: it was valid until %s, and here it is %s",
        time_text(s->refused != NULL ? X509_get0_notAfter(s->refused) : NULL, until), now_text(now));
    if (own_validity(s) == OWN_EXPIRED)
        return err_hint(err,
            "our own has expired too by this machine's clock: if that time is wrong set the clock, and all goes on by "
            "itself; else enrol again with a new token");
    return err_hint(err, "check the clocks of both machines; enrol the peer again with a new token");
}

static int peer_not_yet_valid(const struct secure *s, struct err *err)
{
    char from[TIME_TEXT_SIZE], now[TIME_TEXT_SIZE];
    err_set(err, ERR_UNAUTHENTICATED, "the peer's certificate is not valid yet: it is from %s on, and here it is %s",
        time_text(s->refused != NULL ? X509_get0_notBefore(s->refused) : NULL, from), now_text(now));
    if (own_validity(s) == OWN_NOT_YET)
        return err_hint(err,
            "our own is not valid yet either, so this machine's clock is wrong: set it, and all goes on by itself");
    return err_hint(err, "check the clocks of both machines");
}

/* The peer says that our certificate has expired. */
static int told_expired(const struct secure *s, struct err *err)
{
    if (own_validity(s) == OWN_EXPIRED)
        return err_hint(err, "our certificate has expired: enrol again with a new token");
    return err_hint(err, "our certificate has not expired by this machine's clock: one of the two clocks is wrong; "
                         "set this machine's if it is slow, else the peer's, and all goes on by itself");
}

/* OpenSSL says so of a certificate that is not valid yet, among other things. */
static int told_bad(const struct secure *s, struct err *err)
{
    if (own_validity(s) == OWN_NOT_YET)
        return err_hint(err, "our certificate is not valid yet by this machine's clock: set the clock");
    return err_hint(err, "our certificate is valid by this machine's clock: look at the peer's, which may be behind, "
                         "and at the peer's log");
}

static int verify_failed(const struct secure *s, long result, struct err *err)
{
    switch (result) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
        return peer_expired(s, err);
    case X509_V_ERR_CERT_NOT_YET_VALID:
        return peer_not_yet_valid(s, err);
    case X509_V_ERR_CERT_REVOKED:
        err_set(err, ERR_UNAUTHENTICATED, "the peer's certificate is revoked");
        return err_hint(err, "enrol the peer again with a new token if it is to come back");
    case X509_V_ERR_APPLICATION_VERIFICATION:
        err_set(err, ERR_UNAUTHENTICATED, "the peer's certificate carries no identity of this product");
        return err_hint(err, "use the certificate that enrolment stored in the identity folder");
    default:
        break;
    }
    if (s->tls->pinned) {
        err_set(
            err, ERR_UNAUTHENTICATED, "the server is not the hub that made the token: its CA has another fingerprint");
        return err_hint(err, "check the hub's address, or make a new token on this hub");
    }
    err_set(err, ERR_UNAUTHENTICATED, "the peer's certificate is not from our CA: %s",
        X509_verify_cert_error_string(result));
    return err_hint(err, "both sides must be enrolled with the same hub");
}

/* What went wrong in a handshake or a read, as something that a person can act on. */
static int tls_failed(struct secure *s, const char *what, struct err *err)
{
    long verify = SSL_get_verify_result(s->ssl);
    int reason = ERR_GET_REASON(ERR_peek_error());
    if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED && verify != X509_V_OK) {
        ERR_clear_error();
        return verify_failed(s, verify, err);
    }
    tls_error(err, ERR_UNAUTHENTICATED, what);
    switch (reason) {
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
    case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED:
        return err_hint(err, "a client must show the certificate that enrolment gave it");
    case SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED:
        return told_expired(s, err);
    case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE:
        return told_bad(s, err);
    case SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED:
        return err_hint(err, "our certificate was revoked: enrol again with a new token");
    case SSL_R_TLSV1_ALERT_UNKNOWN_CA:
        return err_hint(err, "the peer does not know our CA: both sides must be enrolled with the same hub");
    default:
        return -1;
    }
}

static int peer_of(struct secure *s, struct tls_peer *ret_peer, struct err *err)
{
    const unsigned char *alpn = NULL;
    unsigned alpn_len = 0;
    SSL_get0_alpn_selected(s->ssl, &alpn, &alpn_len);
    if (alpn_len != 2 || memcmp(alpn, "h2", 2) != 0) {
        err_set(err, ERR_UNSUPPORTED, "the peer does not speak HTTP/2 (no ALPN h2)");
        return err_hint(err, "check that the address is that of a gRPC port");
    }
    X509 *certificate = SSL_get0_peer_certificate(s->ssl);
    *ret_peer = (struct tls_peer){0};
    return certificate == NULL ? 0 : tls_peer_read(certificate, ret_peer, err);
}

int secure_handshake(struct secure *s, struct tls_peer *ret_peer, struct err *err)
{
    ERR_clear_error();
    int rc = SSL_do_handshake(s->ssl);
    if (rc == 1)
        return peer_of(s, ret_peer, err) < 0 ? -1 : 1;
    switch (SSL_get_error(s->ssl, rc)) {
    case SSL_ERROR_WANT_READ:
        return 0;
    case SSL_ERROR_ZERO_RETURN:
        return err_set(err, ERR_UNAVAILABLE, "the peer closed the connection during the TLS handshake");
    case SSL_ERROR_SYSCALL:
        if (ERR_peek_error() == 0)
            return err_set(err, ERR_UNAVAILABLE, "the connection was lost during the TLS handshake");
        break;
    default:
        if (ERR_GET_REASON(ERR_peek_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING) {
            ERR_clear_error();
            return err_set(err, ERR_UNAVAILABLE, "the peer closed the connection during the TLS handshake");
        }
        break;
    }
    return tls_failed(s, "TLS handshake failed", err);
}

ssize_t secure_read(struct secure *s, void *data, size_t n, bool *ret_closed, struct err *err)
{
    size_t got = 0;
    ERR_clear_error();
    *ret_closed = false;
    if (SSL_read_ex(s->ssl, data, n, &got) == 1)
        return (ssize_t)got;
    switch (SSL_get_error(s->ssl, 0)) {
    case SSL_ERROR_WANT_READ:
        return 0;
    case SSL_ERROR_ZERO_RETURN:
        *ret_closed = true;
        return err_set(err, ERR_UNAVAILABLE, "the peer closed the connection");
    case SSL_ERROR_SYSCALL:
        if (ERR_peek_error() == 0) {
            *ret_closed = true;
            return err_set(err, ERR_UNAVAILABLE, "the connection was lost");
        }
        break;
    default:
        if (ERR_GET_REASON(ERR_peek_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING) {
            ERR_clear_error();
            *ret_closed = true;
            return err_set(err, ERR_UNAVAILABLE, "the peer closed the connection");
        }
        break;
    }
    return tls_failed(s, "TLS failed", err);
}

int secure_write(struct secure *s, const void *data, size_t n, struct err *err)
{
    const uint8_t *p = data;
    while (n > 0) {
        size_t done = 0;
        ERR_clear_error();
        if (SSL_write_ex(s->ssl, p, n, &done) != 1)
            return tls_error(err, ERR_NOMEM, "encrypting for the connection");
        p += done;
        n -= done;
    }
    return 0;
}

void secure_close(struct secure *s)
{
    ERR_clear_error();
    (void)SSL_shutdown(s->ssl);
    ERR_clear_error();
}

bool secure_peer_is_revoked(const struct secure *s, const struct tls_peer *peer)
{
    return peer->authenticated && tls_is_revoked(s->tls, peer->serial);
}
