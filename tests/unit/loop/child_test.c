/* SPDX-License-Identifier: Apache-2.0
 *
 * Child processes: exit status, what they inherit, failed starts, and that they die with their parent.
 */
#include "tests/unit/base/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "transport/base/mem.h"
#include "transport/loop/loop.h"

struct fixture {
    sd_event *loop;
    struct loop_child *child;
    int status;
};

static void on_exit_status(void *arg, int wait_status)
{
    struct fixture *f = arg;

    f->status = wait_status;
    loop_child_free(f->child);
    f->child = NULL;
    sd_event_exit(f->loop, 0);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    *state = f;
    return f ? loop_new(NULL, NULL, &f->loop, NULL) : -1;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    loop_free(f->loop);
    free(f);
    return 0;
}

static struct loop_child_spec shell(struct fixture *f, const char *const *argv)
{
    return (struct loop_child_spec){
        .argv = argv, .stdout_fd = -1, .stderr_fd = -1, .pass_fd = -1, .on_exit = on_exit_status, .arg = f};
}

static void exit_code_arrives(void **state)
{
    struct fixture *f = *state;
    const char *const argv[] = {"sh", "-c", "exit 7", NULL};
    struct loop_child_spec spec = shell(f, argv);

    assert_int_equal(loop_child_start(f->loop, &spec, &f->child, NULL), 0);
    assert_int_equal(loop_run(f->loop, NULL), 0);
    assert_true(WIFEXITED(f->status));
    assert_int_equal(WEXITSTATUS(f->status), 7);
}

static void kill_arrives_and_signals_are_not_blocked(void **state)
{
    struct fixture *f = *state;
    const char *const argv[] = {"sleep", "1000", NULL};
    struct loop_child_spec spec = shell(f, argv);

    assert_int_equal(loop_child_start(f->loop, &spec, &f->child, NULL), 0);
    assert_true(loop_child_pid(f->child) > 0);
    loop_child_kill(f->child, SIGTERM);
    assert_int_equal(loop_run(f->loop, NULL), 0);
    assert_true(WIFSIGNALED(f->status));
    assert_int_equal(WTERMSIG(f->status), SIGTERM);
}

static void output_folder_environment_and_passed_file_arrive(void **state)
{
    struct fixture *f = *state;
    const char *const argv[] = {"sh", "-c", "pwd; echo $KEY; echo $(ls /proc/self/fd | wc -l); cat <&3", NULL};
    const char *const env[] = {"KEY=value", "PATH=/bin:/usr/bin", NULL};
    struct loop_child_spec spec = shell(f, argv);
    int out[2], in[2];
    char text[100] = {0};

    assert_int_equal(pipe2(out, O_CLOEXEC) | pipe2(in, O_CLOEXEC), 0);
    int leaked = dup(out[0]); /* without close-on-exec: must not reach the child all the same */
    assert_int_equal(write(in[1], "passed", 6), 6);
    close(in[1]);
    spec.env = env;
    spec.cwd = "/usr";
    spec.stdout_fd = out[1];
    spec.pass_fd = in[0];
    assert_int_equal(loop_child_start(f->loop, &spec, &f->child, NULL), 0);
    assert_int_equal(loop_run(f->loop, NULL), 0);
    close(out[1]);
    assert_true(read(out[0], text, sizeof(text) - 1) > 0);
    /* ls sees 0, 1, 2, the passed 3, and its own view of the folder. */
    assert_string_equal(text, "/usr\nvalue\n5\npassed");
    close(leaked);
    close(out[0]);
    close(in[0]);
}

static void program_that_is_not_there_is_an_error_of_the_start(void **state)
{
    struct fixture *f = *state;
    const char *const argv[] = {"leeward-no-such-program", NULL};
    struct loop_child_spec spec = shell(f, argv);
    struct err err = ERR_INIT;

    assert_int_equal(loop_child_start(f->loop, &spec, &f->child, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_non_null(strstr(err.text, "leeward-no-such-program"));
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
    const char *const sh[] = {"sh", "-c", "true", NULL};
    spec = shell(f, sh);
    spec.cwd = "/nonexistent";
    assert_int_equal(loop_child_start(f->loop, &spec, &f->child, &err), -1);
    assert_non_null(strstr(err.text, "folder"));
    mem_fail_at(1);
    assert_int_equal(loop_child_start(f->loop, &spec, &f->child, &err), -1);
    assert_int_equal(err.code, ERR_NOMEM);
}

static void child_runs_as_another_user(void **state)
{
    struct fixture *f = *state;
    const char *const argv[] = {
        "sh", "-c", "test $(id -u) = 65534 && test $(id -g) = 65534 && test $(id -G) = 65534", NULL};
    struct loop_child_spec spec = shell(f, argv);

    if (geteuid() != 0) {
        print_message("needs root\n");
        skip();
    }
    spec.uid = 65534;
    spec.gid = 65534;
    assert_int_equal(loop_child_start(f->loop, &spec, &f->child, NULL), 0);
    assert_int_equal(loop_run(f->loop, NULL), 0);
    assert_int_equal(f->status, 0);
}

/* In a process of its own: starts a child that holds the pipe open, and is killed without a chance to clean up. */
static void parent_that_is_killed(int keep_fd)
{
    const char *const argv[] = {"sleep", "1000", NULL};
    struct loop_child_spec spec = {.argv = argv, .stdout_fd = keep_fd, .stderr_fd = -1, .pass_fd = -1};
    struct loop_child *child;
    sd_event *loop;

    if (loop_new(NULL, NULL, &loop, NULL) == 0 && loop_child_start(loop, &spec, &child, NULL) == 0)
        kill(getpid(), SIGKILL);
    _exit(1);
}

static void child_dies_with_its_parent(void **state)
{
    int fds[2], status;

    (void)state;
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0)
        parent_that_is_killed(fds[1]);
    close(fds[1]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    /* The pipe ends only when the grandchild, its last writer, is gone. */
    struct pollfd p = {.fd = fds[0], .events = POLLIN};
    assert_int_equal(poll(&p, 1, 10000), 1);
    assert_true(p.revents & POLLHUP);
    close(fds[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(exit_code_arrives, set_up, tear_down),
        cmocka_unit_test_setup_teardown(kill_arrives_and_signals_are_not_blocked, set_up, tear_down),
        cmocka_unit_test_setup_teardown(output_folder_environment_and_passed_file_arrive, set_up, tear_down),
        cmocka_unit_test_setup_teardown(program_that_is_not_there_is_an_error_of_the_start, set_up, tear_down),
        cmocka_unit_test_setup_teardown(child_runs_as_another_user, set_up, tear_down),
        cmocka_unit_test(child_dies_with_its_parent),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
