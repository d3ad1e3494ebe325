/* SPDX-License-Identifier: Apache-2.0
 *
 * Timers on CLOCK_MONOTONIC. A repeating timer keeps its beat (the next moment counts from the last planned
 * one, not from when the callback came to run) and leaves out beats that were missed altogether. It is armed
 * again before its callback runs, which may therefore set or free it.
 */
#include <errno.h>
#include <time.h>

#include "transport/base/clock.h"
#include "transport/base/mem.h"
#include "transport/loop/loop.h"

/* sd-event would otherwise join wake-ups within 250 ms, too coarse for a point every second. */
enum { ACCURACY_USEC = 1000 };

struct loop_timer {
    sd_event_source *source;
    uint64_t interval_usec;
    void (*fire)(void *arg);
    void *arg;
};

static void arm(struct loop_timer *t, uint64_t at_usec)
{
    (void)sd_event_source_set_time(t->source, at_usec);
    (void)sd_event_source_set_enabled(t->source, SD_EVENT_ONESHOT);
}

static int on_time(sd_event_source *source, uint64_t planned_usec, void *userdata)
{
    struct loop_timer *t = userdata;

    (void)source;
    if (t->interval_usec > 0) {
        uint64_t now = clock_mono_usec(), next = planned_usec + t->interval_usec;
        if (next <= now)
            next += (now - next) / t->interval_usec * t->interval_usec + t->interval_usec;
        arm(t, next);
    }
    t->fire(t->arg);
    return 0;
}

int loop_timer_new(sd_event *loop, uint64_t first_usec, uint64_t interval_usec, void (*fire)(void *arg),
    void *arg, struct loop_timer **ret_timer, struct err *err)
{
    struct loop_timer *t = mem_new(struct loop_timer);

    if (!t)
        return err_set(err, ERR_NOMEM, "out of memory for a timer");
    *t = (struct loop_timer){.interval_usec = interval_usec, .fire = fire, .arg = arg};
    int rc = sd_event_add_time(
        loop, &t->source, CLOCK_MONOTONIC, clock_mono_usec() + first_usec, ACCURACY_USEC, on_time, t);
    if (rc < 0) {
        free(t);
        return err_sys(err, -rc, "starting a timer");
    }
    *ret_timer = t;
    return 0;
}

void loop_timer_set(struct loop_timer *timer, uint64_t delay_usec)
{
    arm(timer, clock_mono_usec() + delay_usec);
}

void loop_timer_free(struct loop_timer *timer)
{
    if (!timer)
        return;
    (void)sd_event_source_disable_unref(timer->source);
    free(timer);
}
