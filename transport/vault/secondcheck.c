/* SPDX-License-Identifier: Apache-2.0
 *
 * See secondcheck.h. A mark has the digest of its change set, so one that both have in the same place is the same set; and histories that went apart
 * do not come together again, so what stands before such a mark is the vault's, too. Records keep their places when a segment is rewritten, so it does
 * not matter which of its forms either side has.
 */
#include "transport/vault/secondcheck.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "transport/base/mem.h"
#include "transport/log/mark.h"
#include "transport/log/segment.h"
#include "transport/vault/verify.h"

enum { LOOKS = 3 };

struct checking {
    const struct secondcheck *c;
    uint64_t number;
    int ours_fd;                 /* the folder of the vault's log */
    struct segment_reader *ours; /* NULL: gone, or nothing of it can be read */
    struct segment_reader *theirs;
    struct mark *mark;
    uint64_t sequence, epoch, generation; /* of the last mark */
    uint64_t agreed_end;                  /* place behind the last mark that is the vault's, too */
    uint64_t end;                         /* behind the last record */
    size_t points;                        /* of the list, in this segment */
};

static int is_another(const struct checking *k, const char *why, struct err *err)
{
    (void)err_set(
        err, ERR_CONFLICT, "segment %llu in the bucket is not the vault's: %s", (unsigned long long)k->number, why);
    return err_hint(
        err, "look whether another vault writes to that place; give each a prefix of its own in its bucket URL");
}

static int open_main(const char *dir, struct err *err)
{
    AUTO_FREE char *path = mem_printf("%s/main", dir);
    int fd = path == NULL ? -1 : open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    return fd < 0 ? err_sys(err, path == NULL ? ENOMEM : errno, "opening the log in %s", dir) : fd;
}

/* ---- marks ---- */

static int check_order(struct checking *k, struct err *err)
{
    const struct mark *m = k->mark;
    const struct segment_info *info = segment_reader_info(k->theirs);
    bool follows = info->revision == 0 ? m->sequence == k->sequence + 1
                                       : m->sequence > k->sequence && m->sequence <= info->last_sequence;

    if (!ident_equal(&m->machine, &k->c->meta->machine))
        return is_another(k, "it has another machine's mark", err);
    if (!follows || m->epoch < k->epoch || m->generation < k->generation)
        return err_set(err, ERR_CORRUPT, "segment %llu in the bucket is out of order at change set %llu",
            (unsigned long long)k->number, (unsigned long long)m->sequence);
    if (m->epoch > k->c->meta->epoch || m->generation > k->c->meta->generation)
        return is_another(k, "it has an epoch or a generation that the vault never had", err);
    k->sequence = m->sequence;
    k->epoch = m->epoch;
    k->generation = m->generation;
    return 0;
}

/* 1: the vault has the same mark there; 0: it has nothing there that can be read. */
static int compare_ours(const struct checking *k, const struct record *r, uint64_t place, struct err *err)
{
    uint8_t theirs[RECORD_HEADER_SIZE], header[RECORD_HEADER_SIZE];
    struct record ours;

    if (k->ours == NULL || segment_pread(k->ours, place, &ours, NULL, 0, NULL) < 0)
        return 0;
    record_encode_header(r, theirs);
    record_encode_header(&ours, header);
    return memcmp(theirs, header, sizeof(header)) == 0
               ? 1
               : is_another(k, "the vault has another record in the place of a mark", err);
}

/* 1: it is a point that the vault has on its list. */
static int compare_point(struct checking *k, uint64_t place, struct err *err)
{
    const struct mark *m = k->mark;
    const struct point *p = k->c->points == NULL ? NULL : pointlist_find(k->c->points, m->sequence);

    if (p == NULL)
        return 0;
    if (p->segment != k->number || p->offset != place || p->time_utc_usec != m->time_utc_usec ||
        p->generation != m->generation || p->changed_bytes != m->changed_bytes)
        return is_another(k, "the vault has another recovery point of that number", err);
    k->points++;
    return 1;
}

