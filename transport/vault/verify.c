/* SPDX-License-Identifier: Apache-2.0
 *
 * Verification, see verify.h. A segment is swept from its start to its end, record by record. A damaged payload costs only itself:
 * its header says where the next record begins. Behind a damaged header the next place is searched whose 64 bytes are a header
 * with its checksum; payloads are ciphertext, so nobody who writes on a protected disk can put one there.
 */
#include "transport/vault/verify.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "transport/base/bytes.h"
#include "transport/base/mem.h"
#include "transport/log/mark.h"
#include "transport/log/segment.h"
#include "transport/vault/manifest.h"
#include "transport/vault/pointlist.h"
#include "transport/vault/run.h"
#include "transport/vault/segsweep.h"

#define SEAL_PAYLOAD_SIZE 32u
#define PACE_BYTES (1u << 20)

struct verification {
    const struct verify_spec *spec;
    struct verify_result *result;
    struct segsweep *sweep;
    uint64_t number;
    struct seal_work *work;
    struct record_digest *set;   /* of the change set */
    struct hash_stream *headers; /* of the segment */
    uint64_t set_records, set_bytes, segment_records;
    uint64_t sequence;    /* of the last mark */
    bool set_broken;      /* something of this change set could not be read */
    bool segment_broken;  /* a header of this segment could not be read */
    bool rewritten;       /* records of its change sets were taken out: their marks no longer fit */
    uint64_t paced_bytes; /* since the last call of pace */
    uint8_t *plain;
};

static int result_add(struct verify_result *r, const struct verify_damage *d, struct err *err)
{
    r->damage_count++;
    if (r->listed >= VERIFY_DAMAGES_MAX)
        return 0;
    struct verify_damage *damages = mem_resize(r->damages, r->listed + 1, sizeof(*damages));
    if (damages == NULL)
        return err_set(err, ERR_NOMEM, "no memory to verify");
    r->damages = damages;
    damages[r->listed++] = *d;
    return 0;
}

static int add_damage(struct verify_result *r, enum verify_kind kind, uint64_t segment, uint64_t points_from,
    const char *text, struct err *err)
{
    struct verify_damage d = {.kind = kind, .segment = segment, .points_from = points_from};
    (void)snprintf(d.text, sizeof(d.text), "%.199s", text);
    return result_add(r, &d, err);
}

static int add_place(struct verification *v, enum verify_kind kind, const struct record *record, uint64_t offset,
    uint64_t end, const char *text, struct err *err)
{
    struct verify_damage d = {.kind = kind,
        .segment = v->number,
        .offset = segsweep_place(v->sweep, offset),
        .end = segsweep_place(v->sweep, end),
        .points_from = v->sequence + 1};
    if (record != NULL)
        d.record = *record;
    (void)snprintf(d.text, sizeof(d.text), "%.199s", text);
    return result_add(v->result, &d, err);
}

static void set_reset(struct verification *v)
{
    record_digest_reset(v->set);
    v->set_records = v->set_bytes = 0;
    v->set_broken = false;
}

/* ---- one record; returns what is wrong with it in why, or 0 ---- */

static int check_data(struct verification *v, const struct record *r, const uint8_t *payload, struct err *why)
{
    record_digest_add(v->set, r);
    v->set_records++;
    v->set_bytes += r->length;
    if (r->kind == RECORD_ZERO)
        return 0;
    if (r->cipher == RECORD_PLAIN)
        return err_set(why, ERR_CORRUPT, "the record is not encrypted");
    return seal_open(v->work, r, payload, keyring_key(&v->spec->keys, r->nonce_stream), v->plain, why);
}

/* The mark itself first: without it nothing can be said of its change set. */
static int check_mark(struct verification *v, const struct record *r, const uint8_t *payload, struct err *why)
{
    struct mark *m AUTO_FREE = mem_new(struct mark);
    struct hash128 digest;
    if (m == NULL)
        return err_set(why, ERR_NOMEM, "no memory to verify");
    record_digest_get(v->set, &digest);
    if (mark_decode(r, payload, m, why) < 0)
        return -1;
    if (!v->set_broken && !v->rewritten &&
        (m->record_count != v->set_records || m->changed_bytes != v->set_bytes || !hash_equal(&m->digest, &digest)))
        (void)err_set(why, ERR_CORRUPT, "the change set is not what its mark says");
    v->sequence = m->sequence - 1;
    v->result->marks++;
    return why->code == ERR_NONE ? 0 : -1;
}

