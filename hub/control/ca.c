/* SPDX-License-Identifier: Apache-2.0
 *
 * The certificate authority. Happy path: load ca.key and ca.pem (made at first start, the key first, so that a crash in between
 * leaves nothing that was ever shown to anybody), sign requests. Of a request only the public key is believed, after its
 * self-signature proved that the sender has the private half. Failure modes: a key without a certificate is used for a new
 * certificate; a certificate without its key is refused, because no new one would be trusted by those that are out.
 * Sources: RFC 5280 (profiles), RFC 2986 (requests), CA/Browser baseline for serials (>= 64 random bits).
 */
#include "hub/control/ca.h"

#include <openssl/kdf.h>
#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "transport/base/buf.h"
#include "transport/base/bytes.h"
#include "transport/base/clock.h"
#include "transport/base/file.h"
#include "transport/base/log.h"

#define CA_DAYS (20 * 365)
#define HUB_DAYS 365
#define API_DAYS 365
#define PEER_DAYS 90
/* Clocks of peers may be behind ours. */
#define BACKDATE_SECONDS 3600
#define SERIAL_BYTES 16
#define CSR_MAX 16384
#define PEM_MAX (256 * 1024)
#define NAMES_MAX 4096

struct ca {
    char *dir, *path, *pem;
    X509 *certificate;
    EVP_PKEY *key;
    char fingerprint[CA_FINGERPRINT_SIZE];
};

#define DEFINE_OSSL_AUTO(name, type, fn)                                                                               \
    static inline void name##_auto(type **p)                                                                           \
    {                                                                                                                  \
        fn(*p);                                                                                                        \
    }
DEFINE_OSSL_AUTO(x509, X509, X509_free)
DEFINE_OSSL_AUTO(pkey, EVP_PKEY, EVP_PKEY_free)
DEFINE_OSSL_AUTO(req, X509_REQ, X509_REQ_free)
DEFINE_OSSL_AUTO(bio, BIO, BIO_free_all)
DEFINE_OSSL_AUTO(bn, BIGNUM, BN_free)
#define AUTO_X509 __attribute__((cleanup(x509_auto)))
#define AUTO_PKEY __attribute__((cleanup(pkey_auto)))
#define AUTO_REQ __attribute__((cleanup(req_auto)))
#define AUTO_BIO __attribute__((cleanup(bio_auto)))
#define AUTO_BN __attribute__((cleanup(bn_auto)))

/* The first of OpenSSL's errors, and none left behind for the next call on this thread. */
static int fail_openssl(struct err *err, const char *what)
{
    char text[160] = "unknown";
    unsigned long e = ERR_get_error();

    if (e)
        ERR_error_string_n(e, text, sizeof(text));
    ERR_clear_error();
    return err_set(err, ERR_INTERNAL, "%s: %s", what, text);
}

/* ---- certificates in general ---- */

struct subject {
    const char *common_name;
    const char *alt_names; /* OpenSSL's syntax, "URI:...,DNS:..."; NULL: none */
    const char *key_usage, *extended_usage, *constraints;
    int days;
};

static int add_extension(X509 *x, X509 *issuer, int nid, const char *value, struct err *err)
{
    X509V3_CTX ctx;
    X509_EXTENSION *e;
    int rc;

    if (!value)
        return 0;
    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, issuer, x, NULL, NULL, 0);
    e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    rc = e && X509_add_ext(x, e, -1) == 1;
    X509_EXTENSION_free(e);
    return rc ? 0 : fail_openssl(err, "adding a certificate extension");
}

static int set_serial(X509 *x, struct err *err)
{
    unsigned char bytes[SERIAL_BYTES];
    AUTO_BN BIGNUM *n = NULL;

    if (RAND_bytes(bytes, sizeof(bytes)) != 1)
        return fail_openssl(err, "drawing a serial");
    bytes[0] = (bytes[0] & 0x7f) | 0x40; /* positive, and always of full length */
    n = BN_bin2bn(bytes, sizeof(bytes), NULL);
    return n && BN_to_ASN1_INTEGER(n, X509_get_serialNumber(x)) ? 0 : fail_openssl(err, "setting a serial");
}

