/* SPDX-License-Identifier: Apache-2.0
 *
 * The list of kinds, and what their steps share.
 */
#include "hub/jobs/job_kind.h"

#include <stdio.h>
#include <string.h>

#include "hub/core/json_members.h"
#include "transport/base/buf.h"
#include "transport/base/clock.h"
#include "transport/proto/wire.h"

#define COMMAND_MAX (64 * 1024)
#define PEER_GONE_USEC (60 * USEC_PER_SEC)

static const struct job_kind *const kinds[] = {&job_kind_protect, &job_kind_unprotect, &job_kind_resync,
    &job_kind_machine_move, &job_kind_machine_restore, &job_kind_copy, &job_kind_copy_remove, &job_kind_copy_use,
    &job_kind_disk_add, &job_kind_disk_exclude, &job_kind_disk_resize, &job_kind_point_create, &job_kind_point_open,
    &job_kind_branch_open, &job_kind_branch_promote, &job_kind_point_close, &job_kind_export, &job_kind_vault_verify,
    &job_kind_vault_rotate_key, &job_kind_machine_rotate_key, &job_kind_erase, &job_kind_vault_gc,
    &job_kind_group_point, &job_kind_failover, &job_kind_failover_change_point, &job_kind_failover_commit,
    &job_kind_failover_end, &job_kind_failover_reprotect, &job_kind_failover_failback, &job_kind_failover_resume,
    &job_kind_failover_preview, &job_kind_plan_run, &job_kind_plan_action, &job_kind_plan_gate, &job_kind_plan_end};

const struct job_kind *job_kind_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (strcmp(kinds[i]->name, name) == 0)
            return kinds[i];
    return NULL;
}

const struct job_kind *job_kind_at(size_t i)
{
    return i < ARRAY_LEN(kinds) ? kinds[i] : NULL;
}

/* ---- params and state ---- */

int job_params_known(const json_t *params, const char *const *known, struct err *err)
{
    const char *key = json_unknown_member(params, known);

    if (!key)
        return 0;
    err_set(err, ERR_INVALID, "%s: unknown member", key);
    return err_hint(err, "Leave it out.");
}

const char *job_param_text(const json_t *params, const char *key)
{
    const char *s = json_string_value(json_object_get(params, key));

    return s ? s : "";
}

int job_param_u64(const json_t *params, const char *key, uint64_t *ret_value, struct err *err)
{
    const json_t *v = json_object_get(params, key);
    const char *s = json_string_value(v);

    *ret_value = 0;
    if (!v || json_is_null(v))
        return 0;
    if (json_is_integer(v) && json_integer_value(v) >= 0) {
        *ret_value = (uint64_t)json_integer_value(v);
        return 0;
    }
    if (s && s[0] && strlen(s) <= 18 && strspn(s, "0123456789") == strlen(s)) {
        *ret_value = strtoull(s, NULL, 10);
        return 0;
    }
    err_set(err, ERR_INVALID, "%s: not a number", key);
    return err_hint(err, "Give a whole number, as a number or as text.");
}

const char *job_state_text(const struct job_run *run, const char *key)
{
    return json_string_value(json_object_get(run->state, key));
}

uint64_t job_state_u64(const struct job_run *run, const char *key)
{
    return (uint64_t)json_integer_value(json_object_get(run->state, key));
}

int job_state_put(struct job_run *run, const char *key, json_t *value, struct err *err)
{
    if (json_object_set_new(run->state, key, value) < 0)
        return err_set(err, ERR_NOMEM, "no memory for a job's state");
    return 0;
}

int job_step_begun(struct job_run *run, const char *name, struct err *err)
{
    return job_store_step_begun(run->conn, run->job->id, name, err);
}

int job_step_done(struct job_run *run, const char *name, struct err *err)
{
    return job_store_step_succeeded(run->conn, run->job->id, name, err);
}

int job_machine(struct job_run *run, struct db_set *ret_set, struct err *err)
{
    return db_need(run->conn, &db_machines, run->job->machine_id, ret_set, err);
}

/* ---- commands ---- */

