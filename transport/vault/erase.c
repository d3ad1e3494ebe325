/* SPDX-License-Identifier: Apache-2.0
 *
 * The wrapped key is overwritten in place with random bytes and synced. Copies of it that a file system or a disk keeps where nobody
 * can reach (older versions of the file `meta`, an SSD's spare blocks, a backup, old versions of a bucket's objects) open with the vault key alone: rotating that
 * one and destroying the copies of the old makes them useless too (docs/operator-guide.md).
 */
#include "transport/vault/erase.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
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
    /* Of an earlier machine with this id, or of an erasure that failed behind the renaming: its key may be there yet. */
    if (destroy_meta(to, err) < 0 || file_remove_tree(to, err) < 0)
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

/* Empties the folder, and removes it unless it is to be kept. */
static int sweep_one(const char *machines, const char *name, bool keep, struct err *err)
{
    char *folder AUTO_FREE = mem_printf("%s/%s", machines, name);
    if (folder == NULL)
        return err_set(err, ERR_NOMEM, "no memory to erase a machine");
    if (destroy_meta(folder, err) < 0)
        return -1;
    if (!keep)
        return file_remove_tree(folder, err);
    DIR *dir = opendir(folder);
    struct dirent *entry;
    int result = 0;
    if (dir == NULL)
        return err_sys(err, errno, "listing %s", folder);
    while (result == 0 && (entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        char *path AUTO_FREE = mem_printf("%s/%s", folder, entry->d_name);
        result = path == NULL ? err_set(err, ERR_NOMEM, "no memory to erase a machine") : file_remove_tree(path, err);
    }
    (void)closedir(dir);
    return result;
}

/* Calls `each` with the name of every erased folder. */
static int walk_erased(const char *data_dir,
    int (*each)(void *arg, const char *machines, const char *name, struct err *err), void *arg, struct err *err)
{
    char *machines AUTO_FREE = mem_printf("%s/machines", data_dir);
    DIR *dir = machines == NULL ? NULL : opendir(machines);
    struct dirent *entry;
    int result = 0;
    if (dir == NULL)
        return machines != NULL && errno == ENOENT ? 0 : err_sys(err, errno, "listing the machines");
    while (result == 0 && (entry = readdir(dir)) != NULL)
        if (strncmp(entry->d_name, PREFIX, strlen(PREFIX)) == 0)
            result = each(arg, machines, entry->d_name, err);
    (void)closedir(dir);
    return result;
}

static int sweep_each(void *arg, const char *machines, const char *name, struct err *err)
{
    return sweep_one(machines, name, *(const bool *)arg, err);
}

int erase_sweep(const char *data_dir, bool keep, struct err *err)
{
    return walk_erased(data_dir, sweep_each, &keep, err);
}

struct ident_list {
    struct ident *items;
    size_t count;
};

static int list_each(void *arg, const char *machines, const char *name, struct err *err)
{
    struct ident_list *list = arg;
    struct ident id;
    (void)machines;
    if (ident_from_text(name + strlen(PREFIX), &id) < 0)
        return 0;
    struct ident *items = mem_resize(list->items, list->count + 1, sizeof(*items));
    if (items == NULL)
        return err_set(err, ERR_NOMEM, "no memory to list erased machines");
    list->items = items;
    items[list->count++] = id;
    return 0;
}

int erase_kept(const char *data_dir, struct ident **ret_machines, size_t *ret_count, struct err *err)
{
    struct ident_list list = {0};
    if (walk_erased(data_dir, list_each, &list, err) < 0) {
        free(list.items);
        return -1;
    }
    *ret_machines = list.items;
    *ret_count = list.count;
    return 0;
}

static char *erased_folder(const char *data_dir, const struct ident *machine)
{
    char id[IDENT_TEXT_SIZE];
    ident_to_text(machine, id);
    return mem_printf("%s/machines/" PREFIX "%s", data_dir, id);
}

bool erase_is_kept(const char *data_dir, const struct ident *machine)
{
    char *folder AUTO_FREE = erased_folder(data_dir, machine);
    return folder == NULL || access(folder, F_OK) == 0;
}

int erase_finish(const char *data_dir, const struct ident *machine, struct err *err)
{
    char *folder AUTO_FREE = erased_folder(data_dir, machine);
    if (folder == NULL)
        return err_set(err, ERR_NOMEM, "no memory to erase a machine");
    return rmdir(folder) < 0 && errno != ENOENT && errno != ENOTEMPTY ? err_sys(err, errno, "removing %s", folder) : 0;
}
