/* SPDX-License-Identifier: Apache-2.0
 *
 * Another vault key, without touching data: only the data keys of the machines, 60 bytes each, are wrapped anew.
 *
 * The new key lies in `vault.key.next` from before the first machine is wrapped under it until the last one is; then it is renamed
 * over `vault.key`. So at every moment all data keys can be unwrapped by one of the two files, and a rotation that was interrupted is
 * finished at the next start. Functions here work on files; for machines whose store is open see store_rewrap.
 */
#ifndef TRANSPORT_VAULT_REKEY_H
#define TRANSPORT_VAULT_REKEY_H

#include <stdbool.h>

#include "transport/base/err.h"
#include "transport/base/ident.h"
#include "transport/vault/vaultkeys.h"

/* The key that machines are to be wrapped under: that of a rotation that was begun, or a new one. Durable when it returns. */
int rekey_begin(const char *data_dir, struct vault_key *ret_next, struct err *err);
/* One machine's folder: 1 wrapped anew; 0 it was already, or is no machine's. ERR_DENIED: neither key fits. */
int rekey_machine(const char *machine_dir, const struct ident *machine, const struct vault_key *current,
    const struct vault_key *next, struct err *err);
/* All machines are wrapped under the next key: it becomes the key. Durable when it returns. */
int rekey_finish(const char *data_dir, struct err *err);

/* At start, before any store is open. 1: a rotation was under way. When all machines could be wrapped it is finished, and *key is
 * the new key; else *ret_pending is set, *key is the new key, and *ret_older the one that some machines still need. */
int rekey_resume(
    const char *data_dir, struct vault_key *key, struct vault_key *ret_older, bool *ret_pending, struct err *err);

#endif
