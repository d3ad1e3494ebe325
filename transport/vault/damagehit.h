/* SPDX-License-Identifier: Apache-2.0
 *
 * From damage in the log to what it means: which records lie in a damaged place, and which recovery points show them. Both come from
 * the index; a record whose header is gone is known there by its place and by what is visible of it. Reads files; any thread.
 *
 * What is hidden by a newer record stays hidden, so the points that show a record are those from its own change set up to one
 * point, which a binary search finds.
 */
#ifndef TRANSPORT_VAULT_DAMAGEHIT_H
#define TRANSPORT_VAULT_DAMAGEHIT_H

#include "transport/base/err.h"
#include "transport/base/ident.h"
#include "transport/vault/keyring.h"
#include "transport/vault/pointlist.h"
#include "transport/vault/quarantine.h"

/* The machine, as of a flush of its store. */
struct damagehit {
    const char *machine_dir;
    struct ident machine;
    struct keyring keys;
    struct pointlist points;
    uint64_t newest; /* sequence of the last mark, point or not */
};

/* Adds the items that the damage is: one per record that the index knows there, or one for the place. *ret_new: how many are new. */
int damagehit_items(const struct damagehit *h, const struct verify_damage *damage, uint64_t now_utc_usec,
    struct quarantine *q, size_t *ret_new, struct err *err);
/* Fills first_point, last_point, points and now. */
int damagehit_points(const struct damagehit *h, struct quarantine_item *item, struct err *err);

#endif
