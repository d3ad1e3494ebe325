/* SPDX-License-Identifier: Apache-2.0
 *
 * See segment_rewrite.h. The old file is walked once from front to end; its seal is checked, so that damage is not copied into a
 * new, clean looking file. For each record that goes, the sequences that can no longer be read are noted: from its
 * change set up to the next one that must stay readable.
 */
#include "transport/log/segment_rewrite.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "transport/base/buf.h"
#include "transport/base/crashpoint.h"
#include "transport/base/file.h"
#include "transport/log/segment_format.h"

#define LOT_BYTES (1u << 20)
#define NAME_SIZE (SEGMENT_NAME_SIZE + sizeof(SEGMENT_REWRITE_SUFFIX))

struct rewrite {
    const struct segment_rewrite_spec *spec;
    struct segment_reader *reader;
    struct segment_info info;
    int fd;
    uint64_t at;        /* where the next record goes */
    struct buf lot;     /* what is not written yet: it ends at `at` */
    uint64_t sequence;  /* of the change set that is being walked, or a lower one */
    uint64_t told;      /* bytes read and written that went_on does not know of */
    uint64_t stays_end; /* place behind the last record that stayed */
    struct hash_stream *old_headers, *new_headers;
    uint64_t old_records, new_records;
    bool sealed;
    struct segment_sparse sparse;
    size_t chunk_cap, lost_cap;
    struct mark mark;
};

static void temporary_name(uint64_t number, char out[NAME_SIZE])
{
    char name[SEGMENT_NAME_SIZE];
    segment_name(number, name);
    (void)snprintf(out, NAME_SIZE, "%s%s", name, SEGMENT_REWRITE_SUFFIX);
}

/* ---- the table ---- */

static int note_lost(struct rewrite *w, uint64_t from, uint64_t before, struct err *err)
{
    struct segment_sparse *s = &w->sparse;
    struct segment_lost *last = s->lost_count > 0 ? &s->lost[s->lost_count - 1] : NULL;
    if (from >= before)
        return 0;
    if (last != NULL && last->from <= from && from <= last->before) {
        last->before = before > last->before ? before : last->before;
        return 0;
    }
    if (s->lost_count == w->lost_cap) {
        size_t cap = w->lost_cap == 0 ? 16 : w->lost_cap * 2;
        struct segment_lost *lost = mem_resize(s->lost, cap, sizeof(*lost));
        if (lost == NULL)
            return err_set(err, ERR_NOMEM, "no memory to rewrite a segment");
        s->lost = lost;
        w->lost_cap = cap;
    }
    s->lost[s->lost_count++] = (struct segment_lost){from, before};
    return 0;
}

static int compare_lost(const void *left, const void *right)
{
    const struct segment_lost *a = left;
    const struct segment_lost *b = right;
    return a->from < b->from ? -1 : a->from > b->from;
}

/* Adds what the old file had lost already, and joins what touches. */
static int lost_join(struct rewrite *w, struct err *err)
{
    const struct segment_lost *old;
    struct segment_sparse *s = &w->sparse;
    size_t count = segment_reader_lost(w->reader, &old);
    uint32_t kept = 0;
    for (size_t i = 0; i < count; i++)
        if (note_lost(w, old[i].from, old[i].before, err) < 0)
            return -1;
    if (s->lost_count > 0)
        qsort(s->lost, s->lost_count, sizeof(s->lost[0]), compare_lost);
    for (uint32_t i = 0; i < s->lost_count; i++) {
        struct segment_lost *last = kept > 0 ? &s->lost[kept - 1] : NULL;
        if (last != NULL && s->lost[i].from <= last->before)
            last->before = s->lost[i].before > last->before ? s->lost[i].before : last->before;
        else
            s->lost[kept++] = s->lost[i];
    }
    s->lost_count = kept;
    return 0;
}

static int note_chunk(struct rewrite *w, uint64_t place, struct err *err)
{
    struct segment_sparse *s = &w->sparse;
    if (s->chunk_count > 0 && place == w->stays_end)
        return 0;
    if (s->chunk_count == w->chunk_cap) {
        size_t cap = w->chunk_cap == 0 ? 64 : w->chunk_cap * 2;
        struct segment_chunk *chunks = mem_resize(s->chunks, cap, sizeof(*chunks));
        if (chunks == NULL)
            return err_set(err, ERR_NOMEM, "no memory to rewrite a segment");
        s->chunks = chunks;
        w->chunk_cap = cap;
    }
    s->chunks[s->chunk_count++] = (struct segment_chunk){(uint32_t)place, (uint32_t)w->at};
    return 0;
}

