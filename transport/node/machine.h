/* SPDX-License-Identifier: Apache-2.0
 *
 * One machine on the node: its agent's stream (intake), the pipeline that works on its batches, its spool, and the stream to
 * its vault (link). DESIGN.md has the state tables. Everything here runs on the loop thread, except what a job does in `run`;
 * the members under "lane" are touched by lane jobs only.
 */
#ifndef TRANSPORT_NODE_MACHINE_H
#define TRANSPORT_NODE_MACHINE_H

#include <stdbool.h>
#include <stdint.h>

#include "transport/loop/loop.h"
#include "transport/loop/worker.h"
#include "transport/node/node.h"
#include "transport/node/sealing.h"
#include "transport/node/setcheck.h"
#include "transport/node/shaper.h"
#include "transport/node/spool.h"
#include "transport/proto/workhours.h"
#include "transport/rpc/rpc.h"

/* A vault that machines of this node replicate to: one connection for all of them. */
struct peer {
    struct peer *next;
    struct ident vault;
    char endpoint[256];
    struct rpc_channel *channel;
    unsigned refs;
};

struct joining;

/* What the node may send to vaults (linkshape.c). */
struct linkshape {
    uint64_t rate, work_rate, machine_rate; /* bytes per second; 0: no bound */
    struct workhours hours;                 /* of work_rate */
    struct shaper shaper;
    struct loop_timer *timer;
    bool serving;         /* grants are being given out */
    uint64_t since_usec;  /* some bound holds since then; 0: none */
    uint64_t usec, bytes; /* for how long some bound held before, and what was sent meanwhile */
};

/* Whether the file system of the spools takes more (spooldisk.c). */
struct spooldisk {
    bool full;
    uint64_t not_before_usec; /* nobody looks before */
};

struct node {
    sd_event *loop;
    struct node_conf conf;
    char *spool_dir;
    struct worker_pool *pool;
    struct sealing_pool *sealing;
    struct rpc_server *server;
    struct loop_timer *idle_timer;
    struct machine *machines;
    size_t machine_count;
    struct machine *turn; /* whose batch is looked at first; NULL: the first one's */
    struct peer *peers;
    uint64_t spool_bytes;    /* of all machines, as their lanes last reported */
    uint64_t admitted_bytes; /* of batches on their way to the spool, */
    unsigned admitted;       /* and how many they are */
    uint64_t received_bytes, forwarded_bytes;
    size_t unsent_max;            /* bytes of each machine that wait for its vault in memory */
    uint64_t open_limit_usec;     /* how long a vault may take to answer Open */
    uint64_t stranded_limit_usec; /* how long one may take nothing of a machine that the hub took away */
    struct linkshape shape;
    struct spooldisk disk;
    struct joining *joining;              /* change sets of a machine are being joined; NULL: of none */
    uint64_t joined_bytes, joined_points; /* taken out of spools, and given up for it */
    uint64_t desired_version;
    bool applied; /* a desired state came since the start */
    bool draining;
    bool stopping;
    struct {
        struct loop_timer *timer;        /* NULL: not draining, or done */
        uint64_t since_usec, until_usec; /* since 0: never asked to */
        void (*done)(void *arg, bool all);
        void *arg;
    } drain;
    uint64_t cpu_usec, cpu_at_usec; /* at the last status */
    char cause[320], remedy[320];
};

/* ---- the agent's stream ---- */

enum intake_state {
    INTAKE_NEW,     /* no Open yet, or told to open again with a higher epoch */
    INTAKE_WAITING, /* for the spool or the vault */
    INTAKE_OPEN,    /* Opened was sent: batches flow */
    INTAKE_OVER     /* ended by us; only on_end is awaited */
};

struct intake {
    struct node *node;
    struct machine *machine; /* NULL: no Open yet, or replaced */
    struct rpc_call *call;
    enum intake_state state;
    uint64_t generation, epoch, next_sequence; /* of its Open */
    bool half_closed;
};

/* ---- a batch on its way ---- */

enum batch_state { BATCH_QUEUED, BATCH_SEALING, BATCH_SEALED, BATCH_APPENDING };

struct batch {
    struct worker_job job;
    struct batch *next;
    struct machine *machine;
    uint64_t incarnation;
    enum batch_state state;
    struct buf message;
    size_t records_at; /* in message, to its end */
    size_t received;   /* bytes of messages, to be given back to flow control */
    struct sealing_order order;
    struct sealing_out out;
    bool store;   /* into the spool; false: forwarded from memory only */
    bool granted; /* by the machine's present grant */
    struct spool_state after;
    uint64_t last_mark; /* sequence of the last mark in it; 0: none */
    bool ends_in_mark;
    bool saw_point;  /* in it or before it in the stream */
    bool not_stored; /* the spool could not take it */
    int sync_fd;     /* -1: nothing to sync */
    int result;
    struct err err;
};

