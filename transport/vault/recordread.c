/* SPDX-License-Identifier: Apache-2.0
 *
 * A record that is damaged in the log may have been mended (mend.h); what reads it does not see the difference.
 *
 * Segments are opened when they are first needed, and the least recently used ones closed when many are open. Decoded
 * blocks are kept in shards, each with its own mutex; a read that wants a whole record (copying, converting) decodes straight
 * into the caller's memory and leaves the cache alone.
 */
#include "transport/vault/recordread.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "transport/log/segment.h"
#include "transport/vault/mend.h"

#define SEGMENTS_OPEN_MAX 512u /* below the usual limit of 1,024 descriptors */
#define SEGMENT_SLOTS 1024u
#define STALE_EVERY 4096u /* reads of records between two looks for files that were replaced */
#define CACHE_BYTES (64u << 20)
#define SHARDS 16u

struct open_segment {
    uint64_t number;
    uint64_t used; /* when last, by count */
    unsigned refs;
    struct segment_reader *reader;
    struct open_segment *next; /* of the same slot */
};

struct cached {
    uint64_t used;
    uint32_t segment; /* 0: empty */
    uint32_t offset;
    struct record record;
    uint8_t *data;
};

struct shard {
    pthread_mutex_t lock; /* guards all below */
    uint64_t clock;
    size_t count;
    struct cached *items;
};

/* What one thread needs while it decodes. */
struct bench {
    struct bench *next;
    struct seal_work *work;
    uint8_t *payload; /* RECORD_STORED_MAX */
    uint8_t *plain;   /* RECORD_BLOCK_SIZE */
};

struct recordread {
    int dirfd;
    bool encrypted;
    struct keyring keys;
    pthread_mutex_t lock; /* guards segments, open_count, clock and benches */
    struct open_segment *segments[SEGMENT_SLOTS];
    unsigned open_count;
    uint64_t takes;
    uint64_t clock;
    struct bench *benches;
    struct shard shards[SHARDS];
};

/* ---- life ---- */

static int shard_init(struct shard *s, size_t blocks, struct err *err)
{
    s->count = blocks;
    s->items = mem_alloc(blocks, sizeof(*s->items));
    return s->items == NULL ? err_set(err, ERR_NOMEM, "no memory for a block cache") : 0;
}

int recordread_new(
    int dirfd, const struct keyring *keys, size_t cache_bytes, struct recordread **ret_reader, struct err *err)
{
    size_t bytes = cache_bytes == 0 ? CACHE_BYTES : cache_bytes;
    size_t blocks = bytes / RECORD_BLOCK_SIZE / SHARDS + 1;
    struct recordread *rr = mem_new(struct recordread);
    if (rr == NULL)
        return err_set(err, ERR_NOMEM, "no memory to read records");
    (void)pthread_mutex_init(&rr->lock, NULL);
    for (size_t i = 0; i < SHARDS; i++)
        (void)pthread_mutex_init(&rr->shards[i].lock, NULL);
    rr->encrypted = keys != NULL;
    if (keys != NULL)
        rr->keys = *keys;
    rr->dirfd = fcntl(dirfd, F_DUPFD_CLOEXEC, 0);
    int result = rr->dirfd < 0 ? err_sys(err, errno, "keeping a log's folder open") : 0;
    for (size_t i = 0; result == 0 && i < SHARDS; i++)
        result = shard_init(&rr->shards[i], blocks, err);
    if (result < 0) {
        recordread_free(rr);
        return -1;
    }
    *ret_reader = rr;
    return 0;
}

static void bench_free(struct bench *b)
{
    if (b == NULL)
        return;
    seal_work_free(b->work);
    free(b->payload);
    free(b->plain);
    free(b);
}

static void shard_done(struct shard *s)
{
    for (size_t i = 0; s->items != NULL && i < s->count; i++)
        free(s->items[i].data);
    free(s->items);
    (void)pthread_mutex_destroy(&s->lock);
}

