/* SPDX-License-Identifier: Apache-2.0
 *
 * Everything that comes back is bounded: the head, the body, one event. Only https is spoken, so that a token never
 * travels in the clear.
 */
#include "hub/cli/client.h"

#include <curl/curl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "transport/base/buf.h"
#include "transport/base/ident.h"

#define BODY_MAX (64u * 1024u * 1024u)
#define EVENT_MAX (1024u * 1024u)
#define CONNECT_TIMEOUT_MSEC 10000L
#define ANSWER_TIMEOUT_MSEC 120000L /* ?wait= is at most 60 s */
#define TURN_WAIT_SEC 60u           /* how long a call waits in sum while the hub says that it was asked too much */

struct client {
    CURL *curl;
    char *url;
    char *token;
    char *ca;
    bool dry_run, would_succeed, impatient;
    const volatile sig_atomic_t *stop; /* NULL: nothing */
    char curl_error[CURL_ERROR_SIZE];
};

struct transfer {
    struct buf body;
    struct client_answer *answer;
    struct err *err;
    char retry_after[16];
    /* events */
    int (*take)(void *arg, const char *id, const char *word, const char *data);
    void *arg;
    char id[24], word[32];
    struct buf data;
    bool stopped, begun;
};

int client_new(const struct client_settings *settings, struct client **ret_client, struct err *err)
{
    struct client *client AUTO_OF(client) = mem_new(struct client);
    size_t n = strlen(settings->url);

    if (!client)
        return err_set(err, ERR_NOMEM, "no memory for a client");
    if (strncmp(settings->url, "https://", 8) != 0) {
        (void)err_set(err, ERR_INVALID, "the address of the hub must begin with https://, not \"%s\"", settings->url);
        return err_hint(err, "The hub speaks TLS only, so that tokens never travel in the clear.");
    }
    while (n > 0 && settings->url[n - 1] == '/')
        n--;
    client->url = mem_strndup(settings->url, n);
    client->token = settings->token ? mem_strdup(settings->token) : NULL;
    client->ca = settings->ca ? mem_strdup(settings->ca) : NULL;
    client->curl = curl_easy_init();
    if (!client->curl || !client->url || (settings->token && !client->token) || (settings->ca && !client->ca))
        return err_set(err, ERR_NOMEM, "no memory for a client");
    *ret_client = TAKE_PTR(client);
    return 0;
}

void client_free(struct client *client)
{
    if (!client)
        return;
    if (client->curl)
        curl_easy_cleanup(client->curl);
    free(client->url);
    free(client->token);
    free(client->ca);
    free(client);
}

const char *client_url(const struct client *client)
{
    return client->url;
}

void client_answer_done(struct client_answer *answer)
{
    json_decref(answer->json);
    *answer = (struct client_answer){0};
}

/* ---- receiving ---- */

static size_t on_body(char *data, size_t size, size_t count, void *cls)
{
    struct transfer *t = cls;

    return buf_append(&t->body, data, size * count, t->err) < 0 ? 0 : size * count;
}

static void keep_header(const char *line, size_t n, const char *name, char *out, size_t out_size)
{
    size_t name_len = strlen(name);

    if (n <= name_len || strncasecmp(line, name, name_len) != 0 || line[name_len] != ':')
        return;
    line += name_len + 1;
    n -= name_len + 1;
    while (n > 0 && *line == ' ') {
        line++;
        n--;
    }
    while (n > 0 && (line[n - 1] == '\r' || line[n - 1] == '\n'))
        n--;
    (void)snprintf(out, out_size, "%.*s", (int)n, line);
}

static size_t on_header(char *data, size_t size, size_t count, void *cls)
{
    struct transfer *t = cls;

    keep_header(data, size * count, "ETag", t->answer->etag, sizeof(t->answer->etag));
    keep_header(data, size * count, "Location", t->answer->location, sizeof(t->answer->location));
    keep_header(data, size * count, "Retry-After", t->retry_after, sizeof(t->retry_after));
    return size * count;
}

/* ---- sending ---- */

