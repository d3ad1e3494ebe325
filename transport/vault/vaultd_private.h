/* SPDX-License-Identifier: Apache-2.0
 *
 * What the daemon's files share and nobody else sees. Everything here belongs to the loop thread, except what is marked as
 * the lane's.
 */
#ifndef TRANSPORT_VAULT_VAULTD_PRIVATE_H
#define TRANSPORT_VAULT_VAULTD_PRIVATE_H

#include "transport/base/ident.h"
#include "transport/base/mem.h"
#include "transport/loop/loop.h"
#include "transport/loop/worker.h"
#include "transport/proto/control.pb-c.h"
#include "transport/proto/workhours.h"
#include "transport/rpc/rpc.h"
#include "transport/vault/branchlist.h"
#include "transport/vault/copypace.h"
#include "transport/vault/copyturn.h"
#include "transport/vault/droplog.h"
#include "transport/vault/growth.h"
#include "transport/vault/healpace.h"
#include "transport/vault/quarantine.h"
#include "transport/vault/scrubstate.h"
#include "transport/vault/store.h"
#include "transport/vault/store_compact.h"
#include "transport/vault/thin.h"
#include "transport/vault/vaultd.h"
#include "transport/vault/vaultkeys.h"
#include "transport/vault/vaultpace.h"
#include "transport/vault/verify.h"

struct replicate;
struct opening;
struct diskimage;
struct longjob;
struct bucket;
struct machine_upload;
struct scrub;
struct compacting;
struct collecting;
struct heal_job;
struct erase_job;
struct newkey_job;
struct rotation;
struct vaultcopy;
struct copy_source;
struct copy_ask;

/* Vaults that keep a copy of one machine's points; the hub lets no more begin one (COPIES_MAX in hub/db/copy_store.h). */
#define READERS_MAX 16u

/* One of them. Retention leaves it the points that it needs. */
struct copy_reader {
    struct ident vault;
    uint64_t held;       /* what its copy stands on; 0: not known */
    uint64_t taking;     /* what it reads; 0: nothing since it last looked for newer ones */
    uint64_t known_usec; /* monotonic: since when this vault has known of it */
    bool heard;          /* it has looked since then, and said what it stands on */
};

