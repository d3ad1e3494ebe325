/* SPDX-License-Identifier: Apache-2.0
 *
 * Token buckets and deficit round robin (Shreedhar and Varghese, "Efficient fair queuing using deficit round robin", 1996).
 *
 * The quantum follows the rate: small on a narrow line, where a large piece of one machine would be a delay for all others, and large on a
 * wide one, where each piece costs a read of the spool.
 */
#include "transport/node/shaper.h"

#include "transport/base/clock.h"

#define BURST_USEC (USEC_PER_SEC / 4)
#define BURST_MIN (64 << 10)
#define QUANTUM_MIN (64 << 10)
#define QUANTUM_MAX (1 << 20)
#define QUANTA_PER_SEC 50u
#define FILL_MAX_USEC                                                                                                  \
    (3600 * USEC_PER_SEC) /* a longer pause fills no more, and rate x pause stays far from overflowing */
#define RATE_MAX (1ULL << 40)

static int64_t burst(uint64_t rate)
{
    int64_t n = (int64_t)(rate * BURST_USEC / USEC_PER_SEC);
    return n > BURST_MIN ? n : BURST_MIN;
}

static int64_t quantum(const struct shaper *s)
{
    uint64_t rate = s->rate > 0 ? s->rate : s->flow_rate;
    int64_t n = (int64_t)(rate / QUANTA_PER_SEC);
    return n < QUANTUM_MIN ? QUANTUM_MIN : n > QUANTUM_MAX ? QUANTUM_MAX : n;
}

/* The part of a byte that a short pause is worth is kept in the clock, not lost. */
static void fill(struct shaper_bucket *b, uint64_t rate, uint64_t now)
{
    if (rate == 0 || now <= b->at_usec)
        return;
    uint64_t passed = now - b->at_usec < FILL_MAX_USEC ? now - b->at_usec : FILL_MAX_USEC;
    uint64_t bytes = passed / USEC_PER_SEC * rate + passed % USEC_PER_SEC * rate / USEC_PER_SEC;
    if (bytes == 0)
        return;
    b->tokens += (int64_t)bytes;
    b->at_usec = now - passed % USEC_PER_SEC * rate % USEC_PER_SEC / rate;
    if (b->tokens > burst(rate))
        b->tokens = burst(rate);
}

/* Until there is something to send; 0: now. */
static uint64_t delay(const struct shaper_bucket *b, uint64_t rate)
{
    if (rate == 0 || b->tokens > 0)
        return 0;
    return (uint64_t)(1 - b->tokens) * USEC_PER_SEC / rate + 1;
}

void shaper_set(struct shaper *s, uint64_t rate, uint64_t flow_rate, uint64_t now)
{
    fill(&s->bucket, s->rate, now);
    if (s->rate == 0) /* nothing was counted before */
        s->bucket = (struct shaper_bucket){.at_usec = now};
    s->rate = rate < RATE_MAX ? rate : RATE_MAX;
    s->flow_rate = flow_rate < RATE_MAX ? flow_rate : RATE_MAX;
    if (s->rate > 0 && s->bucket.tokens > burst(s->rate))
        s->bucket.tokens = burst(s->rate);
}

bool shaper_is_bound(const struct shaper *s)
{
    return s->rate > 0 || s->flow_rate > 0;
}

/* A flow that comes for the first time under a bound begins without credit. */
static void fill_flow(const struct shaper *s, struct shaper_flow *f, uint64_t now)
{
    if (f->bucket.at_usec == 0)
        f->bucket.at_usec = now;
    fill(&f->bucket, s->flow_rate, now);
}

bool shaper_is_free(struct shaper *s, struct shaper_flow *f, uint64_t now)
{
    if (!shaper_is_bound(s))
        return true;
    fill(&s->bucket, s->rate, now);
    fill_flow(s, f, now);
    return (s->rate == 0 || s->first == NULL) && !f->waits && delay(&s->bucket, s->rate) == 0 &&
           delay(&f->bucket, s->flow_rate) == 0;
}

static void go_behind(struct shaper *s, struct shaper_flow *f)
{
    f->waits = true;
    f->next = NULL;
    if (s->last != NULL)
        s->last->next = f;
    else
        s->first = f;
    s->last = f;
}

static void go_on(struct shaper *s, struct shaper_flow *f)
{
    f->waits = true;
    f->next = s->first;
    s->first = f;
    if (s->last == NULL)
        s->last = f;
}

