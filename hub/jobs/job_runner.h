/* SPDX-License-Identifier: Apache-2.0
 *
 * The threads that work on jobs. Any number of hubs on one database share the jobs; a hub that is killed loses its leases
 * after JOB_LEASE_USEC and others go on; its successor on the same data folder lets go of them at once (job_store_let_go_of_dead).
 */
#ifndef HUB_JOBS_JOB_RUNNER_H
#define HUB_JOBS_JOB_RUNNER_H

#include "hub/db/db.h"
#include "hub/db/news.h"

/* A step is short (it never waits), so this is how long a killed hub's jobs stand still. */
#define JOB_LEASE_USEC (6ULL * 1000000)

struct job_runner;
/* hub_id: UUID text of this process, new at each start. db and news outlive the runner. */
int job_runner_start(struct db *db, struct news *news, const char *hub_id, unsigned threads,
    struct job_runner **ret_runner, struct err *err);
/* Lets the steps that run end. NULL is allowed. Stop it before news. */
void job_runner_stop(struct job_runner *runner);
/* Works on one runnable job's next step on the caller's thread. 1: did; 0: nothing to do, *ret_wait_usec; -1. For tests and the
 * runner's threads. */
int job_run_one(struct db_conn *conn, const char *hub_id, uint64_t *ret_wait_usec, struct err *err);

#endif
