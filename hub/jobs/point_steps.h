/* SPDX-License-Identifier: Apache-2.0
 *
 * What the kinds of jobs about recovery points share.
 */
#ifndef HUB_JOBS_POINT_STEPS_H
#define HUB_JOBS_POINT_STEPS_H

#include "hub/jobs/job_kind.h"

/* The vault that has the machine's points. ERR_REFUSED: none has. */
int point_steps_vault(struct db_conn *conn, const char *machine_id, char ret_id[IDENT_TEXT_SIZE], struct err *err);
/* A sequence that is named in params must be a point that the hub knows: ERR_NOT_FOUND. */
int point_steps_sequence(struct db_conn *conn, const struct machine_row *m, const json_t *params, struct err *err);

/* A step: the agent makes a point of params' "kind" (crash) and "tag"; the result gets its "sequence" and "time". */
int point_steps_create(struct job_run *run, struct err *err);
/* A step: waits until the point `sequence` of the result is in the hub's list, not for ever. */
int point_steps_until_listed(struct job_run *run, struct err *err);

#endif
