/* SPDX-License-Identifier: Apache-2.0
 *
 * leeward point ..., leeward export ...: recovery points. MACHINE@POINT names one; POINT is a sequence, "latest", a moment
 * (RFC 3339: the latest point at or before it), the id of a group point, or a tag.
 */
#include "hub/cli/verbs.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hub/cli/jobwait.h"
#include "transport/base/clock.h"
#include "transport/base/ident.h"
#include "transport/base/mem.h"

static const struct column point_columns[] = {
    {"POINT", "sequence", COLUMN_NUMBER, false},
    {"TIME", "time", COLUMN_TEXT, false},
    {"KIND", "kind", COLUMN_TEXT, false},
    {"CHANGED", "changed_bytes", COLUMN_BYTES, false},
    {"FROZEN", "frozen", COLUMN_YES_NO, false},
    {"TAG", "tag", COLUMN_TEXT, false},
    {"GROUP POINT", "group_point_id", COLUMN_TEXT, false},
    {"COMMITTED", "committed_at", COLUMN_TIME, true},
    {"GENERATION", "generation", COLUMN_NUMBER, true},
    {"UNREADABLE", "unreadable_blocks", COLUMN_NUMBER, false},
};

static const struct column unreadable_columns[] = {
    {"UNREADABLE ON", "device", COLUMN_TEXT, false},
    {"DISK", "disk", COLUMN_NUMBER, false},
    {"START BYTE", "start_bytes", COLUMN_NUMBER, false},
    {"BYTES", "length_bytes", COLUMN_NUMBER, false},
    {"KEY", "disk_key", COLUMN_TEXT, false},
};

static const struct column export_columns[] = {
    {"ID", "id", COLUMN_TEXT, false},
    {"MACHINE", "machine_name", COLUMN_TEXT, false},
    {"POINT", "sequence", COLUMN_NUMBER, false},
    {"TIME", "point_time", COLUMN_TIME, false},
    {"WRITABLE", "writable", COLUMN_YES_NO, false},
    {"STATE", "state", COLUMN_TEXT, false},
    {"URI", "uri", COLUMN_TEXT, false},
    {"BY", "created_by", COLUMN_TEXT, true},
};

/* Splits MACHINE[@POINT] at the last '@'. */
int verb_split_point(const char *text, char machine[129], const char **ret_point, struct err *err)
{
    const char *at = strrchr(text, '@');
    size_t n = at ? (size_t)(at - text) : strlen(text);

    if (n == 0 || n > 128)
        return err_set(err, ERR_INVALID, "\"%s\" is not MACHINE or MACHINE@POINT", text);
    (void)snprintf(machine, 129, "%.*s", (int)n, text);
    *ret_point = at && at[1] ? at + 1 : "latest";
    return 0;
}

static bool is_number(const char *text)
{
    return *text && strspn(text, "0123456789") == strlen(text) && strlen(text) < 19;
}

/* The list that has the wanted point first. */
static char *search_path(const char *machine, const char *point)
{
    char before[CLOCK_RFC3339_SIZE];
    struct ident group_point;
    uint64_t utc_usec;

    if (strcmp(point, "latest") == 0)
        return client_path("/api/v1/machines/%s/points?sort=-sequence", machine);
    if (ident_from_text(point, &group_point) == 0)
        return client_path("/api/v1/machines/%s/points?sort=-sequence&group_point_id=%s", machine, point);
    if (clock_parse_rfc3339(point, &utc_usec, NULL) == 0) {
        clock_rfc3339(utc_usec + 1, before);
        return client_path("/api/v1/machines/%s/points?sort=-time&before=%s", machine, before);
    }
    return client_path("/api/v1/machines/%s/points?sort=-sequence&tag=%s", machine, point);
}

/* The sequence that POINT names. */
int verb_resolve_point(
    const struct command_line *line, const char *machine, const char *point, uint64_t *ret_sequence, struct err *err)
{
    AUTO_FREE char *path = NULL;
    json_t *items;

    if (is_number(point)) {
        *ret_sequence = strtoull(point, NULL, 10);
        return 0;
    }
    path = search_path(machine, point);
    if (!path)
        return err_set(err, ERR_NOMEM, "no memory for a request");
    if (verb_read_list(line, path, 1, &items, err) < 0)
        return -1;
    *ret_sequence = (uint64_t)json_integer_value(json_object_get(json_array_get(items, 0), "sequence"));
    json_decref(items);
    if (*ret_sequence > 0)
        return 0;
    (void)err_set(err, ERR_NOT_FOUND, "%s has no recovery point \"%s\"", machine, point);
    return err_hint(err,
        "`leeward point list %s` shows what there is; POINT is a number, latest, a time, a group point or a tag.",
        machine);
}

