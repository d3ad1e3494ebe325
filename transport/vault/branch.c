/* SPDX-License-Identifier: Apache-2.0
 *
 * A branch's life: its folder, its log, and reading. Writing is in branch_write.c.
 *
 * Opening takes the block map from its snapshot (branch_snapshot.c), reads what the log has behind it, and cuts the last segment behind
 * its last mark: what was written after the last flush before a crash is gone, as on any disk with a write cache. While it is open the folder is locked, so
 * that no two processes append to one log.
 */
#include "transport/vault/branch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "transport/base/buf.h"
#include "transport/base/bytes.h"
#include "transport/base/file.h"
#include "transport/base/hash.h"
#include "transport/base/log.h"
#include "transport/vault/branch_private.h"

#define INFO_MAGIC "LWBRA\0\0\1"
#define INFO_SIZE 80u
#define INFO_HASH (INFO_SIZE - HASH_SIZE)

/* ---- the file `branch` ---- */

static void info_encode(const struct branch_info *info, uint8_t out[INFO_SIZE])
{
    memset(out, 0, INFO_SIZE);
    memcpy(out, INFO_MAGIC, 8);
    memcpy(out + 8, info->id.bytes, IDENT_SIZE);
    memcpy(out + 24, info->machine.bytes, IDENT_SIZE);
    put_le64(out + 40, info->base_sequence);
    put_le64(out + 48, info->created_utc_usec);
    put_le64(out + 56, info->base_check);
    hash_seal(out, INFO_HASH);
}

static int info_decode(const char *dir, const uint8_t *p, size_t n, struct branch_info *ret_info, struct err *err)
{
    if (n != INFO_SIZE || memcmp(p, INFO_MAGIC, 7) != 0)
        return err_set(err, ERR_CORRUPT, "%s is not a branch", dir);
    if (p[7] != (uint8_t)INFO_MAGIC[7])
        return err_set(err, ERR_UNSUPPORTED, "the branch %s has the unknown version %u", dir, p[7]);
    if (!hash_is_sealed(p, INFO_SIZE))
        return err_set(err, ERR_CORRUPT, "the file branch in %s is damaged", dir);
    memcpy(ret_info->id.bytes, p + 8, IDENT_SIZE);
    memcpy(ret_info->machine.bytes, p + 24, IDENT_SIZE);
    ret_info->base_sequence = get_le64(p + 40);
    ret_info->created_utc_usec = get_le64(p + 48);
    ret_info->base_check = get_le64(p + 56);
    return 0;
}

int branch_base_check(const struct mark *m, uint64_t *ret_check, struct err *err)
{
    struct buf out AUTO_BUF = BUF_INIT(MARK_PAYLOAD_MAX + RECORD_HEADER_SIZE);
    struct hash128 hash;
    if (mark_append(m, &out, err) < 0)
        return -1;
    hash_128(out.data + RECORD_HEADER_SIZE, out.len - RECORD_HEADER_SIZE, &hash);
    *ret_check = get_le64(hash.bytes) | 1;
    return 0;
}

static int base_is_gone(uint64_t sequence, struct err *err)
{
    (void)err_set(err, ERR_CORRUPT,
        "the point %llu that the branch stands on is lost with the end of the machine's log",
        (unsigned long long)sequence);
    return err_hint(err, "discard the branch and begin another one on a point that is there");
}

int branch_load_info(const char *branch_dir, struct branch_info *ret_info, struct err *err)
{
    struct buf content AUTO_BUF = BUF_INIT(4096);
    char *path AUTO_FREE = mem_printf("%s/branch", branch_dir);
    if (path == NULL)
        return err_set(err, ERR_NOMEM, "no memory to open a branch");
    if (file_read(path, &content, err) < 0)
        return -1;
    return info_decode(branch_dir, content.data, content.len, ret_info, err);
}

int branch_create(const char *branch_dir, const struct branch_info *info, struct err *err)
{
    struct branch_info there;
    struct err why = ERR_INIT;
    uint8_t content[INFO_SIZE];
    char *path AUTO_FREE = mem_printf("%s/branch", branch_dir);
    if (path == NULL)
        return err_set(err, ERR_NOMEM, "no memory to make a branch");
    if (branch_load_info(branch_dir, &there, &why) == 0) {
        if (there.base_check != info->base_check && there.base_sequence == info->base_sequence)
            return base_is_gone(info->base_sequence, err);
        if (there.base_sequence != info->base_sequence || !ident_equal(&there.machine, &info->machine))
            return err_set(
                err, ERR_CONFLICT, "the branch stands on point %llu already", (unsigned long long)there.base_sequence);
        return 0;
    }
    if (why.code != ERR_NOT_FOUND) {
        err_copy(err, &why);
        return -1;
    }
    if (file_make_dirs(branch_dir, 0700, err) < 0)
        return -1;
    info_encode(info, content);
    return file_replace(path, content, sizeof(content), 0600, err);
}

