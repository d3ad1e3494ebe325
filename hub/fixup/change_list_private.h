/* SPDX-License-Identifier: Apache-2.0
 *
 * The list of changes inside: what gathering, telling, making and taking back share.
 */
#ifndef HUB_FIXUP_CHANGE_LIST_PRIVATE_H
#define HUB_FIXUP_CHANGE_LIST_PRIVATE_H

#include "hub/fixup/change_list.h"

#define CHANGE_ARGV_MAX 8
/* Beside the place of an original: there was none; it was a link. */
#define CHANGE_ABSENT ".was-absent"
#define CHANGE_LINK ".was-link"
/* Lists that are kept, by replica; larger than what is told of them, as each may have every change's hash. */
#define GUEST_CHANGES "/var/lib/leeward/replica/changes"
#define CHANGES_TEXT_MAX (8U << 20)

struct change {
    char *fixup, *path, *why;
    char *before, *after; /* NULL: absent */
    mode_t mode;
    bool hidden;                     /* only root may read it in the guest */
    char *argv[CHANGE_ARGV_MAX + 1]; /* argv[0]: it is a program to run */
    char *failure;                   /* of the program */
};

struct change_list {
    const struct guest_tree *tree;
    char *originals, *durable;
    struct change changes[CHANGES_MAX];
    size_t count;
    bool boots;
    char *seen; /* what change_list_text handed out */
    json_t *warnings;
};

int change_list_no_memory(struct err *err);
/* The list that was kept for this replica: 1 with a new reference to its array of changes; 0: none is; -1. */
int change_list_kept(const struct guest_tree *tree, const char *durable, json_t **ret_changes, struct err *err);

#endif
