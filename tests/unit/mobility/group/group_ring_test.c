/* SPDX-License-Identifier: Apache-2.0
 *
 * Whole groups of up to 64 members over real TLS on loopback, without disks: each member's capture thread freezes a place of a
 * shared ledger instead. The ledger writes number k to place k % n and waits while that is frozen, so the places together are a
 * prefix exactly when there was one moment at which all were frozen. Members fail, thaw too early, are too slow, are killed and
 * leave and join meanwhile. As a control one member is left out: it does not freeze, and its point is what it read in its live rounds; the judge
 * must notice.
 *
 * LEEWARD_GROUP_POINTS (300) and LEEWARD_SEED make it longer and repeat it.
 */
#include "mobility/group/group.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "mobility/group/group_point.h"
#include "tests/unit/rpc/testca.h"
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

#define INTERVAL_USEC 2000u
#define BUDGET_USEC 2000000u
#define POINTS_MAX 4096u
#define DEADLINE_USEC (240 * USEC_PER_SEC)
#define GROUP_NUMBER 9u

struct ring;

struct place {
    struct ring *ring;
    unsigned number;
    struct testca_files files;
    struct tls_context *tls;
    struct loop_bell *bell;
    struct group_part *part;
    struct group *group;
    pthread_t thread;
    bool exists;
    /* Guarded by the ring's lock. */
    bool stop, rung, frozen;
    uint64_t last; /* written here */
};

struct point {
    struct ident id;
    uint64_t members, values[GROUP_MEMBERS_MAX]; /* one bit for each value that is there */
};

struct ring {
    char dir[64];
    sd_event *loop;
    struct testca *ca;
    struct place places[GROUP_MEMBERS_MAX];
    unsigned count, seed;
    struct group_wish *wish;
    uint64_t lists[1024]; /* members by number of the list, one bit each */
    struct loop_timer *timer;
    pthread_t ledger;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool ledger_stops; /* from here on guarded by lock */
    struct point points[POINTS_MAX];
    unsigned point_count, complete;
    int left_out;        /* the control: a place that only says that it freezes; -1: none */
    bool trouble;        /* members fail now and then */
    unsigned failures;   /* so many members fail from here on */
    unsigned successors; /* members that took the coordinator's place */
};

static unsigned draw(struct ring *g, unsigned below)
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
    struct ring *g = arg;

    pthread_mutex_lock(&g->lock);
    for (uint64_t k = 1; !g->ledger_stops; k++) {
        struct place *p = &g->places[k % g->count];
        while (p->frozen && !g->ledger_stops)
            pthread_cond_wait(&g->cond, &g->lock);
        p->last = k;
        pthread_mutex_unlock(&g->lock);
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
    if (i == g->point_count && i < POINTS_MAX)
        g->points[g->point_count++] = (struct point){.id = *id};
    if (i < POINTS_MAX) {
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
    return must || (p->ring->trouble && draw(p->ring, 150) == 0);
}

/* The pace of a disk. */
static void work(struct place *p)
{
    struct timespec t = {.tv_nsec = 1000 * (long)draw(p->ring, 200)};

    nanosleep(&t, NULL);
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
    while ((go = group_part_prepared(p->part, 5000)) == 0)
        ;
    if (go < 0 || fails(p)) {
        group_part_end(p->part, 0, &why);
        return;
    }
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
    (void)severity;
    ((struct place *)arg)->ring->successors += strcmp(code, "group_coordinator_changed") == 0;
    (void)remedy;
    (void)text;
}

static void on_news(void *arg, const struct group_news *news)
{
    (void)arg;
    (void)news;
}

static void on_command(void *arg, const char *id, const struct ident *point, const struct err *error)
{
    (void)arg;
    (void)id;
    (void)point;
    (void)error;
}

static void begin_place(struct place *p)
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
    assert_int_equal(loop_bell_new(g->loop, on_bell, p, &p->bell, NULL), 0);
    assert_int_equal(group_part_new(&part, &p->part, NULL), 0);
    conf.part = p->part;
    conf.tls = p->tls;
    assert_int_equal(group_new(&conf, &p->group, NULL), 0);
    assert_int_equal(pthread_create(&p->thread, NULL, capture, p), 0);
    p->exists = true;
}

