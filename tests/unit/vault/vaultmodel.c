/* SPDX-License-Identifier: Apache-2.0
 *
 * The model of vaultmodel.h.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "tests/unit/vault/vaultmodel.h"
#include "transport/base/file.h"
#include "transport/vault/view.h"

#define OK(call)                                                                                                       \
    do {                                                                                                               \
        struct err err = ERR_INIT;                                                                                     \
        if ((call) < 0)                                                                                                \
            fail_msg("%s: %s (%s)", #call, err.text, err.correction);                                                  \
    } while (0)

uint64_t model_random(struct model *m, uint64_t below)
{
    m->random ^= m->random << 13;
    m->random ^= m->random >> 7;
    m->random ^= m->random << 17;
    return m->random % below;
}

void model_group_id(uint64_t utc_usec, struct ident *ret_id)
{
    uint64_t units = utc_usec / 4000;
    uint8_t *b = ret_id->bytes;
    *ret_id = (struct ident){{0, 0, 0, 7, 0, 1}};
    b[6] = (uint8_t)(0x80 | (units >> 38 & 0x0f));
    b[7] = (uint8_t)(units >> 30);
    b[8] = (uint8_t)(0x80 | (units >> 24 & 0x3f));
    b[9] = (uint8_t)(units >> 16);
    b[10] = (uint8_t)(units >> 8);
    b[11] = (uint8_t)units;
}

void model_init(struct model *m, uint64_t seed)
{
    model_init_sized(m, seed, (1u << 20) + 1536, 512u << 10); /* an odd size */
}

void model_init_sized(struct model *m, uint64_t seed, uint64_t bytes_0, uint64_t bytes_1)
{
    memset(m, 0, sizeof(*m));
    /* In memory where that is: what a killed process leaves is the same there, and nothing waits for a disk. */
    const char *asked = getenv("LEEWARD_TEST_DIR"), *temp = getenv("TMPDIR");
    const char *place = asked ? asked : access("/dev/shm", W_OK) == 0 ? "/dev/shm" : temp ? temp : "/tmp";
    assert_true(snprintf(m->dir, sizeof(m->dir), "%s/leeward-vault-XXXXXX", place) < (int)sizeof(m->dir));
    assert_non_null(mkdtemp(m->dir));
    (void)snprintf(m->machine_dir, sizeof(m->machine_dir), "%s/machine", m->dir);
    m->random = seed * 0x9E3779B97F4A7C15u + 1;
    m->conf.dir = m->machine_dir;
    m->conf.machine.bytes[0] = 7;
    memset(m->conf.vault_key.bytes, 3, sizeof(m->conf.vault_key.bytes));
    m->disk_bytes[0] = bytes_0;
    m->disk_bytes[1] = bytes_1;
    for (unsigned i = 0; i < MODEL_DISKS; i++)
        m->disks[i] = calloc(1, m->disk_bytes[i]);
    m->work = seal_work_new();
    m->digest = record_digest_new();
    buf_init(&m->batch, 64u << 20);
}

void model_done(struct model *m)
{
    if (m->store != NULL)
        store_close(m->store);
    for (unsigned i = 0; i < MODEL_DISKS; i++)
        free(m->disks[i]);
    for (unsigned p = 0; p < m->point_count; p++)
        for (unsigned i = 0; i < MODEL_DISKS; i++)
            free(m->points[p].disks[i]);
    seal_work_free(m->work);
    record_digest_free(m->digest);
    buf_done(&m->batch);
    OK(file_remove_tree(m->dir, &err));
}

void model_batch_reset(struct model *m)
{
    buf_clear(&m->batch);
    record_digest_reset(m->digest);
    m->records = m->changed = 0;
}

void model_open(struct model *m)
{
    OK(store_open(&m->conf, &m->store, &err));
    m->epoch++;
    OK(store_begin(m->store, 1, m->epoch, &m->opened, &err));
    m->nonce = 0;
    model_batch_reset(m);
}

int model_try_new_key(struct model *m, struct err *err)
{
    if (store_new_data_key(m->store, &m->conf.vault_key, err) < 0 ||
        store_begin(m->store, 1, m->epoch, &m->opened, err) < 0)
        return -1;
    m->nonce = 0;
    model_batch_reset(m);
    return 0;
}

