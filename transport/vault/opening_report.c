/* SPDX-License-Identifier: Apache-2.0
 *
 * What others are told about open points: the hub, in the answer to its command and in each status; retention, which keeps them.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "transport/vault/diskimage_private.h"
#include "transport/vault/opening_private.h"

char *opening_json(const struct opening *o)
{
    json_t *disks = json_array();
    char number[32];
    for (uint32_t i = 0; i < o->mark.disk_count; i++) {
        const struct mark_disk *disk = &o->mark.disks[i];
        char *uri AUTO_FREE = mem_printf("nbd+unix:///%u?socket=%s", disk->number, o->socket);
        (void)snprintf(number, sizeof(number), "%llu", (unsigned long long)disk->size_bytes);
        (void)json_array_append_new(disks, json_pack("{s:I, s:s, s:s, s:s}", "number", (json_int_t)disk->number, "name",
                                               disk->name, "size_bytes", number, "uri", uri == NULL ? "" : uri));
    }
    char *uri AUTO_FREE = mem_printf("nbd+unix:///?socket=%s", o->socket);
    (void)snprintf(number, sizeof(number), "%llu", (unsigned long long)o->sequence);
    json_t *json = json_pack("{s:s, s:o, s:s}", "uri", uri == NULL ? "" : uri, "disks", disks, "sequence", number);
    char *text = json == NULL ? NULL : json_dumps(json, JSON_COMPACT);
    json_decref(json);
    return text;
}

int opening_pinned(const struct vmachine *vm, uint64_t **ret_list, size_t *ret_count, struct err *err)
{
    size_t count = 0;
    for (const struct opening *o = vm->d->openings; o != NULL; o = o->next)
        count += o->vm == vm;
    for (const struct diskimage *i = vm->d->images; i != NULL; i = i->next)
        count += i->vm == vm;
    uint64_t *list = mem_alloc(count + 1, sizeof(*list));
    if (list == NULL)
        return err_set(err, ERR_NOMEM, "no memory to list open points");
    count = 0;
    for (const struct opening *o = vm->d->openings; o != NULL; o = o->next)
        if (o->vm == vm)
            list[count++] = o->sequence;
    for (const struct diskimage *i = vm->d->images; i != NULL; i = i->next)
        if (i->vm == vm)
            list[count++] = i->sequence;
    *ret_list = list;
    *ret_count = count;
    return 0;
}

static Leeward__Control__V1__OpenExport *describe_one(const struct opening *o)
{
    Leeward__Control__V1__OpenExport *e = mem_new(Leeward__Control__V1__OpenExport);
    if (e == NULL)
        return NULL;
    leeward__control__v1__open_export__init(e);
    e->export_id = mem_strdup(o->id);
    e->uri = mem_printf("nbd+unix:///?socket=%s", o->socket);
    e->opening = o->state != OPENING_OPEN;
    e->disk_uris = mem_alloc(o->mark.disk_count + 1, sizeof(*e->disk_uris));
    for (uint32_t i = 0; e->disk_uris != NULL && i < o->mark.disk_count; i++) {
        e->disk_uris[i] = mem_printf("nbd+unix:///%u?socket=%s", o->mark.disks[i].number, o->socket);
        if (e->disk_uris[i] == NULL)
            break;
        e->n_disk_uris++;
    }
    return e;
}

int opening_describe(const struct vaultd *d, Leeward__Control__V1__VaultStatus *status, struct err *err)
{
    size_t count = 0;
    for (const struct opening *o = d->openings; o != NULL; o = o->next)
        count++;
    status->exports = mem_alloc(count + 1, sizeof(*status->exports));
    if (status->exports == NULL)
        return err_set(err, ERR_NOMEM, "no memory to list open points");
    for (const struct opening *o = d->openings; o != NULL; o = o->next) {
        if (o->state == OPENING_CLOSING || o->passing)
            continue;
        Leeward__Control__V1__OpenExport *e = describe_one(o);
        if (e == NULL)
            return err_set(err, ERR_NOMEM, "no memory to list open points");
        status->exports[status->n_exports++] = e;
    }
    return 0;
}

void opening_describe_done(Leeward__Control__V1__VaultStatus *status)
{
    for (size_t i = 0; i < status->n_exports; i++) {
        Leeward__Control__V1__OpenExport *e = status->exports[i];
        for (size_t k = 0; k < e->n_disk_uris; k++)
            free(e->disk_uris[k]);
        free(e->disk_uris);
        free(e->export_id);
        free(e->uri);
        free(e);
    }
    free(status->exports);
    status->exports = NULL;
    status->n_exports = 0;
}
