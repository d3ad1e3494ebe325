/* SPDX-License-Identifier: Apache-2.0
 *
 * The bounds of a node's throttles, and of a vault's.
 */
#include "hub/core/node_throttle.h"

#include <inttypes.h>
#include <stddef.h>

#include "hub/core/work_hours.h"
#include "transport/base/mem.h"

int node_throttle_check(const struct node_throttle *t, struct err *err)
{
    const struct {
        const char *field;
        uint64_t value;
    } rows[] = {
        {"throttle_bytes_per_second", t->throttle_bytes_per_sec},
        {"machine_throttle_bytes_per_second", t->machine_throttle_bytes_per_sec},
        {"work_hours_throttle_bytes_per_second", t->work_hours_throttle_bytes_per_sec},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (rows[i].value == 0 || (rows[i].value >= THROTTLE_MIN && rows[i].value <= INT64_MAX))
            continue;
        err_set(err, ERR_INVALID, "%s: %" PRIu64 " is out of range", rows[i].field, rows[i].value);
        return err_hint(err, "Choose at least %d, or 0 for none.", THROTTLE_MIN);
    }
    return work_hours_check(t->work_hours, t->work_hours_throttle_bytes_per_sec, err);
}
