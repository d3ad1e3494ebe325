/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mobility/phase.h"
#include "mobility/sync/syncstate.h"
#include "tests/unit/mobility/track/loopdisk.h"
#include "transport/base/file.h"

static void a_state_is_read_as_it_was_written(void **state)
{
    struct syncstate s = {.boot_id = "b",
                         .vault_id = "v",
                         .generation = 3,
                         .epoch = 9,
                         .committed_sequence = 77,
                         .resync_request = 2,
                         .first_point_due = true},
                     r;
    char dir[64], path[96];

    (void)state;
    temp_init(dir);
    snprintf(path, sizeof(path), "%s/state", dir);
    assert_int_equal(syncstate_load(path, &r, NULL), 0);
    assert_int_equal(r.disk_count, 0);
    snprintf(syncstate_disk(&s, 4)->key, SYNCSTATE_KEY_MAX, "serial:x\"y");
    syncstate_disk(&s, 4)->cursor = UINT64_C(1) << 50;
    syncstate_disk(&s, 1)->copy = COPY_DONE;
    assert_int_equal(s.disks[0].number, 1);
    assert_int_equal(syncstate_save(path, &s, NULL), 0);
    assert_int_equal(syncstate_load(path, &r, NULL), 0);
    assert_memory_equal(&s, &r, sizeof(s));
    syncstate_drop_disk(&r, 1);
    assert_null(syncstate_find(&r, 1));
    assert_non_null(syncstate_find(&r, 4));
    temp_done(dir);
}

static void a_damaged_state_is_refused_with_a_remedy(void **state)
{
    static const char *const texts[] = {"", "{", "{}", "[]", "{\"version\": 2}", "\xff\xfe",
        "{\"version\":1,\"boot_id\":\"\",\"vault_id\":\"\",\"generation\":-1,\"epoch\":0,\"committed_sequence\":0,"
        "\"last_point_sequence\":0,\"last_point_utc_usec\":0,\"resync_request\":0,\"first_point_due\":false,\"disks\":["
        "]}",
        "{\"version\":1,\"boot_id\":\"\",\"vault_id\":\"\",\"generation\":1,\"epoch\":0,\"committed_sequence\":0,"
        "\"last_point_sequence\":0,\"last_point_utc_usec\":0,\"resync_request\":0,\"first_point_due\":false,\"disks\":["
        "{\"number\":5000,\"key\":\"a\",\"size_bytes\":1,"
        "\"copy\":\"done\",\"cursor\":0}]}"};
    char dir[64], path[96];

    (void)state;
    temp_init(dir);
    snprintf(path, sizeof(path), "%s/state", dir);
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct err err = ERR_INIT;
        struct syncstate s;

        assert_int_equal(file_replace(path, texts[i], strlen(texts[i]), 0600, NULL), 0);
        assert_int_equal(syncstate_load(path, &s, &err), -1);
        assert_int_equal(err.code, ERR_CORRUPT);
        assert_true(err.correction[0] != '\0');
    }
    temp_done(dir);
}

static void phases_move_as_the_table_says(void **state)
{
    enum phase p = PHASE_IDLE;
    struct err err = ERR_INIT;

    (void)state;
    assert_int_equal(phase_move(&p, PHASE_INITIAL_REPLICATION, "test", &err), 0);
    assert_int_equal(phase_move(&p, PHASE_PROTECTED, "test", &err), 0);
    assert_int_equal(phase_move(&p, PHASE_PROTECTED, "test", &err), 0);
    assert_int_equal(phase_move(&p, PHASE_COUNT, "test", &err), -1);
    assert_int_equal(p, PHASE_PROTECTED);
    assert_string_equal(phase_name(PHASE_RESYNCHRONIZING), "resynchronizing");
    for (enum phase i = 0; i < PHASE_COUNT; i++)
        assert_true(i == PHASE_ERROR || phase_may_move(i, PHASE_ERROR));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_state_is_read_as_it_was_written),
        cmocka_unit_test(a_damaged_state_is_refused_with_a_remedy),
        cmocka_unit_test(phases_move_as_the_table_says),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
