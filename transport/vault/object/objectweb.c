/* SPDX-License-Identifier: Apache-2.0
 *
 * The HTTP of the storage services over libcurl: one handle per store, which keeps its connection. Redirections are not
 * followed (a signature is for one host). A try that fails in a way that can pass is followed by a pause of 0.1 s, doubled each
 * time up to 5 s, with jitter, so that many machines do not come back at once.
 */
#include "transport/vault/object/objectweb.h"

#include <curl/curl.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <time.h>

#include "transport/base/clock.h"
#include "transport/vault/object/objectlist.h"

enum {
    STALL_SECONDS = 30,
    TRIES = 5,
    CONNECT_SECONDS = 10,
    PAUSE_FIRST_MSEC = 100,
    PAUSE_MAX_MSEC = 5000,
    PAUSE_STEP_MSEC = 100,     /* how long stopping may take */
    ERROR_BODY_MAX = 64 << 10, /* services send some hundred bytes */
    SKEW_SECONDS = 300,        /* more than this is worth a word; both services refuse 15 minutes */
    URL_MAX = 8192,
};

struct objectweb {
    CURL *curl;
    char *origin; /* "https://host:port" */
    char *host;   /* as the Host header has it */
    char *base;
    bool exposed;
    unsigned tries;
    const atomic_bool *stop;
    web_sign_fn sign;
    void *driver;
    struct buf problem; /* body of an answer that is no success */
};

struct reception {
    struct objectweb *web;
    struct web_exchange *x;
    struct err *err;
    bool refused; /* out cannot take it: err says why */
};

/* ---- life ---- */

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void init_curl(void)
{
    (void)curl_global_init(CURL_GLOBAL_DEFAULT);
}

static int bad_endpoint(const char *endpoint, struct err *err)
{
    err_set(err, ERR_INVALID, "\"%.100s\" is not the endpoint of a storage service", endpoint);
    return err_hint(err, "https://HOST[:PORT][/PATH]");
}

static bool is_loopback(const char *host)
{
    return strncmp(host, "127.", 4) == 0 || strncmp(host, "[::1]", 5) == 0 || strcmp(host, "localhost") == 0 ||
           strncmp(host, "localhost:", 10) == 0;
}

/* The Host header has no port when it is the scheme's own, as curl sends it. */
static void drop_default_port(char *host, bool tls)
{
    const char *port = tls ? ":443" : ":80";
    size_t n = strlen(host), m = strlen(port);

    if (n > m && strcmp(host + n - m, port) == 0)
        host[n - m] = '\0';
}

static int take_endpoint(struct objectweb *web, const char *endpoint, struct err *err)
{
    bool tls = strncmp(endpoint, "https://", 8) == 0;
    const char *host = endpoint + (tls ? 8 : 7);

    if (!tls && strncmp(endpoint, "http://", 7) != 0)
        return bad_endpoint(endpoint, err);
    size_t n = strcspn(host, "/"), base = strlen(host + n);
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-:[]/";
    if (n == 0 || strlen(endpoint) > 512 || strspn(host, allowed) != strlen(host))
        return bad_endpoint(endpoint, err);
    while (base > 0 && host[n + base - 1] == '/')
        base--;
    web->origin = mem_strndup(endpoint, (size_t)(host - endpoint) + n);
    web->host = mem_strndup(host, n);
    web->base = mem_strndup(host + n, base);
    if (web->origin == NULL || web->host == NULL || web->base == NULL)
        return err_set(err, ERR_NOMEM, "out of memory for an endpoint");
    drop_default_port(web->host, tls);
    web->exposed = !tls && !is_loopback(web->host);
    return 0;
}

static bool is_stopped(const struct objectweb *web)
{
    return web->stop != NULL && atomic_load(web->stop);
}

static int on_progress(void *context, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    (void)a, (void)b, (void)c, (void)d;
    return is_stopped(context) ? 1 : 0;
}

static void set_standing_options(struct objectweb *web, const struct object_conf *conf)
{
    CURL *c = web->curl;

    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(c, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_SECONDS);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, (long)(conf->stall_seconds ? conf->stall_seconds : STALL_SECONDS));
    curl_easy_setopt(c, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(c, CURLOPT_USERAGENT, "leeward/" LEEWARD_VERSION);
    curl_easy_setopt(c, CURLOPT_MAX_SEND_SPEED_LARGE, (curl_off_t)conf->bytes_per_second);
    curl_easy_setopt(c, CURLOPT_MAX_RECV_SPEED_LARGE, (curl_off_t)conf->bytes_per_second);
    if (web->stop == NULL)
        return;
    curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(c, CURLOPT_XFERINFODATA, web);
    curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
}

