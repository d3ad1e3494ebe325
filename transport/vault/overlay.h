/* SPDX-License-Identifier: Apache-2.0
 *
 * Lays several runs over each other, newest on top, and walks what is visible, in order and without keeping it in memory.
 * That is how runs are merged.
 */
#ifndef TRANSPORT_VAULT_OVERLAY_H
#define TRANSPORT_VAULT_OVERLAY_H

#include <stddef.h>
#include <stdint.h>

#include "transport/base/err.h"
#include "transport/base/mem.h"
#include "transport/vault/run.h"

struct overlay;

/* runs: newest first; they stay the caller's and must outlive the overlay. `hidden` (NULL allowed) is told each entry of
 * which a part is covered by a younger one, and the highest sequence that covers a part; -1 from it ends the walk. */
int overlay_new(struct run *const *runs, size_t count,
    int (*hidden)(void *arg, const struct extent *e, uint64_t dead, struct err *err), void *arg,
    struct overlay **ret_overlay, struct err *err);
void overlay_free(struct overlay *o);
DEFINE_AUTO(overlay, overlay_free)
/* The next visible extent. 1; 0 at the end; -1. */
int overlay_next(struct overlay *o, struct extent *ret_extent, struct err *err);

#endif