/* ---- opening ---- */

static int replay_records(struct branch *b, uint64_t number, uint64_t offset, uint64_t end, struct err *err)
{
    struct segment_reader *reader AUTO_OF(segment_reader) = NULL;
    if (segment_open(b->dirfd, number, &reader, err) < 0)
        return -1;
    while (end == 0 || offset < end) {
        struct record r;
        const uint8_t *payload;
        uint64_t at = offset;
        int got = segment_read_next(reader, &offset, &r, &payload, err);
        if (got <= 0)
            return got;
        if (r.kind == RECORD_MARK)
            b->sequence++;
        else if (r.kind != RECORD_SEAL && branch_note(b, &r, number, at, err) < 0)
            return -1;
        b->noted++;
    }
    return 0;
}

static uint64_t last_segment(const struct branch *b)
{
    char name[SEGMENT_NAME_SIZE];
    uint64_t number = 0;
    do {
        segment_name(number + 1, name);
        if (faccessat(b->dirfd, name, F_OK, 0) < 0)
            return number;
        number++;
    } while (true);
}

/* The log ends at `end` of its last segment. */
static int replay_from(struct branch *b, uint64_t end, bool sealed, struct err *err)
{
    struct log_position from;
    branch_snapshot_load(b, b->segment, end, &from);
    b->sequence = from.sequence;
    for (uint64_t number = from.segment; number <= b->segment; number++) {
        bool last = number == b->segment && !sealed;
        uint64_t offset = number == from.segment ? from.offset : SEGMENT_HEADER_SIZE;
        if (replay_records(b, number, offset, last ? end : 0, err) < 0)
            return -1;
    }
    return 0;
}

static int replay(struct branch *b, struct err *err)
{
    uint64_t end;
    bool sealed;
    b->segment = last_segment(b);
    if (b->segment == 0)
        return 0;
    if (segment_recover(b->dirfd, b->segment, NULL, NULL, &end, &sealed, err) < 0 ||
        replay_from(b, end, sealed, err) < 0)
        return -1;
    record_digest_reset(b->digest);
    return sealed ? 0 : segment_reopen(b->dirfd, b->segment, end, &b->writer, err);
}

