/* SPDX-License-Identifier: Apache-2.0
 *
 * When the file system of the spools counts as full: by real ones, with room (the folder of temporary files) and without (/proc),
 * and one that has space and no inodes, in a mount namespace of this test's own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "transport/base/err.h"
#include "transport/base/mem.h"
#include "transport/node/machine.h"

static struct node node_with(bool has_room)
{
    const char *temp = getenv("TMPDIR");
    return (struct node){.spool_dir = mem_strdup(!has_room ? "/proc" : temp != NULL ? temp : "/tmp")};
}

static struct err failed_with(enum err_code code)
{
    struct err err = ERR_INIT;
    (void)err_set(&err, code, "a write to the spool failed");
    return err;
}

static void test_a_write_that_finds_no_room_makes_it_full(void **state)
{
    (void)state;
    for (int has_room = 0; has_room < 2; has_room++) {
        struct node node = node_with(has_room);
        struct err full = failed_with(ERR_NOSPACE), broken = failed_with(ERR_IO);
        assert_true(spooldisk_has_room(&node));
        spooldisk_failed(&node, &broken);
        assert_true(spooldisk_has_room(&node));
        spooldisk_failed(&node, &full); /* with room: a quota */
        assert_true(node.disk.full);
        free(node.spool_dir);
    }
}

static void test_a_copy_that_finds_no_room_leaves_the_room_of_batches(void **state)
{
    (void)state;
    for (int has_room = 0; has_room < 2; has_room++) {
        struct node node = node_with(has_room);
        struct err full = failed_with(ERR_NOSPACE);
        spooldisk_copy_failed(&node, &full);
        assert_int_equal(node.disk.full, !has_room);
        assert_int_equal(spooldisk_has_room(&node), has_room);
        free(node.spool_dir);
    }
}

static void name_of(const char *dir, unsigned number, char *ret_name, size_t size)
{
    (void)snprintf(ret_name, size, "%s/%u", dir, number);
}

/* Makes empty files until there are no inodes; how many. */
static unsigned use_up_inodes(const char *dir)
{
    char name[80];
    for (unsigned count = 0;; count++) {
        name_of(dir, count, name, sizeof(name));
        int fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd < 0) {
            assert_int_equal(errno, ENOSPC);
            return count;
        }
        (void)close(fd);
    }
}

static void test_space_without_inodes_is_no_room(void **state)
{
    (void)state;
    char dir[] = "/tmp/leeward-spooldisk-XXXXXX", cause[400], remedy[400], name[80];
    struct node node = {.spool_dir = mkdtemp(dir)};
    struct err full = failed_with(ERR_NOSPACE);
    struct statvfs v;
    assert_non_null(node.spool_dir);
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        fail_msg("a mount namespace of its own needs root: %s", strerror(errno));
    assert_int_equal(mount("tmpfs", dir, "tmpfs", 0, "size=64m,nr_inodes=100"), 0);
    unsigned count = use_up_inodes(dir);
    spooldisk_failed(&node, &full);
    assert_int_equal(statvfs(dir, &v), 0);
    assert_true(v.f_bavail * v.f_frsize > 60u << 20);
    spooldisk_describe(&node, cause, sizeof(cause), remedy, sizeof(remedy));
    assert_non_null(strstr(remedy, "df -i"));
    (void)usleep(300000); /* it is not asked more often than five times a second */
    assert_false(spooldisk_has_room(&node));
    for (unsigned i = 0; i < count; i++) {
        name_of(dir, i, name, sizeof(name));
        assert_int_equal(unlink(name), 0);
    }
    (void)usleep(300000);
    assert_true(spooldisk_has_room(&node));
    assert_int_equal(umount2(dir, MNT_DETACH), 0);
    assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_write_that_finds_no_room_makes_it_full),
        cmocka_unit_test(test_a_copy_that_finds_no_room_leaves_the_room_of_batches),
        cmocka_unit_test(test_space_without_inodes_is_no_room),
    };

    return cmocka_run_group_tests_name("node_spooldisk", tests, NULL, NULL);
}
