/* SPDX-License-Identifier: Apache-2.0
 *
 * The inventory of a simulated machine: disks with one partition and one file system each. The key of a disk ends in its index
 * (simmachine.c finds it by that).
 */
#include <stdio.h>
#include <string.h>

#include "hub/fleet/simclass.h"
#include "hub/fleet/simmachine.h"

#define GIB (1ULL << 30)

static char *text(const char *s)
{
    return (char *)(uintptr_t)s;
}

static void add_volume(const struct simmachine *m, struct simmachine_inventory *inv, unsigned i)
{
    Leeward__Control__V1__InventoryVolume *v = &inv->volumes[i];

    leeward__control__v1__inventory_volume__init(v);
    (void)snprintf(inv->partitions[i], sizeof(inv->partitions[i]), "/dev/sd%c1", 'a' + (char)i);
    (void)snprintf(
        inv->mounts[i], sizeof(inv->mounts[i]), "%s%s", i == 0 ? "/" : m->class->mount_point, i > 1 ? "/more" : "");
    inv->mount_list[i] = inv->mounts[i];
    v->device = inv->partitions[i];
    v->start_bytes = 1 << 20;
    v->length_bytes = m->disks[i].size_bytes - (2 << 20);
    v->fs_type = text(m->class->fs_type);
    v->mount_points = &inv->mount_list[i];
    v->n_mount_points = 1;
    v->used_bytes = m->disks[i].used_bytes;
    inv->volume_list[i] = v;
}

static void add_disk(const struct simmachine *m, struct simmachine_inventory *inv, unsigned i)
{
    Leeward__Control__V1__InventoryDisk *d = &inv->disks[i];

    add_volume(m, inv, i);
    leeward__control__v1__inventory_disk__init(d);
    (void)snprintf(inv->keys[i], sizeof(inv->keys[i]), "serial:SIM%06u-%u", m->number, i);
    (void)snprintf(inv->devices[i], sizeof(inv->devices[i]), "/dev/sd%c", 'a' + (char)i);
    d->key = inv->keys[i];
    d->device = inv->devices[i];
    d->size_bytes = m->disks[i].size_bytes;
    d->logical_sector_bytes = 512;
    d->physical_sector_bytes = 4096;
    d->model = text("Simulated disk");
    d->table = text("gpt");
    d->trackable = true;
    d->volatile_cache = true;
    d->is_root = i == 0;
    d->volumes = &inv->volume_list[i];
    d->n_volumes = 1;
    inv->disk_list[i] = d;
}

void simmachine_inventory(const struct simmachine *m, struct simmachine_inventory *ret_inventory)
{
    struct simmachine_inventory *inv = ret_inventory;
    Leeward__Control__V1__Inventory *out = &inv->message;

    memset(inv, 0, sizeof(*inv));
    leeward__control__v1__inventory__init(out);
    simmachine_name(m, inv->name);
    (void)snprintf(inv->uid, sizeof(inv->uid), "51%030u", m->number);
    (void)snprintf(inv->boot_id, sizeof(inv->boot_id), "51000000-0000-4000-8000-%012u", m->number);
    /* 198.18.0.0/15 is set aside for measurements (RFC 2544): nobody has it. */
    (void)snprintf(inv->address, sizeof(inv->address), "198.18.%u.%u", m->number / 250 % 256, m->number % 250 + 1);
    inv->addresses[0] = inv->address;
    out->hostname = inv->name;
    out->os_name = text(m->class->os);
    out->kernel = text(m->class->kernel);
    out->boot_id = inv->boot_id;
    out->machine_uid = inv->uid;
    out->cpus = m->class->cpus;
    out->memory_bytes = m->class->memory_gib * GIB;
    out->firmware = text("uefi");
    out->addresses = inv->addresses;
    out->n_addresses = 1;
    for (unsigned i = 0; i < m->disk_count; i++)
        add_disk(m, inv, i);
    out->disks = inv->disk_list;
    out->n_disks = m->disk_count;
}
