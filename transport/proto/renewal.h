/* SPDX-License-Identifier: Apache-2.0
 *
 * Renews the certificate of an identity when two thirds of its life are over, over the channel to the hub. The key stays, so
 * that replacing one file is enough and no crash can separate key and certificate.
 */
#ifndef TRANSPORT_PROTO_RENEWAL_H
#define TRANSPORT_PROTO_RENEWAL_H

#include <systemd/sd-event.h>

#include "transport/base/err.h"
#include "transport/proto/enrol.h"
#include "transport/rpc/rpc.h"

struct renewal;

/* channel and identity must outlive it, but renewal_free may come before the channel's. on_renewed runs after the files were
 * replaced. */
int renewal_new(sd_event *loop, struct rpc_channel *channel, const struct enrol_identity *identity,
    void (*on_renewed)(void *arg), void *arg, struct renewal **ret_renewal, struct err *err);
void renewal_free(struct renewal *renewal); /* NULL allowed */

#endif
