/* SPDX-License-Identifier: Apache-2.0
 *
 * The command SeedMachine: seed.h in steps on the machine's lane, so that whatever else the machine's store is asked for comes in between. A
 * vault that ends in the middle leaves the job to the hub, which asks again; then it goes on where it was.
 */
#include <stdlib.h>
#include <string.h>

#include "transport/base/log.h"
#include "transport/vault/seed.h"
#include "transport/vault/vaultd_private.h"

struct vaultseed {
    struct vaultjob job;
    struct vaultseed_spec spec;
    struct seed *seed;
    int more;
    bool cancelled;
};

static void seed_end(struct vaultseed *v, const struct err *err)
{
    struct seed_progress p;
    seed_get_progress(v->seed, &p);
    char *json AUTO_FREE = err != NULL ? NULL
                                       : mem_printf("{\"seed_bytes\":\"%llu\",\"taken_bytes\":\"%llu\",\"resumed\":%s}",
                                             (unsigned long long)p.total_bytes, (unsigned long long)p.taken_bytes,
                                             p.resumed ? "true" : "false");
    v->spec.done(v->spec.arg, err, json);
    seed_free(v->seed);
    free(v);
}

static int step_run(struct vaultjob *job, struct err *err)
{
    struct vaultseed *v = (struct vaultseed *)job;
    struct store *s;
    if (vmachine_store(job->vm, &s, err) < 0)
        return -1;
    v->more = seed_step(v->seed, s, err);
    return v->more < 0 ? -1 : 0;
}

static void tell_progress(struct vaultseed *v)
{
    struct seed_progress p;
    seed_get_progress(v->seed, &p);
    v->spec.progress(v->spec.arg, (unsigned)((__uint128_t)p.at_bytes * 999 / p.total_bytes));
}

static void step_next(struct vaultseed *v);

static void step_done(struct vaultjob *job)
{
    struct vaultseed *v = (struct vaultseed *)job;
    struct err err = job->err;
    if (job->vm->d->stopping) {
        seed_free(v->seed);
        free(v);
        return;
    }
    if (job->result == 0 && v->more > 0 && v->cancelled)
        job->result = err_set(&err, ERR_CANCELLED, "the seed was cancelled");
    if (job->result < 0) {
        seed_end(v, &err);
        return;
    }
    tell_progress(v);
    if (v->more > 0) {
        step_next(v);
        return;
    }
    log_event(LOG_INFO, "machine_seeded", LOG_S("machine", job->vm->id_text));
    seed_end(v, NULL);
}

static void step_next(struct vaultseed *v)
{
    struct err err = ERR_INIT;
    v->job.run = step_run;
    v->job.done = step_done;
    if (vaultjob_lane(v->job.vm, &v->job, &err) < 0)
        seed_end(v, &err);
}

static int open_seed(const Leeward__Control__V1__SeedMachine *q, struct seed **ret_seed, struct err *err)
{
    struct seed_disk *disks AUTO_FREE = mem_alloc(q->n_disks + 1, sizeof(*disks));
    bool any = false;
    if (disks == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a seed");
    for (size_t i = 0; i < q->n_disks; i++) {
        disks[i] = (struct seed_disk){.number = q->disks[i]->number,
            .size_bytes = q->disks[i]->size_bytes,
            .sector_bytes = q->disks[i]->sector_bytes,
            .name = q->disks[i]->name,
            .path = q->disks[i]->path};
        any = any || q->disks[i]->path[0] != '\0';
    }
    if (!any)
        return err_set(err, ERR_INVALID, "a seed without a file");
    return seed_open(disks, q->n_disks, ret_seed, err);
}

int vaultseed_start(struct vaultd *d, const struct vaultseed_spec *spec, struct vaultseed **ret_seed, struct err *err)
{
    struct ident id;
    struct vmachine *vm = ident_from_text(spec->command->machine_id, &id) < 0 ? NULL : vaultd_machine(d, &id);
    if (vm == NULL || !vm->desired)
        return err_set(err, ERR_UNAVAILABLE, "this vault has not heard of the machine yet");
    if (vm->stream != NULL || vm->copy != NULL)
        return err_set(err, ERR_REFUSED, "the machine is being replicated");
    struct vaultseed *v = mem_new(struct vaultseed);
    if (v == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a seed");
    v->spec = *spec;
    v->spec.command = NULL;
    v->job.vm = vm;
    v->job.run = step_run;
    v->job.done = step_done;
    if (open_seed(spec->command, &v->seed, err) < 0 || vaultjob_lane(vm, &v->job, err) < 0) {
        seed_free(v->seed);
        free(v);
        return -1;
    }
    *ret_seed = v;
    return 0;
}

void vaultseed_cancel(struct vaultseed *v)
{
    v->cancelled = true;
}
