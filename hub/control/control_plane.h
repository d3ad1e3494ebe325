/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside the control plane: its state, the sessions, and the tasks that carry SQL to worker threads. Everything here
 * belongs to the loop thread, but for a task between submission and its `then`.
 */
#ifndef HUB_CONTROL_CONTROL_PLANE_H
#define HUB_CONTROL_CONTROL_PLANE_H

#include <jansson.h>
#include <stdatomic.h>

#include "hub/control/control.h"
#include "hub/core/skew.h"
#include "transport/loop/loop.h"
#include "transport/loop/worker.h"
#include "transport/proto/control.pb-c.h"
#include "transport/rpc/rpc.h"

#define SESSION_BUCKETS 8192 /* a power of two, for 10,000 sessions */
#define SESSION_COMMANDS_MAX 64

/* What a machine did within one minute. */
struct minute_sample {
    uint64_t minute_usec; /* 0: none begun */
    uint64_t rpo_max_usec, rpo_sum_usec, rpo_count, backlog_bytes;
    uint64_t changed_bytes, sent_bytes, points, frozen_points;
};

/* One open session. Held by its call and by each task that works for it. */
struct peer_session {
    unsigned refs;
    struct control *control;
    struct rpc_call *call; /* NULL: over */
    char role[16];
    char id[IDENT_TEXT_SIZE];
    struct worker_lane *lane; /* its statements, in order */
    bool greeted;             /* Hello is stored, Welcome sent */
    uint64_t sent_version;    /* of the desired state; 0: none yet */
    bool desired_busy, desired_again;
    struct ident *commands; /* sent in this session and not answered, SESSION_COMMANDS_MAX at most; NULL: never any */
    unsigned command_count;
    json_t *points_added, *points_dropped; /* wait for the next statement */
    unsigned points_running;               /* statements */
    uint64_t points_begun_usec;            /* the last one */
    struct loop_timer *points_timer;       /* the next one is not due yet; NULL: never was */
    bool points_lost;                      /* one of them failed: this session is at its end */
    uint64_t event_window_usec;
    unsigned event_count;
    unsigned events_in_hand; /* on their way to the database */
    bool status_dirty, follow; /* for the next batch; agents: the state changed */
    struct skew_watch skew;    /* of the peer's clock to ours */
    union {
        struct live_machine machine;
        struct live_node node;
        struct live_vault vault;
    } last;
    struct minute_sample sample;
    struct peer_session *next_in_bucket;
};

struct enrolment_limit; /* enrolment.c */

struct control {
    struct control_conf conf;
    struct tls_context *tls;
    struct rpc_server *server;
    struct worker_pool *pool;
    struct worker_lane *batch_lane;
    struct worker_lane *sweep_lane; /* a long sweep must not keep statuses waiting: all peers would look silent */
    struct loop_bell *bell;
    struct loop_timer *flush_timer, *sweep_timer, *daily_timer;
    atomic_uint news; /* bits of enum news_topic, set by any thread */
    struct peer_session *buckets[SESSION_BUCKETS];
    size_t session_count;
    bool versions_busy, versions_again, revoked_busy, commands_busy, commands_again, flush_busy, sweep_busy;
    size_t flush_slice;   /* of the sessions, for the next batch */
    json_t *samples;      /* finished minutes, for the next batch */
    json_t *disk_minutes; /* the same of disks (churn_report.c) */
    struct enrolment_limit *limit;
    unsigned enrolments; /* requests to enrol or renew that are worked on */
    bool stopping;
};

/* ---- tasks (control_task.c) ---- */
struct control_task {
    struct worker_job job; /* first */
    struct control *control;
    struct peer_session *session; /* held; NULL: none */
    /* Worker thread, with a connection. */
    int (*work)(struct control_task *task, struct db_conn *conn, struct err *err);
    /* Loop thread; rc and err are set. May be NULL. The task is freed afterwards. */
    void (*then)(struct control_task *task);
    void (*drop)(struct control_task *task); /* frees what it carries; may be NULL */
    int rc;
    struct err err;
};
/* size: of the struct that begins with struct control_task. NULL: no memory. */
struct control_task *control_task_new(size_t size, struct control *control, struct peer_session *session);
void control_task_free(struct control_task *task); /* one that was not submitted */
/* On the session's lane if it has one, else anywhere. Takes the task in any case; -1: it was dropped (`then` does not run). */
int control_task_submit(struct control_task *task, struct worker_lane *lane);

