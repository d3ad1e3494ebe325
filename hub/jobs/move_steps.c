/* SPDX-License-Identifier: Apache-2.0
 *
 * machine_move: a machine goes to another process node. The new node hears of it first and says so; then agent and old node are
 * told in one transaction. The agent ends its change set, waits until the vault has all of it, and goes on at the new node with the
 * next sequence (mobility/sync/outbox.c), so nothing is sent twice; if the old node is gone, it sends again what is not committed.
 *
 * Failure modes: the new node goes away before the switch: nothing has changed, and the job says so. It goes away later: the job
 * fails, and placement finds another node. An agent that is away hears of it when it returns.
 */
#include <stdio.h>
#include <string.h>

#include "hub/db/journal.h"
#include "hub/db/placement_store.h"
#include "hub/db/protection_store.h"
#include "hub/jobs/job_kind.h"
#include "transport/base/clock.h"

#define LOOK_USEC (100 * USEC_PER_MSEC)
#define NODE_USEC (20 * USEC_PER_SEC)  /* until the new node has taken the machine up */
#define POINT_USEC (60 * USEC_PER_SEC) /* until a point has come through it */

/* ---- at submission ---- */

static int check_target(struct db_conn *conn, const char *node_id, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    struct placement_target target;
    int usable;

    if (!node_id[0])
        return 0;
    if (db_need(conn, &db_nodes, node_id, &set, err) < 0)
        return -1;
    usable = placement_target(conn, node_id, &target, err);
    if (usable != 0)
        return usable < 0 ? -1 : 0;
    err_set(err, ERR_REFUSED, "node %s takes no machines now: it is offline or being drained",
        db_at(&set, struct node_row, 0)->name);
    return err_hint(err, "Choose another node, start this one or end its draining: leeward node list");
}

static int move_check(struct db_conn *conn, const struct machine_row *machine, json_t *params,
    char ret_vault_id[IDENT_TEXT_SIZE], struct err *err)
{
    static const char *const known[] = {"node_id", "pin", "reason", NULL};
    const char *node_id = job_param_text(params, "node_id");
    struct placement_where where;
    int protected;

    (void)ret_vault_id;
    if (job_params_known(params, known, err) < 0)
        return -1;
    if (json_is_true(json_object_get(params, "pin")) && !node_id[0]) {
        err_set(err, ERR_INVALID, "pin: to which node?");
        return err_hint(err, "Name the node that the machine is to stay on.");
    }
    protected = placement_where(conn, machine->id, &where, err);
    if (protected < 0)
        return -1;
    if (!protected) {
        err_set(err, ERR_REFUSED, "machine %s is not protected: it is on no node", machine->name);
        return err_hint(err, "Protect it first: leeward machine protect");
    }
    if (where.is_read) {
        err_set(err, ERR_REFUSED, "machine %s is being written to another machine's disks, through its node",
            machine->name);
        return err_hint(err, "Wait for that: leeward job list");
    }
    return check_target(conn, node_id, err);
}

/* ---- steps ---- */

/* The one that was asked for, or the best other one. 1; 0: none, err says why. */
static int find_target(struct job_run *run, const char *from, char ret_id[IDENT_TEXT_SIZE], struct err *err)
{
    AUTO_FREE struct node_candidates *all = mem_new(struct node_candidates);
    const char *asked = job_param_text(run->params, "node_id");
    size_t best;

    if (asked[0]) {
        (void)snprintf(ret_id, IDENT_TEXT_SIZE, "%s", asked);
        return 1;
    }
    if (!all)
        return err_set(err, ERR_NOMEM, "no memory");
    if (placement_nodes_read(run->conn, run->job->machine_id, all, err) < 0)
        return -1;
    for (size_t i = 0; i < all->count; i++)
        if (strcmp(all->ids[i], from) == 0)
            all->nodes[i].online = false;
    if (!placement_node(all->nodes, all->count, &best, err)) {
        err_set(err, ERR_UNAVAILABLE, "no other process node is online");
        err_hint(err, "Start another node, or end the draining of one: leeward node list");
        return 0;
    }
    memcpy(ret_id, all->ids[best], IDENT_TEXT_SIZE);
    return 1;
}

static int set_pin(struct job_run *run, struct err *err)
{
    const char *asked = job_param_text(run->params, "node_id");
    bool pin = json_is_true(json_object_get(run->params, "pin"));

    if (job_param_text(run->params, "reason")[0])
        return 0; /* placement itself changes no pins */
    return placement_pin(run->conn, run->job->machine_id, pin ? asked : NULL, err);
}

static int no_longer_protected(struct job_run *run, struct err *err)
{
    run->final = true;
    err_set(err, ERR_REFUSED, "the machine is not protected any more");
    return err_hint(err, "There is nothing to move.");
}

static int announce(struct job_run *run, struct err *err)
{
    struct placement_where where;
    char target[IDENT_TEXT_SIZE];
    struct placement_target node;
    int n = placement_where(run->conn, run->job->machine_id, &where, err);

    if (n <= 0)
        return n < 0 ? -1 : no_longer_protected(run, err);
    if (set_pin(run, err) < 0)
        return -1;
    n = find_target(run, where.node_id, target, err);
    run->final = n == 0;
    if (n <= 0)
        return -1;
    if (json_object_set_new(run->result, "node_id", json_string(target)) < 0 ||
        json_object_set_new(run->result, "from_node_id", where.node_id[0] ? json_string(where.node_id) : json_null()) <
            0 ||
        job_state_put(run, "from", json_string(where.node_name), err) < 0)
        return err_set(err, ERR_NOMEM, "no memory");
    if (strcmp(target, where.node_id) == 0) {
        (void)snprintf(run->detail, sizeof(run->detail), "the machine is there already");
        return JOB_DONE;
    }
    if (placement_announce(run->conn, run->job->machine_id, target, err) < 0 ||
        placement_target(run->conn, target, &node, err) < 0 ||
        job_state_put(run, "target", json_string(target), err) < 0)
        return -1;
    return job_state_put(run, "version", json_integer((json_int_t)node.version), err) < 0 ? -1 : JOB_DONE;
}

