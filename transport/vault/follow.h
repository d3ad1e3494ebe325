/* SPDX-License-Identifier: Apache-2.0
 *
 * Following a branch: what a replica writes to it is taken over into the machine's main line, pass by pass, while the replica runs on. So its
 * recovery points go on behind those of the source: one list, one retention, every point opened as any other. Records are appended as they are, neither
 * decoded nor encrypted again.
 *
 * A pass takes what the branch's log has up to its last mark, which is a flush of the replica's disk: the point is what a power failure
 * would have left at that moment. The first pass takes the main line back to the point that the branch stands on, where it had gone on behind it.
 *
 * The file `followed` in the branch's folder says how far the main line has it. It is written behind the pass: after a crash between both
 * the records since are appended once more, which changes nothing of what the disks hold.
 */
#ifndef TRANSPORT_VAULT_FOLLOW_H
#define TRANSPORT_VAULT_FOLLOW_H

#include <stdint.h>

#include "transport/base/err.h"

struct store;

struct follow_result {
    uint64_t sequence;       /* of the point that the pass made */
    uint64_t records, bytes; /* that the branch had since the pass before; bytes of its disks */
};

/* One pass, on the open store. generation: of the replica; lower ones are refused from now on (P7). *epoch: of the pass before, 0: none in this
 * store since it was opened; 0 after a failure. ERR_REFUSED: the generation is over, or another stream has begun; ERR_NOT_FOUND, ERR_CORRUPT: no such
 * branch, or its point is gone; ERR_NOSPACE. */
int follow_branch(struct store *s, const char *branch, uint64_t generation, uint64_t *epoch,
    struct follow_result *ret_result, struct err *err);

#endif
