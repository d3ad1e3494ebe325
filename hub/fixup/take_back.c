/* SPDX-License-Identifier: Apache-2.0
 *
 * The list that was kept in the guest (change_apply.c), from its end to its beginning. The hash in it tells whether a file is still what the fix-up wrote.
 */
#include "hub/fixup/take_back.h"

#include <stdio.h>
#include <string.h>

#include "hub/fixup/change_list_private.h"
#include "transport/base/mem.h"

struct way_back {
    const struct guest_tree *tree;
    char *originals, *durable;
    bool apply;
    size_t left; /* changes that stay */
    json_t *changes;
    struct change_list *list; /* for its warnings */
};

/* Where the original of a path is, by what was kept of it. */
struct original {
    char *file, *absent, *link;
};

static void original_done(struct original *o)
{
    free(o->file);
    free(o->absent);
    free(o->link);
}
#define AUTO_ORIGINAL __attribute__((cleanup(original_done)))

static int original_of(const struct way_back *w, const char *path, struct original *ret, struct err *err)
{
    ret->file = mem_printf("%s%s", w->originals, path);
    ret->absent = mem_printf("%s%s" CHANGE_ABSENT, w->originals, path);
    ret->link = mem_printf("%s%s" CHANGE_LINK, w->originals, path);
    return ret->file && ret->absent && ret->link ? 0 : change_list_no_memory(err);
}

static bool is_there(const struct way_back *w, const char *path)
{
    return guest_tree_kind(w->tree, path) != GUEST_ABSENT;
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    return text ? text : "";
}

/* 1: of the same content; 0: not, or one is no file. */
static int is_same(const struct way_back *w, const char *path, const char *other, struct err *err)
{
    char a[GUEST_HASH_SIZE], b[GUEST_HASH_SIZE];
    int first = guest_tree_hash(w->tree, path, a, err), second = guest_tree_hash(w->tree, other, b, err);

    if (first < 0 || second < 0)
        return -1;
    return first == 1 && second == 1 && strcmp(a, b) == 0;
}

/* 1: it is what it was before the fix-up already. */
static int is_as_it_was(const struct way_back *w, const char *path, const struct original *o, struct err *err)
{
    if (is_there(w, o->link))
        return guest_tree_kind(w->tree, path) == GUEST_LINK;
    if (is_there(w, o->absent))
        return !is_there(w, path);
    return is_same(w, path, o->file, err);
}

/* 1: it is what the fix-up made of it. */
static int is_as_changed(const struct way_back *w, const json_t *change, const char *path, struct err *err)
{
    char hex[GUEST_HASH_SIZE];
    int rc;

    if (strcmp(text_of(change, "action"), "remove") == 0)
        return !is_there(w, path);
    rc = guest_tree_hash(w->tree, path, hex, err);
    return rc <= 0 ? rc : strcmp(hex, text_of(change, "hash")) == 0;
}

static int tell(struct way_back *w, const json_t *change, const char *action, struct err *err)
{
    json_t *one = json_pack("{s:s, s:s, s:s, s:s, s:[]}", "fixup", text_of(change, "fixup"), "action", action, "path",
        text_of(change, "path"), "why", "as the source had it", "lines");

    return json_array_append_new(w->changes, one) < 0 ? change_list_no_memory(err) : 0;
}

static int restore(
    struct way_back *w, const json_t *change, const char *path, const struct original *o, struct err *err)
{
    bool absent = is_there(w, o->absent), link = is_there(w, o->link);
    int as_it_was = is_as_it_was(w, path, o, err);

    if (as_it_was < 0 || tell(w, change, absent ? "remove" : "restore", err) < 0)
        return -1;
    if (as_it_was || !w->apply)
        return 0;
    return absent ? guest_tree_remove(w->tree, path, err)
                  : guest_tree_copy(w->tree, link ? o->link : o->file, path, err);
}

static int stays(struct way_back *w, const char *path, const char *why, struct err *err)
{
    w->left++;
    return change_list_warn(w->list, err, "%s stays as the replica has it: %s", path, why);
}

static int take_one(struct way_back *w, const json_t *change, struct err *err)
{
    const char *path = text_of(change, "path");
    AUTO_ORIGINAL struct original o = {0};
    int as_it_was, as_changed;

    if (path[0] != '/')
        return 0;
    if (original_of(w, path, &o, err) < 0)
        return -1;
    if (!is_there(w, o.file) && !is_there(w, o.absent) && !is_there(w, o.link))
        return stays(w, path, "what it was is not kept", err);
    if ((as_it_was = is_as_it_was(w, path, &o, err)) < 0 || (as_changed = is_as_changed(w, change, path, err)) < 0)
        return -1;
    if (as_it_was || as_changed)
        return restore(w, change, path, &o, err);
    AUTO_FREE char *why = mem_printf("it was changed after the failover. As it was: %s", o.file);

    return why ? stays(w, path, why, err) : change_list_no_memory(err);
}

/* A replica without a list is one whose fix-ups were taken back, or that an older version made. */
static int without_list(struct way_back *w, struct err *err)
{
    if (!is_there(w, w->originals))
        return 0;
    w->left++;
    return change_list_warn(
        w->list, err, "The replica has no list of its fix-ups. What was changed is as it was in %s", w->originals);
}

static int take_all(struct way_back *w, struct err *err)
{
    json_t *kept = NULL;
    int rc = change_list_kept(w->tree, w->durable, &kept, err);

    if (rc == 0)
        rc = without_list(w, err);
    for (size_t i = json_array_size(kept); rc >= 0 && i > 0; i--)
        rc = take_one(w, json_array_get(kept, i - 1), err);
    json_decref(kept);
    if (rc < 0 || !w->apply || w->left > 0)
        return rc < 0 ? -1 : 0;
    /* The list goes last: without it, what is kept could not be told. */
    return guest_tree_remove_all(w->tree, w->originals, err) < 0 ? -1 : guest_tree_remove(w->tree, w->durable, err);
}

int take_back(const struct guest_tree *tree, const char *replica, bool apply, json_t **ret_report, struct err *err)
{
    struct change_list *list AUTO_OF(change_list) = change_list_new(tree, replica);
    struct way_back w = {.tree = tree, .apply = apply, .list = list, .changes = json_array()};

    if (list) {
        w.originals = list->originals;
        w.durable = list->durable;
    }
    if (!list || !w.changes) {
        json_decref(w.changes);
        return change_list_no_memory(err);
    }
    if (take_all(&w, err) < 0) {
        json_decref(w.changes);
        return -1;
    }
    *ret_report = json_pack("{s:o, s:O, s:b}", "changes", w.changes, "warnings", list->warnings, "applied", (int)apply);
    return *ret_report ? 0 : change_list_no_memory(err);
}