static int check_seal(struct verification *v, const uint8_t *payload, uint64_t offset, struct err *why)
{
    struct hash128 headers;
    hash_stream_get(v->headers, &headers);
    if (v->segment_broken) /* that is told already */
        return 0;
    if (get_le64(payload) != v->segment_records || get_le64(payload + 8) != offset ||
        memcmp(payload + 16, headers.bytes, HASH_SIZE) != 0)
        return err_set(why, ERR_CORRUPT, "the seal does not fit what stands before it");
    return 0;
}

static int check_record(
    struct verification *v, const struct record *r, const uint8_t *payload, uint64_t offset, struct err *why)
{
    uint8_t header[RECORD_HEADER_SIZE];
    if (r->kind == RECORD_SEAL)
        return r->stored < SEAL_PAYLOAD_SIZE ? err_set(why, ERR_CORRUPT, "the seal is too short")
                                             : check_seal(v, payload, offset, why);
    record_encode_header(r, header);
    hash_stream_add(v->headers, header, sizeof(header));
    v->segment_records++;
    v->result->records++;
    v->result->bytes += RECORD_HEADER_SIZE + r->stored;
    return r->kind == RECORD_MARK ? check_mark(v, r, payload, why) : check_data(v, r, payload, why);
}

/* ---- a segment ---- */

static bool is_cancelled(const struct verification *v)
{
    return v->spec->cancelled != NULL && atomic_load(v->spec->cancelled);
}

static void count_bytes(struct verification *v, uint64_t n)
{
    if (v->spec->done_bytes != NULL)
        atomic_fetch_add(v->spec->done_bytes, n);
    v->paced_bytes += n;
    if (v->paced_bytes < PACE_BYTES || v->spec->pace == NULL)
        return;
    v->spec->pace(v->spec->pace_arg, v->paced_bytes);
    v->paced_bytes = 0;
}

/* The record at offset, whole. 1; 0: the file ends here; -1 with `why` (ERR_CORRUPT), or another failure. */
static int next_record(
    struct verification *v, uint64_t offset, struct record *ret_record, const uint8_t **ret_payload, struct err *why)
{
    const uint8_t *data;
    size_t have;
    if (segsweep_look(v->sweep, offset, RECORD_HEADER_SIZE, &data, &have, why) < 0)
        return -1;
    if (have == 0)
        return 0;
    if (record_decode_header(data, have, ret_record, why) < 0)
        return -1;
    size_t size = RECORD_HEADER_SIZE + ret_record->stored;
    if (segsweep_look(v->sweep, offset, size, &data, &have, why) < 0)
        return -1;
    if (have < size)
        return err_set(why, ERR_CORRUPT, "the record is cut off");
    *ret_payload = data + RECORD_HEADER_SIZE;
    return 1;
}

/* The first place behind `offset` that is a record's header, or the end of the file. */
static int search_header(struct verification *v, uint64_t offset, uint64_t *ret_next, struct err *err)
{
    for (uint64_t at = offset + 1;;) {
        const uint8_t *data;
        size_t have;
        struct record r;
        if (segsweep_look(v->sweep, at, RECORD_HEADER_SIZE, &data, &have, err) < 0)
            return -1;
        if (have < RECORD_HEADER_SIZE) {
            *ret_next = at + have;
            return 0;
        }
        const uint8_t *found = memmem(data, have, "LWR", 3);
        size_t skip = found == NULL ? have - 2 : (size_t)(found - data);
        if (found != NULL && have - skip >= RECORD_HEADER_SIZE &&
            record_decode_header(found, RECORD_HEADER_SIZE, &r, NULL) == 0) {
            *ret_next = at + skip;
            return 0;
        }
        skip += found != NULL && have - skip >= RECORD_HEADER_SIZE;
        at += skip;
    }
}

/* What follows of a segment that is not the last, behind its last good mark, is torn and does not count. */
static int lost_headers(
    struct verification *v, uint64_t offset, const struct err *why, uint64_t *ret_next, struct err *err)
{
    v->set_broken = v->segment_broken = true;
    if (search_header(v, offset, ret_next, err) < 0)
        return -1;
    return add_place(v, VERIFY_HEADERS, NULL, offset, *ret_next, why->text, err);
}

