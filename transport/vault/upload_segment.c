/* SPDX-License-Identifier: Apache-2.0
 *
 * One segment of the log on its way into the bucket: the open one in pieces, a sealed one as one object, and again when it was rewritten.
 *
 * Another object takes the place of what is there, which is deleted then. So what damage has made of a file must not get that far: where the file was
 * not rewritten it must begin with all that the bucket has; one that was rewritten is verified, record by record. Else the bucket keeps what it has,
 * which is what the damage is healed from.
 */
#include <sys/stat.h>

#include "transport/base/log.h"
#include "transport/vault/upload_private.h"
#include "transport/vault/verify.h"

uint64_t upload_bytes_wanted(const struct upload_turn *t, const struct segment_file *seg)
{
    return seg->number == t->src->committed.segment ? t->src->committed.offset : seg->bytes;
}

/* ---- may it take the place of what is there? ---- */

/* Does the file begin with just that? */
static int begins_with(const struct bucket_file *there, int fd, uint64_t bytes, struct err *err)
{
    for (size_t i = 0; i < there->count; i++) {
        struct hash128 hash;
        if (there->pieces[i].offset + there->pieces[i].bytes > bytes)
            return 0;
        if (upload_hash(fd, there->pieces[i].offset, there->pieces[i].bytes, &hash, err) < 0)
            return -1;
        if (!hash_equal(&hash, &there->pieces[i].hash))
            return 0;
    }
    return 1;
}

static int is_good(const struct upload_turn *t, uint64_t number, struct err *err)
{
    const struct verify_spec spec = {
        .machine_dir = t->src->dir, .machine = t->src->machine, .keys = t->src->keys, .until_sequence = UINT64_MAX};
    struct verify_result result = {0};
    struct verify_span span;
    int rc = verify_segment(&spec, number, false, &span, &result, err);
    bool good = result.damage_count == 0 && !span.gone;

    verify_result_done(&result);
    return rc < 0 ? -1 : good;
}

static bool is_rewritten(const struct folder *folder, uint64_t number)
{
    struct segment_reader *reader AUTO_OF(segment_reader) = NULL;

    return segment_open(folder->main_fd, number, &reader, NULL) == 0 && segment_reader_info(reader)->revision > 0;
}

static bool is_held(const struct upload *u, const struct segment_file *seg)
{
    for (size_t i = 0; i < u->held_count; i++)
        if (u->held[i].number == seg->number && u->held[i].inode == seg->inode)
            return true;
    return false;
}

static int hold(struct upload *u, const struct segment_file *seg, struct err *err)
{
    struct segment_file *held = mem_resize(u->held, u->held_count + 1, sizeof(*held));

    if (held == NULL)
        return err_set(err, ERR_NOMEM, "no memory for the list of segments");
    u->held = held;
    u->held[u->held_count++] = *seg;
    log_event(LOG_ERROR, "bucket_keeps_segment", LOG_U("segment", seg->number),
        LOG_S("why", "what the vault has of it now is damaged"));
    return 0;
}

/* 1; 0: the bucket keeps what it has. */
static int may_replace(struct upload_turn *t, const struct folder *folder, const struct segment_file *seg,
    const struct bucket_file *there, int fd, struct err *err)
{
    if (there == NULL)
        return 1;
    if (is_held(t->u, seg))
        return 0;
    int may = is_rewritten(folder, seg->number) ? is_good(t, seg->number, err)
                                                : begins_with(there, fd, upload_bytes_wanted(t, seg), err);
    if (may == 0 && hold(t->u, seg, err) < 0)
        return -1;
    return may;
}

/* ---- sending ---- */

int upload_segment(struct upload_turn *t, const struct folder *folder, const struct segment_file *seg, struct err *err)
{
    uint64_t to = upload_bytes_wanted(t, seg);
    const struct bucket_file *there = bucketstate_find(&t->u->state, BUCKET_SEGMENT, seg->number);
    const struct bucket_entry file = {.kind = BUCKET_SEGMENT, .number = seg->number};
    bool is_open = seg->number == t->src->committed.segment;
    bool is_split = there != NULL && there->count > 1;

    if (there != NULL && there->bytes == to && (is_open || !is_split || is_held(t->u, seg)))
        return 0;
    AUTO_CLOSE int fd = upload_open_segment(t, folder, seg, err);
    if (fd < 0)
        return -1;
    if (is_open && there != NULL && there->bytes < to && there->count < UPLOAD_PIECES_MAX)
        return upload_send_file(t, &file, fd, there->bytes, to, false, err);
    int may = may_replace(t, folder, seg, there, fd, err);
    if (may < 0)
        return -1;
    if (may > 0)
        return upload_send_file(t, &file, fd, 0, to, !is_open || is_split, err);
    bool goes_on = is_split && there->bytes < to && !is_rewritten(folder, seg->number);
    return goes_on ? upload_send_file(t, &file, fd, there->bytes, to, false, err) : 0;
}
