/* SPDX-License-Identifier: Apache-2.0
 *
 * The replication stream to the process node, on the event loop: connects, opens, sends what is on the link, passes on what
 * comes back. A stream that ends is opened again with back-off and jitter, for ever. All calls on the loop thread.
 */
#ifndef MOBILITY_SYNC_OUTBOX_H
#define MOBILITY_SYNC_OUTBOX_H

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "mobility/sync/uplink.h"
#include "transport/base/err.h"
#include "transport/base/ident.h"
#include "transport/rpc/rpc.h"
#include "transport/rpc/tls.h"

struct outbox;

/* Beyond it the new node gets again what the old one has not brought to the vault. */
#define OUTBOX_MOVE_USEC (10ULL * 1000000)

struct outbox_conf {
    sd_event *loop;
    struct tls_context *tls; /* outlives the outbox; NULL only for a plain unix socket (tests) */
    struct ident machine;
    const char *software;
};

int outbox_new(const struct outbox_conf *conf, struct uplink *link, struct outbox **ret_outbox, struct err *err);
void outbox_free(struct outbox *o); /* NULL allowed; not from inside a callback of its calls */
/* Which node; "" = none. node NULL: any id. From one node to another the stream is handed over: the engine comes to the end of its
 * change set, the vault's commit of it is awaited (at most OUTBOX_MOVE_USEC), then the stream ends and the next sequence opens at the
 * other node. Any other change ends the present stream at once. */
int outbox_set_target(struct outbox *o, const char *endpoint, const struct ident *node, struct err *err);
/* To be called when the link says to_loop. */
void outbox_kick(struct outbox *o);
/* The channel to the node, for other calls to it; NULL without a target. Changes with the target. */
struct rpc_channel *outbox_channel(const struct outbox *o);
bool outbox_is_connected(const struct outbox *o); /* the node has answered Open */
/* Why it is not connected: the last error with this node (code ERR_NONE: none yet), of its refusal where it said one. */
const struct err *outbox_trouble(const struct outbox *o);
uint64_t outbox_sent_bytes(const struct outbox *o); /* since outbox_new */

#endif
