/* SPDX-License-Identifier: Apache-2.0
 *
 * The loop itself: stop signals, timers, the bell.
 */
#include "tests/unit/base/unit.h"

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "transport/base/clock.h"
#include "transport/base/mem.h"
#include "transport/loop/loop.h"

struct fixture {
    sd_event *loop;
    int count;
    struct loop_timer *timer;
    struct loop_bell *bell;
};

static void stop(void *arg)
{
    struct fixture *f = arg;

    f->count++;
    sd_event_exit(f->loop, 42);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    *state = f;
    return f ? loop_new(stop, f, &f->loop, NULL) : -1;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    loop_free(f->loop);
    free(f);
    return 0;
}

static void first_signal_asks_to_stop(void **state)
{
    struct fixture *f = *state;

    kill(getpid(), SIGTERM);
    assert_int_equal(loop_run(f->loop, NULL), 42);
    assert_int_equal(f->count, 1);
}

static void second_signal_of_a_kind_ends_a_hanging_process(void **state)
{
    (void)state;
    pid_t pid = fork();
    if (pid == 0) {
        struct fixture f = {0};
        if (loop_new(stop, &f, &f.loop, NULL) < 0)
            _exit(1);
        kill(getpid(), SIGTERM);
        if (loop_run(f.loop, NULL) != 42)
            _exit(2);
        kill(getpid(), SIGTERM);
        _exit(3);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGTERM);
}

static void tick(void *arg)
{
    struct fixture *f = arg;

    if (++f->count == 5) {
        loop_timer_free(f->timer);
        f->timer = NULL;
        sd_event_exit(f->loop, 0);
    }
}

static void timer_repeats_and_may_be_freed_from_its_own_callback(void **state)
{
    struct fixture *f = *state;
    uint64_t begin = clock_mono_usec();

    assert_int_equal(loop_timer_new(f->loop, 1000, 2000, tick, f, &f->timer, NULL), 0);
    assert_int_equal(loop_run(f->loop, NULL), 0);
    assert_int_equal(f->count, 5);
    assert_null(f->timer);
    assert_true(clock_mono_usec() - begin >= 9000);
}

static void once(void *arg)
{
    struct fixture *f = arg;

    if (++f->count < 3)
        loop_timer_set(f->timer, 500);
    else
        sd_event_exit(f->loop, 0);
}

static void one_shot_fires_again_only_when_set(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(loop_timer_new(f->loop, 0, 0, once, f, &f->timer, NULL), 0);
    assert_int_equal(loop_run(f->loop, NULL), 0);
    assert_int_equal(f->count, 3);
    loop_timer_free(f->timer);
    loop_timer_free(NULL);
}

static void *ring(void *arg)
{
    for (int i = 0; i < 100; i++)
        loop_bell_post(arg);
    return NULL;
}

static void wake(void *arg)
{
    struct fixture *f = arg;

    f->count++;
    sd_event_exit(f->loop, 0);
}

static void bell_of_another_thread_wakes_the_loop(void **state)
{
    struct fixture *f = *state;
    pthread_t thread;

    assert_int_equal(loop_bell_new(f->loop, wake, f, &f->bell, NULL), 0);
    assert_int_equal(pthread_create(&thread, NULL, ring, f->bell), 0);
    assert_int_equal(loop_run(f->loop, NULL), 0);
    assert_in_range(f->count, 1, 100);
    pthread_join(thread, NULL);
    loop_bell_free(f->bell);
    loop_bell_free(NULL);
}

static void every_allocation_may_fail(void **state)
{
    struct fixture *f = *state;

    for (long n = 1; n <= 4; n++) {
        sd_event *loop = NULL;
        mem_fail_at(n);
        int rc = loop_new(stop, f, &loop, NULL);
        mem_fail_at(0);
        assert_true((rc < 0) == (n <= 3));
        loop_free(loop);
    }
    struct loop_timer *timer = NULL;
    mem_fail_at(1);
    assert_int_equal(loop_timer_new(f->loop, 0, 0, tick, f, &timer, NULL), -1);
    struct loop_bell *bell = NULL;
    mem_fail_at(1);
    assert_int_equal(loop_bell_new(f->loop, wake, f, &bell, NULL), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(first_signal_asks_to_stop, set_up, tear_down),
        cmocka_unit_test(second_signal_of_a_kind_ends_a_hanging_process),
        cmocka_unit_test_setup_teardown(timer_repeats_and_may_be_freed_from_its_own_callback, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_shot_fires_again_only_when_set, set_up, tear_down),
        cmocka_unit_test_setup_teardown(bell_of_another_thread_wakes_the_loop, set_up, tear_down),
        cmocka_unit_test_setup_teardown(every_allocation_may_fail, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
