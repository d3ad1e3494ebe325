/* SPDX-License-Identifier: Apache-2.0
 *
 * The command EraseMachine. Refused while a point is locked (P6), is open, or a branch stands on one. The hub erases what is
 * unprotected; the machine's stream may end a little later than its protection, which is waited for, and refused when it goes on.
 * What is left of the files goes beside the lane, and at the next start; then what the bucket has of the machine (vaultupload.c).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "transport/base/clock.h"
#include "transport/base/log.h"
#include "transport/vault/erase.h"
#include "transport/vault/opening.h"
#include "transport/vault/scrub.h"
#include "transport/vault/storelock.h"
#include "transport/vault/vaultd_private.h"

/* A node that is just starting anew, or finding its hub again, ends the stream within this. */
#define STREAM_ENDS_USEC (60 * USEC_PER_SEC)

struct erase_job {
    struct vaultjob job;
    char *command;       /* id */
    uint64_t until_usec; /* monotonic: how long the end of the stream is waited for */
};

static void job_free(struct erase_job *j)
{
    free(j->command);
    free(j);
}

static void answer(struct vaultd *d, const char *command, const struct err *err, const char *json)
{
    if (err != NULL)
        log_event(LOG_WARN, "erase_failed", LOG_E(err));
    if (d->session != NULL)
        session_command_done(d->session, command, err, json);
}

/* ---- files ---- */

static int sweep_run(struct vaultjob *job, struct err *err)
{
    const struct vaultd *d = job->vm->d;
    return erase_sweep(d->data_dir, vaultupload_is_configured(d), err);
}

static void sweep_done(struct vaultjob *job)
{
    if (job->result < 0 && job->err.code != ERR_CANCELLED)
        log_event(LOG_ERROR, "erased_files_stay", LOG_S("machine", job->vm->id_text), LOG_E(&job->err));
    vaultupload_erased(job->vm);
    job_free((struct erase_job *)job);
}

/* ---- the key ---- */

static int check_locks(struct vmachine *vm, const struct pointlist *points, struct err *err)
{
    struct storelock lock;
    uint64_t now = retentionclock_now(&vm->d->clock), until = 0;
    char text[CLOCK_RFC3339_SIZE];
    if (storelock_load(vm->dir, &vm->id, &lock, err) < 0)
        return -1;
    for (size_t i = 0; i < points->count; i++) {
        uint64_t locked = storelock_until(&lock, &points->items[i]);
        until = locked > until ? locked : until;
    }
    if (until <= now)
        return 0;
    if (vm->d->clock.damaged)
        return err_set(
            err, ERR_CORRUPT, "the vault's retention.clock is damaged: whether a lock has run out is not known");
    clock_rfc3339(until == UINT64_MAX ? until : clock_utc_usec() + (until - now), text);
    (void)err_set(err, ERR_REFUSED, "recovery points of this machine are locked until %s", text);
    return err_hint(err, "a retention lock cannot be shortened by anybody: erase the machine after that");
}

static int erase_run(struct vaultjob *job, struct err *err)
{
    struct vmachine *vm = job->vm;
    struct store *s;
    if (vm->lane_token != 0)
        return err_set(err, ERR_REFUSED, "the machine is being replicated");
    if (vmachine_store(vm, &s, err) == 0) {
        if (check_locks(vm, store_points(s), err) < 0)
            return -1;
        store_close(s);
        vm->store = NULL;
    } else if (err->code != ERR_CORRUPT && err->code != ERR_DENIED) {
        return -1; /* a store that nobody can open may be erased */
    }
    droplog_done(&vm->dropped);
    vm->dropped_loaded = false;
    vm->erased = erase_key(vm->d->data_dir, &vm->id, err) == 0;
    return vm->erased ? 0 : -1;
}

