/* SPDX-License-Identifier: Apache-2.0
 *
 * Whole groups of up to 64 members over real TLS on loopback, without disks: each member's capture thread freezes a place of a
 * shared ledger instead. The ledger writes number k to place k % n and waits while that is frozen, so the places together are a
 * prefix exactly when there was one moment at which all were frozen. The test is the hub that tells them of each other.
 *
 * LEEWARD_SEED repeats a run.
 */
#ifndef TESTS_UNIT_MOBILITY_GROUP_GROUPRING_H
#define TESTS_UNIT_MOBILITY_GROUP_GROUPRING_H

#include <pthread.h>

#include "mobility/group/group.h"
#include "tests/unit/rpc/testca.h"

#define RING_INTERVAL_USEC 2000u
#define RING_BUDGET_USEC 2000000u
#define RING_POINTS_MAX 4096u

struct ring;

struct place {
    struct ring *ring;
    unsigned number;
    struct testca_files files;
    struct tls_context *tls;
    struct loop_bell *bell;
    struct group_part *part;
    struct group *group;
    pthread_t thread;
    bool exists;
    /* Guarded by the ring's lock. */
    bool stop, rung, frozen;
    uint64_t last;         /* written here */
    unsigned freezes;      /* times that it was frozen */
    uint64_t budget_usec;  /* of the last freeze that was asked for */
    uint64_t deliver_usec; /* so long it takes from its thaw until it has delivered */
    bool never_ready;      /* it gets no further than live rounds */
    /* On the loop: what it told. */
    struct group_news news;
    unsigned told;
    unsigned took_over, gave_back; /* the coordinator's place */
    unsigned commands;             /* that ended, the last one with: */
    struct ident command_point;
    struct err command_error;
};

struct point {
    struct ident id;
    uint64_t members, values[GROUP_MEMBERS_MAX]; /* one bit for each value that is there */
};

struct ring {
    char dir[64];
    sd_event *loop;
    struct testca *ca;
    struct place places[GROUP_MEMBERS_MAX];
    unsigned count, seed;
    struct group_wish *wish;
    uint64_t lists[1024]; /* members by number of the list, one bit each */
    struct loop_timer *timer;
    pthread_t ledger;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool ledger_stops; /* from here on guarded by lock */
    bool calm;         /* it writes slowly: nobody judges it */
    struct point points[RING_POINTS_MAX];
    unsigned point_count, complete;
    int left_out;      /* the control: a place that only says that it freezes; -1: none */
    bool trouble;      /* members fail now and then */
    unsigned failures; /* so many members fail from here on */
};

struct ring *ring_new(unsigned count);
void ring_free(struct ring *g);
unsigned ring_draw(struct ring *g, unsigned below);

void ring_begin(struct place *p);
/* As a kill: its connections end, its thread is gone, nothing is frozen any more. */
void ring_end(struct place *p);
/* Tells all members a new list, as the hub would: with the other settings of g->wish. */
void ring_tell(struct ring *g, uint64_t members);
uint64_t ring_everybody(const struct ring *g);
void ring_run_until_ports(struct ring *g);

/* One turn of the loop. */
void ring_turn(struct ring *g);
void ring_run_for(struct ring *g, uint64_t usec);
unsigned ring_complete(struct ring *g);
/* Until there are so many complete group points, four minutes at most. */
void ring_run_until(struct ring *g, unsigned points);
/* Complete points that are of no one moment. */
unsigned ring_count_wrong(const struct ring *g);

#endif
