/* SPDX-License-Identifier: Apache-2.0
 *
 * The engine of the agent: the one thread that touches disks. It owns tracker, reader, cycle, retained changes, sweeps and the
 * durable state, and does one thing at a time:
 *
 *   converge     disks that are wanted are tracked, others are not (desired state of the hub, or its cached copy)
 *   agree        with what the vault has, after each new stream: same epoch and sequence, or a new epoch
 *   sweep        a chunk of a disk that is being copied or compared, closed by a progress mark
 *   cycle        every interval: live rounds, window or freeze, closed by a recovery point
 *
 * Nothing here runs on the event loop; the loop hands in the desired state and commands and takes out status, events and
 * results. Functions without another word may be called from any thread.
 */
#ifndef MOBILITY_SYNC_ENGINE_H
#define MOBILITY_SYNC_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#include "mobility/capture/freeze.h"
#include "mobility/insight/insight.h"
#include "mobility/inventory.h"
#include "mobility/phase.h"
#include "mobility/sync/group_part.h"
#include "mobility/sync/hashfetch.h"
#include "mobility/sync/pace.h"
#include "mobility/sync/uplink.h"
#include "mobility/sync/syncstate.h"
#include "transport/base/err.h"
#include "transport/base/ident.h"

#define ENGINE_COMMAND_ID_MAX 64
#define ENGINE_COMMANDS_MAX 16u

struct engine;

struct engine_conf {
    struct ident machine;
    const char *data_dir;   /* DATA: state lies here */
    const char *run_dir;    /* /run/leeward/INSTANCE */
    const char *instance;   /* of the tracker */
    const char *driver;     /* of the tracker; NULL: the best that this kernel has */
    const char *pin_root;   /* NULL: the tracker's default */
    const char *hooks_dir;  /* application hooks */
    uint64_t hook_usec;     /* time for one hook */
    uint64_t patience_usec; /* with a point that was asked for and does not get on; 0: a minute */
    struct freeze *freeze;  /* opened before any thread was started; NULL: no freeze */
    struct uplink *link;
    struct hashfetch *hashes;
    struct group_part *part;    /* NULL: no group points */
    void (*to_loop)(void *arg); /* there is something for engine_take, or the status changed */
    void *arg;
};

struct engine_disk_wish {
    uint32_t number;
    char key[SYNCSTATE_KEY_MAX];
};

/* AgentDesired without its pointers. */
struct engine_wish {
    uint64_t version;
    bool protect;
    uint64_t generation;
    char vault_id[IDENT_TEXT_SIZE];
    uint64_t interval_usec;                                       /* 0: 1 s */
    uint64_t filesystem_interval_usec, application_interval_usec; /* between points of these kinds; 0: none */
    uint64_t freeze_budget_usec;                                  /* 0: FREEZE_BUDGET_USEC */
    uint32_t max_rounds;                                          /* 0: the cycle's own */
    bool may_freeze;
    int level;               /* zstd, of changes; 0: raw */
    bool level_where_narrow; /* only while the line to the node is the bottleneck */
    struct pace_rules pace;
    bool yield_to_workload;
    uint64_t resync_request;
    uint32_t disk_count;
    struct engine_disk_wish disks[MARK_DISKS_MAX];
};

struct engine_status {
    enum phase phase;
    char cause[320];
    char remedy[240];
    uint64_t version;                 /* of the wish it has converged to */
    uint64_t total_bytes, done_bytes; /* of the sweeps */
    uint64_t backlog_bytes;
    uint64_t changed_bytes; /* written to the disks since start, as the tracker counted */
    uint64_t points_made, points_frozen;
    uint32_t rounds;
    uint64_t window_usec, freeze_usec;
    uint64_t throughput_bytes_per_sec; /* of the copy, or of changes */
    uint64_t remaining_usec;           /* of the copy, or until the backlog is sent; 0: none, or unknown */
    const char *slowed_by;             /* fixed text, "" */
};

enum engine_output_kind { ENGINE_EVENT, ENGINE_RESULT, ENGINE_INVENTORY, ENGINE_MINUTE };

struct engine_output {
    enum engine_output_kind kind;
    /* event */
    const char *severity, *code; /* fixed texts */
    char text[512], remedy[240];
    /* result of a command; error.code ERR_NONE: success */
    char command_id[ENGINE_COMMAND_ID_MAX];
    struct err error;
    uint64_t sequence, time_utc_usec;
    struct insight_minute minute;
    /* inventory: now the caller's */
    struct inventory *inventory;
};

/* Loads the state and starts the thread. */
int engine_new(const struct engine_conf *conf, struct engine **ret_engine, struct err *err);
/* Stops the thread at the next safe place and waits for it. Tracking goes on. NULL allowed. */
void engine_free(struct engine *e);

void engine_set_wish(struct engine *e, const struct engine_wish *wish);

/* Ranges of disks that the vault cannot read any more, and wants once more. */
#define ENGINE_RESEND_MAX 256u
struct engine_range {
    uint32_t disk; /* its number */
    uint64_t start, length;
};
struct engine_resend {
    uint64_t request; /* each number is obeyed once; 0: none */
    unsigned count;
    struct engine_range ranges[ENGINE_RESEND_MAX];
};
void engine_set_resend(struct engine *e, const struct engine_resend *resend);
/* Asks for a point now. kind: "crash", "filesystem", "application". The result comes by engine_take when the vault has
 * committed it. A command that came before (the hub sends each again until it has heard of its end) is no error and makes no other point. ERR_INVALID (kind, tag), ERR_NOMEM (too many at once), ERR_REFUSED (nothing is protected). */
int engine_create_point(struct engine *e, const char *command_id, const char *kind, const char *tag, struct err *err);
/* 1 when it was there and has not begun; its result (cancelled) comes by engine_take. */
int engine_cancel(struct engine *e, const char *command_id);
void engine_wake(struct engine *e);   /* the link changed */
void engine_rescan(struct engine *e); /* disks or mounts may have changed: look now, not at the next turn */
void engine_get_status(struct engine *e, struct engine_status *ret_status);
/* Loop thread. 1: *ret_output is filled; 0: none. */
int engine_take(struct engine *e, struct engine_output *ret_output);

#endif
