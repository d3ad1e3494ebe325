/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/mobility/group/groupring.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "transport/base/clock.h"
#include "transport/base/file.h"
#include "transport/base/log.h"
#include "transport/base/mem.h"
#include "transport/loop/loop.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#define DEADLINE_USEC (240 * USEC_PER_SEC)
#define GROUP_NUMBER 9u

unsigned ring_draw(struct ring *g, unsigned below)
{
    unsigned value;

    pthread_mutex_lock(&g->lock);
    value = (unsigned)rand_r(&g->seed) % below;
    pthread_mutex_unlock(&g->lock);
    return value;
}

/* ---- the ledger ---- */

static void *write_ledger(void *arg)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    struct ring *g = arg;
    bool calm;

    pthread_mutex_lock(&g->lock);
    for (uint64_t k = 1; !g->ledger_stops; k++) {
        struct place *p = &g->places[k % g->count];
        while (p->frozen && !g->ledger_stops)
            pthread_cond_wait(&g->cond, &g->lock);
        p->last = k;
        calm = g->calm;
        pthread_mutex_unlock(&g->lock);
        if (calm)
            nanosleep(&pause, NULL);
        else
            sched_yield();
        pthread_mutex_lock(&g->lock);
    }
    pthread_mutex_unlock(&g->lock);
    return NULL;
}

static void set_frozen(struct place *p, bool frozen)
{
    struct ring *g = p->ring;

    pthread_mutex_lock(&g->lock);
    p->frozen = frozen && (int)p->number != g->left_out;
    p->freezes += p->frozen;
    pthread_cond_broadcast(&g->cond);
    pthread_mutex_unlock(&g->lock);
}

static uint64_t members_of(const struct ring *g, const struct ident *id)
{
    return g->lists[(unsigned)id->bytes[4] << 8 | id->bytes[5]];
}

static void commit(struct place *p, const struct ident *id, uint64_t value)
{
    struct ring *g = p->ring;
    unsigned i = 0;

    pthread_mutex_lock(&g->lock);
    while (i < g->point_count && !ident_equal(&g->points[i].id, id))
        i++;
    if (i == g->point_count && i < RING_POINTS_MAX)
        g->points[g->point_count++] = (struct point){.id = *id};
    if (i < RING_POINTS_MAX) {
        g->points[i].members |= UINT64_C(1) << p->number;
        g->points[i].values[p->number] = value;
        g->complete += g->points[i].members == members_of(g, id);
    }
    pthread_mutex_unlock(&g->lock);
}

/* ---- capture threads ---- */

static bool fails(struct place *p)
{
    bool must;

    pthread_mutex_lock(&p->ring->lock);
    must = p->ring->failures > 0;
    p->ring->failures -= must;
    pthread_mutex_unlock(&p->ring->lock);
    return must || (p->ring->trouble && ring_draw(p->ring, 150) == 0);
}

/* The pace of a disk. */
static void work(struct place *p)
{
    struct timespec t = {.tv_nsec = 1000 * (long)ring_draw(p->ring, 200)};

    nanosleep(&t, NULL);
}

static void deliver(struct place *p)
{
    struct timespec t;

    pthread_mutex_lock(&p->ring->lock);
    t.tv_sec = (time_t)(p->deliver_usec / USEC_PER_SEC);
    t.tv_nsec = (long)(p->deliver_usec % USEC_PER_SEC * 1000);
    pthread_mutex_unlock(&p->ring->lock);
    nanosleep(&t, NULL);
}

static bool is_ready(struct place *p)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    bool never;

    pthread_mutex_lock(&p->ring->lock);
    never = p->never_ready;
    pthread_mutex_unlock(&p->ring->lock);
    while (never && !group_part_is_aborted(p->part))
        nanosleep(&pause, NULL);
    return !never;
}

static uint64_t read_place(struct place *p)
{
    uint64_t value;

    pthread_mutex_lock(&p->ring->lock);
    value = p->last;
    pthread_mutex_unlock(&p->ring->lock);
    return value;
}

static void take_part(struct place *p, const struct group_part_ask *ask)
{
    struct err why = ERR_INIT;
    uint64_t until, value;
    bool gave_up, whole;
    int go;

    err_set(&why, ERR_TIMEOUT, "not held");
    value = read_place(p);
    work(p);
    go = is_ready(p) ? 0 : -1;
    while (go == 0)
        go = group_part_prepared(p->part, 5000);
    if (go < 0 || fails(p)) {
        group_part_end(p->part, 0, &why);
        return;
    }
    pthread_mutex_lock(&p->ring->lock);
    p->budget_usec = ask->budget_usec;
    pthread_mutex_unlock(&p->ring->lock);
    set_frozen(p, true);
    until = clock_mono_usec() + ask->budget_usec;
    whole = group_part_frozen(p->part, until) == 0;
    work(p);
    if ((int)p->number != p->ring->left_out)
        value = read_place(p);
    gave_up = fails(p);
    if (gave_up)
        set_frozen(p, false); /* the budget is over in the middle of it */
    whole = whole && group_part_held(p->part, until) == 0 && !gave_up && clock_mono_usec() < until;
    set_frozen(p, false);
    deliver(p);
    whole = whole && group_part_captured(p->part, 1, clock_mono_usec() + 6 * USEC_PER_SEC) == 0;
    if (whole)
        commit(p, &ask->point, value);
    group_part_end(p->part, 1, whole ? NULL : &why);
}

