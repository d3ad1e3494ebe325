/* SPDX-License-Identifier: Apache-2.0
 *
 * Scanning the spool at start and reading it for a vault that was away.
 *
 * The scan takes what is consecutive and of one epoch, oldest first, and deletes the rest: a gap, damage, or sets of an
 * earlier epoch (left by a crash between a new epoch and its first set). What cannot be read is no damage: a disk's error is asked again
 * before it counts as some, and where memory or descriptors are short nothing is touched and the scan fails.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "transport/base/log.h"
#include "transport/log/mark.h"
#include "transport/node/spool_private.h"

#define SCAN_TRIES 4u
#define SCAN_PAUSE_USEC 250000u

/* ---- scanning ---- */

struct number_list {
    uint64_t *numbers;
    size_t count, cap;
};

static int add_number(struct number_list *l, uint64_t number, struct err *err)
{
    if (l->count == l->cap) {
        size_t cap = l->cap == 0 ? 64 : l->cap * 2;
        uint64_t *bigger = mem_resize(l->numbers, cap, sizeof(*bigger));
        if (bigger == NULL)
            return err_set(err, ERR_NOMEM, "no memory for the list of segments");
        l->numbers = bigger;
        l->cap = cap;
    }
    l->numbers[l->count++] = number;
    return 0;
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Segments in order; anything else in the folder is a leftover of a crash and goes. */
static int list_segments(struct spool *s, struct number_list *l, struct err *err)
{
    int fd = openat(s->dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (dir == NULL)
        return err_sys(err, errno, "listing");
    struct dirent *e;
    int result = 0;
    while (result == 0 && (e = readdir(dir)) != NULL) {
        uint64_t number;
        if (segment_number_from_name(e->d_name, &number) == 0)
            result = add_number(l, number, err);
        else if (e->d_name[0] != '.')
            (void)unlinkat(s->dirfd, e->d_name, 0);
    }
    (void)closedir(dir);
    if (l->count > 0)
        qsort(l->numbers, l->count, sizeof(*l->numbers), by_number);
    return result;
}

struct scan {
    struct spool *spool;
    bool stop; /* what follows does not continue what was found */
    struct err err;
};

static void scan_mark(void *arg, const struct record *r, const uint8_t *payload, uint64_t end_bytes)
{
    struct scan *scan = arg;
    struct spool *s = scan->spool;
    struct mark m;
    if (scan->stop)
        return;
    if (mark_decode(r, payload, &m, &scan->err) < 0 || !ident_equal(&m.machine, &s->machine)) {
        scan->stop = true;
        return;
    }
    if (s->set_count == 0) {
        s->epoch = m.epoch;
        s->generation = m.generation;
        s->next_sequence = m.sequence;
    }
    if (m.epoch != s->epoch || m.generation != s->generation || m.sequence != s->next_sequence ||
        spool_add_set(s, s->segments[s->segment_count - 1].number, s->set_start, end_bytes, &scan->err) < 0)
        scan->stop = true;
}

void spool_cut_segment(const struct spool *s, uint64_t number, uint64_t end)
{
    char name[SEGMENT_NAME_SIZE];
    segment_name(number, name);
    AUTO_CLOSE int fd = openat(s->dirfd, name, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || ftruncate(fd, (off_t)end) < 0)
        (void)unlinkat(s->dirfd, name, 0);
}

/* What a walk of a segment adds to, as it was before. */
struct scan_start {
    uint64_t epoch, generation, next_sequence;
    size_t set_count;
};

static void scan_again(struct scan *scan, const struct scan_start *start)
{
    struct spool *s = scan->spool;
    s->epoch = start->epoch;
    s->generation = start->generation;
    s->next_sequence = start->next_sequence;
    s->set_count = start->set_count;
    s->set_start = SEGMENT_HEADER_SIZE;
    s->segments[s->segment_count - 1].last_sequence = 0;
    scan->stop = false;
    err_clear(&scan->err);
}

/* 0, or -1 with scan->err; what was found until then is in the index. */
static int scan_patiently(struct scan *scan, uint64_t number, bool *ret_sealed)
{
    struct spool *s = scan->spool;
    const struct scan_start start = {
        .epoch = s->epoch, .generation = s->generation, .next_sequence = s->next_sequence, .set_count = s->set_count};
    uint64_t end;
    for (unsigned attempt = 1;; attempt++) {
        int result = segment_recover(s->dirfd, number, scan_mark, scan, &end, ret_sealed, &scan->err);
        if (result == 0 || scan->err.code != ERR_IO || attempt == SCAN_TRIES)
            return result;
        log_event(LOG_ERROR, "spool_not_read", LOG_U("segment", number), LOG_U("attempt", attempt), LOG_E(&scan->err));
        (void)usleep(SCAN_PAUSE_USEC);
        scan_again(scan, &start);
    }
}

/* Takes the whole sets of one segment. 1; 0: nothing behind them may be used; -1: it cannot be looked at now. */
static int scan_segment(struct spool *s, uint64_t number, bool last, struct err *err)
{
    struct scan scan = {.spool = s};
    bool sealed = false;
    if (spool_add_segment(s, number, err) < 0)
        return -1;
    struct spool_segment *segment = &s->segments[s->segment_count - 1];
    bool whole = scan_patiently(&scan, number, &sealed) == 0 && !scan.stop;
    if (scan.err.code == ERR_NOMEM) {
        err_copy(err, &scan.err);
        return -1;
    }
    segment->end = s->set_start;
    if (!whole)
        log_event(LOG_WARN, "spool_shortened", LOG_U("segment", number), LOG_U("next_sequence", s->next_sequence),
            LOG_E(&scan.err));
    if (!whole)
        spool_cut_segment(s, number, segment->end);
    if (!whole || (!sealed && last))
        (void)segment_reopen(s->dirfd, number, segment->end, &s->writer, &scan.err);
    return whole;
}

static void drop_from(struct spool *s, const struct number_list *l, size_t first)
{
    for (size_t i = first; i < l->count; i++)
        (void)spool_remove_segment_file(s, l->numbers[i], NULL);
}

/* A segment in which nothing was found is not kept. */
static void drop_empty_tail(struct spool *s)
{
    while (s->segment_count > 0 && s->segments[s->segment_count - 1].last_sequence == 0) {
        segment_writer_close(s->writer);
        s->writer = NULL;
        (void)spool_remove_segment_file(s, s->segments[--s->segment_count].number, NULL);
    }
}

int spool_scan(struct spool *s, struct err *err)
{
    struct number_list l = {0};
    if (list_segments(s, &l, err) < 0) {
        free(l.numbers);
        return -1;
    }
    int result = 1;
    for (size_t i = 0; i < l.count && result > 0; i++) {
        result = scan_segment(s, l.numbers[i], i + 1 == l.count, err);
        if (result == 0)
            drop_from(s, &l, i + 1);
    }
    if (result >= 0)
        drop_empty_tail(s);
    free(l.numbers);
    return result < 0 ? -1 : 0;
}

/* ---- reading ---- */

int spool_find(const struct spool *s, uint64_t sequence, struct spool_pos *ret_pos, struct err *err)
{
    uint64_t first = s->next_sequence - s->set_count;
    if (sequence < first || sequence > s->next_sequence)
        return err_set(err, ERR_NOT_FOUND, "spool holds change sets %llu to %llu, not %llu", (unsigned long long)first,
            (unsigned long long)s->next_sequence, (unsigned long long)sequence);
    if (sequence < s->next_sequence) {
        const struct spool_set *set = &s->sets[sequence - first];
        *ret_pos = (struct spool_pos){.segment = set->segment, .offset = set->start};
    } else if (s->segment_count > 0) {
        *ret_pos = (struct spool_pos){.segment = s->segments[s->segment_count - 1].number, .offset = s->set_start};
    } else {
        *ret_pos = (struct spool_pos){0};
    }
    return 0;
}

static const struct spool_segment *segment_at(const struct spool *s, uint64_t number)
{
    for (size_t i = 0; i < s->segment_count; i++) {
        if (s->segments[i].number >= number)
            return &s->segments[i];
    }
    return NULL;
}

static int open_reader(struct spool *s, uint64_t number, struct err *err)
{
    if (s->reader != NULL && s->reader_number == number)
        return 0;
    spool_forget_reader(s);
    if (segment_open(s->dirfd, number, &s->reader, err) < 0)
        return err_wrap(err, "spool");
    s->reader_number = number;
    return 0;
}

static int read_segment(
    struct spool *s, struct spool_pos *pos, uint64_t end, size_t enough, struct buf *out, struct err *err)
{
    if (open_reader(s, pos->segment, err) < 0)
        return -1;
    while (pos->offset < end && out->len < enough) {
        struct record r;
        const uint8_t *payload;
        int got = segment_read_next(s->reader, &pos->offset, &r, &payload, err);
        if (got <= 0)
            return got < 0 ? -1 : err_set(err, ERR_CORRUPT, "spool segment ends early");
        if (buf_reserve(out, RECORD_HEADER_SIZE + r.stored, err) < 0)
            return -1;
        record_encode_header(&r, out->data + out->len);
        if (r.stored > 0)
            memcpy(out->data + out->len + RECORD_HEADER_SIZE, payload, r.stored);
        out->len += RECORD_HEADER_SIZE + r.stored;
    }
    return 0;
}

int spool_read(struct spool *s, struct spool_pos *pos, const struct spool_pos *limit, size_t enough, struct buf *out,
    struct err *err)
{
    while (out->len < enough && (pos->segment != limit->segment || pos->offset != limit->offset)) {
        const struct spool_segment *segment = segment_at(s, pos->segment);
        if (segment == NULL)
            return err_set(err, ERR_NOT_FOUND, "spool segment %llu is gone", (unsigned long long)pos->segment);
        if (segment->number != pos->segment)
            *pos = (struct spool_pos){.segment = segment->number, .offset = SEGMENT_HEADER_SIZE};
        uint64_t end = segment->number == limit->segment ? limit->offset : segment->end;
        if (segment->number == limit->segment && pos->offset > end)
            return err_set(err, ERR_NOT_FOUND, "spool ends at byte %llu of segment %llu, before byte %llu",
                (unsigned long long)end, (unsigned long long)segment->number, (unsigned long long)pos->offset);
        if (read_segment(s, pos, end, enough, out, err) < 0)
            return -1;
        if (segment->number != limit->segment && pos->offset >= end)
            *pos = (struct spool_pos){.segment = segment->number + 1, .offset = SEGMENT_HEADER_SIZE};
    }
    return 0;
}
