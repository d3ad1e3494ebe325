/* SPDX-License-Identifier: Apache-2.0
 *
 * Asks an HTTPS API at a fixed rate, whatever it answers: an open loop. Each request has the moment at which it is due, and its latency counts
 * from there, so a server that stalls is charged for all who would have come meanwhile (a closed loop, one request after the
 * other, would just ask less often). Connections are kept and shared by what is under way.
 *
 *     hub_load URL CA RATE WARM SECONDS PATH...      the token in LEEWARD_TOKEN; paths are taken in turn
 *
 * For WARM seconds before that it asks at the same rate, so that connections are made and statements are planned, as they are at a hub that
 * runs; the slowest of these requests is told apart. Every answer counts by its status.
 *
 * It takes little of the processors that it shares with the hub: it sleeps until the microsecond at which a request is due, and is woken
 * by the sockets that have something alone (epoll).
 *
 * Prints one JSON object: counts by status, percentiles in milliseconds. Exit status 1 when it could not measure.
 */
#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "transport/base/clock.h"
#include "transport/base/mem.h"

#define UNDER_WAY_MAX 256u /* the hub takes 512 connections from one address */
#define STATUS_MAX 600
#define SLOWEST 5u
#define READY_MAX 64
#define NEVER UINT64_MAX

struct request {
    CURL *easy;
    uint64_t due_usec;
    size_t path; /* which */
    bool busy;
    char error[CURL_ERROR_SIZE];
};

struct sample {
    double ms, due_s; /* since the start */
    size_t path;
};

struct load {
    CURLM *multi;
    int epoll;
    uint64_t curl_due_usec; /* when libcurl wants to look at its own clocks; NEVER: it does not */
    struct curl_slist *headers;
    const char *url, *ca;
    char **paths;
    size_t path_count;
    struct request requests[UNDER_WAY_MAX];
    struct sample *samples;
    uint64_t start_usec;
    double warm_s, warm_slowest_ms;
    size_t total, begun, done, sample_count;
    size_t by_status[STATUS_MAX], failed;
    uint64_t bytes;
    char why[CURL_ERROR_SIZE]; /* of the first that failed */
};

static size_t swallow(char *data, size_t size, size_t count, void *arg)
{
    (void)data;
    ((struct load *)arg)->bytes += size * count;
    return size * count;
}

static struct request *idle(struct load *l)
{
    for (size_t i = 0; i < UNDER_WAY_MAX; i++)
        if (!l->requests[i].busy)
            return &l->requests[i];
    return NULL;
}

/* 0; 1: too many are under way: later, and it counts as waiting. */
static int begin(struct load *l, uint64_t due)
{
    struct request *r = idle(l);
    char url[1024];

    if (!r)
        return 1;
    if (!r->easy) {
        r->easy = curl_easy_init();
        if (!r->easy)
            return 1;
        curl_easy_setopt(r->easy, CURLOPT_CAINFO, l->ca);
        curl_easy_setopt(r->easy, CURLOPT_HTTPHEADER, l->headers);
        curl_easy_setopt(r->easy, CURLOPT_WRITEFUNCTION, swallow);
        curl_easy_setopt(r->easy, CURLOPT_WRITEDATA, l);
        curl_easy_setopt(r->easy, CURLOPT_PRIVATE, r);
        curl_easy_setopt(r->easy, CURLOPT_ERRORBUFFER, r->error);
        curl_easy_setopt(r->easy, CURLOPT_TIMEOUT_MS, 60000L);
        curl_easy_setopt(r->easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    }
    r->path = l->begun % l->path_count;
    (void)snprintf(url, sizeof(url), "%s%s", l->url, l->paths[r->path]);
    curl_easy_setopt(r->easy, CURLOPT_URL, url);
    r->due_usec = due;
    r->busy = true;
    l->begun++;
    return curl_multi_add_handle(l->multi, r->easy) == CURLM_OK ? 0 : 1;
}

static void note_sample(struct load *l, const struct request *r)
{
    struct sample s = {.ms = (double)(clock_mono_usec() - r->due_usec) / 1000.0,
        .due_s = (double)(r->due_usec - l->start_usec) / 1e6,
        .path = r->path};

    l->done++;
    if (s.due_s >= l->warm_s)
        l->samples[l->sample_count++] = s;
    else if (s.ms > l->warm_slowest_ms)
        l->warm_slowest_ms = s.ms;
}

static void finish(struct load *l, CURL *easy, CURLcode result)
{
    struct request *r = NULL;
    long status = 0;

    curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **)&r);
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    curl_multi_remove_handle(l->multi, easy);
    note_sample(l, r);
    if (result == CURLE_OK && status > 0 && status < STATUS_MAX)
        l->by_status[status]++;
    else if (l->failed++ == 0)
        (void)snprintf(l->why, sizeof(l->why), "%s", r->error[0] ? r->error : curl_easy_strerror(result));
    r->busy = false;
}

