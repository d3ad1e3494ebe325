/* SPDX-License-Identifier: Apache-2.0
 *
 * An array of changes, one per file. The report compares by lines: a configuration file is short, and a line that is in the other text too is no change.
 */
#include "hub/fixup/change_list.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "transport/base/mem.h"

#define LINES_MAX 40 /* shown of one file */
#define LINE_MAX_BYTES 400
#define ARGV_MAX 8
#define ABSENT ".was-absent"

struct change {
    char *fixup, *path, *why;
    char *before, *after; /* NULL: absent */
    mode_t mode;
    bool hidden;              /* only root may read it in the guest */
    char *argv[ARGV_MAX + 1]; /* argv[0]: it is a program to run */
};

struct change_list {
    const struct guest_tree *tree;
    char *originals;
    struct change changes[CHANGES_MAX];
    size_t count;
    char *seen; /* what change_list_text handed out */
    json_t *warnings;
};

struct change_list *change_list_new(const struct guest_tree *tree, const char *replica)
{
    struct change_list *list = mem_new(struct change_list);

    if (!list)
        return NULL;
    list->tree = tree;
    list->originals = mem_printf(GUEST_ORIGINALS "/%s", replica);
    list->warnings = json_array();
    if (list->originals && list->warnings)
        return list;
    change_list_free(list);
    return NULL;
}

static void change_done(struct change *c)
{
    free(c->fixup);
    free(c->path);
    free(c->why);
    free(c->before);
    free(c->after);
    for (size_t i = 0; i < ARGV_MAX; i++)
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
    free(list);
}

const struct guest_tree *change_list_tree(const struct change_list *list)
{
    return list->tree;
}

static int no_memory(struct err *err)
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
    int rc = all ? guest_tree_list(list->tree, folder, suffix, all, err) : no_memory(err);

    json_array_foreach(all, at, one)
    {
        const struct change *c = find(list, json_string_value(one));

        if ((!c || c->after) && json_array_append(paths, one) < 0)
            rc = no_memory(err);
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
    return c->fixup && c->path && c->why ? 0 : no_memory(err);
}

/* What it was before anybody changed it: what is kept, else what is there. */
static int first_text(const struct change_list *list, const char *path, char **ret_text, struct err *err)
{
    AUTO_FREE char *kept = mem_printf("%s%s", list->originals, path);
    AUTO_FREE char *absent = mem_printf("%s%s" ABSENT, list->originals, path);

    if (!kept || !absent)
        return no_memory(err);
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
        return no_memory(err);
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
        return no_memory(err);
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
        if (i == ARGV_MAX || !(c->argv[i] = mem_strdup(argv[i])))
            return no_memory(err);
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
    return json_array_append_new(list->warnings, json_string(text)) < 0 ? no_memory(err) : 0;
}

/* ---- the report ---- */

/* The lines of a text as the keys of an object; NULL: no memory. A stranger's text may have half a million of them. */
static json_t *line_set(const char *text)
{
    json_t *set = json_object();

    for (const char *at = text; set && at && *at;) {
        size_t n = strcspn(at, "\n");

        if (json_object_setn_new_nocheck(set, at, n, json_true()) < 0)
            json_decref(TAKE_PTR(set));
        at += n + (set && at[n] == '\n');
    }
    return set;
}

/* Lines of `text` that `other` has not. */
static int lines_of(json_t *lines, char sign, const char *text, const char *other)
{
    json_t *known = line_set(other);
    int rc = known ? 0 : -1;

    for (const char *at = text; rc == 0 && at && *at && json_array_size(lines) < LINES_MAX;) {
        size_t n = strcspn(at, "\n");

        if (n > 0 && !json_object_getn(known, at, n)) {
            AUTO_FREE char *line = mem_printf("%c%.*s", sign, (int)(n < LINE_MAX_BYTES ? n : LINE_MAX_BYTES), at);
            json_t *shown = line ? json_string(line) : NULL;

            rc = json_array_append_new(lines, shown ? shown : json_string("(not UTF-8)"));
        }
        at += n + (at[n] == '\n');
    }
    json_decref(known);
    return rc;
}

static json_t *change_json(const struct change *c)
{
    const char *action = c->argv[0] ? "run" : !c->after ? "remove" : c->before ? "edit" : "create";
    json_t *lines = json_array();
    int rc = lines ? 0 : -1;

    for (size_t i = 0; rc == 0 && c->argv[i]; i++)
        rc = json_array_append_new(lines, json_string(c->argv[i]));
    /* A text that may be secret (a key of a wireless network) is kept in the guest, and does not travel. */
    if (rc == 0 && c->hidden && !c->argv[0])
        rc = json_array_append_new(lines, json_string("(not shown: readable by root alone)"));
    else if (rc == 0 && !c->argv[0])
        rc = lines_of(lines, '-', c->before, c->after) < 0 || lines_of(lines, '+', c->after, c->before) < 0 ? -1 : 0;
    if (rc < 0) {
        json_decref(lines);
        return NULL;
    }
    return json_pack("{s:s, s:s, s:s, s:s, s:o}", "fixup", c->fixup, "action", action, "path", c->path, "why", c->why,
        "lines", lines);
}

json_t *change_list_report(const struct change_list *list)
{
    json_t *changes = json_array();

    for (size_t i = 0; changes && i < list->count; i++)
        if (json_array_append_new(changes, change_json(&list->changes[i])) < 0) {
            json_decref(changes);
            return NULL;
        }
    return json_pack("{s:o, s:O}", "changes", changes, "warnings", list->warnings);
}

/* ---- applying ---- */

/* A file that was not there is kept as an empty one with another name. */
static int keep(const struct change_list *list, const struct change *c, struct err *err)
{
    AUTO_FREE char *place = mem_printf("%s%s%s", list->originals, c->path, c->before ? "" : ABSENT);
    int mode = guest_tree_mode(list->tree, c->path);

    if (!place)
        return no_memory(err);
    if (guest_tree_has(list->tree, place) || (!c->before && !c->after))
        return 0;
    return guest_tree_write(list->tree, place, c->before ? c->before : "", mode < 0 ? 0600 : (mode_t)mode, err);
}

int change_list_apply(const struct change_list *list, change_run *run, struct err *err)
{
    for (size_t i = 0; i < list->count; i++) {
        const struct change *c = &list->changes[i];

        if (c->argv[0])
            continue;
        if (keep(list, c, err) < 0 || (c->after ? guest_tree_write(list->tree, c->path, c->after, c->mode, err)
                                                : guest_tree_remove(list->tree, c->path, err)) < 0)
            return -1;
    }
    for (size_t i = 0; i < list->count; i++)
        if (list->changes[i].argv[0] && run(list->tree, list->changes[i].argv, err) < 0)
            return err_wrap(err, "%s", list->changes[i].path);
    return 0;
}
