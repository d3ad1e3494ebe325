/* SPDX-License-Identifier: Apache-2.0
 *
 * Encoding and decoding of record headers, walking a batch, and the digest of a change set.
 *
 * A header is believed only after its checksum fits, and only the one combination of fields that each kind
 * allows is let through: what comes behind (the node, the vault's index) works with ranges that are aligned,
 * bounded and do not wrap. The magic and the place of the checksum stay the same in every version, so that a
 * newer version (checksum fits, magic differs) can be told from damage.
 */
#include "transport/log/record.h"

#include <assert.h>
#include <string.h>

#include "transport/base/bytes.h"
#include "transport/base/mem.h"

#define CHECK_OFFSET 60
#define MARK_STORED_MIN 120u
#define MARK_STORED_MAX 16384u
#define SEAL_STORED 32u
#define DISK_BYTES_MAX (1ULL << 62) /* so that start + length never wraps, in signed types either */

static const uint8_t magic[4] = {'L', 'W', 'R', '1'};

static_assert(HASH_SIZE == 16, "the header holds 16 bytes of hash");

void record_encode_header(const struct record *r, uint8_t out[RECORD_HEADER_SIZE])
{
    memcpy(out, magic, sizeof(magic));
    out[4] = (uint8_t)r->kind;
    out[5] = (uint8_t)r->codec;
    out[6] = (uint8_t)r->cipher;
    out[7] = 0;
    put_le32(out + 8, r->disk);
    put_le32(out + 12, r->stored);
    put_le64(out + 16, r->start);
    put_le64(out + 24, r->length);
    memcpy(out + 32, r->hash.bytes, HASH_SIZE);
    put_le32(out + 48, r->nonce_stream);
    put_le64(out + 52, r->nonce_counter);
    put_le32(out + CHECK_OFFSET, hash_32(out, CHECK_OFFSET));
}

static int check_range(const struct record *r, struct err *err)
{
    if (r->disk > RECORD_DISK_MAX)
        return err_set(err, ERR_CORRUPT, "record names disk %u (at most %u)", r->disk, RECORD_DISK_MAX);
    if (r->start % RECORD_SECTOR != 0 || r->length % RECORD_SECTOR != 0 || r->length == 0)
        return err_set(err, ERR_CORRUPT, "record range is not in whole sectors");
    if (r->start > DISK_BYTES_MAX || r->length > DISK_BYTES_MAX - r->start)
        return err_set(err, ERR_CORRUPT, "record range is beyond any disk");
    return 0;
}

static int check_nonce(const struct record *r, struct err *err)
{
    if (r->cipher == RECORD_PLAIN && (r->nonce_stream != 0 || r->nonce_counter != 0))
        return err_set(err, ERR_CORRUPT, "record has a nonce but is not encrypted");
    if (r->cipher == RECORD_AES256GCM && (r->nonce_stream == 0 || r->nonce_counter == 0))
        return err_set(err, ERR_CORRUPT, "encrypted record has no nonce");
    return 0;
}

static int check_data(const struct record *r, struct err *err)
{
    if (check_range(r, err) < 0 || check_nonce(r, err) < 0)
        return -1;
    if (r->length > RECORD_BLOCK_SIZE || r->start / RECORD_BLOCK_SIZE != (r->start + r->length - 1) / RECORD_BLOCK_SIZE)
        return err_set(err, ERR_CORRUPT, "data record crosses a 64 KiB block of its disk");
    uint32_t tag = r->cipher == RECORD_AES256GCM ? RECORD_TAG_SIZE : 0;
    if (r->stored <= tag)
        return err_set(err, ERR_CORRUPT, "data record without a payload");
    uint64_t coded = r->stored - tag;
    if (r->codec == RECORD_RAW ? coded != r->length : coded >= r->length)
        return err_set(err, ERR_CORRUPT, "data record of %llu bytes with a payload of %u",
            (unsigned long long)r->length, r->stored);
    return 0;
}

static int check_zero(const struct record *r, struct err *err)
{
    if (r->stored != 0 || r->codec != RECORD_RAW || r->cipher != RECORD_PLAIN)
        return err_set(err, ERR_CORRUPT, "zero record with a payload");
    if (check_nonce(r, err) < 0)
        return -1;
    return check_range(r, err);
}

static int check_closing(const struct record *r, uint32_t stored_min, uint32_t stored_max, struct err *err)
{
    if (r->disk != 0 || r->start != 0 || r->length != 0 || r->codec != RECORD_RAW || r->cipher != RECORD_PLAIN)
        return err_set(err, ERR_CORRUPT, "mark or seal with fields of a data record");
    if (r->stored < stored_min || r->stored > stored_max || r->stored % 8 != 0)
        return err_set(err, ERR_CORRUPT, "mark or seal with a payload of %u bytes", r->stored);
    return check_nonce(r, err);
}