static int set_name(X509 *x, const char *common_name, struct err *err)
{
    X509_NAME *name = X509_get_subject_name(x);

    if (X509_NAME_add_entry_by_txt(name, "O", MBSTRING_UTF8, (const unsigned char *)"Leeward", -1, -1, 0) != 1 ||
        X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)common_name, -1, -1, 0) != 1)
        return fail_openssl(err, "setting a certificate's name");
    return 0;
}

/* issuer NULL: self-signed by sign_key. */
static int build(
    const struct subject *s, EVP_PKEY *public_key, X509 *issuer, EVP_PKEY *sign_key, X509 **ret_x, struct err *err)
{
    AUTO_X509 X509 *x = X509_new();

    if (!x || X509_set_version(x, X509_VERSION_3) != 1)
        return fail_openssl(err, "making a certificate");
    if (set_serial(x, err) < 0 || set_name(x, s->common_name, err) < 0)
        return -1;
    if (!X509_gmtime_adj(X509_getm_notBefore(x), -BACKDATE_SECONDS) ||
        !X509_time_adj_ex(X509_getm_notAfter(x), s->days, 0, NULL) ||
        X509_set_issuer_name(x, X509_get_subject_name(issuer ? issuer : x)) != 1 || X509_set_pubkey(x, public_key) != 1)
        return fail_openssl(err, "filling a certificate");
    if (add_extension(x, issuer ? issuer : x, NID_basic_constraints, s->constraints, err) < 0 ||
        add_extension(x, issuer ? issuer : x, NID_key_usage, s->key_usage, err) < 0 ||
        add_extension(x, issuer ? issuer : x, NID_ext_key_usage, s->extended_usage, err) < 0 ||
        add_extension(x, issuer ? issuer : x, NID_subject_key_identifier, "hash", err) < 0 ||
        add_extension(x, issuer ? issuer : x, NID_authority_key_identifier, issuer ? "keyid:always" : NULL, err) < 0 ||
        add_extension(x, issuer ? issuer : x, NID_subject_alt_name, s->alt_names, err) < 0)
        return -1;
    if (X509_sign(x, sign_key, EVP_sha256()) <= 0)
        return fail_openssl(err, "signing a certificate");
    *ret_x = TAKE_PTR(x);
    return 0;
}

static int fingerprint_of(const X509 *x, char out[CA_FINGERPRINT_SIZE], struct err *err)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned n = 0;

    if (X509_digest(x, EVP_sha256(), digest, &n) != 1 || n != 32)
        return fail_openssl(err, "hashing a certificate");
    bytes_to_hex(digest, n, out);
    return 0;
}

static int take_text(BIO *bio, char **ret_text, struct err *err)
{
    char *data;
    long n = BIO_get_mem_data(bio, &data);

    *ret_text = n > 0 ? mem_strndup(data, (size_t)n) : NULL;
    return *ret_text ? 0 : err_set(err, ERR_NOMEM, "no memory for PEM text");
}

static int pem_of(X509 *x, char **ret_pem, struct err *err)
{
    AUTO_BIO BIO *bio = BIO_new(BIO_s_mem());

    if (!bio || PEM_write_bio_X509(bio, x) != 1)
        return fail_openssl(err, "writing a certificate");
    return take_text(bio, ret_pem, err);
}

static int write_key(EVP_PKEY *key, const char *path, struct err *err)
{
    AUTO_BIO BIO *bio = BIO_new(BIO_s_mem());
    char *data;
    long n;
    int rc;

    if (!bio || PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) != 1)
        return fail_openssl(err, "writing a key");
    n = BIO_get_mem_data(bio, &data);
    rc = file_replace(path, data, (size_t)n, 0600, err);
    OPENSSL_cleanse(data, (size_t)n);
    return rc;
}

