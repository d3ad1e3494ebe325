/* SPDX-License-Identifier: Apache-2.0
 *
 * Healing one damaged record from what this side has: its own header, when only a bit or two of it have flipped (the tag of the
 * payload proves it), or the newest content of its place, when that has the hash which the record says it had. What the newest content
 * itself lacks comes from the source, by an ordinary resend (vaultheal.c asks for it), and is then here.
 */
#ifndef TRANSPORT_VAULT_HEAL_H
#define TRANSPORT_VAULT_HEAL_H

#include "transport/base/err.h"
#include "transport/vault/damagehit.h"
#include "transport/vault/mend.h"

/* 1: healed, item->state says so; 0: it cannot be healed from here, now. */
int heal_item(const struct damagehit *h, struct quarantine_item *item, struct mend_nonce *nonce, struct err *err);

#endif
