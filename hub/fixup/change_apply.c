/* SPDX-License-Identifier: Apache-2.0
 *
 * Making the changes of a list. First the list itself is kept in the guest, then each original, then the change is made: a helper that is killed anywhere
 * on the way comes again with the whole, and all of it can be taken back.
 *
 * A program of the guest's that fails costs its own change alone. Most guests have several kernels and start the newest; one whose initramfs could not be
 * made must not cost the failover.
 */
#include <stdio.h>
#include <string.h>

#include "hub/fixup/change_list.h"
#include "hub/fixup/change_list_private.h"
#include "transport/base/hash.h"
#include "transport/base/bytes.h"
#include "transport/base/mem.h"

/* ---- the list ---- */

/* What stands there after the change, by which it is known later whether the guest has changed it since. A program's is known when it has run. */
static int note_hash(const struct change_list *list, json_t *change, struct err *err)
{
    const char *path = json_string_value(json_object_get(change, "path"));
    char hex[GUEST_HASH_SIZE];
    int rc = 0;

    for (size_t i = 0; i < list->count; i++) {
        const struct change *c = &list->changes[i];
        struct hash128 hash;

        if (strcmp(c->path, path) != 0 ||
            (c->argv[0] != NULL) != (strcmp(json_string_value(json_object_get(change, "action")), "run") == 0))
            continue;
        if (c->argv[0]) {
            rc = guest_tree_hash(list->tree, path, hex, err);
        } else if (c->after) {
            hash_128(c->after, strlen(c->after), &hash);
            bytes_to_hex(hash.bytes, HASH_SIZE, hex);
            rc = 1;
        }
        if (rc == 1 && json_object_set_new(change, "hash", json_string(hex)) < 0)
            rc = change_list_no_memory(err);
    }
    return rc < 0 ? -1 : 0;
}

static int keep_list(const struct change_list *list, struct err *err)
{
    json_t *report = change_list_report(list, err), *one;
    AUTO_FREE char *text = NULL;
    int rc = report ? 0 : -1;
    size_t at;

    json_array_foreach(json_object_get(report, "changes"), at, one) if (rc == 0) rc = note_hash(list, one, err);
    if (rc == 0 && !(text = json_dumps(report, JSON_COMPACT)))
        rc = change_list_no_memory(err);
    json_decref(report);
    return rc < 0 ? -1 : guest_tree_write(list->tree, list->durable, text, 0600, err);
}

/* ---- the originals ---- */

static bool is_kept(const struct change_list *list, const char *place)
{
    AUTO_FREE char *absent = mem_printf("%s" CHANGE_ABSENT, place);
    AUTO_FREE char *link = mem_printf("%s" CHANGE_LINK, place);

    return guest_tree_kind(list->tree, place) != GUEST_ABSENT ||
           (absent && guest_tree_kind(list->tree, absent) != GUEST_ABSENT) ||
           (link && guest_tree_kind(list->tree, link) != GUEST_ABSENT);
}

/* A link is kept as one, and beside it the text that it led to, which is what was changed from. */
static int keep_link(const struct change_list *list, const struct change *c, const char *place, struct err *err)
{
    AUTO_FREE char *link = mem_printf("%s" CHANGE_LINK, place);

    if (!link)
        return change_list_no_memory(err);
    if (c->before && guest_tree_write(list->tree, place, c->before, c->hidden ? 0600 : 0644, err) < 0)
        return -1;
    return guest_tree_copy(list->tree, c->path, link, err);
}

/* Whatever is there now, of any size: a file that was not there is kept as an empty one with another name. */
static int keep(const struct change_list *list, const struct change *c, struct err *err)
{
    AUTO_FREE char *place = mem_printf("%s%s", list->originals, c->path);
    AUTO_FREE char *absent = mem_printf("%s%s" CHANGE_ABSENT, list->originals, c->path);

    if (!place || !absent)
        return change_list_no_memory(err);
    if (is_kept(list, place))
        return 0;
    switch (guest_tree_kind(list->tree, c->path)) {
    case GUEST_ABSENT:
        return guest_tree_write(list->tree, absent, "", 0600, err);
    case GUEST_LINK:
        return keep_link(list, c, place, err);
    default:
        return guest_tree_copy(list->tree, c->path, place, err);
    }
}

/* ---- the changes ---- */

static int run_one(struct change_list *list, struct change *c, change_run *run, struct err *err)
{
    struct err why = ERR_INIT;

    /* An initramfs is large, and can be made again. */
    if (keep(list, c, &why) < 0 &&
        change_list_warn(list, err, "%s is not kept as it was: %.200s", c->path, why.text) < 0)
        return -1;
    err_clear(&why);
    if (run(list->tree, c->argv, &why) == 0)
        return 0;
    if (why.code == ERR_NOMEM) {
        err_copy(err, &why);
        return -1;
    }
    free(c->failure);
    c->failure = mem_strdup(why.text);
    return c->failure ? change_list_warn(list, err, "%s was not made anew: %.300s", c->path, why.text)
                      : change_list_no_memory(err);
}

int change_list_apply(struct change_list *list, change_run *run, struct err *err)
{
    if (keep_list(list, err) < 0)
        return -1;
    for (size_t i = 0; i < list->count; i++) {
        const struct change *c = &list->changes[i];

        if (c->argv[0])
            continue;
        if (keep(list, c, err) < 0 || (c->after ? guest_tree_write(list->tree, c->path, c->after, c->mode, err)
                                                : guest_tree_remove(list->tree, c->path, err)) < 0)
            return -1;
    }
    for (size_t i = 0; i < list->count; i++)
        if (list->changes[i].argv[0] && run_one(list, &list->changes[i], run, err) < 0)
            return err_wrap(err, "%s", list->changes[i].path);
    return keep_list(list, err);
}

const char *change_list_unbootable(const struct change_list *list)
{
    const char *why = NULL;

    if (list->boots)
        return NULL;
    for (size_t i = 0; i < list->count; i++) {
        const struct change *c = &list->changes[i];

        if (!c->argv[0] || strcmp(c->fixup, "drivers") != 0)
            continue;
        if (!c->failure)
            return NULL;
        why = c->failure;
    }
    return why;
}
