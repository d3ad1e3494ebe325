/* SPDX-License-Identifier: Apache-2.0
 *
 * Opening and closing points, for the steps of other kinds of jobs. Both look, as every step does: JOB_AGAIN until the vault has answered.
 */
#ifndef HUB_JOBS_BRANCH_STEPS_H
#define HUB_JOBS_BRANCH_STEPS_H

#include "hub/jobs/job_kind.h"

struct branch_opening {
    const char *name, *socket; /* "": none */
    uint64_t sequence;         /* 0: the latest */
    bool writable;
};
/* Opens a point at the job's vault. The id is in state "export_id" from the first look on; the result gets "export_id", "uri", "disks" and "sequence". */
int branch_steps_open(struct job_run *run, const struct branch_opening *opening, struct err *err);
/* For job_kind.cancel of a job that opens one. */
int branch_steps_undo_open(struct job_run *run, struct err *err);
/* Opens a branch that was closed and kept; the result as above. */
int branch_steps_reopen(struct job_run *run, const char *export_id, const char *socket, struct err *err);
/* Closes it at the job's vault; discard: a branch is removed with all that was written to it. One that is gone is closed. */
int branch_steps_close(struct job_run *run, const char *export_id, bool discard, struct err *err);

#endif
