/* SPDX-License-Identifier: Apache-2.0
 *
 * Which sectors of which disks something later overwrites: what a walk from the end of a log to its beginning needs, to tell the
 * records that nobody will ever read. A table of 64 KiB blocks with one bit per sector, of bounded size: when it is full, further
 * ranges are not noted. So it never claims too much, and may claim too little.
 *
 * Change sets are numbered as the walk meets them: the number grows towards the beginning of the log. For each block the table knows a
 * set such that it and those before it in the log overwrite all that is noted; what lies behind that set is not needed for it.
 */
#ifndef TRANSPORT_NODE_COVERED_H
#define TRANSPORT_NODE_COVERED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "transport/base/mem.h"

struct covered;

/* blocks_max: most blocks of 64 KiB that it notes; 32 bytes of memory each, taken as needed. NULL: no memory. */
struct covered *covered_new(size_t blocks_max);
void covered_free(struct covered *c); /* NULL is allowed */
DEFINE_AUTO(covered, covered_free)

/* start and length: bytes, multiples of 512, length > 0, disk <= RECORD_DISK_MAX, start + length <= 2^62. set: never lower than at the
 * call before, unless everything was forgotten. */
void covered_add(struct covered *c, uint32_t disk, uint64_t start, uint64_t length, uint32_t set);
/* Is every sector of the range in it? A range of more than 256 MiB never is. *ret_set: the sets up to this number are not needed for that, apart
 * from it; where parts of a block were written one by one it may be lower than it could be. */
bool covered_has(const struct covered *c, uint32_t disk, uint64_t start, uint64_t length, uint32_t *ret_set);
/* Forgets everything; quick. */
void covered_reset(struct covered *c);

#endif
