/* SPDX-License-Identifier: Apache-2.0
 *
 * Placement as rows: nodes and machines as hub/core/placement.h wants them, and the steps of a move. What must hear of a change
 * (nodes, agent) converges anew. Everything in the caller's transaction, if there is one.
 */
#ifndef HUB_DB_PLACEMENT_STORE_H
#define HUB_DB_PLACEMENT_STORE_H

#include "hub/core/placement.h"
#include "hub/db/db.h"
#include "transport/base/ident.h"

struct placement_picture {
    struct placement_fleet fleet; /* points into this */
    struct placement_node *nodes;
    struct placement_machine *machines;
    char (*node_ids)[IDENT_TEXT_SIZE];
    char (*machine_ids)[IDENT_TEXT_SIZE];
};
/* What machines changed in the last ten minutes, as far as it was reported. It is new once a minute, and costs more to sum up than all the rest of a picture:
 * who looks more often keeps it from one look to the next. Begins as zeros. */
struct placement_churn {
    int64_t minute; /* that was nearest when it was read: at half past one, the one before has been reported */
    size_t count;
    char (*machine_ids)[IDENT_TEXT_SIZE]; /* in order */
    uint64_t *bytes_per_sec;
};
void placement_churn_done(struct placement_churn *churn);
/* Notes that somebody looks, and reads all nodes and all protected machines that are not simulated; the churn only where it was
 * read near another minute. */
int placement_picture_read(
    struct db_conn *conn, struct placement_churn *churn, struct placement_picture *ret_picture, struct err *err);
void placement_picture_done(struct placement_picture *picture);
#define AUTO_PLACEMENT_PICTURE __attribute__((cleanup(placement_picture_done)))

/* Notes that somebody looks, between two pictures that are far from each other. */
int placement_watching(struct db_conn *conn, struct err *err);

struct placement_where {
    char node_id[IDENT_TEXT_SIZE], next_id[IDENT_TEXT_SIZE]; /* "": none */
    char node_name[256];
    bool is_read; /* another machine's disks are written from it, through that node */
};
/* 1, or 0: the machine is not protected. */
int placement_where(struct db_conn *conn, const char *machine_id, struct placement_where *ret_where, struct err *err);
struct placement_target {
    uint64_t version, reached; /* what the node has been asked to reach, and what it has */
    bool settled;              /* hubs have looked for long enough that silence means something */
};
/* Can machines be moved to that node now, as placement judges who is gone? 1 or 0. */
int placement_target(struct db_conn *conn, const char *node_id, struct placement_target *ret_target, struct err *err);
/* NULL ends a pin. */
int placement_pin(struct db_conn *conn, const char *machine_id, const char *node_id, struct err *err);
/* That node is told of the machine, which stays where it is; NULL: the one that was told before need not know of it any more. */
int placement_announce(struct db_conn *conn, const char *machine_id, const char *node_id, struct err *err);
/* The announced node has the machine from now on. ret_version: what the agent has to reach. */
int placement_switch(
    struct db_conn *conn, const char *machine_id, const char *reason, uint64_t *ret_version, struct err *err);

#endif
