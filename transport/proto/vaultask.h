/* SPDX-License-Identifier: Apache-2.0
 *
 * Calls to a vault (of an agent through its node, of another vault directly) of a thread that may wait: it asks, the event loop makes the call and
 * collects the answer. One at a time. What an answer may have in total is bounded, so the asker divides what it asks for.
 */
#ifndef TRANSPORT_PROTO_VAULTASK_H
#define TRANSPORT_PROTO_VAULTASK_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "transport/base/err.h"
#include "transport/rpc/rpc.h"

#define VAULTASK_ANSWER_MAX (64u << 20)

struct vaultask;

/* to_loop: any thread, asks for vaultask_kick on the loop thread. A node or a vault that is away, or whose answer was cut off, is asked again for
 * patience_usec, and then is ERR_UNAVAILABLE; 0: it is an error at once. */
int vaultask_new(
    void (*to_loop)(void *arg), void *arg, uint64_t patience_usec, struct vaultask **ret_ask, struct err *err);
void vaultask_free(struct vaultask *v); /* NULL allowed; no thread may wait */

/* The asking thread; blocks, for each try two minutes at most. on_message gets each message of the answer, decoded, when all of it is there.
 * traffic: bytes of the messages in both directions are added, also of a call that failed; not where there was no way to the vault. ERR_UNAVAILABLE,
 * ERR_TIMEOUT: try again; ERR_CANCELLED: stopped; ERR_TOO_LARGE: ask for less; and what the vault or on_message (-1) says. */
int vaultask_run(struct vaultask *v, const char *path, const ProtobufCMessage *request,
    const ProtobufCMessageDescriptor *answer, int (*on_message)(void *arg, const ProtobufCMessage *m, struct err *err),
    void *arg, uint64_t *traffic, struct err *err);
/* Loop thread: is there something to start, or a call that nobody waits for any more? */
bool vaultask_wants_channel(struct vaultask *v);
/* Loop thread: starts what was asked for on this channel (NULL: none, the wait ends with ERR_UNAVAILABLE), and ends what was given up. */
void vaultask_kick(struct vaultask *v, struct rpc_channel *channel);
void vaultask_stop(struct vaultask *v); /* any thread: ends waits, now and later */
/* Any thread: ends waits with ERR_CANCELLED, now and later, until `on` is false again. */
void vaultask_give_up(struct vaultask *v, bool on);

#endif
