/* SPDX-License-Identifier: Apache-2.0
 *
 * The client of an OpenID provider. Happy path: discovery, the browser goes to the provider and returns with a code, the
 * code is traded for an ID token over TLS, its signature is checked with the provider's keys, its claims with what we
 * asked for. Only https, no redirects, bounded answers.
 */
#include "hub/api/oidc.h"

#include <curl/curl.h>
#include <pthread.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "hub/api/jwt.h"
#include "transport/base/buf.h"
#include "transport/base/clock.h"
#include "transport/base/log.h"
#include "transport/base/mem.h"

#define ANSWER_MAX (1024u * 1024u)
#define CONNECT_SEC 5L
#define QUESTION_SEC 10L
#define KEEP_USEC (3600 * USEC_PER_SEC)
#define KEYS_AGAIN_USEC (5 * USEC_PER_SEC)
#define SKEW_SEC 60 /* between our clock and the provider's */

struct oidc {
    const struct oidc_conf *conf;
    pthread_mutex_t lock; /* everything below */
    json_t *provider, *keys;
    uint64_t provider_usec, keys_usec; /* monotonic, when they were fetched */
};

static void curl_free_indirect(char **text)
{
    curl_free(*text);
}
#define AUTO_CURL_TEXT __attribute__((cleanup(curl_free_indirect)))

/* ---- settings ---- */

static const char *const roles[] = {"viewer", "operator", "admin"}; /* rising */

/* One "VALUE=ROLE" of the mapping at `at`; returns where the next begins. *ret_role -1: malformed. */
static const char *next_mapping(const char *at, const char **ret_value, size_t *ret_len, int *ret_role)
{
    size_t n = strcspn(at, ",");
    const char *equals = memrchr(at, '=', n);

    *ret_value = at;
    *ret_len = equals ? (size_t)(equals - at) : 0;
    *ret_role = -1;
    for (size_t i = 0; equals && *ret_len > 0 && i < ARRAY_LEN(roles); i++)
        if (strlen(roles[i]) == n - *ret_len - 1 && strncmp(equals + 1, roles[i], strlen(roles[i])) == 0)
            *ret_role = (int)i;
    return at + n + (at[n] == ',');
}

int oidc_check_role_map(const char *role_map, struct err *err)
{
    const char *value;
    size_t n;
    int role;

    for (const char *at = role_map; *at;) {
        at = next_mapping(at, &value, &n, &role);
        if (role < 0) {
            (void)err_set(err, ERR_INVALID, "oidc-role-map: \"%s\" is no list of VALUE=ROLE", role_map);
            return err_hint(err, "Such as admins=admin,ops=operator,*=viewer; roles are viewer, operator and admin.");
        }
    }
    return 0;
}

static int need(const char *value, const char *key, struct err *err)
{
    if (value && *value)
        return 0;
    (void)err_set(err, ERR_INVALID, "signing in by OpenID needs the option %s", key);
    return err_hint(err, "Give --%s too, or leave out --oidc-issuer.", key);
}

static int need_https(const char *url, const char *key, struct err *err)
{
    if (need(url, key, err) < 0)
        return -1;
    if (strncmp(url, "https://", 8) == 0)
        return 0;
    return err_set(err, ERR_INVALID, "%s must begin with https://", key);
}

int oidc_check(const struct oidc_conf *conf, struct err *err)
{
    if (need_https(conf->issuer, "oidc-issuer", err) < 0 || need(conf->client_id, "oidc-client-id", err) < 0 ||
        need_https(conf->public_url, "public-url", err) < 0 || need(conf->role_map, "oidc-role-map", err) < 0 ||
        oidc_check_role_map(conf->role_map, err) < 0)
        return -1;
    return 0;
}

