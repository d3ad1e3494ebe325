/* SPDX-License-Identifier: Apache-2.0
 *
 * Writing the spool: appending, rewinding, changing segments, deleting. An index of sets and segments is kept in memory;
 * spool_scan makes it again from the files.
 */
#include "transport/node/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "transport/base/clock.h"
#include "transport/base/file.h"
#include "transport/node/sealing.h"
#include "transport/node/spool_private.h"

/* ---- the index ---- */

static int grow(void **array, size_t *cap, size_t count, size_t size, struct err *err)
{
    if (count < *cap)
        return 0;
    size_t want = *cap == 0 ? 64 : *cap * 2;
    void *bigger = mem_resize(*array, want, size);
    if (bigger == NULL)
        return err_set(err, ERR_NOMEM, "no memory for the index of a spool");
    *array = bigger;
    *cap = want;
    return 0;
}

int spool_add_segment(struct spool *s, uint64_t number, struct err *err)
{
    if (grow((void **)&s->segments, &s->segment_cap, s->segment_count, sizeof(*s->segments), err) < 0)
        return -1;
    s->segments[s->segment_count++] = (struct spool_segment){.number = number, .end = SEGMENT_HEADER_SIZE};
    s->next_number = number + 1;
    s->set_start = SEGMENT_HEADER_SIZE;
    return 0;
}

int spool_add_set(struct spool *s, uint64_t segment, uint64_t start, uint64_t end, struct err *err)
{
    if (grow((void **)&s->sets, &s->set_cap, s->set_count, sizeof(*s->sets), err) < 0)
        return -1;
    s->sets[s->set_count++] = (struct spool_set){.segment = segment, .start = start, .end = end};
    s->segments[s->segment_count - 1].last_sequence = s->next_sequence++;
    s->set_start = end;
    return 0;
}

static struct spool_segment *last_segment(const struct spool *s)
{
    return s->segment_count > 0 ? &s->segments[s->segment_count - 1] : NULL;
}

static uint64_t first_sequence(const struct spool *s)
{
    return s->next_sequence - s->set_count;
}

struct spool_state spool_state(const struct spool *s)
{
    struct spool_state state = {.first_sequence = first_sequence(s),
        .next_sequence = s->next_sequence,
        .epoch = s->epoch,
        .generation = s->generation};
    for (size_t i = 0; i < s->segment_count; i++)
        state.bytes += s->segments[i].end;
    const struct spool_segment *last = last_segment(s);
    if (last != NULL) {
        state.tail = (struct spool_pos){.segment = last->number, .offset = last->end};
        state.set_start = s->set_start;
    }
    return state;
}

/* ---- opening ---- */

