/* SPDX-License-Identifier: Apache-2.0
 *
 * The engine from the inside; shared by its own files only:
 *   engine.c        the thread, what goes in and out
 *   engine_status.c  phase and numbers
 *   engine_commands.c points that were asked for
 *   engine_schedule.c points of the stronger kinds at their times
 *   engine_disks.c  converging to the wish: attach, detach, resize, vanish, resync
 *   engine_link.c   sequence and epoch: agreeing with the vault, commits
 *   engine_pace.c   rates, yielding, where to compress, progress
 *   engine_insight.c looks at what is written
 *   engine_sweep.c  chunks of the initial copy and of the comparison
 *   engine_catchup.c large backlogs
 *   engine_resend.c what the vault has lost
 *   engine_cycle.c  recovery points
 *   engine_unreadable.c blocks that cannot be read
 *   engine_watch.c  what somebody should know of
 *   engine_group.c  the part in points of a consistency group
 */
#ifndef MOBILITY_SYNC_ENGINE_INTERNAL_H
#define MOBILITY_SYNC_ENGINE_INTERNAL_H

#include <pthread.h>

#include "mobility/capture/cycle.h"
#include "mobility/capture/reader.h"
#include "mobility/hooks.h"
#include "mobility/insight/insight.h"
#include "mobility/scout.h"
#include "mobility/sync/changeset.h"
#include "mobility/sync/engine.h"
#include "mobility/sync/plan.h"
#include "mobility/sync/retained.h"
#include "mobility/sync/yield.h"
#include "mobility/track/tracker.h"

#define ENGINE_OUTPUTS_MAX 256u
/* Progress marks of sweeps that may be on their way at once, and marks of any kind. */
#define ENGINE_CHUNKS_MAX 8u
#define ENGINE_UNCOMMITTED_MAX 64u
#define ENGINE_HOLD_BYTES (12u << 20)

struct engine_disk {
    bool wished;
    bool attached; /* tracked, readable, in the cycle's and the store's tables */
    uint32_t number;
    char key[SYNCSTATE_KEY_MAX];
    char device[128]; /* that it was attached as last by this process; "" before */
    struct tracker_disk *tracked;
    bool resend; /* the open slot has to go into the next round */
    bool swept;  /* the sweep is sent to its end: the disk takes part in cycles */
    bool compare;
    struct plan *plan; /* NULL: to be made */
    uint64_t
        plan_since_usec; /* monotonic: of what look at the disks, at the earliest; 0: plan is there, or was not begun */
    bool unmeasured; /* the tracker may know more of it than it has counted: of an earlier process, or where it grew */
    uint64_t catch_at;      /* catching up has sent the open slot before this byte */
    uint64_t at;            /* the sweep has sent everything before this byte */
    uint64_t drained_bytes; /* tracker's byte count at the last drain */
    uint64_t counted_bytes; /* of it, added to changed_bytes */
    struct yield yield;     /* of its sweep */
    uint64_t insight_bytes; /* size that the insight knows; 0: it does not know the disk */
    /* What could not be read (engine_unreadable.c); NULL: nothing yet. */
    struct dirty *bad;
    uint64_t bad_retry_usec, bad_pause_usec, bad_cursor;
    bool heals;                                       /* of what was last tried again some could be read */
    uint64_t told_passthrough, tell_passthrough_usec; /* engine_watch.c */
};

struct engine_chunk {
    bool catch_up;  /* else of a sweep */
    uint64_t start; /* catch-up only */
    uint64_t sequence;
    unsigned disk;
    uint64_t cursor; /* of the disk, once the sequence is committed */
    bool last;
};

enum command_state { COMMAND_WAITING, COMMAND_SENT };

struct engine_command {
    char id[ENGINE_COMMAND_ID_MAX];
    enum mark_kind kind;
    char tag[MARK_TAG_MAX + 1];
    enum command_state state;
    uint64_t sequence, time_utc_usec; /* once sent */
    uint64_t asked_usec;
};