static void collect(struct load *l)
{
    CURLMsg *message;
    int left;

    while ((message = curl_multi_info_read(l->multi, &left)))
        if (message->msg == CURLMSG_DONE)
            finish(l, message->easy_handle, message->data.result);
}

/* ---- waiting ---- */

static int watch_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *known)
{
    struct load *l = arg;
    struct epoll_event event = {
        .events = (what & CURL_POLL_IN ? EPOLLIN : 0u) | (what & CURL_POLL_OUT ? EPOLLOUT : 0u), .data.fd = fd};

    (void)easy;
    if (what == CURL_POLL_REMOVE)
        (void)epoll_ctl(l->epoll, EPOLL_CTL_DEL, fd, NULL);
    else
        (void)epoll_ctl(l->epoll, known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event);
    (void)curl_multi_assign(l->multi, fd, what == CURL_POLL_REMOVE ? NULL : l);
    return 0;
}

static int watch_clock(CURLM *multi, long timeout_ms, void *arg)
{
    (void)multi;
    ((struct load *)arg)->curl_due_usec = timeout_ms < 0 ? NEVER : clock_mono_usec() + (uint64_t)timeout_ms * 1000;
    return 0;
}

/* Until a socket has something, or until then. */
static int serve_sockets(struct load *l, uint64_t until_usec)
{
    struct epoll_event ready[READY_MAX];
    uint64_t now = clock_mono_usec(), rest = until_usec > now ? until_usec - now : 0;
    const struct timespec wait = {.tv_sec = (time_t)(rest / 1000000), .tv_nsec = (long)(rest % 1000000) * 1000};
    int running, n = epoll_pwait2(l->epoll, ready, READY_MAX, until_usec == NEVER ? NULL : &wait, NULL);

    if (n < 0 && errno != EINTR)
        return -1;
    for (int i = 0; i < n; i++)
        (void)curl_multi_socket_action(l->multi, ready[i].data.fd,
            (ready[i].events & (EPOLLIN | EPOLLHUP) ? CURL_CSELECT_IN : 0) |
                (ready[i].events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
                (ready[i].events & EPOLLERR ? CURL_CSELECT_ERR : 0),
            &running);
    if (l->curl_due_usec <= clock_mono_usec()) {
        l->curl_due_usec = NEVER;
        (void)curl_multi_socket_action(l->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    }
    return 0;
}

static int drive(struct load *l, double rate)
{
    uint64_t start = clock_mono_usec();

    l->start_usec = start;
    while (l->done < l->total) {
        uint64_t now = clock_mono_usec(), due = start + (uint64_t)((double)l->begun * 1e6 / rate);

        while (l->begun < l->total && due <= now && begin(l, due) == 0)
            due = start + (uint64_t)((double)l->begun * 1e6 / rate);
        if (l->begun == l->total || due <= now) /* all are begun, or as many are under way as may be */
            due = NEVER;
        if (serve_sockets(l, due < l->curl_due_usec ? due : l->curl_due_usec) < 0)
            return -1;
        collect(l);
    }
    return 0;
}

static int compare(const void *a, const void *b)
{
    double x = ((const struct sample *)a)->ms, y = ((const struct sample *)b)->ms;

    return x < y ? -1 : x > y;
}

static double percentile(const struct load *l, double share)
{
    size_t at = (size_t)(share * (double)(l->sample_count - 1) + 0.5);

    return l->samples[at].ms;
}

/* Where and when it took longest: a path that is slow, or a moment at which all were. */
static void print_slowest(const struct load *l)
{
    (void)printf(", \"slowest\": [");
    for (size_t i = 0; i < SLOWEST && i < l->sample_count; i++) {
        const struct sample *s = &l->samples[l->sample_count - 1 - i];

        (void)printf(
            "%s{\"ms\": %.1f, \"due_s\": %.2f, \"path\": \"%s\"}", i ? ", " : "", s->ms, s->due_s, l->paths[s->path]);
    }
    (void)printf("]}\n");
}

static void print(struct load *l)
{
    bool first = true;

    qsort(l->samples, l->sample_count, sizeof(*l->samples), compare);
    (void)printf("{\"requests\": %zu, \"failed\": %zu, \"warm_slowest_ms\": %.3f, \"by_status\": {", l->sample_count,
        l->failed, l->warm_slowest_ms);
    for (int s = 0; s < STATUS_MAX; s++)
        if (l->by_status[s]) {
            (void)printf("%s\"%d\": %zu", first ? "" : ", ", s, l->by_status[s]);
            first = false;
        }
    (void)printf("}, \"bytes\": %llu, \"p50_ms\": %.3f, \"p90_ms\": %.3f, \"p99_ms\": %.3f, \"max_ms\": %.3f",
        (unsigned long long)l->bytes, percentile(l, 0.5), percentile(l, 0.9), percentile(l, 0.99), percentile(l, 1.0));
    print_slowest(l);
    if (l->failed)
        (void)fprintf(stderr, "hub_load: %s\n", l->why);
}

int main(int argc, char **argv)
{
    static struct load l;
    const char *token = getenv("LEEWARD_TOKEN");
    AUTO_FREE char *authorization = mem_printf("Authorization: Bearer %s", token ? token : "");
    double rate = argc > 3 ? atof(argv[3]) : 0, warm = argc > 4 ? atof(argv[4]) : -1,
           seconds = argc > 5 ? atof(argv[5]) : 0;

    if (argc < 7 || rate <= 0 || warm < 0 || seconds <= 0 || !authorization) {
        (void)fprintf(stderr, "usage: hub_load URL CA RATE WARM SECONDS PATH...\n");
        return 2;
    }
    l.url = argv[1];
    l.ca = argv[2];
    l.paths = argv + 6;
    l.path_count = (size_t)argc - 6;
    l.warm_s = warm;
    l.total = (size_t)(rate * (warm + seconds));
    l.samples = mem_alloc(l.total, sizeof(*l.samples));
    if (!l.samples || l.total == 0 || curl_global_init(CURL_GLOBAL_DEFAULT) != 0 || !(l.multi = curl_multi_init()) ||
        (l.epoll = epoll_create1(EPOLL_CLOEXEC)) < 0)
        return 1;
    curl_multi_setopt(l.multi, CURLMOPT_SOCKETFUNCTION, watch_socket);
    curl_multi_setopt(l.multi, CURLMOPT_SOCKETDATA, &l);
    curl_multi_setopt(l.multi, CURLMOPT_TIMERFUNCTION, watch_clock);
    curl_multi_setopt(l.multi, CURLMOPT_TIMERDATA, &l);
    curl_multi_setopt(l.multi, CURLMOPT_MAXCONNECTS, (long)UNDER_WAY_MAX);
    l.curl_due_usec = NEVER;
    l.headers = curl_slist_append(NULL, authorization);
    if (drive(&l, rate) < 0)
        return 1;
    print(&l);
    for (size_t i = 0; i < UNDER_WAY_MAX; i++)
        curl_easy_cleanup(l.requests[i].easy);
    curl_multi_cleanup(l.multi);
    curl_slist_free_all(l.headers);
    free(l.samples);
    return 0;
}