static int bad_record(
    struct verification *v, const struct record *r, uint64_t at, const struct err *why, struct err *err)
{
    uint64_t end = at + RECORD_HEADER_SIZE + r->stored;
    enum verify_kind kind = r->kind == RECORD_MARK ? VERIFY_MARK : r->kind == RECORD_SEAL ? VERIFY_LOG : VERIFY_PAYLOAD;
    return add_place(v, kind, r, at, end, why->text, err);
}

static int walk_segment(struct verification *v, struct err *err)
{
    uint64_t offset = SEGMENT_HEADER_SIZE;
    while (v->sequence < v->spec->until_sequence) {
        struct record r = {0};
        const uint8_t *payload = NULL;
        struct err why = ERR_INIT;
        uint64_t at = offset;
        if (is_cancelled(v))
            return err_set(err, ERR_CANCELLED, "verification was cancelled");
        int got = next_record(v, at, &r, &payload, &why);
        if (got == 0)
            return 0;
        if (got < 0 && why.code != ERR_CORRUPT && why.code != ERR_UNSUPPORTED) {
            err_copy(err, &why);
            return -1;
        }
        offset = at + RECORD_HEADER_SIZE + r.stored;
        if (got < 0) {
            if (lost_headers(v, at, &why, &offset, err) < 0)
                return -1;
        } else if (check_record(v, &r, payload, at, &why) < 0 && bad_record(v, &r, at, &why, err) < 0) {
            return -1;
        }
        if (got > 0 && r.kind == RECORD_MARK) {
            v->sequence++;
            set_reset(v);
        }
        count_bytes(v, offset - at);
        if (got > 0 && r.kind == RECORD_SEAL)
            return 0;
    }
    return 0;
}

static void verification_done(struct verification *v)
{
    segsweep_close(v->sweep);
    seal_work_free(v->work);
    record_digest_free(v->set);
    hash_stream_free(v->headers);
    free(v->plain);
}

static int open_main(const char *machine_dir, struct err *err)
{
    char *path AUTO_FREE = mem_printf("%s/main", machine_dir);
    if (path == NULL)
        return err_set(err, ERR_NOMEM, "no memory to verify");
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? err_sys(err, errno, "opening %s", path) : fd;
}

static int segment_start(struct verification *v, bool direct, struct verify_span *span, struct err *err)
{
    struct err why = ERR_INIT;
    int dirfd AUTO_CLOSE = open_main(v->spec->machine_dir, err);
    if (dirfd < 0)
        return -1;
    if (segsweep_open(dirfd, v->number, direct, &v->sweep, &why) == 0) {
        span->first_sequence = segsweep_info(v->sweep)->first_sequence;
        v->sequence = span->first_sequence - 1;
        v->rewritten = segsweep_info(v->sweep)->revision > 0;
        return 1;
    }
    span->gone = why.sys_errno == ENOENT;
    return span->gone ? 0 : add_damage(v->result, VERIFY_LOG, v->number, 1, why.text, err);
}

int verify_segment(const struct verify_spec *spec, uint64_t number, bool direct, struct verify_span *ret_span,
    struct verify_result *result, struct err *err)
{
    struct verification v = {.spec = spec,
        .result = result,
        .number = number,
        .work = seal_work_new(),
        .set = record_digest_new(),
        .headers = hash_stream_new(),
        .plain = mem_alloc(1, RECORD_BLOCK_SIZE)};
    int rc = -1;
    *ret_span = (struct verify_span){.number = number};
    if (v.work == NULL || v.set == NULL || v.headers == NULL || v.plain == NULL) {
        rc = err_set(err, ERR_NOMEM, "no memory to verify");
    } else {
        set_reset(&v);
        rc = segment_start(&v, direct, ret_span, err);
        if (rc > 0) {
            rc = walk_segment(&v, err);
            ret_span->last_sequence = v.rewritten ? segsweep_info(v.sweep)->last_sequence : v.sequence;
        }
    }
    verification_done(&v);
    return rc;
}

static void on_mark(void *arg, const struct record *r, const uint8_t *payload, uint64_t end_bytes)
{
    uint64_t *sequence = arg;
    struct mark *m AUTO_FREE = mem_new(struct mark);
    (void)end_bytes;
    if (m != NULL && mark_decode(r, payload, m, NULL) == 0)
        *sequence = m->sequence;
}

