/* SPDX-License-Identifier: Apache-2.0
 *
 * Working hours as people write them: "mon-fri 08:00-18:00, sat 09:00-13:00". Pure.
 */
#ifndef HUB_CORE_WORK_HOURS_H
#define HUB_CORE_WORK_HOURS_H

#include <stddef.h>
#include <stdint.h>

#include "transport/base/err.h"

#define WORK_HOURS_MAX 16u

/* Days are bits, Monday is 1. One that ends before it begins goes on until that time of the next day. */
struct work_window {
    uint32_t days;
    uint32_t from_minute, to_minute; /* 0..1440 */
};

/* "" gives none. Days are mon to sun, a range (also sat-mon) or "daily"; times are HH:MM, up to 24:00. Windows are separated by
 * commas. ERR_INVALID with the part that is not understood, and a correction. */
int work_hours_parse(const char *text, struct work_window windows[WORK_HOURS_MAX], size_t *ret_count, struct err *err);
/* Also that they go with a throttle of their own, without which they would change nothing; text NULL: none. */
int work_hours_check(const char *text, uint64_t throttle_bytes_per_sec, struct err *err);

#endif