/* ---- sessions (peer_session.c) ---- */
extern const struct rpc_call_ops peer_session_ops;
int peer_session_accept(
    struct rpc_call *call, void *server_arg, const struct rpc_call_ops **ret_ops, void **ret_arg, struct err *err);
struct peer_session *peer_session_find(struct control *control, const char *id);
struct peer_session *peer_session_ref(struct peer_session *session);
void peer_session_unref(struct peer_session *session);
/* Ends it; the peer comes back and tells everything again. */
void peer_session_reset(struct peer_session *session, const char *why);
/* 0, or -1: it is over or backed up. */
int peer_session_send(struct peer_session *session, const Leeward__Control__V1__Directive *directive);

/* ---- reports (peer_report.c, inventory_json.c) ---- */
void peer_report_take(struct peer_session *session, const Leeward__Control__V1__Report *report);
/* Copies text from a peer: valid UTF-8 without control characters, cut to size. */
void peer_report_text(char *out, size_t size, const char *in);
/* As a JSON string of at most 1,000 bytes. */
json_t *peer_report_json_text(const char *in);
/* copy_report.c: what a vault says of its copies of machines' points. added, dropped: as of points; complete: all others are forgotten. */
void copy_report_take(struct peer_session *session, const Leeward__Control__V1__CopyStatus *status);
void copy_report_points(
    struct peer_session *session, const char *machine_id, const json_t *added, const json_t *dropped, bool complete);
void churn_report_take(struct peer_session *session, const Leeward__Control__V1__DiskMinute *minute);
void group_report_take(struct peer_session *session, const Leeward__Control__V1__GroupNews *news);
void space_report_take(struct peer_session *session, const Leeward__Control__V1__VaultSpace *space);
void integrity_report_take(struct peer_session *session, const Leeward__Control__V1__Integrity *integrity);
/* What an agent is to send again; the pointers are its own. */
#define RESEND_RANGES_MAX 256
struct resend_list {
    uint64_t request;
    size_t count;
    Leeward__Control__V1__DiskRange ranges[RESEND_RANGES_MAX], *list[RESEND_RANGES_MAX];
};
int resend_list_read(struct db_conn *conn, const char *machine_id, struct resend_list *ret_list, struct err *err);
json_t *peer_report_json_u64(uint64_t v); /* what does not fit bigint stays at its end */
json_t *inventory_json(const Leeward__Control__V1__Inventory *inventory, struct err *err);

/* ---- status (status_batch.c, health_sweep.c) ---- */
void status_take_agent(struct peer_session *session, const Leeward__Control__V1__AgentStatus *status);
void status_take_node(struct peer_session *session, const Leeward__Control__V1__NodeStatus *status);
void status_take_vault(struct peer_session *session, const Leeward__Control__V1__VaultStatus *status);
void status_session_over(struct peer_session *session); /* its minute so far counts */
void status_flush(void *control);                       /* timer */
void status_flush_last(struct control *control);        /* at the end, when no session is left */
void health_sweep(void *control);                       /* timer */

/* ---- to peers (desired_push.c, command_push.c) ---- */
void desired_push(struct peer_session *session); /* reads and sends it, once */
void desired_look(struct control *control);      /* finds sessions that are behind */
void commands_push(struct control *control, struct peer_session *only);
void commands_answered(struct peer_session *session, const char *command_id);

/* ---- enrolment (enrolment.c) ---- */
int enrolment_accept(
    struct rpc_call *call, void *server_arg, const struct rpc_call_ops **ret_ops, void **ret_arg, struct err *err);
int renewal_accept(
    struct rpc_call *call, void *server_arg, const struct rpc_call_ops **ret_ops, void **ret_arg, struct err *err);
struct enrolment_limit *enrolment_limit_new(void);

#endif
