/* SPDX-License-Identifier: Apache-2.0
 *
 * Happy path: the note says where in the branch's log the pass before ended; each segment from there on is synced, looked through for its
 * last mark, and copied up to it in change sets of bounded size; the last of them is the point.
 * Failure modes: a branch whose writer is in the middle of an append ends the look at its torn record and is read again by the next pass; whatever
 * fails leaves progress marks, which are no points, and the next pass goes on from the note.
 */
#include "transport/vault/follow.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "transport/base/buf.h"
#include "transport/base/bytes.h"
#include "transport/base/clock.h"
#include "transport/base/crashpoint.h"
#include "transport/base/file.h"
#include "transport/log/segment.h"
#include "transport/vault/branch.h"
#include "transport/vault/promote_private.h"

#define NOTE_MAGIC "LWFOL\0\0\1"
#define NOTE_SIZE 64u
#define NOTE_HASH (NOTE_SIZE - HASH_SIZE)
#define BATCH_BYTES (2u << 20)
#define BATCH_MAX (4u << 20)
#define SET_BYTES (32u << 20) /* of content in one change set */

/* The file `followed`. */
struct follow_note {
    uint64_t segment, offset; /* of the branch's log: all before it is in the main line */
    uint64_t sequence;        /* of the main line: the point that came of it */
    uint64_t generation;
    uint64_t base_check; /* of the branch: the folder of another one may have the same name */
};

struct follow {
    struct store *s;
    char *dir;
    int dirfd;
    struct branch_info info;
    struct follow_note note;
    struct mark *frame; /* whose the change sets are, and its disks */
    struct record_digest *digest;
    struct buf batch;
    uint64_t generation, epoch;
    uint64_t records, bytes; /* of the open change set */
    struct follow_result *result;
};

/* ---- the file `followed` ---- */

static int note_store(const struct follow *f, struct err *err)
{
    uint8_t out[NOTE_SIZE] = {0};
    char *path AUTO_FREE = mem_printf("%s/followed", f->dir);
    if (path == NULL)
        return err_set(err, ERR_NOMEM, "no memory to follow a branch");
    memcpy(out, NOTE_MAGIC, 8);
    put_le64(out + 8, f->note.segment);
    put_le64(out + 16, f->note.offset);
    put_le64(out + 24, f->note.sequence);
    put_le64(out + 32, f->note.generation);
    put_le64(out + 40, f->note.base_check);
    hash_seal(out, NOTE_HASH);
    return file_replace(path, out, sizeof(out), 0600, err);
}

/* False: there is none that can be trusted, so all is taken over again. */
static bool note_load(struct follow *f)
{
    struct buf content AUTO_BUF = BUF_INIT(4096);
    char *path AUTO_FREE = mem_printf("%s/followed", f->dir);
    if (path == NULL || file_read(path, &content, NULL) < 0 || content.len != NOTE_SIZE ||
        memcmp(content.data, NOTE_MAGIC, 8) != 0)
        return false;
    if (!hash_is_sealed(content.data, NOTE_SIZE))
        return false;
    f->note = (struct follow_note){.segment = get_le64(content.data + 8),
        .offset = get_le64(content.data + 16),
        .sequence = get_le64(content.data + 24),
        .generation = get_le64(content.data + 32),
        .base_check = get_le64(content.data + 40)};
    return true;
}

/* Has the main line what the note says, and nothing of anybody else behind it? */
static bool note_holds(const struct follow *f)
{
    const struct mark *last = store_last_mark(f->s);
    return f->note.base_check == f->info.base_check && f->note.generation == f->generation && last != NULL &&
           last->generation == f->generation && last->sequence >= f->note.sequence;
}

/* ---- writing to the main line ---- */

static int send(struct follow *f, struct err *err)
{
    uint64_t committed;
    int result = f->batch.len == 0 ? 0 : store_append(f->s, f->batch.data, f->batch.len, &committed, err);
    buf_clear(&f->batch);
    return result;
}