static int add_line(struct curl_slist **list, struct err *err, const char *fmt, const char *value)
{
    AUTO_FREE char *line = mem_printf(fmt, value); /* fmt is one of ours */
    struct curl_slist *longer = line ? curl_slist_append(*list, line) : NULL;

    if (!longer)
        return err_set(err, ERR_NOMEM, "no memory for a request");
    *list = longer;
    return 0;
}

/* A key of its own for every POST, so that curl's repeat on a closed connection cannot do a thing twice. */
static int add_idempotency_key(struct curl_slist **list, struct err *err)
{
    struct ident key;
    char text[IDENT_TEXT_SIZE];

    if (ident_random(&key) < 0)
        return err_set(err, ERR_IO, "the kernel gives no random bytes");
    ident_to_text(&key, text);
    return add_line(list, err, "Idempotency-Key: %s", text);
}

static int make_headers(const struct client *client, const char *method, bool has_body, const char *if_match,
    struct curl_slist **ret_list, struct err *err)
{
    bool patch = strcmp(method, "PATCH") == 0;

    if (client->token && add_line(ret_list, err, "Authorization: Bearer %s", client->token) < 0)
        return -1;
    if (has_body && add_line(ret_list, err, "Content-Type: application/%s", patch ? "merge-patch+json" : "json") < 0)
        return -1;
    if (if_match && add_line(ret_list, err, "If-Match: %s", if_match) < 0)
        return -1;
    if (strcmp(method, "POST") == 0 && add_idempotency_key(ret_list, err) < 0)
        return -1;
    return add_line(ret_list, err, "Expect:%s", "");
}

static int explain_status(const struct client *client, struct err *err)
{
    long status = 0;

    curl_easy_getinfo(client->curl, CURLINFO_RESPONSE_CODE, &status);
    (void)err_set(err,
        status == 401   ? ERR_UNAUTHENTICATED
        : status == 403 ? ERR_DENIED
        : status >= 500 ? ERR_UNAVAILABLE
                        : ERR_INVALID,
        "the hub at %s refused with status %ld", client->url, status);
    return status < 500 ? err_hint(err, "Check the token, its scopes, and the options.") : -1;
}

static int explain_curl(const struct client *client, CURLcode rc, struct err *err)
{
    const char *why = client->curl_error[0] ? client->curl_error : curl_easy_strerror(rc);

    if (err && err->code != ERR_NONE) /* ours: a bound was reached */
        return -1;
    if (rc == CURLE_ABORTED_BY_CALLBACK)
        return err_set(err, ERR_CANCELLED, "interrupted");
    (void)err_set(
        err, rc == CURLE_OPERATION_TIMEDOUT ? ERR_TIMEOUT : ERR_UNAVAILABLE, "the hub at %s: %s", client->url, why);
    if (rc == CURLE_HTTP_RETURNED_ERROR) /* of a stream, whose body is not read then */
        return explain_status(client, err);
    if (rc == CURLE_PEER_FAILED_VERIFICATION || rc == CURLE_SSL_CACERT_BADFILE)
        return err_hint(
            err, "Name the hub's CA certificate with --ca or LEEWARD_CA (hub/ca/ca.pem in its data folder).");
    return err_hint(err, "Check that the hub runs there (`leeward up`, `systemctl status leeward-hub`), and --url.");
}

static void set_common(struct client *client, const char *url, struct curl_slist *headers)
{
    CURL *curl = client->curl;

    curl_easy_reset(curl);
    client->curl_error[0] = 0;
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, client->curl_error);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "https");
    curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MSEC);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "leeward/" LEEWARD_VERSION);
    if (client->ca)
        curl_easy_setopt(curl, CURLOPT_CAINFO, client->ca);
}

