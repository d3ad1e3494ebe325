/* SPDX-License-Identifier: Apache-2.0
 *
 * The change log on a heap whose n-th allocation fails, for every n that it comes to: each failure is ERR_NOMEM (or the reader's
 * plain end), nothing leaks, and the file is whole afterwards.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <unistd.h>

#include "tests/unit/log/log_sample.h"

static int write_one(int dirfd, uint64_t number, const struct buf *set, struct err *err)
{
    struct segment_info info = {.machine = sample_machine, .number = number, .first_sequence = 1};
    struct segment_writer *w AUTO_OF(segment_writer) = NULL;
    struct iovec iov = {set->data, set->len};
    uint64_t offset;
    if (segment_create(dirfd, &info, &w, err) < 0)
        return -1;
    return segment_append(w, &iov, 1, &offset, err) < 0 ? -1 : segment_seal(w, err);
}

static int read_one(int dirfd, uint64_t number, struct err *err)
{
    struct segment_reader *r AUTO_OF(segment_reader) = NULL;
    uint64_t offset = SEGMENT_HEADER_SIZE, end;
    bool sealed;
    struct record record;
    const uint8_t *payload;
    int got;
    if (segment_recover(dirfd, number, NULL, NULL, &end, &sealed, err) < 0 || segment_open(dirfd, number, &r, err) < 0)
        return -1;
    while ((got = segment_read_next(r, &offset, &record, &payload, err)) == 1)
        continue;
    return got;
}

static int seal_one(struct err *err)
{
    AUTO_BUF struct buf out = BUF_INIT(1 << 20);
    struct seal_work *w = seal_work_new();
    struct record_digest *d = record_digest_new();
    uint8_t data[4096];
    struct record r;
    struct mark m;
    int result = -1;
    sample_block(1, true, data, sizeof(data));
    sample_mark(1, &m);
    if (w == NULL || d == NULL)
        result = err_set(err, ERR_NOMEM, "no contexts");
    else if (seal_append_data(w, 0, 0, data, sizeof(data), 1, &out, &r, err) == 0)
        result = mark_append(&m, &out, err);
    record_digest_free(d);
    seal_work_free(w);
    return result;
}

static void test_every_failing_allocation(void **state)
{
    (void)state;
    char path[64];
    int dirfd = sample_folder(path);
    struct seal_work *w = seal_work_new();
    AUTO_BUF struct buf set = BUF_INIT(1 << 20);
    sample_change_set(w, 1, 4, true, &set);
    seal_work_free(w);
    bool failed = true;
    for (long n = 1; failed; n++) {
        struct err err = ERR_INIT;
        mem_fail_at(n);
        failed = seal_one(&err) < 0 || write_one(dirfd, (uint64_t)n, &set, &err) < 0 ||
                 read_one(dirfd, (uint64_t)n, &err) < 0;
        mem_fail_at(0);
        if (failed)
            assert_int_equal(err.code, ERR_NOMEM);
        assert_true(n < 1000);
    }
    (void)close(dirfd);
    sample_folder_remove(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_failing_allocation)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
