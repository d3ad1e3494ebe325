/* SPDX-License-Identifier: Apache-2.0
 *
 * machine_restore: a machine that is lost gets other hardware. The disks of another machine, one in a rescue system as a rule, are written with a point; from
 * then on they are the machine's disks, under a new generation (P7), and its agent, which is on them where the system's disk was protected, goes on from there.
 */
#include <stdio.h>
#include <string.h>

#include "hub/core/machine_state.h"
#include "hub/db/branch_store.h"
#include "hub/db/failover_store.h"
#include "hub/db/protection_store.h"
#include "hub/jobs/job.h"
#include "hub/jobs/point_steps.h"
#include "hub/jobs/receiver_steps.h"
#include "transport/base/mem.h"

enum { STEP_CHECK, STEP_WRITE, STEP_SETTLE };

static int check_state(struct db_conn *conn, const struct machine_row *machine, struct err *err)
{
    int state = machine_state_from_name(machine->state), live;

    if (state < 0 || !machine_state_replicates((enum machine_state)state)) {
        err_set(err, ERR_REFUSED, "%s is %s: no point of it can be restored", machine->name, machine->state);
        return err_hint(err, state == MACHINE_REVERSE_PROTECTED
                                 ? "Its replica is the machine: leeward failover failback --to OTHER"
                                 : "Only a protected machine is restored; a replica is reprotected and failed back.");
    }
    if ((live = failover_is_live(conn, machine->id, err)) <= 0)
        return live;
    err_set(err, ERR_REFUSED, "a failover of the machine is under way");
    return err_hint(err, "End it first: leeward failover list");
}

static int restore_check(struct db_conn *conn, const struct machine_row *machine, json_t *params,
    char ret_vault_id[IDENT_TEXT_SIZE], struct err *err)
{
    static const char *const known[] = {"to", "sequence", "disks", "confirm", NULL};
    uint64_t sequence;

    if (job_params_known(params, known, err) < 0 || check_state(conn, machine, err) < 0 ||
        job_param_u64(params, "sequence", &sequence, err) < 0 || point_steps_sequence(conn, machine, params, err) < 0)
        return -1;
    if (!receiver_is_another(params))
        return err_set(err, ERR_INVALID, "to: missing");
    if (sequence == 0) {
        err_set(err, ERR_REFUSED, "the machine %s has no recovery point", machine->name);
        return err_hint(err, "leeward point list %s", machine->name);
    }
    if (receiver_check(conn, machine, params, NULL, err) < 0)
        return -1;
    return point_steps_vault(conn, machine->id, ret_vault_id, err);
}

static int ask(struct job_run *run, bool check_only, json_t **ret_answer, struct err *err)
{
    Leeward__Control__V1__ReceiveDisks receive = LEEWARD__CONTROL__V1__RECEIVE_DISKS__INIT;

    if (job_param_u64(run->params, "sequence", &receive.sequence, err) < 0)
        return -1;
    receive.check_only = check_only;
    receive.last = !check_only;
    return receiver_ask(run, NULL, &receive, ret_answer, err);
}

/* What was so at submission may have changed before the job began. */
static int check_still(struct job_run *run, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};

    if (job_machine(run, &set, err) < 0)
        return -1;
    if (check_state(run->conn, db_at(&set, struct machine_row, 0), err) == 0)
        return 0;
    run->final = true;
    return -1;
}

static int check_disks(struct job_run *run, struct err *err)
{
    json_t *answer = NULL;
    int rc = check_still(run, err);

    if (rc == 0)
        rc = receiver_admit(run, err);
    if (rc == JOB_DONE)
        rc = ask(run, true, &answer, err);
    json_decref(answer);
    return rc;
}

static int write_disks(struct job_run *run, struct err *err)
{
    json_t *answer = NULL;
    int rc = ask(run, false, &answer, err);

    if (rc != JOB_DONE)
        return rc;
    snprintf(run->detail, sizeof(run->detail), "%s bytes were different", job_param_text(answer, "written_bytes"));
    return json_object_set_new(run->result, "restored", answer) < 0 ? err_set(err, ERR_NOMEM, "no memory") : JOB_DONE;
}

/* The machine that was thought lost may have come back meanwhile, or have a replica: then that is the machine, and nothing is taken from it. */
static int settle(struct job_run *run, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    AUTO_DB_SET struct db_set other = {0};
    uint64_t generation;

    if (check_still(run, err) < 0 || job_machine(run, &set, err) < 0 ||
        db_need(run->conn, &db_machines, receiver_id(run), &other, err) < 0)
        return -1;
    const struct machine_row *m = db_at(&set, struct machine_row, 0);

    if (m->online) {
        run->final = true;
        err_set(err, ERR_REFUSED, "the agent of %s has come back meanwhile: the machine would be there twice", m->name);
        return err_hint(err, "Switch the one that came back off, and restore again: what is written travels no more.");
    }
    if (receiver_settle(run, err) < 0 || machine_generation_raise(run->conn, m->id, &generation, err) < 0 ||
        machine_converge_anew(run->conn, m->id, err) < 0)
        return -1;
    snprintf(run->detail, sizeof(run->detail), "generation %llu", (unsigned long long)generation);
    return failover_tell(run, "machine_restored", "warning",
               TEXT_VALUES(VALUE_TEXT("machine", m->name),
                   VALUE_TEXT("other", db_at(&other, struct machine_row, 0)->name),
                   VALUE_TEXT("sequence", job_param_text(run->params, "sequence"))),
               err) < 0
               ? -1
               : JOB_DONE;
}

static int undo_restore(struct job_run *run, struct err *err)
{
    return run->job->ordinal > STEP_SETTLE ? 0 : receiver_undo(run, err);
}

const struct job_kind job_kind_machine_restore = {.name = "machine_restore",
    .needs_machine = true,
    .may_cancel = true,
    .check = restore_check,
    .cancel = undo_restore,
    .undo_on_failure = true,
    .steps = {[STEP_CHECK] = {"check", "Ask the agent whether its disks can be written", check_disks, NULL},
        [STEP_WRITE] = {"write", "Write what differs", write_disks, NULL},
        [STEP_SETTLE] = {"settle", "These disks are the machine's", settle, NULL},
        {"restart", "Start it from its disks", receiver_restart, NULL}}};