static int problem_error(const struct client_answer *answer, struct err *err)
{
    const json_t *p = answer->json;
    const char *code = json_string_value(json_object_get(p, "code"));
    const char *detail = json_string_value(json_object_get(p, "detail"));
    const char *correction = json_string_value(json_object_get(p, "correction"));
    const json_t *fault = json_array_get(json_object_get(p, "errors"), 0);
    const char *at = json_string_value(json_object_get(fault, "pointer"));
    const char *why = json_string_value(json_object_get(fault, "detail"));
    enum err_code known = code ? err_code_from_name(code) : ERR_INTERNAL;

    if (known == ERR_INTERNAL) /* codes of the API's own: by what the status says */
        known = answer->status == 404   ? ERR_NOT_FOUND
                : answer->status == 429 ? ERR_UNAVAILABLE
                : answer->status == 401 ? ERR_UNAUTHENTICATED
                : answer->status == 403 ? ERR_DENIED
                : answer->status == 412 ? ERR_CONFLICT
                : answer->status < 500  ? (answer->status == 409 ? ERR_REFUSED : ERR_INVALID)
                                        : known;
    if (!fault) {
        (void)err_set(err, known, "%s", detail ? detail : "the hub answered without saying why");
        return correction ? err_hint(err, "%s", correction) : -1;
    }
    /* What the API says to a program (`errors`, the document) is of no use here: the place and what is wrong there are. */
    (void)err_set(err, known, "%s: %s", at ? at + (*at == '/') : "the request", why ? why : "is wrong");
    return err_hint(err, "The command's --help has its arguments and options.");
}

/* Called at least once a second, and whenever a signal interrupts the waiting. */
static int on_progress(void *arg, curl_off_t down_of, curl_off_t down, curl_off_t up_of, curl_off_t up)
{
    const struct client *client = arg;

    (void)down_of;
    (void)down;
    (void)up_of;
    (void)up;
    return *client->stop != 0;
}

void client_set_stop(struct client *client, const volatile sig_atomic_t *stop)
{
    client->stop = stop;
}

