/* SPDX-License-Identifier: Apache-2.0
 *
 * The committed segments in golden/ hold the format still: what this program writes with fixed key, nonces and time is
 * bit for bit what they hold, and what they hold decodes to known content. Compressed payloads are decoded only, because
 * another release of zstd may compress to other bytes.
 *
 * With LEEWARD_GOLDEN_WRITE set the files are written instead of compared (for a new version of the format).
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/log/log_sample.h"
#include "transport/base/file.h"

#define BLOCKS 4u

static void block_of(unsigned i, uint8_t out[4096])
{
    sample_block(900 + i, i % 2 == 0, out, 4096);
}

static void append_block(
    struct seal_work *w, unsigned i, int level, bool encrypt, struct buf *out, struct record *ret_record)
{
    AUTO_BUF struct buf plain = BUF_INIT(1 << 20);
    uint8_t block[4096];
    size_t offset = 0;
    const uint8_t *payload;
    struct record r;
    block_of(i, block);
    assert_int_equal(seal_append_data(w, i % 2, 65536ULL * i, block, sizeof(block), level, &plain, &r, NULL), 0);
    assert_int_equal(record_next(plain.data, plain.len, &offset, &r, &payload, NULL), 1);
    assert_int_equal(seal_reseal(w, &r, payload, 0, encrypt ? &sample_key : NULL, 5, i + 1, out, ret_record, NULL), 0);
}

static void add_holes(struct mark *m)
{
    m->unreadable_blocks = 5; /* two that are not listed */
    m->range_count = 2;
    m->ranges[0] = (struct mark_range){.disk = 0, .start = 8 << 20, .length = 8192};
    m->ranges[1] = (struct mark_range){.disk = 1, .start = (1 << 20) - 4096, .length = 4096};
}

/* One change set: BLOCKS blocks, a long zero range, a mark with a tag and two disks; then the seal. */
static void write_segment(int dirfd, int level, bool encrypt, bool holed)
{
    struct seal_work *w = seal_work_new();
    struct record_digest *digest = record_digest_new();
    AUTO_BUF struct buf b = BUF_INIT(1 << 20);
    struct mark m;
    struct record r;
    sample_mark(1, &m);
    (void)snprintf(m.tag, sizeof(m.tag), "golden");
    m.disks[m.disk_count++] =
        (struct mark_disk){.number = 1, .sector_bytes = 4096, .size_bytes = 1ULL << 20, .name = "nvme0n1"};
    for (unsigned i = 0; i < BLOCKS; i++) {
        append_block(w, i, level, encrypt, &b, &r);
        record_digest_add(digest, &r);
    }
    assert_int_equal(seal_append_zero(0, 1 << 20, 1 << 24, &b, &r, NULL), 0);
    record_digest_add(digest, &r);
    m.record_count = BLOCKS + 1;
    m.changed_bytes = BLOCKS * 4096 + (1 << 24);
    record_digest_get(digest, &m.digest);
    if (holed)
        add_holes(&m);
    assert_int_equal(mark_append(&m, &b, NULL), 0);
    struct segment_info info = {
        .machine = sample_machine, .number = 1, .first_sequence = 1, .created_utc_usec = 1795000000000000ULL};
    struct segment_writer *s AUTO_OF(segment_writer) = NULL;
    uint64_t offset;
    struct iovec iov = {b.data, b.len};
    assert_int_equal(segment_create(dirfd, &info, &s, NULL), 0);
    assert_int_equal(segment_append(s, &iov, 1, &offset, NULL), 0);
    assert_int_equal(segment_seal(s, NULL), 0);
    record_digest_free(digest);
    seal_work_free(w);
}

static void check_record(struct seal_work *w, const struct record *r, const uint8_t *payload, unsigned index)
{
    uint8_t want[4096], got[4096];
    struct mark m;
    if (index < BLOCKS) {
        block_of(index, want);
        assert_int_equal(r->start, 65536ULL * index);
        assert_int_equal(seal_open(w, r, payload, &sample_key, got, NULL), 0);
        assert_memory_equal(got, want, sizeof(want));
    } else if (index == BLOCKS) {
        assert_int_equal(r->kind, RECORD_ZERO);
        assert_int_equal(r->length, 1 << 24);
    } else if (index == BLOCKS + 1) {
        assert_int_equal(mark_decode(r, payload, &m, NULL), 0);
        assert_string_equal(m.tag, "golden");
        assert_string_equal(m.disks[1].name, "nvme0n1");
        assert_int_equal(m.flags, MARK_FIRST);
    } else {
        assert_int_equal(r->kind, RECORD_SEAL);
    }
}

static void check_content(int dirfd)
{
    struct seal_work *w = seal_work_new();
    struct segment_reader *reader AUTO_OF(segment_reader) = NULL;
    uint64_t offset = SEGMENT_HEADER_SIZE, end;
    bool sealed;
    struct record r;
    const uint8_t *payload;
    unsigned n = 0;
    assert_int_equal(segment_open(dirfd, 1, &reader, NULL), 0);
    while (segment_read_next(reader, &offset, &r, &payload, NULL) == 1)
        check_record(w, &r, payload, n++);
    assert_int_equal(n, BLOCKS + 3);
    assert_int_equal(segment_recover(dirfd, 1, NULL, NULL, &end, &sealed, NULL), 0);
    assert_true(sealed);
    seal_work_free(w);
}

static void copy_file(const char *from, const char *to)
{
    AUTO_BUF struct buf b = BUF_INIT(1 << 20);
    assert_int_equal(file_read(from, &b, NULL), 0);
    assert_int_equal(file_replace(to, b.data, b.len, 0644, NULL), 0);
}

static void golden(const char *name, int level, bool encrypt, bool holed, bool bit_for_bit)
{
    char folder[64], made[128], committed[512];
    AUTO_CLOSE int dirfd = sample_folder(folder);
    (void)snprintf(made, sizeof(made), "%s/0000000000000001.seg", folder);
    (void)snprintf(committed, sizeof(committed), "%s/golden/%s", TEST_SOURCE_DIR, name);
    write_segment(dirfd, level, encrypt, holed);
    if (getenv("LEEWARD_GOLDEN_WRITE") != NULL)
        copy_file(made, committed);
    AUTO_BUF struct buf want = BUF_INIT(1 << 20), have = BUF_INIT(1 << 20);
    assert_int_equal(file_read(committed, &want, NULL), 0);
    assert_int_equal(file_read(made, &have, NULL), 0);
    if (bit_for_bit) {
        assert_int_equal(have.len, want.len);
        assert_memory_equal(have.data, want.data, want.len);
    }
    copy_file(committed, made);
    check_content(dirfd);
    sample_folder_remove(folder);
}

static void test_plain_segment_stays_the_same(void **state)
{
    (void)state;
    golden("plain.seg", 0, false, false, true);
}

static void test_encrypted_segment_stays_the_same(void **state)
{
    (void)state;
    golden("encrypted.seg", 0, true, false, true);
}

static void test_segment_with_unreadable_ranges_stays_the_same(void **state)
{
    (void)state;
    golden("unreadable.seg", 0, false, true, true);
}

static void test_compressed_segment_decodes(void **state)
{
    (void)state;
    golden("compressed.seg", 3, true, false, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_segment_stays_the_same),
        cmocka_unit_test(test_encrypted_segment_stays_the_same),
        cmocka_unit_test(test_segment_with_unreadable_ranges_stays_the_same),
        cmocka_unit_test(test_compressed_segment_decodes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
