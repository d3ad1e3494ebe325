/* SPDX-License-Identifier: Apache-2.0
 *
 * leeward failover ..., leeward target ...: replicas of machines, and where they run. A failover that is not over is named by its id, or by its machine
 * where that has just one.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "hub/cli/jobwait.h"
#include "hub/cli/verbs.h"
#include "transport/base/buf.h"
#include "transport/base/file.h"
#include "transport/base/ident.h"
#include "transport/base/mem.h"

#define CPUS_MAX 512
#define SCREEN_BYTES_MAX (64u << 20)
#define MEMORY_MIB_MAX (64ULL << 20)

static const struct column failover_columns[] = {
    {"ID", "id", COLUMN_TEXT, false},
    {"MACHINE", "machine_name", COLUMN_TEXT, false},
    {"KIND", "kind", COLUMN_TEXT, false},
    {"STATE", "state", COLUMN_TEXT, false},
    {"POINT", "sequence", COLUMN_NUMBER, false},
    {"TARGET", "target_name", COLUMN_TEXT, false},
    {"BOOT CHECK", "verdict", COLUMN_TEXT, false},
    {"OUTCOME", "outcome", COLUMN_TEXT, false},
    {"RTO", "rto_seconds", COLUMN_SECONDS, false},
    {"LOSS", "data_loss_seconds", COLUMN_SECONDS, false},
    {"ASKED FOR", "requested_at", COLUMN_TIME, true},
    {"BY", "requested_by", COLUMN_TEXT, true},
    {"BOOT CHECK SAID", "verdict_text", COLUMN_TEXT, true},
    {"NOTES", "notes", COLUMN_TEXT, true},
};

static const struct column target_columns[] = {
    {"NAME", "name", COLUMN_TEXT, false},
    {"ADAPTER", "adapter", COLUMN_TEXT, false},
    {"DESCRIPTION", "description", COLUMN_TEXT, false},
    {"ID", "id", COLUMN_TEXT, true},
};

/* ---- failover ---- */

int verb_failover_list(struct command_line *line, struct err *err)
{
    return verb_print_list(line, "/api/v1/failovers", failover_columns, ARRAY_LEN(failover_columns), 0, err);
}

/* What a verb is about. */
struct sort {
    const char *kinds, *states; /* for a query; NULL: all */
    const char *words;          /* "test failover that is not over" */
    bool last_counts;           /* of several */
};
static const struct sort a_test = {"test", "starting,running,ending", "test failover that is not over", false};
static const struct sort a_live_one = {
    "planned,unplanned", "starting,running,ending", "failover that is not over", false};
/* One that is committed has another point where its replica was lost with its vault. */
static const struct sort one_with_a_point = {
    "planned,unplanned", "starting,running,ending,committed", "failover that is not over", true};
static const struct sort a_committed_one = {"planned,unplanned", "committed,reprotected", "committed failover", true};
/* Also one that may still be rolled back: whoever decides wants to know what there is to lose. */
static const struct sort one_that_goes_back = {
    "planned,unplanned", "running,committed,reprotected", "failover that could be taken back", true};
static const struct sort a_replica = {
    "test,planned,unplanned", "starting,running,committed,reprotected", "replica", false};

static const struct sort any = {NULL, NULL, "failover", true};

/* The failovers of a machine that are of that sort, the newest first. */
static int find(struct command_line *line, const char *machine, const struct sort *sort, char ret_id[IDENT_TEXT_SIZE],
    struct err *err)
{
    AUTO_ANSWER struct client_answer answer = {0};
    AUTO_FREE char *path = NULL;
    char machine_id[40];
    const json_t *items;

    if (verb_machine_id(line, machine, machine_id, err) < 0)
        return -1;
    path = client_path("/api/v1/failovers?sort=-created_at&machine_id=%s", machine_id);
    AUTO_FREE char *full = !path         ? NULL
                           : sort->kinds ? mem_printf("%s&kind=%s&state=%s", path, sort->kinds, sort->states)
                                         : mem_strdup(path);