static int check_kinds(const char *list, struct err *err)
{
    static const char *const kinds[] = {"crash", "filesystem", "application"};

    for (size_t n; list && *list; list += n + (list[n] == ',')) {
        bool known = false;

        n = strcspn(list, ",");
        for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
            known = known || (strlen(kinds[i]) == n && strncmp(kinds[i], list, n) == 0);
        if (!known) {
            (void)err_set(err, ERR_INVALID, "--kind: there are no points of the kind \"%.*s\"", (int)n, list);
            return err_hint(err, "crash, filesystem and application, separated by commas.");
        }
    }
    return 0;
}

int verb_point_list(struct command_line *line, struct err *err)
{
    static const char *const filters[] = {"after", "before", "kind", "tag"};
    AUTO_FREE char *path = client_path("/api/v1/machines/%s/points?sort=-sequence", line->arguments[0]);
    uint64_t most = line->output == OUTPUT_JSON ? 500 : 20;

    for (size_t i = 0; path && i < ARRAY_LEN(filters); i++) {
        const char *value = command_option(line, filters[i]);
        AUTO_FREE char *escaped = value ? client_path("%s", value) : NULL;
        char *longer = escaped ? mem_printf("%s&%s=%s", path, filters[i], escaped) : NULL;

        if (longer) {
            free(path);
            path = longer;
        }
    }
    if (command_option_number(line, "limit", 1, 1000000, &most, err) < 0 ||
        check_kinds(command_option(line, "kind"), err) < 0)
        return -1;
    return verb_print_list(
        line, path, point_columns, ARRAY_LEN(point_columns), command_option(line, "all") ? 0 : (size_t)most, err);
}

/* For people: what it means, and what to do. */
static void advise_unreadable(const struct command_line *line, const json_t *point)
{
    json_int_t blocks = json_integer_value(json_object_get(point, "unreadable_blocks"));

    if (line->output == OUTPUT_JSON || blocks == 0)
        return;
    (void)printf("\nThe source could not read these blocks, so the point has older content there. Replace the disk, or "
                 "write the\n"
                 "blocks anew; points are whole again when they could be read. If this point must be used, check the "
                 "files there:\n"
                 "file systems and databases name them by their place.\n");
}

static int show_point(const struct command_line *line, const char *path, struct err *err)
{
    AUTO_ANSWER struct client_answer answer = {0};

    if (!path)
        return err_set(err, ERR_NOMEM, "no memory for a request");
    if (client_get(line->client, path, &answer, err) < 0 ||
        output_item_and_list(
            line, answer.json, "unreadable_ranges", unreadable_columns, ARRAY_LEN(unreadable_columns), stdout) < 0)
        return -1;
    advise_unreadable(line, answer.json);
    return 0;
}

int verb_point_show(struct command_line *line, struct err *err)
{
    char machine[129], number[24];
    const char *point;
    uint64_t sequence;
    AUTO_FREE char *path = NULL;

    if (verb_split_point(line->arguments[0], machine, &point, err) < 0 ||
        verb_resolve_point(line, machine, point, &sequence, err) < 0)
        return -1;
    (void)snprintf(number, sizeof(number), "%llu", (unsigned long long)sequence);
    path = client_path("/api/v1/machines/%s/points/%s", machine, number);
    return show_point(line, path, err);
}

/* The point itself, once the job is done. */
static int print_created(const struct command_line *line, const json_t *job, struct err *err)
{
    const char *machine = json_string_value(json_object_get(job, "machine_id"));
    const char *sequence = json_string_value(json_object_get(json_object_get(job, "result"), "sequence"));
    AUTO_FREE char *path = NULL;

    if (command_option(line, "no-wait") || !machine || !sequence) {
        output_json(job, stdout);
        return 0;
    }
    path = client_path("/api/v1/machines/%s/points/%s", machine, sequence);
    return verb_print_item(line, path, err);
}

