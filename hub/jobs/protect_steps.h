/* SPDX-License-Identifier: Apache-2.0
 *
 * What other kinds of jobs take from those that protect a machine.
 */
#ifndef HUB_JOBS_PROTECT_STEPS_H
#define HUB_JOBS_PROTECT_STEPS_H

#include "hub/jobs/job_kind.h"

/* A step: waits until hub and agent both call the machine protected. The result gets "first_point". */
int protect_steps_until_protected(struct job_run *run, struct err *err);

#endif
