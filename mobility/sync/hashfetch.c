/* SPDX-License-Identifier: Apache-2.0
 *
 * One question to the vault at a time; its answer goes straight into the asker's array.
 */
#include "mobility/sync/hashfetch.h"

#include <string.h>

#include "transport/base/mem.h"
#include "transport/proto/vault.pb-c.h"
#include "transport/proto/vaultask.h"

struct hashfetch {
    struct ident machine;
    struct vaultask *ask;
};

int hashfetch_new(
    const struct ident *machine, void (*to_loop)(void *arg), void *arg, struct hashfetch **ret_fetch, struct err *err)
{
    struct hashfetch *f = mem_new(struct hashfetch);

    if (!f)
        return err_set(err, ERR_NOMEM, "no memory for hashes");
    f->machine = *machine;
    if (vaultask_new(to_loop, arg, 0, &f->ask, err) < 0) {
        free(f);
        return -1;
    }
    *ret_fetch = f;
    return 0;
}

void hashfetch_free(struct hashfetch *f)
{
    if (!f)
        return;
    vaultask_free(f->ask);
    free(f);
}

struct taking {
    uint64_t start;
    size_t count, have;
    struct hash128 *hashes;
};

/* Chunks come in order; the last block of a disk counts like the others. */
static int take_chunk(void *arg, const ProtobufCMessage *message, struct err *err)
{
    const Leeward__Vault__V1__HashChunk *m = (const Leeward__Vault__V1__HashChunk *)message;
    struct taking *t = arg;
    size_t n = m->hashes.len / HASH_SIZE;

    if (m->block_bytes != HASHFETCH_BLOCK_BYTES || m->hashes.len % HASH_SIZE != 0 ||
        m->start != t->start + (uint64_t)t->have * HASHFETCH_BLOCK_BYTES || n > t->count - t->have)
        return err_set(err, ERR_CORRUPT, "the vault answered other hashes than those asked for");
    memcpy(t->hashes + t->have, m->hashes.data, n * HASH_SIZE);
    t->have += n;
    return 0;
}

int hashfetch_get(
    struct hashfetch *f, uint32_t disk, uint64_t start, uint64_t length, struct hash128 *ret_hashes, struct err *err)
{
    Leeward__Vault__V1__HashesRequest request = LEEWARD__VAULT__V1__HASHES_REQUEST__INIT;
    size_t count = (size_t)((length + HASHFETCH_BLOCK_BYTES - 1) / HASHFETCH_BLOCK_BYTES);
    struct taking t = {.start = start, .count = count, .hashes = ret_hashes};
    uint64_t traffic = 0;

    if (count > HASHFETCH_BLOCKS_MAX)
        return err_set(err, ERR_TOO_LARGE, "too many hashes asked for at once");
    request.machine_id = (ProtobufCBinaryData){IDENT_SIZE, f->machine.bytes};
    request.disk = disk;
    request.start = start;
    request.length = length;
    request.block_bytes = HASHFETCH_BLOCK_BYTES;
    if (vaultask_run(f->ask, "/leeward.vault.v1.Vault/Hashes", &request.base,
            &leeward__vault__v1__hash_chunk__descriptor, take_chunk, &t, &traffic, err) < 0)
        return -1;
    return t.have == count ? 0 : err_set(err, ERR_UNSUPPORTED, "the vault has no hashes for this part of the disk");
}

void hashfetch_kick(struct hashfetch *f, struct rpc_channel *channel)
{
    vaultask_kick(f->ask, channel);
}

void hashfetch_stop(struct hashfetch *f)
{
    vaultask_stop(f->ask);
}
