/* SPDX-License-Identifier: Apache-2.0
 *
 * What an orchestrator and a monitoring system ask a node, over plain HTTP, since their probes know no client certificates:
 *   GET /healthz   200 as long as the loop turns
 *   GET /readyz    200, or 503 while agents should be sent elsewhere; with ?verbose (and in each 503) it says why
 *   GET /metrics   Prometheus exposition format 0.0.4
 * Nothing of a machine's data is to be had here, but names of machines are: the address is one that only they reach.
 * libmicrohttpd on the caller's loop, without a thread. Loop thread only.
 */
#ifndef TRANSPORT_NODE_PROBE_H
#define TRANSPORT_NODE_PROBE_H

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "transport/base/buf.h"
#include "transport/base/err.h"

#define PROBE_REASON_SIZE 200u

struct probe;

struct probe_ops {
    /* Fills the reason when it is not ready. */
    bool (*is_ready)(void *arg, char reason[PROBE_REASON_SIZE]);
    int (*write_metrics)(void *arg, struct buf *out, struct err *err);
};

/* listen: ADDRESS:PORT (port 0: any that is free). ops must outlive it. */
int probe_new(sd_event *loop, const char *listen, const struct probe_ops *ops, void *arg, struct probe **ret_probe,
    struct err *err);
unsigned probe_port(const struct probe *probe);
void probe_free(struct probe *probe); /* NULL is allowed */

#endif
