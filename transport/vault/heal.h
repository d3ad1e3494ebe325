/* SPDX-License-Identifier: Apache-2.0
 *
 * Healing one damaged record from what this side has: its own header, when only a bit or two of it have flipped (the tag of the
 * payload proves it), the newest content of its place, when that has the hash which the record says it had, or a second copy of the log. What
 * the newest content itself lacks and no copy has comes from the source, by an ordinary resend (vaultheal.c asks for it), and is then here.
 */
#ifndef TRANSPORT_VAULT_HEAL_H
#define TRANSPORT_VAULT_HEAL_H

#include "transport/base/err.h"
#include "transport/vault/damagehit.h"
#include "transport/vault/mend.h"

/* Where records are once more (secondcopy.h). read: the record at that place; payload holds RECORD_STORED_MAX bytes. 1; 0: it is not there; -1.
 * Nothing of it is believed: it must open under the machine's key, and fit. */
struct heal_copy {
    int (*read)(
        void *arg, uint64_t segment, uint64_t offset, struct record *ret_record, uint8_t *payload, struct err *err);
    /* Puts a segment back as a whole, every record of it verified: one that is missing, or (is_damaged) instead of what is there. As read. */
    int (*restore)(void *arg, uint64_t segment, bool is_damaged, struct err *err);
    void *arg;
};

/* Is it a damaged record of which all is known but the content? */
bool heal_may_be_given(const struct quarantine_item *item);
/* Content of a record from whoever has it: it is believed where it has the hash that the damaged record says it had. 1: healed, item->state says so; 0:
 * it is something else, or the record is not damaged; -1. */
int heal_with(const struct damagehit *h, struct quarantine_item *item, const uint8_t *plain, size_t length,
    struct mend_nonce *nonce, struct err *err);
/* copy: NULL: there is none. A copy that fails is no failure of the call. 1: healed, item->state says so; 0: it cannot be healed from here, now. */
int heal_item(const struct damagehit *h, struct quarantine_item *item, const struct heal_copy *copy,
    struct mend_nonce *nonce, struct err *err);

#endif
