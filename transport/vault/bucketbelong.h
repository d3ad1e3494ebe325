/* SPDX-License-Identifier: Apache-2.0
 *
 * Is what the bucket has of a machine the beginning of what the vault has? A vault that was put back from an older copy, or that lost change sets and
 * took others in, goes on with the same machine and the same numbers, and is yet another history: nothing may be sent over the bucket's then, and
 * nothing be taken from it.
 *
 * What tells is the newest mark that the bucket has: the vault's log must have just this one in that place. So damage elsewhere is no other history. Where
 * the vault has no mark there, the last piece must be what its file has; where that segment was rewritten since, or is gone, nothing is known.
 * Uploads and compaction may go on beside this: a mark that is newer than `committed` is no loss when the log has it.
 */
#ifndef TRANSPORT_VAULT_BUCKETBELONG_H
#define TRANSPORT_VAULT_BUCKETBELONG_H

#include "transport/vault/bucketstate.h"

struct bucketbelong {
    const struct bucketstate *state; /* as loaded; it has a mark */
    struct object_store *objects;
    int main_fd;               /* the folder of the machine's log */
    uint64_t created_utc_usec; /* of its meta */
    uint64_t committed;        /* a change set that the vault has: the newest when that was asked */
};

/* 1: it is; 0: nothing speaks against it, nor for it; -1: ERR_CONFLICT with a correction, or the service failed. */
int bucketbelong_check(const struct bucketbelong *b, struct err *err);

#endif
