/* SPDX-License-Identifier: Apache-2.0
 *
 * How the helper in the rescue image knows the disks that it was given.
 */
#ifndef HUB_FIXUP_GUEST_DISK_H
#define HUB_FIXUP_GUEST_DISK_H

#define GUEST_DISK_SERIAL "leeward" /* the serial number of disk n is this and n */

#endif
