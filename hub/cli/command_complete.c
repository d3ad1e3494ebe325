/* SPDX-License-Identifier: Apache-2.0
 *
 * Completion. The shells ask the program itself (`leeward complete -- WORD...`), so what they offer is what the table says, and the names of
 * machines, policies and the rest come from the hub. Whatever fails on the way is silence: a shell in the middle of a line is
 * no place for errors.
 */
#include "hub/cli/verbs.h"

#include <stdio.h>
#include <string.h>

#include "hub/cli/profile.h"
#include "transport/base/mem.h"

#define OFFERED_MAX "100"

struct completion {
    const struct command_line *line;
    const char *prefix;  /* what is written of the last word */
    const char *group;   /* the command's first word, or NULL */
    const char *machine; /* the command's first argument, if it is there already */
    FILE *out;
};

static bool fits(const struct completion *c, const char *word)
{
    return strncmp(word, c->prefix, strlen(c->prefix)) == 0;
}

/* Both texts without control characters: what comes from a hub goes into a shell. */
static void offer(const struct completion *c, const char *word, const char *about)
{
    if (!fits(c, word) || strpbrk(word, " \t\n\"'`$\\;&|<>()"))
        return;
    output_text(word, c->out);
    (void)fputc('\t', c->out);
    output_text(about, c->out);
    (void)fputc('\n', c->out);
}

/* ---- what the hub knows ---- */

static const struct source {
    const char *word; /* in the table's texts, behind the group where it means something there alone */
    const char *path, *member, *about;
} sources[] = {
    {"MACHINE", "/api/v1/machines?limit=" OFFERED_MAX "&sort=name", "name", "state"},
    {"POLICY", "/api/v1/policies?limit=" OFFERED_MAX, "name", "description"},
    {"SITE", "/api/v1/sites?limit=" OFFERED_MAX, "name", "description"},
    {"NODE", "/api/v1/nodes?limit=" OFFERED_MAX, "name", "health"},
    {"VAULT", "/api/v1/vaults?limit=" OFFERED_MAX, "name", "health"},
    {"GROUP", "/api/v1/groups?limit=" OFFERED_MAX, "name", "description"},
    {"BRANCH", "/api/v1/branches?limit=" OFFERED_MAX, "id", "machine_name"},
    {"JOB", "/api/v1/jobs?limit=" OFFERED_MAX, "id", "kind"},
    {"TARGET", "/api/v1/targets?limit=" OFFERED_MAX, "name", "adapter"},
    {"PLAN", "/api/v1/plans?limit=" OFFERED_MAX, "name", "description"},
    {"RUN", "/api/v1/plan-runs?sort=-created_at&limit=" OFFERED_MAX, "id", "plan_name"},
    {"DRILL", "/api/v1/drills?limit=" OFFERED_MAX, "name", "plan_name"},
    {"alert ID", "/api/v1/alerts?state=firing,acknowledged&limit=" OFFERED_MAX, "id", "title"},
    {"approval ID", "/api/v1/approvals?state=pending&limit=" OFFERED_MAX, "id", "summary"},
    {"session ID", "/api/v1/sessions?limit=" OFFERED_MAX, "id", "user_name"},
    {"enrol-token ID", "/api/v1/enrolment-tokens?limit=" OFFERED_MAX, "id", "role"},
    {"channel NAME", "/api/v1/alert-channels?limit=" OFFERED_MAX, "name", "kind"},
    {"FAILOVER", "/api/v1/failovers?limit=" OFFERED_MAX, "id", "machine_name"},
    {"USER", "/api/v1/users?limit=" OFFERED_MAX, "name", "role"},
    {"NAME|ID", "/api/v1/tokens?limit=" OFFERED_MAX, "name", "role"},
    {"ID|URI", "/api/v1/exports?limit=" OFFERED_MAX, "id", "machine_name"},
};

/* Somebody waits at a prompt. */
static int connect_to_hub(const struct completion *c, struct client **ret_client)
{
    if (profile_client(c->line, ret_client, NULL) < 0)
        return -1;
    client_set_impatient(*ret_client);
    return 0;
}