static int close_set(struct follow *f, enum mark_kind kind, uint64_t time_utc_usec, struct err *err)
{
    struct mark *m = f->frame;
    m->kind = kind;
    m->flags = 0;
    m->sequence = store_committed(f->s) + 1;
    m->generation = f->generation;
    m->epoch = f->epoch;
    m->time_utc_usec = time_utc_usec;
    m->group_point = (struct ident){0};
    m->tag[0] = '\0';
    m->record_count = f->records;
    m->changed_bytes = f->bytes;
    record_digest_get(f->digest, &m->digest);
    f->records = f->bytes = 0;
    record_digest_reset(f->digest);
    if (mark_append(m, &f->batch, err) < 0 || send(f, err) < 0)
        return -1;
    return store_wants_flush(f->s) ? store_flush(f->s, err) : 0;
}

static int add(struct follow *f, const struct record *r, const uint8_t *payload, struct err *err)
{
    uint8_t header[RECORD_HEADER_SIZE];
    record_encode_header(r, header);
    if (buf_append(&f->batch, header, sizeof(header), err) < 0 || buf_append(&f->batch, payload, r->stored, err) < 0)
        return -1;
    record_digest_add(f->digest, r);
    f->records++;
    f->bytes += r->length;
    f->result->records++;
    f->result->bytes += r->length;
    if (f->bytes >= SET_BYTES)
        return close_set(f, MARK_PROGRESS, clock_utc_usec(), err);
    return f->batch.len < BATCH_BYTES ? 0 : send(f, err);
}

/* ---- reading the branch's log ---- */

static bool has_segment(const struct follow *f, uint64_t number)
{
    char name[SEGMENT_NAME_SIZE];
    segment_name(number, name);
    return faccessat(f->dirfd, name, F_OK, 0) == 0;
}