int objectweb_open(const char *endpoint, const struct object_conf *conf, web_sign_fn sign, void *driver,
    struct objectweb **ret_web, struct err *err)
{
    pthread_once(&once, init_curl);
    struct objectweb *web = mem_new(struct objectweb);
    if (web == NULL)
        return err_set(err, ERR_NOMEM, "out of memory for a storage service");
    web->problem = BUF_INIT(ERROR_BODY_MAX);
    web->tries = conf->tries ? conf->tries : TRIES;
    web->stop = conf->stop;
    web->sign = sign;
    web->driver = driver;
    web->curl = curl_easy_init();
    if (web->curl == NULL)
        err_set(err, ERR_NOMEM, "out of memory for a storage service");
    if (web->curl == NULL || take_endpoint(web, endpoint, err) < 0) {
        objectweb_close(web);
        return -1;
    }
    set_standing_options(web, conf);
    *ret_web = web;
    return 0;
}

void objectweb_close(struct objectweb *web)
{
    if (web == NULL)
        return;
    if (web->curl != NULL)
        curl_easy_cleanup(web->curl);
    buf_done(&web->problem);
    free(web->origin);
    free(web->host);
    free(web->base);
    free(web);
}

const char *objectweb_base(const struct objectweb *web)
{
    return web->base;
}

bool objectweb_is_exposed(const struct objectweb *web)
{
    return web->exposed;
}

static void add_pair(struct sign_pair *pairs, size_t *count, const char *name, const char *value)
{
    if (*count < OBJECTSIGN_PAIRS_MAX)
        pairs[(*count)++] = (struct sign_pair){name, value};
}

void objectweb_header(struct web_exchange *x, const char *name, const char *value)
{
    add_pair(x->ask.headers, &x->ask.headers_count, name, value);
}

void objectweb_query(struct web_exchange *x, const char *name, const char *value)
{
    add_pair(x->ask.query, &x->ask.query_count, name, value);
}

/* ---- one try ---- */

static size_t receive(char *data, size_t size, size_t count, void *context)
{
    struct reception *in = context;
    size_t n = size * count;
    long status = 0;

    curl_easy_getinfo(in->web->curl, CURLINFO_RESPONSE_CODE, &status);
    if (status < 200 || status > 299) { /* a page too long for a problem is no reason to lose its status */
        (void)buf_append(&in->web->problem, data, n, NULL);
        return n;
    }
    if (in->x->out == NULL)
        return n;
    in->refused = buf_append(in->x->out, data, n, in->err) < 0;
    return in->refused ? 0 : n;
}

static struct curl_slist *add_line(struct curl_slist *list, const char *name, const char *value, bool *ok)
{
    AUTO_FREE char *line = *value ? mem_printf("%s: %s", name, value) : mem_printf("%s:", name);
    struct curl_slist *longer = line ? curl_slist_append(list, line) : NULL;

    *ok = *ok && longer != NULL;
    return longer ? longer : list;
}

static struct curl_slist *header_lines(const struct sign_request *ask, struct err *err)
{
    struct curl_slist *list = NULL;
    bool ok = true;

    for (size_t i = 0; i < ask->headers_count; i++) {
        if (strcmp(ask->headers[i].name, "content-length") != 0) /* curl's own */
            list = add_line(list, ask->headers[i].name, ask->headers[i].value, &ok);
    }
    list = add_line(list, "Expect", "", &ok); /* no waiting for 100 */
    list = add_line(list, "Accept", "", &ok);
    if (ok)
        return list;
    curl_slist_free_all(list);
    err_set(err, ERR_NOMEM, "out of memory for a request");
    return NULL;
}

static int url_of(const struct objectweb *web, const struct sign_request *ask, struct buf *url, struct err *err)
{
    if (buf_printf(url, err, "%s%s%s", web->origin, ask->path, ask->query_count > 0 ? "?" : "") < 0 ||
        objectsign_query(url, ask, err) < 0)
        return -1;
    return buf_str(url, err) ? 0 : -1;
}

static void set_method(CURL *c, const struct web_exchange *x)
{
    curl_easy_setopt(c, CURLOPT_NOBODY, 0L);
    curl_easy_setopt(c, CURLOPT_HTTPGET, 1L);
    if (x->body != NULL) {
        curl_easy_setopt(c, CURLOPT_POST, 1L);
        curl_easy_setopt(c, CURLOPT_POSTFIELDS, x->body);
        curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)x->body_bytes);
    } else if (strcmp(x->ask.method, "HEAD") == 0) {
        curl_easy_setopt(c, CURLOPT_NOBODY, 1L);
    }
    curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, x->ask.method);
}

