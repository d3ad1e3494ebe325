/* SPDX-License-Identifier: Apache-2.0
 *
 * Keeping a child alive, with real children: sh and sleep stand for a daemon.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <signal.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "hub/cli/supervise.h"
#include "transport/base/clock.h"
#include "transport/base/mem.h"
#include "transport/loop/loop.h"

struct watched {
    sd_event *loop;
    struct supervised *child;
    const char *script;
    int starts, exits;
    int stop_after; /* exits, then it is asked to stop */
    bool give_up, stopped;
    int last_status;
};

static int prepare(void *arg, const char *argv[SUPERVISE_ARGUMENTS_MAX])
{
    struct watched *w = arg;

    w->starts++;
    argv[1] = "-c";
    argv[2] = w->script;
    return 1;
}

static bool on_exit_of(void *arg, int wait_status)
{
    struct watched *w = arg;

    w->exits++;
    w->last_status = wait_status;
    if (w->exits == w->stop_after)
        supervise_stop(w->child);
    return !w->give_up;
}

static void on_stopped(void *arg)
{
    struct watched *w = arg;

    w->stopped = true;
    (void)sd_event_exit(w->loop, 0);
}

static void run(struct watched *w, void (*before)(struct watched *w))
{
    const struct supervised_spec spec = {
        .program = "sh", .prepare = prepare, .on_exit = on_exit_of, .on_stopped = on_stopped, .arg = w};
    struct err err = ERR_INIT;

    assert_int_equal(loop_new(NULL, NULL, &w->loop, &err), 0);
    assert_int_equal(supervise_new(w->loop, &spec, &w->child, &err), 0);
    assert_int_equal(supervise_start(w->child, &err), 0);
    if (before)
        before(w);
    assert_int_equal(loop_run(w->loop, &err), 0);
    supervise_free(w->child);
    loop_free(w->loop);
}

static void what_ends_is_started_again(void **state)
{
    struct watched w = {.script = "exit 7", .stop_after = 3};

    (void)state;
    run(&w, NULL);
    assert_int_equal(w.starts, 3);
    assert_int_equal(WEXITSTATUS(w.last_status), 7);
    assert_true(w.stopped);
}

static void stop_now(struct watched *w)
{
    supervise_stop(w->child);
}

static void stopping_ends_it_and_tells_once(void **state)
{
    struct watched w = {.script = "exec sleep 1000"};
    uint64_t begun = clock_mono_usec();

    (void)state;
    run(&w, stop_now);
    assert_true(w.stopped);
    assert_int_equal(w.exits, 0); /* it was asked to: that is no exit of its own */
    assert_true(clock_mono_usec() - begun < 600 * USEC_PER_SEC);
}

static void the_environment_of_the_command_is_not_the_daemons(void **state)
{
    struct watched w = {.script = "test -z \"$LEEWARD_TOKEN\"", .stop_after = 1};

    (void)state;
    (void)setenv("LEEWARD_TOKEN", "lwt_secret", 1);
    run(&w, NULL);
    (void)unsetenv("LEEWARD_TOKEN");
    assert_int_equal(WEXITSTATUS(w.last_status), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_ends_is_started_again),
        cmocka_unit_test(stopping_ends_it_and_tells_once),
        cmocka_unit_test(the_environment_of_the_command_is_not_the_daemons),
    };

    return cmocka_run_group_tests_name("hub_cli_supervise", tests, NULL, NULL);
}
