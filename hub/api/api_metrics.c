/* SPDX-License-Identifier: Apache-2.0
 *
 * Atomic counters per route and class of status, and one histogram of durations; no lock. Text: Prometheus exposition
 * format 0.0.4.
 */
#include "hub/api/api_metrics.h"

#include <stdatomic.h>

#include "hub/api/http_route.h"
#include "transport/base/mem.h"

#define ROUTES_MAX 128u
#define CLASSES 5u

/* Upper bounds; an answer from memory takes 0.1 ms, one with SQL 1-5 ms, the goal for p99 is 20 ms. */
static const uint64_t bounds_usec[] = {500, 1000, 2500, 5000, 10000, 20000, 50000, 100000, 500000, 2000000};

struct api_metrics {
    atomic_ulong requests[ROUTES_MAX + 1][CLASSES]; /* the last row: no route */
    atomic_ulong buckets[ARRAY_LEN(bounds_usec) + 1];
    atomic_ulong sum_usec;
    atomic_ulong refused;
    atomic_long connections;
    atomic_long in_flight;
};

struct api_metrics *api_metrics_new(void)
{
    return mem_new(struct api_metrics);
}

void api_metrics_free(struct api_metrics *m)
{
    free(m);
}

void api_metrics_count(struct api_metrics *m, size_t route, int status, uint64_t usec)
{
    size_t class = status >= 100 && status < 600 ? (size_t)(status / 100 - 1) : CLASSES - 1;
    size_t bucket = 0;

    atomic_fetch_add(&m->requests[route < ROUTES_MAX ? route : ROUTES_MAX][class], 1);
    while (bucket < ARRAY_LEN(bounds_usec) && usec > bounds_usec[bucket])
        bucket++;
    atomic_fetch_add(&m->buckets[bucket], 1);
    atomic_fetch_add(&m->sum_usec, usec);
}

void api_metrics_count_refused(struct api_metrics *m)
{
    atomic_fetch_add(&m->refused, 1);
}

void api_metrics_connection(struct api_metrics *m, int change)
{
    atomic_fetch_add(&m->connections, change);
}

void api_metrics_in_flight(struct api_metrics *m, int change)
{
    atomic_fetch_add(&m->in_flight, change);
}

static int write_requests(struct api_metrics *m, struct buf *out, struct err *err)
{
    if (buf_printf(out, err,
            "# HELP leeward_api_requests_total Requests by operation and class of status.\n"
            "# TYPE leeward_api_requests_total counter\n") < 0)
        return -1;
    for (size_t i = 0; i <= ROUTES_MAX; i++)
        for (size_t k = 0; k < CLASSES; k++) {
            unsigned long n = atomic_load(&m->requests[i][k]);
            const char *name = i < http_route_count ? http_routes[i].operation : "none";

            if (n > 0 && buf_printf(out, err, "leeward_api_requests_total{operation=\"%s\",status=\"%zuxx\"} %lu\n",
                             name, k + 1, n) < 0)
                return -1;
        }
    return 0;
}

static int write_durations(struct api_metrics *m, struct buf *out, struct err *err)
{
    unsigned long n = 0;

    if (buf_printf(out, err,
            "# HELP leeward_api_request_duration_seconds Time to the answer, waits for jobs excluded.\n"
            "# TYPE leeward_api_request_duration_seconds histogram\n") < 0)
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(bounds_usec); i++) {
        n += atomic_load(&m->buckets[i]);
        if (buf_printf(out, err, "leeward_api_request_duration_seconds_bucket{le=\"%g\"} %lu\n",
                (double)bounds_usec[i] / 1e6, n) < 0)
            return -1;
    }
    n += atomic_load(&m->buckets[ARRAY_LEN(bounds_usec)]);
    return buf_printf(out, err,
        "leeward_api_request_duration_seconds_bucket{le=\"+Inf\"} %lu\n"
        "leeward_api_request_duration_seconds_sum %.6f\nleeward_api_request_duration_seconds_count %lu\n",
        n, (double)atomic_load(&m->sum_usec) / 1e6, n);
}

int api_metrics_write(struct api_metrics *m, struct buf *out, struct err *err)
{
    if (write_requests(m, out, err) < 0 || write_durations(m, out, err) < 0)
        return -1;
    return buf_printf(out, err,
        "# HELP leeward_api_unauthenticated_total Requests without a valid token.\n"
        "# TYPE leeward_api_unauthenticated_total counter\nleeward_api_unauthenticated_total %lu\n"
        "# HELP leeward_api_connections Connections of clients that are open.\n"
        "# TYPE leeward_api_connections gauge\nleeward_api_connections %ld\n"
        "# HELP leeward_api_requests_in_flight Requests that are worked on or wait, and event streams that are open.\n"
        "# TYPE leeward_api_requests_in_flight gauge\nleeward_api_requests_in_flight %ld\n",
        atomic_load(&m->refused), atomic_load(&m->connections), atomic_load(&m->in_flight));
}
