/* SPDX-License-Identifier: Apache-2.0
 *
 * The files of a guest below a folder where its root file system is mounted. Paths are the guest's own, beginning with /; links are followed as
 * the guest would follow them and never lead out of the folder (openat2(2), RESOLVE_IN_ROOT). Texts have at most GUEST_TEXT_MAX bytes.
 */
#ifndef HUB_FIXUP_GUEST_TREE_H
#define HUB_FIXUP_GUEST_TREE_H

#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

#include "transport/base/err.h"

#define GUEST_TEXT_MAX (1U << 20)
#define GUEST_HASH_SIZE 33

struct guest_tree {
    int fd; /* the folder */
};

int guest_tree_open(const char *folder, struct guest_tree *ret_tree, struct err *err);
void guest_tree_close(struct guest_tree *t);

/* Something is there, links followed. */
bool guest_tree_has(const struct guest_tree *t, const char *path);
/* Its permissions (0..0777), links followed; -1: there is nothing. */
int guest_tree_mode(const struct guest_tree *t, const char *path);
enum guest_kind { GUEST_ABSENT, GUEST_FILE, GUEST_LINK, GUEST_OTHER };
/* What has this name, a link itself and not what it leads to. */
enum guest_kind guest_tree_kind(const struct guest_tree *t, const char *path);
/* Of a file's content, as hex digits; no link is followed at its end. 1; 0: it is no file; -1. */
int guest_tree_hash(const struct guest_tree *t, const char *path, char ret_hex[GUEST_HASH_SIZE], struct err *err);
/* 1: *ret_text (NUL-terminated, freed by the caller); 0: no such file, or no text (NUL bytes, not a regular file, too large); -1. */
int guest_tree_read(const struct guest_tree *t, const char *path, char **ret_text, struct err *err);
/* The same of a larger one. */
int guest_tree_read_long(const struct guest_tree *t, const char *path, size_t max, char **ret_text, struct err *err);
/* Full paths of what a folder has whose names end with the suffix, in the order of their names, appended; an absent folder has none. Hidden names and
 * names that are not UTF-8 are left out; at most 512 are given. */
int guest_tree_list(const struct guest_tree *t, const char *folder, const char *suffix, json_t *paths, struct err *err);

/* The folder, to mount something at (/proc/self/fd/N); the caller closes it. -1 without an error: there is none. */
int guest_tree_folder(const struct guest_tree *t, const char *path);

/* Makes the folders on the way; replaces what is there, durably, with all that was there but the content: owner, mode, extended attributes (labels, ACLs,
 * capabilities), without seals of the content (IMA, EVM). What is new is root's, with `mode`, and has the SELinux label of its folder. */
int guest_tree_write(const struct guest_tree *t, const char *path, const char *text, mode_t mode, struct err *err);
/* A file of any size and content, or a link as a link, put to another place, durably, with owner, mode, times and extended attributes. ERR_REFUSED: it
 * is neither; ERR_NOSPACE when a file would leave the other place without room. */
int guest_tree_copy(const struct guest_tree *t, const char *from, const char *to, struct err *err);
/* Absence is success. */
int guest_tree_remove(const struct guest_tree *t, const char *path, struct err *err);
/* A folder with all that is in it; absence is success. */
int guest_tree_remove_all(const struct guest_tree *t, const char *path, struct err *err);

#endif
