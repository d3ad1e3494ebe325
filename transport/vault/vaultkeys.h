/* SPDX-License-Identifier: Apache-2.0
 *
 * Keys. The vault's own key lies in DATA/vault.key (64 hex digits and a newline, mode 0600). Each machine has a random data
 * key, which is stored only wrapped: AES-256-GCM under the vault key, the machine id as additional data, so that a wrapped
 * key cannot be moved to another machine and a wrong vault key is noticed.
 */
#ifndef TRANSPORT_VAULT_VAULTKEYS_H
#define TRANSPORT_VAULT_VAULTKEYS_H

#include <stdbool.h>
#include <stdint.h>

#include "transport/base/err.h"
#include "transport/base/ident.h"
#include "transport/log/seal.h"

#define VAULTKEYS_WRAPPED_SIZE 60 /* nonce 12 (key id 4, random 8), wrapped key 32, tag 16 */

struct vault_key {
    uint8_t bytes[32];
};

/* Loads the key; makes one when there is none and may_create (a vault that already holds machines must not: their data keys
 * would be lost). ERR_NOT_FOUND, ERR_DENIED (readable by others), ERR_CORRUPT, each with a correction. */
int vaultkeys_load(const char *path, bool may_create, struct vault_key *ret_key, struct err *err);
/* What people tell keys apart by: 8 hex digits of a hash. Not secret. */
#define VAULTKEYS_ID_SIZE 9
void vaultkeys_id(const struct vault_key *vk, char out[VAULTKEYS_ID_SIZE]);
/* The id of the key that wrapped it, as it states itself. */
void vaultkeys_wrapped_id(const uint8_t wrapped[VAULTKEYS_WRAPPED_SIZE], char out[VAULTKEYS_ID_SIZE]);
int vaultkeys_random(struct seal_key *ret_key, struct err *err);
int vaultkeys_wrap(const struct vault_key *vk, const struct ident *machine, const struct seal_key *key,
    uint8_t out[VAULTKEYS_WRAPPED_SIZE], struct err *err);
/* ERR_DENIED: the vault key is not the one that wrapped it; the error names both. */
int vaultkeys_unwrap(const struct vault_key *vk, const struct ident *machine,
    const uint8_t wrapped[VAULTKEYS_WRAPPED_SIZE], struct seal_key *ret_key, struct err *err);

#endif
