/* SPDX-License-Identifier: Apache-2.0
 *
 * Making the file systems of a disk read-only that cannot be unmounted, as that of the running system. What the kernel still had of them is written
 * before, journal included, and nobody can write from then on: the disk stands still, and its last point needs no recovery.
 *
 * The kernel refuses while a file is open for writing, or was deleted and is still in use; that is passed on, with the name of who has it. It can be forced
 * to (sysrq u), and must not be: on a file system that was forced, ext4's fsync answers success without writing, so a database that was forgotten would
 * go on to promise what no disk has.
 *
 * It is the superblock that is changed (fspick, Linux 5.2), not a mount: so it holds for everybody, whatever mounts this process sees.
 */
#ifndef MOBILITY_SYNC_READONLY_H
#define MOBILITY_SYNC_READONLY_H

#include "mobility/capture/freeze.h"
#include "transport/base/err.h"

/* All of them (freeze_find_mounts), or none. Each gets patience_usec until nobody writes to it any more. run_dir: for what is started beside it.
 * ERR_REFUSED: one is written to; ERR_DENIED: this process may not. Blocks. */
int readonly_set(const struct freeze_mounts *mounts, uint64_t patience_usec, const char *run_dir, struct err *err);
/* They can be written to again. -1: not all of them; asked again, those that can are left as they are. */
int readonly_clear(const struct freeze_mounts *mounts, const char *run_dir, struct err *err);

#endif