/* Of commands that ended. Fewer than the session with the hub keeps the answers of: one that only this list knew would never be answered. */
#define ENGINE_ENDED_MAX ENGINE_COMMANDS_MAX

/* Of the kinds that have a schedule of their own. */
#define ENGINE_SCHEDULES 2u

struct engine_schedule {
    uint64_t interval_usec; /* 0: off */
    uint64_t due_usec;      /* monotonic; 0: at once */
    uint64_t sequence;      /* of the last one made */
};

/* The part in a group point. */
struct engine_group {
    bool active; /* the cycle that runs is one of a group point */
    bool sealed; /* its mark was closed with the group point's id */
    struct group_part_ask ask;
    struct cycle_group hooks;
    struct cycle_result result;
    uint64_t ready_usec;           /* when it was first ready to freeze; 0: not yet */
    uint64_t until_usec, sequence; /* end of the budget; of the mark */
};

/* What the line took, to see whether it is the bottleneck. */
struct engine_line {
    bool narrow;
    uint64_t looked_usec, calm_since_usec;
    uint64_t waited_usec, sent_bytes, changed_bytes; /* of the set, when it was looked at */
    uint64_t takes_per_sec;                          /* bytes, when it was last narrow */
};

/* What ends step after step early, though the stream runs: no trouble when it is over in a moment. */
struct engine_holdup {
    struct err why; /* code ERR_NONE: nothing */
    uint64_t since_usec, last_usec, points_made;
};

/* Whether points that were asked for get on. */
struct engine_patience {
    bool clear;                                 /* nothing stood in their way when it was last looked at */
    uint64_t since_usec, sent_bytes, committed; /* when something last moved with the way clear; as it was looked at */
};

struct engine_progress {
    bool copying; /* else a backlog */
    uint64_t looked_usec, done_bytes, per_sec;
};

struct engine {
    struct engine_conf conf;
    char state_path[512], retained_dir[512];
    char spare_path[512]; /* in memory, while state_path cannot be written */
    pthread_t thread;
    bool started;

    /* Guarded by lock: what other threads put in and take out. */
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool stop, woken, wish_is_new, resend_is_new, rescan;
    struct engine_wish new_wish;
    struct engine_resend resend; /* what of it is not obeyed yet */
    uint64_t resend_request;     /* the last one that was taken */
    struct engine_command commands[ENGINE_COMMANDS_MAX];
    unsigned command_count;
    char ended[ENGINE_ENDED_MAX][ENGINE_COMMAND_ID_MAX]; /* ring of commands that were answered */
    unsigned ended_next;
    struct engine_output *outputs; /* ring of ENGINE_OUTPUTS_MAX */
    unsigned output_head, output_count;
    struct engine_status status;

