/* SPDX-License-Identifier: Apache-2.0
 *
 * What a helper is going to change in a guest, gathered before anything is changed. Fixers read files through the list, which shows what was put
 * before, so that several can edit one file. The list is shown (as JSON) and then applied: nothing is done that was not in it.
 *
 * The original of every file that is changed or removed is kept in the guest, below GUEST_ORIGINALS, whatever it is and holds: for people, for a way back
 * (take_back.h), and for a helper that was killed and comes again. So is the list itself: what an earlier run has changed is told once more. They are
 * kept by replica, as a machine may become one more than once.
 */
#ifndef HUB_FIXUP_CHANGE_LIST_H
#define HUB_FIXUP_CHANGE_LIST_H

#include <jansson.h>
#include <sys/types.h>

#include "hub/fixup/guest_tree.h"
#include "transport/base/mem.h"

#define GUEST_ORIGINALS "/var/lib/leeward/replica/original"
#define CHANGES_MAX 256
#define WARNINGS_MAX 64

struct change_list;

/* replica: the name below GUEST_ORIGINALS, without a slash, not beginning with a dot. The tree must stay open. NULL: no memory. */
struct change_list *change_list_new(const struct guest_tree *tree, const char *replica);
void change_list_free(struct change_list *list);
DEFINE_AUTO(change_list, change_list_free)

const struct guest_tree *change_list_tree(const struct change_list *list);
/* 1: *ret_text is the file's text with all that was put so far, good until the next put; 0: there is none; -1. */
int change_list_text(struct change_list *list, const char *path, const char **ret_text, struct err *err);
/* As guest_tree_list, without what the list removes and with what it makes. */
int change_list_files(struct change_list *list, const char *folder, const char *suffix, json_t *paths, struct err *err);
/* The file shall have this text; NULL: it shall not be there. What it has already is no change. fixup: which fixer, why: for people. */
int change_list_put(struct change_list *list, const char *fixup, const char *path, const char *text, mode_t mode,
    const char *why, struct err *err);
/* A program of the guest's to be run in it after the files are written; `path` is what it makes anew. argv ends with NULL and is copied. */
int change_list_run(struct change_list *list, const char *fixup, const char *path, const char *const *argv,
    const char *why, struct err *err);
/* Something that people should know and that nothing was done about. What a stranger's file says may stand in it. Those above WARNINGS_MAX are left out,
 * which the last one says. */
int change_list_warn(struct change_list *list, struct err *err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The guest has a kernel that is not known to need what change_list_run does for it. */
void change_list_boots(struct change_list *list);

/* {"changes": [{"fixup", "action": "create"|"edit"|"remove"|"run", "path", "why", "lines": ["-old", "+new", ...], "failure"?: why the program that was run
 * did not do it}], "warnings": [...]}, with what an earlier run changed; a new reference, NULL with err. */
json_t *change_list_report(const struct change_list *list, struct err *err);
/* run: runs a program in the guest; its failure is a warning, and its change is told as failed. */
typedef int change_run(const struct guest_tree *tree, char *const *argv, struct err *err);
int change_list_apply(struct change_list *list, change_run *run, struct err *err);
/* After the applying: why no kernel of the guest's will find the replica's disks; NULL: nothing speaks against one. */
const char *change_list_unbootable(const struct change_list *list);

#endif
