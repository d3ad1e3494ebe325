/* SPDX-License-Identifier: Apache-2.0
 *
 * How distinct changed bytes grow with time is taken as a power of it, D(t) = D(1) t^a, with a from the seconds and minutes that
 * were measured: 1 where every write goes to another block, near 0 where the same ones are written again and again. The line is a
 * queue that every second fills and empties.
 */
#include "hub/core/capacity.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "transport/base/clock.h"
#include "transport/base/mem.h"

#define MINUTE_SEC 60.0
#define HOUR_SEC 3600.0
#define DAY_SEC 86400.0
#define BISECTIONS 40u

struct growth {
    double first, exponent, most;
};

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static double at_share(const double *sorted, size_t n, double share)
{
    return sorted[(size_t)((double)(n - 1) * share)];
}

static double seconds_of(uint64_t usec)
{
    return (double)usec / (double)USEC_PER_SEC;
}

static struct growth growth_of(const struct capacity_input *in, double per_sec)
{
    double longer = in->per_minute_bytes ? (double)in->per_minute_bytes : (double)in->changed_bytes;
    double over = in->per_minute_bytes ? MINUTE_SEC : (double)in->seconds;
    struct growth g = {.first = per_sec, .exponent = 1, .most = (double)in->size_bytes};

    if (per_sec > 0 && longer > 0 && over > 1)
        g.exponent = log(longer / per_sec) / log(over);
    g.exponent = g.exponent < 0 ? 0 : g.exponent > 1 ? 1 : g.exponent;
    return g;
}

static double changed_in(const struct growth *g, double seconds)
{
    double bytes = g->first * pow(seconds < 1 ? 1 : seconds, g->exponent);

    return bytes < g->most ? bytes : g->most;
}

/* Points of a tier: from where the finer one ends, one each `every`. */
static double tier(const struct growth *g, double from, double to, double every)
{
    return to > from ? (to - from) / every * changed_in(g, every) : 0;
}

static void predict_vault(const struct capacity_input *in, const struct growth *g, double ratio, struct capacity *c)
{
    const struct policy *p = in->policy;
    double all = seconds_of(p->keep_all_usec), minute = seconds_of(p->keep_minute_usec),
           hour = seconds_of(p->keep_hour_usec), day = seconds_of(p->keep_day_usec);
    double interval = seconds_of(p->interval_usec), reached = all;

    c->first_copy_bytes = (double)in->used_bytes * ratio;
    /* Shorter intervals than a second were not measured: what changes in one cannot be more than that. */
    c->all_points_bytes = all / (interval < 1 ? 1 : interval) * changed_in(g, interval) * ratio;
    c->thinned_bytes = tier(g, reached, minute, MINUTE_SEC);
    reached = minute > reached ? minute : reached;
    c->thinned_bytes += tier(g, reached, hour, HOUR_SEC);
    reached = hour > reached ? hour : reached;
    c->thinned_bytes += tier(g, reached, day, DAY_SEC);
    c->thinned_bytes *= ratio;
    c->vault_bytes = c->first_copy_bytes + c->all_points_bytes + c->thinned_bytes;
    c->changed_per_day_bytes = changed_in(g, DAY_SEC);
}

/* Fills ages, one per second, sorted. */
static void simulate(const struct capacity_input *in, double ratio, double link, double *ages)
{
    double interval = seconds_of(in->policy->interval_usec), queue = 0;

    for (size_t i = 0; i < in->seconds; i++) {
        queue += (double)in->per_second[i] * ratio;
        ages[i] = interval + queue / link;
        queue = queue > link ? queue - link : 0;
    }
    qsort(ages, in->seconds, sizeof(*ages), by_size);
}

static double find_link(const struct capacity_input *in, double ratio, double peak, double *ages)
{
    double target = seconds_of(in->policy->rpo_target_usec), low = 1, high = peak + 1;

    for (unsigned i = 0; i < BISECTIONS; i++) {
        double link = (low + high) / 2;

        simulate(in, ratio, link, ages);
        *(at_share(ages, in->seconds, 0.99) > target ? &low : &high) = link;
    }
    return ceil(high);
}

static int check(const struct capacity_input *in, struct err *err)
{
    if (in->seconds >= 1 && in->seconds <= CAPACITY_SECONDS_MAX && in->compressed_permille <= 1000 &&
        in->used_bytes <= in->size_bytes && in->size_bytes <= INT64_MAX && in->link_bytes_per_sec <= INT64_MAX)
        return 0;
    err_set(err, ERR_INVALID, "this is no measurement of a disk");
    return err_hint(err, "Make one: leeward-agent --measure DEVICE --measure-time 10m > FILE");
}

int capacity_predict(const struct capacity_input *in, struct capacity *c, struct err *err)
{
    double ratio = (double)in->compressed_permille / 1000, sum = 0;
    AUTO_FREE double *values = NULL;
    struct growth g;

    *c = (struct capacity){0};
    if (check(in, err) < 0)
        return -1;
    values = mem_alloc(in->seconds, sizeof(*values));
    if (!values)
        return err_set(err, ERR_NOMEM, "no memory for a prediction");
    for (size_t i = 0; i < in->seconds; i++) {
        values[i] = (double)in->per_second[i] * ratio;
        sum += (double)in->per_second[i];
    }
    qsort(values, in->seconds, sizeof(*values), by_size);
    c->average_per_sec = sum / (double)in->seconds * ratio;
    c->p95_per_sec = at_share(values, in->seconds, 0.95);
    c->peak_per_sec = values[in->seconds - 1];
    g = growth_of(in, sum / (double)in->seconds);
    predict_vault(in, &g, ratio, c);
    c->link_bytes_per_sec =
        in->link_bytes_per_sec ? in->link_bytes_per_sec : (uint64_t)find_link(in, ratio, c->peak_per_sec, values);
    simulate(in, ratio, (double)c->link_bytes_per_sec, values);
    c->rpo_p50_sec = at_share(values, in->seconds, 0.5);
    c->rpo_p99_sec = at_share(values, in->seconds, 0.99);
    c->rpo_max_sec = values[in->seconds - 1];
    c->first_copy_sec = c->first_copy_bytes / (double)c->link_bytes_per_sec;
    return 0;
}