static int until_node_knows(struct job_run *run, struct err *err)
{
    const char *target = job_state_text(run, "target");
    struct placement_target node;
    int usable;

    if (!target)
        return JOB_DONE;
    usable = placement_target(run->conn, target, &node, err);
    if (usable < 0)
        return -1;
    if (usable && node.reached >= job_state_u64(run, "version"))
        return JOB_DONE;
    run->again_usec = LOOK_USEC;
    if (!node.settled || (usable && run->job->step_age_usec < NODE_USEC))
        return JOB_AGAIN;
    run->final = true;
    err_set(err, ERR_UNAVAILABLE, "the node that was chosen %s", usable ? "does not answer" : "went away");
    return err_hint(err, "The machine has stayed where it was. Choose another node: leeward node list");
}

static int tell(struct job_run *run, const char *reason, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    const char *from = job_state_text(run, "from");
    bool placed = !from || !from[0];

    if (db_need(run->conn, &db_nodes, job_state_text(run, "target"), &set, err) < 0)
        return -1;
    const struct node_row *node = db_at(&set, struct node_row, 0);
    const struct event_spec event = {.severity = "info",
        .code = "machine_moved",
        .values = TEXT_VALUES(VALUE_TEXT("form", placed ? "placed" : "moved"), VALUE_TEXT("node", node->name),
            VALUE_TEXT("reason", reason), VALUE_TEXT("from_node", placed ? "" : from)),
        .machine_id = run->job->machine_id,
        .node_id = node->id,
        .job_id = run->job->id,
        .actor = run->job->requested_by};

    (void)snprintf(run->detail, sizeof(run->detail), "to %s", node->name);
    return event_append(run->conn, &event, err);
}

static int switch_over(struct job_run *run, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    const char *reason = job_param_text(run->params, "reason"), *target = job_state_text(run, "target");
    struct placement_where where;
    uint64_t version;
    int n;

    if (!target)
        return JOB_DONE;
    n = placement_where(run->conn, run->job->machine_id, &where, err);
    if (n < 0)
        return -1;
    if (n == 0 || strcmp(where.next_id, target) != 0)
        return no_longer_protected(run, err);
    if (job_machine(run, &set, err) < 0 ||
        placement_switch(run->conn, run->job->machine_id, reason[0] ? reason : "asked", &version, err) < 0 ||
        tell(run, reason[0] ? reason : "asked", err) < 0)
        return -1;
    if (job_state_put(run, "version", json_integer((json_int_t)version), err) < 0 ||
        job_state_put(run, "sequence",
            json_integer((json_int_t)db_at(&set, struct machine_row, 0)->last_point_sequence), err) < 0)
        return -1;
    return JOB_DONE;
}

/* The agent has heard, and a point has come that the new node carried; before the first point, hearing is all that can be asked for. */
static int until_it_goes_on(struct job_run *run, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    const char *target = job_state_text(run, "target");
    struct placement_target node;
    uint64_t reached;
    bool online;
    int usable;

    if (!target)
        return JOB_DONE;
    if (job_machine(run, &set, err) < 0 ||
        machine_convergence(run->conn, run->job->machine_id, &reached, &online, err) < 0)
        return -1;
    const struct machine_row *m = db_at(&set, struct machine_row, 0);
    bool heard = reached >= job_state_u64(run, "version"), points = strcmp(m->state, "protected") == 0;

    if (!online) {
        (void)snprintf(run->detail, sizeof(run->detail), "the agent is away and hears of it when it returns");
        return JOB_DONE;
    }
    if (heard && (!points || m->last_point_sequence > job_state_u64(run, "sequence")))
        return JOB_DONE;
    usable = placement_target(run->conn, target, &node, err);
    if (usable < 0)
        return -1;
    run->again_usec = LOOK_USEC;
    if (!node.settled || (usable && run->job->step_age_usec < POINT_USEC))
        return JOB_AGAIN;
    run->final = true;
    err_set(err, usable ? ERR_TIMEOUT : ERR_UNAVAILABLE, "%s",
        usable ? "the machine has been moved, but no recovery point has come through its new node yet"
               : "the new node went away");
    return err_hint(err, usable ? "Look at the machine's health: leeward machine show"
                                : "Placement finds another node; nothing is lost: leeward machine show");
}

/* Before the switch: the new node forgets the machine again. */
static int undo_move(struct job_run *run, struct err *err)
{
    struct placement_where where;
    const char *target = job_state_text(run, "target");
    int n = target ? placement_where(run->conn, run->job->machine_id, &where, err) : 0;

    if (n <= 0)
        return n;
    return strcmp(where.next_id, target) == 0 ? placement_announce(run->conn, run->job->machine_id, NULL, err) : 0;
}

const struct job_kind job_kind_machine_move = {.name = "machine_move",
    .needs_machine = true,
    .may_cancel = true,
    .check = move_check,
    .cancel = undo_move,
    .undo_on_failure = true,
    .steps = {{"announce", "Tell the new node", announce, NULL},
        {"node", "Wait for the new node", until_node_knows, NULL},
        {"switch", "Tell the agent and the old node", switch_over, NULL},
        {"agent", "Wait for a point through the new node", until_it_goes_on, NULL}}};