/* As a kill: its connections end, its thread is gone, nothing is frozen any more. */
static void end_place(struct place *p)
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

/* Tells all members the present list, as the hub would. */
static void tell_list(struct ring *g, uint64_t members)
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
        if (group_port(g->places[i].group))
            snprintf(peer->address, sizeof(peer->address), "127.0.0.1:%u", group_port(g->places[i].group));
        g->wish->count++;
    }
    g->wish->coordinator = g->wish->members[0].id;
    for (unsigned i = 0; i < g->count; i++)
        group_set(g->places[i].group, members >> i & 1 ? g->wish : &none);
}

static uint64_t everybody(const struct ring *g)
{
    return g->count == 64 ? UINT64_MAX : (UINT64_C(1) << g->count) - 1;
}

static bool has_ports(const struct ring *g)
{
    for (unsigned i = 0; i < g->count; i++)
        if (g->lists[g->wish->membership % 1024] >> i & 1 && group_port(g->places[i].group) == 0)
            return false;
    return true;
}

static void run_until_ports(struct ring *g)
{
    while (!has_ports(g))
        assert_true(sd_event_run(g->loop, 100000) >= 0);
}

/* ---- a run ---- */

static struct ring *ring_new(unsigned count)
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
    g->wish->interval_usec = INTERVAL_USEC;
    g->wish->budget_usec = BUDGET_USEC;
    snprintf(g->wish->name, sizeof(g->wish->name), "ring");
    for (unsigned i = 0; i < count; i++) {
        struct place *p = &g->places[i];
        char name[16];
        p->ring = g;
        p->number = i;
        snprintf(name, sizeof(name), "m%u", i);
        testca_issue(g->ca, name, &(struct testca_leaf){.role = "agent"}, &p->files);
        assert_int_equal(tls_client_new(&p->files.files, NULL, &p->tls, NULL), 0);
        begin_place(p);
    }
    assert_int_equal(pthread_create(&g->ledger, NULL, write_ledger, g), 0);
    tell_list(g, everybody(g));
    run_until_ports(g);
    tell_list(g, everybody(g));
    return g;
}

static void ring_free(struct ring *g)
{
    loop_timer_free(g->timer);
    for (unsigned i = 0; i < g->count; i++)
        end_place(&g->places[i]);
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

static unsigned complete_points(struct ring *g)
{
    unsigned n;

    pthread_mutex_lock(&g->lock);
    n = g->complete;
    pthread_mutex_unlock(&g->lock);
    return n;
}

static void run_until(struct ring *g, unsigned points)
{
    uint64_t end = clock_mono_usec() + DEADLINE_USEC;

    while (complete_points(g) < points) {
        if (clock_mono_usec() > end)
            fail_msg("%u of %u group points in four minutes", complete_points(g), points);
        assert_true(sd_event_run(g->loop, 100000) >= 0);
    }
}

/* What place m must hold when the ledger had come to `last`. */
static uint64_t expected(const struct ring *g, uint64_t last, unsigned m)
{
    uint64_t back = (last % g->count + g->count - m) % g->count;

    return last >= back ? last - back : 0;
}

/* Complete points that are of no one moment. */
static unsigned count_wrong(const struct ring *g)
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

static unsigned points_wanted(void)
{
    const char *n = getenv("LEEWARD_GROUP_POINTS");

    return n ? (unsigned)strtoul(n, NULL, 10) : 300;
}

/* ---- tests ---- */

static void test_every_group_point_is_of_one_moment(void **state)
{
    static const unsigned sizes[] = {2, 5};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct ring *g = ring_new(sizes[i]);
        g->trouble = true;
        run_until(g, points_wanted() / 2);
        assert_int_equal(count_wrong(g), 0);
        print_message("%u members: %u group points, %u of them whole\n", sizes[i], g->point_count, g->complete);
        ring_free(g);
    }
}

