/* SPDX-License-Identifier: Apache-2.0
 *
 * What other kinds of jobs take from those that protect a machine.
 */
#ifndef HUB_JOBS_PROTECT_STEPS_H
#define HUB_JOBS_PROTECT_STEPS_H

#include "hub/jobs/job_kind.h"

/* A step: waits until the agent has taken up the desired version that an earlier step left in the state as "version". */
int protect_steps_converged(struct job_run *run, struct err *err);
/* The same, but does not wait for an agent that is away: it hears of it when it returns. */
int protect_steps_converged_or_away(struct job_run *run, struct err *err);
/* Waits while the agent copies or compares: no point is made then. The detail says how far it is. ERR_CANCELLED: it was unprotected. */
int protect_steps_while_copying(struct job_run *run, struct err *err);
/* A step: waits until hub and agent both call the machine protected. The result gets "first_point". */
int protect_steps_until_protected(struct job_run *run, struct err *err);

#endif
