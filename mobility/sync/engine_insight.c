/* SPDX-License-Identifier: Apache-2.0
 *
 * Hands what is read to the insight (mobility/insight), and what comes of it to the loop: minutes of the profile, and the alarm of
 * disks that begin to look encrypted.
 */
#include "mobility/sync/engine_internal.h"

#include <inttypes.h>
#include <stdio.h>

#include "transport/base/clock.h"
#include "transport/base/file.h"
#include "transport/base/log.h"

static const char remedy[] = "look at what writes there; `leeward point open MACHINE@POINT` shows the files as they "
                             "were at the point that is named";

int engine_insight_open(struct engine *e, struct err *err)
{
    char dir[500];

    snprintf(dir, sizeof(dir), "%s/insight", e->conf.data_dir);
    return file_make_dirs(dir, 0700, err) < 0 ? -1 : insight_new(dir, &e->insight, err);
}

void engine_insight_piece(struct engine *e, struct engine_disk *d, const struct reader_piece *p, bool first)
{
    uint64_t size = tracker_disk_size_bytes(d->tracked);

    if (d->insight_bytes != size) {
        insight_set_disk(e->insight, engine_index(e, d), d->number, size);
        d->insight_bytes = size;
    }
    insight_add(e->insight, engine_index(e, d), p->start, p->data, p->length, first);
}

void engine_insight_leave(struct engine *e, struct engine_disk *d)
{
    insight_clear_disk(e->insight, engine_index(e, d));
    d->insight_bytes = 0;
}

static const char *key_of(const struct engine *e, uint32_t number)
{
    for (unsigned i = 0; i < MARK_DISKS_MAX; i++)
        if (e->disks[i].attached && e->disks[i].number == number)
            return e->disks[i].key;
    return "?";
}

static void describe(const struct engine *e, const struct insight_alarm *a, char *text, size_t size)
{
    char began[CLOCK_RFC3339_SIZE], at[CLOCK_RFC3339_SIZE];

    clock_rfc3339(a->began_utc_usec, began);
    clock_rfc3339(a->point.utc_usec, at);
    if (a->point.sequence > 0)
        snprintf(text, size,
            "what is written to disk %s looks encrypted since %s (%" PRIu64
            " MiB); the last point before that is %" PRIu64 " of %s",
            key_of(e, a->disk), began, a->turned_bytes >> 20, a->point.sequence, at);
    else
        snprintf(text, size,
            "what is written to disk %s looks encrypted since %s (%" PRIu64 " MiB); there was no point yet",
            key_of(e, a->disk), began, a->turned_bytes >> 20);
}

static struct insight_point committed_point(const struct engine *e)
{
    struct insight_point p = {0};

    uplink_last_point(e->conf.link, &p.sequence, &p.utc_usec);
    return p;
}

void engine_insight_made_point(struct engine *e, uint64_t sequence, uint64_t utc_usec)
{
    insight_made_point(e->insight, &(struct insight_point){.sequence = sequence, .utc_usec = utc_usec});
}

void engine_insight_rewind(struct engine *e)
{
    const struct insight_point committed = committed_point(e);

    insight_lost_points(e->insight, &committed);
}

void engine_insight_tick(struct engine *e)
{
    struct engine_output o = {.kind = ENGINE_MINUTE};
    struct insight_alarm alarm;
    const struct insight_point committed = committed_point(e);
    char text[400];

    insight_set_interval(e->insight, e->wish.interval_usec);
    insight_tick(e->insight, clock_utc_usec(), &committed);
    while (insight_take_minute(e->insight, &o.minute) == 1)
        engine_put(e, &o);
    while (insight_take_alarm(e->insight, &alarm) == 1) {
        describe(e, &alarm, text, sizeof(text));
        engine_event(e, "error", "looks_encrypted", remedy, "%s", text);
    }
}

void engine_insight_explain(const struct engine *e, struct engine_status *s)
{
    const struct insight_alarm *standing = insight_standing(e->insight);

    if (!standing || s->cause[0])
        return;
    describe(e, standing, s->cause, sizeof(s->cause));
    snprintf(s->remedy, sizeof(s->remedy), "%s", remedy);
}
