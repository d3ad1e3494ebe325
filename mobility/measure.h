/* SPDX-License-Identifier: Apache-2.0
 *
 * Measures what changes on a disk without protecting it: tracking, and nothing else. For planning links and vaults.
 */
#ifndef MOBILITY_MEASURE_H
#define MOBILITY_MEASURE_H

#include <stdint.h>
#include <stdio.h>

#include "transport/base/err.h"

struct measure_conf {
    const char *device;   /* the whole disk, or something on it */
    const char *pin_root; /* NULL: the tracker's default */
    uint64_t usec;        /* how long */
};

/* Watches for that long, or until SIGINT, SIGTERM or SIGHUP (which the caller has let through), then prints one JSON object:
 *   device, size_bytes, used_bytes, seconds
 *   written_bytes        by writes that have completed
 *   changed_per_second   array: distinct bytes that changed in each second
 *   changed_per_minute   array: in each whole minute
 *   changed_bytes        distinct, in all, with writes still in flight at the end
 *   compressed_permille  what zstd -1 leaves of samples of it; 1000 without any
 * No trace is left, and that of a measurement that was killed is removed. Errors: those of tracker_open and tracker_add. */
int measure_run(const struct measure_conf *conf, FILE *out, struct err *err);

#endif
