/* SPDX-License-Identifier: Apache-2.0
 *
 * Minutes of disks, as agents saw them; stored with the next batch (status_batch.c): all agents tell of a minute within the seconds after it, and a
 * statement for each disk is some thousand commits a second then. One that is lost is a gap in a chart.
 */
#include <string.h>

#include "hub/control/control_plane.h"
#include "hub/db/churn_store.h"
#include "transport/base/clock.h"
#include "transport/base/log.h"

#define MINUTE_USEC (60 * USEC_PER_SEC)
/* A clock that is off by more would put it where nobody looks, or where it is never cleaned away. */
#define OFF_USEC (3600 * USEC_PER_SEC)
/* As many as memory allows while the database is away. */
#define WAITING_MAX 100000

void churn_report_take(struct peer_session *s, const Leeward__Control__V1__DiskMinute *m)
{
    const struct disk_minute_row row = {.disk = m->disk,
        .changed_bytes = m->changed_bytes,
        .incompressible_bytes = m->incompressible_bytes,
        .turned_bytes = m->turned_bytes,
        .entropy_millibits = m->entropy_millibits};
    uint64_t now = clock_utc_usec();

    if (strcmp(s->role, "agent") != 0 || m->minute_utc_usec > now + OFF_USEC || m->minute_utc_usec + OFF_USEC < now)
        return;
    if (!churn_is_possible(&row)) {
        log_event(LOG_WARN, "report_failed", LOG_S("what", "disk_minute"), LOG_S("peer", s->id));
        return;
    }
    if (json_array_size(s->control->disk_minutes) >= WAITING_MAX)
        return;
    (void)json_array_append_new(s->control->disk_minutes,
        json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I}", "id", s->id, "disk", (json_int_t)row.disk, "minute_usec",
            (json_int_t)(m->minute_utc_usec / MINUTE_USEC * MINUTE_USEC), "changed_bytes",
            (json_int_t)row.changed_bytes, "incompressible_bytes", (json_int_t)row.incompressible_bytes, "turned_bytes",
            (json_int_t)row.turned_bytes, "entropy_millibits", (json_int_t)row.entropy_millibits));
}