static void offer_items(
    const struct completion *c, const char *path, const char *member, const char *about, const char *before)
{
    struct client *client AUTO_OF(client) = NULL;
    AUTO_ANSWER struct client_answer answer = {0};
    const json_t *item;
    size_t i;

    if (connect_to_hub(c, &client) < 0 || client_get(client, path, &answer, NULL) < 0)
        return;
    json_array_foreach(json_object_get(answer.json, "items"), i, item)
    {
        const char *name = json_string_value(json_object_get(item, member));
        const char *text = json_string_value(json_object_get(item, about));
        AUTO_FREE char *word = name && name[0] ? mem_printf("%s%s", before, name) : NULL;

        if (word)
            offer(c, word, text ? text : "");
    }
}

/* "MACHINE@": its tags and the latest. */
static void offer_points(const struct completion *c, const char *at)
{
    AUTO_FREE char *machine = mem_strndup(c->prefix, (size_t)(at - c->prefix));
    AUTO_FREE char *before = machine ? mem_printf("%s@", machine) : NULL;
    AUTO_FREE char *latest = machine ? mem_printf("%s@latest", machine) : NULL;
    AUTO_FREE char *path =
        machine ? client_path("/api/v1/machines/%s/points?sort=-sequence&limit=" OFFERED_MAX, machine) : NULL;

    if (!before || !latest || !path)
        return;
    offer(c, latest, "the newest point");
    offer_items(c, path, "tag", "time", before);
}

static void offer_source(const struct completion *c, const struct source *s)
{
    /* Among thousands the hub finds those that are meant. */
    AUTO_FREE char *tail = strcmp(s->word, "MACHINE") == 0 && c->prefix[0] ? client_path("&name=%s", c->prefix) : NULL;
    AUTO_FREE char *path = mem_printf("%s%s", s->path, tail ? tail : "");

    if (path)
        offer_items(c, path, s->member, s->about, "");
}

static void offer_profiles(const struct completion *c)
{
    json_t *items = NULL;
    const json_t *item;
    size_t i;

    if (profile_list(&items, NULL) < 0)
        return;
    json_array_foreach(items, i, item)
    {
        const char *name = json_string_value(json_object_get(item, "name"));
        const char *url = json_string_value(json_object_get(item, "url"));

        if (name)
            offer(c, name, url ? url : "");
    }
    json_decref(items);
}

/* The disks of the machine that the line names. */
static void offer_disks(const struct completion *c)
{
    AUTO_FREE char *path =
        c->machine ? client_path("/api/v1/machines/%s/disks?present=true&limit=" OFFERED_MAX, c->machine) : NULL;

    if (path)
        offer_items(c, path, "device", "key", "");
}

/* The hub's own description names the settings. */
static void offer_settings(const struct completion *c)
{
    struct client *client AUTO_OF(client) = NULL;
    AUTO_ANSWER struct client_answer answer = {0};
    const json_t *schemas;
    const char *name;
    json_t *schema;

    if (connect_to_hub(c, &client) < 0 || client_get(client, "/api/v1/openapi.json", &answer, NULL) < 0)
        return;
    schemas = json_object_get(json_object_get(answer.json, "components"), "schemas");
    json_object_foreach(json_object_get(json_object_get(schemas, "Settings"), "properties"), name, schema)
    {
        const char *about = json_string_value(json_object_get(schema, "description"));

        if (!json_is_true(json_object_get(schema, "readOnly")))
            offer(c, name, about ? about : "");
    }
}

/* One word of the table: "MACHINE", "ID". */
static bool offer_named(const struct completion *c, const char *word)
{
    AUTO_FREE char *in_group = c->group ? mem_printf("%s %s", c->group, word) : NULL;

    for (size_t i = 0; i < ARRAY_LEN(sources); i++)
        if (strcmp(sources[i].word, word) == 0 || (in_group && strcmp(sources[i].word, in_group) == 0)) {
            offer_source(c, &sources[i]);
            return true;
        }
    if (strcmp(word, "PROFILE") == 0)
        offer_profiles(c);
    else if (strcmp(word, "DISK") == 0)
        offer_disks(c);
    else if (strcmp(word, "KEY") == 0)
        offer_settings(c);
    else
        return false;
    return true;
}

/* ---- what the table knows ---- */

static bool is_file(const char *kind)
{
    static const char *const words[] = {"FILE", "DIR", "PATH", "DEVICE", "FILE|DEVICE"};

    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (strcmp(words[i], kind) == 0)
            return true;
    return false;
}

/* "json|table|wide": the words themselves. */
static void offer_alternatives(const struct completion *c, const char *kind)
{
    while (*kind) {
        size_t n = strcspn(kind, "|");
        AUTO_FREE char *word = mem_strndup(kind, n);

        if (word)
            offer(c, word, "");
        kind += n + (kind[n] == '|');
    }
}

