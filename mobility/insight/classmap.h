/* SPDX-License-Identifier: Apache-2.0
 *
 * The class of each 64 KiB block of a disk, two bits each, in a mapped file. It is a memory, not a truth: a file that is lost or
 * damaged costs the alarm some of its sharpness until the blocks are read again.
 */
#ifndef MOBILITY_INSIGHT_CLASSMAP_H
#define MOBILITY_INSIGHT_CLASSMAP_H

#include <stdint.h>

#include "mobility/insight/blockclass.h"
#include "transport/base/err.h"

struct classmap;

/* Makes the file, or one of another size anew in length; what it held of the part that is left stays. */
int classmap_open(const char *path, uint64_t disk_bytes, struct classmap **ret_map, struct err *err);
void classmap_close(struct classmap *m); /* NULL allowed */
/* start: a byte of the disk; beyond its end everything is unknown and nothing is kept. */
enum blockclass classmap_get(const struct classmap *m, uint64_t start);
void classmap_set(struct classmap *m, uint64_t start, enum blockclass class);

#endif