static void test_sixty_four_members(void **state)
{
    struct ring *g = ring_new(64);

    (void)state;
    run_until(g, 3);
    assert_int_equal(count_wrong(g), 0);
    ring_free(g);
}

/* A point of it is right where the ledger did not come to write meanwhile, which on a busy machine may be the most of them. */
static void test_a_member_that_is_left_out_is_noticed_by_the_judge(void **state)
{
    struct ring *g = ring_new(3);
    unsigned wrong = 0;

    (void)state;
    g->left_out = 1;
    for (unsigned points = 40; wrong == 0 && points <= 1000; points += 40) {
        run_until(g, points);
        pthread_mutex_lock(&g->lock);
        wrong = count_wrong(g);
        pthread_mutex_unlock(&g->lock);
    }
    assert_true(wrong > 0);
    ring_free(g);
}

/* Kills a member, the coordinator as often as not, or changes the list. */
static void disturb(struct ring *g)
{
    unsigned victim = draw(g, 2) ? 0 : draw(g, g->count);
    uint64_t members = everybody(g);

    if (draw(g, 3) == 0) {
        tell_list(g, members & ~(UINT64_C(1) << draw(g, g->count)));
        return;
    }
    end_place(&g->places[victim]);
    begin_place(&g->places[victim]);
    tell_list(g, members);
    run_until_ports(g);
    tell_list(g, members);
}

static void test_killed_members_and_changing_lists(void **state)
{
    struct ring *g = ring_new(4);
    unsigned made = 0, disturbances = 0;

    (void)state;
    g->trouble = true;
    /* Each list begins a second after it was told: so many as there is time for. */
    while (disturbances < 4) {
        run_until(g, made + 8);
        for (unsigned turns = draw(g, 8); turns > 0; turns--)
            assert_true(sd_event_run(g->loop, 1000) >= 0); /* any moment */
        disturb(g);
        disturbances++;
        made = complete_points(g);
    }
    tell_list(g, everybody(g));
    run_until(g, made + 8);
    assert_int_equal(count_wrong(g), 0);
    print_message("%u disturbances, %u group points, %u of them whole\n", disturbances, g->point_count, g->complete);
    ring_free(g);
}

/* Not a day later. */
static void test_a_group_point_that_is_missed_is_made_up_for(void **state)
{
    struct ring *g = ring_new(3);

    (void)state;
    g->wish->interval_usec = 24 * 3600 * USEC_PER_SEC;
    pthread_mutex_lock(&g->lock);
    g->failures = 1;
    pthread_mutex_unlock(&g->lock);
    tell_list(g, everybody(g));
    run_until(g, complete_points(g) + 1);
    assert_int_equal(g->failures, 0);
    assert_int_equal(count_wrong(g), 0);
    ring_free(g);
}

/* Nobody was to be heard of before, so nobody is overdue. */
static void test_a_new_interval_makes_nobody_a_successor(void **state)
{
    struct ring *g = ring_new(3);
    uint64_t end;
    unsigned points;

    (void)state;
    g->wish->interval_usec = 0;
    tell_list(g, everybody(g));
    end = clock_mono_usec() + 14 * USEC_PER_SEC; /* more than the second successor waits beyond intervals */
    while (clock_mono_usec() < end)
        assert_true(sd_event_run(g->loop, 100000) >= 0);
    points = complete_points(g);
    g->wish->interval_usec = INTERVAL_USEC;
    for (unsigned i = 0; i < g->count; i++)
        group_set(g->places[i].group, g->wish);
    run_until(g, points + 20);
    assert_int_equal(g->successors, 0);
    ring_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_group_point_is_of_one_moment),
        cmocka_unit_test(test_sixty_four_members),
        cmocka_unit_test(test_a_member_that_is_left_out_is_noticed_by_the_judge),
        cmocka_unit_test(test_killed_members_and_changing_lists),
        cmocka_unit_test(test_a_group_point_that_is_missed_is_made_up_for),
        cmocka_unit_test(test_a_new_interval_makes_nobody_a_successor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
