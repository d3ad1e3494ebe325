/* SPDX-License-Identifier: Apache-2.0
 *
 * DATA/exports/<id>.json: what is open, so that it is opened again after a restart.
 */
#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <string.h>
#include <unistd.h>

#include "transport/base/file.h"
#include "transport/base/log.h"
#include "transport/vault/opening_private.h"

#define SUFFIX ".json"

static char *file_path(const struct vaultd *d, const char *id)
{
    return mem_printf("%s/exports/%s" SUFFIX, d->data_dir, id);
}

int opening_file_write(const struct opening *o, struct err *err)
{
    char *path AUTO_FREE = file_path(o->d, o->id);
    json_t *json = json_pack("{s:s, s:I, s:b, s:s}", "machine_id", o->vm->id_text, "sequence", (json_int_t)o->sequence,
        "write", (int)o->write, "socket", o->socket);
    char *text = json == NULL ? NULL : json_dumps(json, JSON_COMPACT);
    int result = path == NULL || text == NULL ? err_set(err, ERR_NOMEM, "no memory to open a point")
                                              : file_replace(path, text, strlen(text), 0600, err);
    free(text);
    json_decref(json);
    return result;
}

void opening_file_remove(const struct opening *o)
{
    char *path AUTO_FREE = file_path(o->d, o->id);
    if (path != NULL)
        (void)unlink(path);
}

static void load_one(struct vaultd *d, const char *id, void (*each)(struct vaultd *d, const struct opening_spec *spec))
{
    char *path AUTO_FREE = file_path(d, id);
    json_error_t why;
    json_t *json = path == NULL ? NULL : json_load_file(path, JSON_REJECT_DUPLICATES, &why);
    const char *machine, *socket;
    json_int_t sequence;
    int write;
    if (json == NULL ||
        json_unpack(json, "{s:s, s:I, s:b, s:s}", "machine_id", &machine, "sequence", &sequence, "write", &write,
            "socket", &socket) < 0 ||
        sequence < 1) {
        log_event(LOG_ERROR, "export_file_unusable", LOG_S("export", id));
    } else {
        struct opening_spec spec = {.export_id = id,
            .machine_id = machine,
            .sequence = (uint64_t)sequence,
            .write = write != 0,
            .socket = socket};
        each(d, &spec);
    }
    json_decref(json);
}

int opening_file_load(
    struct vaultd *d, void (*each)(struct vaultd *d, const struct opening_spec *spec), struct err *err)
{
    char *path AUTO_FREE = mem_printf("%s/exports", d->data_dir);
    struct dirent *entry;
    if (path == NULL)
        return err_set(err, ERR_NOMEM, "no memory to start the vault");
    if (file_make_dirs(path, 0700, err) < 0)
        return -1;
    DIR *dir = opendir(path);
    if (dir == NULL)
        return err_sys(err, errno, "opening %s", path);
    while ((entry = readdir(dir)) != NULL) {
        size_t n = strlen(entry->d_name);
        char id[IDENT_TEXT_SIZE];
        if (n != IDENT_TEXT_SIZE - 1 + strlen(SUFFIX) || strcmp(entry->d_name + IDENT_TEXT_SIZE - 1, SUFFIX) != 0)
            continue;
        memcpy(id, entry->d_name, IDENT_TEXT_SIZE - 1);
        id[IDENT_TEXT_SIZE - 1] = '\0';
        load_one(d, id, each);
    }
    (void)closedir(dir);
    return 0;
}
