/* SPDX-License-Identifier: Apache-2.0
 *
 * Makes a machine's store with a long history, through the vault's real write path (seal, encrypt, append, commit, flush,
 * merge):
 *     vault_history FOLDER DISK_GIB POINTS EXTENTS_PER_POINT BLOCK_BYTES RANDOM_PERCENT
 * Writes FOLDER/machine and FOLDER/key (the data key, for the nbdkit plugin), and prints one JSON line about it. RANDOM_PERCENT of the
 * content is incompressible. EXTENTS_PER_POINT 0: one point, the disk written from its start to its end.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "transport/base/buf.h"
#include "transport/base/bytes.h"
#include "transport/base/clock.h"
#include "transport/base/file.h"
#include "transport/base/mem.h"
#include "transport/log/mark.h"
#include "transport/log/seal.h"
#include "transport/vault/store.h"

struct history {
    struct store *store;
    struct store_opened opened;
    struct seal_work *work;
    struct record_digest *digest;
    struct buf plain, batch;
    uint64_t random, nonce, records, bytes, sequence, disk_bytes;
    uint32_t block_bytes, random_percent;
    uint8_t *content;
    unsigned merges;
};

static void stop_on(const struct err *err, const char *what)
{
    (void)fprintf(stderr, "vault_history: %s: %s\n", what, err->text);
    exit(1);
}

static uint64_t next_random(struct history *h)
{
    h->random ^= h->random << 13;
    h->random ^= h->random >> 7;
    h->random ^= h->random << 17;
    return h->random;
}

static void fill_content(struct history *h)
{
    uint32_t random_bytes = (uint32_t)((uint64_t)h->block_bytes * h->random_percent / 100);
    memset(h->content, (int)(h->records % 250) + 1, h->block_bytes);
    for (uint32_t i = 0; i + 8 <= random_bytes; i += 8)
        put_le64(h->content + i, next_random(h));
}

static void put_block(struct history *h, uint64_t start)
{
    struct err err = ERR_INIT;
    struct record r, sealed;
    fill_content(h);
    buf_clear(&h->plain);
    if (seal_append_data(h->work, 0, start, h->content, h->block_bytes, 0, &h->plain, &r, &err) < 0 ||
        seal_reseal(h->work, &r, h->plain.data + RECORD_HEADER_SIZE, 1, &h->opened.data_key, h->opened.nonce_stream,
            ++h->nonce, &h->batch, &sealed, &err) < 0)
        stop_on(&err, "sealing");
    record_digest_add(h->digest, &sealed);
    h->records++;
    h->bytes += sealed.length;
}

static void upkeep(struct history *h)
{
    struct err err = ERR_INIT;
    struct store_merge *merge = NULL;
    if (!store_wants_flush(h->store))
        return;
    if (store_flush(h->store, &err) < 0)
        stop_on(&err, "flushing");
    while (store_merge_plan(h->store, &merge, &err) > 0) {
        if (store_merge_run(merge, &err) < 0 || store_merge_finish(h->store, merge, &err) < 0)
            stop_on(&err, "merging");
        store_merge_free(merge);
        merge = NULL;
        h->merges++;
    }
}

static void append(struct history *h)
{
    struct err err = ERR_INIT;
    uint64_t committed;
    if (store_append(h->store, h->batch.data, h->batch.len, &committed, &err) < 0)
        stop_on(&err, "appending");
    buf_clear(&h->batch);
}

static void commit(struct history *h, enum mark_kind kind)
{
    struct err err = ERR_INIT;
    struct mark m = {.kind = kind,
        .flags = kind != MARK_PROGRESS && h->sequence == 0 ? MARK_FIRST : 0,
        .sequence = h->sequence + 1,
        .generation = 1,
        .epoch = 1,
        .time_utc_usec = clock_utc_usec(),
        .machine.bytes = {7},
        .record_count = h->records,
        .changed_bytes = h->bytes,
        .disk_count = 1,
        .disks = {{.number = 0, .sector_bytes = 512, .size_bytes = h->disk_bytes, .name = "vda"}}};
    record_digest_get(h->digest, &m.digest);
    if (mark_append(&m, &h->batch, &err) < 0)
        stop_on(&err, "marking");
    append(h);
    h->sequence++;
    h->records = h->bytes = 0;
    record_digest_reset(h->digest);
    upkeep(h);
}

/* One point of everything; parts of the batch go as they fill. */
static void write_all(struct history *h)
{
    for (uint64_t at = 0; at < h->disk_bytes; at += h->block_bytes) {
        put_block(h, at);
        if (h->batch.len > (1u << 20))
            append(h);
    }
    commit(h, MARK_CRASH);
}

