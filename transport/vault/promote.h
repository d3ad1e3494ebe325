/* SPDX-License-Identifier: Apache-2.0
 *
 * Promotion: a branch becomes the machine's main line. Its segments become the next segments of the main log, without a byte of their data
 * being copied or moved: only what numbers them is written anew. Before them stands what takes the main line back to
 * the branch's point, where it had gone on. So the log stays one line: all points before stay as they were, those of the old
 * line behind the branch's point included, and the branch's last content is the newest point.
 *
 *   promote_prepare      on the open store: raises the generation, takes back, seals, and notes what is to be done; that note,
 *                        once durable, is the moment from which the promotion happens, whatever crashes
 *   promote_finish       on the closed store: does it; store_open calls it too, so a crash in the middle is of no consequence
 */
#ifndef TRANSPORT_VAULT_PROMOTE_H
#define TRANSPORT_VAULT_PROMOTE_H

#include <stdint.h>

#include "transport/base/err.h"
#include "transport/base/ident.h"
#include "transport/log/record.h"

struct store;

/* generation: a new one; data of lower ones is refused from now on, whatever becomes of the promotion (P7). The branch must not be open.
 * ERR_CONFLICT: it is; ERR_REFUSED: the generation is not new; ERR_NOT_FOUND, ERR_CORRUPT: no such branch, or its point is gone;
 * ERR_NOSPACE. */
int promote_prepare(struct store *s, const char *branch, uint64_t generation, struct err *err);
/* Finishes what was noted; 0 too when nothing was. The store must be closed. */
int promote_finish(const char *machine_dir, const struct ident *machine, struct err *err);

#endif
