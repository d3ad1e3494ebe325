/* SPDX-License-Identifier: Apache-2.0
 *
 * The switch for short grace periods, on a file that stands for it.
 */
#include "mobility/capture/expedite.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

static char path[] = "/tmp/leeward-expedite.XXXXXX";

static int make_file(void **state)
{
    (void)state;
    int fd = mkstemp(path);
    (void)close(fd);
    return fd < 0 ? -1 : 0;
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(path);
}

static void write_value(const char *value)
{
    int fd = open(path, O_WRONLY | O_TRUNC);

    assert_int_equal(write(fd, value, 2), 2);
    (void)close(fd);
}

static char value(void)
{
    int fd = open(path, O_RDONLY);
    char c = 0;

    assert_int_equal(read(fd, &c, 1), 1);
    (void)close(fd);
    return c;
}

static void test_it_is_set_between_begin_and_end_only(void **state)
{
    struct expedite e;

    (void)state;
    write_value("0\n");
    expedite_open(&e, path);
    assert_int_equal(value(), '0');
    expedite_begin(&e);
    assert_int_equal(value(), '1');
    expedite_end(&e);
    assert_int_equal(value(), '0');
    expedite_end(&e);
    expedite_begin(&e);
    expedite_close(&e); /* ends it too */
    assert_int_equal(value(), '0');
}

static void test_what_another_has_set_stays(void **state)
{
    struct expedite e;

    (void)state;
    write_value("1\n");
    expedite_open(&e, path);
    expedite_begin(&e);
    expedite_end(&e);
    assert_int_equal(value(), '1');
    expedite_close(&e);
}

static void test_another_process_ends_what_a_dead_one_began(void **state)
{
    struct expedite *e = mmap(NULL, sizeof(*e), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    (void)state;
    assert_ptr_not_equal(e, MAP_FAILED);
    write_value("0\n");
    expedite_open(e, path);
    pid_t pid = fork();
    if (pid == 0) {
        expedite_begin(e);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_int_equal(value(), '1');
    expedite_close(e);
    assert_int_equal(value(), '0');
    (void)munmap(e, sizeof(*e));
}

static void test_a_kernel_without_it_is_no_error(void **state)
{
    struct expedite e;

    (void)state;
    expedite_open(&e, "/nowhere/rcu_expedited");
    expedite_begin(&e);
    expedite_end(&e);
    expedite_close(&e);
    assert_int_equal(e.fd, -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_it_is_set_between_begin_and_end_only),
        cmocka_unit_test(test_what_another_has_set_stays),
        cmocka_unit_test(test_another_process_ends_what_a_dead_one_began),
        cmocka_unit_test(test_a_kernel_without_it_is_no_error),
    };

    return cmocka_run_group_tests(tests, make_file, remove_file);
}
