/* SPDX-License-Identifier: Apache-2.0
 *
 * Full verification, see verify.h. The log is walked segment by segment, change set by change set. Behind a damaged header
 * nothing tells where the next record begins, so the rest of that segment is given up and the walk goes on with the next one; a
 * damaged payload costs only itself.
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

#define SEAL_PAYLOAD_SIZE 32u

struct verification {
    const struct verify_spec *spec;
    struct verify_result *result;
    int dirfd;
    struct seal_work *work;
    struct record_digest *set;   /* of the change set */
    struct hash_stream *headers; /* of the segment */
    uint64_t set_records, set_bytes, segment_records;
    uint64_t sequence; /* of the last mark */
    bool set_broken;   /* something of this change set could not be read */
    uint8_t *plain;
};

static int add_damage(
    struct verification *v, uint64_t segment, uint64_t offset, uint64_t points_from, const char *text, struct err *err)
{
    struct verify_result *r = v->result;
    r->damage_count++;
    if (r->listed >= VERIFY_DAMAGES_MAX)
        return 0;
    struct verify_damage *damages = mem_resize(r->damages, r->listed + 1, sizeof(*damages));
    if (damages == NULL)
        return err_set(err, ERR_NOMEM, "no memory to verify");
    r->damages = damages;
    struct verify_damage *d = &damages[r->listed++];
    *d = (struct verify_damage){.segment = segment, .offset = offset, .points_from = points_from};
    (void)snprintf(d->text, sizeof(d->text), "%s", text);
    return 0;
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
    return seal_open(v->work, r, payload, &v->spec->key, v->plain, why);
}

static int check_mark(struct verification *v, const struct record *r, const uint8_t *payload, struct err *why)
{
    struct mark *m AUTO_FREE = mem_new(struct mark);
    struct hash128 digest;
    if (m == NULL)
        return err_set(why, ERR_NOMEM, "no memory to verify");
    record_digest_get(v->set, &digest);
    int result = mark_decode(r, payload, m, why);
    if (result == 0 && !v->set_broken &&
        (m->record_count != v->set_records || m->changed_bytes != v->set_bytes || !hash_equal(&m->digest, &digest)))
        result = err_set(why, ERR_CORRUPT, "the change set is not what its mark says");
    if (result == 0) {
        v->sequence = m->sequence;
        v->result->marks++;
    }
    set_reset(v);
    return result;
}

static int check_seal(struct verification *v, const uint8_t *payload, uint64_t offset, struct err *why)
{
    struct hash128 headers;
    hash_stream_get(v->headers, &headers);
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

/* ---- the log ---- */

static bool is_cancelled(const struct verification *v)
{
    return v->spec->cancelled != NULL && atomic_load(v->spec->cancelled);
}

static int walk_segment(struct verification *v, struct segment_reader *reader, uint64_t number, struct err *err)
{
    uint64_t offset = SEGMENT_HEADER_SIZE;
    while (v->sequence < v->spec->until_sequence) {
        struct record r;
        const uint8_t *payload;
        struct err why = ERR_INIT;
        uint64_t at = offset;
        if (is_cancelled(v))
            return err_set(err, ERR_CANCELLED, "verification was cancelled");
        int got = segment_read_next(reader, &offset, &r, &payload, &why);
        if (got == 0)
            return 0;
        if (got < 0) {
            v->set_broken = true;
            return add_damage(v, number, at, v->sequence + 1, why.text, err);
        }
        if (check_record(v, &r, payload, at, &why) < 0 && add_damage(v, number, at, v->sequence + 1, why.text, err) < 0)
            return -1;
        if (v->spec->done_bytes != NULL)
            atomic_fetch_add(v->spec->done_bytes, offset - at);
    }
    return 0;
}

static int verify_segment(struct verification *v, uint64_t number, struct err *err)
{
    struct segment_reader *reader AUTO_OF(segment_reader) = NULL;
    struct err why = ERR_INIT;
    hash_stream_reset(v->headers);
    v->segment_records = 0;
    if (segment_open(v->dirfd, number, &reader, &why) == 0)
        return walk_segment(v, reader, number, err);
    v->set_broken = true;
    return add_damage(v, number, 0, v->sequence + 1, why.text, err);
}

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

static int verify_log(struct verification *v, const struct numbers *n, struct err *err)
{
    set_reset(v);
    for (size_t i = 0; i < n->count; i++) {
        if (i > 0 && n->items[i] != n->items[i - 1] + 1 &&
            add_damage(v, n->items[i - 1] + 1, 0, v->sequence + 1, "segments are missing", err) < 0)
            return -1;
        if (v->sequence < v->spec->until_sequence && verify_segment(v, n->items[i], err) < 0)
            return -1;
    }
    if (v->sequence < v->spec->until_sequence)
        return add_damage(v, n->count == 0 ? 1 : n->items[n->count - 1], 0, v->sequence + 1,
            "the log ends before what was committed", err);
    return 0;
}

/* ---- the index ---- */

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
            if (gone.code == ERR_NOT_FOUND) /* merged away since the manifest was read */
                continue;
            err_copy(why, &gone);
            return -1;
        }
        if (run_verify(run, why) < 0)
            return -1;
    }
    return 0;
}

