/* SPDX-License-Identifier: Apache-2.0
 *
 * Sealing of whole batches: where the output is cut, that no nonce is used twice, and what is refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "transport/log/mark.h"
#include "transport/node/sealing.h"

static const struct sealing_order order = {.level = 1, .key = {{9}}, .nonce_stream = 3, .nonce_counter = 1000};
static struct sealing_pool *pool;
static struct seal_work *work;

static int set_up(void **state)
{
    (void)state;
    pool = sealing_pool_new();
    work = seal_work_new();
    return pool == NULL || work == NULL ? -1 : 0;
}

static int tear_down(void **state)
{
    (void)state;
    sealing_pool_free(pool);
    seal_work_free(work);
    return 0;
}

static void add_blocks(struct buf *b, unsigned first, unsigned count, uint32_t length)
{
    static uint8_t data[RECORD_BLOCK_SIZE];
    for (unsigned i = 0; i < count; i++) {
        uint32_t x = first + i + 1;
        struct record r;
        for (size_t k = 0; k < length; k++)
            data[k] = (uint8_t)((x = x * 1664525u + 1013904223u) >> 24);
        assert_int_equal(
            seal_append_data(work, 0, (uint64_t)(first + i) * RECORD_BLOCK_SIZE, data, length, 0, b, &r, NULL), 0);
    }
}

static void add_mark(struct buf *b)
{
    struct mark m = {.kind = MARK_CRASH, .sequence = 1, .generation = 1, .epoch = 1, .disk_count = 1};
    m.disks[0] = (struct mark_disk){.sector_bytes = 512, .size_bytes = 1 << 30, .name = "vda"};
    assert_int_equal(mark_append(&m, b, NULL), 0);
}

/* Records come out in order, with ascending counters; returns how many. */
static unsigned check_records(const struct sealing_out *out)
{
    uint64_t counter = 0;
    unsigned n = 0;
    for (unsigned i = 0; i < out->chunk_count; i++) {
        size_t offset = 0;
        struct record r;
        const uint8_t *payload;
        while (record_next(out->chunks[i].data, out->chunks[i].len, &offset, &r, &payload, NULL) == 1) {
            n++;
            if (r.kind != RECORD_DATA)
                continue;
            assert_int_equal(r.nonce_stream, 3);
            assert_true(r.nonce_counter > counter);
            counter = r.nonce_counter;
        }
        assert_int_equal(offset, out->chunks[i].len);
    }
    assert_true(counter == 0 || counter >= 1000);
    return n;
}

static void test_output_is_cut_behind_the_last_mark(void **state)
{
    (void)state;
    AUTO_BUF struct buf b = BUF_INIT(SEALING_BATCH_MAX);
    struct sealing_out out;
    add_blocks(&b, 0, 3, 4096);
    add_mark(&b);
    add_blocks(&b, 3, 2, 4096);
    add_mark(&b);
    add_blocks(&b, 5, 1, 4096);
    assert_int_equal(sealing_run(pool, &order, b.data, b.len, &out, NULL), 0);
    assert_int_equal(out.chunk_count, 2);
    assert_int_equal(out.through_mark, 1);
    assert_int_equal(check_records(&out), 8);
    sealing_out_done(&out);
}

static void test_largest_batch_of_any_records_fits(void **state)
{
    (void)state;
    static const uint32_t lengths[] = {512, 4096, RECORD_BLOCK_SIZE};
    for (unsigned i = 0; i < 3; i++) {
        AUTO_BUF struct buf b = BUF_INIT(SEALING_BATCH_MAX);
        struct sealing_out out;
        unsigned count = (unsigned)((SEALING_BATCH_MAX - 1024) / (RECORD_HEADER_SIZE + lengths[i]));
        add_blocks(&b, 0, count, lengths[i]);
        add_mark(&b);
        assert_int_equal(sealing_run(pool, &order, b.data, b.len, &out, NULL), 0);
        assert_int_equal(out.through_mark, out.chunk_count);
        assert_int_equal(check_records(&out), count + 1);
        assert_true(count <= sealing_nonces(b.len));
        sealing_out_done(&out);
    }
}

static void refused(struct buf *b, enum err_code code)
{
    struct sealing_out out;
    struct err err = ERR_INIT;
    assert_int_equal(sealing_run(pool, &order, b->data, b->len, &out, &err), -1);
    assert_int_equal(err.code, code);
    assert_int_equal(out.chunk_count, 0);
}

static void test_what_is_refused(void **state)
{
    (void)state;
    AUTO_BUF struct buf b = BUF_INIT(SEALING_BATCH_MAX * 2);
    struct sealing_out out;
    add_blocks(&b, 0, 2, 4096);
    b.len--;
    refused(&b, ERR_CORRUPT); /* cut off */
    b.len++;
    b.data[b.len - 1] ^= 1;
    refused(&b, ERR_CORRUPT); /* hash */
    b.data[b.len - 1] ^= 1;
    assert_int_equal(sealing_run(pool, &order, b.data, b.len, &out, NULL), 0);
    refused(&out.chunks[0], ERR_INVALID); /* encrypted already */
    sealing_out_done(&out);
    buf_clear(&b);
    add_blocks(&b, 0, 70, RECORD_BLOCK_SIZE);
    refused(&b, ERR_TOO_LARGE);
    buf_clear(&b);
    assert_int_equal(sealing_run(pool, &order, b.data, 0, &out, NULL), 0);
    assert_int_equal(out.chunk_count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_output_is_cut_behind_the_last_mark),
        cmocka_unit_test(test_largest_batch_of_any_records_fits),
        cmocka_unit_test(test_what_is_refused),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
