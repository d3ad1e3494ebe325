/* SPDX-License-Identifier: Apache-2.0
 *
 * disk_add, disk_exclude and disk_resize: disks of a machine while its protection goes on. A disk that is added is copied while the
 * others keep making points; one that is left out stays in the points that have it.
 *
 * A disk that grew is noticed by the agent without being asked, as soon as the kernel knows. disk_resize makes the kernel look, and
 * ends with a point that has the new size: after the copy that is under way, if there is one.
 */
#include <stdio.h>
#include <string.h>

#include "hub/core/machine_state.h"
#include "hub/db/disk_store.h"
#include "hub/db/failover_store.h"
#include "hub/db/protection_store.h"
#include "hub/jobs/point_steps.h"
#include "hub/jobs/protect_steps.h"
#include "transport/base/clock.h"

#define DISKS_MAX 256
/* How long an inventory with the new size may take into the hub before the job goes on without it. */
#define LISTED_USEC (30 * USEC_PER_SEC)

typedef int (*disk_check)(struct db_conn *conn, const char *machine_id, const char *disks_json, struct err *err);

/* ---- checks ---- */

static int check_params(const json_t *params, struct err *err)
{
    static const char *const known[] = {"disks", NULL};
    const json_t *disks = json_object_get(params, "disks");
    size_t i;
    json_t *key;

    if (job_params_known(params, known, err) < 0)
        return -1;
    if (!json_is_array(disks) || json_array_size(disks) == 0 || json_array_size(disks) > DISKS_MAX) {
        err_set(err, ERR_INVALID, "disks: not an array of 1 to %d disk keys", DISKS_MAX);
        return err_hint(err, "Name the disks by `key` as the machine lists them.");
    }
    json_array_foreach((json_t *)disks, i, key) if (!json_is_string(key)) return err_set(
        err, ERR_INVALID, "disks/%zu: not a text", i);
    return 0;
}

static char *disks_text(const json_t *params)
{
    return json_dumps(json_object_get(params, "disks"), JSON_COMPACT);
}

static int check(
    struct db_conn *conn, const struct machine_row *machine, const json_t *params, disk_check disks_ok, struct err *err)
{
    AUTO_FREE char *disks = NULL;
    int from = machine_state_from_name(machine->state);
    enum machine_state to;

    if (check_params(params, err) < 0)
        return -1;
    if (from < 0)
        return err_set(err, ERR_INTERNAL, "machine %s has an unknown state", machine->name);
    if (machine_move((enum machine_state)from, MOVE_CHANGE_DISKS, &to, err) < 0)
        return err_wrap(err, "machine %s", machine->name);
    disks = disks_text(params);
    return disks ? disks_ok(conn, machine->id, disks, err) : err_set(err, ERR_NOMEM, "no memory");
}

static int check_add(struct db_conn *conn, const struct machine_row *machine, json_t *params,
    char ret_vault_id[IDENT_TEXT_SIZE], struct err *err)
{
    (void)ret_vault_id;
    return check(conn, machine, params, disk_store_check_add, err);
}

static int check_exclude(struct db_conn *conn, const struct machine_row *machine, json_t *params,
    char ret_vault_id[IDENT_TEXT_SIZE], struct err *err)
{
    (void)ret_vault_id;
    return check(conn, machine, params, disk_store_check_exclude, err);
}

static int check_resize(struct db_conn *conn, const struct machine_row *machine, json_t *params,
    char ret_vault_id[IDENT_TEXT_SIZE], struct err *err)
{
    (void)ret_vault_id;
    return check(conn, machine, params, disk_store_check_protected, err);
}

/* ---- more and fewer ---- */

static int change(struct job_run *run,
    int (*apply)(
        struct db_conn *conn, const char *machine_id, const char *disks_json, uint64_t *ret_version, struct err *err),
    struct err *err)
{
    AUTO_FREE char *disks = disks_text(run->params);
    const char *machine = run->job->machine_id;
    uint64_t version;
    int n;

    if (!disks)
        return err_set(err, ERR_NOMEM, "no memory");
    /* The move first: it locks the machine, and two jobs cannot leave out what the other one counts on. */
    if (machine_state_move(run->conn, machine, MOVE_CHANGE_DISKS, run->job->requested_by, NULL, err) < 0 ||
        (n = apply(run->conn, machine, disks, &version, err)) < 0)
        return -1;
    snprintf(run->detail, sizeof(run->detail), "%d disk%s protected from now on", n, n == 1 ? " is" : "s are");
    if (json_object_set_new(run->result, "protected_disks", json_integer(n)) < 0)
        return err_set(err, ERR_NOMEM, "no memory");
    return job_state_put(run, "version", json_integer((json_int_t)version), err) < 0 ? -1 : JOB_DONE;
}

