/* SPDX-License-Identifier: Apache-2.0
 *
 * Reads one segment from its start to its end in large pieces, past the page cache where the file system can do that: a scrub
 * must see what is on the medium, and must not push out what readers need. One thread per sweep.
 */
#ifndef TRANSPORT_VAULT_SEGSWEEP_H
#define TRANSPORT_VAULT_SEGSWEEP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "transport/base/err.h"
#include "transport/base/mem.h"
#include "transport/log/segment.h"

#define SEGSWEEP_PIECE (1u << 20)
#define SEGSWEEP_WANT_MAX (128u << 10) /* more than a record with its payload */

struct segsweep;

/* direct: past the page cache, for segments that are not written any more. ERR_NOT_FOUND, ERR_CORRUPT (file header). */
int segsweep_open(int dirfd, uint64_t number, bool direct, struct segsweep **ret_sweep, struct err *err);
void segsweep_close(struct segsweep *s); /* NULL is allowed */
DEFINE_AUTO(segsweep, segsweep_close)
const struct segment_info *segsweep_info(const struct segsweep *s);
/* Offsets here are those of the file. The place in the log (segment.h) that one of them is, which differs in a rewritten segment. */
uint64_t segsweep_place(const struct segsweep *s, uint64_t offset);
/* The bytes from `offset` on, at least `want` of them (<= SEGSWEEP_WANT_MAX) unless the file ends before. Offsets never go back.
 * *ret_data is good until the next call. */
int segsweep_look(
    struct segsweep *s, uint64_t offset, size_t want, const uint8_t **ret_data, size_t *ret_have, struct err *err);

#endif
