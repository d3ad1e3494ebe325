/* SPDX-License-Identifier: Apache-2.0
 *
 * Happy path: the receiver and each pair of disks are checked by what its inventory says; the node is told whose agent may read the machine's points;
 * that agent checks again what only it can see (nobody uses the disk now, the point fits), and writes; then the machine's disks are those.
 * Failure modes: a receiver that goes away is waited for as any agent is; whatever fails or is cancelled before receiver_settle leaves the machine as it
 * was, and the receiver's disks neither the one nor the other.
 */
#include "hub/jobs/receiver_steps.h"

#include <stdio.h>
#include <string.h>

#include "hub/core/machine_state.h"
#include "hub/db/protection_store.h"
#include "hub/db/receiver_store.h"
#include "transport/base/clock.h"
#include "transport/base/mem.h"

#define NODE_USEC (60 * USEC_PER_SEC)
#define LOOK_USEC (200 * USEC_PER_MSEC)
#define DISKS_MAX 256
/* Columns of receiver_disks and of protection_disks. */
enum { THEIR_KEY, THEIR_DEVICE, THEIR_SIZE, THEIR_ROOT, THEIR_MOUNT };
enum { OUR_NUMBER, OUR_SIZE, OUR_DEVICE = 3, OUR_KEY };

bool receiver_is_another(const json_t *params)
{
    return job_param_text(params, "to")[0] != '\0';
}

const char *receiver_id(const struct job_run *run)
{
    return receiver_is_another(run->params) ? job_param_text(run->params, "to") : run->job->machine_id;
}

/* ---- which disk onto which ---- */

static int find_key(const PGresult *theirs, const char *key)
{
    for (int i = 0; i < PQntuples(theirs); i++)
        if (strcmp(db_text(theirs, i, THEIR_KEY), key) == 0)
            return i;
    return -1;
}

/* Why nothing may be written to it; what the agent will find out as well, but before anything starts. */
static int check_target(const PGresult *theirs, int i, const PGresult *ours, int j, struct err *err)
{
    const char *device = db_text(theirs, i, THEIR_DEVICE), *mount = db_text(theirs, i, THEIR_MOUNT);

    if (db_bool(theirs, i, THEIR_ROOT)) {
        err_set(err, ERR_REFUSED, "the disk %s holds the running system of the machine that is to be written", device);
        return err_hint(err, "Start that machine from the rescue image, or choose another disk.");
    }
    if (mount[0]) {
        err_set(err, ERR_REFUSED, "the disk %s is in use: it is mounted on %s", device, mount);
        return err_hint(err, "Unmount it; its content is going to be overwritten.");
    }
    if (db_u64(theirs, i, THEIR_SIZE) >= db_u64(ours, j, OUR_SIZE))
        return 0;
    err_set(err, ERR_REFUSED, "the disk %s has %llu bytes, and %llu are to be written", device,
        (unsigned long long)db_u64(theirs, i, THEIR_SIZE), (unsigned long long)db_u64(ours, j, OUR_SIZE));
    return err_hint(err, "Choose a disk that is at least as large as %s was.", db_text(ours, j, OUR_DEVICE));
}

static json_t *pair(const PGresult *ours, int j, const char *key)
{
    return json_pack("{s:I, s:s}", "number", (json_int_t)db_i64(ours, j, OUR_NUMBER), "key", key);
}

/* One disk to be written and one that it could be: there is no choice. */
static json_t *only_pair(const PGresult *ours, const PGresult *theirs, struct err *err)
{
    int fit = -1, count = 0;

    for (int i = 0; i < PQntuples(theirs); i++)
        if (check_target(theirs, i, ours, 0, NULL) == 0) {
            fit = i;
            count++;
        }
    if (PQntuples(ours) == 1 && count == 1)
        return json_pack("[o]", pair(ours, 0, db_text(theirs, fit, THEIR_KEY)));
    if (PQntuples(theirs) == 1 && PQntuples(ours) == 1)
        (void)check_target(theirs, 0, ours, 0, err);
    else if (PQntuples(theirs) == 0) {
        err_set(err, ERR_REFUSED, "the machine that is to be written has no disk");
        err_hint(err, "Wait until its agent has reported them: leeward disk list MACHINE");
    } else {
        err_set(
            err, ERR_INVALID, "disks: missing, and there is more than one way to write %d of them", PQntuples(ours));
        err_hint(err, "Name them: --disk NUMBER=KEY for each; leeward disk list shows numbers and keys.");
    }
    return NULL;
}

