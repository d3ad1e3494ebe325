/* SPDX-License-Identifier: Apache-2.0
 *
 * Working hours as the hub sends them: windows in the local time of a zone, and the zone's offsets for more than a year, so that whoever keeps
 * to them needs no zone database and, for so long, no hub. Pure but for the messages that they are taken from.
 */
#ifndef TRANSPORT_PROTO_WORKHOURS_H
#define TRANSPORT_PROTO_WORKHOURS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "transport/proto/control.pb-c.h"

#define WORKHOURS_WINDOWS_MAX 16u
#define WORKHOURS_OFFSETS_MAX 8u

/* Days are bits, Monday is 1. A window that ends before it begins goes on until that time of the next day. */
struct workhours_window {
    uint8_t days;
    uint16_t from_minute, to_minute; /* of the day, 0..1440 */
};

/* Local time of the zone is UTC plus seconds, from that moment on. Ascending. */
struct workhours_offset {
    uint64_t from_utc_usec;
    int32_t seconds;
};

struct workhours {
    uint32_t window_count, offset_count;
    struct workhours_window windows[WORKHOURS_WINDOWS_MAX];
    struct workhours_offset offsets[WORKHOURS_OFFSETS_MAX];
};

/* Replaces *h. Windows that cannot be, and what is too many, is left out. */
void workhours_take(struct workhours *h, Leeward__Control__V1__WorkWindow *const *windows, size_t window_count,
    Leeward__Control__V1__UtcOffset *const *offsets, size_t offset_count);
/* Whether the moment lies in a window. */
bool workhours_contain(const struct workhours *h, uint64_t utc_usec);
/* The bound that holds at the moment, of one that always does and one for working hours: the lower. 0: none. */
uint64_t workhours_rate_at(const struct workhours *h, uint64_t rate, uint64_t work_rate, uint64_t utc_usec);

#endif
