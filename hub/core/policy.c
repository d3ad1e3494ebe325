/* SPDX-License-Identifier: Apache-2.0
 *
 * The bounds of a policy, as a table, and what must hold between its fields.
 */
#include "hub/core/policy.h"

#include <inttypes.h>
#include <stddef.h>

#include "hub/core/node_throttle.h"
#include "hub/core/work_hours.h"
#include "transport/base/clock.h"
#include "transport/base/mem.h"

#define MINUTE_USEC (60 * USEC_PER_SEC)
#define DAY_USEC (24 * 60 * MINUTE_USEC)
#define TEN_YEARS_USEC (3653 * DAY_USEC)

struct bound {
    const char *field;
    size_t offset;
    uint64_t min, max;
    bool zero; /* 0 is allowed besides: off */
};

#define BOUND(member, min_, max_, zero_)                                                                               \
    {                                                                                                                  \
#member, offsetof(struct policy, member), (min_), (max_), (zero_)                                              \
    }
static const struct bound bounds[] = {
    BOUND(interval_usec, 100 * USEC_PER_MSEC, DAY_USEC, false),
    BOUND(filesystem_interval_usec, 10 * USEC_PER_SEC, 30 * DAY_USEC, true),
    BOUND(app_interval_usec, 10 * USEC_PER_SEC, 30 * DAY_USEC, true),
    BOUND(rpo_target_usec, USEC_PER_SEC, 30 * DAY_USEC, false),
    BOUND(keep_all_usec, MINUTE_USEC, TEN_YEARS_USEC, false),
    BOUND(keep_minute_usec, MINUTE_USEC, TEN_YEARS_USEC, true),
    BOUND(keep_hour_usec, MINUTE_USEC, TEN_YEARS_USEC, true),
    BOUND(keep_day_usec, MINUTE_USEC, TEN_YEARS_USEC, true),
    BOUND(keep_tagged_usec, MINUTE_USEC, TEN_YEARS_USEC, true),
    BOUND(lock_usec, MINUTE_USEC, TEN_YEARS_USEC, true),
    BOUND(freeze_budget_usec, 10 * USEC_PER_MSEC, 10 * USEC_PER_SEC, false),
    BOUND(throttle_bytes_per_sec, THROTTLE_MIN, INT64_MAX, true),
    BOUND(work_hours_throttle_bytes_per_sec, THROTTLE_MIN, INT64_MAX, true),
    BOUND(cpu_limit_percent, 1, 10000, true),
};

void policy_default(struct policy *ret_policy)
{
    *ret_policy = (struct policy){
        .interval_usec = USEC_PER_SEC,
        .rpo_target_usec = 15 * USEC_PER_SEC,
        .keep_all_usec = DAY_USEC,
        .keep_minute_usec = 3 * DAY_USEC,
        .keep_hour_usec = 14 * DAY_USEC,
        .keep_day_usec = 90 * DAY_USEC,
        .freeze_budget_usec = 200 * USEC_PER_MSEC,
        .max_rounds = 12,
        .may_freeze = true,
        .compress_at_agent = true,
        .compress_level = 1,
        .yield_to_workload = true,
    };
}

static int check_bounds(const struct policy *policy, struct err *err)
{
    for (size_t i = 0; i < ARRAY_LEN(bounds); i++) {
        const struct bound *b = &bounds[i];
        uint64_t v = *(const uint64_t *)((const char *)policy + b->offset);

        if ((v == 0 && b->zero) || (v >= b->min && v <= b->max))
            continue;
        err_set(err, ERR_INVALID, "%s: %" PRIu64 " is out of range", b->field, v);
        return err_hint(err, "Choose %" PRIu64 " to %" PRIu64 "%s.", b->min, b->max, b->zero ? ", or 0 for none" : "");
    }
    return 0;
}

static int check_tiers(const struct policy *policy, struct err *err)
{
    const uint64_t tiers[] = {
        policy->keep_all_usec, policy->keep_minute_usec, policy->keep_hour_usec, policy->keep_day_usec};
    static const char *const names[] = {"keep_all_usec", "keep_minute_usec", "keep_hour_usec", "keep_day_usec"};
    uint64_t longest = 0;

    for (size_t i = 0; i < ARRAY_LEN(tiers); i++) {
        if (tiers[i] != 0 && tiers[i] < longest) {
            err_set(err, ERR_INVALID, "%s: shorter than a finer tier", names[i]);
            return err_hint(err, "Each coarser tier must reach at least as far back as the finer ones, or be 0.");
        }
        longest = tiers[i] > longest ? tiers[i] : longest;
    }
    return 0;
}

int policy_check(const struct policy *policy, struct err *err)
{
    if (check_bounds(policy, err) < 0 || check_tiers(policy, err) < 0 ||
        work_hours_check(policy->work_hours, policy->work_hours_throttle_bytes_per_sec, err) < 0)
        return -1;
    if (policy->rpo_target_usec < policy->interval_usec) {
        err_set(err, ERR_INVALID, "rpo_target_usec: shorter than the interval between points");
        return err_hint(err, "Raise the target or shorten interval_usec.");
    }
    if (policy->max_rounds < 1 || policy->max_rounds > 64) {
        err_set(err, ERR_INVALID, "max_rounds: %u is out of range", policy->max_rounds);
        return err_hint(err, "Choose 1 to 64.");
    }
    if (policy->compress_level > 19) {
        err_set(err, ERR_INVALID, "compress_level: %u is out of range", policy->compress_level);
        return err_hint(err, "Choose 0 (as sent) to 19.");
    }
    return 0;
}

/* A tier that is off reaches back no further than the one before it; tagged points without a limit are kept for ever. */
bool policy_shortens(const struct policy *before, const struct policy *after)
{
    const struct {
        uint64_t before, after;
        bool zero_is_forever;
    } rows[] = {
        {before->keep_all_usec, after->keep_all_usec, false},
        {before->keep_minute_usec, after->keep_minute_usec, false},
        {before->keep_hour_usec, after->keep_hour_usec, false},
        {before->keep_day_usec, after->keep_day_usec, false},
        {before->keep_tagged_usec, after->keep_tagged_usec, true},
        {before->lock_usec, after->lock_usec, false},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint64_t was = rows[i].zero_is_forever && rows[i].before == 0 ? UINT64_MAX : rows[i].before;
        uint64_t is = rows[i].zero_is_forever && rows[i].after == 0 ? UINT64_MAX : rows[i].after;

        if (is < was)
            return true;
    }
    return false;
}