static void open_segment_free(struct open_segment *s)
{
    segment_reader_close(s->reader);
    free(s);
}

void recordread_free(struct recordread *rr)
{
    if (rr == NULL)
        return;
    for (size_t i = 0; i < SEGMENT_SLOTS; i++)
        while (rr->segments[i] != NULL) {
            struct open_segment *s = rr->segments[i];
            rr->segments[i] = s->next;
            open_segment_free(s);
        }
    while (rr->benches != NULL) {
        struct bench *b = rr->benches;
        rr->benches = b->next;
        bench_free(b);
    }
    for (size_t i = 0; i < SHARDS; i++)
        shard_done(&rr->shards[i]);
    if (rr->dirfd >= 0)
        (void)close(rr->dirfd);
    keyring_cleanse(&rr->keys);
    (void)pthread_mutex_destroy(&rr->lock);
    free(rr);
}

/* ---- segments ---- */

/* With rr->lock held: closes the least recently used segment that nobody reads. */
static void evict_one(struct recordread *rr)
{
    struct open_segment **victim = NULL;
    for (size_t i = 0; i < SEGMENT_SLOTS; i++)
        for (struct open_segment **p = &rr->segments[i]; *p != NULL; p = &(*p)->next)
            if ((*p)->refs == 0 && (victim == NULL || (*p)->used < (*victim)->used))
                victim = p;
    if (victim == NULL)
        return;
    struct open_segment *gone = *victim;
    *victim = gone->next;
    rr->open_count--;
    open_segment_free(gone);
}

/* With rr->lock held: lets go of files that compaction has replaced, so that their space comes back while this reader lives. */
static void drop_stale(struct recordread *rr)
{
    for (size_t i = 0; i < SEGMENT_SLOTS; i++) {
        struct open_segment **link = &rr->segments[i];
        while (*link != NULL) {
            struct open_segment *s = *link;
            if (s->refs > 0 || !segment_reader_is_stale(s->reader)) {
                link = &s->next;
                continue;
            }
            *link = s->next;
            rr->open_count--;
            open_segment_free(s);
        }
    }
}

/* With rr->lock held. */
static struct open_segment *segment_add(struct recordread *rr, uint64_t number, struct err *err)
{
    struct open_segment *s AUTO_FREE = mem_new(struct open_segment);
    if (s == NULL) {
        (void)err_set(err, ERR_NOMEM, "no memory to open a segment");
        return NULL;
    }
    if (rr->open_count >= SEGMENTS_OPEN_MAX)
        evict_one(rr);
    if (segment_open(rr->dirfd, number, &s->reader, err) < 0) {
        if (err != NULL && err->code == ERR_NOT_FOUND) /* the index leads there: that is damage */
            (void)err_set(err, ERR_CORRUPT, "segment %llu is missing from the log", (unsigned long long)number);
        return NULL;
    }
    s->number = number;
    s->next = rr->segments[number % SEGMENT_SLOTS];
    rr->segments[number % SEGMENT_SLOTS] = s;
    rr->open_count++;
    return TAKE_PTR(s);
}

static struct open_segment *segment_take(struct recordread *rr, uint64_t number, struct err *err)
{
    (void)pthread_mutex_lock(&rr->lock);
    if (++rr->takes % STALE_EVERY == 0)
        drop_stale(rr);
    struct open_segment *s = rr->segments[number % SEGMENT_SLOTS];
    while (s != NULL && s->number != number)
        s = s->next;
    if (s == NULL)
        s = segment_add(rr, number, err);
    if (s != NULL) {
        s->refs++;
        s->used = ++rr->clock;
    }
    (void)pthread_mutex_unlock(&rr->lock);
    return s;
}

static void segment_give(struct recordread *rr, struct open_segment *s)
{
    (void)pthread_mutex_lock(&rr->lock);
    s->refs--;
    (void)pthread_mutex_unlock(&rr->lock);
}

