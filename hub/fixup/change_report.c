/* SPDX-License-Identifier: Apache-2.0
 *
 * Changes as JSON, for people and to be kept in the guest. Texts are compared by lines: a configuration file is short, and a line that is in the other
 * text too is no change.
 */
#include <stdio.h>
#include <string.h>

#include "hub/fixup/change_list.h"
#include "hub/fixup/change_list_private.h"
#include "transport/base/mem.h"

#define LINES_MAX 40 /* shown of one file */
#define LINE_MAX_BYTES 400
/* Of all lines together. As JSON a byte may become six, and the hub takes 4 MiB. */
#define LINES_MAX_BYTES (512U << 10)

struct teller {
    json_t *lines;
    size_t *left; /* bytes */
    bool cut;
};

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

static int tell_line(struct teller *t, char sign, const char *at, size_t n)
{
    size_t shown = n < LINE_MAX_BYTES ? n : LINE_MAX_BYTES;
    AUTO_FREE char *line = mem_printf("%c%.*s", sign, (int)shown, at);
    json_t *text = line ? json_string(line) : NULL;

    t->cut |= shown > *t->left || json_array_size(t->lines) >= LINES_MAX;
    if (t->cut) {
        json_decref(text);
        return 0;
    }
    *t->left -= shown;
    return json_array_append_new(t->lines, text ? text : json_string("(not UTF-8)"));
}

/* Lines of `text` that `other` has not. */
static int lines_of(struct teller *t, char sign, const char *text, const char *other)
{
    json_t *known = line_set(other);
    int rc = known ? 0 : -1;

    for (const char *at = text; rc == 0 && at && *at && !t->cut;) {
        size_t n = strcspn(at, "\n");

        if (n > 0 && !json_object_getn(known, at, n))
            rc = tell_line(t, sign, at, n);
        at += n + (at[n] == '\n');
    }
    json_decref(known);
    return rc;
}

static json_t *change_json(const struct change *c, size_t *left)
{
    const char *action = c->argv[0] ? "run" : !c->after ? "remove" : c->before ? "edit" : "create";
    struct teller t = {.lines = json_array(), .left = left};
    int rc = t.lines ? 0 : -1;

    for (size_t i = 0; rc == 0 && c->argv[i]; i++)
        rc = json_array_append_new(t.lines, json_string(c->argv[i]));
    /* A text that may be secret (a key of a wireless network) is kept in the guest, and does not travel. */
    if (rc == 0 && c->hidden && !c->argv[0])
        rc = json_array_append_new(t.lines, json_string("(not shown: readable by root alone)"));
    else if (rc == 0 && !c->argv[0])
        rc = lines_of(&t, '-', c->before, c->after) < 0 || lines_of(&t, '+', c->after, c->before) < 0 ? -1 : 0;
    if (rc == 0 && t.cut)
        rc = json_array_append_new(t.lines, json_string("(more is not shown)"));
    if (rc < 0) {
        json_decref(t.lines);
        return NULL;
    }
    return json_pack("{s:s, s:s, s:s, s:s, s:o, s:s*}", "fixup", c->fixup, "action", action, "path", c->path, "why",
        c->why, "lines", t.lines, "failure", c->failure);
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    return text ? text : "";
}

/* Both run a program for the path, or neither does. */
static bool is_same(const json_t *one, const json_t *other)
{
    return strcmp(text_of(one, "path"), text_of(other, "path")) == 0 &&
           (strcmp(text_of(one, "action"), "run") == 0) == (strcmp(text_of(other, "action"), "run") == 0);
}

static bool has(const json_t *changes, const json_t *wanted)
{
    const json_t *one;
    size_t at;

    json_array_foreach(changes, at, one) if (is_same(one, wanted)) return true;
    return false;
}

/* What an earlier run of the same failover's changed, and this one finds changed already. */
static int tell_earlier(const struct change_list *list, json_t *changes, struct err *err)
{
    json_t *kept = NULL, *one;
    int rc = change_list_kept(list->tree, list->durable, &kept, err);
    size_t at, before = 0;

    json_array_foreach(kept, at, one) if (rc > 0 && !has(changes, one) && json_array_insert(changes, before++, one) < 0)
        rc = change_list_no_memory(err);
    json_decref(kept);
    return rc < 0 ? -1 : 0;
}

int change_list_kept(const struct guest_tree *tree, const char *durable, json_t **ret_changes, struct err *err)
{
    AUTO_FREE char *text = NULL;
    int rc = guest_tree_read_long(tree, durable, CHANGES_TEXT_MAX, &text, err);
    json_t *whole = rc == 1 ? json_loads(text, JSON_REJECT_DUPLICATES, NULL) : NULL;
    json_t *changes = json_object_get(whole, "changes");

    *ret_changes = NULL;
    if (rc == 1 && json_is_array(changes) && json_array_size(changes) <= 2 * CHANGES_MAX)
        *ret_changes = json_incref(changes);
    json_decref(whole);
    return rc < 0 ? -1 : *ret_changes != NULL;
}

json_t *change_list_report(const struct change_list *list, struct err *err)
{
    json_t *changes = json_array();
    size_t left = LINES_MAX_BYTES;
    int rc = changes ? 0 : change_list_no_memory(err);

    for (size_t i = 0; rc == 0 && i < list->count; i++)
        if (json_array_append_new(changes, change_json(&list->changes[i], &left)) < 0)
            rc = change_list_no_memory(err);
    if (rc == 0 && tell_earlier(list, changes, err) < 0)
        rc = -1;
    if (rc < 0) {
        json_decref(changes);
        return NULL;
    }
    json_t *report = json_pack("{s:o, s:O}", "changes", changes, "warnings", list->warnings);

    if (!report)
        change_list_no_memory(err);
    return report;
}
