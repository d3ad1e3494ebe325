/* SPDX-License-Identifier: Apache-2.0
 *
 * The small facts about a machine that must survive anything and are not in its log: the generation, the highest epoch that
 * was ever accepted, the wrapped data key, and the next nonce stream. File `meta`, replaced as a whole and durable before
 * any of it is handed out.
 */
#ifndef TRANSPORT_VAULT_STOREMETA_H
#define TRANSPORT_VAULT_STOREMETA_H

#include <stdbool.h>
#include <stdint.h>

#include "transport/base/err.h"
#include "transport/base/ident.h"
#include "transport/vault/vaultkeys.h"

struct store_meta {
    struct ident machine;
    uint64_t generation;
    uint64_t epoch;
    uint64_t created_utc_usec;
    uint32_t next_nonce_stream;                  /* >= 1; 0: used up */
    uint8_t wrapped_key[VAULTKEYS_WRAPPED_SIZE]; /* the newest data key */
    bool has_older_keys;                         /* in the file keys (keyring.h) */
};

#define STOREMETA_SIZE 128u /* of the file */

void storemeta_encode(const struct store_meta *meta, uint8_t out[STOREMETA_SIZE]);
/* ERR_NOT_FOUND, ERR_CORRUPT, ERR_UNSUPPORTED. */
int storemeta_load(const char *machine_dir, struct store_meta *ret_meta, struct err *err);
int storemeta_store(const char *machine_dir, const struct store_meta *meta, struct err *err);

#endif