/* One machine. Never freed before the daemon ends. */
struct vmachine {
    struct vaultd *d;
    struct vmachine *next;
    struct ident id;
    char id_text[IDENT_TEXT_SIZE];
    char *name;
    char *dir;
    struct worker_lane *lane;
    bool desired;     /* named by the hub; else its streams are refused */
    bool was_desired; /* before it was to be erased */
    uint64_t generation;
    uint64_t known_sequence; /* the hub's, as of the last desired state */
    uint64_t reported;       /* last point that went to the hub */
    uint64_t last_point;
    bool report_all;            /* the next report begins the full list */
    bool dropped_untold;        /* what the droplog has was not told in this session */
    bool dropped_kept;          /* there is something in it */
    uint64_t dropped_told_usec; /* monotonic: when it was, unless dropped_untold */
    bool syncing, flushing, merging;
    uint64_t sync_retry_usec; /* monotonic: the last sync failed, and is tried again then; 0: it did not */
    bool unusable_told;       /* that it failed */
    bool told_lost;           /* that committed change sets are gone */
    uint64_t upkept_usec;     /* monotonic: when merging and retention were last looked at */
    struct thin_tiers tiers;
    uint64_t lock_usec; /* the policy's; storelock.h has what holds */
    struct replicate *stream;
    struct machine_upload *upload; /* NULL: not looked at yet */
    struct scrub *scrub;           /* the background pass; NULL: none under way */
    struct scrubstate scrubbed;    /* good once scrub_loaded */
    bool scrub_loaded, scrub_loading;
    uint64_t scrub_saved_usec, scrub_retry_usec; /* monotonic */
    bool integrity_news;                         /* the hub is to be told */
    uint64_t integrity_told_usec;
    struct quarantine quarantine; /* what is damaged; good once scrub_loaded */
    uint64_t points_hit;          /* recovery points that something of it hits */
    bool healing;
    struct heal_job *heal_queue;
    uint64_t mended_untold,
        mended_usec;            /* records that were healed from a copy, and when the last one was (monotonic) */
    struct newkey_job *newkey;  /* it is being given another data key; NULL: it is not */
    struct erase_job *erase;    /* waits for the end of the stream; NULL: none */
    struct healpace heal_copy;  /* when the bucket is asked again for what is damaged */
    struct healpace heal_look;  /* when it is looked again whether what the source was asked for has come */
    uint64_t healed_at_point;   /* as of the last look */
    enum err_code copy_told;    /* why the bucket is of no use for healing, as the hub was told; ERR_NONE: it was not */
    struct compact_space space; /* as last looked through */
    bool space_known;
    uint64_t space_due_usec, space_looked_usec; /* monotonic */
    struct branch_list branches;                /* as last looked at */
    bool branches_known;
    char follow_branch[IDENT_TEXT_SIZE]; /* of its replica, which is to be protected; "": none */
    uint64_t follow_interval_usec, followed_usec;
    bool following, follow_fails;
    struct copy_reader readers[READERS_MAX]; /* vaults that may read its points, for they keep a copy */
    unsigned reader_count;
    struct vaultcopy *copy; /* its points come from another vault; NULL: they do not */
    /* The lane's: touched by its jobs alone. */
    struct store *store;
    uint64_t thin_since_usec; /* monotonic: since when there is something to drop; 0: there is not */
    bool erased;              /* nothing makes its folder anew before the hub gives it to this vault again */
    uint64_t lane_token;      /* of the stream that may append; 0: none */
    uint64_t follow_epoch;    /* of the last pass over the replica's branch; 0: none */
    struct droplog dropped;   /* good once dropped_loaded */
    bool dropped_loaded;
    struct store_conf store_conf;
};

struct vaultd {
    sd_event *loop;
    struct vaultd_conf conf;
    char *data_dir;
    char *socket_folder; /* shared; NULL: none */
    char *listen;
    char *plugin;
    int lock_fd;
    struct vault_key key;
    struct vault_key older_key; /* while the key is rotated: some machines still need it */
    bool has_older_key;
    struct rotation *rotation; /* NULL: none under way */
    struct worker_pool *pool;
    struct worker_pool *idle_pool; /* threads that run when nothing else wants to */
    struct worker_pool *pace_pool; /* one thread for what writes much, at its pace */
    struct worker_pool *copy_pool; /* threads that wait for other vaults */
    struct loop_bell *copy_bell;   /* one of them asks for something */
    struct copy_source *copy_sources;
    struct copy_ask *copy_asks;
    struct copypace copy_pace; /* what may come of them, */
    uint64_t copy_rate, copy_work_rate, copy_flow_rate;
    struct workhours copy_hours;
    struct copyturns copy_turns;   /* and whose turn it is */
    uint64_t copy_gathered_usec;   /* when one last went */
    struct loop_timer *copy_timer; /* when the next one may */
    unsigned copies_busy;
    struct vmachine *copy_last; /* whose turn was last */
    struct rpc_server *server;
    struct session *session;
    struct vmachine *machines;
    struct opening *openings;
    struct diskimage *images;
    struct longjob *longjobs;
    struct bucket *bucket;        /* NULL: none is configured */
    struct vmachine *scrubbing;   /* whose background pass is under way */
    _Atomic uint64_t ingest_usec; /* monotonic: when data last came in */
    struct vaultpace scrub_pace, compact_pace;
    struct compacting *compacting;  /* whose log is looked through or rewritten now */
    struct collecting *asked_space; /* that somebody waits for */
    struct growth growth;
    struct retentionclock clock; /* good when has_clock */
    bool has_clock;
    uint64_t clock_due_usec; /* monotonic: when it is written */
    struct growth_forecast forecast;
    uint64_t growth_due_usec; /* monotonic */
    bool space_news, told_filling;
    struct loop_timer *tick;
    uint64_t next_token;
    uint64_t desired_version;
    unsigned streams;
    bool full;                /* the disk is: nothing is accepted */
    uint64_t full_free_bytes; /* what was free once the change set that did not fit was given back; 0: not looked yet */
    uint64_t full_since_usec; /* monotonic: when it became full, or had room again */
    bool stopping;
    uint64_t status_due_usec;
};