int verb_point_create(struct command_line *line, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/machines/%s/points", line->arguments[0]);
    const char *tag = command_option(line, "tag");
    const char *kind = command_option(line, "app")  ? "application"
                       : command_option(line, "fs") ? "filesystem"
                                                    : "crash";
    json_t *body = json_pack("{s:s}", "kind", kind), *job = NULL;
    int rc;

    if (tag)
        json_object_set_new(body, "tag", json_string(tag));
    rc = path ? jobwait_run(line, "POST", path, body, &job, err) : err_set(err, ERR_NOMEM, "no memory for a request");
    if (rc == 0)
        rc = print_created(line, job, err);
    json_decref(body);
    json_decref(job);
    return rc;
}

/* The URI of the disk that was asked for, or of the first one. */
static const char *disk_uri(const struct command_line *line, const json_t *result, struct err *err)
{
    const char *wanted = command_option(line, "disk");
    const json_t *disk;
    size_t i;

    if (!wanted)
        return json_string_value(json_object_get(result, "uri"));
    json_array_foreach(json_object_get(result, "disks"), i, disk)
    {
        const char *name = json_string_value(json_object_get(disk, "name"));
        char number[24];

        (void)snprintf(number, sizeof(number), "%lld", (long long)json_integer_value(json_object_get(disk, "number")));
        if (strcmp(number, wanted) == 0 || (name && strcmp(name, wanted) == 0))
            return json_string_value(json_object_get(disk, "uri"));
    }
    (void)err_set(err, ERR_NOT_FOUND, "the point has no disk %s", wanted);
    (void)err_hint(err, "`leeward disk list` shows the numbers.");
    return NULL;
}

/* Nobody would close what nobody was told about. */
static void close_again(const struct command_line *line, const char *id)
{
    AUTO_FREE char *path = client_path("/api/v1/exports/%s", id);
    AUTO_ANSWER struct client_answer answer = {0};

    if (path)
        (void)client_call(line->client, "DELETE", path, NULL, NULL, &answer, NULL);
}

static int print_opened(const struct command_line *line, const json_t *job, struct err *err)
{
    const json_t *result = json_object_get(job, "result");
    const char *id = json_string_value(json_object_get(result, "export_id"));
    const char *uri;

    if (command_option(line, "no-wait") || !id) {
        output_json(job, stdout);
        return 0;
    }
    if (line->output == OUTPUT_JSON) {
        AUTO_FREE char *path = client_path("/api/v1/exports/%s", id);

        return verb_print_item(line, path, err);
    }
    if (!(uri = disk_uri(line, result, err))) {
        close_again(line, id);
        return err->code ? -1 : err_set(err, ERR_CORRUPT, "the vault gave no URI");
    }
    (void)puts(uri);
    if (isatty(STDERR_FILENO))
        (void)fprintf(stderr, "point %s is open; `leeward point close %s` closes it\n",
            json_string_value(json_object_get(result, "sequence")) ?: "?",
            json_string_value(json_object_get(result, "export_id")) ?: uri);
    return 0;
}

int verb_point_open(struct command_line *line, struct err *err)
{
    char machine[129];
    const char *point, *socket = command_option(line, "socket"), *vault = command_option(line, "vault");
    json_t *body, *job = NULL;
    uint64_t sequence;
    int rc;

    if (verb_split_point(line->arguments[0], machine, &point, err) < 0 ||
        (vault ? verb_copy_point(line, machine, vault, point, &sequence, err)
               : verb_resolve_point(line, machine, point, &sequence, err)) < 0)
        return -1;
    body = json_pack("{s:s, s:I, s:b}", "machine", machine, "sequence", (json_int_t)sequence, "write",
        command_option(line, "write") != NULL);
    if (socket)
        json_object_set_new(body, "socket", json_string(socket));
    if (vault)
        json_object_set_new(body, "vault", json_string(vault));
    rc = jobwait_run(line, "POST", "/api/v1/exports", body, &job, err);
    if (rc == 0)
        rc = print_opened(line, job, err);
    json_decref(body);
    json_decref(job);
    return rc;
}

static bool export_has_uri(const json_t *export, const char *uri)
{
    const char *own = json_string_value(json_object_get(export, "uri"));
    const json_t *disk;
    size_t i;

    if (own && strcmp(own, uri) == 0)
        return true;
    json_array_foreach(json_object_get(export, "disks"), i, disk)
    {
        const char *other = json_string_value(json_object_get(disk, "uri"));

        if (other && strcmp(other, uri) == 0)
            return true;
    }
    return false;
}

