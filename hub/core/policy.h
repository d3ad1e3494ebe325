/* SPDX-License-Identifier: Apache-2.0
 *
 * What a protection policy may say. Pure: no SQL, no clock.
 */
#ifndef HUB_CORE_POLICY_H
#define HUB_CORE_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#include "transport/base/err.h"

struct policy {
    uint64_t interval_usec;            /* 100 ms .. 1 day */
    uint64_t filesystem_interval_usec; /* 0 or 10 s .. 30 days */
    uint64_t app_interval_usec;        /* 0 or 10 s .. 30 days */
    uint64_t rpo_target_usec;          /* >= interval */
    uint64_t keep_all_usec, keep_minute_usec, keep_hour_usec,
        keep_day_usec;           /* ascending; 0: tier off; at most 10 years */
    uint64_t keep_tagged_usec;   /* 0: for ever; at most 10 years */
    uint64_t lock_usec;          /* retention lock; 0: none; at most 10 years */
    uint64_t freeze_budget_usec; /* 10 ms .. 10 s */
    uint32_t max_rounds;         /* 1 .. 64 */
    bool may_freeze;
    uint32_t compress_level; /* 0 .. 19 */
    bool compress_at_agent;
    uint64_t throttle_bytes_per_sec;            /* 0 or >= 64 KiB */
    const char *work_hours;                     /* work_hours.h; NULL or "": none */
    uint64_t work_hours_throttle_bytes_per_sec; /* as the other; more than 0 with work_hours */
    uint64_t cpu_limit_percent;                 /* of one processor: 0 or 1 .. 10,000 */
    bool yield_to_workload;
};

/* What a machine gets when nobody chose: a point every second, all kept for a day, then a minute's, hour's
 * and day's. */
void policy_default(struct policy *ret_policy);
/* Whether points would be kept for less long than before, or locked for less long. */
bool policy_shortens(const struct policy *before, const struct policy *after);
/* ERR_INVALID with the field's name first ("interval_usec: ...") and a correction. */
int policy_check(const struct policy *policy, struct err *err);

#endif
