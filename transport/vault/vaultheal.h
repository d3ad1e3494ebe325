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
/* The list was read from the file: what it has is looked at again soon. */
void vaultheal_loaded(struct vmachine *vm);
/* Looks again from time to time whether what was asked for has come. */
void vaultheal_tick(struct vmachine *vm, uint64_t now_usec);

#endif