/* "FAILOVER|MACHINE": both. */
static void offer_each(const struct completion *c, const char *kinds)
{
    while (*kinds) {
        size_t n = strcspn(kinds, "|");
        AUTO_FREE char *word = mem_strndup(kinds, n);

        if (word)
            (void)offer_named(c, word);
        kinds += n + (kinds[n] == '|');
    }
}

/* kind: as the table writes it, "MACHINE[@POINT]", "[DISK...]", "yes|no". */
static void offer_kind(const struct completion *c, const char *kind)
{
    const char *at = strchr(c->prefix, '@');
    char word[64];
    size_t n = 0;

    if (strncmp(kind, "MACHINE[@POINT]", 15) == 0 && at) {
        offer_points(c, at);
        return;
    }
    for (; *kind && n + 1 < sizeof(word) && *kind != '@' && *kind != '.'; kind++)
        if (*kind != '[' && *kind != ']')
            word[n++] = *kind;
    word[n] = '\0';
    if (offer_named(c, word))
        return;
    if (word[0] >= 'A' && word[0] <= 'Z')
        offer_each(c, word);
    if (is_file(word))
        (void)fputs(":files\n", c->out);
    else if (strchr(word, '|') && word[0] >= 'a' && word[0] <= 'z')
        offer_alternatives(c, word);
}

/* --policy NAME takes a policy, and so on: the option's own name tells. */
static void offer_value(const struct completion *c, const struct command_option *option)
{
    char kind[64];
    size_t n = 0;

    for (; option->name[n] && n + 1 < sizeof(kind); n++)
        kind[n] = (char)(option->name[n] >= 'a' && option->name[n] <= 'z' ? option->name[n] - 32 : option->name[n]);
    kind[n] = '\0';
    if (!offer_named(c, kind))
        offer_kind(c, option->value);
}

static void offer_options(const struct completion *c, const struct command_option *options)
{
    for (; options && options->name; options++) {
        char word[64];

        (void)snprintf(word, sizeof(word), "--%s", options->name);
        offer(c, word, options->help);
    }
}

/* The next word of commands that begin with these. */
static void offer_words(const struct completion *c, const char *const *plain, size_t count)
{
    char last[64] = "";

    for (size_t i = 0; i < command_count; i++) {
        const char *words = commands[i].words;
        char word[64];
        size_t n;

        for (size_t k = 0; k < count && words; k++) {
            n = strcspn(words, " ");
            words = strlen(plain[k]) == n && strncmp(plain[k], words, n) == 0 && words[n] ? words + n + 1 : NULL;
        }
        if (!words)
            continue;
        n = strcspn(words, " ");
        (void)snprintf(word, sizeof(word), "%.*s", (int)n, words);
        if (strcmp(word, last) != 0)
            offer(c, word, words[n] ? "" : commands[i].summary);
        (void)snprintf(last, sizeof(last), "%s", word);
    }
}

/* ---- the line so far ---- */

static const struct command_option *option_of(const struct command *command, const char *word)
{
    const struct command_option *lists[] = {
        command ? command->options : NULL, command && command_is_list(command) ? list_options : NULL, global_options};
    size_t n = strcspn(word, "=");

    for (size_t i = 0; i < ARRAY_LEN(lists); i++)
        for (const struct command_option *o = lists[i]; o && o->name; o++)
            if ((strncmp(word, "--", 2) == 0 && strlen(o->name) == n - 2 && strncmp(o->name, word + 2, n - 2) == 0) ||
                (o->letter && word[0] == '-' && word[1] == o->letter && word[2] == '\0'))
                return o;
    return NULL;
}

static size_t words_in(const char *text)
{
    size_t n = *text ? 1 : 0;

    for (; *text; text++)
        n += *text == ' ';
    return n;
}

/* The command that the plain words begin with; the longest one. */
static const struct command *command_of(const char *const *plain, size_t count)
{
    const struct command *best = NULL;

    for (size_t i = 0; i < command_count; i++) {
        const char *words = commands[i].words;
        size_t k = 0;

        for (; words && k < count && *words; k++) {
            size_t n = strcspn(words, " ");

            words = strlen(plain[k]) == n && strncmp(plain[k], words, n) == 0 ? words + n + (words[n] == ' ') : NULL;
        }
        if (words && !*words && (!best || words_in(commands[i].words) > words_in(best->words)))
            best = &commands[i];
    }
    return best;
}

