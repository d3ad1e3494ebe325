/* SPDX-License-Identifier: Apache-2.0
 *
 * Sealing: hash, then zstd, then AES-256-GCM, straight into the output buffer; unsealing in the opposite
 * order. What is compressed is encrypted in place, so a record is touched once per step and never copied.
 *
 * Decompression is bounded by the length in the header, which is at most 64 KiB. Plaintext that fails its tag
 * or its hash is wiped before the caller gets its buffer back.
 *
 * Sources: zstd manual (one context per thread, reused), NIST SP 800-38D (12-byte nonce, unique per key).
 */
#include "transport/log/seal.h"

#include <assert.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <string.h>
#include <zstd.h>

#include "transport/base/bytes.h"
#include "transport/base/mem.h"

#define NONCE_SIZE 12
#define AAD_SIZE 60    /* the header without its checksum */
#define SAVING_SHIFT 4 /* compressed payloads must save 1/16 */
#define LEVEL_MAX 19   /* above it zstd needs tens of megabytes per context for nothing on 64 KiB */
/* Level 1 looks for matches of 6 bytes and more in inputs of 64 KiB. With 5 it stores 1.2 % less of a server's disk in the
 * same time, which makes up for what is lost by compressing each block on its own. */
#define FAST_LEVEL 1
#define FAST_MATCH_BYTES 5

struct cipher_state {
    EVP_CIPHER_CTX *ctx;
    struct seal_key key;
    bool keyed;
};

struct seal_work {
    ZSTD_CCtx *compress;
    int level; /* that it is set to; 0: none yet */
    ZSTD_DCtx *decompress;
    EVP_CIPHER *aes;
    struct cipher_state encrypt;
    struct cipher_state decrypt;
    uint8_t plain[RECORD_BLOCK_SIZE];
    uint8_t coded[RECORD_BLOCK_SIZE];
};

static_assert(EVP_MAX_IV_LENGTH >= NONCE_SIZE, "GCM nonce fits");

struct seal_work *seal_work_new(void)
{
    struct seal_work *w = mem_new(struct seal_work);
    if (w == NULL)
        return NULL;
    w->compress = ZSTD_createCCtx();
    w->decompress = ZSTD_createDCtx();
    w->aes = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
    w->encrypt.ctx = EVP_CIPHER_CTX_new();
    w->decrypt.ctx = EVP_CIPHER_CTX_new();
    if (w->compress == NULL || w->decompress == NULL || w->aes == NULL || w->encrypt.ctx == NULL ||
        w->decrypt.ctx == NULL) {
        seal_work_free(w);
        return NULL;
    }
    return w;
}

void seal_work_free(struct seal_work *w)
{
    if (w == NULL)
        return;
    ZSTD_freeCCtx(w->compress);
    ZSTD_freeDCtx(w->decompress);
    EVP_CIPHER_free(w->aes);
    EVP_CIPHER_CTX_free(w->encrypt.ctx);
    EVP_CIPHER_CTX_free(w->decrypt.ctx);
    OPENSSL_cleanse(w, sizeof(*w));
    free(w);
}

/* ---- the steps ---- */

static bool set_level(struct seal_work *w, int level)
{
    int match_bytes = level == FAST_LEVEL ? FAST_MATCH_BYTES : 0; /* 0: what zstd thinks best */
    if (w->level == level)
        return true;
    w->level = 0;
    if (ZSTD_isError(ZSTD_CCtx_setParameter(w->compress, ZSTD_c_compressionLevel, level)) ||
        ZSTD_isError(ZSTD_CCtx_setParameter(w->compress, ZSTD_c_minMatch, match_bytes)))
        return false;
    w->level = level;
    return true;
}

