/* SPDX-License-Identifier: Apache-2.0
 *
 * DATA/state as JSON: numbers are decimal, disks a list in order of their number. Unknown members are refused like everything
 * else that we did not write: guessing here could leave changes out of the copy.
 */
#include "mobility/sync/syncstate.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "transport/base/buf.h"
#include "transport/base/file.h"
#include "transport/base/mem.h"

#define STATE_BYTES_MAX (1u << 20)

static const char *const copy_names[] = {[COPY_INITIAL] = "initial", [COPY_RESYNC] = "resync", [COPY_DONE] = "done"};

const char *copy_state_name(enum copy_state state)
{
    return copy_names[state];
}

static int copy_from_name(const char *name)
{
    for (unsigned i = 0; i < ARRAY_LEN(copy_names); i++)
        if (strcmp(copy_names[i], name) == 0)
            return (int)i;
    return -1;
}

static int corrupt(const char *path, struct err *err, const char *why)
{
    err_set(err, ERR_CORRUPT, "%s is not a state of this agent: %s", path, why);
    return err_hint(err, "remove %s: the agent then compares its disks with the vault", path);
}

static int read_disk(json_t *row, struct syncstate_disk *d)
{
    const char *key, *copy;
    json_int_t number, size, cursor;
    int state;

    if (json_unpack(row, "{s:I, s:s, s:I, s:s, s:I !}", "number", &number, "key", &key, "size_bytes", &size, "copy",
            &copy, "cursor", &cursor) != 0)
        return -1;
    state = copy_from_name(copy);
    if (number < 0 || number > RECORD_DISK_MAX || size < 0 || cursor < 0 || state < 0 || strlen(key) >= sizeof(d->key))
        return -1;
    *d = (struct syncstate_disk){.number = (uint32_t)number,
        .size_bytes = (uint64_t)size,
        .copy = (enum copy_state)state,
        .cursor = (uint64_t)cursor};
    snprintf(d->key, sizeof(d->key), "%s", key);
    return 0;
}

static int read_state(json_t *root, struct syncstate *s)
{
    const char *boot, *vault;
    json_int_t version, generation, epoch, committed, point, point_time, resync;
    int first;
    json_t *disks;

    if (json_unpack(root, "{s:I, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:o !}", "version", &version, "boot_id",
            &boot, "vault_id", &vault, "generation", &generation, "epoch", &epoch, "committed_sequence", &committed,
            "last_point_sequence", &point, "last_point_utc_usec", &point_time, "resync_request", &resync,
            "first_point_due", &first, "disks", &disks) != 0)
        return -1;
    if (version != 1 || generation < 0 || point < 0 || point_time < 0 || epoch < 0 || committed < 0 || resync < 0 ||
        !json_is_array(disks) || json_array_size(disks) > MARK_DISKS_MAX || strlen(boot) >= sizeof(s->boot_id) ||
        strlen(vault) >= sizeof(s->vault_id))
        return -1;
    snprintf(s->boot_id, sizeof(s->boot_id), "%s", boot);
    snprintf(s->vault_id, sizeof(s->vault_id), "%s", vault);
    s->generation = (uint64_t)generation;
    s->epoch = (uint64_t)epoch;
    s->committed_sequence = (uint64_t)committed;
    s->last_point_sequence = (uint64_t)point;
    s->last_point_utc_usec = (uint64_t)point_time;
    s->resync_request = (uint64_t)resync;
    s->first_point_due = first != 0;
    for (size_t i = 0; i < json_array_size(disks); i++)
        if (read_disk(json_array_get(disks, i), &s->disks[s->disk_count++]) < 0)
            return -1;
    return 0;
}