static int perform(struct client *client, const char *method, const char *path, const json_t *body,
    const char *if_match, struct transfer *t, struct err *err)
{
    AUTO_FREE char *url = mem_printf("%s%s", client->url, path);
    AUTO_FREE char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    struct curl_slist *headers = NULL;
    CURLcode rc;

    if (!url || (body && !text) || make_headers(client, method, body != NULL, if_match, &headers, err) < 0) {
        curl_slist_free_all(headers);
        return err_set(err, ERR_NOMEM, "no memory for a request");
    }
    set_common(client, url, headers);
    curl_easy_setopt(client->curl, CURLOPT_TIMEOUT_MS, ANSWER_TIMEOUT_MSEC);
    curl_easy_setopt(client->curl, CURLOPT_CUSTOMREQUEST, method);
    if (strcmp(method, "GET") != 0 && strcmp(method, "DELETE") != 0) {
        curl_easy_setopt(client->curl, CURLOPT_POSTFIELDS, text ? text : "");
        curl_easy_setopt(client->curl, CURLOPT_POSTFIELDSIZE, (long)(text ? strlen(text) : 0));
    }
    curl_easy_setopt(client->curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(client->curl, CURLOPT_WRITEDATA, t);
    curl_easy_setopt(client->curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(client->curl, CURLOPT_HEADERDATA, t);
    if (client->stop && strcmp(method, "GET") == 0) {
        curl_easy_setopt(client->curl, CURLOPT_XFERINFOFUNCTION, on_progress);
        curl_easy_setopt(client->curl, CURLOPT_XFERINFODATA, client);
        curl_easy_setopt(client->curl, CURLOPT_NOPROGRESS, 0L);
    }
    rc = curl_easy_perform(client->curl);
    curl_slist_free_all(headers);
    if (rc != CURLE_OK)
        return explain_curl(client, rc, err);
    curl_easy_getinfo(client->curl, CURLINFO_RESPONSE_CODE, &t->answer->status);
    return 0;
}

/* Whether the same may be asked again now: false when the caller asked to stop, or has waited long enough. */
static bool wait_for_turn(const struct client *client, const struct transfer *t, unsigned *waited_sec)
{
    unsigned long said = strtoul(t->retry_after, NULL, 10);
    unsigned wait_sec = said < 1 ? 1 : said > TURN_WAIT_SEC ? TURN_WAIT_SEC : (unsigned)said;

    if (client->impatient || *waited_sec + wait_sec > TURN_WAIT_SEC)
        return false;
    *waited_sec += wait_sec;
    for (unsigned i = 0; i < wait_sec; i++) {
        if (client->stop && *client->stop != 0)
            return false;
        (void)nanosleep(&(struct timespec){1, 0}, NULL);
    }
    return true;
}

/* perform, as often as the hub answers that it was asked too much (429: nothing was done) and says when to come again. */
static int perform_in_turn(struct client *client, const char *method, const char *path, const json_t *body,
    const char *if_match, struct transfer *t, struct err *err)
{
    unsigned waited_sec = 0;

    for (;;) {
        int rc = perform(client, method, path, body, if_match, t, err);

        if (rc < 0 || t->answer->status != 429 || !wait_for_turn(client, t, &waited_sec))
            return rc;
        buf_clear(&t->body);
        *t->answer = (struct client_answer){0};
        t->retry_after[0] = 0;
    }
}

void client_set_impatient(struct client *client)
{
    client->impatient = true;
}

void client_set_dry_run(struct client *client, bool dry_run)
{
    client->dry_run = dry_run;
    client->would_succeed = false;
}

bool client_would_succeed(const struct client *client)
{
    return client->would_succeed;
}

/* The hub refuses parameters that an operation does not have. */
static bool lacks_dry_run(const struct client_answer *answer)
{
    const json_t *fault = json_array_get(json_object_get(answer->json, "errors"), 0);
    const char *at = json_string_value(json_object_get(fault, "pointer"));

    return answer->status == 400 && at && strcmp(at, "dry_run") == 0;
}

static int call_dry(struct client *client, const char *method, const char *path, const json_t *body,
    const char *if_match, struct client_answer *ret_answer, struct err *err)
{
    AUTO_FREE char *asked = mem_printf("%s%sdry_run=true", path, strchr(path, '?') ? "&" : "?");

    if (!asked)
        return err_set(err, ERR_NOMEM, "no memory for a request");
    client->dry_run = false;
    if (client_call(client, method, asked, body, if_match, ret_answer, err) == 0) {
        client->would_succeed = true;
        return err_set(err, ERR_CANCELLED, "dry run");
    }
    if (!lacks_dry_run(ret_answer))
        return -1;
    (void)err_set(err, ERR_UNSUPPORTED, "the hub has no dry run of this");
    return err_hint(err, "Nothing was done. Leave --dry-run out to do it.");
}

int client_call(struct client *client, const char *method, const char *path, const json_t *body, const char *if_match,
    struct client_answer *ret_answer, struct err *err)
{
    if (client->dry_run && strcmp(method, "GET") != 0)
        return call_dry(client, method, path, body, if_match, ret_answer, err);
    struct transfer t = {.body = BUF_INIT(BODY_MAX), .answer = ret_answer, .err = err};
    int rc;

    *ret_answer = (struct client_answer){0};
    rc = perform_in_turn(client, method, path, body, if_match, &t, err);
    if (rc == 0 && t.body.len > 0)
        ret_answer->json = json_loadb((const char *)t.body.data, t.body.len, JSON_REJECT_DUPLICATES, NULL);
    buf_done(&t.body);
    if (rc == 0 && ret_answer->status >= 400)
        rc = problem_error(ret_answer, err);
    return rc;
}

int client_get(struct client *client, const char *path, struct client_answer *ret_answer, struct err *err)
{
    return client_call(client, "GET", path, NULL, NULL, ret_answer, err);
}

int client_bytes(struct client *client, const char *path, struct buf *body, struct err *err)
{
    AUTO_ANSWER struct client_answer answer = {0};
    struct transfer t = {.body = BUF_INIT(BODY_MAX), .answer = &answer, .err = err};
    int rc = perform_in_turn(client, "GET", path, NULL, NULL, &t, err);

    if (rc == 0 && answer.status >= 400) {
        answer.json = json_loadb((const char *)t.body.data, t.body.len, JSON_REJECT_DUPLICATES, NULL);
        rc = problem_error(&answer, err);
    }
    if (rc == 0)
        rc = buf_append(body, t.body.data, t.body.len, err);
    buf_done(&t.body);
    return rc;
}

int client_text(struct client *client, const char *path, char **ret_text, struct err *err)
{
    AUTO_BUF struct buf body = BUF_INIT(BODY_MAX);

    if (client_bytes(client, path, &body, err) < 0)
        return -1;
    *ret_text = mem_strndup(body.len ? (const char *)body.data : "", body.len);
    return *ret_text ? 0 : err_set(err, ERR_NOMEM, "no memory for an answer");
}

/* ---- paths ---- */

static int append_escaped(struct buf *b, const char *text)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";

    for (; *text; text++)
        if ((strchr(plain, *text) ? buf_append(b, text, 1, NULL)
                                  : buf_printf(b, NULL, "%%%02X", (unsigned char)*text)) < 0)
            return -1;
    return 0;
}

char *client_path(const char *fmt, ...)
{
    AUTO_BUF struct buf b = BUF_INIT(8192);
    va_list ap;
    int rc = 0;

    va_start(ap, fmt);
    for (; *fmt && rc == 0; fmt++) {
        if (fmt[0] == '%' && fmt[1] == 's') {
            rc = append_escaped(&b, va_arg(ap, const char *));
            fmt++;
        } else {
            rc = buf_append(&b, fmt, 1, NULL);
        }
    }
    va_end(ap);
    return rc == 0 ? mem_strndup((const char *)b.data, b.len) : NULL;
}

/* ---- events ---- */

/* One line of the stream, without its end. */
static int take_line(struct transfer *t, const char *line)
{
    if (!*line) {
        const char *data = t->data.len > 0 ? buf_str(&t->data, NULL) : NULL;
        int rc = data ? t->take(t->arg, t->id, t->word, data) : 0;

        buf_clear(&t->data);
        t->word[0] = 0;
        return rc;
    }
    if (strncmp(line, "id: ", 4) == 0)
        (void)snprintf(t->id, sizeof(t->id), "%s", line + 4);
    else if (strncmp(line, "event: ", 7) == 0)
        (void)snprintf(t->word, sizeof(t->word), "%s", line + 7);
    else if (strncmp(line, "data: ", 6) == 0)
        return buf_append_str(&t->data, line + 6, t->err);
    return 0;
}

static size_t on_events(char *data, size_t size, size_t count, void *cls)
{
    struct transfer *t = cls;
    char *line, *end;

    t->begun = true;
    if (buf_append(&t->body, data, size * count, t->err) < 0 || !buf_str(&t->body, t->err))
        return 0;
    line = (char *)t->body.data;
    while ((end = strchr(line, '\n'))) {
        *end = 0;
        if (take_line(t, line) != 0) {
            t->stopped = true;
            return 0;
        }
        line = end + 1;
    }
    buf_consume(&t->body, (size_t)(line - (char *)t->body.data));
    return size * count;
}

int client_events(struct client *client, const char *path, const char *last_id,
    int (*take)(void *arg, const char *id, const char *word, const char *data), void *arg, bool *ret_connected,
    struct err *err)
{
    AUTO_ANSWER struct client_answer answer = {0};
    struct transfer t = {.body = BUF_INIT(EVENT_MAX),
        .data = BUF_INIT(EVENT_MAX),
        .answer = &answer,
        .err = err,
        .take = take,
        .arg = arg};
    AUTO_FREE char *url = mem_printf("%s%s", client->url, path);
    struct curl_slist *headers = NULL;
    CURLcode rc = CURLE_OUT_OF_MEMORY;

    if (url && make_headers(client, "GET", false, NULL, &headers, err) == 0 &&
        (!last_id || !*last_id || add_line(&headers, err, "Last-Event-ID: %s", last_id) == 0)) {
        set_common(client, url, headers);
        curl_easy_setopt(client->curl, CURLOPT_FAILONERROR, 1L);
        curl_easy_setopt(client->curl, CURLOPT_WRITEFUNCTION, on_events);
        curl_easy_setopt(client->curl, CURLOPT_WRITEDATA, &t);
        rc = curl_easy_perform(client->curl);
    }
    curl_slist_free_all(headers);
    buf_done(&t.body);
    buf_done(&t.data);
    *ret_connected = t.begun;
    if (t.stopped)
        return 0;
    return rc == CURLE_OK ? err_set(err, ERR_UNAVAILABLE, "the hub ended the stream of events")
                          : explain_curl(client, rc, err);
}
