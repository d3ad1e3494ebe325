/* SPDX-License-Identifier: Apache-2.0
 *
 * The key by which the agent knows a test's disk.
 */
#ifndef TESTS_UNIT_MOBILITY_SYNC_DISKKEY_H
#define TESTS_UNIT_MOBILITY_SYNC_DISKKEY_H

#include <stddef.h>

/* Of the device, e.g. /dev/loop0; fails the running test when the inventory does not list it. */
void disk_key_of(const char *device, char *ret_key, size_t size);

#endif