int spool_open(
    const char *path, const struct ident *machine, uint64_t segment_bytes, struct spool **ret_spool, struct err *err)
{
    if (file_make_dirs(path, 0700, err) < 0)
        return -1;
    struct spool *s AUTO_OF(spool) = mem_new(struct spool);
    if (s == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a spool");
    s->machine = *machine;
    s->segment_bytes = segment_bytes;
    s->next_number = 1;
    s->dirfd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s->dirfd < 0)
        return err_sys(err, errno, "opening spool %s", path);
    AUTO_FREE char *unfinished = mem_printf("%s/" SPOOL_JOIN_FOLDER, path);
    if (unfinished == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a spool");
    if (file_remove_tree(unfinished, err) < 0 || spool_scan(s, err) < 0)
        return err_wrap(err, "scanning spool %s", path);
    *ret_spool = TAKE_PTR(s);
    return 0;
}

void spool_forget_reader(struct spool *s)
{
    segment_reader_close(s->reader);
    s->reader = NULL;
}

void spool_close(struct spool *s)
{
    if (s == NULL)
        return;
    spool_forget_reader(s);
    segment_writer_close(s->writer);
    if (s->dirfd > 0)
        (void)close(s->dirfd);
    free(s->segments);
    free(s->sets);
    free(s);
}

/* ---- dropping ---- */

int spool_remove_segment_file(struct spool *s, uint64_t number, struct err *err)
{
    char name[SEGMENT_NAME_SIZE];
    segment_name(number, name);
    if (s->reader != NULL && s->reader_number == number)
        spool_forget_reader(s);
    if (unlinkat(s->dirfd, name, 0) < 0 && errno != ENOENT)
        return err_sys(err, errno, "deleting spool segment %s", name);
    return 0;
}

int spool_begin(struct spool *s, uint64_t generation, uint64_t epoch, uint64_t next_sequence, struct err *err)
{
    bool any = s->segment_count > 0 || s->half_begun;
    segment_writer_close(s->writer);
    s->writer = NULL;
    s->half_begun = true;
    while (s->segment_count > 0) {
        if (spool_remove_segment_file(s, s->segments[s->segment_count - 1].number, err) < 0)
            return -1;
        s->segment_count--;
    }
    if (any && fsync(s->dirfd) < 0)
        return err_sys(err, errno, "syncing the folder of a spool");
    s->begun++;
    s->half_begun = false;
    s->ends_segment = false;
    s->set_count = 0;
    s->generation = generation;
    s->epoch = epoch;
    s->next_sequence = next_sequence;
    return 0;
}

int spool_rewind(struct spool *s, struct err *err)
{
    struct spool_segment *last = last_segment(s);
    spool_forget_reader(s);
    if (s->half_begun) /* nobody knows any more where its last segment ends */
        return spool_begin(s, s->generation, s->epoch, s->next_sequence, err);
    if (s->writer == NULL)
        return 0;
    if (segment_rewind(s->writer, s->set_start, err) < 0)
        return err_wrap(err, "spool");
    last->end = s->set_start;
    return 0;
}

/* The first `count` segments and the sets in them. */
static int drop_front(struct spool *s, size_t count, struct err *err)
{
    for (size_t i = 0; i < count; i++) {
        if (spool_remove_segment_file(s, s->segments[i].number, err) < 0)
            return -1;
    }
    uint64_t behind = s->segments[count - 1].number;
    size_t sets = 0;
    while (sets < s->set_count && s->sets[sets].segment <= behind)
        sets++;
    s->set_count -= sets;
    memmove(s->sets, s->sets + sets, s->set_count * sizeof(*s->sets));
    s->segment_count -= count;
    memmove(s->segments, s->segments + count, s->segment_count * sizeof(*s->segments));
    return 0;
}

int spool_trim(struct spool *s, uint64_t committed, bool idle, struct err *err)
{
    size_t count = 0;
    while (count < s->segment_count && s->segments[count].last_sequence <= committed)
        count++;
    bool all = count > 0 && count == s->segment_count;
    if (all && s->writer != NULL) {
        if (idle && s->set_start == last_segment(s)->end) {
            segment_writer_close(s->writer);
            s->writer = NULL;
        } else {
            count--;
        }
    }
    return count > 0 ? drop_front(s, count, err) : 0;
}

/* ---- appending ---- */

static int new_segment(struct spool *s, struct err *err)
{
    struct segment_info info = {.machine = s->machine,
        .number = s->next_number,
        .first_sequence = s->next_sequence,
        .created_utc_usec = clock_utc_usec()};
    if (segment_create(s->dirfd, &info, &s->writer, err) < 0)
        return err_wrap(err, "spool");
    if (spool_add_segment(s, info.number, err) < 0) {
        segment_writer_close(s->writer);
        s->writer = NULL;
        (void)spool_remove_segment_file(s, info.number, NULL);
        return -1;
    }
    return 0;
}

static int append_chunks(
    struct spool *s, const struct buf *chunks, unsigned from, unsigned to, uint64_t *starts, struct err *err)
{
    struct iovec iov[SEALING_CHUNKS_MAX];
    uint64_t offset;
    if (from == to)
        return 0;
    if (s->writer == NULL && new_segment(s, err) < 0)
        return -1;
    struct spool_segment *last = last_segment(s);
    uint64_t at = last->end;
    for (unsigned i = from; i < to; i++) {
        iov[i - from] = (struct iovec){.iov_base = chunks[i].data, .iov_len = chunks[i].len};
        starts[i] = at;
        at += chunks[i].len;
    }
    if (segment_append(s->writer, iov, to - from, &offset, err) < 0)
        return err_wrap(err, "spool");
    last->end = segment_end(s->writer);
    return 0;
}

static int index_marks(
    struct spool *s, const struct spool_mark *marks, size_t count, const uint64_t *starts, struct err *err)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t end = starts[marks[i].chunk] + marks[i].end;
        if (spool_add_set(s, last_segment(s)->number, s->set_start, end, err) < 0)
            return -1;
    }
    return 0;
}

