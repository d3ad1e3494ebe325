/* SPDX-License-Identifier: Apache-2.0
 *
 * Jobs that write a machine's points to the disks of another one, the receiver: what they check before anything starts, and what they share. Params
 * are {"to": id of the receiver, "disks": [{"number": of the machine's disk, "key": of the receiver's}]}; without "to" the machine's own disks are meant.
 */
#ifndef HUB_JOBS_RECEIVER_STEPS_H
#define HUB_JOBS_RECEIVER_STEPS_H

#include "hub/jobs/failover_steps.h"

bool receiver_is_another(const json_t *params);
/* For checks. numbers_json: array of the numbers of the disks to be written; NULL: those that are protected. "confirm" must be the receiver's name, and
 * "disks" may be missing for a receiver in the rescue system, where there is no choice. ERR_REFUSED: the receiver is protected, away or busy, or a disk too small, in use or of the running system. */
int receiver_check(
    struct db_conn *conn, const struct machine_row *machine, json_t *params, const char *numbers_json, struct err *err);

/* The machine whose agent writes, and its name for people. */
const char *receiver_id(const struct job_run *run);
/* A look: the node has heard of what was written down for it. JOB_DONE also when it is away for long, which is the agent's to complain about. */
int receiver_node_knows(struct job_run *run, struct err *err);
/* A look: the receiver's agent may read the points. JOB_DONE at once where there is no receiver. */
int receiver_admit(struct job_run *run, struct err *err);
/* A look at a command to whoever writes; disks and source are filled in. *ret_answer is a new reference. numbers_json as above. */
int receiver_ask(struct job_run *run, const char *numbers_json, Leeward__Control__V1__ReceiveDisks *receive,
    json_t **ret_answer, struct err *err);
/* From now on the machine's disks are the receiver's, whose agent reads no more. */
int receiver_settle(struct job_run *run, struct err *err);
/* A step: a receiver in a rescue system starts from its disks. One that is gone does so already. */
int receiver_restart(struct job_run *run, struct err *err);
/* For job_kind.cancel: the disks are given back, and its agent reads no more. */
int receiver_undo(struct job_run *run, struct err *err);

#endif
