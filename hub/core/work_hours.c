/* SPDX-License-Identifier: Apache-2.0
 *
 * A small scanner: each window is days, a space, from-to.
 */
#include "hub/core/work_hours.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define DAYS 7u
#define ALL_DAYS 127u
#define DAY_MINUTES 1440u

static int refuse(const char *part, struct err *err)
{
    err_set(err, ERR_INVALID, "work_hours: \"%.40s\" is not understood", part);
    return err_hint(err, "Write days and times, as in \"mon-fri 08:00-18:00, sat 09:00-13:00\"; \"\" for none.");
}

static int day_from(const char *text)
{
    static const char names[DAYS][4] = {"mon", "tue", "wed", "thu", "fri", "sat", "sun"};

    for (unsigned i = 0; i < DAYS; i++)
        if (strcasecmp(text, names[i]) == 0)
            return (int)i;
    return -1;
}

/* Bits, or 0. */
static uint32_t days_from(const char *text)
{
    char first[4], last[4];
    uint32_t days = 0;
    int from, to;
    int n = 0;

    if (strcasecmp(text, "daily") == 0)
        return ALL_DAYS;
    if (sscanf(text, "%3[A-Za-z]-%3[A-Za-z]%n", first, last, &n) == 2 && text[n] == '\0') {
        from = day_from(first);
        to = day_from(last);
    } else {
        from = to = day_from(text);
    }
    if (from < 0 || to < 0)
        return 0;
    for (int day = from;; day = (day + 1) % (int)DAYS) {
        days |= 1u << day;
        if (day == to)
            return days;
    }
}

static int minute_from(unsigned hour, unsigned minute)
{
    return hour <= 24 && minute < 60 && hour * 60 + minute <= DAY_MINUTES ? (int)(hour * 60 + minute) : -1;
}

static int parse_one(const char *part, struct work_window *ret, struct err *err)
{
    unsigned h1, m1, h2, m2;
    char days[16];
    int n = 0, from, to;

    if (sscanf(part, " %15[A-Za-z-] %2u:%2u-%2u:%2u %n", days, &h1, &m1, &h2, &m2, &n) != 5 || part[n] != '\0')
        return refuse(part, err);
    from = minute_from(h1, m1);
    to = minute_from(h2, m2);
    ret->days = days_from(days);
    if (from < 0 || to < 0 || from == to || ret->days == 0)
        return refuse(part, err);
    ret->from_minute = (uint32_t)from;
    ret->to_minute = (uint32_t)to;
    return 0;
}

int work_hours_parse(const char *text, struct work_window windows[WORK_HOURS_MAX], size_t *ret_count, struct err *err)
{
    char part[64];
    size_t count = 0;

    while (*text) {
        size_t n = strcspn(text, ",");

        if (n >= sizeof(part) || count == WORK_HOURS_MAX)
            return refuse(text, err);
        memcpy(part, text, n);
        part[n] = '\0';
        if (parse_one(part, &windows[count++], err) < 0)
            return -1;
        text += n;
        if (*text == ',' && *++text == '\0')
            return refuse(",", err);
    }
    *ret_count = count;
    return 0;
}

int work_hours_check(const char *text, uint64_t throttle_bytes_per_sec, struct err *err)
{
    struct work_window windows[WORK_HOURS_MAX];
    size_t count = 0;

    if (text && work_hours_parse(text, windows, &count, err) < 0)
        return -1;
    if (count == 0 || throttle_bytes_per_sec > 0)
        return 0;
    err_set(err, ERR_INVALID, "work_hours: they change nothing without a throttle of their own");
    return err_hint(err, "Set work_hours_throttle_bytes_per_second too, or no working hours.");
}