static int verify_index(struct verification *v, struct err *err)
{
    struct manifest m AUTO_MANIFEST = {0};
    struct err why = ERR_INIT;
    int result = manifest_load(v->spec->machine_dir, &v->spec->machine, &m, &why);
    if (result < 0 && why.code == ERR_NOT_FOUND)
        return 0; /* nothing was written out yet */
    if (result == 0)
        result = check_runs(v->spec, &m, &why);
    if (result == 0)
        return 0;
    v->result->index_damaged = true;
    return add_damage(v, 0, 0, 0, why.text, err);
}

/* ---- all of it ---- */

static void verification_done(struct verification *v)
{
    seal_work_free(v->work);
    record_digest_free(v->set);
    hash_stream_free(v->headers);
    free(v->plain);
    if (v->dirfd >= 0)
        (void)close(v->dirfd);
}

int verify_run(const struct verify_spec *spec, struct verify_result *ret_result, struct err *err)
{
    struct numbers n = {0};
    char *path AUTO_FREE = mem_printf("%s/main", spec->machine_dir);
    struct verification v = {.spec = spec,
        .result = ret_result,
        .dirfd = path == NULL ? -1 : open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
        .work = seal_work_new(),
        .set = record_digest_new(),
        .headers = hash_stream_new(),
        .plain = mem_alloc(1, RECORD_BLOCK_SIZE)};
    int result = 0;
    *ret_result = (struct verify_result){0};
    if (path == NULL || v.work == NULL || v.set == NULL || v.headers == NULL || v.plain == NULL)
        result = err_set(err, ERR_NOMEM, "no memory to verify");
    else if (v.dirfd < 0)
        result = err_sys(err, errno, "opening %s", path);
    if (result == 0)
        result = list_segments(path, &n, err);
    if (result == 0)
        result = verify_log(&v, &n, err);
    if (result == 0)
        result = verify_index(&v, err);
    free(n.items);
    verification_done(&v);
    if (result < 0)
        verify_result_done(ret_result);
    return result;
}

void verify_result_done(struct verify_result *r)
{
    free(r->damages);
    r->damages = NULL;
    r->listed = 0;
}

uint64_t verify_total_bytes(const char *machine_dir)
{
    struct err err = ERR_INIT;
    struct numbers n = {0};
    uint64_t total = 0;
    char *path AUTO_FREE = mem_printf("%s/main", machine_dir);
    if (path == NULL || list_segments(path, &n, &err) < 0)
        return 0;
    for (size_t i = 0; i < n.count; i++) {
        char name[SEGMENT_NAME_SIZE];
        struct stat st;
        segment_name(n.items[i], name);
        char *file AUTO_FREE = mem_printf("%s/%s", path, name);
        if (file != NULL && stat(file, &st) == 0)
            total += (uint64_t)st.st_size;
    }
    free(n.items);
    return total;
}