/* ---- the stream to the vault ---- */

struct link_call;

enum link_state {
    LINK_IDLE,    /* nothing to forward, or waiting for the retry timer */
    LINK_OPENING, /* Open was sent */
    LINK_OPEN
};

enum feed {
    FEED_SPOOL, /* the vault gets what is read back from the spool */
    FEED_LIVE   /* everything spooled was sent: batches go on from memory */
};

struct link {
    enum link_state state;
    uint64_t serial; /* grows with each call, so that late answers are known as such */
    struct rpc_call *call;
    struct link_call *handle;   /* what the call knows of us */
    uint64_t generation, epoch; /* of our Open */
    bool blocked;               /* the send queue is over its mark */
    enum feed feed;
    uint64_t seek_sequence; /* FEED_SPOOL: send from this set on; 0: from `sent` on */
    struct spool_pos sent;  /* behind what was sent */
    bool reading;           /* a read job is under way */
    bool sent_open_set;     /* what was sent does not end in a mark */
    struct loop_timer *retry;
    bool retry_armed;
    struct loop_timer *patience; /* with the vault's answer to Open */
    unsigned failures;           /* in a row */
    unsigned read_failures;      /* of the spool, in a row */
    unsigned start_failures;     /* of the spool to begin anew or to go back to its last mark, in a row */
    struct err cause;            /* why it is not open; ERR_NONE: it is, or is not wanted */
};

struct machine {
    struct machine *next;
    struct node *node;
    struct ident id;
    char text[IDENT_TEXT_SIZE];
    bool wanted;            /* in the desired state */
    uint64_t unwanted_usec; /* since when it is not, while its agent is still here; 0: it is, or the agent is not */
    uint64_t served_usec;   /* when it was last wanted or had its agent here, or something of it went to its vault */
    uint64_t generation;
    int level;
    struct peer *peer;
    bool may_receive;      /* its agent may read what its points hold */
    struct ident receiver; /* whose agent may, too; zero: nobody's */
    unsigned jobs;         /* of ours that the pool has */

    /* lane */
    struct worker_lane *lane;
    struct spool *spool;
    struct setcheck check;
    bool sets_failed; /* nothing is appended until the next start job */

    /* what the lane last reported */
    bool ready;    /* the spool was scanned */
    bool scanning; /* it is being */
    struct spool_state spooled;
    unsigned starts; /* start jobs under way: answers to an Open wait for them */

    struct intake *intake;
    uint64_t incarnation; /* grows when a stream ends: what belongs to an earlier one is dropped */

    struct batch *queue_head, *queue_tail; /* received, in order, not yet appending */
    unsigned batches;                      /* of this stream, on their way */
    uint64_t received;                     /* batches, ever */
    uint64_t received_before;              /* at the last idle look */
    bool leaving;                          /* taken away by the hub, its spool is being emptied */
    bool cut_through;                      /* the vault keeps up, and the spool is full or not needed: past the disk */
    unsigned passing;                      /* batches in the lane that go past the disk */
    bool first_copy;                       /* the vault has no point of it, and none is on its way */
    bool full;                             /* batches wait for room */
    uint64_t joined_bytes;                 /* what was spooled when its sets were last joined */

    bool syncing;
    int sync_fd; /* waits for the sync under way; -1: none */
    uint64_t sync_sequence;

    struct link link;
    struct shaper_flow flow;
    size_t grant;    /* bytes that it may send now under a bound; 0: none */
    bool grant_used; /* a read or a batch is under way for it */
    bool have_key;   /* the vault answered once: all below is known */
    struct seal_key key;
    uint32_t nonce_stream;
    uint64_t nonce_counter;
    uint64_t committed;
    uint64_t vault_epoch;
    uint64_t vault_expected;
    uint64_t vault_generation;
    bool has_point;
    bool trimming, trim_again;
};

/* machine.c */
int machine_new(struct node *node, const struct ident *id, struct machine **ret_machine, struct err *err);
/* Frees it when nothing of it is in use any more; the node's list is the caller's. */
void machine_free(struct machine *m);
struct machine *machine_find(struct node *node, const struct ident *id);
/* A lane job that drops the open set, or with begin everything, and makes the checks expect what follows. */
void machine_start_sets(struct machine *m, bool begin, uint64_t generation, uint64_t epoch, uint64_t next_sequence);
void machine_trim(struct machine *m, bool idle);
void machine_take_state(struct machine *m, const struct spool_state *state);
/* Gives a job to the machine's lane and counts it; on failure the error is logged and -1 returned. */
int machine_submit(struct machine *m, struct worker_job *job);
/* Are there change sets in the spool that the vault has not committed, as far as is known? */
bool machine_has_sets(const struct machine *m);