void model_new_key(struct model *m)
{
    OK(model_try_new_key(m, &err));
}

void model_close(struct model *m)
{
    store_close(m->store);
    m->store = NULL;
}

static void add_record(struct model *m, const struct record *r)
{
    record_digest_add(m->digest, r);
    m->records++;
    m->changed += r->length;
}

static void write_block(struct model *m, unsigned disk, uint64_t start, uint32_t length)
{
    struct buf plain AUTO_BUF = BUF_INIT(1u << 20);
    struct record r, sealed;
    OK(seal_append_data(m->work, disk, start, m->disks[disk] + start, length, 0, &plain, &r, &err));
    OK(seal_reseal(m->work, &r, plain.data + RECORD_HEADER_SIZE, 1, &m->opened.data_key, m->opened.nonce_stream,
        ++m->nonce, &m->batch, &sealed, &err));
    add_record(m, &sealed);
}

void model_write(struct model *m, unsigned disk, uint64_t start, uint32_t length, bool compressible)
{
    uint8_t *at = m->disks[disk] + start;
    uint8_t fill = (uint8_t)(model_random(m, 255) + 1);
    for (uint32_t i = 0; i < length; i++)
        at[i] = compressible ? (uint8_t)(fill + i / 64) : (uint8_t)model_random(m, 256);
    while (length > 0) {
        uint32_t room = RECORD_BLOCK_SIZE - (uint32_t)(start % RECORD_BLOCK_SIZE);
        uint32_t part = length < room ? length : room;
        write_block(m, disk, start, part);
        start += part;
        length -= part;
    }
}

void model_put(struct model *m, unsigned disk, uint64_t start, uint32_t length, const uint8_t *content)
{
    memcpy(m->disks[disk] + start, content, length);
    write_block(m, disk, start, length);
}

void model_zero(struct model *m, unsigned disk, uint64_t start, uint64_t length)
{
    struct record r;
    memset(m->disks[disk] + start, 0, length);
    OK(seal_append_zero(disk, start, length, &m->batch, &r, &err));
    add_record(m, &r);
}

void model_random_write(struct model *m)
{
    unsigned disk = (unsigned)model_random(m, MODEL_DISKS);
    uint64_t sectors = m->disk_bytes[disk] / 512;
    uint64_t at = model_random(m, sectors);
    uint64_t longest = sectors - at;
    if (model_random(m, 10) == 0) {
        model_zero(m, disk, at * 512, (model_random(m, longest) + 1) * 512);
        return;
    }
    uint64_t most = model_random(m, 4) == 0 ? 300 : 16;
    uint64_t n = model_random(m, longest < most ? longest : most) + 1;
    model_write(m, disk, at * 512, (uint32_t)(n * 512), model_random(m, 2) == 0);
}

void model_mark(struct model *m, enum mark_kind kind)
{
    model_mark_at(m, kind, store_committed(m->store) + 1, 1);
}

void model_mark_at(struct model *m, enum mark_kind kind, uint64_t sequence, uint64_t generation)
{
    struct mark mark = {.kind = kind,
        .sequence = sequence,
        .generation = generation,
        .epoch = m->epoch,
        .time_utc_usec = m->began_utc_usec + 1000000 * sequence,
        .machine = m->conf.machine,
        .group_point = m->group,
        .record_count = m->records,
        .changed_bytes = m->changed,
        .disk_count = MODEL_DISKS};
    if (kind != MARK_PROGRESS && !m->first_sent)
        mark.flags = MARK_FIRST;
    if (m->tag != NULL)
        (void)snprintf(mark.tag, sizeof(mark.tag), "%s", m->tag);
    for (uint32_t i = 0; i < MODEL_DISKS; i++)
        mark.disks[i] =
            (struct mark_disk){.number = i, .sector_bytes = 512, .size_bytes = m->disk_bytes[i], .name = "vdx"};
    record_digest_get(m->digest, &mark.digest);
    OK(mark_append(&mark, &m->batch, &err));
}

void model_commit(struct model *m, enum mark_kind kind)
{
    uint64_t expected = store_committed(m->store) + 1;
    uint64_t committed = 0;
    model_mark(m, kind);
    OK(store_append(m->store, m->batch.data, m->batch.len, &committed, &err));
    assert_int_equal(committed, expected);
    model_batch_reset(m);
    if (store_wants_flush(m->store))
        OK(store_flush(m->store, &err));
    if (kind != MARK_PROGRESS)
        model_keep_point(m, committed);
}

