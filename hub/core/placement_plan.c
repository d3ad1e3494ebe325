/* SPDX-License-Identifier: Apache-2.0
 *
 * placement_plan. Moves are chosen one after the other on a copy of the nodes' loads, each counted in before the next is chosen, so
 * that the machines of one lost node spread over all that are left. What a machine brings is its churn and a fixed share for its
 * stream: many quiet machines are work, too.
 *
 * Hysteresis: a node is left for balance when it is hot (processor or spool) and another one is much cooler, or when it carries much
 * more churn than another; "much" is measured so that the same move backwards is never worth it.
 */
#include <string.h>

#include "hub/core/placement.h"
#include "transport/base/clock.h"
#include "transport/base/mem.h"

#define SPOOL_FULL_PERMILLE 900
#define LOAD_STEP_PERMILLE 100
#define STREAM_WEIGHT (64u << 10) /* bytes per second that a quiet machine counts as */
#define HOT_PERMILLE 700
#define HOT_GAP_PERMILLE 300
#define SPREAD_PERCENT 30 /* of the average weight: a smaller difference between two nodes is left alone */
#define DRAIN_AT_ONCE 8   /* streams that are handed over at the same time */
#define NODE_UP_USEC (60 * USEC_PER_SEC)      /* a node that has just come gets nothing for balance */
#define SETTLED_USEC (10 * 60 * USEC_PER_SEC) /* nor does a machine move that has just come */
#define BALANCE_PAUSE_USEC (30 * USEC_PER_SEC)

struct load {
    uint64_t weight;
    size_t machines;
};

struct plan {
    const struct placement_fleet *fleet;
    struct load *loads;
    bool *taken; /* machines with a move, old or new */
    struct placement_move *moves;
    size_t count, max;
};

const char *placement_reason_name(enum placement_reason reason)
{
    static const char *const names[] = {"node_gone", "drain", "pin", "site", "balance"};

    return names[reason];
}

static uint64_t weight_of(const struct placement_machine *m)
{
    return m->churn_bytes_per_sec + STREAM_WEIGHT;
}

static bool is_usable(const struct placement_node *n)
{
    return n->online && !n->drain && !n->gone;
}

static uint64_t pressure_of(const struct placement_node *n)
{
    return n->spool_permille > n->cpu_permille ? n->spool_permille : n->cpu_permille;
}

/* For that machine: room, site, load in steps, then what it carries. */
static bool is_better(const struct plan *p, const struct placement_machine *m, size_t a, size_t b)
{
    const struct placement_node *x = &p->fleet->nodes[a], *y = &p->fleet->nodes[b];
    bool x_full = x->spool_permille >= SPOOL_FULL_PERMILLE, y_full = y->spool_permille >= SPOOL_FULL_PERMILLE;
    bool x_home = x->zone == m->zone, y_home = y->zone == m->zone;
    uint64_t x_load = pressure_of(x) / LOAD_STEP_PERMILLE, y_load = pressure_of(y) / LOAD_STEP_PERMILLE;

    if (x_full != y_full)
        return y_full;
    if (x_home != y_home)
        return x_home;
    if (x_load != y_load &&
        (x_load >= HOT_PERMILLE / LOAD_STEP_PERMILLE || y_load >= HOT_PERMILLE / LOAD_STEP_PERMILLE))
        return x_load < y_load;
    if (p->loads[a].weight != p->loads[b].weight)
        return p->loads[a].weight < p->loads[b].weight;
    return p->loads[a].machines < p->loads[b].machines;
}

/* PLACEMENT_NONE: there is no other node to go to. */
static size_t best_node(const struct plan *p, const struct placement_machine *m)
{
    size_t best = PLACEMENT_NONE;

    if (m->pin != PLACEMENT_NONE && m->pin != m->node && is_usable(&p->fleet->nodes[m->pin]))
        return m->pin;
    for (size_t i = 0; i < p->fleet->node_count; i++)
        if (i != m->node && is_usable(&p->fleet->nodes[i]) && (best == PLACEMENT_NONE || is_better(p, m, i, best)))
            best = i;
    return best;
}

static void add_move(struct plan *p, size_t machine, size_t to, enum placement_reason reason)
{
    const struct placement_machine *m = &p->fleet->machines[machine];

    if (to == PLACEMENT_NONE || p->count == p->max)
        return;
    p->moves[p->count++] = (struct placement_move){machine, m->node, to, reason};
    p->taken[machine] = true;
    p->loads[to].weight += weight_of(m);
    p->loads[to].machines++;
    if (m->node == PLACEMENT_NONE)
        return;
    p->loads[m->node].weight -= weight_of(m);
    p->loads[m->node].machines--;
}

static void leave_gone(struct plan *p)
{
    const struct placement_fleet *f = p->fleet;

    for (size_t i = 0; i < f->machine_count; i++) {
        const struct placement_machine *m = &f->machines[i];

        if (!p->taken[i] && (m->node == PLACEMENT_NONE || (f->settled && f->nodes[m->node].gone)))
            add_move(p, i, best_node(p, m), PLACEMENT_GONE);
    }
}

