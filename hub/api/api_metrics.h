/* SPDX-License-Identifier: Apache-2.0
 *
 * What the API counts about itself, and the text of /metrics. Names: prefix leeward_, base units, _total on counters.
 */
#ifndef HUB_API_API_METRICS_H
#define HUB_API_API_METRICS_H

#include <stdint.h>

#include "transport/base/buf.h"
#include "transport/base/err.h"

struct api_metrics;

struct api_metrics *api_metrics_new(void); /* NULL: no memory */
void api_metrics_free(struct api_metrics *m);
/* route: index in http_routes; out of range for what had no route. Any thread. */
void api_metrics_count(struct api_metrics *m, size_t route, int status, uint64_t usec);
void api_metrics_count_refused(struct api_metrics *m);          /* a request without a valid token */
void api_metrics_connection(struct api_metrics *m, int change); /* +1 opened, -1 closed */
void api_metrics_in_flight(struct api_metrics *m, int change);  /* +1 a handler took a request, -1 its answer is out */
/* Appends the API's own families in the Prometheus text format. */
int api_metrics_write(struct api_metrics *m, struct buf *out, struct err *err);

#endif
