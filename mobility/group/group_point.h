/* SPDX-License-Identifier: Apache-2.0
 *
 * Ids of group points. They say by themselves which list of members the point needs, so that whoever sees the marks can tell a
 * complete group point from a half-made one, with nothing else to believe:
 *
 *   bytes 0-3   number of the group, given by the hub, never to another group
 *         4-5   number of its list of members (the low 16 bits), which grows with each change of the list
 *         6-11  time since 1970 in units of 4 ms, 42 bits, around the UUID's version (8): ids of a group sort by age
 *        12-15  random
 *
 * As a UUID of version 8 (RFC 9562, 5.8). The time is the coordinator's. Vaults thin group points by it, so that the same ones stay on all members
 * (transport/vault/thin.h; mark_group_time reads it there); whether a group point is complete does not rest on it.
 */
#ifndef MOBILITY_GROUP_GROUP_POINT_H
#define MOBILITY_GROUP_GROUP_POINT_H

#include <stdbool.h>
#include <stdint.h>

#include "transport/base/err.h"
#include "transport/base/ident.h"

int group_point_new(uint32_t group, uint64_t membership, uint64_t utc_usec, struct ident *ret_id, struct err *err);
/* It belongs to that group and list of members. */
bool group_point_is_of(const struct ident *id, uint32_t group, uint64_t membership);

#endif
