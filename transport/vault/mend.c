/* SPDX-License-Identifier: Apache-2.0
 *
 * One small file per record: damage is rare, a file is replaced in one step, and nobody needs an index to find it.
 */
#include "transport/vault/mend.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "transport/base/file.h"
#include "transport/base/mem.h"
#include "transport/log/segment.h"

#define MEND_NAME_SIZE 40
#define MEND_FILE_MAX (RECORD_HEADER_SIZE + RECORD_STORED_MAX)
#define MEND_LEVEL 1 /* zstd */

static void mend_name(uint64_t segment, uint64_t offset, char out[MEND_NAME_SIZE])
{
    (void)snprintf(out, MEND_NAME_SIZE, "%016llx-%08llx.rec", (unsigned long long)segment, (unsigned long long)offset);
}

/* ---- storing ---- */

static void seal_work_free_indirect(struct seal_work **w)
{
    seal_work_free(*w);
}
#define AUTO_WORK __attribute__((cleanup(seal_work_free_indirect)))

static int seal_one(struct seal_work *work, uint32_t disk, uint64_t start, const uint8_t *plain, uint32_t length,
    const struct keyring *keys, struct mend_nonce *nonce, struct buf *out, struct err *err)
{
    struct buf bare AUTO_BUF = BUF_INIT(MEND_FILE_MAX);
    struct record r, sealed;
    if (seal_append_data(work, disk, start, plain, length, MEND_LEVEL, &bare, &r, err) < 0)
        return -1;
    return seal_reseal(work, &r, bare.data + RECORD_HEADER_SIZE, 0, keyring_key(keys, nonce->stream), nonce->stream,
        ++nonce->counter, out, &sealed, err);
}

int mend_store(const char *machine_dir, uint64_t segment, uint64_t offset, uint32_t disk, uint64_t start,
    const uint8_t *plain, uint32_t length, const struct keyring *keys, struct mend_nonce *nonce, struct err *err)
{
    char name[MEND_NAME_SIZE];
    struct buf out AUTO_BUF = BUF_INIT(MEND_FILE_MAX);
    struct seal_work *work AUTO_WORK = seal_work_new();
    char *dir AUTO_FREE = mem_printf("%s/mend", machine_dir);
    mend_name(segment, offset, name);
    char *path AUTO_FREE = mem_printf("%s/mend/%s", machine_dir, name);
    if (work == NULL || dir == NULL || path == NULL)
        return err_set(err, ERR_NOMEM, "no memory to mend a record");
    if (seal_one(work, disk, start, plain, length, keys, nonce, &out, err) < 0 || file_make_dirs(dir, 0700, err) < 0)
        return -1;
    return file_replace(path, out.data, out.len, 0600, err);
}

/* ---- reading ---- */

int mend_load(
    int main_fd, uint64_t segment, uint64_t offset, struct record *ret_record, uint8_t *payload, struct err *err)
{
    char name[MEND_NAME_SIZE], path[MEND_NAME_SIZE + 16];
    uint8_t header[RECORD_HEADER_SIZE];
    mend_name(segment, offset, name);
    (void)snprintf(path, sizeof(path), "../mend/%s", name);
    int fd AUTO_CLOSE = openat(main_fd, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_sys(err, errno, "opening a mended record");
    if (file_pread_all(fd, header, sizeof(header), 0, name, err) < 0 ||
        record_decode_header(header, sizeof(header), ret_record, err) < 0)
        return -1;
    return payload == NULL ? 0 : file_pread_all(fd, payload, ret_record->stored, sizeof(header), name, err);
}

static bool opens(int main_fd, uint64_t segment, uint64_t offset, const struct keyring *keys)
{
    struct record r;
    struct seal_work *work AUTO_WORK = seal_work_new();
    uint8_t *payload AUTO_FREE = mem_alloc(1, RECORD_STORED_MAX);
    uint8_t *plain AUTO_FREE = mem_alloc(1, RECORD_BLOCK_SIZE);
    if (work == NULL || payload == NULL || plain == NULL || mend_load(main_fd, segment, offset, &r, payload, NULL) < 0)
        return false;
    return r.kind == RECORD_ZERO || seal_open(work, &r, payload, keyring_key(keys, r.nonce_stream), plain, NULL) == 0;
}

bool mend_is_good(const char *machine_dir, uint64_t segment, uint64_t offset, const struct keyring *keys)
{
    char *path AUTO_FREE = mem_printf("%s/main", machine_dir);
    int main_fd AUTO_CLOSE = path == NULL ? -1 : open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return main_fd >= 0 && opens(main_fd, segment, offset, keys);
}

/* ---- sweeping ---- */

static bool segment_is_there(const char *machine_dir, uint64_t number)
{
    char name[SEGMENT_NAME_SIZE];
    struct stat st;
    segment_name(number, name);
    char *path AUTO_FREE = mem_printf("%s/main/%s", machine_dir, name);
    return path == NULL || stat(path, &st) == 0 || errno != ENOENT;
}

int mend_sweep(const char *machine_dir, struct err *err)
{
    char *path AUTO_FREE = mem_printf("%s/mend", machine_dir);
    DIR *dir = path == NULL ? NULL : opendir(path);
    struct dirent *entry;
    if (dir == NULL)
        return errno == ENOENT ? 0 : err_sys(err, errno, "listing the mended records");
    while ((entry = readdir(dir)) != NULL) {
        char *end;
        unsigned long long number = strtoull(entry->d_name, &end, 16);
        if (*end == '-' && end != entry->d_name && !segment_is_there(machine_dir, number))
            (void)unlinkat(dirfd(dir), entry->d_name, 0);
    }
    (void)closedir(dir);
    return 0;
}
