/* SPDX-License-Identifier: Apache-2.0
 *
 * grpc.health.v1.Health on every server: Check answers once, Watch at once and on each change. Open to anonymous clients.
 */
#ifndef TRANSPORT_RPC_HEALTH_H
#define TRANSPORT_RPC_HEALTH_H

#include <stdbool.h>

#include "transport/base/err.h"
#include "transport/rpc/rpc.h"

struct health;

int health_new(struct health **ret_health, struct err *err);
void health_free(struct health *health); /* its calls must have ended; NULL allowed */
/* The method for a path of the health service (its server_arg is struct health), NULL for others. */
const struct rpc_method *health_method(const char *path);
void health_set(struct health *health, const char *service, bool serving);
/* NOT_SERVING everywhere and the end of every Watch: the server drains. */
void health_shut(struct health *health);

#endif
