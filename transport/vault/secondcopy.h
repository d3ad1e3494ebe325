/* SPDX-License-Identifier: Apache-2.0
 *
 * Records of a machine as the bucket has them, for healing (heal.h): a segment is fetched when the first record of it is asked for, its
 * pieces are checked against their hashes, and it is kept until a record of another one is. Whether the bucket has this machine's history at all is
 * asked once (bucketbelong.h), each segment must be the vault's own (secondcheck.h), and who asks for a record opens it and compares.
 *
 * One that is damaged in the bucket, or is not the vault's, costs what it would have healed and nothing else.
 *
 * Waits for the service; one thread at a time. A segment lies in the folder `second` of the machine's folder while it is fetched and checked.
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
#include "transport/vault/keyring.h"
#include "transport/vault/object/object.h"
#include "transport/vault/pointlist.h"

struct secondcopy;

/* All of it must outlive the copy. */
struct secondcopy_spec {
    const struct bucketconf *bucket;
    struct object_store *objects; /* instead of `bucket`, when the caller has it open; it stays the caller's */
    const atomic_bool *stop;      /* NULL: nothing stops it */
    const char *machine_dir;
    struct ident machine;
    const struct keyring *keys;
    const struct pointlist *points; /* NULL: not known */
    uint64_t committed;             /* the newest change set that the vault has */
    uint64_t writes_from;           /* the segments from this one on may be written to, and are not put back */
};

/* Does not talk to the service yet. */
int secondcopy_new(const struct secondcopy_spec *spec, struct secondcopy **ret_copy, struct err *err);
void secondcopy_free(struct secondcopy *c); /* NULL is allowed */
DEFINE_AUTO(secondcopy, secondcopy_free)

/* The record at that place of the log; payload holds RECORD_STORED_MAX bytes. copy: a struct secondcopy. 1; 0: the bucket does not have it, or
 * has it no better; -1: it cannot be had now (secondcopy_failure), or its segment there is no good (secondcopy_bad). */
int secondcopy_read(
    void *copy, uint64_t segment, uint64_t offset, struct record *ret_record, uint8_t *payload, struct err *err);
/* Puts a segment back that is missing in the log, or of which nothing can be read (is_damaged: whatever can be read of it), and those behind it that
 * are missing, too. 1: it is there now, every record of it verified; 0: it needs none, or the bucket does not have it; -1: as above. */
int secondcopy_restore(void *copy, uint64_t segment, bool is_damaged, struct err *err);
/* Why nothing more is asked of the bucket; NULL: nothing failed. ERR_CONFLICT: it holds another history of this machine. */
const struct err *secondcopy_failure(const struct secondcopy *c);
/* How many segments were no good there, and what was wrong with the first of them (its text names the segment or the object). */
unsigned secondcopy_bad(const struct secondcopy *c, const struct err **ret_why);

uint64_t secondcopy_fetched_bytes(const struct secondcopy *c);

/* Removes what a fetch that was killed has left. */
int secondcopy_sweep(const char *machine_dir, struct err *err);

#endif
