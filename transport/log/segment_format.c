/* SPDX-License-Identifier: Apache-2.0
 *
 * Names, file header and seal of a segment. The rest of the first 4096 bytes is zero and must be: a bit that
 * flips there is found as well, and a later version has room.
 */
#include "transport/log/segment_format.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "transport/base/bytes.h"
#include "transport/base/file.h"

#define CHECK_OFFSET 64
#define USED_SIZE 68

static const uint8_t magic[8] = {'L', 'W', 'S', 'E', 'G', 0, 0, 1};
#define VERSION_REWRITTEN 2

void segment_name(uint64_t number, char out[SEGMENT_NAME_SIZE])
{
    (void)snprintf(out, SEGMENT_NAME_SIZE, "%016llx.seg", (unsigned long long)number);
}

int segment_number_from_name(const char *name, uint64_t *ret_number)
{
    if (strlen(name) != 20 || strcmp(name + 16, ".seg") != 0)
        return -1;
    uint64_t number = 0;
    for (int i = 0; i < 16; i++) {
        char c = name[i];
        if (c >= '0' && c <= '9')
            number = number << 4 | (uint64_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            number = number << 4 | (uint64_t)(c - 'a' + 10);
        else
            return -1;
    }
    if (number == 0)
        return -1;
    *ret_number = number;
    return 0;
}

void segment_format_header(const struct segment_info *info, uint8_t *out)
{
    memset(out, 0, SEGMENT_HEADER_SIZE);
    memcpy(out, magic, sizeof(magic));
    memcpy(out + 8, info->machine.bytes, IDENT_SIZE);
    memcpy(out + 24, info->log.bytes, IDENT_SIZE);
    put_le64(out + 40, info->number);
    put_le64(out + 48, info->first_sequence);
    put_le64(out + 56, info->created_utc_usec);
    put_le32(out + CHECK_OFFSET, hash_32(out, CHECK_OFFSET));
}

int segment_format_parse(const uint8_t *in, struct segment_info *ret_info, struct err *err)
{
    bool check_fits = get_le32(in + CHECK_OFFSET) == hash_32(in, CHECK_OFFSET);
    bool rewritten = in[7] == VERSION_REWRITTEN;
    if (memcmp(in, magic, 7) == 0 && in[7] != magic[7] && !rewritten && check_fits) {
        (void)err_set(err, ERR_UNSUPPORTED, "segment is of format version %u, this program reads %u and %u", in[7],
            magic[7], VERSION_REWRITTEN);
        return err_hint(err, "Use a Leeward of the version that wrote it, or a newer one.");
    }
    if (memcmp(in, magic, 7) != 0 || !check_fits ||
        (!rewritten && !bytes_are_zero(in + USED_SIZE, SEGMENT_HEADER_SIZE - USED_SIZE)))
        return err_set(err, ERR_CORRUPT, "segment header fails its checksum");
    *ret_info = (struct segment_info){0};
    memcpy(ret_info->machine.bytes, in + 8, IDENT_SIZE);
    memcpy(ret_info->log.bytes, in + 24, IDENT_SIZE);
    ret_info->number = get_le64(in + 40);
    ret_info->first_sequence = get_le64(in + 48);
    ret_info->created_utc_usec = get_le64(in + 56);
    return rewritten ? segment_sparse_parse(in, ret_info, err) : 0;
}

void segment_format_seal(const struct segment_seal *seal, uint8_t *out)
{
    uint8_t *payload = out + RECORD_HEADER_SIZE;
    put_le64(payload, seal->records);
    put_le64(payload + 8, seal->file_bytes);
    memcpy(payload + 16, seal->headers.bytes, HASH_SIZE);
    struct record r = {.kind = RECORD_SEAL, .stored = SEGMENT_SEAL_PAYLOAD};
    hash_128(payload, SEGMENT_SEAL_PAYLOAD, &r.hash);
    record_encode_header(&r, out);
}

int segment_format_parse_seal(
    const struct record *r, const uint8_t *payload, struct segment_seal *ret_seal, struct err *err)
{
    struct hash128 hash;
    hash_128(payload, r->stored, &hash);
    if (r->kind != RECORD_SEAL || !hash_equal(&hash, &r->hash))
        return err_set(err, ERR_CORRUPT, "seal fails its hash");
    ret_seal->records = get_le64(payload);
    ret_seal->file_bytes = get_le64(payload + 8);
    memcpy(ret_seal->headers.bytes, payload + 16, HASH_SIZE);
    return 0;
}

int segment_format_open(
    int dirfd, uint64_t number, int flags, int *ret_fd, struct segment_info *ret_info, struct err *err)
{
    char name[SEGMENT_NAME_SIZE];
    segment_name(number, name);
    AUTO_CLOSE int fd = openat(dirfd, name, flags | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return err_sys(err, errno, "opening segment %s", name);
    struct stat st;
    if (fstat(fd, &st) < 0)
        return err_sys(err, errno, "segment %s", name);
    if (st.st_size < (off_t)SEGMENT_HEADER_SIZE)
        return err_set(err, ERR_NOT_FOUND, "segment %s has no header: it was never completed", name);
    uint8_t header[SEGMENT_HEADER_SIZE];
    if (file_pread_all(fd, header, sizeof(header), 0, name, err) < 0)
        return -1;
    if (segment_format_parse(header, ret_info, err) < 0)
        return err_wrap(err, "segment %s", name);
    if (ret_info->number != number)
        return err_set(
            err, ERR_CORRUPT, "segment %s says that it is number %llu", name, (unsigned long long)ret_info->number);
    *ret_fd = TAKE_FD(fd);
    return 0;
}
