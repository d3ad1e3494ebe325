/* SPDX-License-Identifier: Apache-2.0
 *
 * An identity that was given to a handshake may be in use for as long as that lasts, and GnuTLS does not say when it is
 * done; so old ones are kept until the end. They are renewed every few weeks and cost a few KiB each.
 *
 * The two files are replaced one after the other: a certificate that does not fit the key is a renewal half done, and the
 * next look finds it complete.
 */
#include "hub/api/tls_identity.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "transport/base/buf.h"
#include "transport/base/clock.h"
#include "transport/base/file.h"
#include "transport/base/log.h"
#include "transport/base/mem.h"

#define CHAIN_MAX 8u
#define PEM_MAX (256u * 1024u)
#define LOOK_EVERY_USEC (60 * USEC_PER_SEC)
#define KEY_ID_SIZE 64u

struct identity {
    struct identity *older;
    gnutls_pcert_st certs[CHAIN_MAX];
    unsigned cert_count;
    gnutls_privkey_t key;
    struct timespec cert_time, key_time; /* of the files when they were read */
};

static struct {
    pthread_mutex_t lock; /* loading; `current` is read without it */
    char *cert_path, *key_path;
    _Atomic(struct identity *) current;
    atomic_ullong looked_usec;
} own = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void identity_free(struct identity *id)
{
    if (!id)
        return;
    for (unsigned i = 0; i < id->cert_count; i++)
        gnutls_pcert_deinit(&id->certs[i]);
    if (id->key)
        gnutls_privkey_deinit(id->key);
    free(id);
}

static int read_times(struct identity *id, struct err *err)
{
    struct stat cert, key;

    if (stat(own.cert_path, &cert) < 0)
        return err_sys(err, errno, "the API's certificate %s", own.cert_path);
    if (stat(own.key_path, &key) < 0)
        return err_sys(err, errno, "the API's key %s", own.key_path);
    id->cert_time = cert.st_mtim;
    id->key_time = key.st_mtim;
    return 0;
}

static int read_pem(const char *path, struct buf *b, gnutls_datum_t *ret_datum, struct err *err)
{
    buf_init(b, PEM_MAX);
    if (file_read(path, b, err) < 0 || !buf_str(b, err))
        return err_wrap(err, "the API's TLS identity");
    *ret_datum = (gnutls_datum_t){.data = b->data, .size = (unsigned)b->len};
    return 0;
}

static int refuse(struct err *err, const char *path, int rc)
{
    (void)err_set(err, ERR_INVALID, "%s cannot be used: %s", path, gnutls_strerror(rc));
    return err_hint(err, "It must be PEM: the certificate with its chain in one file, its key in the other.");
}

static int import_both(struct identity *id, struct err *err)
{
    AUTO_BUF struct buf cert = {0};
    AUTO_BUF struct buf key = {0};
    gnutls_datum_t cert_pem, key_pem;
    unsigned count = CHAIN_MAX;
    int rc;

    if (read_pem(own.cert_path, &cert, &cert_pem, err) < 0 || read_pem(own.key_path, &key, &key_pem, err) < 0)
        return -1;
    if ((rc = gnutls_pcert_list_import_x509_raw(id->certs, &count, &cert_pem, GNUTLS_X509_FMT_PEM, 0)) < 0)
        return refuse(err, own.cert_path, rc);
    id->cert_count = count;
    if (gnutls_privkey_init(&id->key) < 0)
        return err_set(err, ERR_NOMEM, "no memory for the API's key");
    if ((rc = gnutls_privkey_import_x509_raw(id->key, &key_pem, GNUTLS_X509_FMT_PEM, NULL, 0)) < 0)
        return refuse(err, own.key_path, rc);
    return 0;
}