static int check_pair(const json_t *disks, const PGresult *ours, int j, const PGresult *theirs, struct err *err)
{
    long long number = db_i64(ours, j, OUR_NUMBER);
    const json_t *one;
    size_t at;

    json_array_foreach((json_t *)disks, at, one)
    {
        int i;

        if (json_integer_value(json_object_get(one, "number")) != (json_int_t)number)
            continue;
        i = find_key(theirs, job_param_text(one, "key"));
        if (i >= 0)
            return check_target(theirs, i, ours, j, err);
        err_set(err, ERR_INVALID, "disks/%zu: the machine that is to be written has no disk %.200s", at,
            job_param_text(one, "key"));
        return err_hint(err, "leeward disk list MACHINE shows the keys of its disks.");
    }
    err_set(err, ERR_INVALID, "disks: disk %lld (%s) is not among them", number, db_text(ours, j, OUR_DEVICE));
    return err_hint(err, "All disks that the point has are written.");
}

/* Each number and each key once. */
static int check_shape(const json_t *disks, struct err *err)
{
    if (!json_is_array(disks) || json_array_size(disks) > DISKS_MAX)
        return err_set(err, ERR_INVALID, "disks: not an array of at most %d", DISKS_MAX);
    for (size_t i = 0; i < json_array_size(disks); i++) {
        const json_t *one = json_array_get(disks, i);

        if (!json_is_integer(json_object_get(one, "number")) || !job_param_text(one, "key")[0])
            return err_set(err, ERR_INVALID, "disks/%zu: not {\"number\": ..., \"key\": ...}", i);
        for (size_t k = 0; k < i; k++) {
            const json_t *other = json_array_get(disks, k);

            if (json_equal(json_object_get(one, "number"), json_object_get(other, "number")) ||
                json_equal(json_object_get(one, "key"), json_object_get(other, "key")))
                return err_set(err, ERR_INVALID, "disks/%zu: the same as disks/%zu", i, k);
        }
    }
    return 0;
}

/* None that is not to be written. */
static int check_numbers(const json_t *disks, const PGresult *ours, struct err *err)
{
    for (size_t i = 0; i < json_array_size(disks); i++) {
        json_int_t number = json_integer_value(json_object_get(json_array_get(disks, i), "number"));
        int j = 0;

        while (j < PQntuples(ours) && db_i64(ours, j, OUR_NUMBER) != number)
            j++;
        if (j < PQntuples(ours))
            continue;
        err_set(err, ERR_INVALID, "disks/%zu: there is no disk %lld to be written", i, (long long)number);
        return err_hint(err, "leeward disk list MACHINE shows the numbers of its disks.");
    }
    return 0;
}

/* The numbers of pairs, as a JSON array. */
static char *numbers_of(const json_t *disks, struct err *err)
{
    json_t *numbers = json_array(), *one;
    char *text = NULL;
    size_t at;

    json_array_foreach((json_t *)disks, at, one)(void) json_array_append(numbers, json_object_get(one, "number"));
    if (json_array_size(numbers) == json_array_size(disks))
        text = json_dumps(numbers, JSON_COMPACT);
    json_decref(numbers);
    if (!text)
        err_set(err, ERR_NOMEM, "no memory for the disks of a job");
    return text;
}

