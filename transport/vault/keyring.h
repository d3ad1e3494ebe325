/* SPDX-License-Identifier: Apache-2.0
 *
 * The data keys of a machine: the one that is in use and those before it. A record does not say which key it is sealed under; its nonce
 * stream does, because streams are handed out in order and each under one key: the key before covers the streams below `until`, the
 * newest all others.
 *
 * On disk the newest key is in `meta`, wrapped by the vault's key, and each older one in the file `keys`, wrapped by the key behind it. So the
 * newest opens all, an older one opens none that came later, another vault key touches `meta` alone, and with `meta` all are gone.
 *
 * Functions are pure but for keyring_load and keyring_store. Memory that held a ring is cleansed by its holder.
 */
#ifndef TRANSPORT_VAULT_KEYRING_H
#define TRANSPORT_VAULT_KEYRING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "transport/base/buf.h"
#include "transport/base/err.h"
#include "transport/base/ident.h"
#include "transport/log/seal.h"

#define KEYRING_MAX 64u /* keys of a machine: with a new one every month more than five years */
/* Of keyring_to_text, its NUL included: a line per key. */
#define KEYRING_TEXT_MAX (KEYRING_MAX * (2 * SEAL_KEY_SIZE + 12) + 1)

struct keyring_item {
    uint32_t until; /* the first stream that this key does not cover; of the newest key 0: it covers all that follow */
    struct seal_key key;
};

struct keyring {
    size_t count; /* >= 1 */
    struct keyring_item items[KEYRING_MAX];
};

/* A ring of this key alone. */
void keyring_init(struct keyring *ring, const struct seal_key *key);
void keyring_cleanse(struct keyring *ring);
/* The key that a record with this nonce stream is sealed under; never NULL. */
const struct seal_key *keyring_key(const struct keyring *ring, uint32_t nonce_stream);
const struct seal_key *keyring_newest(const struct keyring *ring);
/* The new key covers the streams from first_stream on. ERR_REFUSED: the machine has had KEYRING_MAX keys. */
int keyring_add(struct keyring *ring, uint32_t first_stream, const struct seal_key *key, struct err *err);

/* The keys before `newest`, from the file `keys` of the machine's folder. What stands there behind the one that `newest` opens is left of a
 * change that was interrupted, and passed over. ERR_NOT_FOUND: no file; ERR_CORRUPT; ERR_UNSUPPORTED; ERR_DENIED: another machine's or
 * another key's. */
int keyring_load(const char *machine_dir, const struct ident *machine, const struct seal_key *newest,
    struct keyring *ret_ring, struct err *err);
/* Whether the file is as it was written, as far as can be told without a key. 0; ERR_NOT_FOUND: no file; ERR_CORRUPT; ERR_UNSUPPORTED. */
int keyring_check(const char *machine_dir, const struct ident *machine, struct err *err);
/* Durable when it returns. */
int keyring_store(const char *machine_dir, const struct ident *machine, const struct keyring *ring, struct err *err);

/* For handing a ring to another process: a line per key, oldest first: until, a space, 64 hex digits. */
void keyring_to_text(const struct keyring *ring, char out[KEYRING_TEXT_MAX]);
/* 64 hex digits alone are one key. ERR_INVALID. */
int keyring_from_text(const char *text, struct keyring *ret_ring, struct err *err);

#endif