int oidc_new(const struct oidc_conf *conf, struct oidc **ret_oidc, struct err *err)
{
    struct oidc *oidc = mem_new(struct oidc);

    if (!oidc)
        return err_set(err, ERR_NOMEM, "no memory for an OpenID provider");
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != 0) {
        free(oidc);
        return err_set(err, ERR_INTERNAL, "libcurl does not start");
    }
    oidc->conf = conf;
    (void)pthread_mutex_init(&oidc->lock, NULL);
    *ret_oidc = oidc;
    return 0;
}

void oidc_free(struct oidc *oidc)
{
    if (!oidc)
        return;
    json_decref(oidc->provider);
    json_decref(oidc->keys);
    (void)pthread_mutex_destroy(&oidc->lock);
    free(oidc);
    curl_global_cleanup();
}

/* ---- questions over the network ---- */

static size_t on_body(char *data, size_t size, size_t count, void *cls)
{
    return buf_append(cls, data, size * count, NULL) < 0 ? 0 : size * count;
}

static int unreachable(struct err *err, const char *what, const char *why)
{
    (void)err_set(err, ERR_UNAVAILABLE, "the OpenID provider's %s cannot be used: %s", what, why);
    return err_hint(err, "Check the provider and the options oidc-issuer and oidc-ca; passwords work meanwhile.");
}

static int perform(
    CURL *curl, const struct oidc *oidc, const char *what, struct buf *body, long *ret_status, struct err *err)
{
    char why[CURL_ERROR_SIZE] = "";

    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "https");
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, CONNECT_SEC);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, QUESTION_SEC);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, why);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, body);
    if (oidc->conf->ca_path && *oidc->conf->ca_path)
        curl_easy_setopt(curl, CURLOPT_CAINFO, oidc->conf->ca_path);
    if (curl_easy_perform(curl) != CURLE_OK)
        return unreachable(err, what, why[0] ? why : "no answer");
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, ret_status);
    return 0;
}

/* GET without form, else POST. */
static int ask(struct oidc *oidc, const char *what, const char *url, const char *form, const char *basic,
    long *ret_status, json_t **ret_json, struct err *err)
{
    AUTO_BUF struct buf body = BUF_INIT(ANSWER_MAX);
    CURL *curl = curl_easy_init();
    int rc;

    if (!curl)
        return err_set(err, ERR_NOMEM, "no memory to ask the OpenID provider");
    curl_easy_setopt(curl, CURLOPT_URL, url);
    if (form)
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, form);
    if (basic) {
        curl_easy_setopt(curl, CURLOPT_HTTPAUTH, CURLAUTH_BASIC);
        curl_easy_setopt(curl, CURLOPT_USERPWD, basic);
    }
    rc = perform(curl, oidc, what, &body, ret_status, err);
    curl_easy_cleanup(curl);
    if (rc < 0)
        return -1;
    *ret_json = json_loadb(body.data ? (char *)body.data : "", body.len, 0, NULL);
    return json_is_object(*ret_json) ? 0
                                     : (json_decref(*ret_json), unreachable(err, what, "the answer is no JSON object"));
}

static const char *member(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));

    return text ? text : "";
}

static int fetch_provider(struct oidc *oidc, json_t **ret_provider, struct err *err)
{
    const char *issuer = oidc->conf->issuer;
    size_t n = strlen(issuer);
    AUTO_FREE char *url =
        mem_printf("%.*s/.well-known/openid-configuration", (int)(issuer[n - 1] == '/' ? n - 1 : n), issuer);
    json_t *provider;
    long status;

    if (!url)
        return err_set(err, ERR_NOMEM, "no memory to ask the OpenID provider");
    if (ask(oidc, "description", url, NULL, NULL, &status, &provider, err) < 0)
        return -1;
    if (status != 200 || strcmp(member(provider, "issuer"), issuer) != 0 ||
        !*member(provider, "authorization_endpoint") || !*member(provider, "token_endpoint") ||
        !*member(provider, "jwks_uri")) {
        json_decref(provider);
        return unreachable(err, "description", "it is not of this issuer, or incomplete");
    }
    *ret_provider = provider;
    return 0;
}

