/* SPDX-License-Identifier: Apache-2.0
 *
 * What reading and writing a guest's files share.
 */
#ifndef HUB_FIXUP_GUEST_TREE_PRIVATE_H
#define HUB_FIXUP_GUEST_TREE_PRIVATE_H

#include "hub/fixup/guest_tree.h"

/* As open(2) in the guest; -1 with errno. */
int guest_tree_open_in(const struct guest_tree *t, const char *path, int flags);

#endif
