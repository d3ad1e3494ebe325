/* SPDX-License-Identifier: Apache-2.0
 *
 * The shared fixtures of the change-log tests.
 */
#include "tests/unit/log/log_sample.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "transport/base/file.h"

const struct ident sample_machine = {
    {0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0x4d, 0xef, 0x81, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef}};
const struct seal_key sample_key = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23,
    24, 25, 26, 27, 28, 29, 30, 31, 32}};

void sample_block(uint32_t seed, bool compressible, uint8_t *data, size_t n)
{
    uint32_t x = seed * 2654435761u + 1;
    for (size_t i = 0; i < n; i++) {
        x = x * 1664525u + 1013904223u;
        data[i] = compressible ? (uint8_t)("leeward "[i % 8] + (i % 512 == 0 ? x >> 29 : 0)) : (uint8_t)(x >> 24);
    }
}

void sample_mark(uint64_t sequence, struct mark *m)
{
    memset(m, 0, sizeof(*m));
    m->kind = MARK_CRASH;
    m->flags = sequence == 1 ? MARK_FIRST : 0;
    m->sequence = sequence;
    m->generation = 1;
    m->epoch = 1;
    m->time_utc_usec = 1795000000000000ULL + sequence * 1000000;
    m->machine = sample_machine;
    m->disk_count = 1;
    m->disks[0] = (struct mark_disk){.number = 0, .sector_bytes = 512, .size_bytes = 1ULL << 30, .name = "vda"};
}

int sample_folder(char path[64])
{
    (void)snprintf(path, 64, "/tmp/leeward-log-XXXXXX");
    if (mkdtemp(path) == NULL)
        abort();
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        abort();
    return fd;
}

void sample_folder_remove(const char *path)
{
    (void)file_remove_tree(path, NULL);
}

static void add_block(struct seal_work *w, struct buf *plain, struct buf *out, uint64_t sequence, unsigned i,
    bool encrypted, struct record *ret_record)
{
    size_t offset = 0;
    const uint8_t *payload;
    struct record r;
    if (record_next(plain->data, plain->len, &offset, &r, &payload, NULL) != 1)
        abort();
    if (seal_reseal(
            w, &r, payload, 0, encrypted ? &sample_key : NULL, (uint32_t)sequence, i + 1, out, ret_record, NULL) < 0)
        abort();
}

void sample_change_set(struct seal_work *w, uint64_t sequence, unsigned blocks, bool encrypted, struct buf *out)
{
    struct record_digest *digest = record_digest_new();
    struct mark m;
    sample_mark(sequence, &m);
    for (unsigned i = 0; i < blocks; i++) {
        AUTO_BUF struct buf plain = BUF_INIT(1 << 20);
        uint8_t block[4096];
        struct record r;
        sample_block((uint32_t)sequence * 1000 + i, i % 2 == 0, block, sizeof(block));
        if (seal_append_data(w, 0, (uint64_t)i * 4096, block, sizeof(block), i % 4 == 0 ? 3 : 0, &plain, &r, NULL) < 0)
            abort();
        add_block(w, &plain, out, sequence, i, encrypted, &r);
        record_digest_add(digest, &r);
        m.record_count++;
        m.changed_bytes += r.length;
    }
    record_digest_get(digest, &m.digest);
    record_digest_free(digest);
    if (mark_append(&m, out, NULL) < 0)
        abort();
}
