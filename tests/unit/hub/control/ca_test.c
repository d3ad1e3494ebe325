/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "hub/control/ca.h"
#include "transport/base/clock.h"
#include "transport/base/file.h"
#include "transport/base/log.h"

struct fixture {
    char folder[64];
    struct ca *ca;
};

static int up(void **state)
{
    struct fixture *f = mem_new(struct fixture);
    struct err err = ERR_INIT;

    log_set_level(LOG_ERROR);
    snprintf(f->folder, sizeof(f->folder), "/tmp/leeward-test-XXXXXX");
    *state = f;
    return mkdtemp(f->folder) && ca_open(f->folder, &f->ca, &err) == 0 ? 0 : -1;
}

static int down(void **state)
{
    struct fixture *f = *state;

    ca_close(f->ca);
    (void)file_remove_tree(f->folder, NULL);
    free(f);
    return 0;
}

/* A request in DER; the caller frees. */
static size_t request(EVP_PKEY *key, EVP_PKEY *sign_key, unsigned char **ret_der)
{
    X509_REQ *req = X509_REQ_new();
    int n;

    assert_int_equal(X509_REQ_set_pubkey(req, key), 1);
    assert_true(X509_REQ_sign(req, sign_key, EVP_sha256()) > 0);
    *ret_der = NULL;
    n = i2d_X509_REQ(req, ret_der);
    X509_REQ_free(req);
    assert_true(n > 0);
    return (size_t)n;
}

static X509 *load(const char *pem)
{
    BIO *bio = BIO_new_mem_buf(pem, -1);
    X509 *x = PEM_read_bio_X509(bio, NULL, NULL, NULL);

    BIO_free(bio);
    assert_non_null(x);
    return x;
}

static void test_the_root_stays_the_same(void **state)
{
    struct fixture *f = *state;
    struct ca *again AUTO_OF(ca) = NULL;
    struct err err = ERR_INIT;
    struct stat st;
    char path[128];

    assert_int_equal(ca_open(f->folder, &again, &err), 0);
    assert_string_equal(ca_fingerprint(again), ca_fingerprint(f->ca));
    assert_int_equal(strlen(ca_fingerprint(f->ca)), 64);
    snprintf(path, sizeof(path), "%s/ca/ca.key", f->folder);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
}

static void test_a_root_without_its_key_is_refused(void **state)
{
    struct fixture *f = *state;
    struct ca *again = NULL;
    struct err err = ERR_INIT;
    char path[128];

    snprintf(path, sizeof(path), "%s/ca/ca.key", f->folder);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(ca_open(f->folder, &again, &err), -1);
    assert_int_equal(err.code, ERR_CORRUPT);
    assert_true(err.correction[0] != '\0');
}

static void test_a_certificate_names_role_and_id_and_verifies(void **state)
{
    struct fixture *f = *state;
    EVP_PKEY *key = EVP_EC_gen("P-256");
    struct ca_certificate c = {0};
    struct err err = ERR_INIT;
    unsigned char *der;
    size_t n = request(key, key, &der);
    struct ident id;
    char text[IDENT_TEXT_SIZE], host[100];

    assert_int_equal(ident_random(&id), 0);
    ident_to_text(&id, text);
    assert_int_equal(ca_issue(f->ca, der, n, "agent", &id, &c, &err), 0);
    X509 *x = load(c.pem), *root = load(ca_pem(f->ca));
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();

    X509_STORE_add_cert(store, root);
    X509_STORE_CTX_init(ctx, store, x, NULL);
    assert_int_equal(X509_verify_cert(ctx), 1);
    snprintf(host, sizeof(host), "%s.agent.leeward.internal", text);
    assert_int_equal(X509_check_host(x, host, 0, 0, NULL), 1);
    assert_int_equal(X509_check_host(x, "agent.leeward.internal", 0, 0, NULL), 1);
    assert_int_equal(X509_check_host(x, "node.leeward.internal", 0, 0, NULL), 0);
    assert_int_equal(X509_check_ca(x), 0);
    assert_true(c.not_after_utc_usec > clock_utc_usec() + 80ULL * 86400 * USEC_PER_SEC);
    assert_true(strlen(c.serial) >= 30);
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(store);
    X509_free(root);
    X509_free(x);
    ca_certificate_done(&c);
    OPENSSL_free(der);
    EVP_PKEY_free(key);
}