/* A job on a machine's lane, or on any thread of the pool. Embed it as the first member; run's result and err are there when
 * done is called, which frees the job. When the daemon ends, done is called without run, result -1. */
struct vaultjob {
    struct worker_job job;
    struct vmachine *vm;
    int (*run)(struct vaultjob *j, struct err *err);
    void (*done)(struct vaultjob *j);
    int result;
    struct err err;
};

/* vaultd.c */
struct vmachine *vaultd_machine(struct vaultd *d, const struct ident *id);
/* Finds it or makes it known (its folder need not exist). NULL with err set. */
struct vmachine *vaultd_machine_add(struct vaultd *d, const struct ident *id, struct err *err);
/* On the machine's lane. */
int vaultjob_lane(struct vmachine *vm, struct vaultjob *j, struct err *err);
/* Beside all lanes. vm may be NULL. */
int vaultjob_pool(struct vaultd *d, struct vmachine *vm, struct vaultjob *j, struct err *err);
/* On a thread that gives way to all else: reading what nobody waits for. */
int vaultjob_idle(struct vaultd *d, struct vmachine *vm, struct vaultjob *j, struct err *err);
/* On a thread that may wait for another vault. */
int vaultjob_copy(struct vaultd *d, struct vmachine *vm, struct vaultjob *j, struct err *err);
/* For work in the background that writes: one job at a time, which keeps a pace (vaultpace.h). Not at idle priority: a thread that does not get
 * the processor while it holds the file system's journal or the lock of a folder holds up everybody's sync. */
int vaultjob_paced(struct vaultd *d, struct vmachine *vm, struct vaultjob *j, struct err *err);
/* Lane: the machine's store, opened when it is not open or broke. */
int vmachine_store(struct vmachine *vm, struct store **ret_store, struct err *err);
/* The disk is full, or no longer: tells the hub, once each. */
void vaultd_set_full(struct vaultd *d, bool full);
bool vaultd_has_room(const struct vaultd *d);

/* vaultupkeep.c: flushing, merging, thinning */
void vaultupkeep_flush(struct vmachine *vm);
void vaultupkeep_merge(struct vmachine *vm);
void vaultupkeep_thin(struct vmachine *vm);
/* The index is damaged: it is made again from the log. */
void vaultupkeep_rebuild(struct vmachine *vm);

/* vaultscrub.c: the background pass, and what verification finds */
void vaultscrub_tick(struct vaultd *d);
void vaultscrub_stop(struct vaultd *d);
/* The hub may have forgotten. */
void vaultscrub_forget_told(struct vaultd *d);
void vaultscrub_save(struct vmachine *vm);

/* vaultbranch.c */
/* Looks which branches the machine has; the hub hears of it with the next status. */
void vaultbranch_look(struct vmachine *vm);
/* The machine that has the branch; NULL: none. */
struct vmachine *vaultbranch_machine(const struct vaultd *d, const char *id);
int vaultbranch_describe(const struct vaultd *d, Leeward__Control__V1__VaultStatus *status, struct err *err);
void vaultbranch_describe_done(Leeward__Control__V1__VaultStatus *status);

