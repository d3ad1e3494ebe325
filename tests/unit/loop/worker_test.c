/* SPDX-License-Identifier: Apache-2.0
 *
 * Worker pools: every job answered once on the loop thread, lanes in order, bounds, and what freeing a busy pool does.
 */
#include "tests/unit/base/unit.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

#include "transport/base/mem.h"
#include "transport/loop/loop.h"
#include "transport/loop/worker.h"

struct job {
    struct worker_job base;
    int number;
    struct fixture *fixture;
};

struct fixture {
    sd_event *loop;
    struct worker_pool *pool;
    pthread_t loop_thread;
    int expected, answered, not_run;
    int order[1000];
    atomic_int in_lane;
    bool overlapped, wrong_thread;
    sem_t gate;
};

static void run_at_once(struct worker_job *base)
{
    struct job *job = (struct job *)base;

    if (pthread_equal(pthread_self(), job->fixture->loop_thread))
        job->fixture->wrong_thread = true;
}

static void run_alone(struct worker_job *base)
{
    struct fixture *f = ((struct job *)base)->fixture;

    if (atomic_fetch_add(&f->in_lane, 1) != 0)
        f->overlapped = true;
    atomic_fetch_sub(&f->in_lane, 1);
}

static void run_behind_gate(struct worker_job *base)
{
    struct fixture *f = ((struct job *)base)->fixture;

    while (sem_wait(&f->gate) < 0)
        ;
}

static void answer(struct worker_job *base)
{
    struct job *job = (struct job *)base;
    struct fixture *f = job->fixture;

    if (!pthread_equal(pthread_self(), f->loop_thread))
        f->wrong_thread = true;
    f->order[f->answered++] = job->number;
    f->not_run += !worker_job_was_run(base);
    if (f->answered == f->expected)
        sd_event_exit(f->loop, 0);
    free(job);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    if (!f || loop_new(NULL, NULL, &f->loop, NULL) < 0 || worker_pool_new(f->loop, "test", 3, 500, &f->pool, NULL) < 0)
        return -1;
    f->loop_thread = pthread_self();
    *state = f;
    return sem_init(&f->gate, 0, 0);
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    worker_pool_free(f->pool);
    loop_free(f->loop);
    sem_destroy(&f->gate);
    free(f);
    return 0;
}

static struct job *job_new(struct fixture *f, int number, void (*run)(struct worker_job *job))
{
    struct job *job = calloc(1, sizeof(*job));

    assert_non_null(job);
    *job = (struct job){.base = {.run = run, .done = answer}, .number = number, .fixture = f};
    return job;
}

static void every_job_is_answered_on_the_loop_thread(void **state)
{
    struct fixture *f = *state;

    f->expected = 500;
    for (int i = 0; i < f->expected; i++)
        assert_int_equal(worker_submit(f->pool, &job_new(f, i, run_at_once)->base, NULL), 0);
    assert_int_equal(loop_run(f->loop, NULL), 0);
    assert_int_equal(f->answered, 500);
    assert_false(f->wrong_thread);
    assert_int_equal(worker_pending(f->pool), 0);
}

static void lane_keeps_order_and_never_overlaps(void **state)
{
    struct fixture *f = *state;
    struct worker_lane *lane = worker_lane_new(f->pool);

    f->expected = 400;
    for (int i = 0; i < 400; i++) {
        bool in_lane = i % 2 == 0;
        struct job *job = job_new(f, i, in_lane ? run_alone : run_at_once);
        int rc = in_lane ? worker_lane_submit(lane, &job->base, NULL) : worker_submit(f->pool, &job->base, NULL);
        assert_int_equal(rc, 0);
    }
    assert_int_equal(loop_run(f->loop, NULL), 0);
    assert_false(f->overlapped);
    int last = -1;
    for (int i = 0; i < f->answered; i++) {
        if (f->order[i] % 2 != 0)
            continue;
        assert_true(f->order[i] > last);
        last = f->order[i];
    }
    assert_int_equal(last, 398);
    worker_lane_free(lane);
}

static void full_queue_pushes_back(void **state)
{
    struct fixture *f = *state;
    struct worker_pool *small;
    struct err err = ERR_INIT;

    assert_int_equal(worker_pool_new(f->loop, "small", 1, 2, &small, NULL), 0);
    f->expected = 2;
    for (int i = 0; i < 2; i++)
        assert_int_equal(worker_submit(small, &job_new(f, i, run_behind_gate)->base, NULL), 0);
    struct job *third = job_new(f, 3, run_at_once);
    assert_int_equal(worker_submit(small, &third->base, &err), -1);
    assert_int_equal(err.code, ERR_NOMEM);
    free(third);
    sem_post(&f->gate);
    sem_post(&f->gate);
    assert_int_equal(loop_run(f->loop, NULL), 0);
    assert_int_equal(worker_pending(small), 0);
    worker_pool_free(small);
}