static int check_record(const struct record *r, struct err *err)
{
    switch (r->kind) {
    case RECORD_DATA:
        return check_data(r, err);
    case RECORD_ZERO:
        return check_zero(r, err);
    case RECORD_MARK:
        return check_closing(r, MARK_STORED_MIN, MARK_STORED_MAX, err);
    case RECORD_SEAL:
        return check_closing(r, SEAL_STORED, SEAL_STORED, err);
    }
    return err_set(err, ERR_CORRUPT, "unknown record kind %u", (unsigned)r->kind);
}

static int check_frame(const uint8_t *in, size_t size, struct err *err)
{
    if (size < RECORD_HEADER_SIZE)
        return err_set(err, ERR_CORRUPT, "record header is cut off after %zu bytes", size);
    bool check_fits = get_le32(in + CHECK_OFFSET) == hash_32(in, CHECK_OFFSET);
    if (memcmp(in, magic, sizeof(magic)) == 0 && check_fits)
        return 0;
    if (memcmp(in, magic, 3) == 0 && check_fits) {
        (void)err_set(
            err, ERR_UNSUPPORTED, "record is of format version 0x%02x, this program reads 0x%02x", in[3], magic[3]);
        return err_hint(err, "Use a Leeward of the version that wrote it, or a newer one.");
    }
    return err_set(err, ERR_CORRUPT, "record header fails its checksum");
}

int record_decode_header(const uint8_t *in, size_t size, struct record *ret_record, struct err *err)
{
    if (check_frame(in, size, err) < 0)
        return -1;
    if (in[5] > RECORD_ZSTD || in[6] > RECORD_AES256GCM || in[7] != 0)
        return err_set(err, ERR_CORRUPT, "unknown codec %u, cipher %u or flags 0x%02x", in[5], in[6], in[7]);
    struct record r = {
        .kind = (enum record_kind)in[4],
        .codec = (enum record_codec)in[5],
        .cipher = (enum record_cipher)in[6],
        .disk = get_le32(in + 8),
        .stored = get_le32(in + 12),
        .start = get_le64(in + 16),
        .length = get_le64(in + 24),
        .nonce_stream = get_le32(in + 48),
        .nonce_counter = get_le64(in + 52),
    };
    memcpy(r.hash.bytes, in + 32, HASH_SIZE);
    if (check_record(&r, err) < 0)
        return -1;
    *ret_record = r;
    return 0;
}

int record_next(const uint8_t *in, size_t size, size_t *offset, struct record *ret_record, const uint8_t **ret_payload,
    struct err *err)
{
    if (*offset == size)
        return 0;
    if (*offset > size)
        return err_set(err, ERR_CORRUPT, "record offset is behind the end");
    const uint8_t *at = in + *offset;
    size_t left = size - *offset;
    struct record r;
    if (record_decode_header(at, left, &r, err) < 0)
        return -1;
    if (r.stored > left - RECORD_HEADER_SIZE)
        return err_set(
            err, ERR_CORRUPT, "record payload is cut off: %zu of %u bytes", left - RECORD_HEADER_SIZE, r.stored);
    *ret_record = r;
    *ret_payload = at + RECORD_HEADER_SIZE;
    *offset += RECORD_HEADER_SIZE + r.stored;
    return 1;
}

/* ---- digest ---- */

struct record_digest {
    struct hash_stream *stream;
};

struct record_digest *record_digest_new(void)
{
    struct record_digest *d = mem_new(struct record_digest);
    if (d == NULL)
        return NULL;
    d->stream = hash_stream_new();
    if (d->stream == NULL) {
        free(d);
        return NULL;
    }
    return d;
}

void record_digest_free(struct record_digest *d)
{
    if (d == NULL)
        return;
    hash_stream_free(d->stream);
    free(d);
}

void record_digest_reset(struct record_digest *d)
{
    hash_stream_reset(d->stream);
}

void record_digest_add(struct record_digest *d, const struct record *r)
{
    uint8_t row[36];
    put_le32(row, r->disk);
    put_le64(row + 4, r->start);
    put_le64(row + 12, r->length);
    memcpy(row + 20, r->hash.bytes, HASH_SIZE);
    hash_stream_add(d->stream, row, sizeof(row));
}

void record_digest_get(const struct record_digest *d, struct hash128 *ret_hash)
{
    hash_stream_get(d->stream, ret_hash);
}
