/* SPDX-License-Identifier: Apache-2.0
 *
 * A handle per request. The process has called curl_global_init before there were threads.
 */
#include "hub/fabric/http_probe.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "transport/base/mem.h"

#define CONNECT_TIMEOUT_SEC 10L
#define URL_MAX 2048u

static inline void curl_done(CURL **curl)
{
    curl_easy_cleanup(*curl);
}
static inline void slist_done(struct curl_slist **list)
{
    curl_slist_free_all(*list);
}
static inline void url_done(CURLU **url)
{
    curl_url_cleanup(*url);
}

int http_url_check(const char *url, struct err *err)
{
    __attribute__((cleanup(url_done))) CURLU *parsed = curl_url();
    char *scheme = NULL;
    bool good;

    if (!parsed)
        return err_set(err, ERR_NOMEM, "no memory for a URL");
    good = url[0] && strlen(url) <= URL_MAX && curl_url_set(parsed, CURLUPART_URL, url, 0) == CURLUE_OK &&
           curl_url_get(parsed, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
           (strcmp(scheme, "http") == 0 || strcmp(scheme, "https") == 0);
    curl_free(scheme);
    if (good)
        return 0;
    err_set(err, ERR_INVALID, "not a URL that begins with http:// or https://");
    return err_hint(err, "For example https://hooks.example.org/plan");
}

static bool is_this_host(const char *host)
{
    struct in_addr v4;
    struct in6_addr v6;
    char bare[64];
    size_t n = strlen(host);

    if (strcasecmp(host, "localhost") == 0)
        return true;
    if (n >= 2 && n < sizeof(bare) && host[0] == '[') {
        memcpy(bare, host + 1, n - 2);
        bare[n - 2] = '\0';
        return inet_pton(AF_INET6, bare, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
    }
    return inet_pton(AF_INET, host, &v4) == 1 && ntohl(v4.s_addr) >> 24 == IN_LOOPBACKNET;
}

bool http_url_is_in_the_clear(const char *url)
{
    __attribute__((cleanup(url_done))) CURLU *parsed = curl_url();
    char *scheme = NULL, *host = NULL;
    bool is_private;

    is_private = parsed && curl_url_set(parsed, CURLUPART_URL, url, 0) == CURLUE_OK &&
                 curl_url_get(parsed, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
                 curl_url_get(parsed, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
                 (strcmp(scheme, "https") == 0 || is_this_host(host));
    curl_free(scheme);
    curl_free(host);
    return !is_private;
}

static size_t keep_answer(char *data, size_t size, size_t count, void *arg)
{
    struct http_probe *p = arg;
    size_t used = strlen(p->answer);

    for (size_t i = 0; i < size * count && used + 1 < sizeof(p->answer); i++)
        p->answer[used++] = data[i] >= ' ' && data[i] < 127 ? data[i] : ' ';
    p->answer[used] = '\0';
    return size * count;
}

static int on_progress(void *arg, curl_off_t dt, curl_off_t dn, curl_off_t ut, curl_off_t un)
{
    (void)dt, (void)dn, (void)ut, (void)un;
    return atomic_load((const atomic_bool *)arg);
}

static int add_header(struct curl_slist **list, const char *line)
{
    struct curl_slist *longer = line ? curl_slist_append(*list, line) : NULL;

    if (!longer)
        return -1;
    *list = longer;
    return 0;
}

/* A header's value must have no line end in it. */
static int make_headers(const struct http_probe *p, struct curl_slist **list)
{
    AUTO_FREE char *delivery = mem_printf("X-Leeward-Delivery: %s", p->delivery ? p->delivery : "");

    for (char *c = delivery; c && *c; c++)
        if (*c < ' ' || *c > '~')
            *c = '_';
    if (!p->body)
        return 0;
    return add_header(list, "Content-Type: application/json") < 0 || add_header(list, "Expect:") < 0 ||
                   add_header(list, "X-Leeward-Event: plan") < 0 || add_header(list, delivery) < 0
               ? -1
               : 0;
}

int http_probe(struct http_probe *p, long *ret_status, struct err *err)
{
    __attribute__((cleanup(curl_done))) CURL *curl = curl_easy_init();
    __attribute__((cleanup(slist_done))) struct curl_slist *headers = NULL;
    char why[CURL_ERROR_SIZE] = "";
    CURLcode code;

    p->answer[0] = '\0';
    if (!curl || make_headers(p, &headers) < 0)
        return err_set(err, ERR_NOMEM, "no memory for a request");
    (void)curl_easy_setopt(curl, CURLOPT_URL, p->url);
    (void)curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    (void)curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, why);
    (void)curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, CONNECT_TIMEOUT_SEC);
    (void)curl_easy_setopt(curl, CURLOPT_TIMEOUT, p->timeout_sec);
    (void)curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, keep_answer);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEDATA, p);
    (void)curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    (void)curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    (void)curl_easy_setopt(curl, CURLOPT_XFERINFODATA, p->cancelled);
    if (headers)
        (void)curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    if (p->body) {
        (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, (long)strlen(p->body));
        (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDS, p->body);
    }
    code = curl_easy_perform(curl);
    if (code == CURLE_ABORTED_BY_CALLBACK)
        return err_set(err, ERR_CANCELLED, "the request was stopped");
    if (code != CURLE_OK)
        return err_set(err, ERR_UNAVAILABLE, "%.160s", why[0] ? why : curl_easy_strerror(code));
    (void)curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, ret_status);
    return 0;
}