static void freeing_a_busy_pool_answers_everything(void **state)
{
    struct fixture *f = *state;
    struct worker_pool *busy;

    assert_int_equal(worker_pool_new(f->loop, "busy", 1, 100, &busy, NULL), 0);
    struct worker_lane *lane = worker_lane_new(busy);
    f->expected = 1000; /* never: nothing runs the loop here */
    sem_post(&f->gate);
    for (int i = 0; i < 20; i++)
        assert_int_equal(worker_lane_submit(lane, &job_new(f, i, i ? run_at_once : run_behind_gate)->base, NULL), 0);
    for (int i = 20; i < 40; i++)
        assert_int_equal(worker_submit(busy, &job_new(f, i, run_at_once)->base, NULL), 0);
    worker_pool_free(busy);
    worker_lane_free(lane);
    assert_int_equal(f->answered, 40);
    worker_pool_free(NULL);
}

static void draining_runs_what_waits_and_takes_no_longer_than_it_may(void **state)
{
    struct fixture *f = *state;
    struct worker_pool *busy;

    assert_int_equal(worker_pool_new(f->loop, "busy", 1, 100, &busy, NULL), 0);
    struct worker_lane *lane = worker_lane_new(busy);
    f->expected = 1000; /* never: nothing runs the loop here */
    assert_int_equal(worker_submit(busy, &job_new(f, 0, run_behind_gate)->base, NULL), 0);
    for (int i = 1; i < 40; i++) {
        struct job *job = job_new(f, i, run_at_once);

        assert_int_equal(i % 2 ? worker_lane_submit(lane, &job->base, NULL) : worker_submit(busy, &job->base, NULL), 0);
    }
    assert_int_equal(worker_pool_drain(busy, 1000), -1);
    assert_int_equal(f->answered, 0);
    sem_post(&f->gate);
    assert_int_equal(worker_pool_drain(busy, 120000000), 0);
    assert_int_equal(f->answered, 40);
    assert_int_equal(f->not_run, 0);
    assert_int_equal(worker_pending(busy), 0);
    assert_int_equal(worker_pool_drain(busy, 0), 0);
    worker_pool_free(busy);
    worker_lane_free(lane);
}

/* Jobs in pairs, on one thread. When `done` of a pair's first job is over, the first one of the next pair is finished: its second one runs. All of a pair
 * is answered before the first job of the next one is, so two pairs take turns. */
struct endless {
    struct endless_job {
        struct worker_job base;
        struct endless *endless;
    } pairs[2][2];
    struct worker_pool *pool;
    sem_t second_runs;
    unsigned round, rounds_max;
};

static void say_that_it_runs(struct worker_job *job)
{
    sem_post(&((struct endless_job *)job)->endless->second_runs);
}

static void do_nothing(struct worker_job *job)
{
    (void)job;
}

static void submit_next_pair(struct worker_job *job)
{
    struct endless *e = ((struct endless_job *)job)->endless;
    struct endless_job *pair = e->pairs[++e->round % 2];

    if (!worker_job_was_run(job) || e->round > e->rounds_max)
        return;
    assert_int_equal(worker_submit(e->pool, &pair[0].base, NULL), 0);
    assert_int_equal(worker_submit(e->pool, &pair[1].base, NULL), 0);
    while (sem_wait(&e->second_runs) < 0)
        ;
}

static void draining_ends_in_time_also_where_work_never_does(void **state)
{
    struct fixture *f = *state;
    struct endless e = {.rounds_max = 200000};

    for (unsigned i = 0; i < 2; i++) {
        e.pairs[i][0] = (struct endless_job){{.run = do_nothing, .done = submit_next_pair}, &e};
        e.pairs[i][1] = (struct endless_job){{.run = say_that_it_runs, .done = do_nothing}, &e};
    }
    assert_int_equal(sem_init(&e.second_runs, 0, 0), 0);
    assert_int_equal(worker_pool_new(f->loop, "endless", 1, 100, &e.pool, NULL), 0);
    assert_int_equal(worker_submit(e.pool, &e.pairs[0][0].base, NULL), 0);
    assert_int_equal(worker_pool_drain(e.pool, 20000), -1);
    assert_true(e.round <= e.rounds_max);
    e.rounds_max = 0;
    worker_pool_free(e.pool);
    (void)sem_destroy(&e.second_runs);
}

static void every_allocation_may_fail(void **state)
{
    struct fixture *f = *state;

    for (long n = 1; n <= 3; n++) {
        struct worker_pool *pool = NULL;
        struct err err = ERR_INIT;
        mem_fail_at(n);
        int rc = worker_pool_new(f->loop, "x", 2, 2, &pool, &err);
        mem_fail_at(0);
        assert_int_equal(err.code, rc < 0 ? ERR_NOMEM : ERR_NONE);
        worker_pool_free(pool);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_job_is_answered_on_the_loop_thread, set_up, tear_down),
        cmocka_unit_test_setup_teardown(lane_keeps_order_and_never_overlaps, set_up, tear_down),
        cmocka_unit_test_setup_teardown(full_queue_pushes_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(freeing_a_busy_pool_answers_everything, set_up, tear_down),
        cmocka_unit_test_setup_teardown(draining_runs_what_waits_and_takes_no_longer_than_it_may, set_up, tear_down),
        cmocka_unit_test_setup_teardown(draining_ends_in_time_also_where_work_never_does, set_up, tear_down),
        cmocka_unit_test_setup_teardown(every_allocation_may_fail, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