static int write_certificate(X509 *x, const struct ca *chain, const char *path, struct err *err)
{
    AUTO_FREE char *pem = NULL;
    AUTO_FREE char *both = NULL;

    if (pem_of(x, &pem, err) < 0)
        return -1;
    both = chain ? mem_printf("%s%s", pem, chain->pem) : mem_strdup(pem);
    return both ? file_replace(path, both, strlen(both), 0644, err) : err_set(err, ERR_NOMEM, "no memory");
}

static EVP_PKEY *new_key(struct err *err)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");

    if (!key)
        (void)fail_openssl(err, "making a key");
    return key;
}

/* 1 read, 0 no such file. */
static int read_file(const char *path, struct buf *text, struct err *err)
{
    struct err why = ERR_INIT;

    if (file_read(path, text, &why) == 0)
        return 1;
    if (why.code == ERR_NOT_FOUND)
        return 0;
    err_copy(err, &why);
    return -1;
}

static int load_key(const char *path, EVP_PKEY **ret_key, struct err *err)
{
    AUTO_BUF struct buf text = BUF_INIT(PEM_MAX);
    AUTO_BIO BIO *bio = NULL;
    int rc = read_file(path, &text, err);

    if (rc <= 0)
        return rc;
    bio = BIO_new_mem_buf(text.data, (int)text.len);
    *ret_key = bio ? PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL) : NULL;
    OPENSSL_cleanse(text.data, text.len);
    if (*ret_key)
        return 1;
    ERR_clear_error();
    return err_set(err, ERR_CORRUPT, "%s is not a private key", path);
}

static int load_certificate(const char *path, X509 **ret_x, struct err *err)
{
    AUTO_BUF struct buf text = BUF_INIT(PEM_MAX);
    AUTO_BIO BIO *bio = NULL;
    int rc = read_file(path, &text, err);

    if (rc <= 0)
        return rc;
    bio = BIO_new_mem_buf(text.data, (int)text.len);
    *ret_x = bio ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
    if (*ret_x)
        return 1;
    ERR_clear_error();
    return err_set(err, ERR_CORRUPT, "%s is not a certificate", path);
}

/* ---- the root ---- */

static int make_root(struct ca *ca, const char *key_path, struct err *err)
{
    const struct subject s = {.common_name = "Leeward CA",
        .constraints = "critical,CA:TRUE,pathlen:0",
        .key_usage = "critical,keyCertSign,cRLSign",
        .days = CA_DAYS};

    if (!ca->key) {
        ca->key = new_key(err);
        if (!ca->key || write_key(ca->key, key_path, err) < 0)
            return -1;
    }
    if (build(&s, ca->key, NULL, ca->key, &ca->certificate, err) < 0 ||
        write_certificate(ca->certificate, NULL, ca->path, err) < 0)
        return -1;
    log_event(LOG_INFO, "ca_made", LOG_S("path", ca->path));
    return 0;
}

static int load_root(struct ca *ca, struct err *err)
{
    AUTO_FREE char *key_path = mem_printf("%s/ca.key", ca->dir);
    int have_key, have_certificate;

    if (!key_path)
        return err_set(err, ERR_NOMEM, "no memory");
    if ((have_key = load_key(key_path, &ca->key, err)) < 0 ||
        (have_certificate = load_certificate(ca->path, &ca->certificate, err)) < 0)
        return -1;
    if (!have_certificate)
        return make_root(ca, key_path, err);
    if (!have_key || X509_check_private_key(ca->certificate, ca->key) != 1) {
        ERR_clear_error();
        err_set(err, ERR_CORRUPT, "%s does not belong to the key beside it", ca->path);
        return err_hint(err, "Restore the folder %s from a backup.", ca->dir);
    }
    return 0;
}

