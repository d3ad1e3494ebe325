/* SPDX-License-Identifier: Apache-2.0
 *
 * The hub's word on a group (control.proto) as a wish, checked: it comes from the cache on disk too.
 */
#ifndef MOBILITY_GROUP_GROUP_DESIRED_H
#define MOBILITY_GROUP_GROUP_DESIRED_H

#include "mobility/group/group.h"
#include "transport/proto/control.pb-c.h"

/* self must be among the members. ERR_INVALID: an id that is none or comes twice, an address that is too long, too many members; the text says which.
 * Names are cut. An address that is none is that machine's matter: it takes no part (group_lead.c says so), and the others need the list. */
int group_desired_read(const Leeward__Control__V1__DesiredGroup *desired, const struct ident *self,
    struct group_wish *ret_wish, struct err *err);

#endif
