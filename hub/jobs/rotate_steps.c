/* SPDX-License-Identifier: Apache-2.0
 *
 * vault_rotate_key: a vault makes itself a new key and wraps the data keys of its machines under it. What was interrupted the vault
 * finishes by itself.
 */
#include "hub/jobs/job_kind.h"

static int rotate_check(struct db_conn *conn, const struct machine_row *machine, json_t *params,
    char ret_vault_id[IDENT_TEXT_SIZE], struct err *err)
{
    static const char *const known[] = {"vault_id", NULL};

    (void)machine;
    return job_params_known(params, known, err) < 0 ? -1 : job_choose_vault(conn, params, ret_vault_id, err);
}

static int rotate(struct job_run *run, struct err *err)
{
    Leeward__Control__V1__Command command = LEEWARD__CONTROL__V1__COMMAND__INIT;
    Leeward__Control__V1__RotateKey request = LEEWARD__CONTROL__V1__ROTATE_KEY__INIT;

    command.kind_case = LEEWARD__CONTROL__V1__COMMAND__KIND_ROTATE_KEY;
    command.rotate_key = &request;
    return job_command_result(run, "vault", run->job->vault_id, "the vault", &command, err);
}

const struct job_kind job_kind_vault_rotate_key = {.name = "vault_rotate_key",
    .check = rotate_check,
    .steps = {{"rotate", "Wrap the keys of all machines under a new one", rotate, NULL}}};
