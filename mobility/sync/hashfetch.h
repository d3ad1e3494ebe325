/* SPDX-License-Identifier: Apache-2.0
 *
 * Hashes of what the vault holds, for the comparing sweep: the capture thread asks and waits, the event loop makes the call
 * (leeward.vault.v1.Vault/Hashes, passed on by the node).
 */
#ifndef MOBILITY_SYNC_HASHFETCH_H
#define MOBILITY_SYNC_HASHFETCH_H

#include <stddef.h>
#include <stdint.h>

#include "transport/base/err.h"
#include "transport/base/hash.h"
#include "transport/base/ident.h"
#include "transport/rpc/rpc.h"

#define HASHFETCH_BLOCK_BYTES 65536u
#define HASHFETCH_BLOCKS_MAX 4096u /* one call: 256 MiB of disk */

struct hashfetch;

/* to_loop: any thread, asks for hashfetch_kick on the loop thread. */
int hashfetch_new(
    const struct ident *machine, void (*to_loop)(void *arg), void *arg, struct hashfetch **ret_fetch, struct err *err);
void hashfetch_free(struct hashfetch *f); /* NULL allowed; no thread may wait */

/* Capture thread; blocks, two minutes at most. Fills the hashes of the blocks of `length` bytes from byte `start` on (multiple of the block size); the last
 * block of a disk may be a smaller one: a vault gives none of a range that reaches out of the disk.
 * ERR_UNSUPPORTED: nobody here answers this, so compare nothing and send everything. ERR_UNAVAILABLE, ERR_TIMEOUT: try
 * again. ERR_CANCELLED: stopped. */
int hashfetch_get(
    struct hashfetch *f, uint32_t disk, uint64_t start, uint64_t length, struct hash128 *ret_hashes, struct err *err);
/* Loop thread: starts what was asked for on this channel (NULL: none, the wait ends with ERR_UNAVAILABLE). */
void hashfetch_kick(struct hashfetch *f, struct rpc_channel *channel);
void hashfetch_stop(struct hashfetch *f); /* any thread: ends waits, now and later */

#endif