/* ---- the walk ---- */

static int lot_write(struct rewrite *w, struct err *err)
{
    if (w->lot.len == 0)
        return 0;
    if (file_pwrite_all(w->fd, w->lot.data, w->lot.len, w->at - w->lot.len, "a rewritten segment", err) < 0)
        return -1;
    (void)sync_file_range(w->fd, (off_t)(w->at - w->lot.len), (off_t)w->lot.len, SYNC_FILE_RANGE_WRITE);
    w->told += w->lot.len;
    buf_clear(&w->lot);
    return 0;
}

static int copy_record(
    struct rewrite *w, const struct record *r, const uint8_t *payload, uint64_t place, struct err *err)
{
    uint8_t header[RECORD_HEADER_SIZE];
    record_encode_header(r, header);
    if (note_chunk(w, place, err) < 0 || buf_append(&w->lot, header, sizeof(header), err) < 0 ||
        buf_append(&w->lot, payload, r->stored, err) < 0)
        return -1;
    hash_stream_add(w->new_headers, header, sizeof(header));
    w->new_records++;
    w->at += RECORD_HEADER_SIZE + r->stored;
    w->stays_end = place + RECORD_HEADER_SIZE + r->stored;
    return w->lot.len >= LOT_BYTES ? lot_write(w, err) : 0;
}

static int take_seal(struct rewrite *w, const struct record *r, const uint8_t *payload, uint64_t place, struct err *err)
{
    struct segment_seal seal;
    struct hash128 headers;
    if (segment_format_parse_seal(r, payload, &seal, err) < 0)
        return -1;
    hash_stream_get(w->old_headers, &headers);
    if (seal.records != w->old_records || !hash_equal(&seal.headers, &headers))
        return err_set(err, ERR_CORRUPT, "the seal does not fit what stands before it");
    w->sparse.end = place;
    w->sealed = true;
    return 0;
}

static int take_record(struct rewrite *w, const struct record *r, const uint8_t *payload, struct err *err)
{
    uint8_t header[RECORD_HEADER_SIZE];
    uint64_t place = segment_reader_place(w->reader);
    bool is_mark = r->kind == RECORD_MARK;
    if (r->kind == RECORD_SEAL)
        return take_seal(w, r, payload, place, err);
    record_encode_header(r, header);
    hash_stream_add(w->old_headers, header, sizeof(header));
    w->old_records++;
    if (is_mark && mark_decode(r, payload, &w->mark, err) < 0)
        return -1;
    if (w->spec->stays(w->spec->arg, r, is_mark ? &w->mark : NULL, place)) {
        if (copy_record(w, r, payload, place, err) < 0)
            return -1;
    } else if (!is_mark && note_lost(w, w->sequence, w->spec->next_needed(w->spec->arg, w->sequence), err) < 0) {
        return -1;
    }
    if (is_mark) {
        w->sequence = w->mark.sequence + 1;
        if (w->info.revision == 0)
            w->info.last_sequence = w->mark.sequence;
    }
    return 0;
}

static int go_on(struct rewrite *w, uint64_t bytes, struct err *err)
{
    w->told += bytes;
    if (w->told < LOT_BYTES || w->spec->went_on == NULL)
        return 0;
    uint64_t since = w->told;
    w->told = 0;
    return w->spec->went_on(w->spec->arg, since, err);
}

static int walk(struct rewrite *w, struct err *err)
{
    uint64_t offset = SEGMENT_HEADER_SIZE;
    for (;;) {
        struct record r;
        const uint8_t *payload;
        int got = segment_read_next(w->reader, &offset, &r, &payload, err);
        if (got < 0)
            return -1;
        if (got == 0)
            break;
        if (take_record(w, &r, payload, err) < 0 || go_on(w, RECORD_HEADER_SIZE + r.stored, err) < 0)
            return -1;
    }
    if (!w->sealed || w->info.last_sequence < w->info.first_sequence)
        return err_set(
            err, ERR_REFUSED, "segment %llu is not sealed behind a mark", (unsigned long long)w->info.number);
    return 0;
}

/* ---- the new file ---- */

