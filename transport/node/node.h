/* SPDX-License-Identifier: Apache-2.0
 *
 * The process node: takes the change logs of machines from their agents, checks, compresses, encrypts and spools them, and
 * forwards them in order to the vault of each machine. One event loop; what blocks runs on the worker pool.
 */
#ifndef TRANSPORT_NODE_NODE_H
#define TRANSPORT_NODE_NODE_H

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "transport/base/buf.h"
#include "transport/base/err.h"
#include "transport/proto/control.pb-c.h"
#include "transport/rpc/tls.h"

#define NODE_SPOOL_MIN (16u << 20)

struct node;

struct node_conf {
    const char *data_dir;           /* the spool is in DATA/spool */
    const char *listen;             /* as of rpc_server_new */
    uint64_t spool_bytes;           /* of all machines together, >= NODE_SPOOL_MIN */
    unsigned threads;               /* of the worker pool, >= 1 */
    int compress_level_max;         /* a policy's level is not exceeded; 0: never compress here */
    struct tls_context *server_tls; /* both must outlive the node */
    struct tls_context *client_tls;
};

/* Starts to listen. Nothing is served before the first node_apply. */
int node_new(sd_event *loop, const struct node_conf *conf, struct node **ret_node, struct err *err);
/* Ends all streams and waits for the workers; the spool stays. NULL is allowed. */
void node_free(struct node *node);
unsigned node_port(const struct node *node);
/* Converges to the desired state; may be called again with the same. It copies what it needs. */
void node_apply(struct node *node, const Leeward__Control__V1__NodeDesired *desired);
/* Lets agents go behind their present change sets, refuses new ones, and forwards what is spooled. `drained` runs once, from
 * the loop: when the vaults have committed everything (all), or when limit_usec is over; the spool stays then. A second call
 * does nothing. */
int node_drain(
    struct node *node, uint64_t limit_usec, void (*drained)(void *arg, bool all), void *arg, struct err *err);
/* Should agents come here? If not, *ret_reason says why (static text), else it is NULL. The hub's absence is no reason, as
 * long as a desired state is known. */
bool node_is_ready(const struct node *node, const char **ret_reason);
/* Prometheus text: the node's own figures and those of its machines. */
int node_metrics(struct node *node, struct buf *out, struct err *err);
/* Fills an initialised NodeStatus; its texts are good until the next call. */
void node_status(struct node *node, Leeward__Control__V1__NodeStatus *ret_status);

#endif
