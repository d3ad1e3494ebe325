/* SPDX-License-Identifier: Apache-2.0
 *
 * leeward disk ...: the disks of a machine, one more or one less of them under protection, and another size.
 */
#include "hub/cli/verbs.h"

#include <string.h>

#include "hub/cli/jobwait.h"
#include "transport/base/mem.h"

static const struct column disk_columns[] = {
    {"NO", "number", COLUMN_NUMBER, false},
    {"DEVICE", "device", COLUMN_TEXT, false},
    {"SIZE", "size_bytes", COLUMN_BYTES, false},
    {"WAS", "previous_size_bytes", COLUMN_BYTES, false},
    {"PROTECTED", "protected", COLUMN_YES_NO, false},
    {"TRACKABLE", "trackable", COLUMN_YES_NO, false},
    {"KEY", "key", COLUMN_TEXT, false},
    {"REASON", "not_trackable_reason", COLUMN_TEXT, false},
    {"MODEL", "model", COLUMN_TEXT, true},
    {"TABLE", "partition_table", COLUMN_TEXT, true},
    {"SECTOR", "logical_sector_bytes", COLUMN_NUMBER, true},
    {"RESIZED", "resized_at", COLUMN_TIME, true},
    {"PRESENT", "present", COLUMN_YES_NO, true},
};

static const struct column size_columns[] = {
    {"DEVICE", "device", COLUMN_TEXT, false},
    {"BEFORE", "before_bytes", COLUMN_BYTES, false},
    {"SIZE", "size_bytes", COLUMN_BYTES, false},
    {"KEY", "key", COLUMN_TEXT, false},
};

/* ---- which ---- */

int verb_disk_key(const json_t *disks, const char *name, json_t *keys, struct err *err)
{
    const json_t *disk;
    size_t i;

    json_array_foreach(disks, i, disk)
    {
        const char *key = json_string_value(json_object_get(disk, "key"));
        const char *device = json_string_value(json_object_get(disk, "device"));

        if (key && device &&
            (strcmp(key, name) == 0 || (strcmp(device, name) == 0 && json_is_true(json_object_get(disk, "present"))))) {
            json_array_append_new(keys, json_string(key));
            return 0;
        }
    }
    (void)err_set(err, ERR_NOT_FOUND, "the machine has no disk %s", name);
    return err_hint(err, "`leeward disk list` shows devices and keys.");
}

static bool is_protected(const json_t *disk)
{
    return json_is_true(json_object_get(disk, "protected")) && json_is_true(json_object_get(disk, "present"));
}

/* The keys of the disks that the line names; without any, of those that are protected and there. */
static int named_keys(const struct command_line *line, const json_t *disks, json_t *keys, struct err *err)
{
    const json_t *disk;
    size_t i;

    for (unsigned a = 1; a < line->argument_count; a++)
        if (verb_disk_key(disks, line->arguments[a], keys, err) < 0)
            return -1;
    if (line->argument_count > 1)
        return 0;
    json_array_foreach(disks, i, disk) if (is_protected(disk)) json_array_append(keys, json_object_get(disk, "key"));
    if (json_array_size(keys) > 0)
        return 0;
    (void)err_set(err, ERR_REFUSED, "no disk of %s is protected", line->arguments[0]);
    return err_hint(err, "Protect it first: leeward machine protect %s", line->arguments[0]);
}

static json_t *choice(const struct command_line *line, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/machines/%s/disks", line->arguments[0]);
    json_t *disks = NULL, *keys;
    int rc;

    if (!path) {
        (void)err_set(err, ERR_NOMEM, "no memory for a request");
        return NULL;
    }
    if (verb_read_list(line, path, 0, &disks, err) < 0)
        return NULL;
    keys = json_array();
    rc = named_keys(line, disks, keys, err);
    json_decref(disks);
    if (rc == 0)
        return json_pack("{s:o}", "disks", keys);
    json_decref(keys);
    return NULL;
}

/* ---- list ---- */

/* A disk that is gone is worth a line only while it is protected. */
static bool is_worth_showing(const json_t *disk)
{
    return json_is_true(json_object_get(disk, "present")) || json_is_true(json_object_get(disk, "protected"));
}

int verb_disk_list(struct command_line *line, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/machines/%s/disks", line->arguments[0]);
    AUTO_FREE char *chosen = verb_list_path(line, path, err);
    bool all = command_option(line, "all") || command_option(line, "filter");
    json_t *items, *shown, *disk;
    size_t i;

    if (!chosen || verb_read_list(line, chosen, 0, &items, err) < 0)
        return -1;
    shown = json_array();
    json_array_foreach(items, i, disk) if (all || is_worth_showing(disk)) json_array_append(shown, disk);
    (void)output_items(line, shown, disk_columns, ARRAY_LEN(disk_columns), stdout);
    json_decref(shown);
    json_decref(items);
    return 0;
}

/* ---- changes ---- */

static int ask(const struct command_line *line, const char *verb, json_t **ret_job, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/machines/%s/disks/%s", line->arguments[0], verb);
    json_t *body = path ? choice(line, err) : NULL;
    int rc;

    *ret_job = NULL;
    if (!path)
        return err_set(err, ERR_NOMEM, "no memory for a request");
    if (!body)
        return -1;
    rc = jobwait_run(line, "POST", path, body, ret_job, err);
    json_decref(body);
    return rc;
}

static int change(const struct command_line *line, const char *verb, struct err *err)
{
    json_t *job;
    int rc = ask(line, verb, &job, err);

    jobwait_print(line, job, rc == 0);
    json_decref(job);
    return rc;
}

int verb_disk_add(struct command_line *line, struct err *err)
{
    return change(line, "add", err);
}

int verb_disk_exclude(struct command_line *line, struct err *err)
{
    return change(line, "exclude", err);
}

/* Sizes travel as text, since they may be more than a double holds; tables want numbers. */
static json_t *size_rows(const json_t *sizes)
{
    static const char *const members[] = {"before_bytes", "size_bytes"};
    json_t *rows = json_deep_copy(sizes), *row;
    size_t i;

    json_array_foreach(rows, i, row) for (size_t m = 0; m < ARRAY_LEN(members); m++)
    {
        const char *text = json_string_value(json_object_get(row, members[m]));

        if (text)
            json_object_set_new(row, members[m], json_integer((json_int_t)strtoull(text, NULL, 10)));
    }
    return rows;
}

int verb_disk_resize(struct command_line *line, struct err *err)
{
    json_t *job, *rows;
    int rc = ask(line, "resize", &job, err);

    jobwait_print(line, job, rc == 0);
    rows = rc == 0 && line->output != OUTPUT_JSON ? size_rows(json_object_get(json_object_get(job, "result"), "disks"))
                                                  : NULL;
    if (json_array_size(rows) > 0)
        (void)output_items(line, rows, size_columns, ARRAY_LEN(size_columns), stdout);
    json_decref(rows);
    json_decref(job);
    return rc;
}
