/* SPDX-License-Identifier: Apache-2.0
 *
 * What the daemon knows of the branches on its disk: looked up on the lane of their machine, after each change and now and then, and told
 * to the hub with each status. So a branch has an owner whatever crashed between making and opening it.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "transport/base/log.h"
#include "transport/vault/vaultd_private.h"

struct look_job {
    struct vaultjob job;
    struct branch_list list;
};

static int look_run(struct vaultjob *job, struct err *err)
{
    struct look_job *j = (struct look_job *)job;
    return branchlist_sweep(job->vm->dir, err) < 0 ? -1 : branchlist_load(job->vm->dir, &j->list, err);
}

static void look_done(struct vaultjob *job)
{
    struct look_job *j = (struct look_job *)job;
    struct vmachine *vm = job->vm;
    if (job->result == 0) {
        branchlist_done(&vm->branches);
        vm->branches = j->list;
        vm->branches_known = true;
        j->list = (struct branch_list){0};
        vm->d->status_due_usec = 0;
    } else if (job->err.code != ERR_CANCELLED) {
        log_event(LOG_ERROR, "branches_unknown", LOG_S("machine", vm->id_text), LOG_E(&job->err));
    }
    branchlist_done(&j->list);
    free(j);
}

void vaultbranch_look(struct vmachine *vm)
{
    struct look_job *j = vm->d->stopping ? NULL : mem_new(struct look_job);
    if (j == NULL)
        return;
    j->job.run = look_run;
    j->job.done = look_done;
    if (vaultjob_lane(vm, &j->job, NULL) < 0)
        free(j);
}

struct vmachine *vaultbranch_machine(const struct vaultd *d, const char *id)
{
    struct ident branch;
    char name[IDENT_TEXT_SIZE];
    if (ident_from_text(id, &branch) < 0)
        return NULL;
    ident_to_text(&branch, name);
    for (struct vmachine *vm = d->machines; vm != NULL; vm = vm->next) {
        char *path AUTO_FREE = mem_printf("%s/branches/%s", vm->dir, name);
        if (path != NULL && access(path, F_OK) == 0)
            return vm;
    }
    return NULL;
}

/* ---- telling the hub ---- */

static Leeward__Control__V1__Branch *describe_one(const struct branch_entry *e)
{
    Leeward__Control__V1__Branch *b = mem_new(Leeward__Control__V1__Branch);
    if (b == NULL)
        return NULL;
    leeward__control__v1__branch__init(b);
    b->branch_id = (char *)(uintptr_t)e->name; /* the list outlives the report */
    b->base_sequence = e->info.base_sequence;
    b->created_utc_usec = e->info.created_utc_usec;
    b->stored_bytes = e->stored_bytes;
    b->damaged = e->damaged;
    return b;
}

static Leeward__Control__V1__MachineBranches *describe_machine(const struct vmachine *vm)
{
    Leeward__Control__V1__MachineBranches *m = mem_new(Leeward__Control__V1__MachineBranches);
    if (m == NULL)
        return NULL;
    leeward__control__v1__machine_branches__init(m);
    m->machine_id = (char *)(uintptr_t)vm->id_text;
    m->branches = mem_alloc(vm->branches.count + 1, sizeof(*m->branches));
    for (size_t i = 0; m->branches != NULL && i < vm->branches.count; i++)
        if ((m->branches[m->n_branches] = describe_one(&vm->branches.items[i])) != NULL)
            m->n_branches++;
    return m;
}

int vaultbranch_describe(const struct vaultd *d, Leeward__Control__V1__VaultStatus *status, struct err *err)
{
    size_t count = 0;
    for (const struct vmachine *vm = d->machines; vm != NULL; vm = vm->next)
        count += vm->branches_known;
    status->branches = mem_alloc(count + 1, sizeof(*status->branches));
    bool whole = status->branches != NULL;
    for (const struct vmachine *vm = d->machines; whole && vm != NULL; vm = vm->next) {
        if (!vm->branches_known)
            continue;
        Leeward__Control__V1__MachineBranches *m = describe_machine(vm);
        if (m != NULL)
            status->branches[status->n_branches++] = m;
        whole = m != NULL && m->n_branches == vm->branches.count; /* one that is not listed counts as gone */
    }
    return whole ? 0 : err_set(err, ERR_NOMEM, "no memory to list branches");
}

void vaultbranch_describe_done(Leeward__Control__V1__VaultStatus *status)
{
    for (size_t i = 0; i < status->n_branches; i++) {
        for (size_t k = 0; k < status->branches[i]->n_branches; k++)
            free(status->branches[i]->branches[k]);
        free(status->branches[i]->branches);
        free(status->branches[i]);
    }
    free(status->branches);
    status->branches = NULL;
    status->n_branches = 0;
}
