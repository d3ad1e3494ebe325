/* SPDX-License-Identifier: Apache-2.0
 *
 * A step reads the records of one segment into a list, walks the list from its end to its beginning with the table of what later records
 * cover (covered.h), and, in the second round, writes what stays. Walking backwards, each mark that stays a point empties the table: what is
 * behind it must not take anything from it.
 *
 * A mark is in the way of a record that goes when the record lies before it and what overwrites the record behind it. The first round, in which
 * every mark without a purpose is passed over, counts for each mark the records that it is in the way of; in the second round a mark that is in
 * the way of none stays a point. Marks are numbered as the walk meets them, which is the same in both rounds: sealed segments do not change,
 * and what is committed meanwhile goes from the end of the walk.
 *
 * The new file has the number and the first sequence of the old one. It is made in the folder .join, which a scan does not look into, and
 * renamed over the old one when it is durable.
 */
#include "transport/node/spool_join.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "transport/log/mark.h"
#include "transport/node/covered.h"
#include "transport/node/spool_private.h"

#define FOLDER SPOOL_JOIN_FOLDER
#define COVERED_BLOCKS_MAX (1u << 19) /* 16 MiB of table for 32 GiB of disk */
#define RECORDS_MAX (1u << 18)        /* 12 MiB of list; a segment of more is left as it is */
#define WRITE_BYTES (1u << 20)
#define WRITE_MAX (WRITE_BYTES + RECORD_HEADER_SIZE + RECORD_STORED_MAX)
#define WORTH_SHARE 8u
#define CROSSED_MAX (1u << 20) /* 4 MiB of counters; marks before so many are given up without a look */

enum fate { KEPT, DROPPED, TURNED /* a mark that becomes progress */ };

struct join_record {
    uint64_t start, length;
    uint32_t disk, stored;
    enum record_kind kind;
    enum fate fate;
    bool is_purposeful; /* of a mark: stays a point */
    bool is_progress;
};

struct spool_join {
    uint64_t begun;      /* of the spool: it is still the same one */
    uint64_t last, next; /* numbers of the newest segment, and of the one that the next step looks at */
    bool counting;
    bool past_last_point; /* the newest point was met in this round */
    uint32_t set;         /* number of the mark that was met last in this round, from 1 on */
    /* First round: how many more records cross the mark of this number than cross the one before it. Then: how many cross it. */
    int32_t *crossed;
    size_t crossed_cap;
    uint64_t seen_bytes, spare_bytes;
    struct spool_joined result;
    struct covered *covered;
    struct join_record *records;
    size_t count, cap;
};

/* ---- life ---- */

/* Segments behind the last mark of which nothing is written any more. */
static size_t sealed_count(const struct spool *s)
{
    return s->segment_count - (s->writer != NULL ? 1 : 0);
}

static void begin_round(struct spool_join *j, bool counting)
{
    j->counting = counting;
    j->past_last_point = false;
    j->set = 0;
    j->next = j->last;
    covered_reset(j->covered);
}

int spool_join_new(struct spool *s, struct spool_join **ret_join, struct err *err)
{
    if (spool_end_segment(s, err) < 0)
        return -1;
    size_t count = sealed_count(s);
    if (count == 0)
        return 0;
    struct spool_join *j AUTO_OF(spool_join) = mem_new(struct spool_join);
    if (j == NULL)
        return err_set(err, ERR_NOMEM, "no memory to join change sets");
    j->covered = covered_new(COVERED_BLOCKS_MAX);
    if (j->covered == NULL)
        return err_set(err, ERR_NOMEM, "no memory to join change sets");
    j->begun = s->begun;
    j->last = s->segments[count - 1].number;
    begin_round(j, true);
    *ret_join = TAKE_PTR(j);
    return 1;
}

void spool_join_free(struct spool_join *j)
{
    if (j == NULL)
        return;
    covered_free(j->covered);
    free(j->records);
    free(j->crossed);
    free(j);
}

struct spool_joined spool_join_result(const struct spool_join *j)
{
    return j->result;
}

/* ---- what is in a segment ---- */

static int add_record(struct spool_join *j, const struct join_record *r, struct err *err)
{
    if (j->count == j->cap) {
        size_t cap = j->cap == 0 ? 1024 : j->cap * 2;
        struct join_record *bigger = mem_resize(j->records, cap, sizeof(*bigger));
        if (bigger == NULL)
            return err_set(err, ERR_NOMEM, "no memory for the records of a spool segment");
        j->records = bigger;
        j->cap = cap;
    }
    j->records[j->count++] = *r;
    return 0;
}