static void *capture(void *arg)
{
    struct place *p = arg;
    struct ring *g = p->ring;

    pthread_mutex_lock(&g->lock);
    while (!p->stop) {
        struct group_part_ask ask;
        if (!p->rung) {
            pthread_cond_wait(&g->cond, &g->lock);
            continue;
        }
        p->rung = false;
        pthread_mutex_unlock(&g->lock);
        if (group_part_take(p->part, &ask))
            take_part(p, &ask);
        pthread_mutex_lock(&g->lock);
    }
    pthread_mutex_unlock(&g->lock);
    return NULL;
}

static void to_capture(void *arg)
{
    struct place *p = arg;

    pthread_mutex_lock(&p->ring->lock);
    p->rung = true;
    pthread_cond_broadcast(&p->ring->cond);
    pthread_mutex_unlock(&p->ring->lock);
}

static void to_loop(void *arg)
{
    loop_bell_post(((struct place *)arg)->bell);
}

static void on_bell(void *arg)
{
    group_look(((struct place *)arg)->group);
}

/* ---- members ---- */

static void on_event(void *arg, const char *severity, const char *code, const char *remedy, const char *text)
{
    struct place *p = arg;
    bool changed = strcmp(code, "group_coordinator_changed") == 0;

    p->took_over += changed && strcmp(severity, "warning") == 0;
    p->gave_back += changed && strcmp(severity, "info") == 0;
    (void)remedy;
    (void)text;
}

static void on_news(void *arg, const struct group_news *news)
{
    struct place *p = arg;

    p->news = *news;
    p->told++;
}

static void on_command(void *arg, const char *id, const struct ident *point, const struct err *error)
{
    struct place *p = arg;

    (void)id;
    p->commands++;
    p->command_point = point ? *point : (struct ident){0};
    err_clear(&p->command_error);
    err_copy(&p->command_error, error);
}

void ring_begin(struct place *p)
{
    struct ring *g = p->ring;
    const struct group_part_conf part = {.to_capture = to_capture, .to_loop = to_loop, .arg = p};
    struct group_conf conf = {.loop = g->loop,
        .files = &p->files.files,
        .self = p->files.id,
        .listen = "127.0.0.1:0",
        .arg = p,
        .event = on_event,
        .news = on_news,
        .command_done = on_command};

    p->stop = p->rung = false;
    p->news = (struct group_news){0};
    p->took_over = p->gave_back = p->commands = 0;
    assert_int_equal(loop_bell_new(g->loop, on_bell, p, &p->bell, NULL), 0);
    assert_int_equal(group_part_new(&part, &p->part, NULL), 0);
    conf.part = p->part;
    conf.tls = p->tls;
    assert_int_equal(group_new(&conf, &p->group, NULL), 0);
    assert_int_equal(pthread_create(&p->thread, NULL, capture, p), 0);
    p->exists = true;
}

void ring_end(struct place *p)
{
    struct ring *g = p->ring;

    if (!p->exists)
        return;
    pthread_mutex_lock(&g->lock);
    p->stop = true;
    pthread_cond_broadcast(&g->cond);
    pthread_mutex_unlock(&g->lock);
    group_part_abort(p->part, "killed");
    pthread_join(p->thread, NULL);
    group_free(p->group);
    group_part_free(p->part);
    loop_bell_free(p->bell);
    p->exists = false;
}

void ring_tell(struct ring *g, uint64_t members)
{
    static const struct group_wish none;

    g->wish->membership++;
    g->lists[g->wish->membership % 1024] = members;
    g->wish->count = 0;
    for (unsigned i = 0; i < g->count; i++) {
        struct group_peer *peer = &g->wish->members[g->wish->count];
        if (!(members >> i & 1))
            continue;
        *peer = (struct group_peer){.id = g->places[i].files.id};
        snprintf(peer->name, sizeof(peer->name), "m%u", i);
        if (g->places[i].exists && group_port(g->places[i].group))
            snprintf(peer->address, sizeof(peer->address), "127.0.0.1:%u", group_port(g->places[i].group));
        g->wish->count++;
    }
    g->wish->coordinator = g->wish->members[0].id;
    for (unsigned i = 0; i < g->count; i++)
        if (g->places[i].exists)
            group_set(g->places[i].group, members >> i & 1 ? g->wish : &none);
}

uint64_t ring_everybody(const struct ring *g)
{
    return g->count == 64 ? UINT64_MAX : (UINT64_C(1) << g->count) - 1;
}

