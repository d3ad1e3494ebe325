/* SPDX-License-Identifier: Apache-2.0
 *
 * Placement by comparison: one function says which of two candidates is better, the rest picks the best.
 */
#include "hub/core/placement.h"

#define SPOOL_FULL_PERMILLE 900
#define LOAD_STEP_PERMILLE 100

static uint64_t load_of(const struct placement_node *n)
{
    uint64_t worse = n->spool_permille > n->cpu_permille ? n->spool_permille : n->cpu_permille;

    return worse / LOAD_STEP_PERMILLE;
}

static bool node_is_better(const struct placement_node *a, const struct placement_node *b)
{
    bool a_full = a->spool_permille >= SPOOL_FULL_PERMILLE, b_full = b->spool_permille >= SPOOL_FULL_PERMILLE;

    if (a_full != b_full)
        return b_full;
    if (a->same_site != b->same_site)
        return a->same_site;
    if (load_of(a) != load_of(b))
        return load_of(a) < load_of(b);
    return a->machines < b->machines;
}

int placement_node(const struct placement_node *nodes, size_t count, size_t *ret_index, struct err *ret_why)
{
    size_t best = count;

    for (size_t i = 0; i < count; i++)
        if (nodes[i].online && !nodes[i].drain && (best == count || node_is_better(&nodes[i], &nodes[best])))
            best = i;
    if (best == count) {
        err_set(ret_why, ERR_UNAVAILABLE, "no process node is online (%zu known)", count);
        err_hint(ret_why, "Start a node, or end the draining of one: leeward node list");
        return 0;
    }
    *ret_index = best;
    return 1;
}

static bool vault_is_better(const struct placement_vault *a, const struct placement_vault *b)
{
    if (a->other_site != b->other_site)
        return a->other_site;
    if (a->free_bytes != b->free_bytes)
        return a->free_bytes > b->free_bytes;
    return a->machines < b->machines;
}

int placement_vault(
    const struct placement_vault *vaults, size_t count, uint64_t need_bytes, size_t *ret_index, struct err *ret_why)
{
    size_t best = count;
    bool too_small = false;

    for (size_t i = 0; i < count; i++) {
        if (!vaults[i].online || !vaults[i].accepting)
            continue;
        if (vaults[i].free_bytes < need_bytes)
            too_small = true;
        else if (best == count || vault_is_better(&vaults[i], &vaults[best]))
            best = i;
    }
    if (best < count) {
        *ret_index = best;
        return 1;
    }
    if (too_small) {
        err_set(ret_why, ERR_NOSPACE, "no vault has %llu MB free", (unsigned long long)(need_bytes / 1000000));
        err_hint(ret_why, "Free space in a vault or add one: leeward vault list");
        return 0;
    }
    err_set(ret_why, ERR_UNAVAILABLE, "no vault is online and accepting (%zu known)", count);
    err_hint(ret_why, "Start a vault, or free space in one: leeward vault list");
    return 0;
}
