/* SPDX-License-Identifier: Apache-2.0
 *
 * Health of machines, nodes and vaults: one level with its worst cause and what to do about it. Pure; times are passed in.
 */
#ifndef HUB_CORE_HEALTH_H
#define HUB_CORE_HEALTH_H

#include <stdbool.h>
#include <stdint.h>

#include "hub/core/machine_state.h"

enum health_level { HEALTH_HEALTHY, HEALTH_UNKNOWN, HEALTH_WARNING, HEALTH_CRITICAL };

struct health {
    enum health_level level;
    char cause[256]; /* "" when healthy */
    char remedy[256];
};

/* How long after its last word a peer counts as silent. */
#define HEALTH_SILENT_USEC (30ULL * 1000000)

struct health_machine {
    enum machine_state state;
    uint64_t silent_usec; /* since its agent was heard; UINT64_MAX: never */
    uint64_t rpo_usec, rpo_target_usec;
    /* Since the last point of the kind, or since protection began; interval 0: not scheduled. */
    uint64_t filesystem_age_usec, filesystem_interval_usec;
    uint64_t application_age_usec, application_interval_usec;
    int64_t clock_skew_usec;
    const char *agent_state, *agent_cause, *agent_remedy;
    bool node_online, vault_online, vault_accepting;
    uint64_t initial_done_bytes, initial_total_bytes;
};

struct health_node {
    uint64_t silent_usec;
    uint64_t spool_bytes, spool_limit_bytes;
    const char *cause, *remedy; /* as the node reports */
};

struct health_vault {
    uint64_t silent_usec;
    bool accepting;
    uint64_t free_bytes, capacity_bytes;
    const char *cause, *remedy;
};

void health_of_machine(const struct health_machine *in, struct health *ret_health);
void health_of_node(const struct health_node *in, struct health *ret_health);
void health_of_vault(const struct health_vault *in, struct health *ret_health);
const char *health_level_name(enum health_level level); /* "healthy", "warning", "critical", "unknown" */

#endif
