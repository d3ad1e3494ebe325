/* SPDX-License-Identifier: Apache-2.0
 *
 * The class of each 64 KiB block of a disk, two bits each, in memory and, from save to save, in a file. It is a memory, not a truth: a file that
 * is lost, old or damaged costs the alarm some of its sharpness until the blocks are read again.
 *
 * The file is open for moments only, and not mapped: a file system on which something is open for writing cannot be made read-only (sync/readonly.h).
 */
#ifndef MOBILITY_INSIGHT_CLASSMAP_H
#define MOBILITY_INSIGHT_CLASSMAP_H

#include <stdint.h>

#include "mobility/insight/blockclass.h"
#include "transport/base/err.h"

struct classmap;

/* With what the file holds of a disk of this size; there need not be one. */
int classmap_open(const char *path, uint64_t disk_bytes, struct classmap **ret_map, struct err *err);
void classmap_close(struct classmap *m); /* saves, if it can. NULL allowed */
/* Writes what has changed since; nothing has, nothing is done. What could not be written is with the next one. */
int classmap_save(struct classmap *m, struct err *err);
/* start: a byte of the disk; beyond its end everything is unknown and nothing is kept. */
enum blockclass classmap_get(const struct classmap *m, uint64_t start);
void classmap_set(struct classmap *m, uint64_t start, enum blockclass class);

#endif
