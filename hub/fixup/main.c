/* SPDX-License-Identifier: Apache-2.0
 *
 * leeward-fixup: makes the system on a replica's disks one that boots and behaves as a virtual machine. Reads what is wanted as JSON on standard input
 *     {"apply": bool, "take_back"?: bool (undo those of this failover), "fixups": {...}, "context": {"failover_id", "machine_id", "machine_name", "mac", "cards": n}, "disks": [{"number": n, "device": "/dev/sda"}]}
 * and prints one JSON object: {"changes": [...], "warnings": [...], "applied": bool, "unbootable"?: why} or {"error": {"code", "text", "correction"}}.
 *     leeward-fixup --root DIR     the guest's root is there already; none of its programs is run
 *     leeward-fixup --mount        finds and mounts it first; for the inside of the rescue image
 * The list of changes is complete before the first of them is made.
 */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "hub/fixup/fixers.h"
#include "hub/fixup/fixup_spec.h"
#include "hub/fixup/guest_exec.h"
#include "hub/fixup/guest_mount.h"
#include "hub/fixup/take_back.h"
#include "transport/base/mem.h"

#define MOUNT_AT "/guest"

static int print_error(const struct err *err)
{
    json_t *report = json_pack("{s:{s:s, s:s, s:s}}", "error", "code", err_code_name(err->code), "text", err->text,
        "correction", err->correction);

    (void)json_dumpf(report, stdout, JSON_COMPACT);
    (void)putchar('\n');
    json_decref(report);
    return 1;
}

static int report(struct change_list *list, bool applied, json_t **ret_report, struct err *err)
{
    const char *unbootable = change_list_unbootable(list);
    json_t *all = change_list_report(list, err), *one;
    size_t at;

    if (!all)
        return -1;
    json_array_foreach(json_object_get(all, "changes"), at, one)(void) json_object_del(one, "hash");
    if (json_object_set_new(all, "applied", json_boolean(applied)) == 0 &&
        (!applied || !unbootable || json_object_set_new(all, "unbootable", json_string(unbootable)) == 0)) {
        *ret_report = all;
        return 0;
    }
    json_decref(all);
    return err_set(err, ERR_NOMEM, "no memory for a report");
}

/* The changes, made when the input says so; *ret_report is a new reference. */
static int fix(
    const char *root, bool may_run, const json_t *input, const json_t *found, json_t **ret_report, struct err *err)
{
    const json_t *context = json_object_get(input, "context");
    struct guest_tree tree = {.fd = -1};
    struct change_list *list AUTO_OF(change_list) = NULL;
    bool apply = json_is_true(json_object_get(input, "apply"));
    const char *replica = json_string_value(json_object_get(context, "failover_id"));
    int rc = guest_tree_open(root, &tree, err);

    if (json_is_true(json_object_get(input, "take_back"))) {
        rc = rc < 0 ? -1 : take_back(&tree, replica, apply, ret_report, err);
        guest_tree_close(&tree);
        return rc;
    }

    if (rc == 0 && !(list = change_list_new(&tree, replica)))
        rc = err_set(err, ERR_NOMEM, "no memory for the changes of a guest");
    const struct fixup_call call = {.list = list,
        .fixups = json_object_get(input, "fixups"),
        .context = context,
        .filesystems = found,
        .ask = may_run ? guest_exec_ask : NULL};

    if (rc == 0)
        rc = fix_all(&call, err);
    if (rc == 0 && apply)
        rc = change_list_apply(list, guest_exec_run, err);
    if (rc == 0)
        rc = report(list, apply, ret_report, err);
    guest_tree_close(&tree);
    return rc;
}

static int fix_mounted(const json_t *input, json_t **ret_report, struct err *err)
{
    json_t *found = guest_mount_probe(json_object_get(input, "disks"), err), *warnings = json_array();
    int rc = found && warnings ? guest_mount_all(MOUNT_AT, found, warnings, err) : -1;

    if (rc == 0)
        rc = fix(MOUNT_AT, true, input, found, ret_report, err);
    if (guest_mount_end(MOUNT_AT, rc < 0 ? NULL : err) < 0)
        rc = -1;
    if (rc == 0)
        json_array_extend(json_object_get(*ret_report, "warnings"), warnings);
    json_decref(found);
    json_decref(warnings);
    return rc;
}

/* It becomes the name of a folder. */
static bool is_plain(const char *id)
{
    return id && id[0] && id[0] != '.' && !strchr(id, '/') && strlen(id) < 100;
}

static int work(const char *root, struct err *err)
{
    json_error_t where = {.text = ""};
    json_t *input = json_loadf(stdin, JSON_REJECT_DUPLICATES, &where), *report = NULL;
    json_t *fixups = json_object_get(input, "fixups"), *context = json_object_get(input, "context");
    int rc;

    if (!json_is_object(input))
        rc = err_set(err, ERR_INVALID, "what is wanted is not the JSON object that it should be: %s", where.text);
    else if (!is_plain(json_string_value(json_object_get(context, "failover_id"))))
        rc = err_set(err, ERR_INVALID, "context.failover_id: missing, or not an id");
    else if (fixup_spec_check(fixups, err) < 0)
        rc = -1;
    else
        rc = root ? fix(root, false, input, json_object_get(input, "filesystems"), &report, err)
                  : fix_mounted(input, &report, err);
    if (rc == 0) {
        (void)json_dumpf(report, stdout, JSON_COMPACT);
        (void)putchar('\n');
    }
    json_decref(input);
    json_decref(report);
    return rc;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"root", required_argument, NULL, 'r'}, {"mount", no_argument, NULL, 'm'},
        {"version", no_argument, NULL, 'V'}, {NULL, 0, NULL, 0}};
    const char *root = NULL;
    bool mount = false;
    struct err err = ERR_INIT;
    int c;

    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (c == 'V')
            return puts("leeward-fixup " LEEWARD_VERSION) < 0;
        if (c == '?')
            return 2;
        root = c == 'r' ? optarg : root;
        mount |= c == 'm';
    }
    if (optind != argc || mount == (root != NULL)) {
        (void)fputs("usage: leeward-fixup --root DIR | --mount\n", stderr);
        return 2;
    }
    return work(root, &err) < 0 ? print_error(&err) : 0;
}
