/* SPDX-License-Identifier: Apache-2.0
 *
 * Messages point into the inventory and into one block of text and arrays that the report owns.
 */
#include "mobility/report.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "mobility/nic_list.h"
#include "transport/base/buf.h"
#include "transport/base/file.h"
#include "transport/base/mem.h"

#define ADDRESSES_MAX 32u

typedef Leeward__Control__V1__Inventory inventory_message;
typedef Leeward__Control__V1__InventoryDisk disk_message;
typedef Leeward__Control__V1__InventoryVolume volume_message;
typedef Leeward__Control__V1__InventoryNic nic_message;

struct report_inventory {
    inventory_message message;
    struct utsname uts;
    char os_name[128];
    char machine_uid[64];
    char boot_id[64];
    char address_text[ADDRESSES_MAX][INET6_ADDRSTRLEN];
    char *addresses[ADDRESSES_MAX];
    struct nic nics[NIC_LIST_MAX];
    char *nic_addresses[NIC_LIST_MAX][NIC_ADDRESSES_MAX];
    nic_message nic_messages[NIC_LIST_MAX];
    nic_message *nic_list[NIC_LIST_MAX];
    disk_message *disks;
    disk_message **disk_list;
    volume_message *volumes;
    volume_message **volume_list;
};

/* First line of a file without its newline; "" when it cannot be read. */
static void first_line(const char *path, char *out, size_t out_size)
{
    struct buf b AUTO_BUF = BUF_INIT(65536);
    size_t n = 0;

    out[0] = '\0';
    if (file_read(path, &b, NULL) < 0)
        return;
    while (n < b.len && n + 1 < out_size && b.data[n] != '\n' && b.data[n] >= 0x20 && b.data[n] < 0x7f) {
        out[n] = (char)b.data[n];
        n++;
    }
    out[n] = '\0';
}

/* PRETTY_NAME="Debian GNU/Linux 12 (bookworm)" */
static void os_name(char *out, size_t out_size)
{
    static const char key[] = "PRETTY_NAME=";
    struct buf b AUTO_BUF = BUF_INIT(65536);
    const char *text, *at, *end;

    snprintf(out, out_size, "Linux");
    if (file_read("/etc/os-release", &b, NULL) < 0)
        return;
    text = buf_str(&b, NULL);
    at = text ? strstr(text, key) : NULL;
    if (!at)
        return;
    at += strlen(key);
    at += *at == '"';
    end = at + strcspn(at, "\"\n");
    snprintf(out, out_size, "%.*s", (int)(end - at), at);
}

static void add_addresses(struct report_inventory *r)
{
    struct ifaddrs *list = NULL;

    if (getifaddrs(&list) < 0)
        return;
    for (struct ifaddrs *a = list; a && r->message.n_addresses < ADDRESSES_MAX; a = a->ifa_next) {
        int family = a->ifa_addr ? a->ifa_addr->sa_family : AF_UNSPEC;
        const void *raw = family == AF_INET    ? (const void *)&((struct sockaddr_in *)a->ifa_addr)->sin_addr
                          : family == AF_INET6 ? (const void *)&((struct sockaddr_in6 *)a->ifa_addr)->sin6_addr
                                               : NULL;
        char *text = r->address_text[r->message.n_addresses];

        if (!raw || (a->ifa_flags & IFF_LOOPBACK) || !inet_ntop(family, raw, text, INET6_ADDRSTRLEN))
            continue;
        r->addresses[r->message.n_addresses++] = text;
    }
    freeifaddrs(list);
    r->message.addresses = r->addresses;
}

static void add_nics(struct report_inventory *r)
{
    r->message.n_nics = nic_list_read(r->nics, ARRAY_LEN(r->nics));
    for (size_t i = 0; i < r->message.n_nics; i++) {
        nic_message *m = r->nic_list[i] = &r->nic_messages[i];

        leeward__control__v1__inventory_nic__init(m);
        m->name = r->nics[i].name;
        m->mac = r->nics[i].mac;
        m->n_addresses = r->nics[i].address_count;
        m->addresses = r->nic_addresses[i];
        for (size_t j = 0; j < m->n_addresses; j++)
            m->addresses[j] = r->nics[i].addresses[j];
    }
    r->message.nics = r->nic_list;
}