static bool has_ports(const struct ring *g)
{
    for (unsigned i = 0; i < g->count; i++)
        if (g->lists[g->wish->membership % 1024] >> i & 1 && g->places[i].exists && group_port(g->places[i].group) == 0)
            return false;
    return true;
}

void ring_run_until_ports(struct ring *g)
{
    while (!has_ports(g))
        assert_true(sd_event_run(g->loop, 100000) >= 0);
}

/* ---- a run ---- */

struct ring *ring_new(unsigned count)
{
    struct ring *g = calloc(1, sizeof(*g));
    const char *seed = getenv("LEEWARD_SEED");

    log_set_level(LOG_ERROR);
    g->count = count;
    g->left_out = -1;
    g->seed = seed ? (unsigned)strtoul(seed, NULL, 10) : (unsigned)clock_mono_usec();
    print_message("LEEWARD_SEED=%u\n", g->seed);
    snprintf(g->dir, sizeof(g->dir), "/tmp/leeward-ring-XXXXXX");
    assert_non_null(mkdtemp(g->dir));
    pthread_mutex_init(&g->lock, NULL);
    pthread_cond_init(&g->cond, NULL);
    assert_true(sd_event_new(&g->loop) >= 0);
    g->ca = testca_new(g->dir, "ca");
    g->wish = calloc(1, sizeof(*g->wish));
    assert_int_equal(ident_random(&g->wish->id), 0);
    g->wish->number = GROUP_NUMBER;
    g->wish->interval_usec = RING_INTERVAL_USEC;
    g->wish->budget_usec = RING_BUDGET_USEC;
    snprintf(g->wish->name, sizeof(g->wish->name), "ring");
    for (unsigned i = 0; i < count; i++) {
        struct place *p = &g->places[i];
        char name[16];
        p->ring = g;
        p->number = i;
        snprintf(name, sizeof(name), "m%u", i);
        testca_issue(g->ca, name, &(struct testca_leaf){.role = "agent"}, &p->files);
        assert_int_equal(tls_client_new(&p->files.files, NULL, &p->tls, NULL), 0);
        ring_begin(p);
    }
    assert_int_equal(pthread_create(&g->ledger, NULL, write_ledger, g), 0);
    ring_tell(g, ring_everybody(g));
    ring_run_until_ports(g);
    ring_tell(g, ring_everybody(g));
    return g;
}

void ring_free(struct ring *g)
{
    loop_timer_free(g->timer);
    for (unsigned i = 0; i < g->count; i++)
        ring_end(&g->places[i]);
    pthread_mutex_lock(&g->lock);
    g->ledger_stops = true;
    pthread_cond_broadcast(&g->cond);
    pthread_mutex_unlock(&g->lock);
    pthread_join(g->ledger, NULL);
    for (unsigned i = 0; i < g->count; i++)
        tls_context_free(g->places[i].tls);
    testca_free(g->ca);
    sd_event_unref(g->loop);
    pthread_cond_destroy(&g->cond);
    pthread_mutex_destroy(&g->lock);
    (void)file_remove_tree(g->dir, NULL);
    free(g->wish);
    free(g);
}

void ring_turn(struct ring *g)
{
    assert_true(sd_event_run(g->loop, 10000) >= 0);
}

void ring_run_for(struct ring *g, uint64_t usec)
{
    uint64_t end = clock_mono_usec() + usec;

    while (clock_mono_usec() < end)
        ring_turn(g);
}

unsigned ring_complete(struct ring *g)
{
    unsigned n;

    pthread_mutex_lock(&g->lock);
    n = g->complete;
    pthread_mutex_unlock(&g->lock);
    return n;
}

void ring_run_until(struct ring *g, unsigned points)
{
    uint64_t end = clock_mono_usec() + DEADLINE_USEC;

    while (ring_complete(g) < points) {
        if (clock_mono_usec() > end)
            fail_msg("%u of %u group points in four minutes", ring_complete(g), points);
        assert_true(sd_event_run(g->loop, 100000) >= 0);
    }
}

/* What place m must hold when the ledger had come to `last`. */
static uint64_t expected(const struct ring *g, uint64_t last, unsigned m)
{
    uint64_t back = (last % g->count + g->count - m) % g->count;

    return last >= back ? last - back : 0;
}

unsigned ring_count_wrong(const struct ring *g)
{
    unsigned wrong = 0;

    for (unsigned i = 0; i < g->point_count; i++) {
        const struct point *p = &g->points[i];
        uint64_t last = 0;
        bool bad = false;
        if (p->members != members_of(g, &p->id))
            continue;
        for (unsigned m = 0; m < g->count; m++)
            last = p->members >> m & 1 && p->values[m] > last ? p->values[m] : last;
        for (unsigned m = 0; m < g->count; m++)
            bad = bad || (p->members >> m & 1 && p->values[m] != expected(g, last, m));
        wrong += bad;
    }
    return wrong;
}
