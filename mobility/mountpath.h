/* SPDX-License-Identifier: Apache-2.0
 *
 * Whether a mount point of the mount table can be reached by its path. Another file system may have been mounted over it or above it
 * since, and the server of that one may be gone: whoever opens such a path waits for ever.
 */
#ifndef MOBILITY_MOUNTPATH_H
#define MOBILITY_MOUNTPATH_H

#include <stdbool.h>
#include <sys/types.h>

/* The path leads to a directory of the file system with that device number (st_dev; 0: of any). What the kernel knows without asking a server will do; where
 * it has to ask one on the way there, it is given 2 s once, and nothing more until it has answered. Any thread. */
bool mountpath_leads_to(const char *path, dev_t devno);

#endif