static int take_mark(struct checking *k, const struct record *r, const uint8_t *payload, struct err *err)
{
    uint64_t place = segment_reader_place(k->theirs);

    if (mark_decode(r, payload, k->mark, err) < 0 || check_order(k, err) < 0)
        return -1;
    int same = compare_ours(k, r, place, err), point = same < 0 ? -1 : compare_point(k, place, err);
    if (point < 0)
        return -1;
    if (same > 0 || point > 0)
        k->agreed_end = place + RECORD_HEADER_SIZE + r->stored;
    return 0;
}

/* Behind damage nothing is looked at. */
static int walk(struct checking *k, struct err *err)
{
    uint64_t offset = SEGMENT_HEADER_SIZE;
    struct record r;
    const uint8_t *payload;

    while (segment_read_next(k->theirs, &offset, &r, &payload, NULL) > 0) {
        if (r.kind == RECORD_MARK && take_mark(k, &r, payload, err) < 0)
            return -1;
        k->end = segment_reader_place(k->theirs) + RECORD_HEADER_SIZE + r.stored;
    }
    return 0;
}

/* ---- the header ---- */

static int check_header(struct checking *k, struct err *err)
{
    const struct segment_info *theirs = segment_reader_info(k->theirs);
    const struct segment_info *ours = k->ours == NULL ? NULL : segment_reader_info(k->ours);

    if (!ident_equal(&theirs->machine, &k->c->meta->machine) || !ident_is_zero(&theirs->log))
        return is_another(k, "it is of another machine, or of a branch", err);
    if (theirs->number != k->number || theirs->first_sequence == 0)
        return is_another(k, "it has another number", err);
    if (ours != NULL &&
        (ours->first_sequence != theirs->first_sequence || ours->created_utc_usec != theirs->created_utc_usec))
        return is_another(k, "it was begun at another time", err);
    k->sequence = theirs->first_sequence - 1;
    return 0;
}

static int begin(struct checking *k, struct err *err)
{
    AUTO_CLOSE int copy_fd = open_main(k->c->copy_dir, err);

    k->mark = mem_new(struct mark);
    if (copy_fd < 0 || k->mark == NULL)
        return copy_fd < 0 ? -1 : err_set(err, ERR_NOMEM, "no memory to check a segment");
    k->ours_fd = open_main(k->c->machine_dir, err);
    if (k->ours_fd < 0 || segment_open(copy_fd, k->number, &k->theirs, err) < 0)
        return -1;
    if (segment_open(k->ours_fd, k->number, &k->ours, NULL) < 0)
        k->ours = NULL;
    return check_header(k, err) < 0 ? -1 : walk(k, err);
}

static void checking_done(struct checking *k)
{
    segment_reader_close(k->ours);
    segment_reader_close(k->theirs);
    free(k->mark);
    if (k->ours_fd >= 0)
        (void)close(k->ours_fd);
}

int secondcheck_records(const struct secondcheck *c, uint64_t number, uint64_t *ret_end, struct err *err)
{
    struct checking k = {.c = c, .number = number, .ours_fd = -1};
    int rc = begin(&k, err);

    *ret_end = c->is_ours ? k.end : k.agreed_end;
    checking_done(&k);
    return rc;
}

/* ---- all of it ---- */

static void on_mark(void *arg, const struct record *r, const uint8_t *payload, uint64_t end_bytes)
{
    uint64_t *sequence = arg;
    AUTO_FREE struct mark *m = mem_new(struct mark);

    (void)end_bytes;
    if (m != NULL && mark_decode(r, payload, m, NULL) == 0)
        *sequence = m->sequence;
}

/* 1: the first and the last change set of a segment of the vault's; 0: it is not there, or does not say; -1: it was rewritten meanwhile, so
 * what was counted may be of either of its forms. */
