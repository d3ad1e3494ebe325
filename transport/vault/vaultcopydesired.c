/* SPDX-License-Identifier: Apache-2.0
 *
 * What the hub wants of copies: which machines' points come from which other vault, how fast, and who may read those that are here.
 */
#include <stdio.h>
#include <string.h>

#include "transport/base/clock.h"
#include "transport/vault/vaultcopy_private.h"

static void set_readers(struct vmachine *vm, char *const *ids, size_t count)
{
    struct copy_reader before[READERS_MAX];
    unsigned before_count = vm->reader_count;
    memcpy(before, vm->readers, sizeof(before));
    vm->reader_count = 0;
    for (size_t i = 0; i < count && vm->reader_count < READERS_MAX; i++) {
        struct copy_reader *r = &vm->readers[vm->reader_count];
        *r = (struct copy_reader){.known_usec = clock_mono_usec()};
        if (ident_from_text(ids[i], &r->vault) < 0)
            continue;
        for (unsigned k = 0; k < before_count; k++)
            if (ident_equal(&before[k].vault, &r->vault))
                *r = before[k];
        vm->reader_count++;
    }
}

/* What is under way has nothing more to do. */
static void give_up(struct vaultcopy *c)
{
    atomic_store(&c->off, true);
    if (c->ask != NULL)
        vaultask_give_up(c->ask->ask, true);
    if (c->waits)
        vaultcopysource_ring(c->job.vm->d);
}

void vaultcopy_unset(struct vmachine *vm)
{
    vm->reader_count = 0;
    if (vm->copy == NULL)
        return;
    vm->copy->wanted = false;
    if (vm->copy->busy)
        give_up(vm->copy);
    else
        vaultcopy_forget(vm);
}

void vaultcopy_set(struct vmachine *vm, const Leeward__Control__V1__VaultMachine *m)
{
    struct ident vault;
    struct vaultcopy *c = vm->copy;
    if (m->copy_vault_id[0] == '\0' || ident_from_text(m->copy_vault_id, &vault) < 0 ||
        strlen(m->copy_vault_endpoint) >= COPY_ENDPOINT_MAX) {
        vaultcopy_unset(vm);
        set_readers(vm, m->reader_vault_ids, m->n_reader_vault_ids);
        return;
    }
    set_readers(vm, m->reader_vault_ids, m->n_reader_vault_ids);
    if (c == NULL)
        c = vm->copy = mem_new(struct vaultcopy);
    if (c == NULL)
        return;
    bool same = ident_equal(&c->vault, &vault) && strcmp(c->endpoint, m->copy_vault_endpoint) == 0;
    c->vault = vault;
    (void)snprintf(c->endpoint, sizeof(c->endpoint), "%s", m->copy_vault_endpoint);
    c->interval_usec = m->copy_interval_usec > USEC_PER_SEC ? m->copy_interval_usec : USEC_PER_SEC;
    if (c->busy && (!same || !c->wanted))
        give_up(c);
    if (!same)
        c->loaded = false;
    if (!same || !c->wanted)
        c->due_usec = 0;
    c->wanted = true;
    c->news = true;
    if (vm->stream != NULL) {
        struct err why = ERR_INIT;
        (void)err_set(
            &why, ERR_REFUSED, "this vault has a copy of the machine's points: it is replicated to another one");
        replicate_refuse(vm->stream, &why);
    }
}

/* One that is being taken back is none any more: its points may be the machine's own line now, and are to be told as such. */
bool vaultcopy_is_copy(const struct vmachine *vm)
{
    return vm->copy != NULL && vm->copy->wanted;
}

void vaultcopy_forget_told(struct vaultd *d)
{
    for (struct vmachine *vm = d->machines; vm != NULL; vm = vm->next)
        if (vm->copy != NULL)
            vm->copy->news = true;
}

void vaultcopy_throttle(struct vaultd *d, const Leeward__Control__V1__VaultDesired *desired)
{
    d->copy_rate = desired->throttle_bytes_per_sec;
    d->copy_work_rate = desired->work_throttle_bytes_per_sec;
    d->copy_flow_rate = desired->machine_throttle_bytes_per_sec;
    workhours_take(
        &d->copy_hours, desired->work_windows, desired->n_work_windows, desired->utc_offsets, desired->n_utc_offsets);
}