/* Those with the numbers; NULL: those that were chosen, be they protected or not, for an older point may have others; else those that are protected. */
static int read_ours(struct db_conn *conn, const char *machine_id, const json_t *chosen, const char *numbers_json,
    PGresult **ret_ours, struct err *err)
{
    AUTO_FREE char *text = NULL;

    if (!numbers_json && chosen) {
        text = numbers_of(chosen, err);
        if (!text)
            return -1;
        numbers_json = text;
    }
    return numbers_json ? protection_disks_numbered(conn, machine_id, numbers_json, ret_ours, err)
                        : protection_disks(conn, machine_id, ret_ours, err);
}

/* A new reference: [{"number", "key"}] for all disks that are to be written. */
static json_t *resolve(
    struct db_conn *conn, const char *machine_id, const json_t *params, const char *numbers_json, struct err *err)
{
    AUTO_PGRESULT PGresult *ours = NULL;
    AUTO_PGRESULT PGresult *theirs = NULL;
    json_t *disks = json_object_get(params, "disks");
    int n;

    if (json_is_null(disks))
        disks = NULL;
    if (disks && check_shape(disks, err) < 0)
        return NULL;
    n = read_ours(conn, machine_id, disks, numbers_json, &ours, err);
    if (n < 0 || receiver_disks(conn, job_param_text(params, "to"), &theirs, err) < 0)
        return NULL;
    if (disks && check_numbers(disks, ours, err) < 0)
        return NULL;
    if (n == 0) {
        err_set(err, ERR_REFUSED, "the machine has no disk that could be written back");
        return NULL;
    }
    if (!disks)
        return only_pair(ours, theirs, err);
    for (int j = 0; j < n; j++)
        if (check_pair(disks, ours, j, theirs, err) < 0)
            return NULL;
    return json_incref(disks);
}

/* ---- checks ---- */

static int check_receiver(
    struct db_conn *conn, const struct machine_row *machine, const struct machine_row *to, struct err *err)
{
    AUTO_PGRESULT PGresult *busy = NULL;
    int n;

    if (strcmp(to->id, machine->id) == 0) {
        err_set(err, ERR_INVALID, "to: the machine itself");
        return err_hint(err, "Name another machine; its own disks are written by a failback.");
    }
    if (strcmp(to->state, machine_state_name(MACHINE_UNPROTECTED)) != 0) {
        err_set(err, ERR_REFUSED, "%s is a protected machine: its disks are not overwritten", to->name);
        return err_hint(err, "Unprotect it first, or choose another machine, as one that runs the rescue image.");
    }
    if (!to->online) {
        err_set(err, ERR_REFUSED, "the agent of %s is not connected", to->name);
        return err_hint(err, "Start that machine, from the rescue image where its disks are empty.");
    }
    if ((n = receiver_busy(conn, to->id, &busy, err)) <= 0)
        return n;
    err_set(err, ERR_REFUSED, "the disks of %s are being written with %s", to->name, db_text(busy, 0, 0));
    return err_hint(err, "Wait for that: leeward job list");
}

int receiver_check(
    struct db_conn *conn, const struct machine_row *machine, json_t *params, const char *numbers_json, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    json_t *disks;

    if (db_need(conn, &db_machines, job_param_text(params, "to"), &set, err) < 0)
        return -1;
    const struct machine_row *to = db_at(&set, struct machine_row, 0);

    if (check_receiver(conn, machine, to, err) < 0)
        return -1;
    if (machine->online) {
        err_set(err, ERR_REFUSED, "the agent of %s is connected: the machine would be there twice", machine->name);
        return err_hint(err, "Switch the machine that was it off first, or stop its agent for good.");
    }
    if (strcmp(job_param_text(params, "confirm"), to->name) != 0) {
        err_set(err, ERR_INVALID, "confirm: not the name of the machine whose disks are overwritten");
        return err_hint(err, "Type it: %s", to->name);
    }
    disks = json_object_get(params, "disks");
    if (!to->rescue && (!disks || json_is_null(disks))) {
        err_set(err, ERR_INVALID, "disks: missing, and %s does not run the rescue system", to->name);
        return err_hint(err, "A disk that nobody has mounted may be in use all the same. Name each: --disk NUMBER=KEY; "
                             "leeward disk list "
                             "shows numbers and keys.");
    }
    disks = resolve(conn, machine->id, params, numbers_json, err);
    json_decref(disks);
    return disks ? 0 : -1;
}

