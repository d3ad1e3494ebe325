/* SPDX-License-Identifier: Apache-2.0
 *
 * leeward machine set: one machine, or many.
 *
 * Of many each is read and changed for itself, on the version that was read, so that one that the hub refuses costs no other one. Before
 * the first change the caller has said how many they are, on the terminal or with --confirm; afterwards each has a line with what became of
 * it, and the command fails unless all have what was wished. A signal ends it between two machines: those that were not reached have their
 * lines, too.
 */
#include "hub/cli/verbs.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "transport/base/mem.h"

static volatile sig_atomic_t interrupted;

static const struct column result_columns[] = {
    {"MACHINE", "machine", COLUMN_TEXT, false},
    {"RESULT", "result", COLUMN_TEXT, false},
    {"WHY", "reason", COLUMN_TEXT, false},
    {"WHAT TO DO", "correction", COLUMN_TEXT, true},
    {"ID", "machine_id", COLUMN_TEXT, true},
};

/* ---- what is wished ---- */

static int read_wish(const struct command_line *line, json_t *body, struct err *err)
{
    const char *name = command_option(line, "name");

    if (name)
        json_object_set_new(body, "name", json_string(name));
    if (command_option(line, "no-site"))
        json_object_set_new(body, "site_id", json_null());
    if (command_option(line, "no-site") && command_option(line, "site"))
        return err_set(err, ERR_INVALID, "--site and --no-site were both given");
    if (verb_add_id(line, "policy", "policies", "policy_id", body, err) < 0 ||
        verb_add_id(line, "site", "sites", "site_id", body, err) < 0)
        return -1;
    if (json_object_size(body) > 0)
        return 0;
    (void)err_set(err, ERR_INVALID, "nothing to change was given");
    return err_hint(err, "Name --policy, --site or --no-site, or for one machine --name.");
}

/* "the policy gold and no site" */
static char *wish_text(const struct command_line *line)
{
    const char *policy = command_option(line, "policy"), *site = command_option(line, "site");
    const char *both = policy && (site || command_option(line, "no-site")) ? " and " : "";

    return mem_printf("%s%s%s%s%s", policy ? "the policy " : "", policy ? policy : "", both,
        site                              ? "the site "
        : command_option(line, "no-site") ? "no site"
                                          : "",
        site ? site : "");
}

/* ---- which machines ---- */

/* New array of {"key", "machine"}: what the API finds it by, and what it is called. */
static int read_targets(const struct command_line *line, json_t **ret_targets, struct err *err)
{
    AUTO_FREE char *path = NULL;
    json_t *items = NULL, *targets;
    const json_t *item;
    size_t i;

    if (command_option(line, "filter")) {
        path = verb_list_path(line, "/api/v1/machines?sort=name", err);
        if (!path || verb_read_list(line, path, 0, &items, err) < 0)
            return -1;
    }
    targets = json_array();
    json_array_foreach(items, i, item) json_array_append_new(
        targets, json_pack("{s:O, s:O}", "key", json_object_get(item, "id"), "machine", json_object_get(item, "name")));
    for (i = 0; i < line->argument_count; i++)
        json_array_append_new(
            targets, json_pack("{s:s, s:s}", "key", line->arguments[i], "machine", line->arguments[i]));
    json_decref(items);
    *ret_targets = targets;
    return 0;
}

static int check_choice(const struct command_line *line, struct err *err)
{
    bool filter = command_option(line, "filter");

    if (line->argument_count == 0 && !filter) {
        (void)err_set(err, ERR_INVALID, "arguments are missing: %s", line->command->arguments);
        return err_hint(err, "Name machines, or let --filter find them. `leeward machine set --help` explains it.");
    }
    if (line->argument_count > 0 && filter)
        return err_set(err, ERR_INVALID, "machines are named, or found by --filter, not both");
    if (command_option(line, "name"))
        return err_set(err, ERR_INVALID, "--name: only one machine can be called that");
    return 0;
}

/* ---- that they are meant ---- */

static int ask(const char *wish, size_t count, struct err *err)
{
    char answer[16];

    (void)fprintf(stderr, "%zu machines get %s. Go on? [y/N] ", count, wish);
    (void)fflush(stderr);
    if (fgets(answer, sizeof(answer), stdin) && (answer[0] == 'y' || answer[0] == 'Y'))
        return 0;
    return err_set(err, ERR_CANCELLED, "nothing was changed");
}

static int confirm(const struct command_line *line, size_t count, struct err *err)
{
    AUTO_FREE char *wish = wish_text(line);
    uint64_t said = 0;
    int given = command_option_number(line, "confirm", 1, UINT32_MAX, &said, err);

    if (given < 0 || !wish)
        return given < 0 ? -1 : err_set(err, ERR_NOMEM, "no memory for a question");
    if (given && said != count) {
        (void)err_set(err, ERR_REFUSED, "--confirm %llu: these are %zu machines", (unsigned long long)said, count);
        return err_hint(err, "Nothing was changed. Look which they are: leeward machine list");
    }
    if (given || count < 2 || command_option(line, "dry-run"))
        return 0;
    if (isatty(STDIN_FILENO) && isatty(STDERR_FILENO))
        return ask(wish, count, err);
    (void)err_set(err, ERR_INVALID, "--confirm: missing");
    return err_hint(err, "%zu machines would get %s; say that so many are meant: --confirm %zu", count, wish, count);
}

