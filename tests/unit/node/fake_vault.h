/* SPDX-License-Identifier: Apache-2.0
 *
 * A vault for the node's tests: the real Replicate service over TLS with one machine, whose disk it keeps in memory. It
 * holds every record to the rules that the real one relies on: sequence, epoch, generation, no nonce twice.
 */
#ifndef TESTS_UNIT_NODE_FAKE_VAULT_H
#define TESTS_UNIT_NODE_FAKE_VAULT_H

#include <stdbool.h>

#include "transport/log/seal.h"
#include "transport/rpc/rpc.h"

#define FAKE_DISK_BYTES (16u << 20)

struct fake_vault {
    struct rpc_server *server;
    struct rpc_call *call; /* the stream that is open now */
    struct seal_work *work;
    struct seal_key key;
    uint64_t generation, epoch, committed;
    uint32_t nonce_stream;
    uint8_t *disk;                                  /* what is committed */
    struct buf open;                                /* records of the set that is not closed yet */
    uint64_t nonce_stream_seen, nonce_counter_seen; /* the last one */
    bool no_point;                                  /* says that it has none of the machine */
    bool silent;                                    /* takes Open and says nothing */
    bool not_given;                                 /* the hub has given the machine to another one */
    bool stalled;                                   /* takes batches but does not give their bytes back */
    size_t held_bytes;
    unsigned opens, batches, broken_rules, refused;
    unsigned hashes_asked;
};

struct fake_vault *fake_vault_new(void);
void fake_vault_serve(struct fake_vault *v, sd_event *loop, const char *address, struct tls_context *tls);
void fake_vault_stop(struct fake_vault *v);  /* the state stays */
void fake_vault_go_on(struct fake_vault *v); /* not stalled any more */
void fake_vault_free(struct fake_vault *v);

#endif