/* ---- decoding ---- */

static struct bench *bench_take(struct recordread *rr, struct err *err)
{
    (void)pthread_mutex_lock(&rr->lock);
    struct bench *b = rr->benches;
    if (b != NULL)
        rr->benches = b->next;
    (void)pthread_mutex_unlock(&rr->lock);
    if (b != NULL)
        return b;
    b = mem_new(struct bench);
    if (b != NULL) {
        b->work = seal_work_new();
        b->payload = mem_alloc(1, RECORD_STORED_MAX);
        b->plain = mem_alloc(1, RECORD_BLOCK_SIZE);
    }
    if (b != NULL && b->work != NULL && b->payload != NULL && b->plain != NULL)
        return b;
    bench_free(b);
    (void)err_set(err, ERR_NOMEM, "no memory to decode a block");
    return NULL;
}

static void bench_give(struct recordread *rr, struct bench *b)
{
    (void)pthread_mutex_lock(&rr->lock);
    b->next = rr->benches;
    rr->benches = b;
    (void)pthread_mutex_unlock(&rr->lock);
}

/* Is the record the one that the extent speaks of? An index that leads astray must not give other data. */
static int check_record(const struct record *r, const struct extent *e, struct err *err)
{
    enum record_kind kind = (e->flags & EXTENT_ZERO) != 0 ? RECORD_ZERO : RECORD_DATA;
    uint64_t start = extent_key_bytes(e->key);
    uint64_t end = start + (uint64_t)e->sectors * RECORD_SECTOR;
    if (r->kind == kind && r->disk == extent_key_disk(e->key) && r->start <= start && r->length >= end - r->start)
        return 0;
    return err_set(err, ERR_CORRUPT, "the index leads to another record at segment %u, byte %u", e->segment, e->offset);
}

static int fetch(struct recordread *rr, const struct extent *e, struct record *ret_record, uint8_t *payload,
    size_t room, struct err *err)
{
    struct open_segment *s = segment_take(rr, e->segment, err);
    if (s == NULL)
        return -1;
    int result = segment_pread(s->reader, e->offset, ret_record, payload, room, err);
    segment_give(rr, s);
    return result < 0 ? -1 : check_record(ret_record, e, err);
}

static int decode(struct recordread *rr, struct bench *b, const struct record *r, const struct extent *e, uint8_t *out,
    struct err *err)
{
    if (rr->encrypted && r->cipher == RECORD_PLAIN)
        return err_set(
            err, ERR_CORRUPT, "a record that is not encrypted at segment %u, byte %u", e->segment, e->offset);
    if (seal_open(b->work, r, b->payload, rr->encrypted ? keyring_key(&rr->keys, r->nonce_stream) : NULL, out, err) < 0)
        return err_wrap(err, "segment %u, byte %u", e->segment, e->offset);
    return 0;
}

/* ---- cache ---- */

static struct shard *shard_of(struct recordread *rr, const struct extent *e)
{
    uint32_t mix = (e->segment * 0x9E3779B1u) ^ (e->offset * 0x85EBCA77u);
    return &rr->shards[(mix >> 16) % SHARDS];
}

static bool cache_get(struct recordread *rr, const struct extent *e, uint64_t start, size_t n, uint8_t *out)
{
    struct shard *s = shard_of(rr, e);
    bool found = false;
    (void)pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < s->count && !found; i++) {
        struct cached *c = &s->items[i];
        if (c->segment != e->segment || c->offset != e->offset || check_record(&c->record, e, NULL) < 0)
            continue;
        memcpy(out, c->data + (start - c->record.start), n);
        c->used = ++s->clock;
        found = true;
    }
    (void)pthread_mutex_unlock(&s->lock);
    return found;
}