/* ---- changing them ---- */

static void on_signal(int number)
{
    interrupted = 1;
    (void)signal(number, SIG_DFL); /* once more ends at once */
}

static void catch_signals(struct client *client)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    const struct sigaction action = {.sa_handler = on_signal};

    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        (void)sigaction(numbers[i], &action, NULL);
    client_set_stop(client, &interrupted);
}

static bool has_it_already(const json_t *machine, const json_t *wish)
{
    const char *name;
    json_t *value;

    json_object_foreach((json_t *)wish, name, value)
    {
        if (!json_equal(json_object_get(machine, name), value))
            return false;
    }
    return true;
}

/* Returns the word for what became of it; with "failed" and "held" err says why. */
static const char *change_one(const struct command_line *line, json_t *target, const json_t *wish, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/machines/%s", json_string_value(json_object_get(target, "key")));
    AUTO_ANSWER struct client_answer before = {0};
    AUTO_ANSWER struct client_answer after = {0};
    const char *code;

    if (!path || client_get(line->client, path, &before, err) < 0) {
        if (!path)
            (void)err_set(err, ERR_NOMEM, "no memory for a request");
        return interrupted ? "skipped" : "failed";
    }
    json_object_set(target, "machine", json_object_get(before.json, "name"));
    json_object_set(target, "machine_id", json_object_get(before.json, "id"));
    if (has_it_already(before.json, wish))
        return "unchanged";
    if (command_option(line, "dry-run"))
        client_set_dry_run(line->client, true); /* each of them: the client forgets it with the first answer */
    if (client_call(line->client, "PATCH", path, wish, before.etag, &after, err) == 0)
        return "changed";
    if (client_would_succeed(line->client))
        return "would-change";
    code = json_string_value(json_object_get(after.json, "code"));
    return code && strcmp(code, "approval_required") == 0 ? "held" : "failed";
}

static void show_progress(const struct command_line *line, size_t done, size_t count)
{
    if (line->output == OUTPUT_JSON || !isatty(STDERR_FILENO))
        return;
    if (done < count)
        (void)fprintf(stderr, "\r\033[K%zu of %zu", done + 1, count);
    else
        (void)fputs("\r\033[K", stderr);
    (void)fflush(stderr);
}

/* What each ended with goes into its target. Returns how many have not what was wished; *first is why the first of them has not, with another
 * code where others have not for another kind of reason. */
static size_t change_all(const struct command_line *line, json_t *targets, const json_t *wish, struct err *first)
{
    size_t i, count = json_array_size(targets), missed = 0;
    json_t *target;

    json_array_foreach(targets, i, target)
    {
        struct err why = ERR_INIT;
        const char *result = "skipped";

        show_progress(line, i, count);
        if (!interrupted)
            result = change_one(line, target, wish, &why);
        if (strcmp(result, "skipped") == 0)
            (void)err_set(&why, ERR_CANCELLED, "interrupted before its turn");
        bool is_missed = why.code != ERR_NONE && strcmp(result, "would-change") != 0;

        json_object_del(target, "key");
        json_object_set_new(target, "result", json_string(result));
        json_object_set_new(target, "code", json_string(is_missed ? err_code_name(why.code) : ""));
        json_object_set_new(target, "reason", json_string(is_missed ? why.text : ""));
        json_object_set_new(target, "correction", json_string(is_missed ? why.correction : ""));
        if (is_missed && missed++ == 0)
            err_copy(first, &why);
        else if (is_missed && command_exit_code(first) != command_exit_code(&why))
            first->code = ERR_CANCELLED;
    }
    show_progress(line, count, count);
    client_set_dry_run(line->client, false);
    return missed;
}

static int change_many(const struct command_line *line, json_t *targets, const json_t *wish, struct err *err)
{
    size_t count = json_array_size(targets), missed;
    struct err first = ERR_INIT;

    if (count == 0)
        return err_set(err, ERR_NOT_FOUND, "the filter finds no machine");
    if (confirm(line, count, err) < 0)
        return -1;
    catch_signals(line->client);
    missed = change_all(line, targets, wish, &first);
    if (output_items(line, targets, result_columns, ARRAY_LEN(result_columns), stdout) < 0)
        return -1;
    if (missed == 0)
        return 0;
    (void)err_set(err, first.code, "%zu of %zu machines %s not changed", missed, count, missed == 1 ? "was" : "were");
    return err_hint(
        err, "The lines above say why%s.", line->output == OUTPUT_TABLE ? ", with -o wide what can be done" : "");
}

int verb_machine_set(struct command_line *line, struct err *err)
{
    json_t *body = json_object(), *targets = NULL;
    bool single = line->argument_count == 1 && !command_option(line, "filter");
    AUTO_FREE char *path = single ? client_path("/api/v1/machines/%s", line->arguments[0]) : NULL;
    int rc = single ? confirm(line, 1, err) : check_choice(line, err);

    if (rc == 0)
        rc = read_wish(line, body, err);
    if (rc == 0 && single)
        rc = verb_change_item(line, "PATCH", path, body, err);
    else if (rc == 0 && (rc = read_targets(line, &targets, err)) == 0)
        rc = change_many(line, targets, body, err);
    json_decref(targets);
    json_decref(body);
    return rc;
}
