/* SPDX-License-Identifier: Apache-2.0
 *
 * Which node carries a machine and which vault keeps it; and which machines are to go to another node. Pure: the caller brings
 * the candidates and carries out what comes back.
 */
#ifndef HUB_CORE_PLACEMENT_H
#define HUB_CORE_PLACEMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "transport/base/err.h"

#define PLACEMENT_NONE SIZE_MAX

struct placement_node {
    bool online, drain, same_site; /* same_site: for placement_node */
    uint64_t machines;
    uint64_t spool_permille; /* of its limit */
    uint64_t cpu_permille;   /* of one processor */
    /* for placement_plan */
    bool gone;        /* silent for so long that its machines must not wait for it */
    uint32_t zone;    /* site; 0: none */
    uint64_t up_usec; /* since its session began */
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

/* ---- moving ---- */

struct placement_machine {
    size_t node;                  /* index; PLACEMENT_NONE: it has none */
    size_t pin;                   /* the node that somebody chose for it; PLACEMENT_NONE: any */
    uint32_t zone;                /* its site; 0: none */
    uint64_t churn_bytes_per_sec; /* of the last minutes */
    uint64_t settled_usec;        /* since it came to its node */
    bool moving;                  /* a move is under way already, or other disks are written from it */
};

enum placement_reason {
    PLACEMENT_GONE,    /* its node is gone, or it has none */
    PLACEMENT_DRAIN,   /* its node is being drained */
    PLACEMENT_PIN,     /* it is not where it is pinned to, and could be */
    PLACEMENT_ZONE,    /* a node of its own site is there */
    PLACEMENT_BALANCE, /* its node has much more to do than another one */
};
const char *placement_reason_name(enum placement_reason reason);

struct placement_fleet {
    const struct placement_node *nodes;
    size_t node_count;
    const struct placement_machine *machines;
    size_t machine_count;
    bool settled;                /* nodes had the time to report: only then is a silent one believed to be gone */
    uint64_t since_balance_usec; /* since the last move for balance alone */
};

struct placement_move {
    size_t machine, from, to;
    enum placement_reason reason;
};

/* What is to move now, the most urgent first; at most max. Returns how many, or -1 (ERR_NOMEM).
 *
 * All machines of a node that is gone move at once, those of a node that is drained few at a time; a pin counts as long as that
 * node can be used, and again when it can. Without need, machines move one by one with pauses (since_balance_usec): home to a node
 * of their site, and from a node with more to one with less to do, only if the difference is large, only if the move makes it smaller
 * by what the machine brings, never one that came a short while ago, and never a pinned one. So equal nodes stay as they are, and
 * noise moves nothing. Under equal conditions the result is the same. */
int placement_plan(const struct placement_fleet *fleet, struct placement_move *ret_moves, size_t max, struct err *err);

#endif