/* intake.c */
extern const struct rpc_call_ops intake_ops;
int intake_accept(
    struct rpc_call *call, void *server_arg, const struct rpc_call_ops **ret_ops, void **ret_arg, struct err *err);
/* Answers a waiting Open as far as that is possible now. */
void intake_advance(struct machine *m);
/* Ends a stream that the agent has half-closed, when nothing of it is under way any more. */
void intake_finish_if_done(struct machine *m);
/* Ends the agent's stream with an error; with refused set, a Refused message goes before it. */
void intake_fail(struct machine *m, const struct err *err, bool refused);

/* pipeline.c */
void pipeline_receive(struct machine *m, struct buf *message, const uint8_t *records, size_t n);
void pipeline_kick(struct machine *m);
void pipeline_kick_all(struct node *node);
/* Makes the marks in the spool durable: now, or only if the vault does not keep up. */
void pipeline_sync(struct machine *m, bool now);
/* The vault has committed more. */
void pipeline_committed(struct machine *m);
/* The present stream is over: its batches and its open set are dropped. */
void pipeline_abandon(struct machine *m);

/* link.c */
/* Makes the stream to the vault be one of this generation and epoch. */
void link_want(struct machine *m, uint64_t generation, uint64_t epoch);
/* Opens it for what is in the spool, if anything is. */
void link_resume(struct machine *m);
void link_close(struct machine *m);
/* The spool cannot be begun anew, so nothing can be sent: closes it, and tries again after pauses that grow. */
void link_pause(struct machine *m, const struct err *why);
void link_pump(struct machine *m);
/* Sends one sealed piece, taking its memory. */
void link_send(struct machine *m, struct buf *chunk);
void link_done(struct machine *m);

/* linkshape.c: the bounds on what goes to vaults. Without any, everything may be sent at once. */
int linkshape_init(struct node *node, struct err *err);
void linkshape_done(struct node *node);
void linkshape_apply(struct node *node, const Leeward__Control__V1__NodeDesired *desired);
/* The bound of this hour; and what it makes possible. */
void linkshape_look(struct node *node);
/* May a batch be sent from memory at once? */
bool linkshape_is_free(struct machine *m);
/* Begins a read or the way of a batch that goes past the disk, with what the machine was granted; false: it waits for its turn. */
bool linkshape_take(struct machine *m);
/* So much went out. */
void linkshape_sent(struct machine *m, size_t n);
/* The grant, if any, is over; `more`: the machine has more to send. */
void linkshape_give_back(struct machine *m, bool more);
/* It has nothing to send to, or is about to be freed. */
void linkshape_leave(struct machine *m);
/* For how long a bound has held, and what was sent meanwhile. */
void linkshape_totals(const struct node *node, uint64_t *ret_usec, uint64_t *ret_bytes);

/* Scans the spool of a machine where that has failed. */
void machine_scan_again(struct machine *m);

/* spooldisk.c */
/* A write to a spool failed with this error. */
void spooldisk_failed(struct node *node, const struct err *err);
/* Says what to do about an error of a spool, if it was one of the system. */
void spooldisk_hint(struct err *err);
/* So did one that needs more room than any batch: it counts only where batches have none either. */
void spooldisk_copy_failed(struct node *node, const struct err *err);
bool spooldisk_has_room(struct node *node);
void spooldisk_describe(const struct node *node, char *cause, size_t cause_size, char *remedy, size_t remedy_size);

/* joining.c */
/* Begins to join change sets of a machine, if there is need for it. */
void joining_look(struct node *node);

/* nodedrain.c */
/* Ends the agent's stream when it is between two change sets, or at_once. True when it is gone. */
bool nodedrain_let_go(struct machine *m, bool at_once, const char *why);

/* peer.c */
struct peer *peer_get(struct node *node, const struct ident *vault, const char *endpoint, struct err *err);
void peer_put(struct node *node, struct peer *peer);

/* passage.c: Hashes, Changes and Blocks of the Vault service, asked for by an agent and passed on to the vault. */
int passage_accept_hashes(
    struct rpc_call *call, void *server_arg, const struct rpc_call_ops **ret_ops, void **ret_arg, struct err *err);
int passage_accept_changes(
    struct rpc_call *call, void *server_arg, const struct rpc_call_ops **ret_ops, void **ret_arg, struct err *err);
int passage_accept_blocks(
    struct rpc_call *call, void *server_arg, const struct rpc_call_ops **ret_ops, void **ret_arg, struct err *err);

#endif
