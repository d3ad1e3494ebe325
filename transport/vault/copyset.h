/* SPDX-License-Identifier: Apache-2.0
 *
 * Blocks of one disk that a copy has to compare: a bit for each 64 KiB, in pages that are there where something is marked. Whoever marks
 * more than fits compares all of the disk instead.
 */
#ifndef TRANSPORT_VAULT_COPYSET_H
#define TRANSPORT_VAULT_COPYSET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "transport/base/err.h"

#define COPYSET_PAGES_MAX 4096u /* of 4 KiB, each for 2 GiB of the disk: what a machine's copy may hold of it */

struct copyset {
    uint64_t **pages; /* NULL: nothing is marked there */
    size_t page_cap, page_count;
    uint64_t count; /* blocks that are marked */
};

/* Marks blocks from..to-1. 1; 0: too much is marked, the set is of no use any more; -1: no memory. */
int copyset_mark(struct copyset *s, uint64_t from, uint64_t to, struct err *err);
/* The first block that is marked, from that one on; UINT64_MAX: none. */
uint64_t copyset_next(const struct copyset *s, uint64_t from);
/* Marks nothing, holds no memory. */
void copyset_clear(struct copyset *s);

#endif
