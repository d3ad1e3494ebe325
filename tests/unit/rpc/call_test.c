/* SPDX-License-Identifier: Apache-2.0
 *
 * Calls between our own client and server: messages, statuses, deadlines, cancellation, flow control, limits.
 */
#include "tests/unit/rpc/fixture.h"

#include <string.h>

#include "transport/base/clock.h"
#include "transport/base/mem.h"

static void echo_over_tls(void **state)
{
    struct fixture *f = *state;
    struct probe p = {0};
    fixture_serve(f, true);
    assert_int_equal(probe_echo(f, PATH_ECHO, &p), RPC_OK);
    assert_int_equal(p.messages, 1);
    assert_memory_equal(p.last.data, "hello", 5);
    assert_string_equal(f->last_peer.role, "agent");
    assert_true(ident_equal(&f->last_peer.id, &f->client_files.id));
    assert_string_equal(f->last_peer.serial, f->client_files.serial);
    RUN_UNTIL(f, f->ended == 1);
    assert_int_equal(f->last_end, RPC_OK);
    probe_done(&p);
}

static void echo_over_a_unix_socket(void **state)
{
    struct fixture *f = *state;
    struct probe p = {0};
    fixture_serve(f, false);
    assert_int_equal(probe_echo(f, PATH_ECHO, &p), RPC_OK);
    assert_int_equal(p.messages, 1);
    assert_false(f->last_peer.authenticated);
    probe_done(&p);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(echo_over_tls),
        TEST(echo_over_a_unix_socket),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
