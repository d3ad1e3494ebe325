/* SPDX-License-Identifier: Apache-2.0
 *
 * The wrapped key is overwritten in place with random bytes and synced. Copies of it that a file system or a disk keeps where nobody
 * can reach (older versions of the file `meta`, an SSD's spare blocks, a bucket, a backup) open with the vault key alone: rotating that
 * one and destroying the copies of the old makes them useless too (docs/operator-guide.md).
 */
#include "transport/vault/erase.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "transport/base/crashpoint.h"
#include "transport/base/file.h"
#include "transport/base/mem.h"

#define PREFIX ".erased-"

static int destroy_meta(const char *folder, struct err *err)
{
    uint8_t noise[4096];
    struct stat st;
    char *path AUTO_FREE = mem_printf("%s/meta", folder);
    if (path == NULL)
        return err_set(err, ERR_NOMEM, "no memory to erase a machine");
    int fd AUTO_CLOSE = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return errno == ENOENT ? 0 : err_sys(err, errno, "opening %s", path);
    if (fstat(fd, &st) < 0)
        return err_sys(err, errno, "looking at %s", path);
    if (RAND_bytes(noise, sizeof(noise)) != 1)
        return err_set(err, ERR_INTERNAL, "no random numbers to destroy a key with");
    size_t n = (size_t)st.st_size < sizeof(noise) ? (size_t)st.st_size : sizeof(noise);
    if (file_pwrite_all(fd, noise, n, 0, path, err) < 0)
        return -1;
    return fdatasync(fd) < 0 ? err_sys(err, errno, "writing %s", path) : 0;
}

int erase_key(const char *data_dir, const struct ident *machine, struct err *err)
{
    char id[IDENT_TEXT_SIZE];
    ident_to_text(machine, id);
    char *machines AUTO_FREE = mem_printf("%s/machines", data_dir);
    char *from AUTO_FREE = mem_printf("%s/machines/%s", data_dir, id);
    char *to AUTO_FREE = mem_printf("%s/machines/" PREFIX "%s", data_dir, id);
    if (machines == NULL || from == NULL || to == NULL)
        return err_set(err, ERR_NOMEM, "no memory to erase a machine");
    if (file_remove_tree(to, err) < 0) /* of an earlier machine with this id */
        return -1;
    if (rename(from, to) < 0)
        return err_sys(err, errno, "renaming %s", from);
    if (file_sync_dir(machines, err) < 0)
        return -1;
    crashpoint_pass("erase_renamed");
    if (destroy_meta(to, err) < 0)
        return -1;
    crashpoint_pass("erase_key_destroyed");
    return 0;
}

int erase_sweep(const char *data_dir, struct err *err)
{
    char *machines AUTO_FREE = mem_printf("%s/machines", data_dir);
    DIR *dir = machines == NULL ? NULL : opendir(machines);
    struct dirent *entry;
    int result = 0;
    if (dir == NULL)
        return errno == ENOENT ? 0 : err_sys(err, errno, "listing the machines");
    while (result == 0 && (entry = readdir(dir)) != NULL) {
        if (strncmp(entry->d_name, PREFIX, strlen(PREFIX)) != 0)
            continue;
        char *folder AUTO_FREE = mem_printf("%s/%s", machines, entry->d_name);
        result = folder == NULL ? err_set(err, ERR_NOMEM, "no memory to erase a machine") : destroy_meta(folder, err);
        if (result == 0)
            result = file_remove_tree(folder, err);
    }
    (void)closedir(dir);
    return result;
}
