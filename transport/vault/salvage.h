/* SPDX-License-Identifier: Apache-2.0
 *
 * A machine whose log has a hole: a segment is missing, or damaged so that what follows does not follow on. With its index it can be opened
 * all the same, and what needs that segment is an error; when the index that led over the hole is lost as well, it cannot. What stands behind the hole cannot be read without what was in it, and
 * nobody may decide in silence to give it up (P6): so this is done by a person, with the vault stopped.
 *
 * First from the bucket, when there is one: it has the segment as it was, and nothing is lost. Where that does not help, and it was asked for,
 * the log is cut at the hole: what stands before it stays, with all its points; what stands behind is moved aside into
 * `lost-<n>/`, not deleted. The epoch goes up, so that the source compares its disks and sends what is missing.
 */
#ifndef TRANSPORT_VAULT_SALVAGE_H
#define TRANSPORT_VAULT_SALVAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "transport/base/err.h"
#include "transport/base/ident.h"
#include "transport/vault/object/object.h"

struct salvage_result {
    bool opens_as_it_is;    /* perhaps with what was fetched: nothing was cut */
    uint64_t hole;          /* number of the segment where the first one was; 0: none */
    uint64_t fetched_bytes; /* from the bucket */
    uint64_t moved;         /* segments that were moved aside */
    uint64_t sequence;      /* of the last change set that is left */
    uint64_t points;
};

/* objects: the machine's bucket, or NULL. cut: what the bucket cannot give back may be given up. ERR_CONFLICT: a vault runs on DATA;
 * ERR_NOT_FOUND: no such machine, no vault.key; ERR_CORRUPT: there is a hole, and cut is false; the text names it. */
int salvage_run(const char *data_dir, const struct ident *machine, struct object_store *objects, bool cut,
    struct salvage_result *ret_result, struct err *err);

#endif