/* An export by its id or by a URI that `point open` printed. */
static int find_export(const struct command_line *line, const char *name, char ret_id[40], struct err *err)
{
    const json_t *export;
    json_t *items;
    size_t i;

    (void)snprintf(ret_id, 40, "%s", name);
    if (strncmp(name, "nbd", 3) != 0)
        return 0;
    if (verb_read_list(line, "/api/v1/exports?state=open,opening", 0, &items, err) < 0)
        return -1;
    ret_id[0] = 0;
    json_array_foreach(items, i, export) if (export_has_uri(export, name))(void)
        snprintf(ret_id, 40, "%s", json_string_value(json_object_get(export, "id")) ?: "");
    json_decref(items);
    return ret_id[0] ? 0 : err_set(err, ERR_NOT_FOUND, "no open point has the URI %s", name);
}

int verb_point_close(struct command_line *line, struct err *err)
{
    for (unsigned i = 0; i < line->argument_count; i++) {
        AUTO_FREE char *path = NULL;
        char id[40];

        if (find_export(line, line->arguments[i], id, err) < 0)
            return -1;
        path = client_path("/api/v1/exports/%s", id);
        if (!path)
            return err_set(err, ERR_NOMEM, "no memory for a request");
        if (jobwait_and_print(line, "DELETE", path, NULL, err) < 0)
            return -1;
    }
    return 0;
}

int verb_export_list(struct command_line *line, struct err *err)
{
    const char *path = command_option(line, "all") ? "/api/v1/exports" : "/api/v1/exports?state=open,opening,closing";

    return verb_print_list(line, path, export_columns, ARRAY_LEN(export_columns), 0, err);
}

/* A disk of the machine by number or device. */
static int disk_number(
    const struct command_line *line, const char *machine, const char *name, json_int_t *ret_number, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/machines/%s/disks", machine);
    const json_t *disk;
    json_t *items;
    size_t i;
    int rc = -1;

    if (is_number(name)) {
        *ret_number = (json_int_t)strtoull(name, NULL, 10);
        return 0;
    }
    if (!path || verb_read_list(line, path, 0, &items, err) < 0)
        return -1;
    json_array_foreach(items, i, disk)
    {
        const char *device = json_string_value(json_object_get(disk, "device"));
        const char *key = json_string_value(json_object_get(disk, "key"));
        const json_t *number = json_object_get(disk, "number");

        if (json_is_integer(number) && ((device && strcmp(device, name) == 0) || (key && strcmp(key, name) == 0))) {
            *ret_number = json_integer_value(number);
            rc = 0;
        }
    }
    json_decref(items);
    return rc == 0 ? 0 : err_set(err, ERR_NOT_FOUND, "%s has no protected disk %s", machine, name);
}

static char *absolute(const char *path)
{
    char cwd[PATH_MAX];

    if (path[0] == '/' || !getcwd(cwd, sizeof(cwd)))
        return mem_strdup(path);
    return mem_printf("%s/%s", cwd, path);
}

int verb_export_disk(struct command_line *line, struct err *err)
{
    char machine[129], number[24];
    const char *point, *format = command_option(line, "format"), *vault = command_option(line, "vault");
    AUTO_FREE char *target = absolute(line->arguments[2]);
    AUTO_FREE char *path = NULL;
    json_int_t disk = 0;
    uint64_t sequence;
    json_t *body;
    int rc;

    if (verb_split_point(line->arguments[0], machine, &point, err) < 0 ||
        (vault ? verb_copy_point(line, machine, vault, point, &sequence, err)
               : verb_resolve_point(line, machine, point, &sequence, err)) < 0 ||
        disk_number(line, machine, line->arguments[1], &disk, err) < 0)
        return -1;
    if (format && strcmp(format, "vhd") == 0)
        format = "vpc"; /* qemu's word for it */
    body = json_pack("{s:I, s:s, s:s}", "disk", disk, "path", target ? target : "", "format", format ? format : "raw");
    if (vault)
        json_object_set_new(body, "vault", json_string(vault));
    (void)snprintf(number, sizeof(number), "%llu", (unsigned long long)sequence);
    path = client_path("/api/v1/machines/%s/points/%s/export", machine, number);
    rc = path && body ? jobwait_and_print(line, "POST", path, body, err)
                      : err_set(err, ERR_NOMEM, "no memory for a request");
    json_decref(body);
    return rc;
}
