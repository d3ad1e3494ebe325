/* SPDX-License-Identifier: Apache-2.0
 *
 * Promoting a branch, as a job on its machine's lane: the store is prepared, closed and opened again, which does it (promote.h). Whoever
 * streams at that moment has an older generation and is refused from then on.
 */
#include <stdlib.h>
#include <string.h>

#include "transport/base/log.h"
#include "transport/vault/promote.h"
#include "transport/vault/vaultd_private.h"

struct promote_job {
    struct vaultjob job;
    char id[IDENT_TEXT_SIZE];
    uint64_t generation;
    uint64_t sequence; /* of the point that came of it */
    void (*done)(void *arg, uint64_t sequence, const struct err *err);
    void *arg;
};

/* The newest point, if it is of that generation; else 0. */
static uint64_t promoted_point(const struct store *s, uint64_t generation)
{
    const struct pointlist *points = store_points(s);
    const struct point *last = points->count == 0 ? NULL : &points->items[points->count - 1];
    return last != NULL && last->generation == generation ? last->sequence : 0;
}

static int promote_run(struct vaultjob *job, struct err *err)
{
    struct promote_job *j = (struct promote_job *)job;
    struct vmachine *vm = job->vm;
    struct err why = ERR_INIT;
    struct store *s;
    if (vmachine_store(vm, &s, err) < 0)
        return -1;
    vm->lane_token = 0;
    if (promote_prepare(s, j->id, j->generation, &why) < 0) {
        /* Asked again after it was done: there is no branch any more, but its point. */
        j->sequence = why.code == ERR_NOT_FOUND ? promoted_point(s, j->generation) : 0;
        err_copy(err, &why);
        return j->sequence == 0 ? -1 : 0;
    }
    store_close(vm->store);
    vm->store = NULL;
    if (vmachine_store(vm, &s, err) < 0)
        return -1;
    j->sequence = promoted_point(s, j->generation);
    return j->sequence == 0 ? err_set(err, ERR_INTERNAL, "the branch was promoted and there is no point of it") : 0;
}

static void promote_done(struct vaultjob *job)
{
    struct promote_job *j = (struct promote_job *)job;
    struct vmachine *vm = job->vm;
    if (job->result == 0) {
        vm->last_point = j->sequence;
        vm->generation = vm->generation < j->generation ? j->generation : vm->generation;
        log_event(LOG_INFO, "branch_is_main_line", LOG_S("machine", vm->id_text), LOG_S("branch", j->id),
            LOG_U("sequence", j->sequence));
        vaultreport_sync(vm);
    }
    vaultbranch_look(vm);
    j->done(j->arg, j->sequence, job->result == 0 ? NULL : &job->err);
    free(j);
}

static int refuse_stream(struct vmachine *vm, uint64_t generation, struct err *err)
{
    struct err why = ERR_INIT;
    if (generation == 0)
        return err_set(err, ERR_INVALID, "a promotion needs a generation");
    (void)err_set(&why, ERR_REFUSED, "a branch becomes the machine's main line");
    if (vm->stream != NULL)
        replicate_refuse(vm->stream, &why);
    return 0;
}

int vaultpromote_start(struct vaultd *d, const struct vaultpromote_spec *spec, struct err *err)
{
    struct ident machine, branch;
    if (ident_from_text(spec->machine_id, &machine) < 0 || ident_from_text(spec->branch_id, &branch) < 0)
        return err_set(err, ERR_INVALID, "the branch and the machine are named by UUIDs");
    struct vmachine *vm = vaultd_machine(d, &machine);
    if (vm == NULL)
        return err_set(err, ERR_NOT_FOUND, "this vault does not hold the machine %s", spec->machine_id);
    if (refuse_stream(vm, spec->generation, err) < 0)
        return -1;
    struct promote_job *j = mem_new(struct promote_job);
    if (j == NULL)
        return err_set(err, ERR_NOMEM, "no memory to promote a branch");
    j->job.run = promote_run;
    j->job.done = promote_done;
    ident_to_text(&branch, j->id);
    j->generation = spec->generation;
    j->done = spec->done;
    j->arg = spec->arg;
    if (vaultjob_lane(vm, &j->job, err) == 0)
        return 0;
    free(j);
    return -1;
}
