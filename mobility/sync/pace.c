/* SPDX-License-Identifier: Apache-2.0
 *
 * Two buckets that fill by the clock, one of bytes and one of CPU time. What is over is slept off in short steps, so that a lost
 * stream or the end of the agent need not wait. The CPU is that of the whole process by getrusage(2): compression, hashing, TLS.
 */
#include "mobility/sync/pace.h"

#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "transport/base/clock.h"

#define BURST_USEC (USEC_PER_SEC / 4)
#define STEP_USEC (50 * USEC_PER_MSEC)
/* A reason counts for this long after it last made the agent wait. */
#define RECENT_USEC (5 * USEC_PER_SEC)

static uint64_t cpu_usec(void)
{
    struct rusage u;

    if (getrusage(RUSAGE_SELF, &u) < 0)
        return 0;
    return (uint64_t)u.ru_utime.tv_sec * USEC_PER_SEC + (uint64_t)u.ru_utime.tv_usec +
           (uint64_t)u.ru_stime.tv_sec * USEC_PER_SEC + (uint64_t)u.ru_stime.tv_usec;
}

void pace_set_rules(struct pace *p, const struct pace_rules *rules)
{
    p->rules = *rules;
    p->cpu_seen_usec = cpu_usec();
    p->cpu_since_usec = clock_mono_usec();
    p->cpu_ready_usec = p->bytes_ready_usec = 0;
}

/* What is charged was used since then: the time from there on pays for it. */
static void charge(uint64_t *ready_usec, uint64_t since, uint64_t cost_usec)
{
    if (*ready_usec + BURST_USEC < since)
        *ready_usec = since - BURST_USEC;
    *ready_usec += cost_usec;
}

static void charge_all(struct pace *p, uint64_t bytes, uint64_t now)
{
    const struct pace_rules *r = &p->rules;
    uint64_t rate = workhours_rate_at(&r->hours, r->rate_bytes_per_sec, r->window_rate_bytes_per_sec, clock_utc_usec()),
             cpu = cpu_usec();

    if (rate > 0)
        charge(&p->bytes_ready_usec, now, bytes * USEC_PER_SEC / rate);
    if (p->rules.cpu_percent > 0 && cpu > p->cpu_seen_usec)
        charge(&p->cpu_ready_usec, p->cpu_since_usec, (cpu - p->cpu_seen_usec) * 100 / p->rules.cpu_percent);
    p->cpu_seen_usec = cpu;
    p->cpu_since_usec = now;
    if (rate > 0 && p->bytes_ready_usec > now)
        *(rate < p->rules.rate_bytes_per_sec || p->rules.rate_bytes_per_sec == 0 ? &p->waited_hours_usec
                                                                                 : &p->waited_bytes_usec) = now;
    if (p->rules.cpu_percent > 0 && p->cpu_ready_usec > now)
        p->waited_cpu_usec = now;
}

static uint64_t ready_usec(struct pace *p)
{
    if (p->heed)
        p->heed(p->heed_arg);
    return p->bytes_ready_usec > p->cpu_ready_usec ? p->bytes_ready_usec : p->cpu_ready_usec;
}

void pace_pay(struct pace *p, uint64_t bytes, bool (*go_on)(void *), void *arg)
{
    uint64_t now = clock_mono_usec(), ready;

    charge_all(p, bytes, now);
    while ((ready = ready_usec(p)) > now && go_on(arg)) {
        uint64_t pause = ready - now < STEP_USEC ? ready - now : STEP_USEC;
        struct timespec ts = {.tv_nsec = (long)(pause * 1000)};

        (void)nanosleep(&ts, NULL);
        now = clock_mono_usec();
    }
}

static bool is_recent(uint64_t usec)
{
    return usec > 0 && usec + RECENT_USEC > clock_mono_usec();
}

bool pace_cpu_is_short(const struct pace *p)
{
    return is_recent(p->waited_cpu_usec);
}

const char *pace_slowed_by(const struct pace *p)
{
    return is_recent(p->waited_hours_usec)   ? "working hours"
           : is_recent(p->waited_bytes_usec) ? "throttle"
           : is_recent(p->waited_cpu_usec)   ? "CPU share"
                                             : "";
}
