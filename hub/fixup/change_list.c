/* SPDX-License-Identifier: Apache-2.0
 *
 * An array of changes, one per file: gathering them. change_report.c tells them, change_apply.c makes them.
 */
#include "hub/fixup/change_list.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "hub/fixup/change_list_private.h"
#include "transport/base/mem.h"

struct change_list *change_list_new(const struct guest_tree *tree, const char *replica)
{
    struct change_list *list = mem_new(struct change_list);

    if (!list)
        return NULL;
    list->tree = tree;
    list->originals = mem_printf(GUEST_ORIGINALS "/%s", replica);
    list->durable = mem_printf(GUEST_CHANGES "/%s.json", replica);
    list->warnings = json_array();
    if (list->originals && list->durable && list->warnings)
        return list;
    change_list_free(list);
    return NULL;
}

static void change_done(struct change *c)
{
    free(c->fixup);
    free(c->path);
    free(c->why);
    free(c->failure);
    free(c->before);
    free(c->after);
    for (size_t i = 0; i < CHANGE_ARGV_MAX; i++)
        free(c->argv[i]);
}

void change_list_free(struct change_list *list)
{
    if (!list)
        return;
    for (size_t i = 0; i < list->count; i++)
        change_done(&list->changes[i]);
    json_decref(list->warnings);
    free(list->seen);
    free(list->originals);
    free(list->durable);
    free(list);
}

const struct guest_tree *change_list_tree(const struct change_list *list)
{
    return list->tree;
}

int change_list_no_memory(struct err *err)
{
    return err_set(err, ERR_NOMEM, "no memory for the changes of a guest");
}

static struct change *find(struct change_list *list, const char *path)
{
    for (size_t i = 0; i < list->count; i++)
        if (!list->changes[i].argv[0] && strcmp(list->changes[i].path, path) == 0)
            return &list->changes[i];
    return NULL;
}

int change_list_text(struct change_list *list, const char *path, const char **ret_text, struct err *err)
{
    const struct change *c = find(list, path);
    char *text = NULL;

    if (c) {
        *ret_text = c->after;
        return c->after != NULL;
    }
    int rc = guest_tree_read(list->tree, path, &text, err);

    if (rc == 1) {
        free(list->seen);
        *ret_text = list->seen = text;
    }
    return rc;
}

int change_list_files(struct change_list *list, const char *folder, const char *suffix, json_t *paths, struct err *err)
{
    json_t *all = json_array(), *one;
    size_t at;
    int rc = all ? guest_tree_list(list->tree, folder, suffix, all, err) : change_list_no_memory(err);

    json_array_foreach(all, at, one)
    {
        const struct change *c = find(list, json_string_value(one));

        if ((!c || c->after) && json_array_append(paths, one) < 0)
            rc = change_list_no_memory(err);
    }
    json_decref(all);
    return rc;
}

static int add(struct change_list *list, const char *fixup, const char *path, const char *why,
    struct change **ret_change, struct err *err)
{
    struct change *c = &list->changes[list->count];

    if (list->count == CHANGES_MAX)
        return err_set(err, ERR_TOO_LARGE, "the guest needs more than %d changes", CHANGES_MAX);
    memset(c, 0, sizeof(*c));
    c->fixup = mem_strdup(fixup);
    c->path = mem_strdup(path);
    c->why = mem_strdup(why);
    list->count++;
    *ret_change = c;
    return c->fixup && c->path && c->why ? 0 : change_list_no_memory(err);
}

/* What it was before anybody changed it: what is kept, else what is there. */
static int first_text(const struct change_list *list, const char *path, char **ret_text, struct err *err)
{
    AUTO_FREE char *kept = mem_printf("%s%s", list->originals, path);
    AUTO_FREE char *absent = mem_printf("%s%s" CHANGE_ABSENT, list->originals, path);

    if (!kept || !absent)
        return change_list_no_memory(err);
    if (guest_tree_has(list->tree, absent))
        return 0;
    return guest_tree_read(list->tree, guest_tree_has(list->tree, kept) ? kept : path, ret_text, err);
}

/* By what is kept, else by what is there, and by what it is to be. */
static int is_for_root_alone(
    const struct change_list *list, const char *path, mode_t mode, bool *ret_hidden, struct err *err)
{
    AUTO_FREE char *kept = mem_printf("%s%s", list->originals, path);
    int found;

    if (!kept)
        return change_list_no_memory(err);
    found = guest_tree_mode(list->tree, guest_tree_has(list->tree, kept) ? kept : path);
    *ret_hidden = (mode & 077) == 0 || (found >= 0 && (found & 077) == 0);
    return 0;
}

int change_list_put(struct change_list *list, const char *fixup, const char *path, const char *text, mode_t mode,
    const char *why, struct err *err)
{
    struct change *c = find(list, path);
    AUTO_FREE char *after = text ? mem_strdup(text) : NULL;
    AUTO_FREE char *before = NULL;

    if (text && !after)
        return change_list_no_memory(err);
    if (!c) {
        if (first_text(list, path, &before, err) < 0)
            return -1;
        if (!before && !after && !guest_tree_has(list->tree, path))
            return 0;
        if (before && after && strcmp(before, after) == 0)
            return 0;
        if (add(list, fixup, path, why, &c, err) < 0)
            return -1;
        c->before = TAKE_PTR(before);
        c->mode = mode;
        if (is_for_root_alone(list, path, mode, &c->hidden, err) < 0)
            return -1;
    }
    free(c->after);
    c->after = TAKE_PTR(after);
    return 0;
}

int change_list_run(struct change_list *list, const char *fixup, const char *path, const char *const *argv,
    const char *why, struct err *err)
{
    struct change *c;

    if (add(list, fixup, path, why, &c, err) < 0)
        return -1;
    for (size_t i = 0; argv[i]; i++)
        if (i == CHANGE_ARGV_MAX || !(c->argv[i] = mem_strdup(argv[i])))
            return change_list_no_memory(err);
    return 0;
}

int change_list_warn(struct change_list *list, struct err *err, const char *format, ...)
{
    size_t before = json_array_size(list->warnings);
    char text[400];
    va_list ap;

    if (before >= WARNINGS_MAX)
        return 0;
    va_start(ap, format);
    vsnprintf(text, sizeof(text), before == WARNINGS_MAX - 1 ? "There are more warnings than are shown." : format, ap);
    va_end(ap);
    for (char *at = text; *at; at++)
        if ((unsigned char)*at < 0x20 || (unsigned char)*at > 0x7e)
            *at = '?';
    return json_array_append_new(list->warnings, json_string(text)) < 0 ? change_list_no_memory(err) : 0;
}

void change_list_boots(struct change_list *list)
{
    list->boots = true;
}