int ca_open(const char *data_dir, struct ca **ret_ca, struct err *err)
{
    struct ca *ca AUTO_OF(ca) = mem_new(struct ca);

    if (!ca || !(ca->dir = mem_printf("%s/ca", data_dir)) || !(ca->path = mem_printf("%s/ca.pem", ca->dir)))
        return err_set(err, ERR_NOMEM, "no memory for the CA");
    if (file_make_dirs(ca->dir, 0755, err) < 0 || load_root(ca, err) < 0 ||
        pem_of(ca->certificate, &ca->pem, err) < 0 || fingerprint_of(ca->certificate, ca->fingerprint, err) < 0)
        return err_wrap(err, "certificate authority");
    *ret_ca = TAKE_PTR(ca);
    return 0;
}

void ca_close(struct ca *ca)
{
    if (!ca)
        return;
    X509_free(ca->certificate);
    EVP_PKEY_free(ca->key);
    free(ca->dir);
    free(ca->path);
    free(ca->pem);
    free(ca);
}

/* HKDF (RFC 5869) over the private key's DER. */
int ca_derive_key(const struct ca *ca, const char *purpose, uint8_t ret_key[32], struct err *err)
{
    EVP_PKEY_CTX *hkdf = EVP_PKEY_CTX_new_id(EVP_PKEY_HKDF, NULL);
    unsigned char *der = NULL;
    int n = i2d_PrivateKey(ca->key, &der);
    size_t len = 32;
    bool ok = hkdf && n > 0 && EVP_PKEY_derive_init(hkdf) > 0 && EVP_PKEY_CTX_set_hkdf_md(hkdf, EVP_sha256()) > 0 &&
              EVP_PKEY_CTX_set1_hkdf_key(hkdf, der, n) > 0 &&
              EVP_PKEY_CTX_add1_hkdf_info(hkdf, (const unsigned char *)purpose, (int)strlen(purpose)) > 0 &&
              EVP_PKEY_derive(hkdf, ret_key, &len) > 0 && len == 32;

    OPENSSL_clear_free(der, n > 0 ? (size_t)n : 0);
    EVP_PKEY_CTX_free(hkdf);
    ERR_clear_error();
    return ok ? 0 : err_set(err, ERR_INTERNAL, "no key can be derived from the CA's");
}

const char *ca_fingerprint(const struct ca *ca)
{
    return ca->fingerprint;
}

const char *ca_pem(const struct ca *ca)
{
    return ca->pem;
}

const char *ca_path(const struct ca *ca)
{
    return ca->path;
}

/* ---- agents, nodes and vaults ---- */

static bool key_is_strong(const EVP_PKEY *key)
{
    int bits = EVP_PKEY_get_bits(key);

    switch (EVP_PKEY_get_base_id(key)) {
    case EVP_PKEY_EC:
        return bits == 256 || bits == 384;
    case EVP_PKEY_RSA:
        return bits >= 2048 && bits <= 8192;
    default:
        return false;
    }
}

/* The public key of a request that was signed with the private one; NULL with err. */
static EVP_PKEY *request_key(const uint8_t *der, size_t len, struct err *err)
{
    const unsigned char *p = der;
    AUTO_REQ X509_REQ *req = len > 0 && len <= CSR_MAX ? d2i_X509_REQ(NULL, &p, (long)len) : NULL;
    EVP_PKEY *key = req && p == der + len ? X509_REQ_get0_pubkey(req) : NULL;

    if (!key || !key_is_strong(key) || X509_REQ_verify(req, key) != 1) {
        ERR_clear_error();
        err_set(err, ERR_INVALID, "the certificate request is malformed, unsigned or has a weak key");
        err_hint(err, "Use an EC P-256 key, as the programs of this version do.");
        return NULL;
    }
    EVP_PKEY_up_ref(key);
    return key;
}

int ca_request_key_sha256(const uint8_t *csr_der, size_t csr_len, uint8_t ret_sha256[32], struct err *err)
{
    AUTO_PKEY EVP_PKEY *key = request_key(csr_der, csr_len, err);
    unsigned char *spki = NULL;
    int n, rc;

    if (!key)
        return -1;
    n = i2d_PUBKEY(key, &spki);
    rc = n > 0 && EVP_Digest(spki, (size_t)n, ret_sha256, NULL, EVP_sha256(), NULL) == 1;
    OPENSSL_free(spki);
    return rc ? 0 : fail_openssl(err, "hashing a public key");
}