static void read_answer(struct objectweb *web, struct web_exchange *x, char *message, size_t message_size)
{
    struct curl_header *header = NULL;
    curl_off_t length = -1;

    curl_easy_getinfo(web->curl, CURLINFO_RESPONSE_CODE, &x->status);
    curl_easy_getinfo(web->curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    x->content_bytes = length < 0 ? UINT64_MAX : (uint64_t)length;
    x->etag[0] = '\0';
    if (curl_easy_header(web->curl, "etag", 0, CURLH_HEADER, -1, &header) == CURLHE_OK &&
        strlen(header->value) < sizeof(x->etag))
        memcpy(x->etag, header->value, strlen(header->value) + 1);
    objectlist_error(web->problem.data, web->problem.len, x->code, sizeof(x->code), message, message_size);
    if (x->code[0] == '\0' && curl_easy_header(web->curl, "x-ms-error-code", 0, CURLH_HEADER, -1, &header) == CURLHE_OK)
        snprintf(x->code, sizeof(x->code), "%s", header->value);
}

/* How far the service's clock is from ours, in seconds; 0 when it does not tell. */
static long clock_skew(struct objectweb *web)
{
    struct curl_header *header = NULL;

    if (curl_easy_header(web->curl, "date", 0, CURLH_HEADER, -1, &header) != CURLHE_OK)
        return 0;
    time_t theirs = curl_getdate(header->value, NULL);
    return theirs < 0 ? 0 : (long)(theirs - (time_t)(clock_utc_usec() / USEC_PER_SEC));
}

/* ---- what an answer means ---- */

static int curl_failed(const struct objectweb *web, CURLcode code, struct err *err)
{
    if (code == CURLE_ABORTED_BY_CALLBACK)
        return err_set(err, ERR_CANCELLED, "the transfer to %s was stopped", web->origin);
    if (code == CURLE_OPERATION_TIMEDOUT)
        return err_set(err, ERR_TIMEOUT, "%s does not answer in time", web->origin);
    if (code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE) {
        err_set(err, ERR_DENIED, "%s: its certificate is not to be trusted: %s", web->origin, curl_easy_strerror(code));
        return err_hint(err, "check the host name of the endpoint, and that its CA is one of this machine's");
    }
    err_set(err, code == CURLE_OUT_OF_MEMORY ? ERR_NOMEM : ERR_UNAVAILABLE, "%s: %s", web->origin,
        curl_easy_strerror(code));
    return err_hint(err, "check the endpoint, and that this machine can reach it");
}

/* Azurite says AuthorizationFailure where Azure says AuthenticationFailed, with Azure's text. */
static bool key_is_wrong(const struct web_exchange *x, const char *message)
{
    static const char *const codes[] = {"AuthenticationFailed", "SignatureDoesNotMatch", "InvalidAccessKeyId"};

    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        if (strcmp(x->code, codes[i]) == 0)
            return true;
    }
    return x->status == 401 || strstr(message, "failed to authenticate") != NULL;
}

static int denied(struct objectweb *web, const struct web_exchange *x, const char *message, struct err *err)
{
    long skew = clock_skew(web);
    bool key = key_is_wrong(x, message);

    err_set(err, key ? ERR_UNAUTHENTICATED : ERR_DENIED, "%s refused the request: %s%s%.120s", web->origin,
        x->code[0] ? x->code : "no reason given", message[0] ? ": " : "", message);
    if (strcmp(x->code, "RequestTimeTooSkewed") == 0 || labs(skew) > SKEW_SECONDS)
        return err_hint(err, "this machine's clock is %ld s %s the service's: set it right (NTP)", labs(skew),
            skew > 0 ? "behind" : "ahead of");
    if (key)
        return err_hint(err, "check the account or key id, and the key or shared access signature, which may have been "
                             "renewed or expired");
    return err_hint(err, "give this key the right to read, write, list and delete in the container");
}

static bool place_is_missing(const char *code)
{
    return strcmp(code, "ContainerNotFound") == 0 || strcmp(code, "NoSuchBucket") == 0;
}

static bool condition_failed(const struct web_exchange *x)
{
    bool conditional = false;

    for (size_t i = 0; i < x->ask.headers_count; i++)
        conditional = conditional || strcmp(x->ask.headers[i].name, "if-none-match") == 0;
    return conditional && (x->status == 412 || (x->status == 409 && strcmp(x->code, "BlobAlreadyExists") == 0));
}