/* A seal that failed leaves a tail that nobody knows, and a writer that takes nothing more: what is behind the last mark is cut off. Where
 * that fails too the next append says so, and makes good for it (undo). */
static int seal(struct spool *s, struct err *err)
{
    if (segment_seal(s->writer, err) < 0) {
        (void)segment_rewind(s->writer, s->set_start, NULL);
        return err_wrap(err, "spool");
    }
    segment_writer_close(s->writer);
    s->writer = NULL;
    s->ends_segment = false;
    return 0;
}

/* Changes segments behind a mark, when this one is long enough. */
static int roll(struct spool *s, struct err *err)
{
    if (s->writer == NULL || (last_segment(s)->end < s->segment_bytes && !s->ends_segment))
        return 0;
    return seal(s, err);
}

int spool_end_segment(struct spool *s, struct err *err)
{
    if (s->writer == NULL || last_segment(s)->end == SEGMENT_HEADER_SIZE)
        return 0;
    if (s->set_start == last_segment(s)->end)
        return seal(s, err);
    s->ends_segment = true;
    return 0;
}

/* What the index held before an append that failed. */
struct spool_undo {
    size_t set_count;
    uint64_t next_sequence, set_start, last_sequence;
};

/* A failed append may have changed segments; everything behind the last mark before it goes. */
static void undo(struct spool *s, size_t segment_count, const struct spool_undo *u)
{
    s->set_count = u->set_count;
    s->next_sequence = u->next_sequence;
    spool_forget_reader(s);
    segment_writer_close(s->writer);
    s->writer = NULL;
    while (s->segment_count > segment_count)
        (void)spool_remove_segment_file(s, s->segments[--s->segment_count].number, NULL);
    struct spool_segment *last = last_segment(s);
    if (last == NULL)
        return;
    bool has_more = last->end > u->set_start;
    last->last_sequence = u->last_sequence;
    s->set_start = u->set_start;
    last->end = u->set_start;
    if (has_more) /* it may have been sealed behind the new sets, and then nothing else cuts it */
        spool_cut_segment(s, last->number, last->end);
    (void)segment_reopen(s->dirfd, last->number, last->end, &s->writer, NULL);
}

int spool_append(struct spool *s, const struct buf *chunks, unsigned chunk_count, unsigned through_mark,
    const struct spool_mark *marks, size_t mark_count, struct err *err)
{
    uint64_t starts[SEALING_CHUNKS_MAX];
    if (mark_count > 0 && marks[0].sequence != s->next_sequence)
        return err_set(err, ERR_INTERNAL, "spool expects change set %llu, not %llu",
            (unsigned long long)s->next_sequence, (unsigned long long)marks[0].sequence);
    const struct spool_segment *last = last_segment(s);
    size_t segment_count = s->segment_count;
    struct spool_undo before = {.set_count = s->set_count,
        .next_sequence = s->next_sequence,
        .set_start = s->set_start,
        .last_sequence = last != NULL ? last->last_sequence : 0};
    if (append_chunks(s, chunks, 0, through_mark, starts, err) == 0 &&
        index_marks(s, marks, mark_count, starts, err) == 0 && (through_mark == 0 || roll(s, err) == 0) &&
        append_chunks(s, chunks, through_mark, chunk_count, starts, err) == 0)
        return 0;
    undo(s, segment_count, &before);
    return -1;
}

int spool_sync_fd(const struct spool *s)
{
    return s->writer != NULL ? fcntl(segment_writer_fd(s->writer), F_DUPFD_CLOEXEC, 0) : -1;
}
