/* SPDX-License-Identifier: Apache-2.0
 *
 * What promote.c, promote_revert.c and promote_finish.c share and nobody else sees.
 */
#ifndef TRANSPORT_VAULT_PROMOTE_PRIVATE_H
#define TRANSPORT_VAULT_PROMOTE_PRIVATE_H

#include <stdbool.h>

#include "transport/vault/promote.h"
#include "transport/vault/store.h"
#include "transport/vault/view.h"

/* The file `promotion` in the branch's folder: what is to become of its segments 1..segments. */
struct promotion {
    struct ident branch;
    struct ident machine;
    uint64_t after_segment; /* of the main line: segment n becomes after_segment + n */
    uint64_t first_sequence;
    uint64_t generation, epoch;
    uint64_t point_utc_usec;
    uint64_t segments;
};

/* promote_finish.c: durable when it returns. */
int promote_note(const char *branch_dir, const struct promotion *p, struct err *err);

/* promote_revert.c: appends change sets after which the main line holds what `base` does, under that generation and epoch. The last one is a
 * recovery point if as_point (and there is one even if nothing is to be changed), else none is. */
struct revert_spec {
    const struct view *base;
    const struct store_opened *opened; /* of the store's stream; its nonce stream is used */
    uint64_t generation, epoch;
    bool as_point;
};
int promote_revert(struct store *s, const struct revert_spec *spec, struct err *err);

#endif