/* The kind of the n-th argument; the last one stands for all that follow if it may be repeated. */
static void offer_argument(const struct completion *c, const struct command *command, size_t n)
{
    const char *kind = command->arguments;
    char text[64];

    for (; n > 0 && strchr(kind, ' '); n--)
        kind = strchr(kind, ' ') + 1;
    if (n > 0 && !strstr(kind, "..."))
        return;
    (void)snprintf(text, sizeof(text), "%.*s", (int)strcspn(kind, " "), kind);
    offer_kind(c, text);
}

/* What the words so far say about those that follow. A new thing has a name that nothing has yet. */
static void describe(struct completion *c, const struct command *command, const char *const *plain, size_t count)
{
    size_t words = command ? words_in(command->words) : 0;

    if (!command)
        return;
    c->machine = count > words ? plain[words] : NULL;
    c->group = strstr(command->words, " create") ? NULL : plain[0];
}

int verb_complete(struct command_line *line, struct err *err)
{
    struct completion c = {.line = line, .prefix = "", .out = stdout};
    const char *plain[COMMAND_ARGUMENTS_MAX] = {NULL};
    const struct command *command = NULL;
    const struct command_option *waiting = NULL; /* for its value */
    unsigned last = line->argument_count ? line->argument_count - 1 : 0;
    size_t count = 0;

    (void)err;
    if (line->argument_count)
        c.prefix = line->arguments[last];
    for (unsigned i = 0; i < last; i++) {
        const char *word = line->arguments[i];

        if (waiting)
            waiting = NULL;
        else if (word[0] == '-') {
            const struct command_option *option = option_of(command, word);

            waiting = option && option->value && !strchr(word, '=') ? option : NULL;
        } else {
            plain[count++] = word;
            command = command_of(plain, count);
        }
    }
    if (count > 0 && strcmp(plain[0], "help") == 0) { /* the words of another command */
        offer_words(&c, plain + 1, count - 1);
        return 0;
    }
    describe(&c, command, plain, count);
    if (waiting)
        offer_value(&c, waiting);
    else if (c.prefix[0] == '-') {
        offer_options(&c, command ? command->options : NULL);
        offer_options(&c, command && command_is_list(command) ? list_options : NULL);
        offer_options(&c, global_options);
    } else {
        offer_words(&c, plain, count);
        if (command)
            offer_argument(&c, command, count - words_in(command->words));
    }
    return 0;
}

/* ---- the scripts ---- */

static const char bash_script[] =
    "# bash: . <(leeward completion bash), or as /usr/share/bash-completion/completions/leeward\n"
    "COMP_WORDBREAKS=${COMP_WORDBREAKS//@/}\n"
    "_leeward() {\n"
    "    local line\n"
    "    COMPREPLY=()\n"
    "    while IFS= read -r line; do\n"
    "        case $line in\n"
    "        :files) compopt -o default 2>/dev/null ;;\n"
    "        *) COMPREPLY+=(\"${line%%$'\\t'*}\") ;;\n"
    "        esac\n"
    "    done < <(leeward complete -- \"${COMP_WORDS[@]:1:COMP_CWORD}\" 2>/dev/null)\n"
    "}\n"
    "complete -F _leeward leeward\n";

static const char zsh_script[] =
    "#compdef leeward\n"
    "# zsh: . <(leeward completion zsh), or as _leeward in a folder of $fpath\n"
    "_leeward() {\n"
    "    local line files=\n"
    "    local -a offers\n"
    "    while IFS= read -r line; do\n"
    "        if [[ $line == :files ]]; then files=1\n"
    "        else offers+=(\"${${line%%$'\\t'*}//:/\\\\:}:${line#*$'\\t'}\"); fi\n"
    "    done < <(leeward complete -- \"${(@)words[2,CURRENT]}\" 2>/dev/null)\n"
    "    (( ${#offers} )) && _describe leeward offers\n"
    "    [[ -n $files ]] && _files\n"
    "}\n"
    "if [[ ${funcstack[1]} == _leeward ]]; then _leeward \"$@\"; else compdef _leeward leeward; fi\n";

int command_print_completion(const char *shell, FILE *out)
{
    const char *script = strcmp(shell, "bash") == 0 ? bash_script : strcmp(shell, "zsh") == 0 ? zsh_script : NULL;

    return script && fputs(script, out) >= 0 ? 0 : -1;
}
