/* SPDX-License-Identifier: Apache-2.0
 *
 * File-system- and app-consistent points on schedules of their own, beside the crash-consistent ones. A kind is due at once
 * when the machine has become protected, then an interval after it was due before; a moment that passed while none could be
 * made is not made up for, so that a machine that was busy for a day is not frozen a hundred times in a row. What was due and
 * was not made is an event with its cause.
 *
 * The clock is the monotonic one: a wall clock that jumps neither skips nor repeats a point.
 */
#include "mobility/sync/engine_internal.h"

#include "transport/base/clock.h"

static const struct {
    enum mark_kind kind;
    const char *name, *code;
} kinds[ENGINE_SCHEDULES] = {
    {MARK_FILESYSTEM, "file-system-consistent", "filesystem_point_missed"},
    {MARK_APPLICATION, "app-consistent", "application_point_missed"},
};

static uint64_t interval_of(const struct engine *e, unsigned i)
{
    return kinds[i].kind == MARK_APPLICATION ? e->wish.application_interval_usec : e->wish.filesystem_interval_usec;
}

/* The next moment of the same rhythm that is yet to come. */
static void next_due(struct engine *e, unsigned i)
{
    uint64_t now = clock_mono_usec(), interval = interval_of(e, i);
    struct engine_schedule *s = &e->schedules[i];

    s->due_usec = s->due_usec == 0 || s->due_usec + interval < now ? now + interval : s->due_usec + interval;
}

static const char *present_obstacle(const struct engine *e)
{
    if (e->trouble.code != ERR_NONE)
        return e->trouble.text;
    if (!e->agreed)
        return "the process node or the vault cannot be reached";
    if (e->catching)
        return "a backlog is being sent";
    return e->no_point_reason ? e->no_point_reason : "a disk is being copied or compared";
}

static void tell_missed(struct engine *e, unsigned i, const char *why, const char *remedy)
{
    engine_event(e, "warning", kinds[i].code, remedy, "a scheduled %s point was not made: %s", kinds[i].name, why);
}

/* The first point of a machine is awaited, and what stands in its way is told elsewhere. While a disk that was added is copied the others go on. */
static bool awaits_point(const struct engine *e)
{
    uint64_t sequence, utc_usec;

    if (!e->state.first_point_due)
        return false;
    uplink_last_point(e->conf.link, &sequence, &utc_usec);
    return sequence == 0 || !engine_cycle_possible(e);
}

void engine_schedule_look(struct engine *e)
{
    uint64_t now = clock_mono_usec();

    for (unsigned i = 0; i < ENGINE_SCHEDULES; i++) {
        struct engine_schedule *s = &e->schedules[i];
        uint64_t interval = e->has_wish && e->wish.protect ? interval_of(e, i) : 0;

        if (interval != s->interval_usec) {
            s->interval_usec = interval;
            s->due_usec = 0;
        }
        if (interval == 0 || awaits_point(e) || s->due_usec == 0 || now < s->due_usec + interval)
            continue;
        tell_missed(e, i, present_obstacle(e), "");
        next_due(e, i);
    }
}

bool engine_schedule_next(const struct engine *e, struct engine_command *ret_command)
{
    uint64_t now = clock_mono_usec();

    /* The stronger kind first: it counts for the other one too. */
    for (unsigned i = awaits_point(e) ? 0 : ENGINE_SCHEDULES; i-- > 0;) {
        if (e->schedules[i].interval_usec == 0 || now < e->schedules[i].due_usec)
            continue;
        *ret_command = (struct engine_command){.kind = kinds[i].kind};
        return true;
    }
    return false;
}

bool engine_command_is_scheduled(const struct engine_command *c)
{
    return c && c->id[0] == '\0';
}

void engine_schedule_made(struct engine *e, enum mark_kind kind, uint64_t sequence)
{
    uint64_t now = clock_mono_usec();

    for (unsigned i = 0; i < ENGINE_SCHEDULES; i++) {
        if (e->schedules[i].interval_usec == 0 || kinds[i].kind > kind || now < e->schedules[i].due_usec)
            continue;
        next_due(e, i);
        e->schedules[i].sequence = sequence;
    }
}

void engine_schedule_rewind(struct engine *e)
{
    for (unsigned i = 0; i < ENGINE_SCHEDULES; i++)
        if (e->schedules[i].sequence > e->committed)
            e->schedules[i].due_usec = e->schedules[i].sequence = 0;
}

void engine_schedule_missed(struct engine *e, enum mark_kind kind, const struct err *why)
{
    for (unsigned i = 0; i < ENGINE_SCHEDULES; i++) {
        if (kinds[i].kind != kind)
            continue;
        tell_missed(e, i, why->text, why->correction);
        next_due(e, i);
    }
}

uint64_t engine_schedule_wake(const struct engine *e)
{
    uint64_t at = UINT64_MAX;

    for (unsigned i = 0; i < ENGINE_SCHEDULES; i++)
        if (e->schedules[i].interval_usec > 0 && !awaits_point(e) && e->schedules[i].due_usec < at)
            at = e->schedules[i].due_usec;
    return at;
}
