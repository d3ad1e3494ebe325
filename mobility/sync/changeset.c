/* SPDX-License-Identifier: Apache-2.0
 *
 * Hash, seal and pack on the thread that reads, or on several (sealpool.h), whose records come back in the order of their pieces. The
 * digest covers the records in the order in which they are sent.
 */
#include "mobility/sync/changeset.h"

#include <stdio.h>
#include <string.h>

#include "mobility/sync/sealpool.h"
#include "transport/base/clock.h"
#include "transport/log/seal.h"

/* Room behind the batch size for one record of incompressible data and a mark. */
#define BATCH_ROOM (RECORD_HEADER_SIZE + RECORD_STORED_MAX + RECORD_HEADER_SIZE + MARK_PAYLOAD_MAX)

struct changeset {
    struct uplink *link;
    struct seal_work *work;
    struct record_digest *digest;
    struct mark frame;
    struct ident group_point; /* of the next point; zero: none */
    struct buf batch;
    int level;
    uint64_t sequence;
    uint64_t records, bytes; /* since the last mark */
    uint64_t unreadable_blocks;
    uint32_t range_count; /* of which these are */
    struct mark_range ranges[MARK_RANGES_MAX];
    uint64_t sent_bytes, changed_bytes;
    uint64_t waited_usec;
    struct pace *pace; /* NULL: as fast as it goes */
    unsigned threads;  /* beside this one */
    int nice;
    struct sealpool *pool; /* NULL: nothing was compressed on them yet */
};

int changeset_new(struct uplink *link, struct changeset **ret_set, struct err *err)
{
    struct changeset *s AUTO_OF(changeset) = mem_new(struct changeset);

    if (!s)
        return err_set(err, ERR_NOMEM, "no memory for change sets");
    s->link = link;
    s->sequence = 1;
    buf_init(&s->batch, CHANGESET_BATCH_BYTES + BATCH_ROOM);
    s->work = seal_work_new();
    s->digest = record_digest_new();
    if (!s->work || !s->digest)
        return err_set(err, ERR_NOMEM, "no memory for change sets");
    *ret_set = TAKE_PTR(s);
    return 0;
}

void changeset_free(struct changeset *s)
{
    if (!s)
        return;
    sealpool_free(s->pool);
    seal_work_free(s->work);
    record_digest_free(s->digest);
    buf_done(&s->batch);
    free(s);
}

void changeset_set_frame(struct changeset *s, const struct mark *frame)
{
    s->frame = *frame;
}

void changeset_set_level(struct changeset *s, int zstd_level)
{
    s->level = zstd_level;
}

void changeset_set_pace(struct changeset *s, struct pace *pace)
{
    s->pace = pace;
}

void changeset_set_threads(struct changeset *s, unsigned threads, int nice)
{
    if (threads != s->threads)
        sealpool_free(TAKE_PTR(s->pool));
    s->threads = threads;
    s->nice = nice;
}

static void begin(struct changeset *s)
{
    s->records = s->bytes = 0;
    record_digest_reset(s->digest);
}

void changeset_restart(struct changeset *s, uint64_t sequence)
{
    begin(s);
    if (s->pool)
        sealpool_drop(s->pool);
    buf_clear(&s->batch);
    s->group_point = (struct ident){0};
    s->sequence = sequence;
}

uint64_t changeset_next_sequence(const struct changeset *s)
{
    return s->sequence;
}

static bool stream_runs(void *link)
{
    return uplink_state(link, NULL) == UPLINK_RUNNING;
}

static int flush(struct changeset *s, uint64_t closes, struct err *err)
{
    size_t n = s->batch.len;
    uint64_t began;

    if (n == 0)
        return 0;
    if (s->pace)
        pace_pay(s->pace, n, stream_runs, s->link);
    began = clock_mono_usec();
    if (uplink_push(s->link, &s->batch, closes, err) < 0)
        return -1;
    s->waited_usec += clock_mono_usec() - began;
    s->sent_bytes += n;
    return 0;
}

/* ---- adding ---- */

static int reserve_batch(struct changeset *s, struct err *err)
{
    return s->batch.cap == 0 ? buf_reserve(&s->batch, CHANGESET_BATCH_BYTES + BATCH_ROOM, err) : 0;
}

static void count(struct changeset *s, uint32_t length)
{
    s->records++;
    s->bytes += length;
    s->changed_bytes += length;
}

/* A full batch goes out before the next piece: what fails leaves nothing in the set that it does not count. */
static int add_here(
    struct changeset *s, uint32_t disk, uint64_t start, const void *data, uint32_t length, struct err *err)
{
    struct record r;

    if ((s->batch.len >= CHANGESET_BATCH_BYTES && flush(s, 0, err) < 0) || reserve_batch(s, err) < 0 ||
        seal_append_data(s->work, disk, start, data, length, s->level, &s->batch, &r, err) < 0)
        return -1;
    record_digest_add(s->digest, &r);
    count(s, length);
    return 0;
}

