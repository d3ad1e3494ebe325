/* SPDX-License-Identifier: Apache-2.0
 *
 * A group point now: one member coordinates it, then all members' points have to come from their vaults.
 */
#include <string.h>

#include "hub/db/group_store.h"
#include "hub/jobs/job_kind.h"
#include "transport/base/clock.h"

/* How long the members' points may take to their vaults, and from there into the hub's list. */
#define COMPLETE_USEC (60 * USEC_PER_SEC)

static int check(struct db_conn *conn, const struct machine_row *machine, json_t *params,
    char ret_vault_id[IDENT_TEXT_SIZE], struct err *err)
{
    static const char *const known[] = {"group_id", NULL};
    AUTO_DB_SET struct db_set set = {0};
    const struct group_row *group;

    (void)machine;
    (void)ret_vault_id;
    if (job_params_known(params, known, err) < 0 ||
        db_need(conn, &db_groups, job_param_text(params, "group_id"), &set, err) < 0)
        return -1;
    group = db_at(&set, struct group_row, 0);
    if (group->member_count >= 2)
        return 0;
    err_set(err, ERR_REFUSED, "group %s has fewer than two machines", group->name);
    return err_hint(err, "Add machines: leeward group add %s MACHINE", group->name);
}

/* The member is chosen once; every look asks the same one. */
static int choose(struct job_run *run, struct err *err)
{
    char id[IDENT_TEXT_SIZE];
    int found;

    if (job_state_text(run, "asked_id"))
        return 0;
    found = group_asked_member(run->conn, job_param_text(run->params, "group_id"), id, err);
    if (found < 0)
        return -1;
    if (found == 0)
        return err_set(err, ERR_REFUSED, "the group has fewer than two machines now");
    return job_state_put(run, "asked_id", json_string(id), err);
}

static int ask_coordinator(struct job_run *run, struct err *err)
{
    Leeward__Control__V1__Command command = LEEWARD__CONTROL__V1__COMMAND__INIT;
    Leeward__Control__V1__CreateGroupPoint create = LEEWARD__CONTROL__V1__CREATE_GROUP_POINT__INIT;

    if (choose(run, err) < 0)
        return -1;
    create.group_id = (char *)job_param_text(run->params, "group_id");
    command.kind_case = LEEWARD__CONTROL__V1__COMMAND__KIND_CREATE_GROUP_POINT;
    command.create_group_point = &create;
    return job_command_result(run, "agent", job_state_text(run, "asked_id"), "the coordinating agent", &command, err);
}

static int until_complete(struct job_run *run, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    const char *id = job_param_text(run->result, "group_point_id");
    int found = db_get(run->conn, &db_group_points, id, &set, err);

    run->again_usec = 200 * USEC_PER_MSEC;
    if (found != 0)
        return found < 0 ? -1 : JOB_DONE;
    if (run->job->step_age_usec <= COMPLETE_USEC)
        return JOB_AGAIN;
    err_set(err, ERR_TIMEOUT, "not every member's point has come to its vault");
    return err_hint(err, "See that all members are protected and connected: leeward group show");
}

const struct job_kind job_kind_group_point = {.name = "group_point",
    .check = check,
    .steps = {{"ask", "Make the group point", ask_coordinator, NULL},
        {"complete", "Wait for all members' points", until_complete, NULL}}};