/* Seal and table; then the header, which makes it a segment; then the disk. */
static int finish(struct rewrite *w, struct err *err)
{
    uint8_t seal_bytes[SEGMENT_SEAL_SIZE], header[SEGMENT_HEADER_SIZE];
    struct segment_seal seal = {.records = w->new_records, .file_bytes = w->at};
    size_t table_bytes;
    if (lost_join(w, err) < 0 || lot_write(w, err) < 0)
        return -1;
    uint8_t *table AUTO_FREE = segment_sparse_table(&w->sparse, &table_bytes);
    if (table == NULL)
        return err_set(err, ERR_NOMEM, "no memory to rewrite a segment");
    w->sparse.seal_at = w->at;
    w->info.revision++;
    hash_stream_get(w->new_headers, &seal.headers);
    segment_format_seal(&seal, seal_bytes);
    segment_format_header(&w->info, header);
    segment_sparse_header(&w->info, &w->sparse, table, table_bytes, header);
    if (file_pwrite_all(w->fd, seal_bytes, sizeof(seal_bytes), w->at, "a rewritten segment", err) < 0 ||
        file_pwrite_all(w->fd, table, table_bytes, w->at + sizeof(seal_bytes), "a rewritten segment", err) < 0)
        return -1;
    crashpoint_pass("rewrite.body");
    if (file_pwrite_all(w->fd, header, sizeof(header), 0, "a rewritten segment", err) < 0)
        return -1;
    if (fsync(w->fd) < 0)
        return err_sys(err, errno, "syncing a rewritten segment");
    w->at += sizeof(seal_bytes) + table_bytes;
    crashpoint_pass("rewrite.synced");
    return 0;
}

static int begin(struct rewrite *w, struct err *err)
{
    char name[NAME_SIZE];
    temporary_name(w->spec->number, name);
    if (segment_open(w->spec->dirfd, w->spec->number, &w->reader, err) < 0)
        return -1;
    w->info = *segment_reader_info(w->reader);
    w->sequence = w->info.first_sequence;
    w->at = SEGMENT_HEADER_SIZE;
    w->old_headers = hash_stream_new();
    w->new_headers = hash_stream_new();
    if (w->old_headers == NULL || w->new_headers == NULL)
        return err_set(err, ERR_NOMEM, "no memory to rewrite a segment");
    w->fd = openat(w->spec->dirfd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    return w->fd < 0 ? err_sys(err, errno, "creating %s", name) : 0;
}

static void rewrite_free(struct rewrite *w)
{
    segment_reader_close(w->reader);
    if (w->fd >= 0)
        (void)close(w->fd);
    hash_stream_free(w->old_headers);
    hash_stream_free(w->new_headers);
    segment_sparse_done(&w->sparse);
    buf_done(&w->lot);
    free(w);
}

static uint64_t file_bytes(int dirfd, uint64_t number)
{
    char name[SEGMENT_NAME_SIZE];
    struct stat st;
    segment_name(number, name);
    return fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 ? (uint64_t)st.st_size : 0;
}

int segment_rewrite(const struct segment_rewrite_spec *spec, struct segment_rewritten *ret_rewritten, struct err *err)
{
    struct rewrite *w = mem_new(struct rewrite);
    if (w == NULL)
        return err_set(err, ERR_NOMEM, "no memory to rewrite a segment");
    w->spec = spec;
    w->fd = -1;
    buf_init(&w->lot, LOT_BYTES + RECORD_HEADER_SIZE + RECORD_STORED_MAX);
    int result = begin(w, err);
    if (result == 0)
        result = walk(w, err);
    if (result == 0)
        result = finish(w, err);
    if (result == 0)
        *ret_rewritten = (struct segment_rewritten){
            .records = w->new_records, .bytes_before = file_bytes(spec->dirfd, spec->number), .bytes_after = w->at};
    rewrite_free(w);
    if (result == 0)
        return 0;
    segment_rewrite_discard(spec->dirfd, spec->number);
    return err_wrap(err, "rewriting segment %llu", (unsigned long long)spec->number);
}

int segment_rewrite_commit(int dirfd, uint64_t number, struct err *err)
{
    char name[SEGMENT_NAME_SIZE], temporary[NAME_SIZE];
    segment_name(number, name);
    temporary_name(number, temporary);
    if (renameat(dirfd, temporary, dirfd, name) < 0)
        return err_sys(err, errno, "replacing segment %s", name);
    crashpoint_pass("rewrite.renamed");
    if (fsync(dirfd) < 0)
        return err_sys(err, errno, "syncing the folder of segment %s", name);
    return 0;
}

void segment_rewrite_discard(int dirfd, uint64_t number)
{
    char temporary[NAME_SIZE];
    temporary_name(number, temporary);
    (void)unlinkat(dirfd, temporary, 0);
}
