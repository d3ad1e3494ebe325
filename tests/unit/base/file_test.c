/* SPDX-License-Identifier: Apache-2.0
 *
 * Files: replacing, whole reads, folder trees.
 */
#include "tests/unit/base/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "transport/base/mem.h"

static char *in(void **state, const char *name)
{
    char *path = mem_printf("%s/%s", (const char *)*state, name);

    assert_non_null(path);
    return path;
}

static void assert_content(const char *path, const char *content)
{
    AUTO_BUF struct buf b = BUF_INIT(1 << 16);

    assert_int_equal(file_read(path, &b, NULL), 0);
    assert_string_equal(buf_str(&b, NULL), content);
}

static void replace_writes_with_mode_and_leaves_no_temporary(void **state)
{
    AUTO_FREE char *path = in(state, "small");
    AUTO_FREE char *temp = in(state, "small.tmp");
    struct stat st;

    assert_int_equal(file_replace(path, "one", 3, 0644, NULL), 0);
    assert_int_equal(file_replace(path, "second", 6, 0600, NULL), 0);
    assert_content(path, "second");
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(access(temp, F_OK), -1);
}

static void failed_replace_keeps_the_old_content(void **state)
{
    AUTO_FREE char *path = in(state, "keep");
    AUTO_FREE char *temp = in(state, "keep.tmp");
    struct err err = ERR_INIT;

    assert_int_equal(file_replace(path, "old", 3, 0644, NULL), 0);
    assert_int_equal(mkdir(temp, 0700), 0); /* the temporary cannot be made */
    assert_int_equal(file_replace(path, "new", 3, 0644, &err), -1);
    assert_content(path, "old");
    assert_int_equal(rmdir(temp), 0);
    mem_fail_at(1);
    assert_int_equal(file_replace(path, "new", 3, 0644, &err), -1);
    assert_int_equal(err.code, ERR_NOMEM);
    mem_fail_at(2);
    assert_int_equal(file_replace(path, "new", 3, 0644, &err), -1);
    assert_content(path, "old");
}

static void replace_survives_a_stale_temporary(void **state)
{
    AUTO_FREE char *path = in(state, "stale");
    AUTO_FREE char *temp = in(state, "stale.tmp");

    assert_int_equal(file_replace(temp, "a longer rest of a crash", 24, 0777, NULL), 0);
    assert_int_equal(file_replace(path, "new", 3, 0600, NULL), 0);
    assert_content(path, "new");
}

static void short_file_is_corrupt(void **state)
{
    AUTO_FREE char *path = in(state, "short");
    struct err err = ERR_INIT;
    char data[8];

    assert_int_equal(file_replace(path, "12345", 5, 0600, NULL), 0);
    AUTO_CLOSE int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(file_pread_all(fd, data, 3, 2, "f", NULL), 0);
    assert_memory_equal(data, "345", 3);
    assert_int_equal(file_pread_all(fd, data, 8, 0, "f", &err), -1);
    assert_int_equal(err.code, ERR_CORRUPT);
    assert_int_equal(file_pwrite_all(fd, "xy", 2, 4, "f", NULL), 0);
    assert_content(path, "1234xy");
}

static void read_keeps_to_the_maximum(void **state)
{
    AUTO_FREE char *path = in(state, "large");
    AUTO_BUF struct buf b = BUF_INIT(4);
    struct err err = ERR_INIT;

    assert_int_equal(file_replace(path, "12345", 5, 0600, NULL), 0);
    buf_append_str(&b, "ab", NULL);
    assert_int_equal(file_read(path, &b, &err), -1);
    assert_int_equal(err.code, ERR_TOO_LARGE);
    assert_int_equal(b.len, 2);
    AUTO_FREE char *none = in(state, "none");
    assert_int_equal(file_read(none, &b, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
}

static void folders_are_made_and_removed_with_what_is_in_them(void **state)
{
    AUTO_FREE char *deep = in(state, "a/b/c//d");
    AUTO_FREE char *file = in(state, "a/b/file");
    AUTO_FREE char *top = in(state, "a");
    AUTO_FREE char *outside = in(state, "outside");
    AUTO_FREE char *link = in(state, "a/link");
    struct err err = ERR_INIT;

    assert_int_equal(file_make_dirs(deep, 0755, NULL), 0);
    assert_int_equal(file_make_dirs(deep, 0755, NULL), 0);
    assert_int_equal(file_replace(file, "x", 1, 0600, NULL), 0);
    assert_int_equal(file_make_dirs(file, 0755, &err), -1);
    assert_int_equal(err.sys_errno, ENOTDIR);
    assert_int_equal(mkdir(outside, 0700), 0);
    assert_int_equal(symlink(outside, link), 0);
    assert_int_equal(file_remove_tree(top, &err), 0);
    assert_int_equal(access(top, F_OK), -1);
    assert_int_equal(access(outside, F_OK), 0);
    assert_int_equal(file_remove_tree(top, NULL), 0);
    assert_int_equal(file_remove_tree(outside, NULL), 0);
}

/* ---- what is synced ---- */

static char synced[8][300];
static unsigned synced_count;

int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __wrap_fsync(int fd)
{
    char link[64], path[300];
    (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof(path) - 1);
    if (n > 0 && synced_count < 8) {
        path[n] = '\0';
        (void)snprintf(synced[synced_count++], sizeof(synced[0]), "%s", path);
    }
    return __real_fsync(fd);
}

static void a_new_folder_is_durable(void **state)
{
    AUTO_FREE char *top = in(state, "new");
    AUTO_FREE char *middle = in(state, "new/middle");
    AUTO_FREE char *deep = in(state, "new/middle/deep");

    assert_int_equal(mkdir(top, 0700), 0);
    synced_count = 0;
    assert_int_equal(file_make_dirs(deep, 0700, NULL), 0);
    assert_int_equal(synced_count, 2);
    assert_string_equal(synced[0], top);
    assert_string_equal(synced[1], middle);
    assert_int_equal(file_make_dirs(deep, 0700, NULL), 0); /* it is there: nothing to sync */
    assert_int_equal(synced_count, 2);
    assert_int_equal(file_remove_tree(top, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replace_writes_with_mode_and_leaves_no_temporary),
        cmocka_unit_test(failed_replace_keeps_the_old_content),
        cmocka_unit_test(replace_survives_a_stale_temporary),
        cmocka_unit_test(short_file_is_corrupt),
        cmocka_unit_test(read_keeps_to_the_maximum),
        cmocka_unit_test(a_new_folder_is_durable),
        cmocka_unit_test(folders_are_made_and_removed_with_what_is_in_them),
    };

    return cmocka_run_group_tests(tests, unit_temp_new, unit_temp_done);
}
