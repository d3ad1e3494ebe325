/* SPDX-License-Identifier: Apache-2.0
 *
 * Reads the content of records of one log, checked: the record at the place that an extent names must be the right one, its
 * tag must fit and its plaintext must have the hash that was made on the source (P5). Anything else is an error, never
 * other data. Small reads go through a cache of decoded blocks.
 *
 * Safe for any number of threads.
 */
#ifndef TRANSPORT_VAULT_RECORDREAD_H
#define TRANSPORT_VAULT_RECORDREAD_H

#include <stddef.h>
#include <stdint.h>

#include "transport/base/err.h"
#include "transport/base/mem.h"
#include "transport/vault/keyring.h"
#include "transport/vault/extent.h"

struct recordread;

/* dirfd: folder of the segments (a copy is kept). key NULL: the records are not encrypted. cache_bytes 0: 64 MiB. */
int recordread_new(
    int dirfd, const struct keyring *keys, size_t cache_bytes, struct recordread **ret_reader, struct err *err);
void recordread_free(struct recordread *rr); /* NULL allowed; with no reader in it */
DEFINE_AUTO(recordread, recordread_free)

/* n bytes from byte `start` of the disk on, all of them within e. */
int recordread_get(
    struct recordread *rr, const struct extent *e, uint64_t start, size_t n, uint8_t *out, struct err *err);
/* The record's header alone, checked as above. */
int recordread_header(struct recordread *rr, const struct extent *e, struct record *ret_record, struct err *err);

#endif
