/* SPDX-License-Identifier: Apache-2.0
 *
 * Programs of the guest's, run with its root as theirs. Only where that is a virtual machine of its own (rescue image), or a test's.
 */
#ifndef HUB_FIXUP_GUEST_EXEC_H
#define HUB_FIXUP_GUEST_EXEC_H

#include "hub/fixup/guest_tree.h"

/* Until it ends; a status other than 0 is ERR_REFUSED with the last line that it said. */
int guest_exec_run(const struct guest_tree *tree, char *const *argv, struct err *err);
/* The same, and *ret_text is its standard output (freed by the caller; ERR_TOO_LARGE above 16 MiB). */
int guest_exec_ask(const struct guest_tree *tree, const char *const *argv, char **ret_text, struct err *err);

#endif
