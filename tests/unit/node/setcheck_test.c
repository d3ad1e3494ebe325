/* SPDX-License-Identifier: Apache-2.0
 *
 * The checks on a stream of change sets, one row per rule.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "transport/log/mark.h"
#include "transport/node/setcheck.h"

static const struct ident machine = {{7, 7, 7}};

static struct mark good_mark(uint64_t sequence, const struct record *r)
{
    struct mark m = {.kind = MARK_CRASH,
        .sequence = sequence,
        .generation = 2,
        .epoch = 3,
        .machine = machine,
        .record_count = 1,
        .changed_bytes = r->length,
        .disk_count = 1};
    struct record_digest *d = record_digest_new();
    m.disks[0] = (struct mark_disk){.sector_bytes = 512, .size_bytes = 1 << 20, .name = "vda"};
    record_digest_add(d, r);
    record_digest_get(d, &m.digest);
    record_digest_free(d);
    return m;
}

static enum err_code check(const struct record *data, const struct mark *m)
{
    struct setcheck c;
    struct err err = ERR_INIT;
    AUTO_BUF struct buf b = BUF_INIT(1 << 16);
    struct record r;
    const uint8_t *payload;
    size_t offset = 0;
    assert_int_equal(setcheck_init(&c, NULL), 0);
    setcheck_start(&c, &machine, 2, 3, 5);
    assert_false(setcheck_is_open(&c));
    assert_int_equal(setcheck_record(&c, data, NULL, NULL), 0);
    assert_true(setcheck_is_open(&c));
    assert_int_equal(mark_append(m, &b, NULL), 0);
    assert_int_equal(record_next(b.data, b.len, &offset, &r, &payload, NULL), 1);
    int result = setcheck_record(&c, &r, payload, &err);
    if (result == 1) {
        assert_int_equal(c.next_sequence, 6);
        assert_false(setcheck_is_open(&c));
    }
    setcheck_done(&c);
    return result == 1 ? ERR_NONE : err.code;
}

static void test_each_rule(void **state)
{
    (void)state;
    struct record r = {.kind = RECORD_ZERO, .length = 4096};
    struct mark m = good_mark(5, &r);
    assert_int_equal(check(&r, &m), ERR_NONE);
#define BROKEN(code, change)                                                                                           \
    do {                                                                                                               \
        m = good_mark(5, &r);                                                                                          \
        change;                                                                                                        \
        assert_int_equal(check(&r, &m), code);                                                                         \
    } while (0)
    BROKEN(ERR_DENIED, m.machine.bytes[0] = 8);
    BROKEN(ERR_REFUSED, m.generation = 1);
    BROKEN(ERR_REFUSED, m.epoch = 4);
    BROKEN(ERR_REFUSED, m.sequence = 4);
    BROKEN(ERR_REFUSED, m.sequence = 6);
    BROKEN(ERR_CORRUPT, m.record_count = 2);
    BROKEN(ERR_CORRUPT, m.changed_bytes = 512);
    BROKEN(ERR_CORRUPT, m.digest.bytes[3] ^= 1);
#undef BROKEN
    struct setcheck c;
    struct record seal = {.kind = RECORD_SEAL};
    assert_int_equal(setcheck_init(&c, NULL), 0);
    setcheck_start(&c, &machine, 2, 3, 5);
    assert_int_equal(setcheck_record(&c, &seal, NULL, NULL), -1);
    setcheck_done(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_each_rule)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