static int lock_folder(struct branch *b, const char *branch_dir, struct err *err)
{
    b->dirfd = open(branch_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (b->dirfd < 0)
        return err_sys(err, errno, "opening the branch %s", branch_dir);
    if (flock(b->dirfd, LOCK_EX | LOCK_NB) < 0)
        return err_set(err, ERR_CONFLICT, "the branch %s is open already", branch_dir);
    return 0;
}

static int check_base(struct branch *b, const char *branch_dir, struct err *err)
{
    if (branch_load_info(branch_dir, &b->info, err) < 0)
        return -1;
    if (b->info.base_sequence != view_mark(b->base)->sequence)
        return err_set(err, ERR_CONFLICT, "the branch stands on point %llu, not on %llu",
            (unsigned long long)b->info.base_sequence, (unsigned long long)view_mark(b->base)->sequence);
    uint64_t check;
    if (branch_base_check(view_mark(b->base), &check, err) < 0)
        return -1;
    return b->info.base_check == check ? 0 : base_is_gone(b->info.base_sequence, err);
}

int branch_open(const struct branch_conf *conf, struct branch **ret_branch, struct err *err)
{
    struct branch *b AUTO_OF(branch) = mem_new(struct branch);
    if (b == NULL)
        return err_set(err, ERR_NOMEM, "no memory to open a branch");
    (void)pthread_mutex_init(&b->write_lock, NULL);
    (void)pthread_rwlock_init(&b->map_lock, NULL);
    b->dirfd = -1;
    b->base = conf->base;
    b->key = *keyring_key(conf->keys, conf->nonce_stream);
    b->nonce_stream = conf->nonce_stream;
    b->reserve_bytes = conf->reserve_bytes;
    b->dir = mem_strdup(conf->dir);
    b->map = extmap_new();
    b->digest = record_digest_new();
    if (b->dir == NULL || b->map == NULL || b->digest == NULL)
        return err_set(err, ERR_NOMEM, "no memory to open a branch");
    if (lock_folder(b, conf->dir, err) < 0 || check_base(b, conf->dir, err) < 0 || replay(b, err) < 0 ||
        recordread_new(b->dirfd, conf->keys, conf->cache_bytes, &b->records, err) < 0)
        return -1;
    *ret_branch = TAKE_PTR(b);
    return 0;
}

void branch_close(struct branch *b)
{
    struct err err = ERR_INIT;
    if (b == NULL)
        return;
    if (b->writer != NULL && branch_flush(b, &err) < 0)
        log_event(LOG_ERROR, "branch_flush_failed", LOG_E(&err));
    branch_snapshot_take(b, true);
    segment_writer_close(b->writer);
    recordread_free(b->records);
    record_digest_free(b->digest);
    extmap_free(b->map);
    free(b->dir);
    branch_benches_free(b);
    if (b->dirfd >= 0)
        (void)close(b->dirfd);
    (void)pthread_mutex_destroy(&b->write_lock);
    (void)pthread_rwlock_destroy(&b->map_lock);
    free(b);
}

/* ---- reading ---- */

/* The branch's own extent at key (1), or 0 and how far the base is seen (*end is moved). */
static int own_piece(struct branch *b, uint64_t key, uint64_t *end, struct extent *ret_extent)
{
    (void)pthread_rwlock_rdlock(&b->map_lock);
    int got = extmap_find(b->map, key, ret_extent);
    (void)pthread_rwlock_unlock(&b->map_lock);
    if (got == 0 || ret_extent->key >= *end)
        return 0;
    if (ret_extent->key > key) {
        *end = ret_extent->key;
        return 0;
    }
    if (extent_end(ret_extent) < *end)
        *end = extent_end(ret_extent);
    return 1;
}

static int find_piece(
    struct branch *b, uint64_t key, uint64_t end, struct piece *ret_piece, bool *ret_own, struct err *err)
{
    struct extent e;
    *ret_own = own_piece(b, key, &end, &e) > 0;
    if (!*ret_own)
        return view_piece(b->base, key, end, ret_piece, err);
    *ret_piece = (struct piece){
        .kind = (e.flags & EXTENT_ZERO) != 0 ? PIECE_ZERO : PIECE_DATA, .sectors = end - key, .extent = e};
    return 0;
}

int branch_piece(struct branch *b, uint64_t key, uint64_t end, struct piece *ret_piece, struct err *err)
{
    bool own;
    return find_piece(b, key, end, ret_piece, &own, err);
}

static int read_piece(
    struct branch *b, const struct piece *p, bool own, uint64_t start, size_t n, uint8_t *out, struct err *err)
{
    if (p->kind != PIECE_DATA) {
        memset(out, 0, n);
        return 0;
    }
    if (own)
        return recordread_get(b->records, &p->extent, start, n, out, err);
    return view_read_piece(b->base, p, start, n, out, err);
}

int branch_check_range(const struct branch *b, uint32_t disk, uint64_t start, uint64_t n, struct err *err)
{
    const struct mark_disk *d = view_disk(b->base, disk);
    if (d == NULL)
        return err_set(err, ERR_NOT_FOUND, "the machine had no disk %u at that point", disk);
    if (start > d->size_bytes || n > d->size_bytes - start)
        return err_set(err, ERR_INVALID, "the range reaches out of the disk");
    return 0;
}

int branch_read(struct branch *b, uint32_t disk, uint64_t start, size_t n, uint8_t *out, struct err *err)
{
    if (branch_check_range(b, disk, start, n, err) < 0)
        return -1;
    uint64_t end_key = extent_key(disk, start + n + RECORD_SECTOR - 1);
    while (n > 0) {
        struct piece p;
        bool own;
        uint64_t key = extent_key(disk, start);
        if (find_piece(b, key, end_key, &p, &own, err) < 0)
            return -1;
        uint64_t in_piece = extent_key_bytes(key + p.sectors) - start;
        size_t part = in_piece < n ? (size_t)in_piece : n;
        if (read_piece(b, &p, own, start, part, out, err) < 0)
            return -1;
        start += part;
        out += part;
        n -= part;
    }
    return 0;
}
