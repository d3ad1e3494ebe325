/* SPDX-License-Identifier: Apache-2.0
 *
 * vault_gc: a vault gives back, now, the space of what no recovery point needs any more.
 */
#include "hub/jobs/job_kind.h"

static int gc_check(struct db_conn *conn, const struct machine_row *machine, json_t *params,
    char ret_vault_id[IDENT_TEXT_SIZE], struct err *err)
{
    static const char *const known[] = {"vault_id", "machine_id", NULL};

    (void)machine;
    return job_params_known(params, known, err) < 0 ? -1 : job_choose_vault(conn, params, ret_vault_id, err);
}

static int give_back(struct job_run *run, struct err *err)
{
    Leeward__Control__V1__Command command = LEEWARD__CONTROL__V1__COMMAND__INIT;
    Leeward__Control__V1__Compact request = LEEWARD__CONTROL__V1__COMPACT__INIT;

    request.machine_id = (char *)job_param_text(run->params, "machine_id");
    command.kind_case = LEEWARD__CONTROL__V1__COMMAND__KIND_COMPACT;
    command.compact = &request;
    return job_command_result(run, "vault", run->job->vault_id, "the vault", &command, err);
}

static int stop_giving_back(struct job_run *run, struct err *err)
{
    return job_command_cancel(run, "vault", run->job->vault_id, err);
}

const struct job_kind job_kind_vault_gc = {.name = "vault_gc",
    .may_cancel = true,
    .check = gc_check,
    .cancel = stop_giving_back,
    .steps = {{"compact", "Rewrite what is mostly needless", give_back, NULL}}};