    if (!full)
        return err_set(err, ERR_NOMEM, "no memory for a request");
    if (client_call(line->client, "GET", full, NULL, NULL, &answer, err) < 0)
        return -1;
    items = json_object_get(answer.json, "items");
    /* Of those that are over, the last one counts. */
    if (json_array_size(items) == 1 || (json_array_size(items) > 1 && sort->last_counts)) {
        const char *id = json_string_value(json_object_get(json_array_get(items, 0), "id"));

        (void)snprintf(ret_id, IDENT_TEXT_SIZE, "%s", id ? id : "");
        return 0;
    }
    if (json_array_size(items) == 0) {
        err_set(err, ERR_NOT_FOUND, "the machine %s has no %s", machine, sort->words);
        return err_hint(err, "leeward failover list shows all.");
    }
    err_set(err, ERR_CONFLICT, "the machine %s has %zu of them", machine, json_array_size(items));
    return err_hint(err, "Name one by its id: leeward failover list");
}

static int name_failover(
    struct command_line *line, const struct sort *sort, char ret_id[IDENT_TEXT_SIZE], struct err *err)
{
    struct ident id;

    if (ident_from_text(line->arguments[0], &id) == 0) {
        ident_to_text(&id, ret_id);
        return 0;
    }
    return find(line, line->arguments[0], sort, ret_id, err);
}

int verb_failover_show(struct command_line *line, struct err *err)
{
    AUTO_FREE char *path = NULL;
    char id[IDENT_TEXT_SIZE];

    if (name_failover(line, &any, id, err) < 0)
        return -1;
    path = client_path("/api/v1/failovers/%s", id);
    return verb_print_item(line, path, err);
}

int verb_failover_screenshot(struct command_line *line, struct err *err)
{
    AUTO_BUF struct buf png = BUF_INIT(SCREEN_BYTES_MAX);
    AUTO_FREE char *path = NULL;
    const char *file = line->arguments[1];
    char id[IDENT_TEXT_SIZE];

    if (name_failover(line, &a_replica, id, err) < 0)
        return -1;
    path = client_path("/api/v1/failovers/%s/screenshot", id);
    if (!path)
        return err_set(err, ERR_NOMEM, "no memory for a request");
    if (client_bytes(line->client, path, &png, err) < 0)
        return -1;
    if (strcmp(file, "-") != 0)
        return file_replace(file, png.data, png.len, 0644, err);
    return file_write_all(STDOUT_FILENO, png.data, png.len, "standard output", err);
}

/* "22", "web1:22", "[::1]:22" -> a check of that port. */
static int add_tcp_check(const char *text, json_t *check, struct err *err)
{
    const char *colon = strrchr(text, ':'), *port = colon ? colon + 1 : text;
    size_t n = colon ? (size_t)(colon - text) : 0;
    char *end = NULL;
    long number = strtol(port, &end, 10);

    if (end == port || *end != '\0' || number < 1 || number > 65535) {
        err_set(err, ERR_INVALID, "--boot-port: %s is not [ADDRESS:]PORT", text);
        return err_hint(err, "For example --boot-port 22 or --boot-port 192.0.2.7:22.");
    }
    if (n >= 2 && text[0] == '[' && text[n - 1] == ']') {
        text++;
        n -= 2;
    }
    json_object_set_new(check, "type", json_string("tcp"));
    json_object_set_new(check, "port", json_integer(number));
    if (n > 0)
        json_object_set_new(check, "address", json_stringn(text, n));
    return 0;
}

static int add_boot_check(const struct command_line *line, json_t *options, struct err *err)
{
    const char *port = command_option(line, "boot-port"), *serial = command_option(line, "boot-serial");
    json_t *check;
    uint64_t usec;
    int given;

    if (port && serial) {
        err_set(err, ERR_INVALID, "--boot-port and --boot-serial: one of them");
        return err_hint(err, "A replica has one boot check.");
    }
    if ((given = command_option_usec(line, "boot-timeout", &usec, err)) < 0)
        return -1;
    if (!port && !serial)
        return 0;
    check = json_object();
    json_object_set_new(options, "boot_check", check);
    if (given)
        json_object_set_new(check, "timeout_seconds", json_integer((json_int_t)(usec / 1000000)));
    if (port)
        return add_tcp_check(port, check, err);
    json_object_set_new(check, "type", json_string("serial"));
    json_object_set_new(check, "pattern", json_string(serial));
    return 0;
}

