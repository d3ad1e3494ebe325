/* SPDX-License-Identifier: Apache-2.0
 *
 * Conditions of the machine that do not stop replication, but that somebody should know of: a clock that is set, a kernel whose
 * tracking is slow, commands to a disk that no tracker sees, a disk that does not answer. Each is told when it comes up, not with every point.
 */
#include "mobility/sync/engine_internal.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "transport/base/clock.h"

/* What time servers do in small steps is not worth telling. */
#define JUMP_USEC (2 * USEC_PER_SEC)
#define TELL_AGAIN_USEC (60 * USEC_PER_SEC)

/* With the time that the machine was asleep. */
static uint64_t since_boot_usec(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_BOOTTIME, &t);
    return (uint64_t)t.tv_sec * USEC_PER_SEC + (uint64_t)t.tv_nsec / 1000;
}

static void watch_clock(struct engine *e)
{
    int64_t offset = (int64_t)(clock_utc_usec() - since_boot_usec()), by = offset - e->clock_offset_usec;
    bool first = e->clock_offset_usec == 0, back = by < 0;
    uint64_t usec = (uint64_t)(back ? -by : by);

    e->clock_offset_usec = offset;
    if (first || usec < JUMP_USEC)
        return;
    engine_event(e, "warning", "clock_jumped",
        "keep the clock with a time server; across the jump, choose points by their numbers and not by their times",
        "the clock of this machine was set %s by %llu s", back ? "back" : "forward",
        (unsigned long long)(usec / USEC_PER_SEC));
}

static void watch_driver(struct engine *e)
{
    const struct err *why = tracker_refused(e->tracker);

    if (e->told_scan || !why)
        return;
    e->told_scan = true;
    engine_event(e, "warning", "tracking_by_scan", why->correction,
        "changes are found by reading the disks in full: %s", why->text);
}

/* What such a command has written is unknown, and most of them write nothing; so it is for people to judge. */
static void watch_passthrough(struct engine *e, struct engine_disk *d)
{
    struct tracker_stats stats;
    uint64_t now = clock_mono_usec();

    tracker_disk_stats(d->tracked, &stats);
    if (stats.passthrough <= d->told_passthrough || now < d->tell_passthrough_usec)
        return;
    engine_event(e, "warning", "passthrough_commands",
        "if one of them wrote to the disk, compare it with the vault: leeward machine resync",
        "disk %s was given %llu commands past the block layer (sg, NVMe); what they changed is not seen", d->key,
        (unsigned long long)(stats.passthrough - d->told_passthrough));
    d->told_passthrough = stats.passthrough;
    d->tell_passthrough_usec = now + TELL_AGAIN_USEC;
}

void engine_watch_inventory(struct engine *e)
{
    const char *whom = e->inventory->unanswered;

    if (whom[0] && strcmp(whom, e->told_unanswered) != 0)
        engine_event(e, "warning", "does_not_answer",
            "see to what it hangs on (its path, its storage, the server of its file system), or detach it",
            "%s does not answer; until it does, what lies on it is not known, and no protection of it can begin", whom);
    snprintf(e->told_unanswered, sizeof(e->told_unanswered), "%s", whom);
}

void engine_watch(struct engine *e)
{
    watch_clock(e);
    watch_driver(e);
    for (unsigned i = 0; i < MARK_DISKS_MAX; i++)
        if (e->disks[i].attached)
            watch_passthrough(e, &e->disks[i]);
}
