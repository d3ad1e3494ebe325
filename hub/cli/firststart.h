/* SPDX-License-Identifier: Apache-2.0
 *
 * What `leeward up` asks of its own hub: is it ready, a one-time token for a daemon that has no identity yet, is
 * everybody there. These calls block; they run on a worker thread.
 */
#ifndef HUB_CLI_FIRSTSTART_H
#define HUB_CLI_FIRSTSTART_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "transport/base/err.h"

struct firststart {
    const char *url;     /* of the hub's API */
    const char *data;    /* folder of `leeward up`; DATA/hub has admin.token and ca/ca.pem */
    atomic_bool *cancel; /* waits end early when it is set */
};

/* Waits until the hub's token and CA are there and /readyz says yes; ERR_TIMEOUT after timeout_usec, ERR_CANCELLED. */
int firststart_wait_hub(const struct firststart *f, uint64_t timeout_usec, struct err *err);
/* A token for role in the file DATA/ROLE.token (0600). */
int firststart_make_token(const struct firststart *f, const char *role, struct err *err);
/* Waits until one node, one vault and (unless without_agent) one machine are online. */
int firststart_wait_all(const struct firststart *f, bool without_agent, uint64_t timeout_usec, struct err *err);
/* DATA/cli.env (0600), for a shell to source. */
int firststart_write_env(const struct firststart *f, struct err *err);

#endif
