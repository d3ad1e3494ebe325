/* SPDX-License-Identifier: Apache-2.0
 *
 * Is a segment that was fetched from the bucket the one that the vault had? The bucket is outside: a mark of it may name another machine's object, or
 * the segment of the same number of another history (bucketbelong.h). So before anything of it is used, its header, and each mark in it, must agree
 * with what is left of the vault's own: its file of that segment, its neighbours, its points, its meta.
 */
#ifndef TRANSPORT_VAULT_SECONDCHECK_H
#define TRANSPORT_VAULT_SECONDCHECK_H

#include <stdbool.h>
#include <stdint.h>

#include "transport/base/err.h"
#include "transport/base/ident.h"
#include "transport/vault/keyring.h"
#include "transport/vault/pointlist.h"
#include "transport/vault/storemeta.h"

struct secondcheck {
    const char *machine_dir;       /* the vault's */
    const char *copy_dir;          /* laid out like it: main/ has the segment */
    const struct store_meta *meta; /* of the machine */
    const struct keyring *keys;
    const struct pointlist *points; /* that the vault has; NULL: not known */
    bool is_ours; /* the bucket was seen to have this history; else something must speak for the segment itself */
};

/* Up to *ret_end (a place in the segment) its records may be taken for what stood there; each must still open under the machine's key.
 * ERR_CONFLICT: it is of another machine or history; ERR_CORRUPT. */
int secondcheck_records(const struct secondcheck *c, uint64_t number, uint64_t *ret_end, struct err *err);
/* All of it may take the place of the vault's: every record opens, every mark fits, nothing is missing between it and its neighbours. */
int secondcheck_whole(const struct secondcheck *c, uint64_t number, struct err *err);

#endif
