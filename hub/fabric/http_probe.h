/* SPDX-License-Identifier: Apache-2.0
 *
 * One HTTP request by libcurl: a webhook (POST of JSON) or a health check (GET). TLS is verified with the system's certificates; redirects are not
 * followed. Blocks.
 */
#ifndef HUB_FABRIC_HTTP_PROBE_H
#define HUB_FABRIC_HTTP_PROBE_H

#include <stdatomic.h>
#include <stdbool.h>

#include "transport/base/err.h"

struct http_probe {
    const char *url;
    const char *body;     /* NULL: GET */
    const char *delivery; /* X-Leeward-Delivery; may be NULL */
    long timeout_sec;
    const atomic_bool *cancelled;
    char answer[160]; /* the beginning of what came, printable */
};
/* ERR_UNAVAILABLE: no answer at all; ERR_CANCELLED. */
int http_probe(struct http_probe *probe, long *ret_status, struct err *err);
/* http or https with a host, nothing else. ERR_INVALID. */
int http_url_check(const char *url, struct err *err);
/* Whether what is sent there can be read on its way: neither https nor this host. A name counts as this host only as "localhost". */
bool http_url_is_in_the_clear(const char *url);

#endif