int syncstate_load(const char *path, struct syncstate *ret_state, struct err *err)
{
    struct buf b AUTO_BUF = BUF_INIT(STATE_BYTES_MAX);
    json_error_t why;
    json_t *root;
    int r;

    *ret_state = (struct syncstate){0};
    if (access(path, F_OK) < 0 && errno == ENOENT)
        return 0;
    if (file_read(path, &b, err) < 0)
        return -1;
    root = json_loadb((const char *)b.data, b.len, JSON_REJECT_DUPLICATES, &why);
    if (!root)
        return corrupt(path, err, why.text);
    r = read_state(root, ret_state);
    json_decref(root);
    if (r < 0) {
        *ret_state = (struct syncstate){0};
        return corrupt(path, err, "members are missing or out of range");
    }
    return 0;
}

static json_t *write_disks(const struct syncstate *s)
{
    json_t *list = json_array();

    for (uint32_t i = 0; list && i < s->disk_count; i++) {
        const struct syncstate_disk *d = &s->disks[i];

        json_array_append_new(
            list, json_pack("{s:I, s:s, s:I, s:s, s:I}", "number", (json_int_t)d->number, "key", d->key, "size_bytes",
                      (json_int_t)d->size_bytes, "copy", copy_names[d->copy], "cursor", (json_int_t)d->cursor));
    }
    return list;
}

int syncstate_save(const char *path, const struct syncstate *s, struct err *err)
{
    json_t *root = json_pack("{s:i, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:o}", "version", 1, "boot_id",
        s->boot_id, "vault_id", s->vault_id, "generation", (json_int_t)s->generation, "epoch", (json_int_t)s->epoch,
        "committed_sequence", (json_int_t)s->committed_sequence, "last_point_sequence",
        (json_int_t)s->last_point_sequence, "last_point_utc_usec", (json_int_t)s->last_point_utc_usec, "resync_request",
        (json_int_t)s->resync_request, "first_point_due", (int)s->first_point_due, "disks", write_disks(s));
    char *text = root ? json_dumps(root, JSON_INDENT(1)) : NULL;
    int r =
        text ? file_replace(path, text, strlen(text), 0600, err) : err_set(err, ERR_NOMEM, "no memory for %s", path);

    free(text);
    json_decref(root);
    return r;
}

struct syncstate_disk *syncstate_find(struct syncstate *s, uint32_t number)
{
    for (uint32_t i = 0; i < s->disk_count; i++)
        if (s->disks[i].number == number)
            return &s->disks[i];
    return NULL;
}

struct syncstate_disk *syncstate_disk(struct syncstate *s, uint32_t number)
{
    struct syncstate_disk *found = syncstate_find(s, number);
    uint32_t at = 0;

    if (found)
        return found;
    if (s->disk_count == MARK_DISKS_MAX)
        return NULL;
    while (at < s->disk_count && s->disks[at].number < number)
        at++;
    memmove(&s->disks[at + 1], &s->disks[at], (s->disk_count - at) * sizeof(s->disks[0]));
    s->disks[at] = (struct syncstate_disk){.number = number};
    s->disk_count++;
    return &s->disks[at];
}

void syncstate_drop_disk(struct syncstate *s, uint32_t number)
{
    struct syncstate_disk *d = syncstate_find(s, number);
    uint32_t at;

    if (!d)
        return;
    at = (uint32_t)(d - s->disks);
    memmove(d, d + 1, (s->disk_count - at - 1) * sizeof(*d));
    s->disk_count--;
}

int syncstate_boot_id(char out[IDENT_TEXT_SIZE], struct err *err)
{
    static const char path[] = "/proc/sys/kernel/random/boot_id";
    struct buf b AUTO_BUF = BUF_INIT(256);
    struct ident id;

    if (file_read(path, &b, err) < 0)
        return -1;
    if (b.len < IDENT_TEXT_SIZE - 1)
        return err_set(err, ERR_CORRUPT, "%s is too short", path);
    memcpy(out, b.data, IDENT_TEXT_SIZE - 1);
    out[IDENT_TEXT_SIZE - 1] = '\0';
    return ident_from_text(out, &id) < 0 ? err_set(err, ERR_CORRUPT, "%s is not a UUID", path) : 0;
}
