/* SPDX-License-Identifier: Apache-2.0
 *
 * Packing, bounded unpacking, and the batch that is found and built without a copy.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "transport/base/mem.h"
#include "transport/proto/control.pb-c.h"
#include "transport/proto/replication.pb-c.h"
#include "transport/proto/wire.h"

static void a_message_survives(void **state)
{
    Leeward__Control__V1__EnrolRequest m = LEEWARD__CONTROL__V1__ENROL_REQUEST__INIT;
    struct buf b = BUF_INIT(1000);
    ProtobufCMessage *back = NULL;
    (void)state;
    m.token = (char *)"t";
    m.csr_der = (ProtobufCBinaryData){3, (uint8_t *)(uintptr_t) "abc"};
    assert_int_equal(buf_append_str(&b, "x", NULL), 0); /* packs behind what is there */
    assert_int_equal(wire_pack(&m.base, &b, NULL), 0);
    assert_int_equal(wire_unpack(m.base.descriptor, b.data + 1, b.len - 1, &back, NULL), 0);
    assert_string_equal(((Leeward__Control__V1__EnrolRequest *)back)->token, "t");
    assert_int_equal(((Leeward__Control__V1__EnrolRequest *)back)->csr_der.len, 3);
    wire_free(back);
    wire_free(NULL);
    buf_done(&b);
}

static void an_empty_message_is_one(void **state)
{
    ProtobufCMessage *back = NULL;
    (void)state;
    assert_int_equal(wire_unpack(&leeward__control__v1__report__descriptor, NULL, 0, &back, NULL), 0);
    assert_int_equal(((Leeward__Control__V1__Report *)back)->kind_case, LEEWARD__CONTROL__V1__REPORT__KIND__NOT_SET);
    wire_free(back);
}

static void a_message_over_the_buffer_is_refused(void **state)
{
    Leeward__Control__V1__EnrolRequest m = LEEWARD__CONTROL__V1__ENROL_REQUEST__INIT;
    struct buf b = BUF_INIT(4);
    struct err err = ERR_INIT;
    (void)state;
    m.token = (char *)"longer than four";
    assert_int_equal(wire_pack(&m.base, &b, &err), -1);
    assert_int_equal(err.code, ERR_TOO_LARGE);
    assert_int_equal(b.len, 0);
    buf_done(&b);
}

static void garbage_is_invalid(void **state)
{
    static const char *const bad[] = {"\x0a\xff", "\x0a\x05xx", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "\x0f"};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct err err = ERR_INIT;
        ProtobufCMessage *m = NULL;
        assert_int_equal(wire_unpack(&leeward__control__v1__enrol_request__descriptor, (const uint8_t *)bad[i],
                             strlen(bad[i]), &m, &err),
            -1);
        assert_int_equal(err.code, ERR_INVALID);
        assert_null(m);
    }
}

static void few_bytes_cannot_ask_for_much_memory(void **state)
{
    /* NodeDesired with machines of two bytes each: every one costs a whole struct. */
    static uint8_t bytes[200000];
    struct err err = ERR_INIT;
    ProtobufCMessage *m = NULL;
    (void)state;
    for (size_t i = 0; i < sizeof(bytes); i += 2) {
        bytes[i] = 0x12;
        bytes[i + 1] = 0;
    }
    assert_int_equal(wire_unpack(&leeward__control__v1__node_desired__descriptor, bytes, sizeof(bytes), &m, &err), -1);
    assert_int_equal(err.code, ERR_TOO_LARGE);
}

static void memory_that_runs_out_leaks_nothing(void **state)
{
    Leeward__Control__V1__PointInfo info = LEEWARD__CONTROL__V1__POINT_INFO__INIT, *infos[] = {&info, &info};
    Leeward__Control__V1__Points m = LEEWARD__CONTROL__V1__POINTS__INIT;
    struct buf b = BUF_INIT(1000);
    (void)state;
    info.kind = (char *)"crash";
    m.n_added = 2;
    m.added = infos;
    assert_int_equal(wire_pack(&m.base, &b, NULL), 0);
    for (long n = 1; n < 20; n++) {
        ProtobufCMessage *back = NULL;
        mem_fail_at(n);
        if (wire_unpack(m.base.descriptor, b.data, b.len, &back, NULL) == 0)
            wire_free(back);
        mem_fail_at(0);
    }
    buf_done(&b);
}

static void a_batch_is_found_without_a_copy(void **state)
{
    static const size_t sizes[] = {0, 1, 127, 128, 16383, 16384, 1 << 20, 4 << 20};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        uint8_t head[WIRE_BATCH_HEAD_MAX];
        struct buf b = BUF_INIT(5 << 20);
        size_t n = wire_batch_head(sizes[i], head);
        assert_int_equal(buf_append(&b, head, n, NULL), 0);
        assert_int_equal(buf_reserve(&b, sizes[i], NULL), 0);
        if (sizes[i] > 0)
            memset(b.data + b.len, 7, sizes[i]);
        b.len += sizes[i];
        const uint8_t *batch = NULL;
        size_t len = 0;
        assert_int_equal(wire_peek_batch(b.data, b.len, &batch, &len), 1);
        assert_int_equal(len, sizes[i]);
        assert_ptr_equal(batch, b.data + n);
        ProtobufCMessage *m = NULL;
        assert_int_equal(
            wire_unpack(&leeward__replication__v1__replicate_request__descriptor, b.data, b.len, &m, NULL), 0);
        const Leeward__Replication__V1__ReplicateRequest *request = (Leeward__Replication__V1__ReplicateRequest *)m;
        assert_int_equal(request->kind_case, LEEWARD__REPLICATION__V1__REPLICATE_REQUEST__KIND_BATCH);
        assert_int_equal(request->batch.len, sizes[i]);
        wire_free(m);
        assert_int_equal(wire_peek_batch(b.data, b.len - 1, &batch, &len), 0);
        buf_done(&b);
    }
}

static void what_is_not_one_batch_is_left_to_unpacking(void **state)
{
    static const struct {
        const char *bytes;
        size_t n;
    } rows[] = {{"", 0}, {"\x12", 1}, {"\x12\x01", 2}, {"\x12\x01xy", 4}, {"\x0a\x00", 2}, {"\x12\x80", 2},
        {"\x12\xff\xff\xff\xff\xff\x01", 7}};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const uint8_t *batch;
        size_t len;
        assert_int_equal(wire_peek_batch((const uint8_t *)rows[i].bytes, rows[i].n, &batch, &len), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_survives),
        cmocka_unit_test(an_empty_message_is_one),
        cmocka_unit_test(a_message_over_the_buffer_is_refused),
        cmocka_unit_test(garbage_is_invalid),
        cmocka_unit_test(few_bytes_cannot_ask_for_much_memory),
        cmocka_unit_test(memory_that_runs_out_leaks_nothing),
        cmocka_unit_test(a_batch_is_found_without_a_copy),
        cmocka_unit_test(what_is_not_one_batch_is_left_to_unpacking),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
