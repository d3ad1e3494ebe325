/* SPDX-License-Identifier: Apache-2.0
 *
 * The coordinator of a group: makes one group point at a time with all members (mobility/group/group_round.h), this machine
 * among them. Keeps a channel to each other member; one call per member and group point. All on the event loop.
 */
#ifndef MOBILITY_GROUP_GROUP_LEAD_H
#define MOBILITY_GROUP_GROUP_LEAD_H

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "mobility/group/group_member.h"
#include "mobility/group/group_round.h"
#include "transport/rpc/tls.h"

#define GROUP_NAME_MAX 128

struct group_peer {
    struct ident id;
    char name[GROUP_NAME_MAX];
    char address[300]; /* "" while the hub knows none */
};

struct group_lead;

struct group_lead_conf {
    sd_event *loop;
    struct tls_context *tls; /* of a client */
    struct ident self;
    struct group_member *member;
    void *arg;
    /* A group point is over: made, or missed by `culprit` (an index of the peers) for round->why. */
    void (*over)(void *arg, const struct ident *point, const struct group_round *round);
};

int group_lead_new(const struct group_lead_conf *conf, struct group_lead **ret_lead, struct err *err);
void group_lead_free(struct group_lead *lead); /* aborts what is under way. NULL allowed */

/* The members, this machine among them, at most GROUP_MEMBERS_MAX. What is under way is aborted, without `over`. */
int group_lead_set_peers(struct group_lead *lead, const struct group_peer *peers, unsigned count, struct err *err);
/* Begins a group point; order->kind is PREPARE. `over` may run before it returns. -1: it could not even begin (ERR_CONFLICT: one
 * is under way; ERR_REFUSED: too few members). */
int group_lead_begin(struct group_lead *lead, const struct group_order *order, struct err *err);
bool group_lead_is_busy(const struct group_lead *lead);

#endif
