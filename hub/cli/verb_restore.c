/* SPDX-License-Identifier: Apache-2.0
 *
 * leeward machine restore, leeward failover failback: what overwrites the disks of a machine, which is typed out to be sure.
 */
#include <stdio.h>
#include <string.h>

#include "hub/cli/jobwait.h"
#include "hub/cli/verbs.h"
#include "transport/base/mem.h"

static int bad_pair(struct err *err)
{
    err_set(err, ERR_INVALID, "--disk: not NUMBER=KEY,...");
    return err_hint(err, "For example --disk 0=serial:VD2,1=serial:VD3; leeward disk list shows numbers and keys.");
}

/* "0=serial:a,1=serial:b" -> [{"number": 0, "key": "serial:a"}, ...] */
static int add_disks(const char *text, json_t *body, struct err *err)
{
    json_t *disks = json_array();

    if (!disks || json_object_set_new(body, "disks", disks) < 0)
        return err_set(err, ERR_NOMEM, "no memory for a request");
    while (*text) {
        char *end = NULL;
        unsigned long number = strtoul(text, &end, 10);
        size_t n = strcspn(text, ",");

        if (end == text || *end != '=' || number > INT32_MAX || end + 1 >= text + n)
            return bad_pair(err);
        end++;
        if (json_array_append_new(disks,
                json_pack("{s:I, s:s%}", "number", (json_int_t)number, "key", end, (size_t)(text + n - end))) < 0)
            return bad_pair(err);
        text += n + (text[n] == ',');
    }
    return json_array_size(disks) > 0 ? 0 : bad_pair(err);
}

json_t *verb_overwrite_body(const struct command_line *line, struct err *err)
{
    const char *confirm = command_option(line, "confirm"), *to = command_option(line, "to");
    const char *disks = command_option(line, "disk");
    json_t *body;

    if (!confirm) {
        err_set(err, ERR_INVALID, "--confirm: missing");
        err_hint(err, "The disks of the %s machine are overwritten; type its name: --confirm %s",
            to ? "other" : "original", to ? to : "MACHINE");
        return NULL;
    }
    if (disks && !to) {
        err_set(err, ERR_INVALID, "--disk: only with --to");
        err_hint(err, "Without it the machine's own disks are written.");
        return NULL;
    }
    body = json_pack("{s:s, s:s*}", "confirm", confirm, "to", to);
    if (!body) {
        err_set(err, ERR_INVALID, "--confirm, --to: not text");
        return NULL;
    }
    if (disks && add_disks(disks, body, err) < 0) {
        json_decref(body);
        return NULL;
    }
    return body;
}

int verb_machine_restore(struct command_line *line, struct err *err)
{
    char machine[129];
    const char *point;
    uint64_t sequence;
    json_t *body;
    int rc;

    if (!command_option(line, "to")) {
        err_set(err, ERR_INVALID, "--to: missing");
        return err_hint(err, "Name the machine whose disks are written: leeward machine list");
    }
    if (verb_split_point(line->arguments[0], machine, &point, err) < 0 ||
        verb_resolve_point(line, machine, point, &sequence, err) < 0 || !(body = verb_overwrite_body(line, err)))
        return -1;
    AUTO_FREE char *path = client_path("/api/v1/machines/%s/restore", machine);

    rc = path && json_object_set_new(body, "sequence", json_integer((json_int_t)sequence)) == 0
             ? jobwait_and_print(line, "POST", path, body, err)
             : err_set(err, ERR_NOMEM, "no memory for a request");
    json_decref(body);
    return rc;
}
