/* SPDX-License-Identifier: Apache-2.0
 *
 * Older copies of disks as a base, a step of protecting: the vault takes them before the agent is told to begin, so that the agent compares
 * and sends what differs.
 */
#ifndef HUB_JOBS_SEED_STEPS_H
#define HUB_JOBS_SEED_STEPS_H

#include "hub/jobs/job_kind.h"

/* Checks "seeds" of a protect job at submission. */
int seed_steps_check(const struct machine_row *machine, const json_t *params, struct err *err);
bool seed_steps_wanted(const json_t *params);
/* The step; done at once where there are no seeds. */
int seed_steps_take(struct job_run *run, struct err *err);
/* The job ends early: tells the vault to stop. */
int seed_steps_undo(struct job_run *run, struct err *err);

#endif
