/* SPDX-License-Identifier: Apache-2.0
 *
 * Jobs, steps, their log, and the commands that steps send to agents, nodes and vaults, as rows. hub/jobs decides, this
 * stores. A claim is a lease: while it lasts nobody else works on the job; when its hub dies it runs out and another
 * claim goes on at the first step that is not finished.
 */
#ifndef HUB_DB_JOB_STORE_H
#define HUB_DB_JOB_STORE_H

#include "hub/db/rows.h"
#include "transport/base/ident.h"

struct job_step_title {
    const char *name, *title;
};

struct job_insert {
    const char *kind, *machine_id, *vault_id, *params_json, *requested_by;
    bool may_cancel;
    const struct job_step_title *steps;
    size_t step_count;
};
/* ERR_REFUSED when the machine has a job of an exclusive kind already. In the caller's transaction. */
int job_store_insert(struct db_conn *conn, const struct job_insert *job, char ret_id[IDENT_TEXT_SIZE], struct err *err);

/* A claimed job and the step that is next. Texts live as long as `result`. */
struct job_claim {
    const char *id, *kind, *machine_id, *vault_id, *params_json, *state_json, *requested_by, *answer;
    const char *lease; /* the claim itself, for job_store_hold */
    const char *
        step_name; /* of the next step; "": all are done. An ordinal alone means another step in another version of the hub */
    bool cancel_requested;
    uint64_t ordinal; /* of the next step; == step_count: all are done */
    uint64_t step_count;
    uint64_t attempts;      /* of that step without success, this one included */
    uint64_t step_age_usec; /* since its first attempt began */
    PGresult *result, *step;
};
void job_claim_done(struct job_claim *claim);

/* Claims one runnable job for lease_usec. hub_id is that of this process: jobs that rest at another one are left to it. 1; 0: none is runnable,
 * *ret_wait_usec says when one will be (at most 5 s). */
int job_store_claim(struct db_conn *conn, const char *hub_id, uint64_t lease_usec, struct job_claim *ret_claim,
    uint64_t *ret_wait_usec, struct err *err);
/* Locks the claimed job for the caller's transaction, and brings claim->cancel_requested up to date: from here on nobody can ask it to stop before the
 * transaction ends. 1: still ours; 0: lost (the lease ran out and somebody took it, be it another thread of this hub). */
int job_store_hold(struct db_conn *conn, const char *hub_id, struct job_claim *claim, struct err *err);
/* A hub that stops lets go of the jobs that rest at it. */
int job_store_let_go(struct db_conn *conn, const char *hub_id, struct err *err);
/* Nobody waits for the leases of a process that is known to be dead. Not so of jobs that rest at it: what it had begun outside of the database (a script, a
 * machine that prepares disks) gets the time of the lease to notice and to end. Nor of one that its connection still holds, which the server will notice. */
int job_store_let_go_of_dead(struct db_conn *conn, const char *hub_id, struct err *err);
/* 1: the step of that name was begun, whatever became of it; 0: not, or the job has no such step. */
int job_store_step_begun(struct db_conn *conn, const char *job_id, const char *name, struct err *err);
/* 1: it has succeeded, which is written in the transaction of what it did; 0: not. */
int job_store_step_succeeded(struct db_conn *conn, const char *job_id, const char *name, struct err *err);

/* What a step left behind. */
struct job_progress {
    const char *job_id;
    uint64_t ordinal, step_count;
    const char *state_json;
    const char *detail;         /* of the step, for people */
    unsigned progress_permille; /* of the step */
    uint64_t again_usec;        /* job_store_again: look again after this long */
    uint64_t
        keep_usec; /* job_store_again: for this long the job rests at this hub, which is at work for it; 0: anybody may look */
    const char *question; /* job_store_ask */
    bool failed;          /* job_store_again: after a failure that may pass; an answer that was given still counts */
};
int job_store_step_done(struct db_conn *conn, const struct job_progress *p, struct err *err);
int job_store_again(struct db_conn *conn, const struct job_progress *p, struct err *err);
int job_store_ask(struct db_conn *conn, const struct job_progress *p, struct err *err);
/* Ends the job: "succeeded" (result_json), "failed" (why) or "cancelled"; open steps follow. */
int job_store_finish(struct db_conn *conn, const char *job_id, const char *status, const char *result_json,
    const struct err *why, struct err *err);
int job_store_log(struct db_conn *conn, const char *job_id, const char *level, const char *text, struct err *err);
/* In a transaction: what undoes a job's work is tried, and taken back where it is refused half-way. */
int job_store_try_undo(struct db_conn *conn, struct err *err);
int job_store_undo_refused(struct db_conn *conn, struct err *err);
/* 1: asked; 0: over already, or may not be cancelled. */
int job_store_cancel(struct db_conn *conn, const char *id, struct err *err);
/* 1: answered; 0: it does not wait. */
int job_store_answer(struct db_conn *conn, const char *id, const char *answer, struct err *err);
/* Makes the jobs that wait for this machine look again now. */
int job_store_wake_machine(struct db_conn *conn, const char *machine_id, struct err *err);

/* ---- commands ---- */
/* Commands from this ordinal on undo what a step began; they are sent even though their job is over. */
#define COMMAND_UNDO_ORDINAL 1000

struct command_state {
    bool done, target_online;
    uint64_t gone_usec; /* for how long the target is not connected, and could have been; 0 while it is */
    unsigned progress_permille;
    const char *code, *text, *correction, *result_json; /* live as long as `result` */
    PGresult *result;
};
/* Looks at the command of this job and ordinal. 1, or 0: there is none yet. */
int command_look(
    struct db_conn *conn, const char *job_id, uint64_t ordinal, struct command_state *ret_state, struct err *err);
/* Queues one. id is the caller's (it is inside the payload); hubs hear of it at commit. */
struct command_put {
    const char *id, *job_id, *target_role, *target_id;
    uint64_t ordinal;
    const void *payload;
    size_t payload_len;
};
int command_queue(struct db_conn *conn, const struct command_put *command, struct err *err);
/* Open commands of everybody, or of one target: columns id, target_role, target_id, payload (bytea, hex). */
int command_open_list(struct db_conn *conn, const char *target_id, PGresult **ret_rows, struct err *err);
struct command_outcome {
    const char *id, *target_id; /* who says so; must be the target */
    bool done;
    uint64_t progress_permille;
    const char *code, *text, *correction, *result_json;
};
/* 1: noted, its job wakes; 0: no such open command of that target. */
int command_note(struct db_conn *conn, const struct command_outcome *outcome, struct err *err);

#endif
