/* SPDX-License-Identifier: Apache-2.0
 *
 * machine_rotate_key: the vault gives a machine a new data key; what was written stays under the older ones, which it keeps. Asked for
 * twice it costs one key more.
 */
#include "hub/db/protection_store.h"
#include "hub/jobs/job_kind.h"

static int newkey_check(struct db_conn *conn, const struct machine_row *machine, json_t *params,
    char ret_vault_id[IDENT_TEXT_SIZE], struct err *err)
{
    static const char *const known[] = {NULL};
    int kept;

    if (job_params_known(params, known, err) < 0)
        return -1;
    kept = protection_vault(conn, machine->id, ret_vault_id, err);
    return kept > 0   ? 0
           : kept < 0 ? -1
                      : err_set(err, ERR_NOT_FOUND, "no vault holds anything of machine %s", machine->name);
}

static int newkey(struct job_run *run, struct err *err)
{
    Leeward__Control__V1__Command command = LEEWARD__CONTROL__V1__COMMAND__INIT;
    Leeward__Control__V1__NewDataKey request = LEEWARD__CONTROL__V1__NEW_DATA_KEY__INIT;

    request.machine_id = (char *)(uintptr_t)run->job->machine_id;
    command.kind_case = LEEWARD__CONTROL__V1__COMMAND__KIND_NEW_DATA_KEY;
    command.new_data_key = &request;
    return job_command_result(run, "vault", run->job->vault_id, "the vault", &command, err);
}

const struct job_kind job_kind_machine_rotate_key = {.name = "machine_rotate_key",
    .needs_machine = true,
    .check = newkey_check,
    .steps = {{"rotate", "Use a new data key from now on", newkey, NULL}}};
