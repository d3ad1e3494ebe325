/* SPDX-License-Identifier: Apache-2.0
 *
 * How long things took: samples, and what of them is worth telling.
 */
#ifndef HUB_CLI_LATENCY_H
#define HUB_CLI_LATENCY_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "transport/base/err.h"

/* As many as are kept; of more, a fair choice is (each has the same chance), so that memory is bounded and percentiles stay right. */
#define LATENCY_SAMPLES_MAX 65536u

struct latency {
    uint64_t *usec; /* the samples that are kept */
    size_t kept;
    uint64_t count, slowest_usec; /* of all */
    uint64_t random;              /* state of the choice */
};

/* Takes one sample. Without memory it counts and is not kept. */
void latency_add(struct latency *latency, uint64_t usec);
/* The sample below which `share` (0 to 1) of them lie (nearest rank), in microseconds; 0 without samples. Sorts. */
uint64_t latency_percentile(struct latency *latency, double share);
/* Adds count, p50_seconds, p99_seconds and slowest_seconds to an object. */
void latency_to_json(struct latency *latency, json_t *object);
void latency_done(struct latency *latency);
#define AUTO_LATENCY __attribute__((cleanup(latency_done)))

#endif
