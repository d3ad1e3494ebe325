/* SPDX-License-Identifier: Apache-2.0
 *
 * Whether a mount point of the mount table can be reached by its path. Another file system may have been mounted over it or above it
 * since, and the server of that one may be gone: whoever opens such a path waits for ever.
 */
#ifndef MOBILITY_MOUNTPATH_H
#define MOBILITY_MOUNTPATH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* The path leads to a directory of that mount (its number in /proc/self/mountinfo), or of the file system with that device number (st_dev). What the kernel
 * knows without asking a server will do. Where it has to ask one on the way there, it is given 2 s, or a tenth of a second within 10 s of another one that did
 * not answer, and nothing more until it has. Any thread. */
bool mountpath_leads_to_mount(const char *path, uint64_t mount_id);
bool mountpath_leads_to_device(const char *path, dev_t devno);

#endif
