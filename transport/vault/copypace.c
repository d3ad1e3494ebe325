/* SPDX-License-Identifier: Apache-2.0
 *
 * See the header. What is owed is kept as the moment at which it is paid, so an idle time gives no credit.
 */
#include "transport/vault/copypace.h"

#include "transport/base/clock.h"

#define GRANTS_PER_SEC 4u
#define RATE_MAX (1ULL << 40)

void copypace_init(struct copypace *p)
{
    *p = (struct copypace){0};
    pthread_mutex_init(&p->lock, NULL);
}

void copypace_done(struct copypace *p)
{
    pthread_mutex_destroy(&p->lock);
}

static uint64_t bounded(uint64_t rate)
{
    return rate < RATE_MAX ? rate : RATE_MAX;
}

static uint64_t cost(uint64_t bytes, uint64_t rate)
{
    return rate == 0 ? 0 : bytes / rate * USEC_PER_SEC + bytes % rate * USEC_PER_SEC / rate;
}

bool copypace_set(struct copypace *p, uint64_t rate, uint64_t flow_rate)
{
    pthread_mutex_lock(&p->lock);
    bool changed = p->rate != bounded(rate) || p->flow_rate != bounded(flow_rate);
    if (p->rate != bounded(rate))
        p->due_usec = 0;
    p->rate = bounded(rate);
    p->flow_rate = bounded(flow_rate);
    pthread_mutex_unlock(&p->lock);
    return changed;
}

bool copypace_is_bound(struct copypace *p)
{
    pthread_mutex_lock(&p->lock);
    bool bound = p->rate > 0 || p->flow_rate > 0;
    pthread_mutex_unlock(&p->lock);
    return bound;
}

bool copypace_is_shared(struct copypace *p)
{
    pthread_mutex_lock(&p->lock);
    bool shared = p->rate > 0;
    pthread_mutex_unlock(&p->lock);
    return shared;
}

uint64_t copypace_grant(struct copypace *p)
{
    pthread_mutex_lock(&p->lock);
    uint64_t least = p->rate == 0 || (p->flow_rate > 0 && p->flow_rate < p->rate) ? p->flow_rate : p->rate;
    pthread_mutex_unlock(&p->lock);
    uint64_t grant = least == 0 ? COPYPACE_BYTES_MAX : least / GRANTS_PER_SEC;
    return grant < COPYPACE_BYTES_MIN ? COPYPACE_BYTES_MIN : grant > COPYPACE_BYTES_MAX ? COPYPACE_BYTES_MAX : grant;
}

/* With the lock held. */
static uint64_t due(const struct copypace *p, const struct copyflow *f)
{
    uint64_t all = p->rate == 0 ? 0 : p->due_usec, own = p->flow_rate == 0 ? 0 : f->due_usec;
    return own > all ? own : all;
}

uint64_t copypace_due(struct copypace *p, const struct copyflow *f)
{
    pthread_mutex_lock(&p->lock);
    uint64_t when = due(p, f);
    pthread_mutex_unlock(&p->lock);
    return when;
}

bool copypace_begin(struct copypace *p, struct copyflow *f, uint64_t granted, uint64_t now)
{
    pthread_mutex_lock(&p->lock);
    bool goes = due(p, f) <= now;
    if (goes) {
        p->due_usec = (p->due_usec > now ? p->due_usec : now) + cost(granted, p->rate);
        f->due_usec = now + cost(granted, p->flow_rate);
    }
    pthread_mutex_unlock(&p->lock);
    return goes;
}

static uint64_t moved(uint64_t due_usec, uint64_t less, uint64_t more)
{
    return due_usec + more > less ? due_usec + more - less : 0;
}

void copypace_settle(struct copypace *p, struct copyflow *f, uint64_t granted, uint64_t bytes)
{
    pthread_mutex_lock(&p->lock);
    p->due_usec = moved(p->due_usec, cost(granted, p->rate), cost(bytes, p->rate));
    f->due_usec = moved(f->due_usec, cost(granted, p->flow_rate), cost(bytes, p->flow_rate));
    pthread_mutex_unlock(&p->lock);
}