/* vaultupload.c */
int vaultupload_start(struct vaultd *d, struct err *err);
/* Ends what is under way; called before the lanes end. */
void vaultupload_stop(struct vaultd *d);
void vaultupload_free(struct vaultd *d);
void vaultupload_tick(struct vmachine *vm, uint64_t now);
bool vaultupload_is_configured(const struct vaultd *d);
/* What the bucket has of the machine's log, for healing; hit must outlive it. *ret_copy NULL: there is no bucket. Any thread. */
struct secondcopy;
struct damagehit;
int vaultupload_copy(const struct vmachine *vm, const struct damagehit *hit, uint64_t writes_from,
    struct secondcopy **ret_copy, struct err *err);
/* Loop thread: the bucket is seen to hold something else of the machine, or another vault writes there. */
bool vaultupload_is_in_conflict(const struct vmachine *vm);
/* Removes from the bucket what it has of erased machines. */
void vaultupload_purge_tick(struct vaultd *d, uint64_t now);
void vaultupload_erased(struct vmachine *vm);
void vaultupload_forget(struct vmachine *vm);
/* What the bucket has of it, as the last turn saw it: the time of its newest point (0: none) and the bytes of the log that it lacks. False: not
 * known, or there is no bucket. */
bool vaultupload_lag(const struct vmachine *vm, uint64_t *ret_point_time_utc_usec, uint64_t *ret_behind_bytes);
/* Is the bucket behind? *ret_cause is the caller's, *ret_remedy good until the loop goes on. */
bool vaultupload_describe(const struct vaultd *d, char **ret_cause, const char **ret_remedy);

/* vaultpromote.c */
struct vaultpromote_spec {
    const char *machine_id, *branch_id;
    uint64_t generation;
    void (*done)(void *arg, uint64_t sequence, const struct err *err); /* called once, later, unless starting fails */
    void *arg;
};
int vaultpromote_start(struct vaultd *d, const struct vaultpromote_spec *spec, struct err *err);

/* vaultfollow.c */
/* From the desired state: the branch whose replica is protected ("": none), and how often. */
void vaultfollow_set(struct vmachine *vm, const char *branch, uint64_t interval_usec);
void vaultfollow_tick(struct vmachine *vm, uint64_t now);
struct vaultfollow_spec {
    const char *machine_id, *branch_id;
    uint64_t generation;
    void (*done)(void *arg, uint64_t sequence, const struct err *err); /* called once, later, unless starting fails */
    void *arg;
};
int vaultfollow_start(struct vaultd *d, const struct vaultfollow_spec *spec, struct err *err);

/* vaultcopy.c: copies of points that other vaults have */
int vaultcopy_start(struct vaultd *d, struct err *err);
/* Before the pools end: nobody waits for another vault any more. */
void vaultcopy_stop(struct vaultd *d);
void vaultcopy_free(struct vaultd *d); /* after them */
/* From the desired state: where the machine's points come from, or that they do not (copy_vault_id ""), and who may read those that are here. */
void vaultcopy_set(struct vmachine *vm, const Leeward__Control__V1__VaultMachine *m);
/* From the desired state: how fast copies may come. */
void vaultcopy_throttle(struct vaultd *d, const Leeward__Control__V1__VaultDesired *desired);
/* Are the points that are here another vault's? */
bool vaultcopy_is_copy(const struct vmachine *vm);
void vaultcopy_unset(struct vmachine *vm); /* the vault is not to have it any more */
void vaultcopy_tick(struct vaultd *d, uint64_t now);
void vaultcopy_forget_told(struct vaultd *d); /* the hub may have forgotten */
void vaultcopy_forget(struct vmachine *vm);   /* frees; nothing of it is under way */

/* vaultreport.c */
/* A point as it is reported. */
struct point_report {
    struct point point;
    char *tag; /* NULL: none */
    struct ident group;
    struct mark_range *ranges; /* which blocks could not be read; NULL: none are known */
    uint32_t range_count;
};
/* Lane: reports of the points with a sequence above `after`. */
int vaultreport_collect(
    struct store *s, uint64_t after, struct point_report **ret_reports, size_t *ret_count, struct err *err);
