/* SPDX-License-Identifier: Apache-2.0
 *
 * The messages of transport/proto/group.proto as plain data, and back. What comes in is bounded and checked: an unknown kind,
 * an id of the wrong size or a PREPARE without its content is ERR_INVALID.
 */
#ifndef MOBILITY_GROUP_GROUP_WIRE_H
#define MOBILITY_GROUP_GROUP_WIRE_H

#include <stdint.h>

#include "mobility/group/group_round.h"
#include "transport/base/buf.h"
#include "transport/base/err.h"
#include "transport/base/ident.h"

#define GROUP_POINT_PATH "/leeward.group.v1.Group/Point"
#define GROUP_MESSAGE_MAX (4u << 10) /* of a message in either direction */

enum group_order_kind {
    GROUP_ORDER_NONE,
    GROUP_ORDER_PREPARE,
    GROUP_ORDER_FREEZE,
    GROUP_ORDER_READ,
    GROUP_ORDER_RELEASE,
    GROUP_ORDER_COMMIT,
    GROUP_ORDER_ABORT,
    GROUP_ORDERS
};

struct group_order {
    enum group_order_kind kind;
    /* PREPARE */
    struct ident group, point;
    uint64_t membership, budget_usec;
    /* ABORT */
    char text[200];
};

/* Packed behind what is in out. */
int group_wire_put_order(const struct group_order *order, struct buf *out, struct err *err);
int group_wire_put_answer(const struct group_answer *answer, struct buf *out, struct err *err);
int group_wire_get_order(const struct buf *message, struct group_order *ret_order, struct err *err);
int group_wire_get_answer(const struct buf *message, struct group_answer *ret_answer, struct err *err);

#endif
