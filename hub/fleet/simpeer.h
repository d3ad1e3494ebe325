/* SPDX-License-Identifier: Apache-2.0
 *
 * One simulated agent, node or vault on the wire: a certificate of its own, one session, begun again when it ends. What is said in it
 * is its owner's matter. Loop thread only.
 */
#ifndef HUB_FLEET_SIMPEER_H
#define HUB_FLEET_SIMPEER_H

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "transport/base/ident.h"
#include "transport/proto/control.pb-c.h"
#include "transport/rpc/rpc.h"

struct simpeer;

struct simpeer_ops {
    void (*on_up)(struct simpeer *peer);   /* the hub answered Hello */
    void (*on_down)(struct simpeer *peer); /* the session, or the attempt to have one, ended */
    void (*on_directive)(struct simpeer *peer, const Leeward__Control__V1__Directive *directive);
};

struct simpeer {
    const struct simpeer_ops *ops;
    void *arg; /* its owner's */
    const char *role;
    char name[32], id[IDENT_TEXT_SIZE];
    struct tls_context *tls;
    struct rpc_channel *channel;
    struct rpc_call *call; /* NULL: none now */
    bool up;
    uint64_t status_usec; /* how often the hub wants a status */
};

/* With the files of its certificate. Does not connect yet. */
int simpeer_open(sd_event *loop, const char *hub, const struct tls_files *files, struct simpeer *peer, struct err *err);
void simpeer_close(struct simpeer *peer); /* a zeroed one too */
/* Begins a session unless there is one; on_up or on_down follow. */
void simpeer_connect(struct simpeer *peer);
/* Ends the session; on_down follows from the loop. */
void simpeer_disconnect(struct simpeer *peer);
/* Dropped while the session is not up or its queue is full. */
void simpeer_report(struct simpeer *peer, const Leeward__Control__V1__Report *report);
/* The end of a command: error NULL is success. */
void simpeer_command_done(
    struct simpeer *peer, const char *command_id, const struct err *error, const char *result_json);

#endif