/* One that took less than it was granted, and has more, goes on with its turn. */
void shaper_wait(struct shaper *s, struct shaper_flow *f)
{
    if (f->waits)
        return;
    if (f->deficit > 0)
        go_on(s, f);
    else
        go_behind(s, f);
}

void shaper_leave(struct shaper *s, struct shaper_flow *f)
{
    struct shaper_flow *before = NULL;
    if (!f->waits)
        return;
    for (struct shaper_flow *i = s->first; i != f; i = i->next)
        before = i;
    if (before != NULL)
        before->next = f->next;
    else
        s->first = f->next;
    if (s->last == f)
        s->last = before;
    f->next = NULL;
    f->waits = false;
}

static void grant(struct shaper *s, struct shaper_flow *f, size_t bytes)
{
    shaper_leave(s, f);
    f->granted = true;
    f->deficit -= (int64_t)bytes;
    s->bucket.tokens -= s->rate > 0 ? (int64_t)bytes : 0;
    f->bucket.tokens -= s->flow_rate > 0 ? (int64_t)bytes : 0;
}

/* Rounds in which nobody could send are taken in one step: the least that any of those that could is short of. */
static void skip_rounds(struct shaper *s, uint64_t now)
{
    int64_t q = quantum(s), least = INT64_MAX;
    for (struct shaper_flow *f = s->first; f != NULL; f = f->next) {
        fill_flow(s, f, now);
        if (delay(&f->bucket, s->flow_rate) == 0 && -f->deficit < least)
            least = -f->deficit;
    }
    if (least == INT64_MAX || least < q)
        return;
    for (struct shaper_flow *f = s->first; f != NULL; f = f->next) {
        f->deficit += least / q * q;
        if (f->deficit > q)
            f->deficit = q;
    }
}

/* One look at each. Who has its turn and may not send, for what it owes or for its own bound, goes behind the others. */
static struct shaper_flow *look(struct shaper *s, uint64_t now, size_t *ret_bytes, uint64_t *ret_delay)
{
    int64_t q = quantum(s);
    struct shaper_flow *f = s->first, *last = s->last;
    for (bool more = f != NULL; more; f = s->first) {
        more = f != last;
        fill_flow(s, f, now);
        uint64_t own = delay(&f->bucket, s->flow_rate);
        if (own == 0 && f->deficit <= 0)
            f->deficit += q;
        if (own == 0 && f->deficit > 0) {
            *ret_bytes = (size_t)f->deficit;
            grant(s, f, *ret_bytes);
            return f;
        }
        *ret_delay = own > 0 && own < *ret_delay ? own : *ret_delay;
        shaper_leave(s, f);
        go_behind(s, f);
    }
    return NULL;
}

struct shaper_flow *shaper_next(struct shaper *s, uint64_t now, size_t *ret_bytes, uint64_t *ret_delay_usec)
{
    *ret_delay_usec = UINT64_MAX;
    if (s->first == NULL)
        return NULL;
    if (!shaper_is_bound(s)) { /* it was lifted while they waited */
        struct shaper_flow *f = s->first;
        *ret_bytes = (size_t)quantum(s);
        shaper_leave(s, f);
        f->granted = true;
        return f;
    }
    fill(&s->bucket, s->rate, now);
    uint64_t common = delay(&s->bucket, s->rate);
    if (common > 0) {
        *ret_delay_usec = common;
        return NULL;
    }
    skip_rounds(s, now);
    return look(s, now, ret_bytes, ret_delay_usec);
}

void shaper_charge(struct shaper *s, struct shaper_flow *f, size_t bytes, uint64_t now)
{
    if (!shaper_is_bound(s))
        return;
    fill(&s->bucket, s->rate, now);
    fill_flow(s, f, now);
    s->bucket.tokens -= s->rate > 0 ? (int64_t)bytes : 0;
    f->bucket.tokens -= s->flow_rate > 0 ? (int64_t)bytes : 0;
    if (f->granted)
        f->deficit -= (int64_t)bytes;
}

void shaper_settle(struct shaper *s, struct shaper_flow *f, size_t granted, bool more)
{
    f->granted = false;
    f->deficit += (int64_t)granted;
    s->bucket.tokens += s->rate > 0 ? (int64_t)granted : 0;
    f->bucket.tokens += s->flow_rate > 0 ? (int64_t)granted : 0;
    if (!more && f->deficit > 0)
        f->deficit = 0;
}
