/* SPDX-License-Identifier: Apache-2.0
 *
 * When a drill on a schedule begins: so long after the one before, inside a window if there is one. Pure; the caller knows the time, and what it
 * is at the place of the window.
 */
#ifndef HUB_CORE_DRILL_SCHEDULE_H
#define HUB_CORE_DRILL_SCHEDULE_H

#include <stdbool.h>

#include "hub/core/work_hours.h"

/* day: 0 is Monday; minute of that day. No windows: always. One that ends before it begins reaches into the next day. */
bool drill_window_is_open(const struct work_window *windows, size_t count, unsigned day, unsigned minute);

struct drill_moment {
    uint64_t last_start_usec; /* 0: never */
    uint64_t interval_usec, now_usec;
    unsigned day, minute; /* at the place of the window */
};
bool drill_is_due(const struct drill_moment *m, const struct work_window *windows, size_t count);

#endif
