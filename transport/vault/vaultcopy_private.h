/* SPDX-License-Identifier: Apache-2.0
 *
 * What vaultcopy.c, vaultcopydesired.c and vaultcopysource.c share and nobody else sees: a machine's copy; other vaults, the connections to them, and
 * calls of threads that may wait.
 */
#ifndef TRANSPORT_VAULT_VAULTCOPY_PRIVATE_H
#define TRANSPORT_VAULT_VAULTCOPY_PRIVATE_H

#include <stdatomic.h>

#include "transport/proto/vaultask.h"
#include "transport/vault/copypass.h"
#include "transport/vault/vaultd_private.h"

#define COPY_ENDPOINT_MAX 256u

/* Another vault, and the connection to it. It stays for a while when nobody uses it: a copy looks for newer points every few seconds. */
struct copy_source {
    struct copy_source *next;
    struct ident vault;
    char endpoint[COPY_ENDPOINT_MAX];
    unsigned refs;
    uint64_t idle_since_usec; /* monotonic, with refs 0 */
    struct copyturn_source turn;
    uint64_t away_usec; /* when it was seen that it does not answer, */
    struct err why;     /* and how */
    struct rpc_channel *channel;
};

/* Calls of one pass at a time. They outlive the channels: a call that was given up may end late. */
struct copy_ask {
    struct copy_ask *next;
    struct vaultask *ask;
    struct copy_source *source; /* of the pass that has it; NULL: nobody has */
};

enum copy_step {
    COPY_LOAD,
    COPY_LOOK,
    COPY_BEGIN,
    COPY_RETURN,
    COPY_GATHER,
    COPY_APPEND,
    COPY_OFFER_BEGIN,
    COPY_OFFER
};

struct vaultcopy {
    struct vaultjob job; /* first */
    atomic_bool off;     /* the hub has taken it back, or it comes from elsewhere now */
    bool busy, wanted;
    enum copy_step step;
    struct ident vault; /* as the hub says */
    char endpoint[COPY_ENDPOINT_MAX];
    uint64_t interval_usec, due_usec; /* monotonic */
    struct copyflow flow;             /* what it owes to the pace */
    struct copyturn turn;
    bool waits;                 /* for its turn: nothing of it is under way */
    uint64_t charged_bytes;     /* of the pass's traffic: what its turns were told */
    struct copy_source *source; /* while busy */
    struct copy_ask *ask;
    struct copypass *pass;
    struct copy_damage *damage; /* that the pass is to mend */
    struct healpace heal;       /* when that is tried again */
    struct healpace offer;      /* when the other vault is offered again what it lacks, */
    uint64_t lacked_there;      /* which was so many records */
    struct copy_held held;
    bool loaded;                        /* held is what the log has */
    struct copy_counts unnoted, counts; /* what passes that failed have left to count; all, as told */
    int more;
    bool
        behind; /* there is more to be taken at once: the pass has come to a point that is not the newest one there, or to none */
    unsigned permille;
    struct err trouble; /* why the last pass failed; code ERR_NONE: it did not */
    bool news;          /* the hub is to be told */
    uint64_t told_usec;
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