/* Returns the compressed size, or 0 when it would not save enough. */
static size_t compress_block(struct seal_work *w, const uint8_t *in, uint32_t n, int level, uint8_t *out)
{
    if (!set_level(w, level > LEVEL_MAX ? LEVEL_MAX : level))
        return 0;
    size_t size = ZSTD_compress2(w->compress, out, n - (n >> SAVING_SHIFT), in, n);
    return ZSTD_isError(size) ? 0 : size;
}

static int decompress_block(
    struct seal_work *w, const uint8_t *in, size_t n, uint8_t *out, size_t length, struct err *err)
{
    size_t size = ZSTD_decompressDCtx(w->decompress, out, length, in, n);
    if (ZSTD_isError(size))
        return err_set(err, ERR_CORRUPT, "decompressing: %s", ZSTD_getErrorName(size));
    if (size != length)
        return err_set(err, ERR_CORRUPT, "record decompresses to %zu bytes instead of %zu", size, length);
    return 0;
}

/* The key schedule is kept while the key stays the same: it costs as much as 1 KiB of data. */
static int set_nonce(struct seal_work *w, struct cipher_state *s, bool encrypt, const struct seal_key *key,
    const struct record *r, struct err *err)
{
    uint8_t nonce[NONCE_SIZE];
    put_le32(nonce, r->nonce_stream);
    put_le64(nonce + 4, r->nonce_counter);
    bool same = s->keyed && bytes_equal_ct(&s->key, key, sizeof(*key));
    int ok = EVP_CipherInit_ex2(s->ctx, same ? NULL : w->aes, same ? NULL : key->bytes, nonce, encrypt, NULL);
    if (ok != 1) {
        s->keyed = false;
        return err_set(err, ERR_INTERNAL, "AES-256-GCM cannot be started");
    }
    s->key = *key;
    s->keyed = true;
    return 0;
}

/* Encrypts n bytes from in to out (the same place is allowed) and puts the tag behind. */
static int encrypt_block(struct seal_work *w, const struct seal_key *key, const struct record *r,
    const uint8_t aad[AAD_SIZE], const uint8_t *in, uint32_t n, uint8_t *out, struct err *err)
{
    if (set_nonce(w, &w->encrypt, true, key, r, err) < 0)
        return -1;
    int made = 0;
    EVP_CIPHER_CTX *ctx = w->encrypt.ctx;
    if (EVP_EncryptUpdate(ctx, NULL, &made, aad, AAD_SIZE) != 1 ||
        EVP_EncryptUpdate(ctx, out, &made, in, (int)n) != 1 || made != (int)n ||
        EVP_EncryptFinal_ex(ctx, out + n, &made) != 1 ||
        EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, RECORD_TAG_SIZE, out + n) != 1) {
        w->encrypt.keyed = false;
        return err_set(err, ERR_INTERNAL, "AES-256-GCM failed");
    }
    return 0;
}

static int decrypt_block(struct seal_work *w, const struct seal_key *key, const struct record *r,
    const uint8_t *payload, uint8_t *out, struct err *err)
{
    uint8_t header[RECORD_HEADER_SIZE];
    uint8_t tag[RECORD_TAG_SIZE];
    uint32_t n = r->stored - RECORD_TAG_SIZE;
    record_encode_header(r, header);
    memcpy(tag, payload + n, sizeof(tag));
    if (set_nonce(w, &w->decrypt, false, key, r, err) < 0)
        return -1;
    int made = 0;
    EVP_CIPHER_CTX *ctx = w->decrypt.ctx;
    if (EVP_DecryptUpdate(ctx, NULL, &made, header, AAD_SIZE) != 1 ||
        EVP_DecryptUpdate(ctx, out, &made, payload, (int)n) != 1 || made != (int)n ||
        EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, RECORD_TAG_SIZE, tag) != 1) {
        w->decrypt.keyed = false;
        return err_set(err, ERR_INTERNAL, "AES-256-GCM failed");
    }
    if (EVP_DecryptFinal_ex(ctx, out + n, &made) != 1) {
        OPENSSL_cleanse(out, n);
        (void)err_set(err, ERR_DENIED, "wrong key, or the record was altered: its authentication tag does not fit");
        return err_hint(
            err, "Check that the key belongs to this machine; if it does, restore this part from the source.");
    }
    return 0;
}

