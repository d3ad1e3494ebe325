/* SPDX-License-Identifier: Apache-2.0
 *
 * Hooks that behave, and hooks that do not: real shell scripts as children of this test.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "mobility/hooks.h"
#include "tests/unit/mobility/track/loopdisk.h"
#include "transport/base/buf.h"
#include "transport/base/clock.h"
#include "transport/base/file.h"

struct bench {
    char dir[64], run_dir[80], hooks_dir[80];
    struct hooks_conf conf;
    struct hooks *hooks;
};

static void begin(struct bench *b, uint64_t limit_msec)
{
    memset(b, 0, sizeof(*b));
    snprintf(b->dir, sizeof(b->dir), "/tmp/leeward-hooks.XXXXXX");
    assert_non_null(mkdtemp(b->dir));
    snprintf(b->run_dir, sizeof(b->run_dir), "%s/run", b->dir);
    snprintf(b->hooks_dir, sizeof(b->hooks_dir), "%s/hooks.d", b->dir);
    assert_int_equal(mkdir(b->run_dir, 0700), 0);
    assert_int_equal(mkdir(b->hooks_dir, 0700), 0);
    b->conf = (struct hooks_conf){.dir = b->hooks_dir, .run_dir = b->run_dir, .limit_usec = limit_msec * USEC_PER_MSEC};
}

/* body sees $1 the verb and $D the folder of the test. */
static void add(struct bench *b, const char *name, const char *body)
{
    char path[200];
    FILE *f;

    snprintf(path, sizeof(path), "%s/%s", b->hooks_dir, name);
    f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f, "#!/bin/sh\nD=%s\n%s\n", b->dir, body);
    fclose(f);
    assert_int_equal(chmod(path, 0755), 0);
}

static void load(struct bench *b)
{
    struct err err = ERR_INIT;

    assert_int_equal(hooks_load(&b->conf, &b->hooks, &err), 0);
}

static void end(struct bench *b)
{
    hooks_free(b->hooks);
    assert_int_equal(file_remove_tree(b->dir, NULL), 0);
}

static void assert_file(struct bench *b, const char *name, const char *content)
{
    struct buf text AUTO_BUF = BUF_INIT(65536);
    char path[200];

    snprintf(path, sizeof(path), "%s/%s", b->dir, name);
    assert_int_equal(file_read(path, &text, NULL), 0);
    assert_string_equal(buf_str(&text, NULL), content);
}

static bool marker(const struct bench *b)
{
    char path[200];

    snprintf(path, sizeof(path), "%s/hooks-frozen", b->run_dir);
    return access(path, F_OK) == 0;
}

/* Gone, or a zombie of init, soon: a process that was killed still has to die. */
static bool child_is_gone(const struct bench *b)
{
    char command[300];

    snprintf(command, sizeof(command),
        "p=$(cat %s/child) && for i in $(seq 600); do grep -qs '^State:.[RSD]' /proc/$p/status || exit 0; sleep 0.1; "
        "done; exit 1",
        b->dir);
    return system(command) == 0;
}

static void thaw_is_in_reverse_order(void **state)
{
    struct bench b;
    struct err err = ERR_INIT;

    (void)state;
    begin(&b, 10000);
    add(&b, "20-b", "echo b $1 >> $D/log");
    add(&b, "10-a", "echo a $1 >> $D/log");
    load(&b);
    hooks_prepare(b.hooks);
    assert_int_equal(hooks_freeze(b.hooks, &err), 0);
    assert_true(marker(&b));
    assert_int_equal(hooks_thaw(b.hooks, &err), 0);
    assert_false(marker(&b));
    assert_file(&b, "log", "a prepare\nb prepare\na freeze\nb freeze\nb thaw\na thaw\n");
    end(&b);
}

static void a_hook_that_fails_thaws_the_others_and_says_why(void **state)
{
    struct bench b;
    struct err err = ERR_INIT;

    (void)state;
    begin(&b, 10000);
    add(&b, "10-a", "echo a $1 >> $D/log");
    add(&b, "20-b", "echo b $1 >> $D/log; echo 'cannot reach it'; [ $1 = thaw ] || exit 3");
    add(&b, "30-c", "echo c $1 >> $D/log");
    load(&b);
    assert_int_equal(hooks_freeze(b.hooks, &err), -1);
    assert_int_equal(err.code, ERR_IO);
    assert_non_null(strstr(err.text, "status 3: cannot reach it"));
    assert_file(&b, "log", "a freeze\nb freeze\nb thaw\na thaw\n");
    assert_false(marker(&b));
    end(&b);
}

