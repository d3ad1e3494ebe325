/* SPDX-License-Identifier: Apache-2.0
 *
 * An index run with any content. Its checksums are made right first, so that what lies behind them is reached.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "transport/base/bytes.h"
#include "transport/base/hash.h"
#include "transport/vault/run.h"
#include "transport/vault/run_format.h"

static char path[] = "/tmp/leeward-fuzz-XXXXXX";

static void folder_remove(void)
{
    (void)rmdir(path);
}

static int folder(void)
{
    static int fd = -1;
    if (fd < 0 && mkdtemp(path) != NULL && atexit(folder_remove) == 0)
        fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd;
}

static void repair(uint8_t *data, size_t n)
{
    if (n >= RUN_BLOCK_SIZE)
        put_le32(data + RUN_H_CHECK, hash_32(data, RUN_H_CHECK));
    for (size_t at = RUN_BLOCK_SIZE; at + RUN_BLOCK_SIZE <= n; at += RUN_BLOCK_SIZE)
        put_le32(data + at, hash_32(data + at + 4, RUN_BLOCK_SIZE - 4));
}

static void use(struct run *r)
{
    const struct run_info *info = run_get_info(r);
    struct extent e;
    uint64_t dead;
    (void)run_verify(r, NULL);
    for (uint64_t key = 0; key < 1u << 20; key += 1777)
        if (run_find(r, key, &e, NULL) > 0 && extent_end(&e) <= key)
            abort();
    for (uint64_t i = 0; i < info->history_count && i < 500; i++)
        (void)run_history_at(r, i, &e, &dead, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ident machine = {{7}};
    struct run *r = NULL;
    char name[RUN_NAME_SIZE];
    uint8_t *copy = malloc(size + 1);
    int dirfd = folder();
    run_name(1, name);
    int fd = openat(dirfd, name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (copy == NULL || fd < 0)
        abort();
    memcpy(copy, data, size);
    repair(copy, size);
    if (write(fd, copy, size) == (ssize_t)size && run_open(dirfd, 1, &machine, &r, NULL) == 0)
        use(r);
    run_close(r);
    (void)close(fd);
    (void)unlinkat(dirfd, name, 0);
    free(copy);
    return 0;
}
