/* SPDX-License-Identifier: Apache-2.0
 *
 * erase: everything that a vault holds of an unprotected machine is made unreadable for good, by destroying its key, and forgotten.
 * Asked for twice it does no harm: what the vault does not hold any more is erased.
 */
#include <string.h>

#include "hub/db/copy_store.h"
#include "hub/db/protection_store.h"
#include "hub/jobs/job_kind.h"

static int erase_check(struct db_conn *conn, const struct machine_row *machine, json_t *params,
    char ret_vault_id[IDENT_TEXT_SIZE], struct err *err)
{
    static const char *const known[] = {NULL};
    AUTO_PGRESULT PGresult *copy = NULL;
    int kept;

    if (job_params_known(params, known, err) < 0)
        return -1;
    if (strcmp(machine->state, "unprotected") != 0) {
        err_set(err, ERR_REFUSED, "machine %s is protected", machine->name);
        return err_hint(err, "Unprotect it first: leeward machine unprotect %s", machine->name);
    }
    kept = copy_any(conn, machine->id, &copy, err);
    if (kept > 0) {
        err_set(err, ERR_REFUSED, "the vault %s has a copy of the points of %s", db_text(copy, 0, 0), machine->name);
        return err_hint(err, "Remove it first: leeward copy remove %s %s", machine->name, db_text(copy, 0, 0));
    }
    if (kept == 0)
        kept = protection_vault(conn, machine->id, ret_vault_id, err);
    return kept > 0   ? 0
           : kept < 0 ? -1
                      : err_set(err, ERR_NOT_FOUND, "no vault holds anything of machine %s", machine->name);
}

/* It may have been protected since the job was asked for. */
static int is_unprotected(struct job_run *run, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};

    if (job_machine(run, &set, err) < 0)
        return -1;
    if (strcmp(db_at(&set, struct machine_row, 0)->state, "unprotected") == 0)
        return 0;
    return err_set(err, ERR_CANCELLED, "the machine was protected meanwhile");
}

static int destroy(struct job_run *run, struct err *err)
{
    Leeward__Control__V1__Command command = LEEWARD__CONTROL__V1__COMMAND__INIT;
    Leeward__Control__V1__EraseMachine request = LEEWARD__CONTROL__V1__ERASE_MACHINE__INIT;
    json_t *answer = NULL;
    int rc;

    if (is_unprotected(run, err) < 0)
        return -1;
    request.machine_id = (char *)(uintptr_t)run->job->machine_id;
    command.kind_case = LEEWARD__CONTROL__V1__COMMAND__KIND_ERASE_MACHINE;
    command.erase_machine = &request;
    rc = job_command(run, "vault", run->job->vault_id, "the vault", &command, &answer, err);
    json_decref(answer);
    return rc;
}

static int forget(struct job_run *run, struct err *err)
{
    return protection_forget(run->conn, run->job->machine_id, err) < 0 ? -1 : JOB_DONE;
}

const struct job_kind job_kind_erase = {.name = "erase",
    .needs_machine = true,
    .check = erase_check,
    .steps = {{"destroy", "Destroy the key of its data", destroy, NULL},
        {"forget", "Forget its recovery points", forget, NULL}}};
