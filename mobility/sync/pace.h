/* SPDX-License-Identifier: Apache-2.0
 *
 * How fast the agent may go: bytes per second, at all times or less in working hours, and a share of the CPU. The engine's thread
 * pays for each batch and waits here until it is paid for; it never does so inside a freeze.
 */
#ifndef MOBILITY_SYNC_PACE_H
#define MOBILITY_SYNC_PACE_H

#include <stdbool.h>
#include <stdint.h>

#define PACE_WINDOWS_MAX 16u
#define PACE_OFFSETS_MAX 8u

/* Days are bits, Monday is 1. A window that ends before it begins goes on until that time of the next day. */
struct pace_window {
    uint8_t days;
    uint16_t from_minute, to_minute; /* of the day, 0..1440 */
};

/* Local time of the policy's zone is UTC plus seconds, from that moment on. Ascending. */
struct pace_offset {
    uint64_t from_utc_usec;
    int32_t seconds;
};

struct pace_rules {
    uint64_t rate_bytes_per_sec;        /* 0: none */
    uint64_t window_rate_bytes_per_sec; /* inside a window; 0: none */
    uint32_t cpu_percent;               /* of one processor, 0: none */
    uint32_t window_count, offset_count;
    struct pace_window windows[PACE_WINDOWS_MAX];
    struct pace_offset offsets[PACE_OFFSETS_MAX];
};

/* Whether the moment lies in a window. */
bool pace_is_working_hour(const struct pace_rules *rules, uint64_t utc_usec);
/* Bytes per second that hold at the moment; 0: no bound. */
uint64_t pace_rate_at(const struct pace_rules *rules, uint64_t utc_usec);

struct pace {
    struct pace_rules rules;
    uint64_t bytes_ready_usec, cpu_ready_usec; /* monotonic: when what was used is paid for */
    uint64_t cpu_seen_usec;                    /* of the process, as paid for */
    uint64_t waited_bytes_usec, waited_hours_usec,
        waited_cpu_usec; /* monotonic: when each last made it wait; 0: never */
};

void pace_set_rules(struct pace *pace, const struct pace_rules *rules);
/* Pays for bytes and for the CPU used since the last call; sleeps while go_on(arg) until all is paid for. */
void pace_pay(struct pace *pace, uint64_t bytes, bool (*go_on)(void *arg), void *arg);
/* The CPU share is used up now and again: work that others can do is better left to them. */
bool pace_cpu_is_short(const struct pace *pace);
/* "throttle", "working hours", "CPU share" when that made the agent wait within the last seconds, else "". */
const char *pace_slowed_by(const struct pace *pace);

#endif