/* --address, --gateway and --dns say the network of --fixups, which they imply. */
static int add_network(const struct command_line *line, json_t *fixups, struct err *err)
{
    const char *address = command_option(line, "address"), *gateway = command_option(line, "gateway");
    const char *dns = command_option(line, "dns");
    bool dhcp = address && strcmp(address, "dhcp") == 0;
    json_t *network, *servers = dns ? json_array() : NULL;

    if (!address && (gateway || dns)) {
        json_decref(servers);
        err_set(err, ERR_INVALID, "--gateway and --dns: without --address");
        return err_hint(err, "For example --address 192.0.2.7/24 --gateway 192.0.2.1.");
    }
    for (const char *at = dns; at && *at;) {
        size_t n = strcspn(at, ",");

        json_array_append_new(servers, json_stringn(at, n));
        at += n + (at[n] == ',');
    }
    network = address ? json_pack("{s:s, s:s*, s:s*, s:o*}", "method", dhcp ? "dhcp" : "static", "address",
                            dhcp ? NULL : address, "gateway", gateway, "dns", servers)
                      : NULL;
    if (address && json_object_set_new(fixups, "network", network) < 0)
        return err_set(err, ERR_NOMEM, "no memory for a request");
    return 0;
}

static int add_fixups(const struct command_line *line, json_t *options, struct err *err)
{
    const char *text = command_option(line, "fixups");
    const char *failure = command_option(line, "fixups-failure");
    bool network = command_option(line, "address") || command_option(line, "gateway") || command_option(line, "dns");
    json_t *fixups = text ? json_loads(text, JSON_REJECT_DUPLICATES, NULL) : network ? json_object() : NULL;

    if (text && !json_is_object(fixups)) {
        json_decref(fixups);
        err_set(err, ERR_INVALID, "--fixups: not a JSON object");
        return err_hint(err, "For example --fixups '{}' or --fixups '{\"serial_console\": true}'.");
    }
    if (!fixups && failure) {
        err_set(err, ERR_INVALID, "--fixups-failure: without --fixups");
        return err_hint(err, "For example --fixups '{}' --fixups-failure continue.");
    }
    if (!fixups)
        return 0;
    if (json_object_set_new(options, "fixups", fixups) < 0 ||
        (failure && json_object_set_new(fixups, "on_failure", json_string(failure)) < 0))
        return err_set(err, ERR_NOMEM, "no memory for a request");
    return add_network(line, fixups, err);
}

static int add_options(const struct command_line *line, json_t *options, struct err *err)
{
    const char *network = command_option(line, "network");
    uint64_t value;
    int given;

    if ((given = command_option_number(line, "cpus", 1, CPUS_MAX, &value, err)) < 0)
        return -1;
    if (given)
        json_object_set_new(options, "cpus", json_integer((json_int_t)value));
    if ((given = command_option_number(line, "memory-mib", 64, MEMORY_MIB_MAX, &value, err)) < 0)
        return -1;
    if (given)
        json_object_set_new(options, "memory_bytes", json_integer((json_int_t)(value << 20)));
    if (network)
        json_object_set_new(options, "network", json_string(network));
    if (command_option(line, "no-mapping"))
        json_object_set_new(options, "mapping", json_false());
    if (add_fixups(line, options, err) < 0)
        return -1;
    return add_boot_check(line, options, err);
}

