/* SPDX-License-Identifier: Apache-2.0
 *
 * How fast the agent may go: bytes per second, at all times or less in working hours, and a share of the CPU. The engine's thread
 * pays for each batch and waits here until it is paid for; it never does so inside a freeze.
 */
#ifndef MOBILITY_SYNC_PACE_H
#define MOBILITY_SYNC_PACE_H

#include <stdbool.h>
#include <stdint.h>

#include "transport/proto/workhours.h"

struct pace_rules {
    uint64_t rate_bytes_per_sec;        /* 0: none */
    uint64_t window_rate_bytes_per_sec; /* inside a window; 0: none */
    uint32_t cpu_percent;               /* of one processor, 0: none */
    struct workhours hours;
};

struct pace {
    struct pace_rules rules;
    uint64_t bytes_ready_usec, cpu_ready_usec; /* monotonic: when what was used is paid for */
    uint64_t cpu_seen_usec;                    /* of the process, as paid for */
    uint64_t cpu_since_usec;                   /* monotonic: when it was seen */
    uint64_t waited_bytes_usec, waited_hours_usec,
        waited_cpu_usec; /* monotonic: when each last made it wait; 0: never */
    /* Called while it is paid: may set other rules, which end what the old ones made to wait. NULL: none come. */
    void (*heed)(void *arg);
    void *heed_arg;
};

void pace_set_rules(struct pace *pace, const struct pace_rules *rules);
/* Pays for bytes and for the CPU used since the last call; sleeps while go_on(arg) until all is paid for. */
void pace_pay(struct pace *pace, uint64_t bytes, bool (*go_on)(void *arg), void *arg);
/* The CPU share is used up now and again: work that others can do is better left to them. */
bool pace_cpu_is_short(const struct pace *pace);
/* "throttle", "working hours", "CPU share" when that made the agent wait within the last seconds, else "". */
const char *pace_slowed_by(const struct pace *pace);

#endif
