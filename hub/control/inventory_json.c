/* SPDX-License-Identifier: Apache-2.0
 *
 * An agent's inventory as the JSON that hub/db stores. Lists are bounded; text is cleaned.
 */
#include "hub/control/control_plane.h"

#define DISKS_MAX 256
#define VOLUMES_MAX 256
#define MOUNTS_MAX 64
#define ADDRESSES_MAX 64
#define NICS_MAX 32

typedef Leeward__Control__V1__Inventory Inventory;
typedef Leeward__Control__V1__InventoryDisk InventoryDisk;
typedef Leeward__Control__V1__InventoryVolume InventoryVolume;

static json_t *texts(char *const *list, size_t count, size_t max)
{
    json_t *array = json_array();

    for (size_t i = 0; i < count && i < max; i++)
        (void)json_array_append_new(array, peer_report_json_text(list[i]));
    return array;
}

static json_t *volume_json(const InventoryVolume *v)
{
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "device", peer_report_json_text(v->device),
        "start_bytes", peer_report_json_u64(v->start_bytes), "length_bytes", peer_report_json_u64(v->length_bytes),
        "fs_type", peer_report_json_text(v->fs_type), "fs_uuid", peer_report_json_text(v->fs_uuid), "label",
        peer_report_json_text(v->label), "mount_points", texts(v->mount_points, v->n_mount_points, MOUNTS_MAX),
        "used_bytes", peer_report_json_u64(v->used_bytes));
}

static json_t *disk_json(const InventoryDisk *d)
{
    json_t *volumes = json_array();

    for (size_t i = 0; i < d->n_volumes && i < VOLUMES_MAX; i++)
        (void)json_array_append_new(volumes, volume_json(d->volumes[i]));
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:b, s:o, s:b, s:b, s:o}", "key",
        peer_report_json_text(d->key), "device", peer_report_json_text(d->device), "model",
        peer_report_json_text(d->model), "partition_table", peer_report_json_text(d->table), "size_bytes",
        peer_report_json_u64(d->size_bytes), "logical_sector_bytes", peer_report_json_u64(d->logical_sector_bytes),
        "physical_sector_bytes", peer_report_json_u64(d->physical_sector_bytes), "trackable", d->trackable ? 1 : 0,
        "not_trackable_reason", peer_report_json_text(d->not_trackable_reason), "volatile_cache",
        d->volatile_cache ? 1 : 0, "is_root", d->is_root ? 1 : 0, "volumes", volumes);
}

static json_t *nics_json(const Inventory *i)
{
    json_t *nics = json_array();

    for (size_t n = 0; n < i->n_nics && n < NICS_MAX; n++)
        (void)json_array_append_new(nics, json_pack("{s:o, s:o, s:o}", "name", peer_report_json_text(i->nics[n]->name),
                                              "mac", peer_report_json_text(i->nics[n]->mac), "addresses",
                                              texts(i->nics[n]->addresses, i->nics[n]->n_addresses, ADDRESSES_MAX)));
    return nics;
}

json_t *inventory_json(const Inventory *i, struct err *err)
{
    json_t *disks = json_array(), *out;

    for (size_t d = 0; d < i->n_disks && d < DISKS_MAX; d++)
        if (i->disks[d]->key[0])
            (void)json_array_append_new(disks, disk_json(i->disks[d]));
    out = json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:b, s:o}", "hostname",
        peer_report_json_text(i->hostname), "os_name", peer_report_json_text(i->os_name), "kernel",
        peer_report_json_text(i->kernel), "boot_id", peer_report_json_text(i->boot_id), "cpus",
        peer_report_json_u64(i->cpus), "memory_bytes", peer_report_json_u64(i->memory_bytes), "firmware",
        peer_report_json_text(i->firmware), "machine_uid", peer_report_json_text(i->machine_uid), "addresses",
        texts(i->addresses, i->n_addresses, ADDRESSES_MAX), "disks", disks, "rescue", i->rescue ? 1 : 0, "nics",
        nics_json(i));
    if (!out)
        (void)err_set(err, ERR_NOMEM, "no memory for an inventory");
    return out;
}
