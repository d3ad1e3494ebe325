/* SPDX-License-Identifier: Apache-2.0
 *
 * See the header. Start-time fair queueing: each pass has a count of what it had, and a new one begins with that of the one that went last, less a
 * credit: so one that needs little each time goes at once, and one that needs much has no more than the others over time. Every turn costs something,
 * whatever came, for it took a thread.
 */
#include "transport/vault/copyturn.h"

#include <stddef.h>

#define TURN_BYTES 4096u
#define LEVEL_FIRST (1ULL << 40) /* more than any credit */
#define LEFT_TO_OTHERS 2u        /* threads: no other vault has these, where there are several */

void copyturns_init(struct copyturns *ts, unsigned threads, unsigned places, unsigned short_places)
{
    *ts = (struct copyturns){
        .threads = threads, .places = places, .short_places = short_places, .level_bytes = LEVEL_FIRST};
}

/* Nobody is owed more than the credit, however long others went on without it. */
static void catch_up(const struct copyturns *ts, struct copyturn *t)
{
    uint64_t credit = t->is_long ? 0 : ts->credit_bytes < LEVEL_FIRST ? ts->credit_bytes : LEVEL_FIRST;
    if (t->had_bytes < ts->level_bytes - credit)
        t->had_bytes = ts->level_bytes - credit;
}

void copyturn_begin(const struct copyturns *ts, struct copyturn *t, struct copyturn_source *source)
{
    t->source = source;
    t->since_usec = 0;
    t->is_long = false;
    catch_up(ts, t);
}

void copyturn_wait(struct copyturns *ts, struct copyturn *t, enum copyturn_want want, uint64_t due, uint64_t now)
{
    t->want = want;
    t->due_usec = due;
    if (want == COPYTURN_PLACE)
        catch_up(ts, t);
    if (t->since_usec == 0)
        t->since_usec = now;
    t->next = ts->waiting;
    ts->waiting = t;
}

void copyturn_forget(struct copyturns *ts, struct copyturn *t)
{
    for (struct copyturn **link = &ts->waiting; *link != NULL; link = &(*link)->next)
        if (*link == t) {
            *link = t->next;
            return;
        }
}

void copyturn_forgive(struct copyturn *t)
{
    t->had_bytes = 0;
}

static bool has_thread(const struct copyturns *ts, const struct copyturn *t)
{
    const struct copyturn_source *s = t->source;
    if (s->away)
        return s->running == 0;
    return ts->sources < 2 || s->running + LEFT_TO_OTHERS < ts->threads;
}

/* One thread is always left to the others, so that what is short does not wait for what is long. */
static bool may_go(const struct copyturns *ts, const struct copyturn *t, uint64_t now, bool gathers)
{
    if (t->due_usec > now)
        return false;
    if (t->want == COPYTURN_PLACE)
        return ts->placed + (t->is_long ? ts->short_places : 0) < ts->places;
    if (ts->looking + ts->gathering >= ts->threads || !has_thread(ts, t))
        return false;
    return t->want == COPYTURN_LOOK ? ts->looking + 1 < ts->threads : gathers && ts->gathering + 1 < ts->threads;
}

/* Places first, for nobody runs in them yet; then what has fewer threads. */
static unsigned rank(const struct copyturns *ts, const struct copyturn *t)
{
    if (t->want == COPYTURN_PLACE)
        return 0;
    return (t->want == COPYTURN_LOOK) == (ts->looking <= ts->gathering) ? 1 : 2;
}

static bool goes_before(const struct copyturns *ts, const struct copyturn *a, const struct copyturn *b)
{
    if (rank(ts, a) != rank(ts, b))
        return rank(ts, a) < rank(ts, b);
    if (a->want != COPYTURN_LOOK && a->had_bytes != b->had_bytes)
        return a->had_bytes < b->had_bytes;
    return a->since_usec < b->since_usec;
}

static void take(struct copyturns *ts, struct copyturn *t, uint64_t now)
{
    copyturn_forget(ts, t);
    if (t->want == COPYTURN_PLACE) {
        ts->placed++;
        t->place_usec = now == 0 ? 1 : now;
        t->since_usec = 0;
        return;
    }
    t->source->running++;
    if (t->want == COPYTURN_LOOK) {
        ts->looking++;
        return;
    }
    ts->gathering++;
    if (t->had_bytes > ts->level_bytes)
        ts->level_bytes = t->had_bytes;
    catch_up(ts, t);
}

struct copyturn *copyturn_next(struct copyturns *ts, uint64_t now, bool gathers, uint64_t *ret_due)
{
    struct copyturn *next = NULL;
    *ret_due = UINT64_MAX;
    for (struct copyturn *t = ts->waiting; t != NULL; t = t->next) {
        if (may_go(ts, t, now, gathers) && (next == NULL || goes_before(ts, t, next)))
            next = t;
        if (t->due_usec > now && t->due_usec < *ret_due)
            *ret_due = t->due_usec;
    }
    if (next != NULL)
        take(ts, next, now);
    return next;
}

void copyturn_done(struct copyturns *ts, struct copyturn *t, uint64_t bytes)
{
    t->source->running--;
    if (t->want == COPYTURN_LOOK)
        ts->looking--;
    else
        ts->gathering--;
    if (bytes > 0) /* else it only learned that it has to wait */
        t->since_usec = 0;
    if (bytes > 0 && t->want == COPYTURN_GATHER) /* looks are many and small, and nobody's level rises by them */
        t->had_bytes += bytes + TURN_BYTES;
    if (ts->waiting == NULL && ts->looking + ts->gathering == 0 && t->had_bytes > ts->level_bytes)
        ts->level_bytes = t->had_bytes; /* it took nothing from anybody */
}

bool copyturn_yields(const struct copyturns *ts, struct copyturn *t, uint64_t now)
{
    if (t->place_usec == 0 || now - t->place_usec < COPYTURN_PLACE_USEC)
        return false;
    t->is_long = true;
    for (const struct copyturn *w = ts->waiting; w != NULL; w = w->next)
        if (w->want == COPYTURN_PLACE)
            return true;
    return false;
}

void copyturn_leave(struct copyturns *ts, struct copyturn *t)
{
    ts->placed -= t->place_usec != 0;
    t->place_usec = 0;
}