static uint64_t usec_of(const ASN1_TIME *t)
{
    struct tm tm = {0};

    return ASN1_TIME_to_tm(t, &tm) == 1 ? (uint64_t)timegm(&tm) * USEC_PER_SEC : 0;
}

static int describe(X509 *x, struct ca_certificate *c, struct err *err)
{
    AUTO_BN BIGNUM *n = ASN1_INTEGER_to_BN(X509_get0_serialNumber(x), NULL);
    unsigned char bytes[SERIAL_BYTES + 4];
    int len = n ? BN_num_bytes(n) : 0;

    if (len <= 0 || len > (int)sizeof(bytes))
        return fail_openssl(err, "reading a serial");
    BN_bn2bin(n, bytes);
    bytes_to_hex(bytes, (size_t)len, c->serial);
    c->not_before_utc_usec = usec_of(X509_get0_notBefore(x));
    c->not_after_utc_usec = usec_of(X509_get0_notAfter(x));
    if (fingerprint_of(x, c->fingerprint_sha256, err) < 0)
        return -1;
    return pem_of(x, &c->pem, err);
}

int ca_read_certificate(const char *path, struct ca_certificate *ret_certificate, struct err *err)
{
    AUTO_X509 X509 *x = NULL;
    int rc = load_certificate(path, &x, err);

    if (rc <= 0)
        return rc;
    return describe(x, ret_certificate, err) < 0 ? -1 : 1;
}

int ca_issue(const struct ca *ca, const uint8_t *csr_der, size_t csr_len, const char *role, const struct ident *id,
    struct ca_certificate *ret_certificate, struct err *err)
{
    AUTO_PKEY EVP_PKEY *key = request_key(csr_der, csr_len, err);
    AUTO_X509 X509 *x = NULL;
    struct ca_certificate c = {0};
    char text[IDENT_TEXT_SIZE];

    if (!key)
        return -1;
    ident_to_text(id, text);
    AUTO_FREE char *names = mem_printf(
        "URI:urn:leeward:%s:%s,DNS:%s.leeward.internal,DNS:%s.%s.leeward.internal", role, text, role, text, role);
    const struct subject s = {.common_name = text,
        .alt_names = names,
        .constraints = "critical,CA:FALSE",
        .key_usage = "critical,digitalSignature",
        .extended_usage = "serverAuth,clientAuth",
        .days = PEER_DAYS};

    if (!names)
        return err_set(err, ERR_NOMEM, "no memory");
    if (build(&s, key, ca->certificate, ca->key, &x, err) < 0 || describe(x, &c, err) < 0) {
        ca_certificate_done(&c);
        return -1;
    }
    *ret_certificate = c;
    return 0;
}

void ca_certificate_done(struct ca_certificate *certificate)
{
    free(TAKE_PTR(certificate->pem));
}

/* ---- the hub's own ---- */

/* True when the certificate is ours, for this key and these names, and more than a third of its life is left. */
static bool still_good(const struct ca *ca, X509 *x, EVP_PKEY *key, const char *alt_names, const char *names_path)
{
    AUTO_BUF struct buf names = BUF_INIT(NAMES_MAX);
    uint64_t before = usec_of(X509_get0_notBefore(x)), after = usec_of(X509_get0_notAfter(x)), now = clock_utc_usec();

    if (file_read(names_path, &names, NULL) < 0 || names.len != strlen(alt_names) ||
        memcmp(names.data, alt_names, names.len) != 0)
        return false;
    if (X509_check_private_key(x, key) != 1 || X509_verify(x, ca->key) != 1) {
        ERR_clear_error();
        return false;
    }
    return now >= before && now + (after - before) / 3 < after;
}