static int check_pair(const struct identity *id, struct err *err)
{
    unsigned char a[KEY_ID_SIZE], b[KEY_ID_SIZE];
    size_t a_len = sizeof(a), b_len = sizeof(b);
    gnutls_pubkey_t public;
    bool fits;

    if (id->cert_count == 0 || gnutls_pubkey_init(&public) < 0)
        return err_set(err, ERR_INVALID, "%s holds no certificate", own.cert_path);
    fits = gnutls_pubkey_import_privkey(public, id->key, 0, 0) >= 0 &&
           gnutls_pubkey_get_key_id(public, 0, a, &a_len) >= 0 &&
           gnutls_pubkey_get_key_id(id->certs[0].pubkey, 0, b, &b_len) >= 0 && a_len == b_len &&
           memcmp(a, b, a_len) == 0;
    gnutls_pubkey_deinit(public);
    if (fits)
        return 0;
    (void)err_set(err, ERR_INVALID, "%s and %s do not belong together", own.cert_path, own.key_path);
    return err_hint(err, "Put the certificate and the key that it was made for there.");
}

static bool is_same_time(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

/* With the lock held. */
static int load(struct err *err)
{
    struct identity *current = atomic_load(&own.current);
    struct identity *id = mem_new(struct identity);

    if (!id)
        return err_set(err, ERR_NOMEM, "no memory for the API's certificate");
    if (read_times(id, err) < 0) {
        identity_free(id);
        return -1;
    }
    if (current && is_same_time(&id->cert_time, &current->cert_time) &&
        is_same_time(&id->key_time, &current->key_time)) {
        identity_free(id);
        return 0;
    }
    if (import_both(id, err) < 0 || check_pair(id, err) < 0) {
        identity_free(id);
        return -1;
    }
    id->older = current;
    atomic_store(&own.current, id);
    return 1;
}

int tls_identity_refresh(struct err *err)
{
    int rc;

    pthread_mutex_lock(&own.lock);
    rc = load(err);
    atomic_store(&own.looked_usec, clock_mono_usec());
    pthread_mutex_unlock(&own.lock);
    return rc;
}

int tls_identity_open(const char *cert_path, const char *key_path, struct err *err)
{
    tls_identity_close();
    own.cert_path = mem_strdup(cert_path);
    own.key_path = mem_strdup(key_path);
    if (!own.cert_path || !own.key_path)
        return err_set(err, ERR_NOMEM, "no memory for the API's certificate");
    return tls_identity_refresh(err) < 0 ? -1 : 0;
}

void tls_identity_close(void)
{
    struct identity *id = atomic_exchange(&own.current, NULL);

    while (id) {
        struct identity *older = id->older;

        identity_free(id);
        id = older;
    }
    free(own.cert_path);
    free(own.key_path);
    own.cert_path = own.key_path = NULL;
}

/* The network thread that finds the minute over looks; the others go on with what is there. */
static void look_now_and_then(void)
{
    unsigned long long looked = atomic_load(&own.looked_usec), now = clock_mono_usec();
    struct err err = ERR_INIT;
    int rc;

    if (now - looked < LOOK_EVERY_USEC || !atomic_compare_exchange_strong(&own.looked_usec, &looked, now))
        return;
    if ((rc = tls_identity_refresh(&err)) < 0)
        log_event(LOG_WARN, "api_certificate_not_renewed", LOG_E(&err));
    else if (rc > 0)
        log_event(LOG_INFO, "api_certificate_renewed", LOG_S("file", own.cert_path));
}

int tls_identity_choose(gnutls_session_t session, const gnutls_datum_t *req_ca_rdn, int nreqs,
    const gnutls_pk_algorithm_t *pk_algos, int pk_algos_length, gnutls_pcert_st **certs, unsigned *cert_count,
    gnutls_privkey_t *key)
{
    struct identity *id;

    (void)session;
    (void)req_ca_rdn;
    (void)nreqs;
    (void)pk_algos;
    (void)pk_algos_length;
    look_now_and_then();
    if (!(id = atomic_load(&own.current)))
        return -1;
    *certs = id->certs;
    *cert_count = id->cert_count;
    *key = id->key;
    return 0;
}