/* What a person wants to know of a failover that has begun. */
static int print_started(struct command_line *line, const json_t *job, struct err *err)
{
    const json_t *result = json_object_get(job, "result");
    const char *id = json_string_value(json_object_get(result, "failover_id"));
    AUTO_FREE char *path = id ? client_path("/api/v1/failovers/%s", id) : NULL;

    if (!id || command_option(line, "no-wait")) {
        output_json(job, stdout);
        return 0;
    }
    return verb_print_item(line, path, err);
}

static const struct column change_columns[] = {
    {"FIX-UP", "fixup", COLUMN_TEXT, false},
    {"ACTION", "action", COLUMN_TEXT, false},
    {"PATH", "path", COLUMN_TEXT, false},
    {"WHY", "why", COLUMN_TEXT, false},
};

/* What a preview lists; the lines of each change are in -o json. */
static int print_previewed(struct command_line *line, const json_t *job, struct err *err)
{
    const json_t *report = json_object_get(json_object_get(job, "result"), "fixups"), *one;
    size_t at;

    (void)err;
    if (!report || line->output == OUTPUT_JSON) {
        output_json(report ? report : job, stdout);
        return 0;
    }
    int rc = output_items(line, json_object_get(report, "changes"), change_columns, ARRAY_LEN(change_columns), stdout);

    json_array_foreach(json_object_get(report, "warnings"), at, one)
    {
        if (!json_is_string(one))
            continue;
        (void)fputs("warning: ", stdout);
        output_text(json_string_value(one), stdout);
        (void)putchar('\n');
    }
    return rc;
}

/* kind NULL: only a preview of its fix-ups. */
static int start_failover(struct command_line *line, const char *kind, struct err *err)
{
    const char *point, *target = command_option(line, "target");
    char machine[129];
    uint64_t sequence;
    json_t *body, *job = NULL;
    int rc;

    if (verb_split_point(line->arguments[0], machine, &point, err) < 0 ||
        verb_resolve_point(line, machine, point, &sequence, err) < 0)
        return -1;
    body = json_pack("{s:s, s:s*, s:I, s:s*, s:{}}", "machine", machine, "kind",
        kind ? kind : command_option(line, "kind"), "sequence", (json_int_t)sequence, "target", target, "options");
    rc = body ? add_options(line, json_object_get(body, "options"), err)
              : err_set(err, ERR_NOMEM, "no memory for a request");
    if (rc == 0 && !kind && !json_object_get(json_object_get(body, "options"), "fixups"))
        json_object_set_new(json_object_get(body, "options"), "fixups", json_object());
    if (rc == 0)
        rc = jobwait_run(line, "POST", kind ? "/api/v1/failovers" : "/api/v1/failovers/preview", body, &job, err);
    if (rc == 0)
        rc = kind ? print_started(line, job, err) : print_previewed(line, job, err);
    json_decref(body);
    json_decref(job);
    return rc;
}

int verb_failover_test(struct command_line *line, struct err *err)
{
    return start_failover(line, "test", err);
}

int verb_failover_planned(struct command_line *line, struct err *err)
{
    if (!strchr(line->arguments[0], '@'))
        return start_failover(line, "planned", err);
    err_set(err, ERR_INVALID, "a planned failover runs the machine's last point");
    return err_hint(err, "Leave the point out. An older one: leeward failover unplanned %s", line->arguments[0]);
}

int verb_failover_preview(struct command_line *line, struct err *err)
{
    return start_failover(line, NULL, err);
}

int verb_failover_unplanned(struct command_line *line, struct err *err)
{
    return start_failover(line, "unplanned", err);
}

static int act(struct command_line *line, const struct sort *sort, const char *what, json_t *body, struct err *err)
{
    char id[IDENT_TEXT_SIZE];
    int rc = name_failover(line, sort, id, err);
    AUTO_FREE char *path = rc == 0 ? mem_printf("/api/v1/failovers/%s/%s", id, what) : NULL;

    if (rc == 0)
        rc = path ? jobwait_and_print(line, "POST", path, body, err)
                  : err_set(err, ERR_NOMEM, "no memory for a request");
    json_decref(body);
    return rc;
}

