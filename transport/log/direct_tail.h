/* SPDX-License-Identifier: Apache-2.0
 *
 * The growing end of a file, written past the page cache: for much that is written once and not read soon. Finding and filling a page of
 * the cache for each 4 KiB costs the processor more than all other handling of a byte together, and pushes out what is read.
 * Bytes gather in an aligned buffer and go to the disk in large pieces (open(2), O_DIRECT); the file is complete only after
 * direct_tail_flush. One thread.
 */
#ifndef TRANSPORT_LOG_DIRECT_TAIL_H
#define TRANSPORT_LOG_DIRECT_TAIL_H

#include <stdint.h>
#include <sys/uio.h>

#include "transport/base/err.h"
#include "transport/base/mem.h"

struct direct_tail;

/* For the file fd, open for reading and writing, that ends at byte `end`; fd stays the caller's and must stay open. Returns 1, or 0
 * when the file system does not do it. */
int direct_tail_new(int fd, uint64_t end, struct direct_tail **ret_tail, struct err *err);
void direct_tail_free(struct direct_tail *t); /* what was not flushed is dropped; NULL is allowed */
DEFINE_AUTO(direct_tail, direct_tail_free)

/* Takes all of iov. After a failure of either the file's end is unknown. */
int direct_tail_append(struct direct_tail *t, const struct iovec *iov, unsigned count, struct err *err);
/* All that was appended is in the file; nothing is durable by it. */
int direct_tail_flush(struct direct_tail *t, struct err *err);

#endif
