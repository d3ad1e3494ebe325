/* SPDX-License-Identifier: Apache-2.0
 *
 * What vaultcopy.c and vaultcopysource.c share and nobody else sees: other vaults, the connections to them, and calls of threads that may wait.
 */
#ifndef TRANSPORT_VAULT_VAULTCOPY_PRIVATE_H
#define TRANSPORT_VAULT_VAULTCOPY_PRIVATE_H

#include "transport/proto/vaultask.h"
#include "transport/vault/vaultd_private.h"

#define COPY_ENDPOINT_MAX 256u

/* Another vault, and the connection to it. It stays for a while when nobody uses it: a copy looks for newer points every few seconds. */
struct copy_source {
    struct copy_source *next;
    struct ident vault;
    char endpoint[COPY_ENDPOINT_MAX];
    unsigned refs;
    uint64_t idle_since_usec; /* monotonic, with refs 0 */
    bool away;                /* it did not answer; one pass at a time asks, so that the others have the threads */
    struct rpc_channel *channel;
};

/* Calls of one pass at a time. They outlive the channels: a call that was given up may end late. */
struct copy_ask {
    struct copy_ask *next;
    struct vaultask *ask;
    struct copy_source *source; /* of the pass that has it; NULL: nobody has */
};

/* NULL: there is none yet. */
struct copy_source *vaultcopysource_find(struct vaultd *d, const struct ident *vault, const char *endpoint);
/* Finds it or makes it, and holds it. NULL with err set. */
struct copy_source *vaultcopysource_get(
    struct vaultd *d, const struct ident *vault, const char *endpoint, struct err *err);
void vaultcopysource_put(struct copy_source *source); /* NULL allowed */
/* Ends connections that nobody has used for a while. */
void vaultcopysource_tick(struct vaultd *d, uint64_t now);
struct copy_ask *vaultcopysource_ask(struct vaultd *d, struct copy_source *source, struct err *err);
/* Some thread wants something of the loop. */
void vaultcopysource_kick(struct vaultd *d);
void vaultcopysource_ring(void *vaultd);
void vaultcopysource_stop(struct vaultd *d);
void vaultcopysource_free(struct vaultd *d);

#endif
