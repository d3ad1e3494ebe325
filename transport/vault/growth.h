/* SPDX-License-Identifier: Apache-2.0
 *
 * How fast a vault's disk fills: what was in use at each hour of the last days, and from that the moment at which it will be
 * full. Kept in a small file of the vault's folder (`growth`), so that a restart does not begin from nothing; losing it loses the
 * forecast for some hours and nothing else.
 */
#ifndef TRANSPORT_VAULT_GROWTH_H
#define TRANSPORT_VAULT_GROWTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "transport/base/err.h"

#define GROWTH_SAMPLES 168u /* a week of hours */

struct growth_sample {
    uint64_t utc_usec;
    uint64_t used_bytes;
};

struct growth {
    struct growth_sample samples[GROWTH_SAMPLES]; /* ascending by time */
    size_t count;
};

struct growth_forecast {
    bool known;             /* there is enough to go by */
    int64_t bytes_per_day;  /* less than 0: it shrinks */
    uint64_t full_utc_usec; /* 0: not within ten years */
};

/* Notes a sample when an hour has gone by since the last one. A clock that went back begins anew. True: there is something new
 * to store. */
bool growth_note(struct growth *g, uint64_t utc_usec, uint64_t used_bytes);
/* usable_bytes: how much more may be used. Needs six samples: a line through them (least squares). */
void growth_forecast(
    const struct growth *g, uint64_t now_utc_usec, uint64_t usable_bytes, struct growth_forecast *ret_forecast);

/* A file that is not there, or is damaged, is an empty history. */
int growth_load(const char *data_dir, struct growth *ret_growth, struct err *err);
int growth_store(const char *data_dir, const struct growth *g, struct err *err);

#endif
