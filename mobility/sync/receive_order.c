/* SPDX-License-Identifier: Apache-2.0
 *
 * See receive_order.h.
 */
#include "mobility/sync/receive_order.h"

#include <stdio.h>
#include <string.h>

static int take_disk(const Leeward__Control__V1__DesiredDisk *d, struct receive_order *o, struct err *err)
{
    if (d->key[0] == '\0' || strlen(d->key) >= sizeof(o->disks[0].key) || d->number > RECORD_DISK_MAX)
        return err_set(err, ERR_INVALID, "a disk's key has 1 to %zu bytes, its number is at most %u",
            sizeof(o->disks[0].key) - 1, RECORD_DISK_MAX);
    for (unsigned i = 0; i < o->disk_count; i++)
        if (strcmp(o->disks[i].key, d->key) == 0 || o->disks[i].number == d->number)
            return err_set(err, ERR_INVALID, "the disk %s is named twice, or another one has its number", d->key);
    o->disks[o->disk_count].number = d->number;
    snprintf(o->disks[o->disk_count++].key, sizeof(o->disks[0].key), "%s", d->key);
    return 0;
}

int receive_order_read(const char *command_id, const Leeward__Control__V1__ReceiveDisks *command,
    struct receive_order *ret_order, struct err *err)
{
    struct receive_order *o = ret_order;
    struct ident id;

    *o = (struct receive_order){.sequence = command->sequence,
        .check_only = command->check_only,
        .last = command->last,
        .release = command->release};
    if (ident_from_text(command->receive_id, &id) < 0)
        return err_set(err, ERR_INVALID, "a failback is named by a UUID");
    if (command_id[0] == '\0' || strlen(command_id) >= sizeof(o->command_id))
        return err_set(err, ERR_INVALID, "a command has an id of 1 to %zu bytes", sizeof(o->command_id) - 1);
    if (command->machine_id[0] && ident_from_text(command->machine_id, &o->machine) < 0)
        return err_set(err, ERR_INVALID, "a machine is named by a UUID");
    ident_to_text(&id, o->receive_id);
    snprintf(o->command_id, sizeof(o->command_id), "%s", command_id);
    if (o->release)
        return 0;
    if (command->n_disks == 0 || command->n_disks > MARK_DISKS_MAX || (o->last && o->sequence == 0))
        return err_set(err, ERR_INVALID, "a failback writes 1 to %u disks, the last time to a point", MARK_DISKS_MAX);
    for (size_t i = 0; i < command->n_disks; i++)
        if (take_disk(command->disks[i], o, err) < 0)
            return -1;
    return 0;
}

bool receive_order_same_disks(const struct receive_order *a, const struct receive_order *b)
{
    if (a->disk_count != b->disk_count)
        return false;
    for (unsigned i = 0; i < a->disk_count; i++)
        if (a->disks[i].number != b->disks[i].number || strcmp(a->disks[i].key, b->disks[i].key) != 0)
            return false;
    return true;
}