int verb_failover_commit(struct command_line *line, struct err *err)
{
    return act(line, &a_live_one, "commit", NULL, err);
}

int verb_failover_rollback(struct command_line *line, struct err *err)
{
    return act(line, &a_live_one, "rollback", NULL, err);
}

int verb_failover_cleanup(struct command_line *line, struct err *err)
{
    const char *outcome = command_option(line, "outcome"), *notes = command_option(line, "notes");

    return act(line, &a_test, "cleanup", json_pack("{s:s*, s:s*}", "outcome", outcome, "notes", notes), err);
}

int verb_failover_reprotect(struct command_line *line, struct err *err)
{
    const char *vault = command_option(line, "vault");
    json_t *body = json_pack("{s:s*}", "vault", vault);

    return body ? act(line, &a_committed_one, "reprotect", body, err)
                : err_set(err, ERR_NOMEM, "no memory for a request");
}

int verb_failover_failback(struct command_line *line, struct err *err)
{
    json_t *body = verb_overwrite_body(line, err);

    if (body &&
        json_object_set_new(body, "keep_fixups", json_boolean(command_option(line, "keep-fixups") != NULL)) < 0) {
        json_decref(body);
        return err_set(err, ERR_NOMEM, "no memory for a request");
    }
    return body ? act(line, &a_committed_one, "failback", body, err) : -1;
}

static const struct column overwritten_columns[] = {
    {"DISK", "number", COLUMN_NUMBER, false},
    {"DEVICE", "device", COLUMN_TEXT, false},
    {"SIZE", "size_bytes", COLUMN_BYTES, false},
    {"KEY", "key", COLUMN_TEXT, false},
};

int verb_failover_failback_preview(struct command_line *line, struct err *err)
{
    AUTO_ANSWER struct client_answer answer = {0};
    AUTO_FREE char *path = NULL;
    char id[IDENT_TEXT_SIZE];

    if (name_failover(line, &one_that_goes_back, id, err) < 0)
        return -1;
    path = client_path("/api/v1/failovers/%s/failback", id);
    if (!path)
        return err_set(err, ERR_NOMEM, "no memory for a request");
    if (client_call(line->client, "GET", path, NULL, NULL, &answer, err) < 0)
        return -1;
    return output_item_and_list(
        line, answer.json, "disks", overwritten_columns, ARRAY_LEN(overwritten_columns), stdout);
}

/* The job that is under way; cancelled, it takes back what it has begun. */
int verb_failover_cancel(struct command_line *line, struct err *err)
{
    AUTO_ANSWER struct client_answer answer = {0};
    AUTO_FREE char *path = NULL;
    char machine_id[40];
    const json_t *items;

    if (verb_machine_id(line, line->arguments[0], machine_id, err) < 0)
        return -1;
    path = client_path("/api/v1/jobs?kind=failover,failover_reprotect,failover_failback"
                       "&status=queued,running,waiting_for_input&machine_id=%s",
        machine_id);
    if (!path)
        return err_set(err, ERR_NOMEM, "no memory for a request");
    if (client_call(line->client, "GET", path, NULL, NULL, &answer, err) < 0)
        return -1;
    items = json_object_get(answer.json, "items");
    if (json_array_size(items) == 0) {
        err_set(err, ERR_NOT_FOUND, "nothing is under way for the machine %s", line->arguments[0]);
        return err_hint(err, "leeward job list shows what was.");
    }
    const char *id = json_string_value(json_object_get(json_array_get(items, 0), "id"));
    AUTO_FREE char *cancel = client_path("/api/v1/jobs/%s/cancel", id ? id : "");
    AUTO_ANSWER struct client_answer cancelled = {0};

    if (!cancel)
        return err_set(err, ERR_NOMEM, "no memory for a request");
    if (client_call(line->client, "POST", cancel, NULL, NULL, &cancelled, err) < 0)
        return -1;
    return output_item(line, cancelled.json, stdout);
}