static void add_host(struct report_inventory *r, const char *boot_id)
{
    struct sysinfo info;

    uname(&r->uts);
    os_name(r->os_name, sizeof(r->os_name));
    first_line("/etc/machine-id", r->machine_uid, sizeof(r->machine_uid));
    snprintf(r->boot_id, sizeof(r->boot_id), "%s", boot_id);
    r->message.hostname = r->uts.nodename;
    r->message.kernel = r->uts.release;
    r->message.os_name = r->os_name;
    r->message.machine_uid = r->machine_uid;
    r->message.boot_id = r->boot_id;
    r->message.cpus = (uint32_t)sysconf(_SC_NPROCESSORS_ONLN);
    if (sysinfo(&info) == 0)
        r->message.memory_bytes = (uint64_t)info.totalram * info.mem_unit;
    r->message.firmware = access("/sys/firmware/efi", F_OK) == 0 ? (char *)"uefi" : (char *)"bios";
    add_addresses(r);
    add_nics(r);
}

static void fill_volume(const struct inventory_volume *v, volume_message *m)
{
    leeward__control__v1__inventory_volume__init(m);
    m->device = (char *)v->device;
    m->start_bytes = v->start_bytes;
    m->length_bytes = v->length_bytes;
    m->fs_type = (char *)v->fs_type;
    m->fs_uuid = (char *)v->fs_uuid;
    m->label = (char *)v->label;
    m->n_mount_points = v->mount_count;
    m->mount_points = v->mount_points;
    m->used_bytes = v->used_bytes;
}

static void fill_disk(const struct inventory_disk *d, disk_message *m)
{
    leeward__control__v1__inventory_disk__init(m);
    m->key = (char *)d->key;
    m->device = (char *)d->device;
    m->size_bytes = d->size_bytes;
    m->logical_sector_bytes = d->logical_sector_bytes;
    m->physical_sector_bytes = d->physical_sector_bytes;
    m->model = (char *)d->model;
    m->table = (char *)d->table;
    m->trackable = d->trackable;
    m->not_trackable_reason = (char *)d->reason;
    m->volatile_cache = d->volatile_cache;
    m->is_root = d->is_root;
}

static int allocate(struct report_inventory *r, const struct inventory *inv, struct err *err)
{
    size_t volumes = 0;

    for (size_t i = 0; i < inv->disk_count; i++)
        volumes += inv->disks[i].volume_count;
    r->disks = mem_alloc(inv->disk_count + 1, sizeof(*r->disks));
    r->disk_list = mem_alloc(inv->disk_count + 1, sizeof(*r->disk_list));
    r->volumes = mem_alloc(volumes + 1, sizeof(*r->volumes));
    r->volume_list = mem_alloc(volumes + 1, sizeof(*r->volume_list));
    if (!r->disks || !r->disk_list || !r->volumes || !r->volume_list)
        return err_set(err, ERR_NOMEM, "no memory for the inventory");
    return 0;
}

int report_inventory_new(
    const struct inventory *inv, const char *boot_id, struct report_inventory **ret_report, struct err *err)
{
    struct report_inventory *r = mem_new(struct report_inventory);
    size_t volume = 0;

    if (!r)
        return err_set(err, ERR_NOMEM, "no memory for the inventory");
    leeward__control__v1__inventory__init(&r->message);
    if (allocate(r, inv, err) < 0) {
        report_inventory_free(r);
        return -1;
    }
    add_host(r, boot_id);
    for (size_t i = 0; i < inv->disk_count; i++) {
        r->disk_list[i] = &r->disks[i];
        fill_disk(&inv->disks[i], &r->disks[i]);
        r->disks[i].volumes = &r->volume_list[volume];
        r->disks[i].n_volumes = inv->disks[i].volume_count;
        for (size_t j = 0; j < inv->disks[i].volume_count; j++, volume++) {
            r->volume_list[volume] = &r->volumes[volume];
            fill_volume(&inv->disks[i].volumes[j], &r->volumes[volume]);
        }
    }
    r->message.disks = r->disk_list;
    r->message.n_disks = inv->disk_count;
    *ret_report = r;
    return 0;
}

inventory_message *report_inventory_message(struct report_inventory *r)
{
    return &r->message;
}

void report_inventory_free(struct report_inventory *r)
{
    if (!r)
        return;
    free(r->disks);
    free(r->disk_list);
    free(r->volumes);
    free(r->volume_list);
    free(r);
}
