/* SPDX-License-Identifier: Apache-2.0
 *
 * The nbdkit plugin, run by a real nbdkit and used through libnbd: points and branches as an NBD client sees them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include <libnbd.h>

#include "tests/unit/vault/vaultmodel.h"
#include "transport/base/bytes.h"
#include "transport/vault/branch.h"

struct fixture {
    struct model m;
    char key_path[120];
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct err err = ERR_INIT;
    char hex[2 * SEAL_KEY_SIZE + 1];
    model_init(&f->m, 99);
    model_open(&f->m);
    for (int p = 0; p < 3; p++) {
        for (int i = 0; i < 20; i++)
            model_random_write(&f->m);
        model_commit(&f->m, MARK_CRASH);
    }
    assert_int_equal(store_flush(f->m.store, &err), 0);
    (void)snprintf(f->key_path, sizeof(f->key_path), "%s/key", f->m.dir);
    bytes_to_hex(f->m.opened.data_key.bytes, SEAL_KEY_SIZE, hex);
    FILE *out = fopen(f->key_path, "w");
    assert_non_null(out);
    assert_true(fputs(hex, out) >= 0);
    assert_int_equal(fclose(out), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    model_done(&f->m);
    free(f);
    return 0;
}

/* Starts nbdkit by socket activation; NULL when it would not serve. */
static struct nbd_handle *serve(
    struct fixture *f, uint64_t sequence, const char *branch_dir, uint32_t stream, const char *export_name)
{
    char machine[200], number[40], key[200], branch[320], nonce[40];
    char *argv[] = {
        "nbdkit", "-f", VAULT_PLUGIN, machine, number, key, branch_dir == NULL ? NULL : branch, nonce, NULL};
    struct nbd_handle *nbd = nbd_create();
    (void)snprintf(machine, sizeof(machine), "machine=%s", f->m.machine_dir);
    (void)snprintf(number, sizeof(number), "sequence=%llu", (unsigned long long)sequence);
    (void)snprintf(key, sizeof(key), "key-file=%s", f->key_path);
    (void)snprintf(branch, sizeof(branch), "branch=%s", branch_dir == NULL ? "" : branch_dir);
    (void)snprintf(nonce, sizeof(nonce), "nonce-stream=%u", stream);
    assert_non_null(nbd);
    assert_int_equal(nbd_set_export_name(nbd, export_name), 0);
    assert_int_equal(nbd_add_meta_context(nbd, LIBNBD_CONTEXT_BASE_ALLOCATION), 0);
    if (nbd_connect_systemd_socket_activation(nbd, argv) == 0)
        return nbd;
    nbd_close(nbd);
    return NULL;
}

static void check_disk(struct nbd_handle *nbd, const uint8_t *expected, uint64_t size)
{
    uint8_t *got = malloc(size);
    assert_int_equal(nbd_get_size(nbd), size);
    assert_int_equal(nbd_pread(nbd, got, size, 0, 0), 0);
    assert_memory_equal(got, expected, size);
    free(got);
}

static void each_point_is_served_as_it_was(void **state)
{
    struct fixture *f = *state;
    for (unsigned p = 0; p < 3; p++)
        for (unsigned d = 0; d < MODEL_DISKS; d++) {
            struct nbd_handle *nbd = serve(f, f->m.points[p].sequence, NULL, 0, d == 0 ? "0" : "1");
            assert_non_null(nbd);
            assert_int_equal(nbd_is_read_only(nbd), 1);
            assert_int_equal(nbd_can_multi_conn(nbd), 1);
            check_disk(nbd, f->m.points[p].disks[d], f->m.disk_bytes[d]);
            nbd_close(nbd);
        }
}

static void the_default_export_is_the_lowest_disk(void **state)
{
    struct fixture *f = *state;
    struct nbd_handle *nbd = serve(f, 0, NULL, 0, "");
    assert_non_null(nbd);
    check_disk(nbd, f->m.points[2].disks[0], f->m.disk_bytes[0]);
    nbd_close(nbd);
}

static void an_unknown_point_is_not_served(void **state)
{
    assert_null(serve(*state, 12345, NULL, 0, ""));
}

static int on_extent(void *arg, const char *context, uint64_t offset, uint32_t *entries, size_t count, int *error)
{
    struct fixture *f = ((void **)arg)[0];
    uint64_t *covered = ((void **)arg)[1];
    (void)context;
    (void)error;
    for (size_t i = 0; i + 1 < count; i += 2) {
        if ((entries[i + 1] & LIBNBD_STATE_ZERO) != 0)
            assert_true(bytes_are_zero(f->m.points[2].disks[0] + offset, entries[i]));
        offset += entries[i];
        *covered = offset;
    }
    return 0;
}

static void block_status_calls_nothing_zero_that_is_not(void **state)
{
    struct fixture *f = *state;
    struct nbd_handle *nbd = serve(f, 0, NULL, 0, "0");
    uint64_t covered = 0;
    void *arg[] = {f, &covered};
    assert_non_null(nbd);
    while (covered < f->m.disk_bytes[0]) {
        nbd_extent_callback callback = {.callback = on_extent, .user_data = arg};
        assert_int_equal(nbd_block_status(nbd, f->m.disk_bytes[0] - covered, covered, callback, 0), 0);
    }
    nbd_close(nbd);
}

static void a_branch_takes_writes_and_keeps_them(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    char dir[300];
    struct branch_info info = {.machine = f->m.conf.machine, .base_sequence = f->m.points[1].sequence};
    uint64_t size = f->m.disk_bytes[0];
    uint8_t *expected = malloc(size);
    memcpy(expected, f->m.points[1].disks[0], size);
    (void)snprintf(dir, sizeof(dir), "%s/branches/b", f->m.machine_dir);
    struct view *base;
    assert_int_equal(view_open(f->m.machine_dir, info.base_sequence, &f->m.opened.keys, 1u << 20, &base, &err), 0);
    assert_int_equal(branch_base_check(view_mark(base), &info.base_check, &err), 0);
    view_close(base);
    assert_int_equal(branch_create(dir, &info, &err), 0);
    for (uint32_t round = 0; round < 2; round++) {
        struct nbd_handle *nbd = serve(f, f->m.points[1].sequence, dir, 100 + round, "0");
        assert_non_null(nbd);
        check_disk(nbd, expected, size);
        memset(expected + 1000, 0x5a + (int)round, 5000);
        assert_int_equal(nbd_pwrite(nbd, expected + 1000, 5000, 1000, LIBNBD_CMD_FLAG_FUA), 0);
        memset(expected + 65536, 0, 131072);
        assert_int_equal(nbd_zero(nbd, 131072, 65536, 0), 0);
        memset(expected + 300000, 0, 4096);
        assert_int_equal(nbd_trim(nbd, 4096, 300000, 0), 0);
        assert_int_equal(nbd_flush(nbd, 0), 0);
        check_disk(nbd, expected, size);
        assert_int_equal(nbd_shutdown(nbd, 0), 0);
        nbd_close(nbd);
    }
    free(expected);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(each_point_is_served_as_it_was),
        TEST(the_default_export_is_the_lowest_disk),
        TEST(an_unknown_point_is_not_served),
        TEST(block_status_calls_nothing_zero_that_is_not),
        TEST(a_branch_takes_writes_and_keeps_them),
    };
    return cmocka_run_group_tests_name("nbd", tests, NULL, NULL);
}
