/* SPDX-License-Identifier: Apache-2.0
 *
 * A member of a group: takes orders for one group point at a time, from its own coordinator or from another machine over the
 * network, hands them to the capture thread (mobility/sync/group_part.h) and answers what comes of it. Listens on the group's
 * port while it is in a group; a caller must show a certificate of the role agent whose id is on the list. All on the loop.
 */
#ifndef MOBILITY_GROUP_GROUP_MEMBER_H
#define MOBILITY_GROUP_GROUP_MEMBER_H

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "mobility/group/group_wire.h"
#include "mobility/sync/group_part.h"
#include "transport/base/err.h"
#include "transport/rpc/tls.h"

struct group_member;

struct group_member_conf {
    sd_event *loop;
    const struct tls_files *files;
    const char *listen; /* "0.0.0.0:20004" */
    struct group_part *part;
    void *arg;
    /* A caller on the list; NULL: a stranger. */
    bool (*is_member)(void *arg, const struct ident *id);
    /* May this group point be prepared here? -1 with err. from NULL: this machine itself. */
    int (*may_prepare)(void *arg, const struct ident *from, const struct group_order *order, struct err *err);
};

/* conf is copied; what it points to must outlive the member. */
int group_member_new(const struct group_member_conf *conf, struct group_member **ret_member, struct err *err);
void group_member_free(struct group_member *m); /* NULL allowed */

/* Opens or closes the port. 0: it is as wanted. */
int group_member_listen(struct group_member *m, bool wanted, struct err *err);
unsigned group_member_port(const struct group_member *m);         /* 0: closed */
int group_member_reload(struct group_member *m, struct err *err); /* a renewed certificate */
/* Ends calls of those who are no longer on the list. */
void group_member_recheck(struct group_member *m);

/* Orders from this machine's own coordinator; answers come through `answer`, never from inside this call. The first one is
 * PREPARE. -1: refused, and no answer will come. */
int group_member_order(struct group_member *m, const struct group_order *order,
    void (*answer)(void *arg, const struct group_answer *answer), void *arg, struct err *err);
/* `arg` of an order that was given goes away: what was prepared for it is aborted, and it hears no more. */
void group_member_let_go(struct group_member *m, const void *arg);
/* The capture thread got further. */
void group_member_look(struct group_member *m);

#endif
