/* SPDX-License-Identifier: Apache-2.0
 *
 * Working hours: which minute of which local day a moment is, and whether a window covers it.
 */
#include "transport/proto/workhours.h"

#include "transport/base/clock.h"

#define DAY_MINUTES (24u * 60u)
#define DAY_SECONDS 86400
#define MINUTE_USEC (60 * USEC_PER_SEC)

void workhours_take(struct workhours *h, Leeward__Control__V1__WorkWindow *const *windows, size_t window_count,
    Leeward__Control__V1__UtcOffset *const *offsets, size_t offset_count)
{
    *h = (struct workhours){0};
    for (size_t i = 0; i < window_count && h->window_count < WORKHOURS_WINDOWS_MAX; i++) {
        const Leeward__Control__V1__WorkWindow *w = windows[i];

        if (w->from_minute <= DAY_MINUTES && w->to_minute <= DAY_MINUTES)
            h->windows[h->window_count++] = (struct workhours_window){.days = (uint8_t)(w->days & 127),
                .from_minute = (uint16_t)w->from_minute,
                .to_minute = (uint16_t)w->to_minute};
    }
    for (size_t i = 0; i < offset_count && h->offset_count < WORKHOURS_OFFSETS_MAX; i++)
        if (offsets[i]->seconds >= -DAY_SECONDS && offsets[i]->seconds <= DAY_SECONDS)
            h->offsets[h->offset_count++] =
                (struct workhours_offset){.from_utc_usec = offsets[i]->from_utc_usec, .seconds = offsets[i]->seconds};
}

static int32_t offset_at(const struct workhours *h, uint64_t utc_usec)
{
    int32_t seconds = h->offset_count > 0 ? h->offsets[0].seconds : 0;

    for (uint32_t i = 1; i < h->offset_count && h->offsets[i].from_utc_usec <= utc_usec; i++)
        seconds = h->offsets[i].seconds;
    return seconds;
}

static bool is_inside(const struct workhours_window *w, unsigned day, unsigned minute)
{
    unsigned yesterday = (day + 6) % 7;

    if (w->from_minute < w->to_minute)
        return (w->days >> day & 1u) && minute >= w->from_minute && minute < w->to_minute;
    return ((w->days >> day & 1u) && minute >= w->from_minute) ||
           ((w->days >> yesterday & 1u) && minute < w->to_minute);
}

bool workhours_contain(const struct workhours *h, uint64_t utc_usec)
{
    int64_t minutes = (int64_t)(utc_usec / MINUTE_USEC) + offset_at(h, utc_usec) / 60;
    unsigned day, minute;

    if (minutes < 0)
        return false;
    day = (unsigned)(minutes / DAY_MINUTES + 3) % 7; /* 1970 began on a Thursday; Monday is 0 */
    minute = (unsigned)(minutes % DAY_MINUTES);
    for (uint32_t i = 0; i < h->window_count; i++)
        if (is_inside(&h->windows[i], day, minute))
            return true;
    return false;
}

uint64_t workhours_rate_at(const struct workhours *h, uint64_t rate, uint64_t work_rate, uint64_t utc_usec)
{
    if (work_rate == 0 || !workhours_contain(h, utc_usec))
        return rate;
    return rate > 0 && rate < work_rate ? rate : work_rate;
}
