/* SPDX-License-Identifier: Apache-2.0
 *
 * Clocks, RFC 3339 moments and durations. Calendar arithmetic is Howard Hinnant's days_from_civil: exact for
 * every proleptic Gregorian date and free of the C library's time zone state.
 */
#include "transport/base/clock.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "transport/base/mem.h"

enum { SECONDS_PER_DAY = 86400 };

static uint64_t read_clock(clockid_t id)
{
    struct timespec ts;

    (void)clock_gettime(id, &ts);
    return (uint64_t)ts.tv_sec * USEC_PER_SEC + (uint64_t)ts.tv_nsec / 1000;
}

uint64_t clock_mono_usec(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

uint64_t clock_utc_usec(void)
{
    return read_clock(CLOCK_REALTIME);
}

uint64_t clock_jitter_usec(uint64_t below_usec)
{
    uint64_t number;

    /* arc4random would ask for glibc 2.36, newer than what some protected machines have. */
    if (below_usec == 0 || getrandom(&number, sizeof(number), GRND_NONBLOCK) != (ssize_t)sizeof(number))
        return 0;
    return number % below_usec;
}

static int64_t days_from_civil(int64_t year, int month, int day)
{
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    int64_t year_of_era = year - era * 400;
    int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;

    return era * 146097 + day_of_era - 719468;
}

void clock_rfc3339(uint64_t utc_usec, char *out)
{
    /* 9999-12-31T23:59:59.999999Z, the last moment that RFC 3339 can write. */
    const uint64_t last_usec = 253402300799999999ULL;
    if (utc_usec > last_usec)
        utc_usec = last_usec;
    time_t seconds = (time_t)(utc_usec / USEC_PER_SEC);
    struct tm tm;

    (void)gmtime_r(&seconds, &tm);
    (void)snprintf(out, CLOCK_RFC3339_SIZE, "%04u-%02u-%02uT%02u:%02u:%02u.%06uZ",
        (unsigned)(tm.tm_year + 1900) % 10000, (unsigned)(tm.tm_mon + 1) % 100, (unsigned)tm.tm_mday % 100,
        (unsigned)tm.tm_hour % 100, (unsigned)tm.tm_min % 100, (unsigned)tm.tm_sec % 100,
        (unsigned)(utc_usec % USEC_PER_SEC));
}

/* Reads exactly `digits` digits at *s and moves on; -1 when one is missing. */
static int take_number(const char **s, int digits)
{
    int value = 0;

    for (int i = 0; i < digits; i++, (*s)++) {
        if (!isdigit((unsigned char)**s))
            return -1;
        value = value * 10 + (**s - '0');
    }
    return value;
}

static bool take_char(const char **s, const char *any_of)
{
    if (**s == '\0' || !strchr(any_of, **s))
        return false;
    (*s)++;
    return true;
}

/* ".123456789" -> microseconds, cut, not rounded; no fraction is 0. */
static int take_fraction(const char **s, int *ret_usec)
{
    int usec = 0, digits = 0;

    *ret_usec = 0;
    if (!take_char(s, "."))
        return 0;
    for (; isdigit((unsigned char)**s); (*s)++, digits++)
        if (digits < 6)
            usec = usec * 10 + (**s - '0');
    if (digits == 0 || digits > 9)
        return -1;
    for (; digits < 6; digits++)
        usec *= 10;
    *ret_usec = usec;
    return 0;
}

/* "Z" or "+hh:mm" -> seconds east of UTC. */
static int take_offset(const char **s, int *ret_seconds)
{
    *ret_seconds = 0;
    if (take_char(s, "Zz"))
        return 0;
    int sign = **s == '-' ? -1 : 1;
    if (!take_char(s, "+-"))
        return -1;
    int hours = take_number(s, 2);
    if (hours < 0 || hours > 23 || !take_char(s, ":"))
        return -1;
    int minutes = take_number(s, 2);
    if (minutes < 0 || minutes > 59)
        return -1;
    *ret_seconds = sign * (hours * 3600 + minutes * 60);
    return 0;
}

static int take_date(const char **s, int64_t *ret_days)
{
    static const int8_t month_days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int year = take_number(s, 4);
    int month = year >= 0 && take_char(s, "-") ? take_number(s, 2) : -1;
    int day = month >= 0 && take_char(s, "-") ? take_number(s, 2) : -1;

    if (month < 1 || month > 12 || day < 1)
        return -1;
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    if (day > month_days[month - 1] + (month == 2 && leap ? 1 : 0))
        return -1;
    *ret_days = days_from_civil(year, month, day);
    return 0;
}

static int take_time(const char **s, int *ret_seconds)
{
    int hour = take_number(s, 2);
    int minute = hour >= 0 && take_char(s, ":") ? take_number(s, 2) : -1;
    int second = minute >= 0 && take_char(s, ":") ? take_number(s, 2) : -1;

    /* 60 is a leap second; it reads as the first moment of the next minute. */
    if (hour > 23 || minute > 59 || second < 0 || second > 60)
        return -1;
    *ret_seconds = hour * 3600 + minute * 60 + second;
    return 0;
}

int clock_parse_rfc3339(const char *s, uint64_t *ret_utc_usec, struct err *err)
{
    const char *p = s;
    int64_t days;
    int seconds, usec, offset;

    if (take_date(&p, &days) < 0 || !take_char(&p, "Tt ") || take_time(&p, &seconds) < 0 ||
        take_fraction(&p, &usec) < 0 || take_offset(&p, &offset) < 0 || *p != '\0')
        return err_set(err, ERR_INVALID, "\"%.64s\" is not a time like 2026-11-21T05:00:34Z", s);
    int64_t utc = days * SECONDS_PER_DAY + seconds - offset;
    if (utc < 0)
        return err_set(err, ERR_INVALID, "\"%.64s\" lies before 1970", s);
    *ret_utc_usec = (uint64_t)utc * (uint64_t)USEC_PER_SEC + (uint64_t)usec;
    return 0;
}

int clock_parse_duration(const char *s, uint64_t *ret_usec, struct err *err)
{
    static const struct {
        const char *suffix;
        uint64_t usec;
    } units[] = {
        {"", USEC_PER_SEC},
        {"us", 1},
        {"ms", USEC_PER_MSEC},
        {"s", USEC_PER_SEC},
        {"m", 60 * USEC_PER_SEC},
        {"h", 3600 * USEC_PER_SEC},
        {"d", SECONDS_PER_DAY * USEC_PER_SEC},
    };
    const char *p = s;
    uint64_t value = 0;

    for (; isdigit((unsigned char)*p); p++)
        if (__builtin_mul_overflow(value, 10U, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*p - '0'), &value))
            return err_set(err, ERR_INVALID, "the duration \"%.64s\" is too long", s);
    for (size_t i = 0; p != s && i < ARRAY_LEN(units); i++) {
        if (strcmp(p, units[i].suffix) != 0)
            continue;
        if (__builtin_mul_overflow(value, units[i].usec, &value))
            return err_set(err, ERR_INVALID, "the duration \"%.64s\" is too long", s);
        *ret_usec = value;
        return 0;
    }
    return err_set(err, ERR_INVALID, "\"%.64s\" is not a duration like 90s, 500ms, 15m, 2h or 7d", s);
}