static int answer_to_result(struct objectweb *web, const struct web_exchange *x, const char *message, struct err *err)
{
    if (x->status >= 200 && x->status <= 299) {
        if (x->partial && x->status != 206 && x->out != NULL)
            return err_set(err, ERR_UNSUPPORTED, "%s does not give parts of objects", web->origin);
        return 1;
    }
    if (place_is_missing(x->code)) {
        err_set(err, ERR_NOT_FOUND, "%s has no such container or bucket (%s)", web->origin, x->code);
        return err_hint(err, "make it first, or correct its name in the URL");
    }
    if (x->status == 404 || condition_failed(x) || (x->status == 416 && x->partial))
        return 0;
    if (x->status == 401 || x->status == 403)
        return denied(web, x, message, err);
    if (x->status == 501)
        return err_set(err, ERR_UNSUPPORTED, "%s does not know such a request: %s", web->origin, x->code);
    if (x->status == 408 || x->status == 429 || x->status >= 500 || strcmp(x->code, "ConditionalRequestConflict") == 0)
        return err_set(err, ERR_UNAVAILABLE, "%s cannot do it now: %ld %s", web->origin, x->status, x->code);
    return err_set(err, ERR_REFUSED, "%s answered %ld %s%s%.120s", web->origin, x->status, x->code,
        message[0] ? ": " : "", message);
}

static int perform(
    struct objectweb *web, struct web_exchange *x, const struct buf *url, struct curl_slist *lines, struct err *err)
{
    struct reception in = {.web = web, .x = x, .err = err};
    char message[160] = "";

    buf_clear(&web->problem);
    set_method(web->curl, x);
    curl_easy_setopt(web->curl, CURLOPT_URL, (const char *)url->data);
    curl_easy_setopt(web->curl, CURLOPT_HTTPHEADER, lines);
    curl_easy_setopt(web->curl, CURLOPT_WRITEFUNCTION, receive);
    curl_easy_setopt(web->curl, CURLOPT_WRITEDATA, &in);
    CURLcode code = curl_easy_perform(web->curl);
    curl_easy_setopt(web->curl, CURLOPT_HTTPHEADER, NULL);
    if (in.refused)
        return -1;
    if (code != CURLE_OK)
        return curl_failed(web, code, err);
    read_answer(web, x, message, sizeof(message));
    return answer_to_result(web, x, message, err);
}

static int try_once(struct objectweb *web, struct web_exchange *x, struct err *err)
{
    AUTO_BUF struct buf url = BUF_INIT(URL_MAX);

    objectweb_header(x, "host", web->host);
    if (web->sign(web->driver, x, clock_utc_usec(), err) < 0 || url_of(web, &x->ask, &url, err) < 0)
        return -1;
    struct curl_slist *lines = header_lines(&x->ask, err);
    if (lines == NULL)
        return -1;
    int rc = perform(web, x, &url, lines, err);
    curl_slist_free_all(lines);
    return rc;
}

static unsigned pause_msec(unsigned attempt)
{
    unsigned jitter = 0;
    unsigned msec = attempt > 6 ? PAUSE_MAX_MSEC : (unsigned)PAUSE_FIRST_MSEC << (attempt - 1);

    if (msec > PAUSE_MAX_MSEC)
        msec = PAUSE_MAX_MSEC;
    (void)!getrandom(&jitter, sizeof(jitter), 0);
    return msec / 2 + jitter % (msec / 2 + 1);
}

/* In short steps, so that stopping is not held up. */
static void pause_before(const struct objectweb *web, unsigned attempt)
{
    for (unsigned left = pause_msec(attempt); left > 0 && !is_stopped(web);) {
        unsigned step = left < PAUSE_STEP_MSEC ? left : PAUSE_STEP_MSEC;
        struct timespec time = {.tv_nsec = (long)step * 1000000};
        while (nanosleep(&time, &time) < 0 && errno == EINTR)
            ;
        left -= step;
    }
}

int objectweb_run(struct objectweb *web, struct web_exchange *x, struct err *err)
{
    size_t headers = x->ask.headers_count, query = x->ask.query_count, length = x->out ? x->out->len : 0;
    struct err own = ERR_INIT;
    int rc = -1;

    for (unsigned attempt = 0; attempt < web->tries; attempt++) {
        if (attempt > 0)
            pause_before(web, attempt);
        x->ask.headers_count = headers;
        x->ask.query_count = query;
        if (x->out != NULL)
            x->out->len = length;
        err_clear(&own);
        if (is_stopped(web)) {
            rc = err_set(&own, ERR_CANCELLED, "the transfer to %s was stopped", web->origin);
            break;
        }
        rc = try_once(web, x, &own);
        if (rc >= 0 || (own.code != ERR_UNAVAILABLE && own.code != ERR_TIMEOUT))
            break;
    }
    if (rc < 0 && err != NULL)
        err_copy(err, &own);
    return rc;
}