/* The last change set of the segments that are left out: what is missing behind them hits no point before it. Where it cannot be read: an earlier
 * one. */
static int sequence_before(const struct verify_spec *spec, uint64_t *ret_sequence, struct err *err)
{
    int dirfd AUTO_CLOSE = spec->after_segment == 0 ? -1 : open_main(spec->machine_dir, err);
    *ret_sequence = 0;
    if (dirfd < 0)
        return spec->after_segment == 0 ? 0 : -1;
    for (uint64_t number = spec->after_segment; number > 0 && *ret_sequence == 0; number--) {
        struct segment_reader *reader AUTO_OF(segment_reader) = NULL;
        uint64_t end;
        bool sealed;
        if (segment_open(dirfd, number, &reader, NULL) < 0)
            continue;
        const struct segment_info *info = segment_reader_info(reader);
        *ret_sequence = info->revision > 0 ? info->last_sequence : info->first_sequence - 1;
        if (info->revision == 0)
            (void)segment_recover(dirfd, number, on_mark, ret_sequence, &end, &sealed, NULL);
    }
    return 0;
}

int verify_order(const struct verify_spec *spec, const struct verify_span *spans, size_t count,
    struct verify_result *result, struct err *err)
{
    uint64_t sequence = 0;
    if ((count == 0 || spans[0].number != spec->after_segment + 1) && sequence_before(spec, &sequence, err) < 0)
        return -1;
    for (size_t i = 0; i < count; i++) {
        const struct verify_span *s = &spans[i];
        uint64_t expected = (i == 0 ? spec->after_segment : s[-1].number) + 1;
        bool gap = s->number != expected;
        if (gap && add_damage(result, VERIFY_LOG, expected, sequence + 1, "segments are missing", err) < 0)
            return -1;
        if (s->first_sequence == 0) /* it could not be opened, which is told */
            continue;
        if (i > 0 && !gap && s->first_sequence > sequence + 1 && s[-1].first_sequence != 0 &&
            add_damage(result, VERIFY_LOG, s->number, sequence + 1, "change sets are missing before it", err) < 0)
            return -1;
        sequence = s->last_sequence > sequence ? s->last_sequence : sequence;
    }
    if (sequence < spec->until_sequence)
        return add_damage(result, VERIFY_LOG, count == 0 ? spec->after_segment + 1 : spans[count - 1].number,
            sequence + 1, "the log ends before what was committed", err);
    return 0;
}

/* ---- which segments there are ---- */

struct numbers {
    uint64_t *items;
    size_t count;
};

static int compare_number(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left;
    uint64_t b = *(const uint64_t *)right;
    return a < b ? -1 : a > b;
}

static int list_segments(const char *path, struct numbers *n, struct err *err)
{
    DIR *dir = opendir(path);
    struct dirent *entry;
    uint64_t number;
    int result = 0;
    if (dir == NULL)
        return err_sys(err, errno, "listing %s", path);
    while (result == 0 && (entry = readdir(dir)) != NULL) {
        if (segment_number_from_name(entry->d_name, &number) < 0)
            continue;
        uint64_t *items = mem_resize(n->items, n->count + 1, sizeof(*items));
        if (items == NULL) {
            result = err_set(err, ERR_NOMEM, "no memory to verify");
            break;
        }
        n->items = items;
        n->items[n->count++] = number;
    }
    (void)closedir(dir);
    if (n->count > 0)
        qsort(n->items, n->count, sizeof(n->items[0]), compare_number);
    return result;
}

/* ---- the index ---- */

/* Does the manifest, as it is now, name the run? */
static bool is_named_now(const struct verify_spec *spec, uint64_t id)
{
    struct manifest m AUTO_MANIFEST = {0};
    if (manifest_load(spec->machine_dir, &spec->machine, &m, NULL) < 0)
        return false;
    for (size_t i = 0; i < m.run_count; i++)
        if (m.runs[i].id == id)
            return true;
    return false;
}