static int check_hash(const struct record *r, const uint8_t *plain, struct err *err)
{
    struct hash128 hash;
    hash_128(plain, r->length, &hash);
    if (hash_equal(&hash, &r->hash))
        return 0;
    return err_set(
        err, ERR_CORRUPT, "block at byte %llu of disk %u fails its hash", (unsigned long long)r->start, r->disk);
}

/* ---- sealing ---- */

static void put_header(struct buf *out, struct record *r, struct record *ret_record)
{
    record_encode_header(r, out->data + out->len);
    out->len += RECORD_HEADER_SIZE + r->stored;
    *ret_record = *r;
}

static int check_place(uint64_t start, uint32_t length, struct err *err)
{
    if (length == 0 || length > RECORD_BLOCK_SIZE || length % RECORD_SECTOR != 0 || start % RECORD_SECTOR != 0 ||
        start % RECORD_BLOCK_SIZE + length > RECORD_BLOCK_SIZE)
        return err_set(err, ERR_INVALID, "%u bytes at %llu are not one record", length, (unsigned long long)start);
    return 0;
}

int seal_append_data(struct seal_work *w, uint32_t disk, uint64_t start, const void *data, uint32_t length, int level,
    struct buf *out, struct record *ret_record, struct err *err)
{
    if (check_place(start, length, err) < 0)
        return -1;
    if (bytes_are_zero(data, length))
        return seal_append_zero(disk, start, length, out, ret_record, err);
    if (buf_reserve(out, RECORD_HEADER_SIZE + length, err) < 0)
        return -1;
    struct record r = {.kind = RECORD_DATA, .disk = disk, .start = start, .length = length, .stored = length};
    uint8_t *payload = out->data + out->len + RECORD_HEADER_SIZE;
    hash_128(data, length, &r.hash);
    size_t coded = level > 0 ? compress_block(w, data, length, level, payload) : 0;
    if (coded > 0) {
        r.codec = RECORD_ZSTD;
        r.stored = (uint32_t)coded;
    } else {
        memcpy(payload, data, length);
    }
    put_header(out, &r, ret_record);
    return 0;
}

int seal_append_zero(
    uint32_t disk, uint64_t start, uint64_t length, struct buf *out, struct record *ret_record, struct err *err)
{
    if (length == 0 || length % RECORD_SECTOR != 0 || start % RECORD_SECTOR != 0)
        return err_set(err, ERR_INVALID, "%llu zero bytes at %llu are not whole sectors", (unsigned long long)length,
            (unsigned long long)start);
    if (buf_reserve(out, RECORD_HEADER_SIZE, err) < 0)
        return -1;
    struct record r = {.kind = RECORD_ZERO, .disk = disk, .start = start, .length = length};
    put_header(out, &r, ret_record);
    return 0;
}

static int append_unchanged(
    const struct record *in, const uint8_t *payload, struct buf *out, struct record *ret_record, struct err *err)
{
    if (buf_reserve(out, RECORD_HEADER_SIZE + in->stored, err) < 0)
        return -1;
    if (in->stored > 0)
        memcpy(out->data + out->len + RECORD_HEADER_SIZE, payload, in->stored);
    struct record r = *in;
    put_header(out, &r, ret_record);
    return 0;
}

/* A zero record that keeps the hash it came with, so that the digest of its change set stays the same. */
static int append_zeroed(const struct record *in, struct buf *out, struct record *ret_record, struct err *err)
{
    struct record r = {
        .kind = RECORD_ZERO, .disk = in->disk, .start = in->start, .length = in->length, .hash = in->hash};
    return append_unchanged(&r, NULL, out, ret_record, err);
}