static int queue(struct job_run *run, const char *role, const char *target_id, uint64_t ordinal,
    Leeward__Control__V1__Command *command, struct err *err)
{
    AUTO_BUF struct buf payload = BUF_INIT(COMMAND_MAX);
    char id[IDENT_TEXT_SIZE];
    struct ident random;

    if (ident_random(&random) < 0)
        return err_set(err, ERR_INTERNAL, "the kernel gives no randomness");
    ident_to_text(&random, id);
    command->command_id = id;
    if (wire_pack(&command->base, &payload, err) < 0)
        return -1;
    const struct command_put put = {.id = id,
        .job_id = run->job->id,
        .target_role = role,
        .target_id = target_id,
        .ordinal = ordinal,
        .payload = payload.data,
        .payload_len = payload.len};

    if (command_queue(run->conn, &put, err) < 0)
        return -1;
    return job_state_put(run, "command_id", json_string(id), err);
}

/* A command that is over: its result or its error. */
static int command_end(const struct command_state *c, const char *who, json_t **ret_result, struct err *err)
{
    if (c->code[0]) {
        err_set(err, err_code_from_name(c->code), "%s: %s", who, c->text);
        return err_hint(err, "%s", c->correction);
    }
    *ret_result = json_loads(c->result_json, JSON_REJECT_DUPLICATES, NULL);
    if (!json_is_object(*ret_result)) {
        json_decref(TAKE_PTR(*ret_result));
        return err_set(err, ERR_INTERNAL, "%s answered with something that is not an object", who);
    }
    return JOB_DONE;
}

int job_command(struct job_run *run, const char *role, const char *target_id, const char *who,
    Leeward__Control__V1__Command *command, json_t **ret_result, struct err *err)
{
    struct command_state c;
    int rc = command_look(run->conn, run->job->id, run->job->ordinal, &c, err);

    if (rc < 0)
        return -1;
    if (rc == 0) {
        snprintf(run->detail, sizeof(run->detail), "asked %s", who);
        return queue(run, role, target_id, run->job->ordinal, command, err) < 0 ? -1 : JOB_AGAIN;
    }
    run->final = true;
    if (c.done) {
        rc = command_end(&c, who, ret_result, err);
    } else if (c.gone_usec > PEER_GONE_USEC) {
        err_set(err, ERR_UNAVAILABLE, "%s is not connected to the hub", who);
        rc = err_hint(err, "Start it, or check that it reaches the hub's control port, and try again.");
    } else {
        run->progress_permille = c.progress_permille;
        snprintf(run->detail, sizeof(run->detail), "%s %s%s%.150s", who, c.target_online ? "works" : "is not connected",
            c.text[0] ? ": " : "", c.text);
        rc = JOB_AGAIN;
    }
    PQclear(c.result);
    return rc;
}

int job_command_result(struct job_run *run, const char *role, const char *target_id, const char *who,
    Leeward__Control__V1__Command *command, struct err *err)
{
    json_t *answer = NULL;
    int rc = job_command(run, role, target_id, who, command, &answer, err);

    if (rc == JOB_DONE && json_object_update(run->result, answer) < 0)
        rc = err_set(err, ERR_NOMEM, "no memory");
    json_decref(answer);
    return rc;
}

int job_command_undo(struct job_run *run, const char *role, const char *target_id,
    Leeward__Control__V1__Command *command, struct err *err)
{
    return queue(run, role, target_id, COMMAND_UNDO_ORDINAL + run->job->ordinal, command, err);
}

int job_command_cancel(struct job_run *run, const char *role, const char *target_id, struct err *err)
{
    const char *id = job_state_text(run, "command_id");
    Leeward__Control__V1__Command command = LEEWARD__CONTROL__V1__COMMAND__INIT;
    Leeward__Control__V1__Cancel cancel = LEEWARD__CONTROL__V1__CANCEL__INIT;

    if (!id)
        return 0;
    cancel.command_id = (char *)id;
    command.kind_case = LEEWARD__CONTROL__V1__COMMAND__KIND_CANCEL;
    command.cancel = &cancel;
    return job_command_undo(run, role, target_id, &command, err);
}