static bool has_purpose(const struct mark *m)
{
    static const struct ident none;
    return (m->kind != MARK_CRASH && m->kind != MARK_PROGRESS) || (m->flags & (MARK_FIRST | MARK_ASKED)) != 0 ||
           m->tag[0] != '\0' || !ident_equal(&m->group_point, &none);
}

/* 1: listed; 0: it has too many. */
static int list_records(
    struct spool_join *j, const struct spool *s, const struct spool_segment *segment, struct err *err)
{
    struct segment_reader *reader AUTO_OF(segment_reader) = NULL;
    uint64_t offset = SEGMENT_HEADER_SIZE;
    j->count = 0;
    if (segment_open(s->dirfd, segment->number, &reader, err) < 0)
        return -1;
    while (offset < segment->end) {
        struct record r;
        const uint8_t *payload;
        struct mark m;
        int got = segment_read_next(reader, &offset, &r, &payload, err);
        if (got <= 0)
            return got < 0 ? -1 : err_set(err, ERR_CORRUPT, "spool segment ends early");
        if (j->count == RECORDS_MAX)
            return 0;
        if (r.kind == RECORD_MARK && mark_decode(&r, payload, &m, err) < 0)
            return -1;
        struct join_record record = {.start = r.start,
            .length = r.length,
            .disk = r.disk,
            .stored = r.stored,
            .kind = r.kind,
            .is_purposeful = r.kind == RECORD_MARK && has_purpose(&m),
            .is_progress = r.kind == RECORD_MARK && m.kind == MARK_PROGRESS};
        if (add_record(j, &record, err) < 0)
            return -1;
    }
    return 1;
}

/* ---- what of it stays ---- */

/* Room for a counter of each mark that may be met in the listed segment, and of one more. */
static int reserve_crossed(struct spool_join *j, struct err *err)
{
    size_t need = (size_t)j->set + j->count + 2, cap = j->crossed_cap == 0 ? 1024 : j->crossed_cap;
    while (cap < need && cap < CROSSED_MAX)
        cap *= 2;
    if (cap == j->crossed_cap)
        return 0;
    int32_t *bigger = mem_resize(j->crossed, cap, sizeof(*bigger));
    if (bigger == NULL)
        return err_set(err, ERR_NOMEM, "no memory to join change sets");
    memset(bigger + j->crossed_cap, 0, (cap - j->crossed_cap) * sizeof(*bigger));
    j->crossed = bigger;
    j->crossed_cap = cap;
    return 0;
}

/* A record before the mark met last, overwritten in the set that mark `covering` closes, crosses the marks between them. */
static void note_crossing(struct spool_join *j, uint32_t covering)
{
    if (covering >= j->set || j->set + 1 >= j->crossed_cap)
        return;
    j->crossed[covering + 1]++;
    j->crossed[j->set + 1]--;
}

static void sum_up_crossings(struct spool_join *j)
{
    for (size_t i = 1; i < j->crossed_cap; i++)
        j->crossed[i] += j->crossed[i - 1];
}

static bool is_in_the_way(const struct spool_join *j, uint32_t set)
{
    return j->counting || set + 1 >= j->crossed_cap || j->crossed[set] > 0;
}

static enum fate fate_of_mark(struct spool_join *j, const struct join_record *r)
{
    j->set++;
    if (r->is_progress)
        return KEPT; /* no point, so it is neither the newest one nor in the way */
    bool is_last = !j->past_last_point;
    j->past_last_point = true;
    if (is_last || r->is_purposeful || !is_in_the_way(j, j->set)) {
        covered_reset(j->covered);
        return KEPT;
    }
    return TURNED;
}

static enum fate fate_of_data(struct spool_join *j, const struct join_record *r)
{
    uint32_t covering;
    if (covered_has(j->covered, r->disk, r->start, r->length, &covering)) {
        if (j->counting)
            note_crossing(j, covering);
        return DROPPED;
    }
    covered_add(j->covered, r->disk, r->start, r->length, j->set);
    return KEPT;
}

/* Bytes that go; *ret_turned: marks that become progress. */
static uint64_t decide(struct spool_join *j, uint64_t *ret_turned)
{
    uint64_t bytes = 0, turned = 0;
    for (size_t i = j->count; i > 0; i--) {
        struct join_record *r = &j->records[i - 1];
        r->fate = r->kind == RECORD_MARK ? fate_of_mark(j, r) : fate_of_data(j, r);
        bytes += r->fate == DROPPED ? RECORD_HEADER_SIZE + r->stored : 0;
        turned += r->fate == TURNED;
    }
    *ret_turned = turned;
    return bytes;
}

/* ---- writing it anew ---- */