static void assert_refused(struct fixture *f, const unsigned char *der, size_t n)
{
    struct ca_certificate c = {0};
    struct err err = ERR_INIT;
    uint8_t hash[32];
    struct ident id;

    assert_int_equal(ident_random(&id), 0);
    assert_int_equal(ca_issue(f->ca, der, n, "agent", &id, &c, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_int_equal(ca_request_key_sha256(der, n, hash, &err), -1);
}

static void test_requests_that_prove_nothing_are_refused(void **state)
{
    struct fixture *f = *state;
    EVP_PKEY *key = EVP_EC_gen("P-256"), *other = EVP_EC_gen("P-256"), *weak = EVP_RSA_gen(1024);
    unsigned char *der;
    size_t n = request(key, other, &der); /* signed by somebody else's key */

    assert_refused(f, der, n);
    OPENSSL_free(der);
    n = request(weak, weak, &der);
    assert_refused(f, der, n);
    OPENSSL_free(der);
    n = request(key, key, &der);
    assert_refused(f, der, n - 1); /* cut off */
    assert_refused(f, der, 0);
    der[n / 2] ^= 0x55;
    assert_refused(f, der, n);
    OPENSSL_free(der);
    assert_refused(f, (const unsigned char *)"not a request", 13);
    EVP_PKEY_free(key);
    EVP_PKEY_free(other);
    EVP_PKEY_free(weak);
}

static void test_the_hubs_certificates_are_made_once_and_again_when_names_change(void **state)
{
    struct fixture *f = *state;
    const char *const names[] = {"hub.example.org", "10.0.0.7", "fd00::7"};
    const char *const bad[] = {"a,DNS:evil.example"};
    AUTO_BUF struct buf pem = BUF_INIT(65536);
    struct err err = ERR_INIT;
    struct ident id;
    char path[128];

    assert_int_equal(ident_random(&id), 0);
    assert_int_equal(ca_ensure_hub(f->ca, f->folder, &id, &err), 1);
    assert_int_equal(ca_ensure_hub(f->ca, f->folder, &id, &err), 0);
    assert_int_equal(ca_ensure_api(f->ca, f->folder, NULL, 0, &err), 1);
    assert_int_equal(ca_ensure_api(f->ca, f->folder, NULL, 0, &err), 0);
    assert_int_equal(ca_ensure_api(f->ca, f->folder, names, 3, &err), 1);
    assert_int_equal(ca_ensure_api(f->ca, f->folder, bad, 1, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    snprintf(path, sizeof(path), "%s/api.pem", f->folder);
    assert_int_equal(file_read(path, &pem, &err), 0);
    X509 *x = load(buf_str(&pem, &err));

    assert_int_equal(X509_check_host(x, "hub.example.org", 0, 0, NULL), 1);
    assert_int_equal(X509_check_host(x, "localhost", 0, 0, NULL), 1);
    assert_int_equal(X509_check_ip_asc(x, "10.0.0.7", 0), 1);
    assert_int_equal(X509_check_ip_asc(x, "::1", 0), 1);
    assert_int_equal(X509_check_ip_asc(x, "fd00::7", 0), 1);
    X509_free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_the_root_stays_the_same, up, down),
        cmocka_unit_test_setup_teardown(test_a_root_without_its_key_is_refused, up, down),
        cmocka_unit_test_setup_teardown(test_a_certificate_names_role_and_id_and_verifies, up, down),
        cmocka_unit_test_setup_teardown(test_requests_that_prove_nothing_are_refused, up, down),
        cmocka_unit_test_setup_teardown(test_the_hubs_certificates_are_made_once_and_again_when_names_change, up, down),
    };

    return cmocka_run_group_tests_name("hub_ca", tests, NULL, NULL);
}
