/* SPDX-License-Identifier: Apache-2.0
 *
 * Where an export may be written to: a file that is not there yet, or a block device that nobody uses. What is mounted, held by
 * another driver, protected by Leeward or too small is refused before anything is touched.
 */
#ifndef TRANSPORT_VAULT_DISKTARGET_H
#define TRANSPORT_VAULT_DISKTARGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "transport/base/err.h"

#define DISKTARGET_PART_SUFFIX ".part" /* a file that is not complete has this behind its name */

/* ERR_INVALID: not absolute; ERR_EXISTS: the file is there. protected: paths of devices of this host whose machine is protected. */
int disktarget_check(const char *path, char *const *protected, size_t count, bool *ret_is_device, struct err *err);
/* Opens the device exclusively: ERR_CONFLICT when it is mounted or otherwise in use, ERR_TOO_LARGE when the disk does not fit. */
int disktarget_open_device(const char *path, uint64_t disk_bytes, int *ret_fd, struct err *err);
/* path with DISKTARGET_PART_SUFFIX; `again`: it was begun before and may be there, else ERR_EXISTS. */
int disktarget_open_file(const char *part, bool again, int *ret_fd, struct err *err);

#endif
