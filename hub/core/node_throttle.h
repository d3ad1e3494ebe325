/* SPDX-License-Identifier: Apache-2.0
 *
 * How much a node may send to vaults, and a vault may take from others for the copies that it keeps. Pure.
 */
#ifndef HUB_CORE_NODE_THROTTLE_H
#define HUB_CORE_NODE_THROTTLE_H

#include <stdint.h>

#include "transport/base/err.h"

#define THROTTLE_MIN (64 * 1024) /* bytes per second: one record */

struct node_throttle {
    uint64_t throttle_bytes_per_sec;            /* of all together: 0 or >= THROTTLE_MIN */
    uint64_t machine_throttle_bytes_per_sec;    /* of each machine, as the other */
    const char *work_hours;                     /* work_hours.h; NULL or "": none */
    const char *work_hours_time_zone;           /* PostgreSQL knows it; NULL or "": UTC */
    uint64_t work_hours_throttle_bytes_per_sec; /* of all together in these hours; more than 0 with work_hours */
};

/* ERR_INVALID with the field's name first and a correction. The zone is not looked at. */
int node_throttle_check(const struct node_throttle *throttle, struct err *err);

#endif
