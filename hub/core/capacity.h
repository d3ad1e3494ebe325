/* SPDX-License-Identifier: Apache-2.0
 *
 * What protecting a disk would take, from a measurement of what changes on it (`leeward-agent --measure`): line, vault, recovery-point
 * age. Pure. A measurement of minutes says nothing about nights and month ends; it is a beginning.
 */
#ifndef HUB_CORE_CAPACITY_H
#define HUB_CORE_CAPACITY_H

#include <stddef.h>
#include <stdint.h>

#include "hub/core/policy.h"

struct capacity_input {
    uint64_t size_bytes, used_bytes;
    const uint64_t *per_second; /* distinct bytes that changed in each second */
    size_t seconds;             /* 1 .. CAPACITY_SECONDS_MAX */
    uint64_t per_minute_bytes;  /* average of whole minutes; 0: there was none */
    uint64_t changed_bytes;     /* distinct, in all */
    uint64_t compressed_permille;
    const struct policy *policy;
    uint64_t link_bytes_per_sec; /* 0: what is needed is looked for */
};

#define CAPACITY_SECONDS_MAX (7u * 86400u)

struct capacity {
    /* After compression. */
    double average_per_sec, p95_per_sec, peak_per_sec;
    uint64_t
        link_bytes_per_sec; /* as given, or the smallest that holds the policy's target for the RPO in 99 of 100 seconds */
    double rpo_p50_sec, rpo_p99_sec, rpo_max_sec; /* with that link */
    double first_copy_sec;
    double first_copy_bytes, all_points_bytes, thinned_bytes, vault_bytes;
    double changed_per_day_bytes; /* distinct blocks of a day, before compression */
};

/* ERR_INVALID: numbers that cannot be. ERR_NOMEM. */
int capacity_predict(const struct capacity_input *input, struct capacity *ret_capacity, struct err *err);

#endif