static void a_hook_that_hangs_is_killed_with_its_children(void **state)
{
    struct bench b;
    struct err err = ERR_INIT;
    uint64_t began = clock_mono_usec();

    (void)state;
    begin(&b, 10000); /* what it does before it hangs, and its thaw, must fit in */
    add(&b, "10-a", "[ $1 = thaw ] && echo thaw >> $D/log && exit 0; sleep 1000 & echo $! > $D/child; sleep 1000");
    load(&b);
    assert_int_equal(hooks_freeze(b.hooks, &err), -1);
    assert_int_equal(err.code, ERR_TIMEOUT);
    assert_true(clock_mono_usec() - began < 60 * USEC_PER_SEC);
    assert_file(&b, "log", "thaw\n");
    assert_true(child_is_gone(&b));
    end(&b);
}

static void what_holds_a_lock_lives_until_the_thaw_and_no_longer(void **state)
{
    struct bench b;
    struct err err = ERR_INIT;
    char command[200];

    (void)state;
    begin(&b, 10000);
    /* The child keeps the output open, which must delay nobody. */
    add(&b, "10-a", "[ $1 = freeze ] && { sleep 1000 & echo $! > $D/child; exit 0; }; kill -0 $(cat $D/child)");
    load(&b);
    assert_int_equal(hooks_freeze(b.hooks, &err), 0);
    snprintf(command, sizeof(command), "grep -qs '^State:.[RSD]' /proc/$(cat %s/child)/status", b.dir);
    assert_int_equal(system(command), 0);
    assert_int_equal(hooks_thaw(b.hooks, &err), 0); /* its thaw found it alive */
    assert_true(child_is_gone(&b));
    end(&b);
}

static void garbage_is_bounded_and_made_printable(void **state)
{
    struct bench b;
    struct err err = ERR_INIT;

    (void)state;
    begin(&b, 20000);
    add(&b, "10-a", "[ $1 = thaw ] && exit 0; head -c 3000000 /dev/urandom; printf '\\n\\033[31mred\\n'; exit 1");
    load(&b);
    assert_int_equal(hooks_freeze(b.hooks, &err), -1);
    assert_non_null(strstr(err.text, "status 1: ?[31mred"));
    for (const char *p = err.text; *p; p++)
        assert_true(*p >= 0x20 && *p < 0x7f);
    end(&b);
}

static void a_thaw_that_fails_is_told_and_the_rest_goes_on(void **state)
{
    struct bench b;
    struct err err = ERR_INIT;

    (void)state;
    begin(&b, 10000);
    add(&b, "10-a", "echo a $1 >> $D/log");
    add(&b, "20-b", "echo b $1 >> $D/log; [ $1 = freeze ]");
    load(&b);
    assert_int_equal(hooks_freeze(b.hooks, &err), 0);
    assert_int_equal(hooks_thaw(b.hooks, &err), -1);
    assert_non_null(strstr(err.text, "20-b thaw"));
    assert_file(&b, "log", "a freeze\nb freeze\nb thaw\na thaw\n");
    end(&b);
}

static void what_a_dead_agent_left_frozen_is_thawed(void **state)
{
    struct bench b;
    struct err err = ERR_INIT;

    (void)state;
    begin(&b, 10000);
    add(&b, "10-a", "echo a $1 >> $D/log");
    assert_int_equal(hooks_recover(&b.conf, &err), 0);
    load(&b);
    assert_int_equal(hooks_freeze(b.hooks, &err), 0);
    hooks_free(b.hooks); /* as if it were killed here */
    b.hooks = NULL;
    assert_int_equal(hooks_recover(&b.conf, &err), 1);
    assert_int_equal(hooks_recover(&b.conf, &err), 0);
    assert_file(&b, "log", "a freeze\na thaw\n");
    end(&b);
}

/* A hook has begun, and its agent knows it. */
static void wait_noted_hook(const struct bench *b)
{
    must_run("for i in $(seq 600); do test -s %s/pid && ls %s/hook-* >/dev/null 2>&1 && exit; sleep 0.1; done; exit 1",
        b->dir, b->run_dir);
}

/* The agent dies while a hook freezes; the next one must not thaw before that has ended. */
static void a_freeze_that_a_dead_agent_left_running_is_ended_before_the_thaw(void **state)
{
    struct bench b;
    struct err err = ERR_INIT;
    pid_t agent;

    (void)state;
    begin(&b, 60000);
    add(&b, "10-slow",
        "case $1 in freeze) echo $$ > $D/pid; sleep 60;; thaw) ps -o stat= -p $(cat $D/pid) > $D/stat; :;; esac");
    agent = fork();
    assert_true(agent >= 0);
    if (agent == 0) {
        if (hooks_load(&b.conf, &b.hooks, NULL) == 0)
            (void)hooks_freeze(b.hooks, NULL);
        _exit(0);
    }
    wait_noted_hook(&b);
    assert_int_equal(kill(agent, SIGKILL), 0);
    assert_int_equal(waitpid(agent, NULL, 0), agent);
    assert_int_equal(hooks_recover(&b.conf, &err), 1);
    must_run(
        "test -e %s/stat && ! grep '^[RSD]' %s/stat", b.dir, b.dir); /* a zombie at most, that nobody has reaped yet */
    b.hooks = NULL;
    end(&b);
}