/* What the pool has sealed, in order: one lot, with `wait` at least the oldest. 1, 0 where there is none, -1: it is still there. */
static int take_lot(struct changeset *s, bool wait, struct err *err)
{
    struct sealpool_lot lot;
    int r = sealpool_oldest(s->pool, wait, &lot, err);

    if (r <= 0)
        return r;
    if ((s->batch.len + lot.bytes->len > CHANGESET_BATCH_BYTES && flush(s, 0, err) < 0) || reserve_batch(s, err) < 0 ||
        buf_append(&s->batch, lot.bytes->data, lot.bytes->len, err) < 0)
        return -1;
    for (size_t i = 0; i < lot.count; i++)
        record_digest_add(s->digest, &lot.records[i]);
    sealpool_release(s->pool);
    return 1;
}

/* Everything that was given to the pool stands in the batch then. */
static int take_all(struct changeset *s, struct err *err)
{
    int r = s->pool ? 1 : 0;

    if (s->pool)
        sealpool_close_lot(s->pool);
    while (r > 0)
        r = take_lot(s, true, err);
    return r;
}

static int add_to_pool(
    struct changeset *s, uint32_t disk, uint64_t start, const void *data, uint32_t length, struct err *err)
{
    int r = 1;

    while (r > 0)
        r = take_lot(s, sealpool_is_full(s->pool), err);
    if (r < 0)
        return -1;
    sealpool_add(s->pool, disk, start, data, length, s->level);
    count(s, length);
    return 0;
}

/* Without memory for a pool there is this thread. */
static bool has_pool(struct changeset *s)
{
    if (s->threads > 0 && !s->pool && sealpool_new(s->threads, s->nice, &s->pool, NULL) < 0)
        s->threads = 0;
    return s->threads > 0;
}

int changeset_add(
    struct changeset *s, uint32_t disk, uint64_t start, const void *data, uint32_t length, struct err *err)
{
    int r;

    if (s->level > 0 && has_pool(s))
        r = add_to_pool(s, disk, start, data, length, err);
    else
        r = take_all(s, err) < 0 ? -1 : add_here(s, disk, start, data, length, err);
    if (r == 0 && s->bytes >= CHANGESET_PROGRESS_BYTES)
        return changeset_close(s, MARK_PROGRESS, 0, clock_utc_usec(), NULL, NULL, err);
    return r;
}

void changeset_set_unreadable(struct changeset *s, uint64_t blocks, const struct mark_range *ranges, uint32_t count)
{
    s->unreadable_blocks = blocks;
    s->range_count = count < MARK_RANGES_MAX ? count : MARK_RANGES_MAX;
    memcpy(s->ranges, ranges, s->range_count * sizeof(*ranges));
}

void changeset_set_group_point(struct changeset *s, const struct ident *id)
{
    s->group_point = *id;
}

static void set_unreadable(const struct changeset *s, struct mark *m)
{
    m->unreadable_blocks = s->unreadable_blocks;
    m->range_count = s->range_count;
    memcpy(m->ranges, s->ranges, s->range_count * sizeof(*m->ranges));
    mark_fit_ranges(m);
}

int changeset_close(struct changeset *s, enum mark_kind kind, unsigned flags, uint64_t time_utc_usec, const char *tag,
    uint64_t *ret_sequence, struct err *err)
{
    struct mark m = s->frame;
    size_t unmarked;

    if (take_all(s, err) < 0)
        return -1;
    unmarked = s->batch.len;
    m.kind = kind;
    m.flags = flags;
    m.sequence = s->sequence;
    m.time_utc_usec = time_utc_usec;
    m.record_count = s->records;
    m.changed_bytes = s->bytes;
    set_unreadable(s, &m);
    record_digest_get(s->digest, &m.digest);
    snprintf(m.tag, sizeof(m.tag), "%s", tag ? tag : "");
    if (mark_is_point(&m)) {
        m.group_point = s->group_point;
        s->group_point = (struct ident){0};
    }
    if (mark_append(&m, &s->batch, err) < 0)
        return -1;
    if (mark_is_point(&m))
        uplink_note_point(s->link, m.sequence, m.time_utc_usec);
    if (flush(s, m.sequence, err) < 0) {
        s->batch.len = unmarked; /* the next mark is another one */
        uplink_unnote_point(s->link, m.sequence);
        return -1;
    }
    if (ret_sequence)
        *ret_sequence = m.sequence;
    s->sequence++;
    begin(s);
    return 0;
}

bool changeset_is_empty(const struct changeset *s)
{
    return s->records == 0;
}

uint64_t changeset_sent_bytes(const struct changeset *s)
{
    return s->sent_bytes;
}

uint64_t changeset_changed_bytes(const struct changeset *s)
{
    return s->changed_bytes;
}

uint64_t changeset_waited_usec(const struct changeset *s)
{
    return s->waited_usec;
}