static void erase_done(struct vaultjob *job)
{
    struct erase_job *j = (struct erase_job *)job;
    struct vmachine *vm = job->vm;
    if (job->result < 0) {
        vm->desired = vm->was_desired;
        answer(vm->d, j->command, &job->err, NULL);
        job_free(j);
        return;
    }
    log_event(LOG_WARN, "machine_erased", LOG_S("machine", vm->id_text));
    quarantine_done(&vm->quarantine);
    vm->scrubbed = (struct scrubstate){0};
    vm->last_point = vm->reported = vm->known_sequence = 0;
    answer(vm->d, j->command, NULL, "{}");
    job->run = sweep_run;
    job->done = sweep_done;
    if (vm->d->stopping || vaultjob_paced(vm->d, vm, job, NULL) < 0)
        job_free(j);
}

/* ---- the command ---- */

static int check_free(struct vmachine *vm, struct err *err)
{
    uint64_t *open AUTO_FREE = NULL;
    size_t count = 0;
    if (opening_pinned(vm, &open, &count, err) < 0)
        return -1;
    if (count == 0 && vm->branches.count == 0)
        return 0;
    (void)err_set(err, ERR_REFUSED, "points of this machine are open, or it has branches");
    return err_hint(err, "close them first: leeward point opened, leeward branch list");
}

static void refuse(struct vmachine *vm, struct erase_job *j, const struct err *err)
{
    answer(vm->d, j->command, err, NULL);
    job_free(j);
}

static void begin(struct vmachine *vm, struct erase_job *j)
{
    struct err err = ERR_INIT;
    if (check_free(vm, &err) < 0) {
        refuse(vm, j, &err);
        return;
    }
    if (vm->scrub != NULL)
        scrub_cancel(vm->scrub);
    vm->was_desired = vm->desired;
    vm->desired = false; /* nothing of ours makes its folder anew */
    j->job.run = erase_run;
    j->job.done = erase_done;
    if (vaultjob_lane(vm, &j->job, &err) < 0)
        refuse(vm, j, &err);
}

void vaulterase_tick(struct vmachine *vm, uint64_t now_usec)
{
    struct erase_job *j = vm->erase;
    struct err err = ERR_INIT;
    if (j == NULL || vm->healing || (vm->stream != NULL && now_usec < j->until_usec))
        return; /* a healing job would make the folder again */
    vm->erase = NULL;
    if (vm->stream == NULL) {
        begin(vm, j);
        return;
    }
    (void)err_set(&err, ERR_REFUSED, "the machine is being replicated");
    (void)err_hint(&err, "unprotect it first: leeward machine unprotect");
    refuse(vm, j, &err);
}

void vaulterase_forget(struct vmachine *vm)
{
    if (vm->erase != NULL)
        job_free(vm->erase);
    vm->erase = NULL;
}

static struct erase_job *job_new(const char *command_id, struct err *err)
{
    struct erase_job *j = mem_new(struct erase_job);
    if (j != NULL && (j->command = mem_strdup(command_id)) != NULL) {
        j->until_usec = clock_mono_usec() + STREAM_ENDS_USEC;
        return j;
    }
    free(j);
    (void)err_set(err, ERR_NOMEM, "no memory to erase a machine");
    return NULL;
}

void vaulterase_start(struct vaultd *d, const char *command_id, const char *machine_id)
{
    struct err err = ERR_INIT;
    struct ident id;
    struct vmachine *vm = ident_from_text(machine_id, &id) < 0 ? NULL : vaultd_machine(d, &id);
    struct erase_job *j = NULL;
    if (vm == NULL)
        (void)err_set(&err, ERR_NOT_FOUND, "this vault does not hold the machine %s", machine_id);
    else if (vm->erase != NULL && strcmp(vm->erase->command, command_id) == 0)
        return; /* the hub repeats what it has no answer to */
    else if (vm->erase != NULL)
        (void)err_set(&err, ERR_REFUSED, "the machine is being erased already");
    else
        j = job_new(command_id, &err);
    if (j == NULL) {
        answer(d, command_id, &err, NULL);
        return;
    }
    vm->erase = j;
    vaulterase_tick(vm, clock_mono_usec());
}
