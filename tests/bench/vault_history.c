/* SPDX-License-Identifier: Apache-2.0
 *
 * Makes a machine's store with a long history, through the vault's real write path (seal, encrypt, append, commit, flush,
 * merge):
 *     vault_history FOLDER DISK_GIB POINTS EXTENTS_PER_POINT BLOCK_BYTES RANDOM_PERCENT [WORKING_BLOCKS [thin|fresh EACH]]
 * DISK_GIB may be given in mebibytes: 64M. Writes FOLDER/machine and FOLDER/key (the data key, for the nbdkit plugin), and prints one JSON line about it. RANDOM_PERCENT of the
 * content is incompressible. EXTENTS_PER_POINT 0: one point, the disk written from its start to its end. WORKING_BLOCKS: only that many
 * blocks of the disk are written, again and again; 0: all. thin EACH: in the end only each EACH-th point is kept, and what the others
 * needed is given back. fresh EACH: a store that never had the others, of the same disk.
 */
#include <stdbool.h>
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
#include "transport/vault/store_compact.h"

struct history {
    struct store *store;
    struct store_opened opened;
    struct seal_work *work;
    struct record_digest *digest;
    struct buf plain, batch;
    uint64_t random, nonce, records, bytes, sequence, disk_bytes;
    uint32_t block_bytes, random_percent;
    uint64_t working_blocks, each;
    bool thin, fresh;
    uint8_t *changed; /* per working block, since the last point of a fresh store */
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

static void merge_all(struct history *h)
{
    struct err err = ERR_INIT;
    struct store_merge *merge = NULL;
    while (store_merge_plan(h->store, &merge, &err) > 0) {
        if (store_merge_run(merge, &err) < 0 || store_merge_finish(h->store, merge, &err) < 0)
            stop_on(&err, "merging");
        store_merge_free(merge);
        merge = NULL;
        h->merges++;
    }
}

static void upkeep(struct history *h)
{
    struct err err = ERR_INIT;
    if (!store_wants_flush(h->store))
        return;
    if (store_flush(h->store, &err) < 0)
        stop_on(&err, "flushing");
    merge_all(h);
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

/* Blocks are chosen from a generator of their own, so that a fresh store is of the same disk. */
static uint64_t choose_block(struct history *h, uint64_t *random)
{
    uint64_t disk_blocks = h->disk_bytes / h->block_bytes;
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    return h->working_blocks == 0 ? *random % disk_blocks : *random % h->working_blocks * 7919 % disk_blocks;
}

static void put_changed(struct history *h)
{
    for (uint64_t b = 0; b < h->disk_bytes / h->block_bytes; b++)
        if (h->changed[b] != 0) {
            put_block(h, b * h->block_bytes);
            h->changed[b] = 0;
        }
}

static void write_history(struct history *h, uint64_t points, uint64_t extents)
{
    uint64_t random = 4101842887655102017ULL;
    for (uint64_t p = 0; p < points; p++) {
        bool kept = h->each == 0 || (p + 1) % h->each == 0 || p + 1 == points;
        for (uint64_t i = 0; i < extents; i++) {
            uint64_t block = choose_block(h, &random);
            if (h->fresh)
                h->changed[block] = 1;
            else
                put_block(h, block * h->block_bytes);
        }
        if (h->fresh && kept)
            put_changed(h);
        if (!h->fresh || kept)
            commit(h, MARK_CRASH);
    }
}

static void thin(struct history *h)
{
    struct err err = ERR_INIT;
    const struct pointlist *points = store_points(h->store);
    uint64_t *drop AUTO_FREE = mem_alloc(points->count + 1, sizeof(*drop));
    size_t count = 0, dropped;
    for (size_t i = 0; drop != NULL && i + 1 < points->count; i++)
        if (points->items[i].sequence % h->each != 0)
            drop[count++] = points->items[i].sequence;
    if (store_drop_points(h->store, drop, count, &dropped, &err) < 0)
        stop_on(&err, "dropping points");
}

/* As the vault does it in the background. */
static void compact(struct history *h)
{
    struct err err = ERR_INIT;
    struct store_compact *c AUTO_OF(store_compact) = NULL;
    struct compact_spec spec = {.start_percent = 10, .least_percent = 6};
    int got = store_compact_plan(h->store, &spec, &c, &err);
    if (got < 0 || (got > 0 && store_compact_look(c, &err) < 0))
        stop_on(&err, "looking for what is needless");
    if (got == 0)
        return;
    store_compact_trim(h->store, c);
    while ((got = store_compact_rewrite(c, &err)) > 0)
        if (store_compact_finish(h->store, c, &err) < 0)
            stop_on(&err, "rewriting");
    if (got < 0)
        stop_on(&err, "rewriting");
    merge_all(h);
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
    if (argc != 7 && argc != 8 && argc != 10) {
        (void)fprintf(stderr, "usage: vault_history FOLDER DISK_GIB POINTS EXTENTS_PER_POINT BLOCK_BYTES RANDOM_PERCENT"
                              " [WORKING_BLOCKS [thin|fresh EACH]]\n");
        return 2;
    }
    char *machine AUTO_FREE = mem_printf("%s/machine", argv[1]);
    struct store_conf conf = {.dir = machine, .machine.bytes = {7}};
    uint64_t points = strtoull(argv[3], NULL, 10);
    uint64_t extents = strtoull(argv[4], NULL, 10);
    char *unit = NULL;
    h.disk_bytes = strtoull(argv[2], &unit, 10);
    h.disk_bytes <<= strcmp(unit, "M") == 0 ? 20 : 30;
    h.block_bytes = (uint32_t)strtoul(argv[5], NULL, 10);
    h.random_percent = (uint32_t)strtoul(argv[6], NULL, 10);
    h.working_blocks = argc > 7 ? strtoull(argv[7], NULL, 10) : 0;
    h.thin = argc > 9 && strcmp(argv[8], "thin") == 0;
    h.fresh = argc > 9 && strcmp(argv[8], "fresh") == 0;
    h.each = argc > 9 ? strtoull(argv[9], NULL, 10) : 0;
    h.work = seal_work_new();
    h.digest = record_digest_new();
    h.content = mem_alloc(1, RECORD_BLOCK_SIZE);
    buf_init(&h.plain, 1u << 20);
    buf_init(&h.batch, 64u << 20);
    if (machine == NULL || h.work == NULL || h.digest == NULL || h.content == NULL || h.block_bytes < RECORD_SECTOR ||
        h.block_bytes > RECORD_BLOCK_SIZE || h.block_bytes % RECORD_SECTOR != 0 || h.disk_bytes == 0 ||
        (argc > 9 && (h.thin == h.fresh || h.each == 0))) {
        (void)fprintf(stderr, "vault_history: the arguments make no sense\n");
        return 2;
    }
    if (store_open(&conf, &h.store, &err) < 0 || store_begin(h.store, 1, 1, &h.opened, &err) < 0)
        stop_on(&err, "opening");
    save_key(&h, argv[1]);
    h.changed = mem_alloc(h.fresh ? h.disk_bytes / h.block_bytes : 1, 1);
    if (h.changed == NULL)
        return 1;
    uint64_t began = clock_mono_usec();
    if (extents == 0)
        write_all(&h);
    else
        write_history(&h, points, extents);
    double written = (double)(clock_mono_usec() - began) / 1e6;
    if (h.thin) {
        thin(&h);
        merge_all(&h);
        compact(&h);
    }
    store_close(h.store);
    (void)printf("{\"points\": %llu, \"merges\": %u, \"seconds\": %.1f, \"thin_seconds\": %.1f}\n",
        (unsigned long long)h.sequence, h.merges, written, (double)(clock_mono_usec() - began) / 1e6 - written);
    seal_work_free(h.work);
    record_digest_free(h.digest);
    free(h.content);
    free(h.changed);
    buf_done(&h.plain);
    buf_done(&h.batch);
    return 0;
}