void vaultreport_free(struct point_report *reports, size_t count);
/* Sends new points; those that cannot be sent now are sent by a later sync. */
void vaultreport_points(struct vmachine *vm, const struct point_report *reports, size_t count);
/* Points that were noted as dropped just now. */
void vaultreport_dropped(struct vmachine *vm, const uint64_t *sequences, size_t count);
/* Lane: notes that they will be dropped, so that the hub hears of it whatever happens meanwhile. Durable when it returns. */
int vaultreport_note_dropped(struct vmachine *vm, const uint64_t *sequences, size_t count, struct err *err);
/* Forgets those of which the hub has long been told. */
void vaultreport_settle(struct vmachine *vm, uint64_t now);
/* Opens the store, takes over generation, and brings the hub's list up to date. */
void vaultreport_sync(struct vmachine *vm);
void vaultreport_status(struct vaultd *d);

/* replicate.c and vaultread.c: the methods of the server */
int replicate_accept(
    struct rpc_call *call, void *server_arg, const struct rpc_call_ops **ret_ops, void **ret_arg, struct err *err);
void replicate_refuse(struct replicate *r, const struct err *err);
int vaultread_accept_points(
    struct rpc_call *call, void *server_arg, const struct rpc_call_ops **ret_ops, void **ret_arg, struct err *err);
int vaultread_accept_range(
    struct rpc_call *call, void *server_arg, const struct rpc_call_ops **ret_ops, void **ret_arg, struct err *err);
int vaultread_accept_hashes(
    struct rpc_call *call, void *server_arg, const struct rpc_call_ops **ret_ops, void **ret_arg, struct err *err);

/* vaultdiffer.c */
int vaultdiffer_accept_changes(
    struct rpc_call *call, void *server_arg, const struct rpc_call_ops **ret_ops, void **ret_arg, struct err *err);
int vaultdiffer_accept_blocks(
    struct rpc_call *call, void *server_arg, const struct rpc_call_ops **ret_ops, void **ret_arg, struct err *err);

/* vaultmend.c */
/* Damaged records of the machine of which another vault's copy may have the content. */
uint64_t vaultmend_count(const struct vmachine *vm);
int vaultmend_accept_damage(
    struct rpc_call *call, void *server_arg, const struct rpc_call_ops **ret_ops, void **ret_arg, struct err *err);
int vaultmend_accept_mend(
    struct rpc_call *call, void *server_arg, const struct rpc_call_ops **ret_ops, void **ret_arg, struct err *err);

/* vaultrotate.c */
/* Answers the command at its end. */
void vaultrotate_start(struct vaultd *d, const char *command_id);

/* ---- vaultnewkey.c: another data key for one machine ---- */
void vaultnewkey_start(struct vaultd *d, const char *command_id, const char *machine_id);

/* vaulterase.c */
/* Answers the command at its end. */
void vaulterase_start(struct vaultd *d, const char *command_id, const char *machine_id);
/* Goes on with what waits for the end of the machine's stream. */
void vaulterase_tick(struct vmachine *vm, uint64_t now_usec);
void vaulterase_forget(struct vmachine *vm);

/* vaultseed.c */
struct vaultseed;
struct vaultseed_spec {
    const Leeward__Control__V1__SeedMachine *command; /* of the call alone */
    void (*progress)(void *arg, unsigned permille);
    void (*done)(void *arg, const struct err *err, const char *json); /* called once, later, unless starting fails */
    void *arg;
};
int vaultseed_start(struct vaultd *d, const struct vaultseed_spec *spec, struct vaultseed **ret_seed, struct err *err);
void vaultseed_cancel(struct vaultseed *seed);

/* vaultcommand.c */
void vaultcommand_run(struct vaultd *d, const Leeward__Control__V1__Command *command);
void vaultcommand_stop(struct vaultd *d);

#endif