/* A new reference to what is known, fetched when it is old. */
static int get_provider(struct oidc *oidc, json_t **ret_provider, struct err *err)
{
    json_t *fresh = NULL;

    pthread_mutex_lock(&oidc->lock);
    *ret_provider =
        oidc->provider && clock_mono_usec() - oidc->provider_usec < KEEP_USEC ? json_incref(oidc->provider) : NULL;
    pthread_mutex_unlock(&oidc->lock);
    if (*ret_provider)
        return 0;
    if (fetch_provider(oidc, &fresh, err) < 0)
        return -1;
    pthread_mutex_lock(&oidc->lock);
    json_decref(oidc->provider);
    oidc->provider = fresh;
    oidc->provider_usec = clock_mono_usec();
    *ret_provider = json_incref(fresh);
    pthread_mutex_unlock(&oidc->lock);
    return 0;
}

/* again: what is known lacks a key. */
static int get_keys(struct oidc *oidc, const json_t *provider, bool again, json_t **ret_keys, struct err *err)
{
    json_t *fresh = NULL;
    uint64_t age;
    long status;

    pthread_mutex_lock(&oidc->lock);
    age = clock_mono_usec() - oidc->keys_usec;
    *ret_keys = oidc->keys && age < (again ? KEYS_AGAIN_USEC : KEEP_USEC) ? json_incref(oidc->keys) : NULL;
    pthread_mutex_unlock(&oidc->lock);
    if (*ret_keys)
        return 0;
    if (ask(oidc, "keys", member(provider, "jwks_uri"), NULL, NULL, &status, &fresh, err) < 0)
        return -1;
    if (status != 200 || !json_is_array(json_object_get(fresh, "keys"))) {
        json_decref(fresh);
        return unreachable(err, "keys", "the answer is no key set");
    }
    pthread_mutex_lock(&oidc->lock);
    json_decref(oidc->keys);
    oidc->keys = fresh;
    oidc->keys_usec = clock_mono_usec();
    *ret_keys = json_incref(fresh);
    pthread_mutex_unlock(&oidc->lock);
    return 0;
}

/* ---- the way there ---- */

void oidc_draw(char ret_text[OIDC_SECRET_SIZE])
{
    unsigned char random[32];

    randombytes_buf(random, sizeof(random));
    sodium_bin2base64(ret_text, OIDC_SECRET_SIZE, random, sizeof(random), sodium_base64_VARIANT_URLSAFE_NO_PADDING);
}

int oidc_begin(
    struct oidc *oidc, const char *state, const char *nonce, const char *verifier, char **ret_url, struct err *err)
{
    const struct oidc_conf *c = oidc->conf;
    unsigned char hash[crypto_hash_sha256_BYTES];
    char challenge[OIDC_SECRET_SIZE];
    AUTO_CURL_TEXT char *client = curl_easy_escape(NULL, c->client_id, 0);
    AUTO_CURL_TEXT char *back = curl_easy_escape(NULL, c->redirect_uri, 0);
    AUTO_CURL_TEXT char *scopes =
        curl_easy_escape(NULL, c->scopes && *c->scopes ? c->scopes : "openid profile email", 0);
    json_t *provider = NULL;
    const char *at;