static void write_history(struct history *h, uint64_t points, uint64_t extents)
{
    for (uint64_t p = 0; p < points; p++) {
        for (uint64_t i = 0; i < extents; i++)
            put_block(h, next_random(h) % (h->disk_bytes / h->block_bytes) * h->block_bytes);
        commit(h, MARK_CRASH);
    }
}

static void save_key(const struct history *h, const char *folder)
{
    struct err err = ERR_INIT;
    char hex[2 * SEAL_KEY_SIZE + 1];
    char *path AUTO_FREE = mem_printf("%s/key", folder);
    bytes_to_hex(h->opened.data_key.bytes, SEAL_KEY_SIZE, hex);
    if (path == NULL || file_replace(path, hex, sizeof(hex) - 1, 0600, &err) < 0)
        stop_on(&err, "saving the key");
}

int main(int argc, char **argv)
{
    struct history h = {.random = 88172645463325252ULL};
    struct err err = ERR_INIT;
    if (argc != 7) {
        (void)fprintf(stderr, "usage: vault_history FOLDER DISK_GIB POINTS EXTENTS_PER_POINT BLOCK_BYTES RANDOM_PERCENT\n");
        return 2;
    }
    char *machine AUTO_FREE = mem_printf("%s/machine", argv[1]);
    struct store_conf conf = {.dir = machine, .machine.bytes = {7}};
    uint64_t points = strtoull(argv[3], NULL, 10);
    uint64_t extents = strtoull(argv[4], NULL, 10);
    h.disk_bytes = strtoull(argv[2], NULL, 10) << 30;
    h.block_bytes = (uint32_t)strtoul(argv[5], NULL, 10);
    h.random_percent = (uint32_t)strtoul(argv[6], NULL, 10);
    h.work = seal_work_new();
    h.digest = record_digest_new();
    h.content = mem_alloc(1, RECORD_BLOCK_SIZE);
    buf_init(&h.plain, 1u << 20);
    buf_init(&h.batch, 64u << 20);
    if (machine == NULL || h.work == NULL || h.digest == NULL || h.content == NULL || h.block_bytes < RECORD_SECTOR ||
        h.block_bytes > RECORD_BLOCK_SIZE || h.block_bytes % RECORD_SECTOR != 0 || h.disk_bytes == 0) {
        (void)fprintf(stderr, "vault_history: the arguments make no sense\n");
        return 2;
    }
    if (store_open(&conf, &h.store, &err) < 0 || store_begin(h.store, 1, 1, &h.opened, &err) < 0)
        stop_on(&err, "opening");
    save_key(&h, argv[1]);
    uint64_t began = clock_mono_usec();
    if (extents == 0)
        write_all(&h);
    else
        write_history(&h, points, extents);
    store_close(h.store);
    (void)printf("{\"points\": %llu, \"merges\": %u, \"seconds\": %.1f}\n", (unsigned long long)h.sequence, h.merges,
        (double)(clock_mono_usec() - began) / 1e6);
    seal_work_free(h.work);
    record_digest_free(h.digest);
    free(h.content);
    buf_done(&h.plain);
    buf_done(&h.batch);
    return 0;
}