/* Codes the block into the buffer behind its header's place. r->codec and r->stored are set, without a tag.
 */
static const uint8_t *code_payload(
    struct seal_work *w, const uint8_t *payload, int level, struct record *r, uint8_t *room)
{
    if (r->codec == RECORD_RAW && level > 0) {
        size_t coded = compress_block(w, payload, (uint32_t)r->length, level, room);
        if (coded > 0) {
            r->codec = RECORD_ZSTD;
            r->stored = (uint32_t)coded;
            return room;
        }
    }
    return payload;
}

int seal_reseal(struct seal_work *w, const struct record *in, const uint8_t *payload, int level,
    const struct seal_key *key, uint32_t nonce_stream, uint64_t nonce_counter, struct buf *out,
    struct record *ret_record, struct err *err)
{
    if (in->kind != RECORD_DATA)
        return append_unchanged(in, payload, out, ret_record, err);
    if (in->cipher != RECORD_PLAIN)
        return err_set(err, ERR_INVALID, "record is encrypted already");
    if (key != NULL && (nonce_stream == 0 || nonce_counter == 0))
        return err_set(err, ERR_INTERNAL, "no nonce for an encrypted record");
    if (in->codec == RECORD_RAW) {
        if (check_hash(in, payload, err) < 0)
            return -1;
        if (bytes_are_zero(payload, in->length))
            return append_zeroed(in, out, ret_record, err);
    }
    if (buf_reserve(out, RECORD_HEADER_SIZE + in->length + RECORD_TAG_SIZE, err) < 0)
        return -1;
    uint8_t *header = out->data + out->len;
    uint8_t *room = header + RECORD_HEADER_SIZE;
    struct record r = *in;
    const uint8_t *coded = code_payload(w, payload, level, &r, room);
    uint32_t n = r.stored;
    if (key == NULL) {
        if (coded != room)
            memcpy(room, coded, n);
        put_header(out, &r, ret_record);
        return 0;
    }
    r.cipher = RECORD_AES256GCM;
    r.stored = n + RECORD_TAG_SIZE;
    r.nonce_stream = nonce_stream;
    r.nonce_counter = nonce_counter;
    record_encode_header(&r, header);
    if (encrypt_block(w, key, &r, header, coded, n, room, err) < 0)
        return -1;
    put_header(out, &r, ret_record);
    return 0;
}

/* ---- unsealing ---- */

/* Decrypts to where the next step wants it: raw data straight to out. */
static int open_cipher(struct seal_work *w, const struct record *r, const uint8_t *payload, const struct seal_key *key,
    uint8_t *out, const uint8_t **ret_coded, struct err *err)
{
    *ret_coded = payload;
    if (r->cipher == RECORD_PLAIN)
        return 0;
    if (key == NULL)
        return err_set(err, ERR_DENIED, "record is encrypted and there is no key");
    uint8_t *to = r->codec == RECORD_RAW ? out : w->coded;
    *ret_coded = to;
    return decrypt_block(w, key, r, payload, to, err);
}

int seal_open(struct seal_work *w, const struct record *r, const uint8_t *payload, const struct seal_key *key,
    uint8_t *out, struct err *err)
{
    if (r->kind != RECORD_DATA)
        return err_set(err, ERR_INVALID, "not a data record");
    const uint8_t *coded;
    if (open_cipher(w, r, payload, key, out, &coded, err) < 0)
        return -1;
    uint32_t n = r->stored - (r->cipher == RECORD_PLAIN ? 0 : RECORD_TAG_SIZE);
    if (r->codec == RECORD_ZSTD) {
        if (decompress_block(w, coded, n, out, r->length, err) < 0)
            goto wipe;
    } else if (coded != out) {
        memcpy(out, coded, n);
    }
    if (check_hash(r, out, err) == 0)
        return 0;
wipe:
    OPENSSL_cleanse(out, r->length);
    return -1;
}