/* Keeps DIR/STEM.{key,pem,names} good. 1: written; 0: nothing to do. */
static int ensure(const struct ca *ca, const char *data_dir, const char *stem, const struct subject *s, struct err *err)
{
    AUTO_FREE char *key_path = mem_printf("%s/%s.key", data_dir, stem);
    AUTO_FREE char *pem_path = mem_printf("%s/%s.pem", data_dir, stem);
    AUTO_FREE char *names_path = mem_printf("%s/%s.names", data_dir, stem);
    AUTO_PKEY EVP_PKEY *key = NULL;
    AUTO_X509 X509 *old = NULL;
    AUTO_X509 X509 *fresh = NULL;

    if (!key_path || !pem_path || !names_path)
        return err_set(err, ERR_NOMEM, "no memory");
    if (load_key(key_path, &key, err) < 0 || load_certificate(pem_path, &old, err) < 0)
        return -1;
    if (key && old && still_good(ca, old, key, s->alt_names, names_path))
        return 0;
    if (!key && (!(key = new_key(err)) || write_key(key, key_path, err) < 0))
        return -1;
    if (build(s, key, ca->certificate, ca->key, &fresh, err) < 0 || write_certificate(fresh, ca, pem_path, err) < 0 ||
        file_replace(names_path, s->alt_names, strlen(s->alt_names), 0644, err) < 0)
        return -1;
    log_event(LOG_INFO, "certificate_made", LOG_S("path", pem_path));
    return 1;
}

int ca_ensure_hub(const struct ca *ca, const char *data_dir, const struct ident *hub_id, struct err *err)
{
    char id[IDENT_TEXT_SIZE];

    ident_to_text(hub_id, id);
    AUTO_FREE char *names =
        mem_printf("URI:urn:leeward:hub:%s,DNS:hub.leeward.internal,DNS:%s.hub.leeward.internal", id, id);
    const struct subject s = {.common_name = id,
        .alt_names = names,
        .constraints = "critical,CA:FALSE",
        .key_usage = "critical,digitalSignature",
        .extended_usage = "serverAuth,clientAuth",
        .days = HUB_DAYS};

    return names ? ensure(ca, data_dir, "hub", &s, err) : err_set(err, ERR_NOMEM, "no memory");
}

static bool is_address(const char *name)
{
    return strchr(name, ':') || strspn(name, "0123456789.") == strlen(name);
}

/* A name goes into OpenSSL's own syntax: nothing but what a name or an address is made of may pass. */
static int append_name(struct buf *names, const char *name, struct err *err)
{
    if (!name[0] || strlen(name) > 253 ||
        strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:*") != strlen(name)) {
        err_set(err, ERR_INVALID, "hostnames: %.60s is not a name", name);
        return err_hint(err, "Give host names and addresses, separated by commas.");
    }
    return buf_printf(names, err, "%s%s:%s", names->len ? "," : "", is_address(name) ? "IP" : "DNS", name);
}

int ca_ensure_api(
    const struct ca *ca, const char *data_dir, const char *const *names, size_t name_count, struct err *err)
{
    AUTO_BUF struct buf alt = BUF_INIT(NAMES_MAX);
    static const char *const always[] = {"localhost", "127.0.0.1", "::1"};
    char host[256] = "";

    for (size_t i = 0; i < ARRAY_LEN(always); i++)
        if (append_name(&alt, always[i], err) < 0)
            return -1;
    if (gethostname(host, sizeof(host) - 1) == 0 && host[0] && strcmp(host, "localhost") != 0 &&
        append_name(&alt, host, err) < 0)
        return -1;
    for (size_t i = 0; i < name_count; i++)
        if (append_name(&alt, names[i], err) < 0)
            return -1;
    const struct subject s = {.common_name = "Leeward API",
        .alt_names = buf_str(&alt, err),
        .constraints = "critical,CA:FALSE",
        .key_usage = "critical,digitalSignature",
        .extended_usage = "serverAuth",
        .days = API_DAYS};

    return s.alt_names ? ensure(ca, data_dir, "api", &s, err) : -1;
}