/* ---- steps ---- */

int receiver_node_knows(struct job_run *run, struct err *err)
{
    int knows = protection_node_knows(run->conn, run->job->machine_id, err);

    if (knows < 0)
        return -1;
    if (knows > 0 || run->job->step_age_usec >= NODE_USEC)
        return JOB_DONE;
    snprintf(run->detail, sizeof(run->detail), "waiting for the process node to take it up");
    run->again_usec = LOOK_USEC;
    return JOB_AGAIN;
}

int receiver_admit(struct job_run *run, struct err *err)
{
    int knows;

    if (!receiver_is_another(run->params) || job_state_text(run, "receiver_admitted"))
        return JOB_DONE;
    if (!job_state_text(run, "receiver_noted")) {
        if (receiver_put(run->conn, run->job->machine_id, receiver_id(run), err) < 0 ||
            job_state_put(run, "receiver_noted", json_string("yes"), err) < 0)
            return -1;
    }
    knows = receiver_node_knows(run, err);
    if (knows != JOB_DONE)
        return knows;
    return job_state_put(run, "receiver_admitted", json_string("yes"), err) < 0 ? -1 : JOB_DONE;
}

/* Pairs are found once: what the inventory says later does not send data elsewhere. */
static const json_t *pairs(struct job_run *run, const char *numbers_json, struct err *err)
{
    json_t *disks = json_object_get(run->state, "receiver_disks");

    if (disks)
        return disks;
    disks = resolve(run->conn, run->job->machine_id, run->params, numbers_json, err);
    if (!disks || job_state_put(run, "receiver_disks", disks, err) < 0)
        return NULL;
    return disks;
}

static int send(struct job_run *run, struct receive_list *list, Leeward__Control__V1__ReceiveDisks *receive,
    json_t **ret_answer, struct err *err)
{
    Leeward__Control__V1__Command command = LEEWARD__CONTROL__V1__COMMAND__INIT;
    char id[IDENT_TEXT_SIZE];

    snprintf(id, sizeof(id), "%s", run->job->id);
    receive->receive_id = id;
    receive->n_disks = list->count;
    receive->disks = list->disks;
    command.kind_case = LEEWARD__CONTROL__V1__COMMAND__KIND_RECEIVE_DISKS;
    command.receive_disks = receive;
    return job_command(run, "agent", receiver_id(run),
        receiver_is_another(run->params) ? "the agent of the machine that is written"
                                         : "the agent of the original machine",
        &command, ret_answer, err);
}

/* NULL: nobody chose a disk for it. */
static const char *chosen_key(const json_t *disks, uint32_t number)
{
    const json_t *one;
    size_t at;

    json_array_foreach((json_t *)disks, at, one)
    {
        if (json_integer_value(json_object_get(one, "number")) == (json_int_t)number)
            return job_param_text(one, "key");
    }
    return NULL;
}

/* The list names the machine's own disks; the receiver's take their places. One that has none keeps no key: on the receiver that may be the name of a
 * disk that nobody chose. */
static int substitute(struct job_run *run, struct receive_list *list, const char *numbers_json, struct err *err)
{
    const json_t *disks = pairs(run, numbers_json, err);

    if (!disks)
        return -1;
    for (size_t i = 0; i < list->count; i++) {
        const char *key = chosen_key(disks, list->items[i].number);

        if (!key) {
            run->final = true;
            err_set(err, ERR_REFUSED, "disk %u was added after the disks were chosen", list->items[i].number);
            return err_hint(err, "Start again, with a disk for it: --disk NUMBER=KEY for each");
        }
        list->items[i].key = (char *)(uintptr_t)key;
    }
    return 0;
}

