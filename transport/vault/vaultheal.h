/* SPDX-License-Identifier: Apache-2.0
 *
 * What becomes of damage: it is put on the machine's list (quarantine.h), the points that it hits are named, what can be healed is
 * healed, and for what only the source can have the hub is asked to let the agent send it again. Loop thread.
 */
#ifndef TRANSPORT_VAULT_VAULTHEAL_H
#define TRANSPORT_VAULT_VAULTHEAL_H

#include "transport/vault/verify.h"

struct vmachine;

/* A verification of all segments above after_segment has ended with this result. done, which may be NULL, is called once, when the list
 * is up to date. */
void vaultheal_found(struct vmachine *vm, uint64_t after_segment, const struct verify_result *result,
    void (*done)(void *arg), void *arg);
/* Content of damaged records, of a vault that keeps a copy of the machine. */
struct heal_offer {
    uint64_t segment, offset;
    uint8_t *data;
    size_t length;
};
struct heal_offers {
    size_t count, mended; /* mended: once it is done */
    struct heal_offer items[];
};
void vaultheal_offers_free(struct heal_offers *offers); /* NULL allowed */
/* Takes of them what has the hash that is wanted. The offers are the caller's, and stay until done is called, once, later; err NULL: it went well. */
int vaultheal_offered(struct vmachine *vm, struct heal_offers *offers, void (*done)(void *arg, const struct err *err),
    void *arg, struct err *err);

/* The list was read from the file: what it has is looked at again soon. */
void vaultheal_loaded(struct vmachine *vm);
/* Looks again from time to time whether what was asked for has come. */
void vaultheal_tick(struct vmachine *vm, uint64_t now_usec);

#endif