static void leave_drained(struct plan *p)
{
    const struct placement_fleet *f = p->fleet;
    size_t under_way = 0;

    for (size_t i = 0; i < f->machine_count; i++)
        under_way += f->machines[i].moving;
    for (size_t i = 0; i < f->machine_count && under_way < DRAIN_AT_ONCE; i++) {
        const struct placement_machine *m = &f->machines[i];
        size_t before = p->count;

        if (!p->taken[i] && m->node != PLACEMENT_NONE && f->nodes[m->node].drain)
            add_move(p, i, best_node(p, m), PLACEMENT_DRAIN);
        under_way += p->count - before;
    }
}

static void go_to_pins(struct plan *p)
{
    for (size_t i = 0; i < p->fleet->machine_count; i++) {
        const struct placement_machine *m = &p->fleet->machines[i];

        if (!p->taken[i] && m->pin != PLACEMENT_NONE && m->pin != m->node && is_usable(&p->fleet->nodes[m->pin]))
            add_move(p, i, m->pin, PLACEMENT_PIN);
    }
}

/* ---- without need ---- */

static bool may_move(const struct plan *p, size_t i)
{
    const struct placement_machine *m = &p->fleet->machines[i];

    return !p->taken[i] && m->node != PLACEMENT_NONE && m->pin == PLACEMENT_NONE && m->settled_usec >= SETTLED_USEC &&
           is_usable(&p->fleet->nodes[m->node]);
}

static bool may_receive(const struct placement_node *n)
{
    return is_usable(n) && n->up_usec >= NODE_UP_USEC && pressure_of(n) < HOT_PERMILLE;
}

static bool go_home(struct plan *p)
{
    const struct placement_fleet *f = p->fleet;

    for (size_t i = 0; i < f->machine_count; i++) {
        const struct placement_machine *m = &f->machines[i];
        size_t to;

        if (!may_move(p, i) || f->nodes[m->node].zone == m->zone)
            continue;
        to = best_node(p, m);
        if (to == PLACEMENT_NONE || f->nodes[to].zone != m->zone || !may_receive(&f->nodes[to]))
            continue;
        add_move(p, i, to, PLACEMENT_ZONE);
        return true;
    }
    return false;
}

/* Is it worth it to take this much from one to the other? */
static bool helps(const struct plan *p, size_t from, size_t to, uint64_t weight, uint64_t average)
{
    const struct placement_node *a = &p->fleet->nodes[from], *b = &p->fleet->nodes[to];
    uint64_t hot = pressure_of(a), cool = pressure_of(b), load = p->loads[from].weight;

    if (hot >= HOT_PERMILLE && cool + HOT_GAP_PERMILLE <= hot) {
        uint64_t brings = load ? hot * weight / load : 0;

        return cool + brings < hot - brings;
    }
    return cool <= hot + LOAD_STEP_PERMILLE && load > p->loads[to].weight &&
           (load - p->loads[to].weight) * 100 > average * SPREAD_PERCENT && weight <= (load - p->loads[to].weight) / 2;
}

static uint64_t average_weight(const struct plan *p)
{
    uint64_t sum = 0;
    size_t count = 0;

    for (size_t i = 0; i < p->fleet->node_count; i++)
        if (is_usable(&p->fleet->nodes[i])) {
            sum += p->loads[i].weight;
            count++;
        }
    return count ? sum / count : 0;
}

/* The heaviest machine whose move helps, from the node that carries most. */
static void balance(struct plan *p)
{
    const struct placement_fleet *f = p->fleet;
    uint64_t average = average_weight(p), best_load = 0;
    size_t best = PLACEMENT_NONE, best_to = PLACEMENT_NONE;

    for (size_t i = 0; i < f->machine_count; i++) {
        const struct placement_machine *m = &f->machines[i];
        size_t to;
        uint64_t rank;

        if (!may_move(p, i))
            continue;
        to = best_node(p, m);
        if (to == PLACEMENT_NONE || f->nodes[to].zone != f->nodes[m->node].zone || !may_receive(&f->nodes[to]) ||
            !helps(p, m->node, to, weight_of(m), average))
            continue;
        rank = p->loads[m->node].weight + weight_of(m);
        if (best != PLACEMENT_NONE && rank <= best_load)
            continue;
        best = i;
        best_to = to;
        best_load = rank;
    }
    if (best != PLACEMENT_NONE)
        add_move(p, best, best_to, PLACEMENT_BALANCE);
}

static void count_loads(struct plan *p)
{
    for (size_t i = 0; i < p->fleet->machine_count; i++) {
        const struct placement_machine *m = &p->fleet->machines[i];

        p->taken[i] = m->moving;
        if (m->node == PLACEMENT_NONE)
            continue;
        p->loads[m->node].weight += weight_of(m);
        p->loads[m->node].machines++;
    }
}

int placement_plan(const struct placement_fleet *fleet, struct placement_move *ret_moves, size_t max, struct err *err)
{
    AUTO_FREE struct load *loads = mem_alloc(fleet->node_count + 1, sizeof(*loads));
    AUTO_FREE bool *taken = mem_alloc(fleet->machine_count + 1, sizeof(*taken));
    struct plan p = {.fleet = fleet, .loads = loads, .taken = taken, .moves = ret_moves, .max = max};

    if (!loads || !taken)
        return err_set(err, ERR_NOMEM, "no memory to place %zu machines", fleet->machine_count);
    count_loads(&p);
    leave_gone(&p);
    leave_drained(&p);
    go_to_pins(&p);
    if (p.count == 0 && fleet->settled && fleet->since_balance_usec >= BALANCE_PAUSE_USEC && !go_home(&p))
        balance(&p);
    return (int)p.count;
}
