/* SPDX-License-Identifier: Apache-2.0
 *
 * grpc.health.v1.Health on every server: Check answers once, Watch at once and on each change. Open to anonymous clients.
 */
#ifndef TRANSPORT_RPC_SERVING_H
#define TRANSPORT_RPC_SERVING_H

#include <stdbool.h>

#include "transport/base/err.h"
#include "transport/rpc/rpc.h"

struct serving;

int serving_new(struct serving **ret_health, struct err *err);
void serving_free(struct serving *health); /* its calls must have ended; NULL allowed */
/* The method for a path of the health service (its server_arg is struct serving), NULL for others. */
const struct rpc_method *serving_method(const char *path);
void serving_set(struct serving *health, const char *service, bool serving);
/* NOT_SERVING everywhere and the end of every Watch: the server drains. */
void serving_shut(struct serving *health);

#endif
