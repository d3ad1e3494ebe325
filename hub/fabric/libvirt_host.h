/* SPDX-License-Identifier: Apache-2.0
 *
 * What a libvirt host is asked to do about a replica, in the process that libvirt_child.c starts for it.
 */
#ifndef HUB_FABRIC_LIBVIRT_HOST_H
#define HUB_FABRIC_LIBVIRT_HOST_H

#include "hub/fabric/libvirt_child.h"

/* verb: as in libvirt_ask. Start puts the replica's members into answer, screenshot a PNG at the end of picture. A connection that is lost half-way is made
 * anew, and what was done on it is looked up and gone on with. */
int libvirt_host_work(const char *verb, const struct compute_call *call, const struct libvirt_limits *limits,
    json_t *answer, struct buf *picture, struct err *err);

#endif
