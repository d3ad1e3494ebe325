/* SPDX-License-Identifier: Apache-2.0
 *
 * This machine in its consistency group: who the members are (as the hub said last), who coordinates, when the next group point
 * is due, and what became of the last ones. All on the event loop; the freezing is the capture thread's (sync/group_part.h).
 *
 * The hub names a coordinator. If nothing is heard of it for some time, the next one on the list takes over, and gives way when
 * it is heard again: DESIGN.md says why that needs no election.
 */
#ifndef MOBILITY_GROUP_GROUP_H
#define MOBILITY_GROUP_GROUP_H

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "mobility/group/group_lead.h"
#include "mobility/sync/group_part.h"
#include "transport/rpc/tls.h"

#define GROUP_COMMAND_ID_MAX 64

struct group;

/* What the hub wants. */
struct group_wish {
    struct ident id; /* zero: in no group */
    char name[GROUP_NAME_MAX];
    uint32_t number;
    uint64_t membership;    /* grows with each change of the list */
    uint64_t interval_usec; /* 0: group points only when asked for */
    uint64_t budget_usec;   /* of the freeze; 0: each machine's own */
    struct ident coordinator;
    unsigned count;
    struct group_peer members[GROUP_MEMBERS_MAX];
};

/* What became of a group point; sent by whoever coordinated it. */
struct group_news {
    struct ident group;
    uint64_t over_usec;    /* the attempt was, monotonic: news are told again */
    uint64_t made, missed; /* since this agent coordinates */
    struct ident point;    /* the last one made; zero: none */
    uint64_t made_usec;    /* when that was, monotonic */
    uint64_t freeze_usec;  /* of it: the longest freeze of a member */
    bool last_missed;      /* the last attempt; then: */
    struct ident culprit;
    char cause[320], remedy[240];
};

struct group_conf {
    sd_event *loop;
    struct tls_context *tls;       /* of a client */
    const struct tls_files *files; /* for the server */
    struct ident self;
    const char *listen;
    struct group_part *part;
    void *arg;
    void (*event)(void *arg, const char *severity, const char *code, const char *remedy, const char *text);
    void (*news)(void *arg, const struct group_news *news);
    /* The end of group_make_point: error NULL: made. */
    void (*command_done)(void *arg, const char *command_id, const struct ident *point, const struct err *error);
};

/* conf is copied; what it points to must outlive the group. */
int group_new(const struct group_conf *conf, struct group **ret_group, struct err *err);
void group_free(struct group *g); /* before the part is freed. NULL allowed */

void group_set(struct group *g, const struct group_wish *wish);
/* A group point now, coordinated by this machine. -1: refused; else command_done follows. */
int group_make_point(struct group *g, const char *command_id, const char *group_id, struct err *err);
/* Tells the news again, for they may have been lost: a day's interval is no reason to show old ones for a day. Nothing, where another machine has
 * coordinated since. */
void group_tell_again(struct group *g);
/* The capture thread got further. */
void group_look(struct group *g);
/* The port that is open; 0: none. */
unsigned group_port(const struct group *g);
/* The certificate was renewed. */
int group_reload(struct group *g, struct err *err);

#endif
