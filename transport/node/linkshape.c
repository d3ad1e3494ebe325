/* SPDX-License-Identifier: Apache-2.0
 *
 * The bounds on what goes to vaults, laid on links. The shaper says whose turn it is; here turns become reads of the spool and batches on
 * their way, and what went out is charged.
 *
 * A machine has at most one grant. A read of the spool uses it, or a batch that goes past the disk: such a batch is charged with what is left
 * of it when it was compressed, so only one at a time may be on its way. Everything else is in the spool and can wait there.
 */
#include "transport/base/clock.h"
#include "transport/node/machine.h"

#define SLEEP_MIN_USEC 1000u /* a turn of the loop for less would only cost */

static struct machine *machine_of(struct shaper_flow *f)
{
    return (struct machine *)((char *)f - offsetof(struct machine, flow));
}

static void use(struct machine *m)
{
    if (m->link.feed == FEED_SPOOL)
        link_pump(m);
    else
        pipeline_kick(m);
    if (!m->grant_used)
        linkshape_give_back(m, false);
}

static void serve(struct node *node)
{
    struct linkshape *l = &node->shape;
    uint64_t delay = UINT64_MAX;
    size_t bytes;
    struct shaper_flow *f;
    if (l->serving || node->stopping)
        return;
    l->serving = true;
    while ((f = shaper_next(&l->shaper, clock_mono_usec(), &bytes, &delay)) != NULL) {
        struct machine *m = machine_of(f);
        m->grant = bytes;
        m->grant_used = false;
        use(m);
    }
    l->serving = false;
    if (delay != UINT64_MAX)
        loop_timer_set(l->timer, delay > SLEEP_MIN_USEC ? delay : SLEEP_MIN_USEC);
}

static void on_timer(void *arg)
{
    struct node *node = arg;
    linkshape_look(node);
}

int linkshape_init(struct node *node, struct err *err)
{
    return loop_timer_new(node->loop, 0, 0, on_timer, node, &node->shape.timer, err);
}

void linkshape_done(struct node *node)
{
    loop_timer_free(node->shape.timer);
    node->shape.timer = NULL;
}

static void count(struct linkshape *l, uint64_t now)
{
    bool bound = shaper_is_bound(&l->shaper);
    if (l->since_usec != 0)
        l->usec += now - l->since_usec;
    l->since_usec = bound ? now : 0;
}

void linkshape_look(struct node *node)
{
    struct linkshape *l = &node->shape;
    uint64_t now = clock_mono_usec(), rate = workhours_rate_at(&l->hours, l->rate, l->work_rate, clock_utc_usec());
    if (rate != l->shaper.rate || l->machine_rate != l->shaper.flow_rate) {
        count(l, now);
        shaper_set(&l->shaper, rate, l->machine_rate, now);
        count(l, now);
    }
    serve(node);
}

void linkshape_apply(struct node *node, const Leeward__Control__V1__NodeDesired *desired)
{
    struct linkshape *l = &node->shape;
    l->rate = desired->throttle_bytes_per_sec;
    l->work_rate = desired->work_throttle_bytes_per_sec;
    l->machine_rate = desired->machine_throttle_bytes_per_sec;
    workhours_take(
        &l->hours, desired->work_windows, desired->n_work_windows, desired->utc_offsets, desired->n_utc_offsets);
    linkshape_look(node);
}

bool linkshape_is_free(struct machine *m)
{
    return shaper_is_free(&m->node->shape.shaper, &m->flow, clock_mono_usec());
}

bool linkshape_take(struct machine *m)
{
    struct linkshape *l = &m->node->shape;
    if (m->grant == 0 && !shaper_is_bound(&l->shaper))
        return true;
    if (m->grant > 0) {
        bool first = !m->grant_used;
        m->grant_used = true;
        return first;
    }
    if (!m->flow.waits) {
        shaper_wait(&l->shaper, &m->flow);
        loop_timer_set(l->timer, 0); /* not from here: the caller is in the middle of something */
    }
    return false;
}

void linkshape_sent(struct machine *m, size_t n)
{
    struct linkshape *l = &m->node->shape;
    if (shaper_is_bound(&l->shaper))
        l->bytes += n;
    shaper_charge(&l->shaper, &m->flow, n, clock_mono_usec());
}

void linkshape_give_back(struct machine *m, bool more)
{
    if (m->grant > 0)
        shaper_settle(&m->node->shape.shaper, &m->flow, m->grant, more);
    m->grant = 0;
    m->grant_used = false;
}

void linkshape_leave(struct machine *m)
{
    shaper_leave(&m->node->shape.shaper, &m->flow);
    linkshape_give_back(m, false);
}

void linkshape_totals(const struct node *node, uint64_t *ret_usec, uint64_t *ret_bytes)
{
    const struct linkshape *l = &node->shape;
    *ret_usec = l->usec + (l->since_usec != 0 ? clock_mono_usec() - l->since_usec : 0);
    *ret_bytes = l->bytes;
}