struct rewriting {
    struct segment_writer *writer;
    struct record_digest *digest;
    struct buf out;
    uint64_t at; /* place of what is appended next */
    uint64_t set_records, set_bytes, set_start;
    bool set_shrank;
    struct spool_set *sets; /* those of the segment, in the spool's index */
    struct spool_set *new_sets;
    size_t set_count, closed;
    uint64_t turned; /* marks that become progress */
};

static int flush(struct rewriting *w, struct err *err)
{
    struct iovec iov = {.iov_base = w->out.data, .iov_len = w->out.len};
    uint64_t offset;
    if (w->out.len > 0 && segment_append(w->writer, &iov, 1, &offset, err) < 0)
        return -1;
    w->out.len = 0;
    return 0;
}

static int copy_record(struct rewriting *w, const struct record *r, const uint8_t *payload, struct err *err)
{
    if (buf_reserve(&w->out, RECORD_HEADER_SIZE + r->stored, err) < 0)
        return -1;
    record_encode_header(r, w->out.data + w->out.len);
    w->out.len += RECORD_HEADER_SIZE;
    w->at += RECORD_HEADER_SIZE + r->stored;
    return r->stored > 0 ? buf_append(&w->out, payload, r->stored, err) : 0;
}

static int copy_mark(struct rewriting *w, const struct record *r, const uint8_t *payload, bool turn, struct err *err)
{
    struct mark m;
    if (!turn && !w->set_shrank)
        return copy_record(w, r, payload, err);
    if (mark_decode(r, payload, &m, err) < 0)
        return -1;
    if (turn) {
        m.kind = MARK_PROGRESS;
        m.flags = 0;
    }
    m.record_count = w->set_records;
    m.changed_bytes = w->set_bytes;
    record_digest_get(w->digest, &m.digest);
    size_t before = w->out.len;
    if (mark_append(&m, &w->out, err) < 0)
        return -1;
    w->at += w->out.len - before;
    return 0;
}

static int close_set(struct rewriting *w, struct err *err)
{
    if (w->closed == w->set_count)
        return err_set(err, ERR_CORRUPT, "spool segment has more change sets than its index");
    struct spool_set *set = &w->new_sets[w->closed];
    *set = (struct spool_set){.segment = w->sets[w->closed].segment, .start = w->set_start, .end = w->at};
    w->closed++;
    w->set_start = w->at;
    w->set_records = w->set_bytes = 0;
    w->set_shrank = false;
    record_digest_reset(w->digest);
    return 0;
}

static int take_record(struct rewriting *w, const struct join_record *plan, const struct record *r,
    const uint8_t *payload, struct err *err)
{
    if (r->kind == RECORD_MARK) {
        if (copy_mark(w, r, payload, plan->fate == TURNED, err) < 0 || close_set(w, err) < 0)
            return -1;
    } else if (plan->fate == DROPPED) {
        w->set_shrank = true;
    } else {
        w->set_records++;
        w->set_bytes += r->length;
        record_digest_add(w->digest, r);
        if (copy_record(w, r, payload, err) < 0)
            return -1;
    }
    return w->out.len >= WRITE_BYTES ? flush(w, err) : 0;
}

static int copy_segment(struct spool_join *j, struct segment_reader *reader, struct rewriting *w, struct err *err)
{
    uint64_t offset = SEGMENT_HEADER_SIZE;
    for (size_t i = 0; i < j->count; i++) {
        struct record r;
        const uint8_t *payload;
        int got = segment_read_next(reader, &offset, &r, &payload, err);
        if (got <= 0)
            return got < 0 ? -1 : err_set(err, ERR_CORRUPT, "spool segment ends early");
        if (take_record(w, &j->records[i], &r, payload, err) < 0)
            return -1;
    }
    if (w->closed != w->set_count)
        return err_set(err, ERR_CORRUPT, "spool segment has fewer change sets than its index");
    return flush(w, err);
}

static void find_sets(const struct spool *s, uint64_t number, struct rewriting *w)
{
    size_t first = 0;
    while (first < s->set_count && s->sets[first].segment < number)
        first++;
    w->sets = s->sets + first;
    while (first + w->set_count < s->set_count && w->sets[w->set_count].segment == number)
        w->set_count++;
}

static int write_segment(
    struct spool_join *j, struct spool *s, int folder, uint64_t number, struct rewriting *w, struct err *err)
{
    struct segment_reader *reader AUTO_OF(segment_reader) = NULL;
    if (segment_open(s->dirfd, number, &reader, err) < 0)
        return -1;
    struct segment_info info = *segment_reader_info(reader);
    if (segment_create(folder, &info, &w->writer, err) < 0 || copy_segment(j, reader, w, err) < 0)
        return -1;
    return segment_seal(w->writer, err);
}