    if (get_provider(oidc, &provider, err) < 0)
        return -1;
    crypto_hash_sha256(hash, (const unsigned char *)verifier, strlen(verifier));
    sodium_bin2base64(challenge, sizeof(challenge), hash, sizeof(hash), sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    at = member(provider, "authorization_endpoint");
    *ret_url = client && back && scopes
                   ? mem_printf("%s%cresponse_type=code&client_id=%s&redirect_uri=%s&scope=%s&state=%s&nonce=%s"
                                "&code_challenge=%s&code_challenge_method=S256",
                         at, strchr(at, '?') ? '&' : '?', client, back, scopes, state, nonce, challenge)
                   : NULL;
    json_decref(provider);
    return *ret_url ? 0 : err_set(err, ERR_NOMEM, "no memory for the way to the OpenID provider");
}

/* ---- the way back ---- */

static bool offers(const json_t *provider, const char *method)
{
    const json_t *one, *list = json_object_get(provider, "token_endpoint_auth_methods_supported");
    size_t i;

    if (!list)
        return strcmp(method, "client_secret_basic") == 0; /* the default of Discovery 1.0 */
    json_array_foreach(
        list, i, one) if (json_is_string(one) && strcmp(json_string_value(one), method) == 0) return true;
    return false;
}

/* RFC 6749 section 2.3.1: form-encoded before they become basic authentication. */
static char *basic_of(const char *client, const char *secret)
{
    AUTO_CURL_TEXT char *escaped = curl_easy_escape(NULL, secret, 0);

    return escaped ? mem_printf("%s:%s", client, escaped) : NULL;
}

static int ask_token(struct oidc *oidc, const json_t *provider, const char *code, const char *verifier,
    json_t **ret_json, struct err *err)
{
    const struct oidc_conf *c = oidc->conf;
    bool secret = c->client_secret && *c->client_secret;
    bool basic = secret && offers(provider, "client_secret_basic");
    AUTO_CURL_TEXT char *client = curl_easy_escape(NULL, c->client_id, 0);
    AUTO_CURL_TEXT char *back = curl_easy_escape(NULL, c->redirect_uri, 0);
    AUTO_CURL_TEXT char *escaped = curl_easy_escape(NULL, code, 0);
    AUTO_CURL_TEXT char *escaped_secret = secret ? curl_easy_escape(NULL, c->client_secret, 0) : NULL;
    AUTO_FREE char *credentials = basic && client ? basic_of(client, c->client_secret) : NULL;
    AUTO_FREE char *form = NULL;
    long status;

    if (client && back && escaped)
        form = mem_printf("grant_type=authorization_code&code=%s&redirect_uri=%s&client_id=%s&code_verifier=%s%s%s",
            escaped, back, client, verifier, secret && !basic ? "&client_secret=" : "",
            secret && !basic && escaped_secret ? escaped_secret : "");
    if (!form || (basic && !credentials))
        return err_set(err, ERR_NOMEM, "no memory to ask the OpenID provider");
    if (ask(oidc, "token endpoint", member(provider, "token_endpoint"), form, credentials, &status, ret_json, err) < 0)
        return -1;
    if (status == 200 && *member(*ret_json, "id_token"))
        return 0;
    (void)err_set(err, ERR_UNAUTHENTICATED, "the OpenID provider gives no token: %.60s %.120s",
        member(*ret_json, "error"), member(*ret_json, "error_description"));
    json_decref(*ret_json);
    return err_hint(err, "Sign in again; if it stays, check oidc-client-id and oidc-client-secret-file.");
}

static int refuse(struct err *err, const char *what)
{
    (void)err_set(err, ERR_UNAUTHENTICATED, "the OpenID provider's token is refused: %s", what);
    return err_hint(err, "Sign in again; if it stays, compare clocks, issuer and client id.");
}

static bool audience_has(const json_t *claims, const char *client_id)
{
    const json_t *aud = json_object_get(claims, "aud"), *one;
    size_t i;

    if (json_is_string(aud))
        return strcmp(json_string_value(aud), client_id) == 0;
    if (json_array_size(aud) > 1 && strcmp(member(claims, "azp"), client_id) != 0)
        return false;
    json_array_foreach(
        aud, i, one) if (json_is_string(one) && strcmp(json_string_value(one), client_id) == 0) return true;
    return false;
}

int oidc_check_claims(
    const struct oidc_conf *conf, const json_t *claims, const char *nonce, int64_t now, struct err *err)
{
    const json_t *exp = json_object_get(claims, "exp"), *iat = json_object_get(claims, "iat"),
                 *nbf = json_object_get(claims, "nbf");
    const char *subject = member(claims, "sub");

    if (strcmp(member(claims, "iss"), conf->issuer) != 0)
        return refuse(err, "it is of another issuer");
    if (!audience_has(claims, conf->client_id))
        return refuse(err, "it is meant for somebody else");
    if (!json_is_number(exp) || json_number_value(exp) <= (double)(now - SKEW_SEC))
        return refuse(err, "it has expired");
    if (!json_is_number(iat) || json_number_value(iat) > (double)(now + SKEW_SEC) ||
        (nbf && json_number_value(nbf) > (double)(now + SKEW_SEC)))
        return refuse(err, "it is of the future");
    if (strcmp(member(claims, "nonce"), nonce) != 0)
        return refuse(err, "it answers another request");
    if (!*subject || strlen(subject) > 255)
        return refuse(err, "it names nobody");
    return 0;
}

int oidc_redeem(
    struct oidc *oidc, const char *code, const char *nonce, const char *verifier, json_t **ret_claims, struct err *err)
{
    json_t *provider = NULL, *answer = NULL, *claims = NULL;
    int rc = -1;