/* A failover takes the disks as they are when it begins. */
static int refuse_beside_failover(struct job_run *run, struct err *err)
{
    int live = failover_is_live(run->conn, run->job->machine_id, err);

    if (live <= 0)
        return live;
    err_set(err, ERR_REFUSED, "a failover of the machine is under way");
    return err_hint(err, "Change its disks when that is over: leeward failover list");
}

static int add(struct job_run *run, struct err *err)
{
    return refuse_beside_failover(run, err) < 0 ? -1 : change(run, protection_disks_add, err);
}

static int exclude(struct job_run *run, struct err *err)
{
    return refuse_beside_failover(run, err) < 0 ? -1 : change(run, protection_disks_exclude, err);
}

/* Cancelled: they are left out again, unless the machine's life has gone another way since. */
static int undo_add(struct job_run *run, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    int state;

    if (run->job->ordinal == 0)
        return 0;
    if (job_machine(run, &set, err) < 0)
        return -1;
    state = machine_state_from_name(db_at(&set, struct machine_row, 0)->state);
    if (state < 0 || !machine_state_replicates((enum machine_state)state))
        return 0;
    return change(run, protection_disks_exclude, err) < 0 ? -1 : 0;
}

/* ---- another size ---- */

static int ask_size(struct job_run *run, struct err *err)
{
    Leeward__Control__V1__Command command = LEEWARD__CONTROL__V1__COMMAND__INIT;
    Leeward__Control__V1__RescanDisks rescan = LEEWARD__CONTROL__V1__RESCAN_DISKS__INIT;
    const json_t *disks = json_object_get(run->params, "disks");
    char *keys[DISKS_MAX];
    json_t *key;
    size_t i;

    json_array_foreach((json_t *)disks, i, key) if (i < DISKS_MAX) keys[rescan.n_keys++] =
        (char *)(uintptr_t)json_string_value(key);
    rescan.keys = keys;
    command.kind_case = LEEWARD__CONTROL__V1__COMMAND__KIND_RESCAN_DISKS;
    command.rescan_disks = &rescan;
    return job_command_result(run, "agent", run->job->machine_id, "the agent", &command, err);
}

/* 1: the hub's inventory has the sizes that the agent gave; 0. */
static int sizes_are_listed(struct job_run *run, struct err *err)
{
    AUTO_FREE char *sizes = json_dumps(json_object_get(run->result, "disks"), JSON_COMPACT);
    int n;

    if (!sizes)
        return err_set(err, ERR_INTERNAL, "the agent's answer has no disks");
    n = db_exec(run->conn, NULL, err,
        "SELECT 1 FROM jsonb_to_recordset($2::jsonb) AS s(key text, size_bytes text)"
        " JOIN disks d ON d.machine_id = $1 AND d.key = s.key AND d.size_bytes::text <> s.size_bytes",
        DB_S(run->job->machine_id), DB_S(sizes));
    return n < 0 ? -1 : n == 0;
}

/* The agent makes no point while it copies for the first time or compares: asked then, it would answer after a minute that it could
 * not, as if something were wrong. */
static int until_listed(struct job_run *run, struct err *err)
{
    int listed = sizes_are_listed(run, err);

    if (listed < 0)
        return -1;
    if (listed || run->job->step_age_usec > LISTED_USEC)
        return protect_steps_while_copying(run, err);
    run->again_usec = 200 * USEC_PER_MSEC;
    return JOB_AGAIN;
}

const struct job_kind job_kind_disk_add = {.name = "disk_add",
    .needs_machine = true,
    .may_cancel = true,
    .check = check_add,
    .cancel = undo_add,
    .steps = {{"configure", "Number the disks and add them", add, NULL},
        {"agent", "Tell the agent", protect_steps_converged, NULL},
        {"initial", "Copy what is in use", protect_steps_until_protected, NULL}}};

const struct job_kind job_kind_disk_exclude = {.name = "disk_exclude",
    .needs_machine = true,
    .check = check_exclude,
    .steps = {{"configure", "Leave the disks out", exclude, NULL},
        {"agent", "Tell the agent", protect_steps_converged_or_away, NULL}}};

const struct job_kind job_kind_disk_resize = {.name = "disk_resize",
    .needs_machine = true,
    .may_cancel = true,
    .check = check_resize,
    .steps = {{"ask", "Ask the disks for their size", ask_size, NULL}, {"size", "Take the size up", until_listed, NULL},
        {"point", "Make a point that has it", point_steps_create, NULL},
        {"listed", "Wait for the vault's word", point_steps_until_listed, NULL}}};