void model_keep_point(struct model *m, uint64_t sequence)
{
    m->first_sent = true;
    assert_true(m->point_count < MODEL_POINTS_MAX);
    struct model_point *p = &m->points[m->point_count++];
    p->sequence = sequence;
    for (unsigned i = 0; i < MODEL_DISKS; i++) {
        p->disks[i] = malloc(m->disk_bytes[i]);
        memcpy(p->disks[i], m->disks[i], m->disk_bytes[i]);
    }
}

void model_check_point(struct model *m, const struct model_point *p)
{
    struct view *v AUTO_OF(view) = NULL;
    OK(view_open(m->machine_dir, p->sequence, &m->opened.keys, 1u << 20, &v, &err));
    for (unsigned i = 0; i < MODEL_DISKS; i++) {
        uint8_t *got = malloc(m->disk_bytes[i]);
        OK(view_read(v, i, 0, m->disk_bytes[i], got, &err));
        for (uint64_t at = 0; at < m->disk_bytes[i]; at += 512)
            if (memcmp(got + at, p->disks[i] + at, 512) != 0)
                fail_msg("point %llu differs on disk %u at byte %llu", (unsigned long long)p->sequence, i,
                    (unsigned long long)at);
        free(got);
    }
}

void model_check_all(struct model *m)
{
    OK(store_flush(m->store, &err));
    for (unsigned i = 0; i < m->point_count; i++)
        model_check_point(m, &m->points[i]);
}

void model_forget(struct model *m, uint64_t sequence)
{
    for (unsigned i = 0; i < m->point_count; i++) {
        if (m->points[i].sequence != sequence)
            continue;
        for (unsigned d = 0; d < MODEL_DISKS; d++)
            free(m->points[i].disks[d]);
        memmove(&m->points[i], &m->points[i + 1], (m->point_count - i - 1) * sizeof(m->points[0]));
        m->point_count--;
        return;
    }
}

static void copy_file(const char *from, const char *to)
{
    static uint8_t part[1u << 16];
    int in = open(from, O_RDONLY | O_CLOEXEC);
    int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ssize_t n;
    assert_true(in >= 0 && out >= 0);
    while ((n = read(in, part, sizeof(part))) > 0)
        assert_int_equal(write(out, part, (size_t)n), n);
    assert_int_equal(n, 0);
    (void)close(in);
    (void)close(out);
}

void model_copy_tree(const char *from, const char *to)
{
    DIR *dir = opendir(from);
    struct dirent *entry;
    assert_non_null(dir);
    assert_int_equal(mkdir(to, 0700), 0);
    while ((entry = readdir(dir)) != NULL) {
        char inner[400], copy[400];
        (void)snprintf(inner, sizeof(inner), "%s/%s", from, entry->d_name);
        (void)snprintf(copy, sizeof(copy), "%s/%s", to, entry->d_name);
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (entry->d_type == DT_DIR)
            model_copy_tree(inner, copy);
        else
            copy_file(inner, copy);
    }
    (void)closedir(dir);
}

void model_crash(struct model *m)
{
    char *copy = mem_printf("%s/copy", m->dir);
    /* What a killed process leaves is what is in the files now: copy them, and go on with the copy. */
    model_copy_tree(m->machine_dir, copy);
    store_close(m->store);
    m->store = NULL;
    OK(file_remove_tree(m->machine_dir, &err));
    assert_int_equal(rename(copy, m->machine_dir), 0);
    free(copy);
}

void model_drop(struct model *m, const uint64_t *drop, size_t count)
{
    size_t dropped = 0;
    OK(store_drop_points(m->store, drop, count, &dropped, &err));
    assert_int_equal(dropped, count);
    for (size_t i = 0; i < count; i++)
        model_forget(m, drop[i]);
}

void model_fill(struct model *m, unsigned points, unsigned writes)
{
    for (unsigned p = 0; p < points; p++) {
        for (unsigned i = 0; i < writes; i++)
            model_random_write(m);
        model_commit(m, MARK_CRASH);
    }
}