/* From here on the index tells of the new file. */
static void take_index(struct spool_join *j, struct spool *s, struct spool_segment *segment, const struct rewriting *w)
{
    memcpy(w->sets, w->new_sets, w->set_count * sizeof(*w->sets));
    j->result.bytes += segment->end - w->at;
    j->result.points += w->turned;
    segment->end = w->at;
    if (segment == &s->segments[s->segment_count - 1])
        s->set_start = w->at;
}

/* Once it is renamed the new file is the one that is read, whether the folder can be synced or not. After a crash either may be there, and each
 * is whole. */
static int put_in_place(struct spool_join *j, struct spool *s, int folder, struct spool_segment *segment,
    const struct rewriting *w, struct err *err)
{
    char name[SEGMENT_NAME_SIZE];
    segment_name(segment->number, name);
    spool_forget_reader(s);
    if (renameat(folder, name, s->dirfd, name) < 0)
        return err_sys(err, errno, "putting a joined spool segment in its place");
    take_index(j, s, segment, w);
    return fsync(s->dirfd) < 0 ? err_sys(err, errno, "syncing the folder of a spool") : 0;
}

/* What an attempt left there is of no use, and takes room where there is little. */
static void forget_file(int folder, uint64_t number)
{
    char name[SEGMENT_NAME_SIZE];
    segment_name(number, name);
    (void)unlinkat(folder, name, 0);
}

static int open_folder(const struct spool *s, uint64_t number, struct err *err)
{
    if (mkdirat(s->dirfd, FOLDER, 0700) < 0 && errno != EEXIST)
        return err_sys(err, errno, "making the folder %s in a spool", FOLDER);
    int fd = openat(s->dirfd, FOLDER, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return err_sys(err, errno, "opening the folder %s of a spool", FOLDER);
    forget_file(fd, number);
    return fd;
}

static int rewrite(
    struct spool_join *j, struct spool *s, struct spool_segment *segment, uint64_t turned, struct err *err)
{
    struct rewriting w = {
        .out = BUF_INIT(WRITE_MAX), .at = SEGMENT_HEADER_SIZE, .set_start = SEGMENT_HEADER_SIZE, .turned = turned};
    AUTO_CLOSE int folder = open_folder(s, segment->number, err);
    if (folder < 0)
        return -1;
    find_sets(s, segment->number, &w);
    w.digest = record_digest_new();
    w.new_sets = mem_alloc(w.set_count, sizeof(*w.new_sets));
    int result = w.digest == NULL || w.new_sets == NULL ? err_set(err, ERR_NOMEM, "no memory to join change sets")
                                                        : write_segment(j, s, folder, segment->number, &w, err);
    if (result == 0)
        result = put_in_place(j, s, folder, segment, &w, err);
    segment_writer_close(w.writer);
    if (result < 0)
        forget_file(folder, segment->number);
    record_digest_free(w.digest);
    free(w.new_sets);
    buf_done(&w.out);
    return result;
}

/* ---- steps ---- */

static struct spool_segment *newest_up_to(struct spool *s, uint64_t number)
{
    size_t i = sealed_count(s);
    while (i > 0 && s->segments[i - 1].number > number)
        i--;
    return i > 0 ? &s->segments[i - 1] : NULL;
}

static int take_segment(struct spool_join *j, struct spool *s, struct spool_segment *segment, struct err *err)
{
    int listed = list_records(j, s, segment, err);
    if (listed <= 0) { /* its points stay, so nothing before them may be taken for what is in it or behind it */
        covered_reset(j->covered);
        return listed;
    }
    if (j->counting && reserve_crossed(j, err) < 0)
        return -1;
    uint64_t turned, bytes = decide(j, &turned);
    if (j->counting) {
        j->seen_bytes += segment->end;
        j->spare_bytes += bytes;
        return 0;
    }
    if (bytes == 0 && turned == 0)
        return 0;
    return rewrite(j, s, segment, turned, err);
}

int spool_join_step(struct spool_join *j, struct spool *s, struct err *err)
{
    struct spool_segment *segment = j->begun == s->begun ? newest_up_to(s, j->next) : NULL;
    if (segment != NULL) {
        j->next = segment->number - 1;
        return take_segment(j, s, segment, err) < 0 ? -1 : 1;
    }
    if (!j->counting || j->begun != s->begun || j->spare_bytes < j->seen_bytes / WORTH_SHARE)
        return 0;
    sum_up_crossings(j);
    begin_round(j, false);
    return 1;
}