    /* The engine's thread alone. */
    bool has_wish;
    struct engine_wish wish;
    uint64_t converged_version; /* of the last wish that was fulfilled */
    struct syncstate state;
    bool cursor_moved;   /* of a sweep, since it was saved */
    uint64_t saved_usec; /* monotonic, of the last save */
    char boot_id[IDENT_TEXT_SIZE];
    struct scout *scout;
    struct inventory *inventory;             /* the last that was found; NULL: none yet */
    uint64_t inventory_usec;                 /* monotonic: when the look that found it began */
    uint64_t asked_usec;                     /* when one was last asked for; 0: never, or it failed */
    uint64_t ask_after_usec;                 /* one has failed: not before */
    uint64_t stale_usec;                     /* disks or mounts changed: what was looked at before says nothing of it */
    char told_unanswered[QUESTION_WHOM_MAX]; /* engine_watch.c */
    struct tracker *tracker;
    bool prepared;         /* the next tracker_open is quick */
    bool retried;          /* what could not be read, since the last cycle: that comes first then */
    bool others_forgotten; /* what an earlier process tracked and nobody wishes any more */
    struct reader *reader;
    struct cycle *cycle;
    struct retained *retained;
    struct changeset *set;
    struct pace pace;
    struct insight *insight;
    struct engine_line line;
    struct engine_progress progress;
    struct engine_disk disks[MARK_DISKS_MAX];
    struct engine_chunk chunks[ENGINE_UNCOMMITTED_MAX];
    unsigned chunk_count;
    bool linked; /* a stream may be opened: uplink_prepare was called */
    bool agreed; /* the present stream runs */
    bool bumped; /* the last opening carried a new epoch of ours */
    bool must_bump;
    bool knows_closed;       /* the vault has answered to an epoch of this process: */
    uint64_t highest_closed; /* it can have no change set beyond this one from us */
    bool catching;           /* a backlog is being sent: nothing else is drained */
    bool caught_up;          /* the next step is a cycle, however much has come up */
    uint64_t committed;      /* as far as this thread has applied it */
    uint64_t next_cycle_usec;
    uint64_t
        again_usec; /* pause before a turn that is to make up for one that made no point; 0: the last one made it */
    struct engine_schedule schedules[ENGINE_SCHEDULES];
    uint64_t first_point; /* sequence of the mark with MARK_FIRST that is on its way; 0: none */
    uint64_t retry_usec;  /* converge again not before this */
    struct err trouble;   /* code ERR_NONE: none */
    struct engine_holdup holdup;
    struct engine_patience patience;
    struct hooks *hooks;    /* of the point being made; NULL: none */
    struct err hooks_error; /* of their last thaw; code ERR_NONE: they held until then */
    bool wants_filesystem;  /* the cycle that runs is to be file-system-consistent */
    bool froze_all;         /* what was frozen last was every file system of the protected disks */
    struct engine_group group;
    uint64_t points_made, points_frozen, window_usec, freeze_usec;
    uint32_t rounds;
    const char *no_point_reason; /* why cycles have made no point since then; NULL: they do */
    uint64_t no_point_since_usec;
    uint64_t told_freeze_usec; /* when a given-up freeze was last told */
    bool told_nice;            /* that the capture thread did not get its priority back */
    bool told_scan, told_unsaved;
    bool told_uncounted;       /* that barriers cannot be counted */
    int64_t clock_offset_usec; /* of the clock against the time since boot, as last seen; 0: not yet */
    unsigned bumps;            /* new epochs since a stream last ran */
    uint64_t changed_bytes;
};

