/* SPDX-License-Identifier: Apache-2.0
 *
 * What a call is said to have taken of the line: nothing, where there was no way to the vault.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "transport/base/ident.h"
#include "transport/proto/vault.pb-c.h"
#include "transport/proto/vaultask.h"

struct asking {
    struct vaultask *ask;
    uint64_t traffic;
    int result;
    struct err err;
};

static void to_loop(void *arg)
{
    (void)arg;
}

static int take(void *arg, const ProtobufCMessage *m, struct err *err)
{
    (void)arg;
    (void)m;
    (void)err;
    return 0;
}

static void *ask_main(void *arg)
{
    struct asking *a = arg;
    Leeward__Vault__V1__ListPointsRequest q = LEEWARD__VAULT__V1__LIST_POINTS_REQUEST__INIT;
    uint8_t id[IDENT_SIZE] = {1};

    q.machine_id = (ProtobufCBinaryData){IDENT_SIZE, id};
    a->result = vaultask_run(a->ask, "/leeward.vault.v1.Vault/ListPoints", &q.base,
        &leeward__vault__v1__point__descriptor, take, NULL, &a->traffic, &a->err);
    return NULL;
}

static void what_went_nowhere_is_no_traffic(void **state)
{
    struct asking a = {.traffic = 7, .err = ERR_INIT};
    struct err err = ERR_INIT;
    pthread_t thread;

    (void)state;
    assert_int_equal(vaultask_new(to_loop, NULL, 0, &a.ask, &err), 0);
    assert_int_equal(pthread_create(&thread, NULL, ask_main, &a), 0);
    while (!vaultask_wants_channel(a.ask))
        ;
    vaultask_kick(a.ask, NULL);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(a.result, -1);
    assert_int_equal(a.err.code, ERR_UNAVAILABLE);
    assert_int_equal(a.traffic, 7);
    vaultask_free(a.ask);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(what_went_nowhere_is_no_traffic)};

    return cmocka_run_group_tests_name("proto_vaultask", tests, NULL, NULL);
}