static int check_runs(const struct verify_spec *spec, const struct manifest *m, struct err *why)
{
    char *path AUTO_FREE = mem_printf("%s/runs", spec->machine_dir);
    int dirfd AUTO_CLOSE = path == NULL ? -1 : open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dirfd < 0)
        return err_sys(why, errno, "opening the index runs");
    for (size_t i = 0; i < m->run_count; i++) {
        struct run *run AUTO_OF(run) = NULL;
        struct err gone = ERR_INIT;
        if (run_open(dirfd, m->runs[i].id, &spec->machine, &run, &gone) < 0) {
            if (gone.code == ERR_NOT_FOUND && !is_named_now(spec, m->runs[i].id)) /* merged away since */
                continue;
            err_copy(why, &gone);
            return -1;
        }
        if (run_verify(run, why) < 0)
            return -1;
    }
    return 0;
}

int verify_index(const struct verify_spec *spec, struct verify_result *result, struct err *err)
{
    struct manifest m AUTO_MANIFEST = {0};
    struct err why = ERR_INIT;
    int rc = manifest_load(spec->machine_dir, &spec->machine, &m, &why);
    if (rc < 0 && why.code == ERR_NOT_FOUND)
        return 0; /* nothing was written out yet */
    if (rc == 0)
        rc = check_runs(spec, &m, &why);
    if (rc == 0)
        return 0;
    result->index_damaged = true;
    return add_damage(result, VERIFY_INDEX, 0, 0, why.text, err);
}

/* ---- all of it ---- */

int verify_segments(const char *machine_dir, uint64_t **ret_numbers, size_t *ret_count, struct err *err)
{
    struct numbers n = {0};
    char *path AUTO_FREE = mem_printf("%s/main", machine_dir);
    int rc = path == NULL ? err_set(err, ERR_NOMEM, "no memory to verify") : list_segments(path, &n, err);
    if (rc < 0) {
        free(n.items);
        return -1;
    }
    *ret_numbers = n.items;
    *ret_count = n.count;
    return 0;
}

static int verify_log(const struct verify_spec *spec, struct verify_result *result, struct err *err)
{
    uint64_t *numbers AUTO_FREE = NULL;
    size_t count = 0;
    if (verify_segments(spec->machine_dir, &numbers, &count, err) < 0)
        return -1;
    struct verify_span *spans AUTO_FREE = mem_alloc(count + 1, sizeof(*spans));
    if (spans == NULL)
        return err_set(err, ERR_NOMEM, "no memory to verify");
    for (size_t i = 0; i < count; i++)
        if (verify_segment(spec, numbers[i], i + 1 < count, &spans[i], result, err) < 0)
            return -1;
    return verify_order(spec, spans, count, result, err);
}

int verify_run(const struct verify_spec *spec, struct verify_result *ret_result, struct err *err)
{
    *ret_result = (struct verify_result){0};
    if (verify_log(spec, ret_result, err) == 0 && verify_index(spec, ret_result, err) == 0)
        return 0;
    verify_result_done(ret_result);
    return -1;
}

int verify_result_join(struct verify_result *to, const struct verify_result *from, struct err *err)
{
    to->records += from->records;
    to->bytes += from->bytes;
    to->marks += from->marks;
    to->index_damaged = to->index_damaged || from->index_damaged;
    for (size_t i = 0; i < from->listed; i++)
        if (result_add(to, &from->damages[i], err) < 0)
            return -1;
    to->damage_count += from->damage_count - from->listed;
    return 0;
}

void verify_result_done(struct verify_result *r)
{
    free(r->damages);
    r->damages = NULL;
    r->listed = 0;
}

uint64_t verify_bytes(const char *machine_dir, const uint64_t *numbers, size_t count)
{
    uint64_t total = 0;
    for (size_t i = 0; i < count; i++) {
        char name[SEGMENT_NAME_SIZE];
        struct stat st;
        segment_name(numbers[i], name);
        char *file AUTO_FREE = mem_printf("%s/main/%s", machine_dir, name);
        if (file != NULL && stat(file, &st) == 0)
            total += (uint64_t)st.st_size;
    }
    return total;
}

const char *verify_kind_name(enum verify_kind kind)
{
    static const char *const names[] = {[VERIFY_INDEX] = "index",
        [VERIFY_LOG] = "log",
        [VERIFY_MARK] = "mark",
        [VERIFY_PAYLOAD] = "payload",
        [VERIFY_HEADERS] = "headers"};
    return names[kind];
}