static int look_at_neighbour(int dirfd, uint64_t number, uint64_t *ret_first, uint64_t *ret_last)
{
    struct segment_reader *reader AUTO_OF(segment_reader) = NULL;
    uint64_t end;
    bool sealed;

    if (segment_open(dirfd, number, &reader, NULL) < 0)
        return 0;
    const struct segment_info *info = segment_reader_info(reader);
    *ret_first = info->first_sequence;
    *ret_last = info->revision > 0 ? info->last_sequence : info->first_sequence - 1;
    if (info->revision > 0)
        return 1;
    int rc = segment_recover(dirfd, number, on_mark, ret_last, &end, &sealed, NULL);
    return segment_reader_is_stale(reader) ? -1 : rc == 0;
}

/* Compaction goes on beside this. A segment that was rewritten says itself what its last change set was, so the second look tells; the
 * third is for one that was put back in between. */
static bool neighbour(const struct checking *k, uint64_t number, uint64_t *ret_first, uint64_t *ret_last)
{
    int got = number == 0 ? 0 : -1;

    for (unsigned look = 0; got < 0 && look < LOOKS; look++)
        got = look_at_neighbour(k->ours_fd, number, ret_first, ret_last);
    return got > 0;
}

/* Does it stand between those beside it? *ret_both: there are both. */
static int check_neighbours(const struct checking *k, uint64_t last, bool *ret_both, struct err *err)
{
    uint64_t first = segment_reader_info(k->theirs)->first_sequence, next_first, prior_last, unused;
    bool has_prior = neighbour(k, k->number - 1, &unused, &prior_last);
    bool has_next = neighbour(k, k->number + 1, &next_first, &unused);

    *ret_both = (has_prior || k->number == 1) && has_next;
    if ((has_prior && first != prior_last + 1) || (k->number == 1 && first != 1))
        return is_another(k, "it does not begin where the one before it ends", err);
    if (has_next && next_first <= last)
        return is_another(k, "the one behind it begins before it ends", err);
    if (has_next && next_first != last + 1)
        return err_set(err, ERR_CORRUPT,
            "segment %llu in the bucket ends with change set %llu, the next one begins with %llu",
            (unsigned long long)k->number, (unsigned long long)last, (unsigned long long)next_first);
    return 0;
}

static size_t points_in(const struct pointlist *points, uint64_t number)
{
    size_t count = 0;

    for (size_t i = 0; points != NULL && i < points->count; i++)
        count += points->items[i].segment == number;
    return count;
}

/* Every record, every mark, the seal. */
static int check_content(const struct checking *k, uint64_t *ret_last, struct err *err)
{
    const struct verify_spec spec = {.machine_dir = k->c->copy_dir,
        .machine = k->c->meta->machine,
        .keys = *k->c->keys,
        .until_sequence = UINT64_MAX};
    struct verify_result result = {0};
    struct verify_span span;
    int rc = verify_segment(&spec, k->number, false, &span, &result, err);

    if (rc == 0 && result.damage_count > 0)
        rc = err_set(err, ERR_CORRUPT, "segment %llu in the bucket is damaged itself: %s",
            (unsigned long long)k->number, result.listed == 0 ? "" : result.damages[0].text);
    verify_result_done(&result);
    *ret_last = span.last_sequence;
    return rc;
}

static int check_all(struct checking *k, struct err *err)
{
    uint64_t last;
    bool between;

    if (begin(k, err) < 0 || check_content(k, &last, err) < 0 || check_neighbours(k, last, &between, err) < 0)
        return -1;
    if (k->points != points_in(k->c->points, k->number))
        return is_another(k, "it does not have the recovery points that the vault has in it", err);
    if (k->c->is_ours || between || k->points > 0 || k->agreed_end > 0)
        return 0;
    return is_another(k, "nothing that the vault still has says that it is", err);
}

int secondcheck_whole(const struct secondcheck *c, uint64_t number, struct err *err)
{
    struct checking k = {.c = c, .number = number, .ours_fd = -1};
    int rc = check_all(&k, err);

    checking_done(&k);
    return rc;
}
