/* SPDX-License-Identifier: Apache-2.0
 *
 * DATA/exports/<command id>.copy: an export that was begun, so that the same command goes on with it after a crash.
 */
#include <jansson.h>
#include <string.h>
#include <unistd.h>

#include "transport/base/file.h"
#include "transport/vault/diskimage_private.h"
#include "transport/vault/disktarget.h"

static char *note_path(const struct vaultd *d, const char *id)
{
    struct ident checked;
    char text[IDENT_TEXT_SIZE];
    if (ident_from_text(id, &checked) < 0)
        return NULL;
    ident_to_text(&checked, text);
    return mem_printf("%s/exports/%s.copy", d->data_dir, text);
}

int imagenote_write(const struct diskimage *i, uint64_t durable, bool finished, struct err *err)
{
    char *path AUTO_FREE = note_path(i->d, i->id);
    json_t *json = json_pack("{s:s, s:I, s:I, s:s, s:s, s:b, s:I, s:b}", "machine_id", i->vm->id_text, "sequence",
        (json_int_t)i->sequence, "disk", (json_int_t)i->spec.disk, "path", i->path, "format", i->format, "device",
        (int)i->is_device, "durable", (json_int_t)durable, "finished", (int)finished);
    char *text = json == NULL ? NULL : json_dumps(json, JSON_COMPACT);
    int result = path == NULL || text == NULL ? err_set(err, ERR_NOMEM, "no memory to export a disk")
                                              : file_replace(path, text, strlen(text), 0600, err);
    free(text);
    json_decref(json);
    return result;
}

static json_t *note_read(const struct vaultd *d, const char *id)
{
    char *path AUTO_FREE = note_path(d, id);
    json_error_t why;
    return path == NULL ? NULL : json_load_file(path, JSON_REJECT_DUPLICATES, &why);
}

int imagenote_load(struct diskimage *i, struct err *err)
{
    json_t *json = note_read(i->d, i->id);
    const char *machine, *path, *format;
    json_int_t sequence, disk, durable;
    int device, finished, result = 0;
    if (json == NULL)
        return 0;
    if (json_unpack(json, "{s:s, s:I, s:I, s:s, s:s, s:b, s:I, s:b}", "machine_id", &machine, "sequence", &sequence,
            "disk", &disk, "path", &path, "format", &format, "device", &device, "durable", &durable, "finished",
            &finished) == 0 &&
        strcmp(machine, i->vm->id_text) == 0 && strcmp(path, i->path) == 0 && strcmp(format, i->format) == 0 &&
        disk == (json_int_t)i->spec.disk && sequence > 0 && durable >= 0 &&
        (i->sequence == 0 || sequence == (json_int_t)i->sequence)) {
        i->sequence = (uint64_t)sequence;
        i->noted = (uint64_t)durable;
        i->finished = finished != 0;
        result = 1;
    } else {
        result = err_set(err, ERR_CONFLICT, "the export %s was begun as another one", i->id);
    }
    json_decref(json);
    return result;
}

void imagenote_remove(const struct vaultd *d, const char *id)
{
    char *path AUTO_FREE = note_path(d, id);
    if (path != NULL)
        (void)unlink(path);
}

char *imagenote_part(const struct vaultd *d, const char *id)
{
    json_t *json = note_read(d, id);
    const char *path = json_string_value(json_object_get(json, "path"));
    bool device = json_is_true(json_object_get(json, "device"));
    char *part = path == NULL || device ? NULL : mem_printf("%s" DISKTARGET_PART_SUFFIX, path);
    json_decref(json);
    return part;
}
