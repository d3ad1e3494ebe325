/* SPDX-License-Identifier: Apache-2.0
 *
 * leeward login, status, version, help, completion.
 */
#include "hub/cli/verbs.h"

#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "hub/cli/profile.h"
#include "transport/base/mem.h"

/* Reads one line without showing it. */
static int ask_token(char **ret_token, struct err *err)
{
    struct termios before, silent;
    char text[512];
    bool terminal = tcgetattr(STDIN_FILENO, &before) == 0;
    char *got;

    if (terminal) {
        (void)fputs("API token (lwt_...): ", stderr);
        silent = before;
        silent.c_lflag &= ~(tcflag_t)ECHO;
        (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent);
    }
    got = fgets(text, sizeof(text), stdin);
    if (terminal) {
        (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
        (void)fputc('\n', stderr);
    }
    if (!got)
        return err_set(err, ERR_INVALID, "no token was given");
    text[strcspn(text, "\r\n")] = 0;
    *ret_token = mem_strdup(text);
    return *ret_token ? 0 : err_set(err, ERR_NOMEM, "no memory for a token");
}

int verb_login(struct command_line *line, struct err *err)
{
    const char *file = command_option(line, "token-file"), *ca = command_option(line, "ca");
    const char *name = command_option(line, "profile");
    AUTO_FREE char *token = NULL;
    AUTO_FREE char *ca_path = ca ? realpath(ca, NULL) : NULL;
    AUTO_ANSWER struct client_answer answer = {0};
    struct client *client AUTO_OF(client) = NULL;
    struct client_settings settings = {.url = line->arguments[0]};

    if (ca && !ca_path)
        return err_set(err, ERR_NOT_FOUND, "the certificate %s is not there", ca);
    if ((file ? profile_read_secret(file, &token, err) : ask_token(&token, err)) < 0)
        return -1;
    settings.token = token;
    settings.ca = ca_path;
    if (client_new(&settings, &client, err) < 0 || client_get(client, "/api/v1/status", &answer, err) < 0 ||
        profile_save(name ? name : "default", &settings, err) < 0)
        return -1;
    (void)printf("logged in to %s as profile %s\n", settings.url, name ? name : "default");
    return 0;
}

int verb_profile_list(struct command_line *line, struct err *err)
{
    static const struct column columns[] = {
        {"NAME", "name", COLUMN_TEXT, false},
        {"URL", "url", COLUMN_TEXT, false},
        {"CURRENT", "current", COLUMN_YES_NO, false},
        {"CA", "ca", COLUMN_TEXT, true},
    };
    json_t *items;
    int rc;

    if (profile_list(&items, err) < 0)
        return -1;
    rc = output_items(line, items, columns, ARRAY_LEN(columns), stdout);
    json_decref(items);
    return rc;
}

int verb_profile_use(struct command_line *line, struct err *err)
{
    return profile_change(line->arguments[0], false, err);
}

int verb_profile_remove(struct command_line *line, struct err *err)
{
    return profile_change(line->arguments[0], true, err);
}

static long long number(const json_t *status, const char *group, const char *name)
{
    return (long long)json_integer_value(json_object_get(json_object_get(status, group), name));
}

int verb_status(struct command_line *line, struct err *err)
{
    AUTO_ANSWER struct client_answer answer = {0};
    const json_t *s, *check;
    size_t i;

    if (client_get(line->client, "/api/v1/status", &answer, err) < 0)
        return -1;
    s = answer.json;
    if (line->output == OUTPUT_JSON)
        return output_item(line, s, stdout);
    (void)printf("hub       %s, version %s\n", json_is_true(json_object_get(s, "ready")) ? "ready" : "not ready",
        json_string_value(json_object_get(s, "version")) ?: "?");
    json_array_foreach(json_object_get(s, "checks"), i, check) if (!json_is_true(json_object_get(check, "ok")))(void)
        printf("          %s: %s\n", json_string_value(json_object_get(check, "name")) ?: "",
            json_string_value(json_object_get(check, "text")) ?: "");
    (void)printf("machines  %lld, protected %lld, replicating %lld, unprotected %lld, need attention %lld\n",
        number(s, "machines", "total"), number(s, "machines", "protected"), number(s, "machines", "replicating"),
        number(s, "machines", "unprotected"), number(s, "machines", "attention"));
    (void)printf("nodes     %lld, online %lld\nvaults    %lld, online %lld\n", number(s, "nodes", "total"),
        number(s, "nodes", "online"), number(s, "vaults", "total"), number(s, "vaults", "online"));
    (void)printf("jobs      running %lld, waiting for input %lld\n", number(s, "jobs", "running"),
        number(s, "jobs", "waiting_for_input"));
    return 0;
}

int verb_version(struct command_line *line, struct err *err)
{
    (void)err;
    if (line->output == OUTPUT_JSON)
        (void)puts("{\"version\": \"" LEEWARD_VERSION "\"}");
    else
        (void)puts("leeward " LEEWARD_VERSION);
    return 0;
}

int verb_help(struct command_line *line, struct err *err)
{
    const char *man = command_option(line, "man");

    if (man)
        return command_write_man(man, err);
    if (command_option(line, "markdown"))
        command_print_markdown(stdout);
    else
        command_print_help(NULL, stdout);
    return 0;
}

int verb_completion(struct command_line *line, struct err *err)
{
    if (command_print_completion(line->arguments[0], stdout) < 0) {
        (void)err_set(err, ERR_INVALID, "there is no completion for the shell \"%s\"", line->arguments[0]);
        return err_hint(err, "bash and zsh are known.");
    }
    return 0;
}