/* engine.c */
void engine_event(struct engine *e, const char *severity, const char *code, const char *remedy, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
void engine_put(struct engine *e, struct engine_output *output); /* takes its inventory */
bool engine_is_stopping(struct engine *e);
int engine_save(struct engine *e, struct err *err);

/* engine_status.c */
/* Puts the present status where engine_get_status finds it, and tells a change of phase. */
void engine_publish(struct engine *e);
/* A step has ended early by something that is no trouble yet. */
void engine_held_up(struct engine *e, const struct err *why);
/* What has held all work up for some time, and does so still; NULL: nothing. */
const struct err *engine_standing_holdup(const struct engine *e);

/* engine_commands.c */
/* A copy of the first command that waits; false: none. */
bool engine_next_command(struct engine *e, struct engine_command *ret_command);
/* The command was closed with that mark. */
void engine_command_sent(struct engine *e, const char *id, uint64_t sequence, uint64_t time_utc_usec);
/* Ends a command; error NULL: as its mark says. */
void engine_command_end(struct engine *e, const char *id, const struct err *error);
/* Answers those that have waited too long. */
void engine_expire_commands(struct engine *e);
/* Answers all: the machine is not protected any more. */
void engine_refuse_commands(struct engine *e);

/* engine_schedule.c; a scheduled point is a command without an id */
/* Follows the wish, and tells of points whose time has passed by. Before each turn. */
void engine_schedule_look(struct engine *e);
/* A point is due. */
bool engine_schedule_next(const struct engine *e, struct engine_command *ret_command);
bool engine_command_is_scheduled(const struct engine_command *c); /* NULL: no */
/* A point of the kind was made, scheduled or asked for; or could not be made when it was due. */
void engine_schedule_made(struct engine *e, enum mark_kind kind, uint64_t sequence);
void engine_schedule_missed(struct engine *e, enum mark_kind kind, const struct err *why);
/* Those that are not committed were lost with their epoch: they are due again. */
void engine_schedule_rewind(struct engine *e);
/* When the next one is due, monotonic. UINT64_MAX: never. */
uint64_t engine_schedule_wake(const struct engine *e);

/* engine_disks.c */
void engine_prepare(struct engine *e);
int engine_converge(struct engine *e, struct err *err);
/* What the scout found, if anything new is due; it is waited for only where there is none yet, or with force, which wants one that is looked for from
 * now on. ERR_UNAVAILABLE: it is not there in time. */
/* e->inventory is of a look that began at since_usec (monotonic) or later; 0: one that is there will do. ERR_UNAVAILABLE: it is not there yet, and the engine is woken
 * when it is; ask for the same time again. */
int engine_refresh_inventory(struct engine *e, uint64_t since_usec, struct err *err);
/* Everything that has to be looked at before each step: sizes, losses, vanished disks. */
int engine_check_disks(struct engine *e, struct err *err);
/* The copy of the disk begins anew, in memory only: the caller makes it durable with whatever it follows from, in one engine_save. Where that
 * fails must_bump stays set: nothing is sent before bump() has saved. */
void engine_restart_copy(struct engine *e, struct engine_disk *d, enum copy_state copy);
void engine_tell_resync(struct engine *e, const struct engine_disk *d, const char *why);
/* The sweep of the disk was sent to its end: it takes part in cycles from now on. */
int engine_join_cycle(struct engine *e, struct engine_disk *d, struct err *err);
void engine_detach_all(struct engine *e);
struct syncstate_disk *engine_row(struct engine *e, const struct engine_disk *d);
unsigned engine_index(const struct engine *e, const struct engine_disk *d);

/* engine_link.c */
const struct engine_disk *engine_disk_numbered(const struct engine *e, uint32_t number); /* NULL: not attached */
/* Puts machine, generation, epoch and the disks into the frame of coming marks: only those that take part in points, or all. */
void engine_frame(struct engine *e, bool only_swept);
/* 1: the stream runs. 0: there is none yet. */
int engine_agree(struct engine *e, struct err *err);
int engine_apply_commits(struct engine *e, struct err *err);
uint64_t engine_uncommitted(const struct engine *e); /* marks on their way */
/* Another generation or vault: the next stream is a new one. */
int engine_relink(struct engine *e, struct err *err);

/* engine_pace.c */
void engine_pace_follow(struct engine *e); /* the wish's rules */
/* How many bytes a copy of the disk asks for at once, from this byte on. */
uint64_t engine_pace_range(const struct engine *e, const struct engine_disk *d, uint64_t at);
/* It is about to read so many; waits where the workload feels it, and has less in flight from then on. */
void engine_pace_yield(struct engine *e, struct engine_disk *d, uint64_t bytes);
void engine_pace_copied(struct engine *e); /* what reads next need not hold back */
/* zstd level for changes now. */
int engine_pace_level(struct engine *e);
/* "workload", "working hours", "throttle", "CPU share" or "". */
const char *engine_pace_slowed_by(const struct engine *e);
/* Fills in throughput, time left and slowed_by, from the rest of *s. Once per turn. */
void engine_pace_progress(struct engine *e, struct engine_status *s);

/* engine_insight.c */
int engine_insight_open(struct engine *e, struct err *err);
/* A piece with data; first: of a copy. */
void engine_insight_piece(struct engine *e, struct engine_disk *d, const struct reader_piece *p, bool first);
void engine_insight_leave(struct engine *e, struct engine_disk *d);
/* A point was closed; or those that are not committed were lost with their epoch. */
void engine_insight_made_point(struct engine *e, uint64_t sequence, uint64_t utc_usec);
void engine_insight_rewind(struct engine *e);
void engine_insight_tick(struct engine *e);
/* An alarm that stands is the cause, where there is no other. */
void engine_insight_explain(const struct engine *e, struct engine_status *s);

/* engine_sweep.c */
/* Whether another chunk may be put on its way. */
bool engine_chunk_fits(const struct engine *e);
bool engine_sweeps_remain(const struct engine *e); /* some disk is not sent to the end */
/* The disk whose sweep goes on next; NULL: none, or too much is on its way. */
struct engine_disk *engine_sweep_due(struct engine *e);
int engine_sweep(struct engine *e, struct engine_disk *d, struct err *err);
void engine_rewind_sweeps(struct engine *e);

/* engine_catchup.c */
/* 1: the backlog is large, and is being caught up with from now on (e->catching). 0: it is not. */
int engine_catchup_begin(struct engine *e, struct err *err);
/* Sends the next chunk; the last one ends it. */
int engine_catchup(struct engine *e, struct err *err);
void engine_catchup_end(struct engine *e);

/* engine_resend.c */
/* Puts what the vault wants once more into the open slots. */
int engine_obey_resend(struct engine *e, struct err *err);

/* engine_cycle.c */
/* What is in the open slot of the disks that take part in points belongs to change sets up to that sequence. */
int engine_close_slot(struct engine *e, uint64_t sequence, struct err *err);
/* Puts words to a failed drain; returns -1. */
int engine_drain_failed(const struct engine *e, struct err *err);
bool engine_cycle_possible(const struct engine *e);
int engine_cycle(struct engine *e, const struct engine_command *command, struct err *err);
int engine_cycle_parts(struct engine *e, struct err *err);
/* A reader's sink (arg: the engine) for what was handed out as changed and is read outside of a cycle: notes it, and puts it into the change set. */
int engine_take_change(void *arg, const struct reader_piece *p, struct err *err);
bool engine_all_swept(const struct engine *e);
/* One that is missing is due now, whatever the policy's interval. */
void engine_point_now(struct engine *e);
/* The policy may have another one now: a point that was due in a day is due within it. */
void engine_heed_interval(struct engine *e);

/* engine_group.c */
bool engine_group_is_asked(struct engine *e);
/* Makes the group point that was asked for. 1: a cycle was run; 0: none was asked for, or not now; -1. */
int engine_group_run(struct engine *e, struct err *err);
/* Says why it is not now. */
void engine_group_refuse(struct engine *e);
/* For the cycle: its options, the budget of the freeze, when that began, and whether the group point became whole: then the mark
 * gets its id. They change nothing in a cycle that is not one of a group point. */
void engine_group_options(struct engine *e, struct cycle_options *options);
uint64_t engine_group_budget(const struct engine *e, uint64_t own_usec);
void engine_group_froze(struct engine *e, uint64_t budget_usec);
bool engine_group_is_whole(struct engine *e, const struct cycle_result *r);

/* engine_unreadable.c */
/* A piece without data, or with data, came to its sink. */
int engine_unreadable(struct engine *e, struct engine_disk *d, const struct reader_piece *p, struct err *err);
void engine_readable(struct engine *e, struct engine_disk *d, const struct reader_piece *p);
/* Tries again what is due, of one disk. 1: it did; 0: nothing is due. */
int engine_unreadable_retry(struct engine *e, struct err *err);
uint64_t engine_unreadable_wake(const struct engine *e); /* when something is due next; UINT64_MAX: never */
/* Puts what cannot be read into the open slot, which is new or was forgotten in part. */
int engine_unreadable_keep(struct engine *e, struct err *err);
/* Says in the coming marks what cannot be read: how many blocks of all disks, and which, as far as a mark has room. */
void engine_unreadable_say(struct engine *e);
int engine_unreadable_resize(struct engine_disk *d, struct err *err);
void engine_unreadable_forget(struct engine_disk *d);

/* engine_watch.c */
/* With each turn, once the tracker is open. */
void engine_watch(struct engine *e);
/* With each new inventory. */
void engine_watch_inventory(struct engine *e);

#endif