/* Puts the bench's plaintext in, in exchange for the memory of the block that goes. */
static void cache_put(struct recordread *rr, const struct extent *e, const struct record *r, struct bench *b)
{
    struct shard *s = shard_of(rr, e);
    (void)pthread_mutex_lock(&s->lock);
    struct cached *oldest = &s->items[0];
    for (size_t i = 1; i < s->count; i++)
        if (s->items[i].used < oldest->used)
            oldest = &s->items[i];
    if (oldest->data == NULL)
        oldest->data = mem_alloc(1, RECORD_BLOCK_SIZE);
    if (oldest->data != NULL) {
        uint8_t *swap = oldest->data;
        *oldest = (struct cached){.used = ++s->clock, .segment = e->segment, .offset = e->offset, .record = *r};
        oldest->data = b->plain;
        b->plain = swap;
    }
    (void)pthread_mutex_unlock(&s->lock);
}

/* The record was found damaged; was it mended? `damaged`: its header, when that is good: the mended one must have the same content. */
static int fetch_mended(struct recordread *rr, const struct extent *e, const struct record *damaged,
    struct record *ret_record, uint8_t *payload)
{
    if (mend_load(rr->dirfd, e->segment, e->offset, ret_record, payload, NULL) < 0 ||
        check_record(ret_record, e, NULL) < 0)
        return -1;
    return damaged != NULL && !hash_equal(&damaged->hash, &ret_record->hash) ? -1 : 0;
}

/* From the log, or mended: the plaintext of the whole record into `whole` if its range is start..start+n, else into b->plain. */
static int read_record(struct recordread *rr, struct bench *b, const struct extent *e, uint64_t start, size_t n,
    uint8_t *whole, struct record *r, struct err *err)
{
    struct record mended;
    struct err why = ERR_INIT;
    size_t room = extent_stored_bytes(e);
    room = room == 0 || room > RECORD_STORED_MAX ? RECORD_STORED_MAX : room;
    bool has_header = fetch(rr, e, r, b->payload, room, &why) == 0;
    if (has_header && decode(rr, b, r, e, start == r->start && n == r->length ? whole : b->plain, &why) == 0)
        return 0;
    if (fetch_mended(rr, e, has_header ? r : NULL, &mended, b->payload) < 0) {
        err_copy(err, &why);
        return -1;
    }
    *r = mended;
    return decode(rr, b, r, e, start == r->start && n == r->length ? whole : b->plain, err);
}

static int read_with(struct recordread *rr, struct bench *b, const struct extent *e, uint64_t start, size_t n,
    uint8_t *out, struct err *err)
{
    struct record r;
    if (read_record(rr, b, e, start, n, out, &r, err) < 0)
        return -1;
    if (start == r.start && n == r.length)
        return 0;
    memcpy(out, b->plain + (start - r.start), n);
    cache_put(rr, e, &r, b);
    return 0;
}

int recordread_get(
    struct recordread *rr, const struct extent *e, uint64_t start, size_t n, uint8_t *out, struct err *err)
{
    uint64_t first = extent_key_bytes(e->key);
    if (start < first || start + n > first + (uint64_t)e->sectors * RECORD_SECTOR)
        return err_set(err, ERR_INTERNAL, "a read reaches out of its extent");
    if ((e->flags & EXTENT_ZERO) != 0) {
        memset(out, 0, n);
        return 0;
    }
    if (cache_get(rr, e, start, n, out))
        return 0;
    struct bench *b = bench_take(rr, err);
    if (b == NULL)
        return -1;
    int result = read_with(rr, b, e, start, n, out, err);
    bench_give(rr, b);
    return result;
}

int recordread_header(struct recordread *rr, const struct extent *e, struct record *ret_record, struct err *err)
{
    struct err why = ERR_INIT;
    if (fetch(rr, e, ret_record, NULL, 0, &why) == 0 || fetch_mended(rr, e, NULL, ret_record, NULL) == 0)
        return 0;
    err_copy(err, &why);
    return -1;
}
