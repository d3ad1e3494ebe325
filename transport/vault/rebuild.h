/* SPDX-License-Identifier: Apache-2.0
 *
 * A vault's machines again from its bucket alone (and DATA/vault.key, which is in no bucket): every point whose mark had arrived there
 * can be opened afterwards. Each machine is put together in DATA/rebuild/<id>, every byte against the hashes in the marks, opened once as a
 * store, and only then moved to DATA/machines. So it may be ended at any moment and begun again; what is there and right is not fetched anew.
 */
#ifndef TRANSPORT_VAULT_REBUILD_H
#define TRANSPORT_VAULT_REBUILD_H

#include <stdint.h>

#include "transport/base/err.h"
#include "transport/vault/bucketstate.h"
#include "transport/vault/object/object.h"
#include "transport/vault/vaultkeys.h"

struct rebuild_result {
    unsigned machines; /* rebuilt now */
    unsigned present;  /* that were in DATA already, and were left alone */
    uint64_t fetched_bytes;
};

/* All machines of the bucket. ERR_NOT_FOUND: no vault.key, or nothing in the bucket; ERR_DENIED: vault.key is not the one of these machines;
 * ERR_CONFLICT: a vault runs on DATA; ERR_NOSPACE; ERR_CORRUPT: what is in the bucket does not hold together. */
int rebuild_run(const char *data_dir, struct object_store *objects, struct rebuild_result *ret_result, struct err *err);

/* The lock of DATA, which a running vault holds; and its key. */
int rebuild_lock_data(const char *data_dir, int *ret_fd, struct err *err);
int rebuild_load_key(const char *data_dir, struct vault_key *ret_key, struct err *err);

/* rebuild_machine.c: one of them. */
int rebuild_machine(const char *data_dir, const struct vault_key *key, const struct ident *machine,
    struct object_store *objects, uint64_t *fetched_bytes, struct err *err);
/* One file of a machine as the bucket has it, into a folder laid out like the machine's, against its hashes. f: of a state (bucketstate.h). 1; 0: an
 * object of it has gone since the state was loaded. */
int rebuild_fetch(const char *dir, const struct ident *machine, const struct bucket_file *f,
    struct object_store *objects, uint64_t *fetched_bytes, struct err *err);

#endif
