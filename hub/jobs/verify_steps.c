/* SPDX-License-Identifier: Apache-2.0
 *
 * vault_verify: a vault reads everything it holds, or all of one machine, or of either what was not verified before, and reports
 * what is damaged.
 */
#include <string.h>

#include "hub/db/protection_store.h"
#include "hub/jobs/job_kind.h"
#include "transport/base/clock.h"

static int only_vault(struct db_conn *conn, char ret_id[IDENT_TEXT_SIZE], struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    const struct db_page page = {.limit = 2};

    if (db_list(conn, &db_vaults, &page, &set, err) < 0)
        return -1;
    if (set.count != 1) {
        err_set(err, ERR_INVALID, "vault_id: there are %s vaults", set.count ? "several" : "no");
        return err_hint(err, "Name the vault: leeward vault list");
    }
    memcpy(ret_id, db_at(&set, struct vault_row, 0)->id, IDENT_TEXT_SIZE);
    return 0;
}

static int verify_check(struct db_conn *conn, const struct machine_row *machine, json_t *params,
    char ret_vault_id[IDENT_TEXT_SIZE], struct err *err)
{
    static const char *const known[] = {"vault_id", "machine_id", "incremental", "not_since", NULL};

    (void)machine;
    return job_params_known(params, known, err) < 0 ? -1 : job_choose_vault(conn, params, ret_vault_id, err);
}

int job_choose_vault(struct db_conn *conn, const json_t *params, char ret_vault_id[IDENT_TEXT_SIZE], struct err *err)
{
    const char *vault = job_param_text(params, "vault_id"), *of = job_param_text(params, "machine_id");
    AUTO_DB_SET struct db_set set = {0};
    int kept;

    if (vault[0]) {
        if (db_need(conn, &db_vaults, vault, &set, err) < 0)
            return -1;
        memcpy(ret_vault_id, db_at(&set, struct vault_row, 0)->id, IDENT_TEXT_SIZE);
        return 0;
    }
    kept = of[0] ? protection_vault(conn, of, ret_vault_id, err) : 0;
    if (kept != 0)
        return kept < 0 ? -1 : 0;
    return only_vault(conn, ret_vault_id, err);
}

static int verify(struct job_run *run, struct err *err)
{
    Leeward__Control__V1__Command command = LEEWARD__CONTROL__V1__COMMAND__INIT;
    Leeward__Control__V1__Verify request = LEEWARD__CONTROL__V1__VERIFY__INIT;

    request.machine_id = (char *)job_param_text(run->params, "machine_id");
    request.incremental = json_is_true(json_object_get(run->params, "incremental"));
    if (job_param_text(run->params, "not_since")[0] &&
        clock_parse_rfc3339(job_param_text(run->params, "not_since"), &request.not_since_utc_usec, err) < 0)
        return -1;
    command.kind_case = LEEWARD__CONTROL__V1__COMMAND__KIND_VERIFY;
    command.verify = &request;
    return job_command_result(run, "vault", run->job->vault_id, "the vault", &command, err);
}

static int undo_verify(struct job_run *run, struct err *err)
{
    return job_command_cancel(run, "vault", run->job->vault_id, err);
}

const struct job_kind job_kind_vault_verify = {.name = "vault_verify",
    .may_cancel = true,
    .check = verify_check,
    .cancel = undo_verify,
    .steps = {{"verify", "Read and check everything", verify, NULL}}};
