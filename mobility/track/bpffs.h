/* SPDX-License-Identifier: Apache-2.0
 *
 * The folder on bpffs where an instance of the tracker pins its maps and links, so that they outlive the process. Pins are
 * named within the folder; one process at a time holds its lock.
 */
#ifndef MOBILITY_TRACK_BPFFS_H
#define MOBILITY_TRACK_BPFFS_H

#include <stdbool.h>

#include "transport/base/err.h"

#define BPFFS_ROOT "/sys/fs/bpf/leeward"
#define BPFFS_PATH_MAX 256

struct bpffs {
    char path[BPFFS_PATH_MAX];
    int lock_fd;
};

/* Opens (making what is missing; root NULL: BPFFS_ROOT, with bpffs mounted if needed) and locks. ERR_CONFLICT: in use. */
int bpffs_open(const char *root, const char *instance, struct bpffs *ret_folder, struct err *err);
void bpffs_close(struct bpffs *f);
/* Removes the whole folder with its pins. Absence is success; ERR_CONFLICT: in use. */
int bpffs_destroy(const char *root, const char *instance, struct err *err);

/* Gives the descriptor of a pinned map or link, or -1 when there is none of that name. */
int bpffs_get(const struct bpffs *f, const char *name);
/* Pins under a name, replacing what was there in one step: the old object lives until the new one is in its place. */
int bpffs_put(const struct bpffs *f, const char *name, int fd, struct err *err);
int bpffs_rename(const struct bpffs *f, const char *from, const char *to, struct err *err);
void bpffs_drop(const struct bpffs *f, const char *name); /* absence is success */
void bpffs_drop_all(const struct bpffs *f);
/* Calls each(arg, name) for every pin. */
int bpffs_each(const struct bpffs *f, void (*each)(void *arg, const char *name), void *arg, struct err *err);

#endif
