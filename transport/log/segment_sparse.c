/* SPDX-License-Identifier: Apache-2.0
 *
 * What a rewritten segment has beside its records: the second part of its header, and behind the seal a table that says which
 * points were lost by the rewriting and where each stretch of bytes stood before. FORMAT.md has the bytes.
 *
 * The table is believed only when its hash fits and it makes sense: it comes from a disk.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "transport/base/bytes.h"
#include "transport/base/file.h"
#include "transport/log/segment_format.h"

#define H_VERSION 7
#define H_CHECK 64
#define H_LAST 72
#define H_END 80
#define H_SEAL 88
#define H_CHUNKS 96
#define H_LOST 100
#define H_REVISION 104
#define H_TABLE_HASH 112
#define H_CHECK_2 128
#define H_USED 132
#define VERSION 2

#define LOST_SIZE 16u
#define CHUNK_SIZE 8u

void segment_sparse_header(const struct segment_info *info, const struct segment_sparse *s, const uint8_t *table,
    size_t table_bytes, uint8_t *header)
{
    struct hash128 hash;
    header[H_VERSION] = VERSION;
    put_le32(header + H_CHECK, hash_32(header, H_CHECK));
    put_le64(header + H_LAST, info->last_sequence);
    put_le64(header + H_END, s->end);
    put_le64(header + H_SEAL, s->seal_at);
    put_le32(header + H_CHUNKS, s->chunk_count);
    put_le32(header + H_LOST, s->lost_count);
    put_le32(header + H_REVISION, info->revision);
    hash_128(table, table_bytes, &hash);
    memcpy(header + H_TABLE_HASH, hash.bytes, HASH_SIZE);
    put_le32(header + H_CHECK_2, hash_32(header, H_CHECK_2));
}

int segment_sparse_parse(const uint8_t *header, struct segment_info *info, struct err *err)
{
    if (get_le32(header + H_CHECK_2) != hash_32(header, H_CHECK_2) ||
        !bytes_are_zero(header + H_USED, SEGMENT_HEADER_SIZE - H_USED))
        return err_set(err, ERR_CORRUPT, "header of a rewritten segment fails its checksum");
    info->last_sequence = get_le64(header + H_LAST);
    info->end_bytes = get_le64(header + H_END);
    info->revision = get_le32(header + H_REVISION);
    if (info->revision == 0 || info->last_sequence < info->first_sequence || info->end_bytes < SEGMENT_HEADER_SIZE ||
        info->end_bytes > UINT32_MAX)
        return err_set(err, ERR_CORRUPT, "header of a rewritten segment makes no sense");
    return 0;
}

uint8_t *segment_sparse_table(const struct segment_sparse *s, size_t *ret_bytes)
{
    *ret_bytes = (size_t)s->lost_count * LOST_SIZE + (size_t)s->chunk_count * CHUNK_SIZE;
    uint8_t *table = mem_alloc(1, *ret_bytes + 1);
    uint8_t *p = table;
    for (uint32_t i = 0; table != NULL && i < s->lost_count; i++, p += LOST_SIZE) {
        put_le64(p, s->lost[i].from);
        put_le64(p + 8, s->lost[i].before);
    }
    for (uint32_t i = 0; table != NULL && i < s->chunk_count; i++, p += CHUNK_SIZE) {
        put_le32(p, s->chunks[i].place);
        put_le32(p + 4, s->chunks[i].at);
    }
    return table;
}

/* Chunks ascend, do not overlap in either file, and fill this one from the header to the seal. */
static bool chunks_make_sense(const struct segment_sparse *s)
{
    uint64_t at = SEGMENT_HEADER_SIZE;
    uint64_t place = SEGMENT_HEADER_SIZE;
    for (uint32_t i = 0; i < s->chunk_count; i++) {
        uint64_t next = i + 1 < s->chunk_count ? s->chunks[i + 1].at : s->seal_at;
        if (s->chunks[i].at != at || next <= at || s->chunks[i].place < place)
            return false;
        place = s->chunks[i].place + (next - at);
        at = next;
    }
    return at == s->seal_at && place <= s->end;
}

static bool lost_make_sense(const struct segment_sparse *s)
{
    uint64_t least = 0;
    for (uint32_t i = 0; i < s->lost_count; i++) {
        if (s->lost[i].from < least || s->lost[i].before <= s->lost[i].from)
            return false;
        least = s->lost[i].before;
    }
    return true;
}