int receiver_ask(struct job_run *run, const char *numbers_json, Leeward__Control__V1__ReceiveDisks *receive,
    json_t **ret_answer, struct err *err)
{
    AUTO_PGRESULT PGresult *node = NULL;
    AUTO_FREE char *chosen = NULL;
    struct receive_list list = {0};
    int rc;

    if (!numbers_json && receiver_is_another(run->params)) {
        const json_t *disks = pairs(run, NULL, err);

        numbers_json = chosen = disks ? numbers_of(disks, err) : NULL;
        if (!numbers_json)
            return -1;
    }
    rc = receive_list_read(run->conn, run->job->machine_id, numbers_json, &list, err);
    if (rc == 0 && receiver_is_another(run->params)) {
        int found = receiver_node(run->conn, run->job->machine_id, &node, err);

        rc = found < 0    ? -1
             : found == 0 ? err_set(err, ERR_UNAVAILABLE, "no process node serves the machine")
                          : substitute(run, &list, numbers_json, err);
        if (rc == 0) {
            receive->machine_id = (char *)(uintptr_t)run->job->machine_id;
            receive->node_endpoint = (char *)(uintptr_t)db_text(node, 0, 0);
            receive->node_id = (char *)(uintptr_t)db_text(node, 0, 1);
        }
    }
    if (rc == 0)
        rc = send(run, &list, receive, ret_answer, err);
    receive_list_done(&list);
    return rc;
}

int receiver_settle(struct job_run *run, struct err *err)
{
    AUTO_FREE char *disks = NULL;
    int moved;

    if (!receiver_is_another(run->params))
        return 0;
    disks = json_dumps(json_object_get(run->state, "receiver_disks"), JSON_COMPACT);
    if (!disks)
        return err_set(err, ERR_INTERNAL, "the job does not know what it has written");
    moved = receiver_take_place(run->conn, run->job->machine_id, receiver_id(run), disks, err);
    if (moved < 0)
        return -1;
    if ((size_t)moved != json_array_size(json_object_get(run->state, "receiver_disks")))
        return err_set(err, ERR_REFUSED, "a disk that was written is not in the hub's list any more");
    return receiver_put(run->conn, run->job->machine_id, NULL, err);
}

int receiver_restart(struct job_run *run, struct err *err)
{
    Leeward__Control__V1__ReceiveDisks receive = LEEWARD__CONTROL__V1__RECEIVE_DISKS__INIT;
    struct receive_list none = {0};
    AUTO_DB_SET struct db_set set = {0};
    json_t *answer = NULL;
    int rc;

    if (!receiver_is_another(run->params))
        return JOB_DONE;
    if (db_get(run->conn, &db_machines, receiver_id(run), &set, err) <= 0)
        return set.count == 0 && (!err || err->code == ERR_NONE) ? JOB_DONE : -1;
    const struct machine_row *to = db_at(&set, struct machine_row, 0);

    if (!to->rescue || !to->online) {
        snprintf(
            run->detail, sizeof(run->detail), to->rescue ? "%.200s has restarted" : "%.200s is left running", to->name);
        return JOB_DONE;
    }
    receive.restart = true;
    rc = send(run, &none, &receive, &answer, err);
    json_decref(answer);
    return rc;
}

int receiver_undo(struct job_run *run, struct err *err)
{
    Leeward__Control__V1__Command command = LEEWARD__CONTROL__V1__COMMAND__INIT;
    Leeward__Control__V1__ReceiveDisks release = LEEWARD__CONTROL__V1__RECEIVE_DISKS__INIT;

    if (receiver_is_another(run->params) && receiver_put(run->conn, run->job->machine_id, NULL, err) < 0)
        return -1;
    release.receive_id = (char *)(uintptr_t)run->job->id;
    release.release = true;
    command.kind_case = LEEWARD__CONTROL__V1__COMMAND__KIND_RECEIVE_DISKS;
    command.receive_disks = &release;
    return job_command_undo(run, "agent", receiver_id(run), &command, err);
}