/* What is taken over must not be lost from the branch by a power failure: its log would go on differently. */
static int sync_segment(const struct follow *f, uint64_t number, struct err *err)
{
    char name[SEGMENT_NAME_SIZE];
    segment_name(number, name);
    AUTO_CLOSE int fd = openat(f->dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return err_sys(err, errno, "opening segment %s of a branch", name);
    return fdatasync(fd) < 0 ? err_sys(err, errno, "syncing segment %s of a branch", name) : 0;
}

/* Where the last mark behind `from` ends. The writer may be in the middle of a record of the last segment; elsewhere that is damage. */
static int find_end(struct segment_reader *reader, uint64_t from, bool is_last, uint64_t *ret_end, struct err *err)
{
    uint64_t offset = from;
    struct err why = ERR_INIT;
    int got = 1;
    *ret_end = from;
    while (got > 0) {
        struct record r;
        const uint8_t *payload;
        got = segment_read_next(reader, &offset, &r, &payload, &why);
        if (got > 0 && (r.kind == RECORD_MARK || r.kind == RECORD_SEAL))
            *ret_end = offset;
    }
    if (got == 0 || (is_last && why.code == ERR_CORRUPT))
        return 0;
    err_copy(err, &why);
    return -1;
}

static int copy(struct follow *f, struct segment_reader *reader, uint64_t offset, uint64_t end, struct err *err)
{
    while (offset < end) {
        struct record r;
        const uint8_t *payload;
        int got = segment_read_next(reader, &offset, &r, &payload, err);
        if (got < 0)
            return -1;
        if (got == 0)
            return 0;
        if ((r.kind == RECORD_DATA || r.kind == RECORD_ZERO) && add(f, &r, payload, err) < 0)
            return -1;
    }
    return 0;
}

/* Whether there is a next segment is looked at first: only then is this one known to be whole. */
static int take_segment(struct follow *f, bool *ret_more, struct err *err)
{
    struct segment_reader *reader AUTO_OF(segment_reader) = NULL;
    uint64_t number = f->note.segment, end = f->note.offset;
    *ret_more = has_segment(f, number + 1);
    if (!has_segment(f, number))
        return 0;
    struct err why = ERR_INIT;
    if (segment_open(f->dirfd, number, &reader, &why) < 0) {
        if (!*ret_more && (why.code == ERR_CORRUPT || why.code == ERR_NOT_FOUND))
            return 0; /* it is just being made */
        err_copy(err, &why);
        return -1;
    }
    if (sync_segment(f, number, err) < 0 || find_end(reader, f->note.offset, !*ret_more, &end, err) < 0 ||
        copy(f, reader, f->note.offset, end, err) < 0)
        return err_wrap(err, "segment %llu of the branch", (unsigned long long)number);
    f->note.offset = *ret_more ? SEGMENT_HEADER_SIZE : end;
    f->note.segment += *ret_more;
    return 0;
}

/* ---- a pass ---- */

static int begin(struct follow *f, struct store_opened *ret_opened, struct err *err)
{
    if (store_set_generation(f->s, f->generation, err) < 0)
        return -1;
    f->epoch = store_epoch(f->s) + 1;
    return store_begin(f->s, f->generation, f->epoch, ret_opened, err);
}

static int open_base(struct follow *f, struct view **ret_base, struct err *err)
{
    struct keyring keys;
    uint64_t check;
    store_keys(f->s, &keys);
    int result = store_flush(f->s, err);
    if (result == 0)
        result = view_open(store_dir(f->s), f->info.base_sequence, &keys, 0, ret_base, err);
    keyring_cleanse(&keys);
    if (result < 0 || branch_base_check(view_mark(*ret_base), &check, err) < 0)
        return -1;
    if (check == f->info.base_check)
        return 0;
    return err_set(err, ERR_CORRUPT,
        "the point %llu that the branch stands on is lost with the end of the machine's log",
        (unsigned long long)f->info.base_sequence);
}

/* The main line holds what the branch stands on, under the new generation. */
static int from_the_start(struct follow *f, struct err *err)
{
    struct view *base AUTO_OF(view) = NULL;
    struct store_opened opened;
    if (open_base(f, &base, err) < 0 || begin(f, &opened, err) < 0)
        return -1;
    struct revert_spec spec = {.base = base, .opened = &opened, .generation = f->generation, .epoch = f->epoch};
    int result = promote_revert(f->s, &spec, err);
    explicit_bzero(&opened, sizeof(opened));
    *f->frame = *view_mark(base);
    f->note = (struct follow_note){.segment = 1, .offset = SEGMENT_HEADER_SIZE, .base_check = f->info.base_check};
    crashpoint_pass("follow.reverted");
    return result;
}

static int go_on(struct follow *f, struct err *err)
{
    struct store_opened opened;
    *f->frame = *store_last_mark(f->s);
    if (f->epoch != 0)
        return 0;
    int result = begin(f, &opened, err);
    explicit_bzero(&opened, sizeof(opened));
    return result;
}

static int pass(struct follow *f, struct err *err)
{
    uint64_t now = clock_utc_usec();
    bool more = true;
    if (branch_load_info(f->dir, &f->info, err) < 0)
        return -1;
    f->dirfd = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (f->dirfd < 0)
        return err_sys(err, errno, "opening the branch %s", f->dir);
    if ((note_load(f) && note_holds(f) ? go_on(f, err) : from_the_start(f, err)) < 0)
        return -1;
    while (more)
        if (take_segment(f, &more, err) < 0)
            return -1;
    if (close_set(f, MARK_CRASH, now, err) < 0)
        return -1;
    crashpoint_pass("follow.committed");
    f->note.sequence = f->result->sequence = store_committed(f->s);
    f->note.generation = f->generation;
    return note_store(f, err);
}

int follow_branch(struct store *s, const char *branch, uint64_t generation, uint64_t *epoch,
    struct follow_result *ret_result, struct err *err)
{
    struct follow f = {.s = s,
        .dirfd = -1,
        .generation = generation,
        .epoch = *epoch,
        .result = ret_result,
        .batch = BUF_INIT(BATCH_MAX)};
    *ret_result = (struct follow_result){0};
    f.dir = mem_printf("%s/branches/%s", store_dir(s), branch);
    f.frame = mem_new(struct mark);
    f.digest = record_digest_new();
    int result = f.dir == NULL || f.frame == NULL || f.digest == NULL
                     ? err_set(err, ERR_NOMEM, "no memory to follow a branch")
                     : pass(&f, err);
    *epoch = result == 0 ? f.epoch : 0;
    if (f.dirfd >= 0)
        (void)close(f.dirfd);
    record_digest_free(f.digest);
    buf_done(&f.batch);
    free(f.frame);
    free(f.dir);
    return result;
}
