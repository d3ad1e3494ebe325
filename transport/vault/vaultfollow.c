/* SPDX-License-Identifier: Apache-2.0
 *
 * Following the branches of replicas that are protected (follow.h): by the clock, as the desired state says and whether the hub is there or not
 * (P9); and once more when a command asks for it, whose answer names the point. Both are jobs on the machine's lane, so they follow one another.
 */
#include <stdlib.h>
#include <string.h>

#include "transport/base/clock.h"
#include "transport/base/log.h"
#include "transport/vault/follow.h"
#include "transport/vault/vaultd_private.h"

struct follow_job {
    struct vaultjob job;
    char branch[IDENT_TEXT_SIZE];
    uint64_t generation;
    bool by_clock;
    struct follow_result result;
    void (*done)(void *arg, uint64_t sequence, const struct err *err); /* NULL: nobody waits */
    void *arg;
};

static int follow_run(struct vaultjob *job, struct err *err)
{
    struct follow_job *j = (struct follow_job *)job;
    struct vmachine *vm = job->vm;
    struct store *s;
    if (vmachine_store(vm, &s, err) < 0)
        return -1;
    /* Another stream, another branch, or a store that was opened anew: the epoch of the pass before is over. */
    if (vm->lane_token != 0 || vm->follow_epoch != store_epoch(s))
        vm->follow_epoch = 0;
    vm->lane_token = 0;
    return follow_branch(s, j->branch, j->generation, &vm->follow_epoch, &j->result, err);
}

/* Said once, and again when it is over. */
static void tell_trouble(struct vmachine *vm, const struct err *err)
{
    bool fails = err != NULL;
    if (vm->follow_fails == fails)
        return;
    vm->follow_fails = fails;
    if (fails)
        log_event(LOG_ERROR, "follow_failed", LOG_S("machine", vm->id_text), LOG_E(err));
    else
        log_event(LOG_INFO, "follow_goes_on", LOG_S("machine", vm->id_text));
    if (vm->d->session == NULL)
        return;
    if (fails)
        session_event(vm->d->session, "error", "replica_not_protected", vm->id_text, err->correction, err->text);
    else
        session_event(vm->d->session, "info", "replica_protected_again", vm->id_text, "",
            "Recovery points of the replica are made again.");
}

static void follow_done(struct vaultjob *job)
{
    struct follow_job *j = (struct follow_job *)job;
    struct vmachine *vm = job->vm;
    if (j->by_clock)
        vm->following = false;
    if (job->result == 0) {
        vm->last_point = j->result.sequence > vm->last_point ? j->result.sequence : vm->last_point;
        vm->generation = vm->generation < j->generation ? j->generation : vm->generation;
        if (!vm->syncing)
            vaultreport_sync(vm);
    }
    if (job->result == 0 || job->err.code != ERR_CANCELLED)
        tell_trouble(vm, job->result == 0 ? NULL : &job->err);
    if (j->done != NULL)
        j->done(j->arg, j->result.sequence, job->result == 0 ? NULL : &job->err);
    free(j);
}

static int submit(struct vmachine *vm, struct follow_job *j, struct err *err)
{
    j->job.run = follow_run;
    j->job.done = follow_done;
    return vaultjob_lane(vm, &j->job, err);
}

void vaultfollow_set(struct vmachine *vm, const char *branch, uint64_t interval_usec)
{
    struct ident id;
    vm->follow_interval_usec = interval_usec;
    if (ident_from_text(branch, &id) < 0)
        vm->follow_branch[0] = '\0';
    else
        ident_to_text(&id, vm->follow_branch);
}

void vaultfollow_tick(struct vmachine *vm, uint64_t now)
{
    if (vm->follow_branch[0] == '\0' || vm->following || vm->d->stopping || vm->d->full ||
        now - vm->followed_usec < vm->follow_interval_usec)
        return;
    struct follow_job *j = mem_new(struct follow_job);
    if (j == NULL)
        return;
    memcpy(j->branch, vm->follow_branch, sizeof(j->branch));
    j->generation = vm->generation;
    j->by_clock = true;
    if (submit(vm, j, NULL) < 0) {
        free(j);
        return;
    }
    vm->following = true;
    vm->followed_usec = now;
}

/* Whoever streams has an older generation. */
static void refuse_stream(struct vmachine *vm)
{
    struct err why = ERR_INIT;
    (void)err_set(&why, ERR_REFUSED, "the machine runs as a replica");
    (void)err_hint(&why, "its source is fenced: leeward failover failback");
    if (vm->stream != NULL)
        replicate_refuse(vm->stream, &why);
}

int vaultfollow_start(struct vaultd *d, const struct vaultfollow_spec *spec, struct err *err)
{
    struct ident machine, branch;
    if (ident_from_text(spec->machine_id, &machine) < 0 || ident_from_text(spec->branch_id, &branch) < 0)
        return err_set(err, ERR_INVALID, "the branch and the machine are named by UUIDs");
    if (spec->generation == 0)
        return err_set(err, ERR_INVALID, "following a branch needs a generation");
    struct vmachine *vm = vaultd_machine(d, &machine);
    if (vm == NULL)
        return err_set(err, ERR_NOT_FOUND, "this vault does not hold the machine %s", spec->machine_id);
    struct follow_job *j = mem_new(struct follow_job);
    if (j == NULL)
        return err_set(err, ERR_NOMEM, "no memory to follow a branch");
    refuse_stream(vm);
    ident_to_text(&branch, j->branch);
    j->generation = spec->generation;
    j->done = spec->done;
    j->arg = spec->arg;
    if (submit(vm, j, err) == 0)
        return 0;
    free(j);
    return -1;
}
