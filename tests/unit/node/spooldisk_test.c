/* SPDX-License-Identifier: Apache-2.0
 *
 * When the file system of the spools counts as full: by real ones, with room (the folder of temporary files) and without (/proc).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_write_that_finds_no_room_makes_it_full),
        cmocka_unit_test(test_a_copy_that_finds_no_room_leaves_the_room_of_batches),
    };

    return cmocka_run_group_tests_name("node_spooldisk", tests, NULL, NULL);
}
