/* SPDX-License-Identifier: Apache-2.0
 *
 * What jobs about copies of a machine's points in other vaults share.
 */
#ifndef HUB_JOBS_COPY_STEPS_H
#define HUB_JOBS_COPY_STEPS_H

#include "hub/jobs/job_kind.h"

/* The copy that the vault (id or name) has, as a struct copy_row. ERR_NOT_FOUND. */
int copy_steps_need(struct db_conn *conn, const struct machine_row *machine, const char *vault, struct db_set *ret_set,
    struct err *err);
/* The vault that params name as "vault" has the point that they name as "sequence" (0: its newest) in a copy. ERR_NOT_FOUND. */
int copy_steps_point(struct db_conn *conn, const struct machine_row *machine, const json_t *params,
    char ret_vault_id[IDENT_TEXT_SIZE], struct err *err);
/* May the vault (id or name) begin one? ERR_REFUSED, ERR_CONFLICT, ERR_NOSPACE, ERR_NOT_FOUND. */
int copy_steps_check(struct db_conn *conn, const struct machine_row *machine, const char *vault,
    char ret_vault_id[IDENT_TEXT_SIZE], struct err *err);

/* The vault that params name as "vault", by its id from then on, is to have a copy: it has one that is not ending, or may begin one. */
int copy_steps_choose(struct db_conn *conn, const struct machine_row *machine, json_t *params, struct err *err);

/* Steps: both vaults are told, unless that one has a copy; a point that is as new as the machine's newest of that moment is whole there. */
int copy_steps_begin(struct job_run *run, const char *vault_id, struct err *err);
int copy_steps_first(struct job_run *run, const char *vault_id, struct err *err);
/* For job_kind.cancel: what was begun is removed, by a job of its own. */
int copy_steps_undo(struct job_run *run, const char *vault_id, struct err *err);

#endif
