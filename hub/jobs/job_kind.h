/* SPDX-License-Identifier: Apache-2.0
 *
 * What a kind of job is: the check of its params at submission and its steps. A step runs inside one transaction together
 * with the note that it is done, so what it does to the database happens exactly once; what it asks of agents and
 * vaults is a row in commands, and those know a command by its id. A step never waits: it looks, and is called again
 * when something happened or after again_usec.
 */
#ifndef HUB_JOBS_JOB_KIND_H
#define HUB_JOBS_JOB_KIND_H

#include <jansson.h>

#include "hub/db/job_store.h"
#include "transport/proto/control.pb-c.h"

enum job_outcome {
    JOB_AGAIN = 0, /* not yet */
    JOB_DONE = 1,
    JOB_ASK = 2, /* waits for a person: question is set */
};

/* One look at one step. */
struct job_run {
    struct db_conn *conn; /* in a transaction */
    const struct job_claim *job;
    json_t *params;
    json_t *state;  /* object; kept from step to step */
    json_t *result; /* object; what the job will answer; kept in state under "result" */
    char detail[256];
    char question[256];
    unsigned progress_permille;
    bool
        keep; /* JOB_AGAIN: this process is at work for the step, so no other hub is to look at it while this one does */
    bool final;          /* -1 is the last word (a peer's answer): trying again would only repeat it */
    uint64_t again_usec; /* at most this long until the next look; 1 s unless the step says otherwise */
};

/* Rows of jobs name their steps: a name keeps its meaning from version to version, and no kind has it twice. */
struct job_step {
    const char *name, *title;
    /* enum job_outcome, or -1: the job fails with err (retryable codes are tried again a few times first). */
    int (*run)(struct job_run *run, struct err *err);
    /* NULL, or whether a job with these params has this step at all. */
    bool (*wanted)(const json_t *params);
};

#define JOB_STEPS_MAX 14

struct job_kind {
    const char *name;
    bool needs_machine, may_cancel;
    /* Params (an object) and machine (NULL unless needs_machine) at submission; ERR_INVALID, ERR_REFUSED. What it adds to the params is
     * the job's, too. ret_vault_id may be set for the job's row. */
    int (*check)(struct db_conn *conn, const struct machine_row *machine, json_t *params,
        char ret_vault_id[IDENT_TEXT_SIZE], struct err *err);
    /* Undoes what was begun when the job is cancelled; NULL: nothing to undo. */
    int (*cancel)(struct job_run *run, struct err *err);
    bool undo_on_failure; /* cancel is run when the job fails, too; where it is refused the job ends all the same */
    struct job_step steps[JOB_STEPS_MAX]; /* ended by a NULL name */
};

/* The vault that the params name, that of the machine that they name, or the only one there is. */
int job_choose_vault(struct db_conn *conn, const json_t *params, char ret_vault_id[IDENT_TEXT_SIZE], struct err *err);
/* NULL: no such kind. */
const struct job_kind *job_kind_find(const char *name);
/* All of them, from 0 on; NULL behind the last. */
const struct job_kind *job_kind_at(size_t i);

extern const struct job_kind job_kind_protect, job_kind_unprotect, job_kind_resync, job_kind_machine_move;
extern const struct job_kind job_kind_disk_add, job_kind_disk_exclude, job_kind_disk_resize;
extern const struct job_kind job_kind_point_create, job_kind_point_open, job_kind_point_close, job_kind_branch_open;
extern const struct job_kind job_kind_branch_promote;
extern const struct job_kind job_kind_export, job_kind_vault_verify, job_kind_vault_rotate_key,
    job_kind_machine_rotate_key, job_kind_erase, job_kind_vault_gc, job_kind_group_point;
extern const struct job_kind job_kind_failover, job_kind_failover_change_point, job_kind_failover_commit,
    job_kind_failover_end, job_kind_failover_preview;
extern const struct job_kind job_kind_machine_restore, job_kind_copy, job_kind_copy_remove, job_kind_copy_use;
extern const struct job_kind job_kind_failover_reprotect, job_kind_failover_failback, job_kind_failover_resume;
extern const struct job_kind job_kind_plan_run, job_kind_plan_action, job_kind_plan_gate, job_kind_plan_end;

/* ---- for steps ---- */
/* Sends command (its command_id is filled in) once, then reports how it stands: JOB_DONE with *ret_result (a new
 * reference), JOB_AGAIN with progress and detail, -1 with the peer's error; ERR_UNAVAILABLE when the peer is not
 * connected for a minute, in which hubs would have heard of it. `who` names it for people: "the vault". */
int job_command(struct job_run *run, const char *role, const char *target_id, const char *who,
    Leeward__Control__V1__Command *command, json_t **ret_result, struct err *err);
/* The same; what the peer answers becomes part of the job's result. */
int job_command_result(struct job_run *run, const char *role, const char *target_id, const char *who,
    Leeward__Control__V1__Command *command, struct err *err);
/* For job_kind.cancel: a command that takes back what the step asked for; nobody waits for its answer. */
int job_command_undo(struct job_run *run, const char *role, const char *target_id,
    Leeward__Control__V1__Command *command, struct err *err);
/* Tells the peer to drop that command (for job_kind.cancel). */
int job_command_cancel(struct job_run *run, const char *role, const char *target_id, struct err *err);
/* Whether the step of that name was begun, for job_kind.cancel. 1, 0, -1. */
int job_step_begun(struct job_run *run, const char *name, struct err *err);
/* Whether it was done, and all that it changed is there. 1, 0, -1. */
int job_step_done(struct job_run *run, const char *name, struct err *err);
/* The machine of the job, as by db_need. */
int job_machine(struct job_run *run, struct db_set *ret_set, struct err *err);
/* Text and numbers in state. NULL / 0 when absent. */
const char *job_state_text(const struct job_run *run, const char *key);
uint64_t job_state_u64(const struct job_run *run, const char *key);
int job_state_put(struct job_run *run, const char *key, json_t *value, struct err *err); /* takes value */
/* "7" or 7 -> 7; absent -> 0; anything else ERR_INVALID. */
int job_param_u64(const json_t *params, const char *key, uint64_t *ret_value, struct err *err);
/* ERR_INVALID for a member of params that is not in the NULL-terminated list, or text that is not text. */
int job_params_known(const json_t *params, const char *const *known, struct err *err);
/* "" when absent. */
const char *job_param_text(const json_t *params, const char *key);

#endif
