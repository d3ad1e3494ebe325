/* SPDX-License-Identifier: Apache-2.0
 *
 * Hash, seal and pack on the thread that reads. The digest covers the records in the order in which they are sent.
 */
#include "mobility/sync/changeset.h"

#include <stdio.h>
#include <string.h>

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
    uint64_t sent_bytes, changed_bytes;
    uint64_t waited_usec;
    struct pace *pace; /* NULL: as fast as it goes */
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

static void begin(struct changeset *s)
{
    s->records = s->bytes = 0;
    record_digest_reset(s->digest);
}

void changeset_restart(struct changeset *s, uint64_t sequence)
{
    begin(s);
    buf_clear(&s->batch);
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

int changeset_add(
    struct changeset *s, uint32_t disk, uint64_t start, const void *data, uint32_t length, struct err *err)
{
    struct record r;

    if (s->batch.cap == 0 && buf_reserve(&s->batch, CHANGESET_BATCH_BYTES + BATCH_ROOM, err) < 0)
        return -1;
    if (seal_append_data(s->work, disk, start, data, length, s->level, &s->batch, &r, err) < 0)
        return -1;
    record_digest_add(s->digest, &r);
    s->records++;
    s->bytes += length;
    s->changed_bytes += length;
    if (s->batch.len >= CHANGESET_BATCH_BYTES && flush(s, 0, err) < 0)
        return -1;
    if (s->bytes >= CHANGESET_PROGRESS_BYTES)
        return changeset_close(s, MARK_PROGRESS, 0, clock_utc_usec(), NULL, NULL, err);
    return 0;
}

void changeset_set_unreadable(struct changeset *s, uint64_t blocks)
{
    s->unreadable_blocks = blocks;
}

void changeset_set_group_point(struct changeset *s, const struct ident *id)
{
    s->group_point = *id;
}

int changeset_close(struct changeset *s, enum mark_kind kind, unsigned flags, uint64_t time_utc_usec, const char *tag,
    uint64_t *ret_sequence, struct err *err)
{
    struct mark m = s->frame;

    m.kind = kind;
    m.flags = flags;
    m.sequence = s->sequence;
    m.time_utc_usec = time_utc_usec;
    m.record_count = s->records;
    m.changed_bytes = s->bytes;
    m.unreadable_blocks = s->unreadable_blocks;
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
    if (flush(s, m.sequence, err) < 0)
        return -1;
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