/* The point is one of the failover's machine. */
int verb_failover_change_point(struct command_line *line, struct err *err)
{
    AUTO_ANSWER struct client_answer answer = {0};
    AUTO_FREE char *path = NULL;
    char id[IDENT_TEXT_SIZE];
    const char *machine;
    uint64_t sequence;

    if (name_failover(line, &one_with_a_point, id, err) < 0)
        return -1;
    path = client_path("/api/v1/failovers/%s", id);
    if (!path)
        return err_set(err, ERR_NOMEM, "no memory for a request");
    if (client_call(line->client, "GET", path, NULL, NULL, &answer, err) < 0)
        return -1;
    machine = json_string_value(json_object_get(answer.json, "machine_id"));
    if (!machine || verb_resolve_point(line, machine, line->arguments[1], &sequence, err) < 0)
        return machine ? -1 : err_set(err, ERR_INTERNAL, "the hub answered without a machine");
    return act(line, &one_with_a_point, "change-point", json_pack("{s:I}", "sequence", (json_int_t)sequence), err);
}

/* ---- target ---- */

int verb_target_list(struct command_line *line, struct err *err)
{
    return verb_print_list(line, "/api/v1/targets", target_columns, ARRAY_LEN(target_columns), 0, err);
}

int verb_target_show(struct command_line *line, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/targets/%s", line->arguments[0]);

    return verb_print_item(line, path, err);
}

static int add_config(const struct command_line *line, json_t *body, struct err *err)
{
    const char *text = command_option(line, "config"), *description = command_option(line, "description");
    json_t *config = text ? json_loads(text, JSON_REJECT_DUPLICATES, NULL) : NULL;

    if (description)
        json_object_set_new(body, "description", json_string(description));
    if (config && json_is_object(config)) {
        json_object_set_new(body, "config", config);
        return 0;
    }
    json_decref(config);
    if (!text)
        return 0;
    err_set(err, ERR_INVALID, "--config: not a JSON object");
    return err_hint(err, "For example --config '{\"uri\": \"qemu:///system\"}'");
}

/* What an adapter cannot be without, in the words of the command. */
static int check_adapter(const struct command_line *line, struct err *err)
{
    static const char *const examples[][2] = {
        {"libvirt", "{\"uri\": \"qemu:///system\"}"}, {"command", "{\"program\": \"/etc/leeward/targets/PROGRAM\"}"}};

    for (size_t i = 0; i < ARRAY_LEN(examples); i++)
        if (strcmp(line->arguments[1], examples[i][0]) == 0 && !command_option(line, "config")) {
            err_set(err, ERR_INVALID, "--config: missing");
            return err_hint(err, "What the adapter %s must know: --config '%s'", examples[i][0], examples[i][1]);
        }
    return 0;
}

int verb_target_create(struct command_line *line, struct err *err)
{
    if (check_adapter(line, err) < 0)
        return -1;
    AUTO_ANSWER struct client_answer answer = {0};
    json_t *body = json_pack("{s:s, s:s}", "name", line->arguments[0], "adapter", line->arguments[1]);
    int rc = body ? add_config(line, body, err) : err_set(err, ERR_NOMEM, "no memory for a request");

    if (rc == 0)
        rc = client_call(line->client, "POST", "/api/v1/targets", body, NULL, &answer, err);
    json_decref(body);
    return rc < 0 ? -1 : output_item(line, answer.json, stdout);
}

int verb_target_set(struct command_line *line, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/targets/%s", line->arguments[0]);
    json_t *body = json_object();
    int rc;

    if (command_option(line, "name"))
        json_object_set_new(body, "name", json_string(command_option(line, "name")));
    rc = add_config(line, body, err);
    if (rc == 0)
        rc = json_object_size(body) ? verb_change_item(line, "PATCH", path, body, err)
                                    : err_set(err, ERR_INVALID, "nothing to change was given");
    json_decref(body);
    return rc;
}

int verb_target_delete(struct command_line *line, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/targets/%s", line->arguments[0]);

    return verb_change_item(line, "DELETE", path, NULL, err);
}
