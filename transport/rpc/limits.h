/* SPDX-License-Identifier: Apache-2.0
 *
 * Fills in the defaults of struct rpc_limits and holds them to each other.
 */
#ifndef TRANSPORT_RPC_LIMITS_H
#define TRANSPORT_RPC_LIMITS_H

#include "transport/rpc/rpc.h"

/* `given` may be NULL: all defaults. A window is never smaller than the largest message and its prefix (a message must fit,
 * or its sender would wait for ever) nor larger than HTTP/2 allows. */
void limits_resolve(const struct rpc_limits *given, struct rpc_limits *ret_limits);

#endif