static int table_decode(const uint8_t *p, struct segment_sparse *s, struct err *err)
{
    s->lost = mem_alloc((size_t)s->lost_count + 1, sizeof(*s->lost));
    s->chunks = mem_alloc((size_t)s->chunk_count + 1, sizeof(*s->chunks));
    if (s->lost == NULL || s->chunks == NULL)
        return err_set(err, ERR_NOMEM, "no memory for the table of a rewritten segment");
    for (uint32_t i = 0; i < s->lost_count; i++, p += LOST_SIZE)
        s->lost[i] = (struct segment_lost){get_le64(p), get_le64(p + 8)};
    for (uint32_t i = 0; i < s->chunk_count; i++, p += CHUNK_SIZE)
        s->chunks[i] = (struct segment_chunk){get_le32(p), get_le32(p + 4)};
    if (!chunks_make_sense(s) || !lost_make_sense(s))
        return err_set(err, ERR_CORRUPT, "the table of a rewritten segment makes no sense");
    return 0;
}

static int table_read(int fd, const uint8_t *header, struct segment_sparse *s, struct err *err)
{
    struct hash128 hash;
    struct stat st;
    uint64_t bytes = (uint64_t)s->lost_count * LOST_SIZE + (uint64_t)s->chunk_count * CHUNK_SIZE;
    if (fstat(fd, &st) < 0)
        return err_sys(err, errno, "looking at a rewritten segment");
    if (s->seal_at > UINT32_MAX || (uint64_t)st.st_size != s->seal_at + SEGMENT_SEAL_SIZE + bytes)
        return err_set(err, ERR_CORRUPT, "a rewritten segment has another length than its header says");
    uint8_t *table AUTO_FREE = mem_alloc(1, (size_t)bytes + 1);
    if (table == NULL)
        return err_set(err, ERR_NOMEM, "no memory for the table of a rewritten segment");
    if (file_pread_all(fd, table, (size_t)bytes, s->seal_at + SEGMENT_SEAL_SIZE, "segment", err) < 0)
        return -1;
    hash_128(table, (size_t)bytes, &hash);
    if (memcmp(hash.bytes, header + H_TABLE_HASH, HASH_SIZE) != 0)
        return err_set(err, ERR_CORRUPT, "the table of a rewritten segment is damaged");
    return table_decode(table, s, err);
}

int segment_sparse_load(int fd, struct segment_sparse *ret_sparse, struct err *err)
{
    uint8_t header[H_USED];
    if (file_pread_all(fd, header, sizeof(header), 0, "segment", err) < 0)
        return -1;
    *ret_sparse = (struct segment_sparse){.end = get_le64(header + H_END),
        .seal_at = get_le64(header + H_SEAL),
        .chunk_count = get_le32(header + H_CHUNKS),
        .lost_count = get_le32(header + H_LOST)};
    return table_read(fd, header, ret_sparse, err);
}

void segment_sparse_done(struct segment_sparse *s)
{
    free(s->chunks);
    free(s->lost);
    s->chunks = NULL;
    s->lost = NULL;
}

/* Index of the last chunk that begins at or before `place`; chunk_count when none does. */
static uint32_t chunk_before(const struct segment_sparse *s, uint64_t place)
{
    uint32_t low = 0;
    uint32_t high = s->chunk_count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (s->chunks[mid].place <= place)
            low = mid + 1;
        else
            high = mid;
    }
    return low == 0 ? s->chunk_count : low - 1;
}

uint64_t segment_sparse_place(const struct segment_sparse *s, uint64_t at)
{
    uint32_t low = 0;
    uint32_t high = s->chunk_count;
    if (at >= s->seal_at)
        return s->end + (at - s->seal_at);
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (s->chunks[mid].at <= at)
            low = mid + 1;
        else
            high = mid;
    }
    return low == 0 ? at : s->chunks[low - 1].place + (at - s->chunks[low - 1].at);
}

uint64_t segment_sparse_find(const struct segment_sparse *s, uint64_t place, uint64_t *ret_at)
{
    uint32_t i = chunk_before(s, place);
    if (i < s->chunk_count) {
        uint64_t next = i + 1 < s->chunk_count ? s->chunks[i + 1].at : s->seal_at;
        *ret_at = s->chunks[i].at + (place - s->chunks[i].place);
        if (*ret_at < next)
            return place;
        i++;
    } else {
        i = 0;
    }
    *ret_at = i < s->chunk_count ? s->chunks[i].at : s->seal_at;
    return i < s->chunk_count ? s->chunks[i].place : s->end;
}