/* Whatever the test has come to. */
static int unfreeze(void **state)
{
    if (*state)
        must_run("fsfreeze -u %s/mnt 2>/dev/null; :", (const char *)*state);
    return 0;
}

/* It writes to a file system that somebody else has frozen: SIGKILL does not end it before that is thawed. */
static void a_hook_that_waits_in_the_kernel_keeps_no_other_held(void **state)
{
    static struct bench b;
    struct loopdisk disk;
    struct err err = ERR_INIT;
    char left[200];

    if (!loopdisk_is_possible()) {
        print_message("needs root and loop devices\n");
        skip();
    }
    begin(&b, 2000);
    snprintf(left, sizeof(left), "%s/hooks-frozen", b.run_dir);
    loopdisk_init(&disk, 16u << 20, 512, -1);
    *state = b.dir;
    must_run("mkfs.ext4 -q %s && mkdir %s/mnt && mount %s %s/mnt && fsfreeze -f %s/mnt", disk.path, b.dir, disk.path,
        b.dir, b.dir);
    add(&b, "10-good", "echo $1 >> $D/log");
    add(&b, "20-stuck", "[ $1 = thaw ] || exec dd if=/dev/zero of=$D/mnt/file bs=4096 count=1");
    load(&b);
    assert_int_equal(hooks_freeze(b.hooks, &err), -1);
    assert_int_equal(err.code, ERR_TIMEOUT);
    assert_non_null(strstr(err.text, "cannot be killed"));
    assert_file(&b, "log", "freeze\nthaw\n");
    assert_false(marker(&b));
    hooks_free(b.hooks);
    load(&b);
    assert_int_equal(hooks_freeze(b.hooks, &err), -1); /* one that waits is enough */
    assert_int_equal(err.code, ERR_UNAVAILABLE);
    hooks_free(b.hooks);
    assert_int_equal(file_replace(left, "", 0, 0600, NULL), 0);
    assert_int_equal(hooks_recover(&b.conf, &err), 1);
    assert_file(&b, "log", "freeze\nthaw\nthaw\n");
    must_run("fsfreeze -u %s/mnt", b.dir);
    *state = NULL;
    load(&b);
    must_run("umount %s/mnt && test -z \"$(ls %s | grep ^hook-)\"", b.dir, b.run_dir);
    loopdisk_done(&disk);
    end(&b);
}

static void what_others_may_write_is_not_run(void **state)
{
    struct bench b;
    struct err err = ERR_INIT;
    char path[200];

    (void)state;
    begin(&b, 10000);
    add(&b, "10-a", "exit 0");
    add(&b, "20-b", "exit 0");
    add(&b, "30-c", "exit 0");
    snprintf(path, sizeof(path), "%s/20-b", b.hooks_dir);
    assert_int_equal(chmod(path, 0777), 0);
    snprintf(path, sizeof(path), "%s/30-c", b.hooks_dir);
    assert_int_equal(chmod(path, 0644), 0);
    load(&b);
    assert_int_equal(hooks_count(b.hooks), 1);
    /* Whoever it is for does not hold still: the others are not troubled for nothing. */
    assert_int_equal(hooks_freeze(b.hooks, &err), -1);
    assert_int_equal(err.code, ERR_REFUSED);
    assert_non_null(strstr(err.text, "20-b is not run"));
    assert_false(marker(&b));
    end(&b);
}

static void without_a_hook_nobody_was_asked_to_hold_still(void **state)
{
    struct bench b;
    struct err err = ERR_INIT;

    (void)state;
    begin(&b, 10000);
    load(&b);
    assert_int_equal(hooks_freeze(b.hooks, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_non_null(strstr(err.text, b.hooks_dir));
    assert_non_null(strstr(err.correction, "/usr/share/leeward/hooks.d"));
    end(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(thaw_is_in_reverse_order),
        cmocka_unit_test(a_hook_that_fails_thaws_the_others_and_says_why),
        cmocka_unit_test(a_hook_that_hangs_is_killed_with_its_children),
        cmocka_unit_test(what_holds_a_lock_lives_until_the_thaw_and_no_longer),
        cmocka_unit_test(garbage_is_bounded_and_made_printable),
        cmocka_unit_test(a_thaw_that_fails_is_told_and_the_rest_goes_on),
        cmocka_unit_test(what_a_dead_agent_left_frozen_is_thawed),
        cmocka_unit_test(what_others_may_write_is_not_run),
        cmocka_unit_test(without_a_hook_nobody_was_asked_to_hold_still),
        cmocka_unit_test(a_freeze_that_a_dead_agent_left_running_is_ended_before_the_thaw),
        cmocka_unit_test_teardown(a_hook_that_waits_in_the_kernel_keeps_no_other_held, unfreeze),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