    if (get_provider(oidc, &provider, err) < 0)
        return -1;
    if (ask_token(oidc, provider, code, verifier, &answer, err) == 0) {
        for (int again = 0; again < 2; again++) {
            json_t *keys = NULL;

            rc = get_keys(oidc, provider, again, &keys, err);
            if (rc == 0 && (rc = jwt_verify(member(answer, "id_token"), keys, &claims, err)) < 0)
                (void)err_hint(err, "Sign in again; if it stays, ask who runs the provider.");
            json_decref(keys);
            if (rc != 0)
                break;
        }
        if (rc == 0)
            (void)refuse(err, "it is signed with a key that the provider does not publish");
        json_decref(answer);
    }
    json_decref(provider);
    if (rc == 1 && oidc_check_claims(oidc->conf, claims, nonce, (int64_t)(clock_utc_usec() / USEC_PER_SEC), err) == 0) {
        *ret_claims = claims;
        return 0;
    }
    json_decref(claims);
    return -1;
}

/* ---- roles ---- */

/* "realm_access.roles" goes into objects. */
static const json_t *claim_at(const json_t *claims, const char *path)
{
    const json_t *whole = json_object_get(claims, path);
    char name[64];

    while (!whole && json_is_object(claims) && *path) {
        size_t n = strcspn(path, ".");

        if (n >= sizeof(name))
            return NULL;
        (void)snprintf(name, sizeof(name), "%.*s", (int)n, path);
        claims = json_object_get(claims, name);
        path += n + (path[n] == '.');
        if (!*path)
            return claims;
    }
    return whole;
}

static bool claim_has(const json_t *claim, const char *value, size_t n)
{
    const json_t *one;
    size_t i;

    if (n == 1 && *value == '*')
        return true;
    if (json_is_string(claim))
        return json_string_length(claim) == n && memcmp(json_string_value(claim), value, n) == 0;
    json_array_foreach(claim, i, one) if (json_is_string(one) && json_string_length(one) == n &&
                                          memcmp(json_string_value(one), value, n) == 0) return true;
    return false;
}

const char *oidc_role(const struct oidc_conf *conf, const json_t *claims)
{
    const json_t *claim = claim_at(claims, conf->role_claim && *conf->role_claim ? conf->role_claim : "groups");
    const char *value;
    int best = -1, role;
    size_t n;

    for (const char *at = conf->role_map; *at;) {
        at = next_mapping(at, &value, &n, &role);
        if (role > best && claim_has(claim, value, n))
            best = role;
    }
    return best < 0 ? NULL : roles[best];
}
