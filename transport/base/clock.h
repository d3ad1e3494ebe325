/* SPDX-License-Identifier: Apache-2.0
 *
 * Time. Durations come from the monotonic clock, moments that people see from the real-time clock (UTC).
 */
#ifndef TRANSPORT_BASE_CLOCK_H
#define TRANSPORT_BASE_CLOCK_H

#include <stdint.h>
#include <stddef.h>

#include "transport/base/err.h"

#define USEC_PER_SEC 1000000ULL
#define USEC_PER_MSEC 1000ULL

uint64_t clock_mono_usec(void); /* CLOCK_MONOTONIC */
uint64_t clock_utc_usec(void);  /* CLOCK_REALTIME, microseconds since 1970-01-01T00:00:00Z */

/* A random duration below `below_usec` (0: 0), so that many who wait for the same thing do not all come at once. */
uint64_t clock_jitter_usec(uint64_t below_usec);

#define CLOCK_RFC3339_SIZE 32
/* "2026-11-21T05:00:34.123456Z" (six digits of fraction, always Z). out holds CLOCK_RFC3339_SIZE bytes. */
void clock_rfc3339(uint64_t utc_usec, char *out);
/* Parses RFC 3339 with any offset and 0 to 9 fraction digits; ERR_INVALID otherwise. */
int clock_parse_rfc3339(const char *s, uint64_t *ret_utc_usec, struct err *err);
/* Parses "90", "90s", "500ms", "15m", "2h", "7d" into microseconds (a bare number is seconds). */
int clock_parse_duration(const char *s, uint64_t *ret_usec, struct err *err);

#endif
