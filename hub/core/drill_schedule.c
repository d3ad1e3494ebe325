/* SPDX-License-Identifier: Apache-2.0
 *
 * A window that reaches over midnight is open today from its begin on, and until its end when yesterday is one of its days.
 */
#include "hub/core/drill_schedule.h"

static bool has_day(const struct work_window *w, unsigned day)
{
    return (w->days >> day) & 1;
}

static bool is_open(const struct work_window *w, unsigned day, unsigned minute)
{
    unsigned yesterday = (day + 6) % 7;

    if (w->from_minute < w->to_minute)
        return has_day(w, day) && minute >= w->from_minute && minute < w->to_minute;
    return (has_day(w, day) && minute >= w->from_minute) || (has_day(w, yesterday) && minute < w->to_minute);
}

bool drill_window_is_open(const struct work_window *windows, size_t count, unsigned day, unsigned minute)
{
    for (size_t i = 0; i < count; i++)
        if (is_open(&windows[i], day, minute))
            return true;
    return count == 0;
}

bool drill_is_due(const struct drill_moment *m, const struct work_window *windows, size_t count)
{
    if (m->last_start_usec && m->now_usec < m->last_start_usec + m->interval_usec)
        return false;
    return drill_window_is_open(windows, count, m->day, m->minute);
}
