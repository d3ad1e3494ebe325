/* SPDX-License-Identifier: Apache-2.0
 *
 * Records of a machine as the bucket has them, for healing (heal.h): a segment is fetched when the first record of it is asked for, its
 * pieces are checked against their hashes, and it is kept until a record of another one is. What it says of a record is not believed here:
 * whoever asks opens it and compares.
 *
 * Waits for the service; one thread at a time. The segment lies in the folder `second` of the machine's folder while it is fetched, and
 * without a name behind that.
 */
#ifndef TRANSPORT_VAULT_SECONDCOPY_H
#define TRANSPORT_VAULT_SECONDCOPY_H

#include <stdatomic.h>
#include <stdint.h>

#include "transport/base/err.h"
#include "transport/base/ident.h"
#include "transport/base/mem.h"
#include "transport/log/record.h"
#include "transport/vault/bucketconf.h"

struct secondcopy;

/* Does not talk to the service yet. conf and stop must outlive it. */
int secondcopy_new(const struct bucketconf *conf, const atomic_bool *stop, const char *machine_dir,
    const struct ident *machine, struct secondcopy **ret_copy, struct err *err);
void secondcopy_free(struct secondcopy *c); /* NULL is allowed */
DEFINE_AUTO(secondcopy, secondcopy_free)

/* The record at that place of the log; payload holds RECORD_STORED_MAX bytes. copy: a struct secondcopy. 1; 0: the bucket does not have it, or
 * has it no better; -1: it cannot be had now, and will not be asked for again. */
int secondcopy_read(
    void *copy, uint64_t segment, uint64_t offset, struct record *ret_record, uint8_t *payload, struct err *err);
/* Puts a segment that is missing in the log back, and those behind it that are missing, too. 1: it is there; 0: it was not missing, or the
 * bucket does not have it; -1: as above. */
int secondcopy_restore(void *copy, uint64_t segment, struct err *err);
/* Why not; NULL: nothing failed. */
const struct err *secondcopy_failure(const struct secondcopy *c);

/* Removes what a fetch that was killed has left. */
int secondcopy_sweep(const char *machine_dir, struct err *err);

#endif
