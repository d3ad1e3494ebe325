/* SPDX-License-Identifier: Apache-2.0
 *
 * What the jobs about failovers share: a replica as its target's adapter wants it told, and the looks at what the adapter does.
 */
#ifndef HUB_JOBS_FAILOVER_STEPS_H
#define HUB_JOBS_FAILOVER_STEPS_H

#include "hub/core/failover_state.h"
#include "hub/core/text_value.h"
#include "hub/fabric/fabric_task.h"
#include "hub/jobs/job_kind.h"

/* The spec of hub/fabric/compute.h. options_json: those of the failover; disks: an array as the vault tells open disks, NULL: those that are
 * protected, without URIs. A new reference; NULL with err. */
json_t *replica_spec(struct db_conn *conn, const struct failover_row *failover, const json_t *disks, struct err *err);
/* ERR_INVALID for options that are unknown or out of bounds. */
int replica_options_check(const json_t *options, struct err *err);

/* A look at the verb of the target's adapter: JOB_DONE with *ret_answer, JOB_AGAIN, -1. ret_answer may be NULL. */
int replica_ask(struct job_run *run, const struct failover_row *failover, enum fabric_verb verb, const json_t *disks,
    bool graceful, json_t **ret_answer, struct err *err);

/* The failover of the job: params name it, or the job has made it itself. */
const char *failover_id(const struct job_run *run);
int failover_read(struct job_run *run, struct db_set *ret_set, const struct failover_row **ret_row, struct err *err);
/* An event about the job's machine, in the words of its code (hub/core/event_text.h). */
int failover_tell(
    struct job_run *run, const char *code, const char *severity, const struct text_value *values, struct err *err);
/* A step: the failover's branch is closed and discarded, and its row forgets it. */
int failover_discard_branch(struct job_run *run, struct err *err);
/* For checks: the failover that params name is the machine's, and in a state from which the move is allowed. */
int failover_named_check(struct db_conn *conn, const struct machine_row *machine, const json_t *params,
    enum failover_move move, char ret_vault_id[IDENT_TEXT_SIZE], struct err *err);
/* The machine is in a state from which the move is allowed. */
int failover_check_machine(const struct machine_row *machine, enum machine_move move, struct err *err);
/* A step: the fix-ups that the failover asks for, on the disks of the result (fixup_steps.c). */
int fixup_steps_apply(struct job_run *run, struct err *err);
/* Steps of a failback: tries what the next one needs of the hub's host; takes back what was changed for the replica alone, unless keep_fixups. */
int fixup_steps_try_host(struct job_run *run, struct err *err);
int fixup_steps_take_back(struct job_run *run, struct err *err);
/* Steps of a planned failover with fix-ups, before anything of it begins: its point is opened to be read, what the fix-ups would change is listed, and it is
 * closed. What would fail later, with the source stopped, fails there. */
bool fixup_steps_rehearsal_wanted(const json_t *params);
int fixup_steps_rehearse_open(struct job_run *run, struct err *err);
int fixup_steps_rehearse(struct job_run *run, struct err *err);
int fixup_steps_rehearse_close(struct job_run *run, struct err *err);
/* A step: starts the replica on the disks of the result, and waits for its boot check. */
int failover_start_replica(struct job_run *run, struct err *err);

/* Disks of the machine, for a command to its agent: those with the numbers of a JSON array; NULL: those that are protected. */
struct receive_list {
    size_t count;
    Leeward__Control__V1__DesiredDisk **disks, *items;
    PGresult *rows;
};
int receive_list_read(struct db_conn *conn, const char *machine_id, const char *numbers_json,
    struct receive_list *ret_list, struct err *err);
void receive_list_done(struct receive_list *list);

#endif
