/* SPDX-License-Identifier: Apache-2.0
 *
 * The way back of fix-ups: before the replica's disks are written to the machine that they came from, what was changed for the replica alone becomes what it
 * was. A file that somebody has changed since is theirs: it stays, and a warning says so.
 */
#ifndef HUB_FIXUP_TAKE_BACK_H
#define HUB_FIXUP_TAKE_BACK_H

#include <jansson.h>

#include "hub/fixup/guest_tree.h"

/* Takes back what was changed for the failover of that id; apply false: only lists it. *ret_report, a new reference: {"changes": [{"fixup", "action":
 * "restore"|"remove", "path", "why", "lines": []}], "warnings": [...], "applied": bool}. What was kept goes away when all of it was taken back. It may be
 * called again after it was killed: what is as it was is told and left. */
int take_back(const struct guest_tree *tree, const char *replica, bool apply, json_t **ret_report, struct err *err);

#endif
