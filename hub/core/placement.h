/* SPDX-License-Identifier: Apache-2.0
 *
 * Which node carries a machine and which vault keeps it. Pure: the caller brings the candidates.
 */
#ifndef HUB_CORE_PLACEMENT_H
#define HUB_CORE_PLACEMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "transport/base/err.h"

struct placement_node {
    bool online, drain, same_site;
    uint64_t machines;
    uint64_t spool_permille; /* of its limit */
    uint64_t cpu_permille;
};

struct placement_vault {
    bool online, accepting, other_site;
    uint64_t machines;
    uint64_t free_bytes;
};

/* The best one. 1: *ret_index; 0: none will do now, and why is in *ret_why with a correction. Nodes: at the machine's site
 * first, then the least loaded by the worse of spool and CPU (in tenths, so that noise does not decide), then by number
 * of machines. A full spool (>= 900) comes last of all. */
int placement_node(const struct placement_node *nodes, size_t count, size_t *ret_index, struct err *ret_why);
/* Vaults: at another site than the machine first, then the one with most free space. One that has less than need_bytes free
 * is no candidate (ERR_NOSPACE when that is the reason). */
int placement_vault(
    const struct placement_vault *vaults, size_t count, uint64_t need_bytes, size_t *ret_index, struct err *ret_why);

#endif
