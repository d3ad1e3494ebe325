/* SPDX-License-Identifier: Apache-2.0
 *
 * A branch is a folder with a file `branch` in it. One without is what creating or discarding left when it was interrupted, and no branch.
 * Discarding gives the folder another name first, which hides it from all others at once; the sweep removes what bears such a name.
 */
#include "transport/vault/branchlist.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "transport/base/file.h"

#define GONE_PREFIX ".gone-"

static void dir_close_indirect(DIR **d)
{
    if (*d != NULL)
        (void)closedir(*d);
}
#define AUTO_DIR __attribute__((cleanup(dir_close_indirect)))

static uint64_t folder_bytes(const char *path)
{
    DIR *d AUTO_DIR = opendir(path);
    struct dirent *entry;
    struct stat st;
    uint64_t sum = 0;
    while (d != NULL && (entry = readdir(d)) != NULL)
        if (fstatat(dirfd(d), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode))
            sum += (uint64_t)st.st_blocks * 512;
    return sum;
}

/* 1: added; 0: it is no branch. */
static int add(struct branch_list *list, const char *path, const char *name, struct err *err)
{
    struct err why = ERR_INIT;
    struct branch_info info = {0};
    bool damaged = branch_load_info(path, &info, &why) < 0;
    if (damaged && why.code == ERR_NOT_FOUND)
        return 0;
    struct branch_entry *items = mem_resize(list->items, list->count + 1, sizeof(*items));
    if (items == NULL)
        return err_set(err, ERR_NOMEM, "no memory to list branches");
    list->items = items;
    struct branch_entry *e = &items[list->count++];
    memset(e, 0, sizeof(*e));
    (void)snprintf(e->name, sizeof(e->name), "%s", name);
    e->damaged = damaged;
    e->info = info;
    if (damaged)
        (void)ident_from_text(name, &e->info.id);
    e->stored_bytes = folder_bytes(path);
    return 1;
}

int branchlist_load(const char *machine_dir, struct branch_list *ret_list, struct err *err)
{
    struct branch_list list AUTO_BRANCH_LIST = {0};
    struct dirent *entry;
    char *folder AUTO_FREE = mem_printf("%s/branches", machine_dir);
    if (folder == NULL)
        return err_set(err, ERR_NOMEM, "no memory to list branches");
    DIR *d AUTO_DIR = opendir(folder);
    if (d == NULL && errno != ENOENT)
        return err_sys(err, errno, "listing %s", folder);
    while (d != NULL && (entry = readdir(d)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        char *path AUTO_FREE = mem_printf("%s/%s", folder, entry->d_name);
        if (path == NULL)
            return err_set(err, ERR_NOMEM, "no memory to list branches");
        if (add(&list, path, entry->d_name, err) < 0)
            return -1;
    }
    *ret_list = list;
    list = (struct branch_list){0};
    return 0;
}

void branchlist_done(struct branch_list *list)
{
    free(list->items);
    *list = (struct branch_list){0};
}

int branchlist_discard(const char *machine_dir, const char *name, struct err *err)
{
    char *folder AUTO_FREE = mem_printf("%s/branches", machine_dir);
    char *path AUTO_FREE = mem_printf("%s/branches/%s", machine_dir, name);
    char *gone AUTO_FREE = mem_printf("%s/branches/" GONE_PREFIX "%s", machine_dir, name);
    if (folder == NULL || path == NULL || gone == NULL)
        return err_set(err, ERR_NOMEM, "no memory to discard a branch");
    if (file_remove_tree(gone, err) < 0)
        return -1;
    if (rename(path, gone) < 0)
        return errno == ENOENT ? 0 : err_sys(err, errno, "discarding the branch %s", name);
    if (file_sync_dir(folder, err) < 0)
        return -1;
    return file_remove_tree(gone, err);
}

int branchlist_sweep(const char *machine_dir, struct err *err)
{
    struct dirent *entry;
    char *folder AUTO_FREE = mem_printf("%s/branches", machine_dir);
    DIR *d AUTO_DIR = folder == NULL ? NULL : opendir(folder);
    while (d != NULL && (entry = readdir(d)) != NULL) {
        if (strncmp(entry->d_name, GONE_PREFIX, strlen(GONE_PREFIX)) != 0)
            continue;
        char *path AUTO_FREE = mem_printf("%s/%s", folder, entry->d_name);
        if (path == NULL || file_remove_tree(path, err) < 0)
            return path == NULL ? err_set(err, ERR_NOMEM, "no memory to discard a branch") : -1;
    }
    return 0;
}
