/* SPDX-License-Identifier: Apache-2.0
 *
 * From words to a command: the longest row of the table whose words begin the line wins. Options may stand anywhere, those of every command also before
 * it; `--` ends them, and what looks like a negative number is none.
 */
#include "hub/cli/command.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "transport/base/clock.h"
#include "transport/base/conf.h"
#include "transport/base/mem.h"

const struct command_option global_options[] = {
    {"output", 'o', "json|table|wide", "Form of what is printed (table); wide: more columns, and all of an item"},
    {"url", 0, "URL", "Address of the hub; else LEEWARD_URL, else the profile"},
    {"token-file", 0, "FILE", "File with the API token; else LEEWARD_TOKEN, else the profile"},
    {"ca", 0, "FILE", "Certificate by which the hub is known (PEM); else LEEWARD_CA, else the profile"},
    {"profile", 0, "NAME", "Profile in ~/.config/leeward/config.json; else LEEWARD_PROFILE, else the current one"},
    {"dry-run", 0, NULL, "Ask the hub whether it would do it, with all its checks, and do nothing"},
    {"help", 'h', NULL, "Explain the command"},
    {NULL, 0, NULL, NULL},
};

const struct command_option list_options[] = {
    {"filter", 0, "NAME=VALUE", "Only these, by a filter of the API (state=protected); may be repeated"},
    {"sort", 0, "NAME", "Sort by a member of the API (name, -created_at: the newest first)"},
    {NULL, 0, NULL, NULL},
};

bool command_is_list(const struct command *command)
{
    static const char *const words[] = {"list", "runs", "points", "deliveries", "opened", "machines"};
    const char *last = strrchr(command->words, ' ');

    for (size_t i = 0; last && !command->local && i < ARRAY_LEN(words); i++)
        if (strcmp(last + 1, words[i]) == 0)
            return true;
    return false;
}

static size_t word_count(const char *words)
{
    size_t n = 1;

    for (; *words; words++)
        n += *words == ' ';
    return n;
}

/* Whether the first words of argv are those of the command. */
static bool words_match(const char *words, int argc, char *const *argv)
{
    for (int i = 0; *words; i++) {
        size_t n = strcspn(words, " ");

        if (i >= argc || strlen(argv[i]) != n || strncmp(words, argv[i], n) != 0)
            return false;
        words += n + (words[n] == ' ');
    }
    return true;
}

static const struct command *find_command(int argc, char *const *argv)
{
    const struct command *best = NULL;

    for (size_t i = 0; i < command_count; i++)
        if (words_match(commands[i].words, argc, argv) &&
            (!best || word_count(commands[i].words) > word_count(best->words)))
            best = &commands[i];
    return best;
}

static const struct command_option *find_in(
    const struct command_option *options, const char *name, size_t len, char letter)
{
    for (; options && options->name; options++)
        if ((letter && options->letter == letter) ||
            (!letter && strlen(options->name) == len && strncmp(options->name, name, len) == 0))
            return options;
    return NULL;
}

static const struct command_option *find_option(
    const struct command *command, const char *name, size_t len, char letter)
{
    const struct command_option *option = find_in(command->options, name, len, letter);

    if (!option && command_is_list(command))
        option = find_in(list_options, name, len, letter);
    return option ? option : find_in(global_options, name, len, letter);
}

static int usage(struct err *err, const struct command *command, const char *fmt, const char *what)
{
    (void)err_set(err, ERR_INVALID, fmt, what);
    return err_hint(err, "`leeward%s%s --help` explains it.", command ? " " : "", command ? command->words : "");
}

static int unknown_option(
    const struct command *command, const char *text, const char *name, size_t len, struct err *err)
{
    AUTO_FREE char *word = mem_strndup(name, len);
    const char *meant = word && len > 1 ? command_suggest_option(command, word) : NULL;

    (void)usage(err, command, "the option %s is not known here", text);
    return meant ? err_hint(err, "Did you mean --%s? `leeward %s --help` lists all.", meant, command->words) : -1;
}

static int take_option(struct command_line *line, int argc, char **argv, int *at, struct err *err)
{
    const char *text = argv[*at];
    bool is_long = text[1] == '-';
    const char *name = is_long ? text + 2 : text + 1;
    size_t len = is_long ? strcspn(name, "=") : 1;
    const struct command_option *option = find_option(line->command, name, len, is_long ? 0 : name[0]);
    const char *inline_value = is_long && name[len] == '=' ? name + len + 1 : !is_long && name[1] ? name + 1 : NULL;

    if (!option)
        return unknown_option(line->command, text, name, len, err);
    if (line->given_count == COMMAND_OPTIONS_MAX)
        return usage(err, line->command, "too many options at %s", text);
    if (!option->value && inline_value)
        return usage(err, line->command, "the option %s takes no value", text);
    if (option->value && !inline_value) {
        if (++*at >= argc)
            return usage(err, line->command, "the option %s needs a value", text);
        inline_value = argv[*at];
    }
    line->given[line->given_count].option = option;
    line->given[line->given_count++].value = option->value ? inline_value : "";
    return 0;
}

static int read_output(struct command_line *line, struct err *err)
{
    static const char *const names[] = {"table", "wide", "json"};
    const char *wanted = command_option(line, "output");

    for (unsigned i = 0; wanted && i < ARRAY_LEN(names); i++)
        if (strcmp(names[i], wanted) == 0) {
            line->output = (enum output_form)i;
            return 0;
        }
    if (!wanted)
        return 0;
    (void)usage(err, line->command, "\"%s\" is not a form of output", wanted);
    return err_hint(
        err, "Take table, wide (more of it) or json. `leeward %s --help` explains it.", line->command->words);
}

static bool wants_help(int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return true;
    return false;
}

/* "-1" is a value: no option is a digit. */
static bool is_option(const char *word)
{
    return word[0] == '-' && word[1] && !(word[1] >= '0' && word[1] <= '9');
}

/* "leeward machine" alone: the commands that begin so. */
static int print_group(const char *word, FILE *out)
{
    int found = 0;

    for (size_t i = 0; i < command_count; i++)
        if (strncmp(commands[i].words, word, strlen(word)) == 0 && commands[i].words[strlen(word)] == ' ') {
            (void)fprintf(out, "  leeward %s%s%s\n      %s\n", commands[i].words, commands[i].arguments[0] ? " " : "",
                commands[i].arguments, commands[i].summary);
            found = 1;
        }
    return found;
}

/* words: those behind the options that stand before them. With the two first words, as most commands have, or with the first alone. */
static int unknown_command(int count, char **words, struct err *err)
{
    bool two = count > 1 && !is_option(words[1]);
    AUTO_FREE char *given = two ? mem_printf("%s %s", words[0], words[1]) : mem_strdup(words[0]);
    const char *meant = given ? command_suggest(given) : NULL;
    size_t n = 0;

    if (!meant && two)
        meant = command_suggest(words[0]);
    if (!two && print_group(words[0], stderr))
        return usage(err, NULL, "\"%s\" needs one more word", words[0]);
    if (is_option(words[0]))
        return usage(err, NULL, "the option %s is not known before a command", words[0]);
    (void)usage(err, NULL, "there is no command \"%s\"", given ? given : words[0]);
    if (meant)
        return err_hint(err, "Did you mean `leeward %s`? `leeward --help` lists all.", meant);
    meant = command_suggest_group(words[0], &n);
    return meant ? err_hint(err, "Did you mean `leeward %.*s`? `leeward --help` lists all.", (int)n, meant) : -1;
}

static int no_command(int count, char **words, bool help, FILE *out, struct err *err)
{
    if (count > 0 && !help)
        return unknown_command(count, words, err);
    if (count == 0 || !print_group(words[0], out))
        command_print_help(NULL, out);
    return help ? 1 : usage(err, NULL, "%s", "no command was given");
}

/* `leeward help machine show`, `leeward help machine`. */
static int explain(int count, char **words, FILE *out, struct err *err)
{
    const struct command *command = find_command(count, words);

    if (!command && !print_group(words[0], out))
        return unknown_command(count, words, err);
    if (command)
        command_print_help(command, out);
    return 1;
}

static bool is_version(const char *word)
{
    return strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0;
}

/* How many words from argv[1] on are options of every command, with their values. */
static int leading_options(int argc, char **argv)
{
    int at = 1;

    while (at < argc && is_option(argv[at])) {
        bool is_long = argv[at][1] == '-';
        const char *name = argv[at] + (is_long ? 2 : 1);
        size_t len = is_long ? strcspn(name, "=") : 1;
        const struct command_option *option = find_in(global_options, name, len, is_long ? 0 : name[0]);

        if (!option)
            break;
        at += option->value && !name[len] ? 2 : 1;
    }
    return at < argc ? at - 1 : argc - 1;
}

int command_parse(int argc, char **argv, struct command_line *line, FILE *out, struct err *err)
{
    bool options_end = false;
    static char version[] = "version", *const version_words[] = {version};
    int first = 1 + leading_options(argc, argv), at;

    if (first < argc - 1 && strcmp(argv[first], "help") == 0 && !is_option(argv[first + 1]))
        return explain(argc - first - 1, argv + first + 1, out, err);
    *line = (struct command_line){.command = first < argc && is_version(argv[first])
                                                 ? find_command(1, version_words)
                                                 : find_command(argc - first, argv + first)};
    if (!line->command)
        return no_command(argc - first, argv + first, wants_help(argc, argv), out, err);
    for (at = 1; at < first; at++)
        if (take_option(line, argc, argv, &at, err) < 0)
            return -1;
    if (wants_help(argc, argv)) {
        command_print_help(line->command, out);
        return 1;
    }
    for (at = first + (int)word_count(line->command->words); at < argc; at++) {
        if (!options_end && strcmp(argv[at], "--") == 0)
            options_end = true;
        else if (!options_end && is_option(argv[at])) {
            if (take_option(line, argc, argv, &at, err) < 0)
                return -1;
        } else if (line->argument_count == line->command->arguments_max) {
            return usage(err, line->command, "\"%s\" is one argument too many", argv[at]);
        } else {
            line->arguments[line->argument_count++] = argv[at];
        }
    }
    if (line->argument_count < line->command->arguments_min)
        return usage(err, line->command, "arguments are missing: %s", line->command->arguments);
    return read_output(line, err);
}

const char *command_option(const struct command_line *line, const char *name)
{
    const char *value = NULL;

    for (unsigned i = 0; i < line->given_count; i++)
        if (strcmp(line->given[i].option->name, name) == 0)
            value = line->given[i].value; /* the last one counts */
    return value;
}

const char *command_option_nth(const struct command_line *line, const char *name, unsigned n)
{
    for (unsigned i = 0; i < line->given_count; i++)
        if (strcmp(line->given[i].option->name, name) == 0 && n-- == 0)
            return line->given[i].value;
    return NULL;
}

int command_option_number(const struct command_line *line, const char *name, uint64_t min, uint64_t max,
    uint64_t *ret_number, struct err *err)
{
    const char *text = command_option(line, name);
    unsigned long long n;
    char *end;

    if (!text)
        return 0;
    errno = 0;
    n = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end || errno || n < min || n > max) {
        (void)err_set(err, ERR_INVALID, "--%s must be a number from %llu to %llu, not \"%s\"", name,
            (unsigned long long)min, (unsigned long long)max, text);
        return -1;
    }
    *ret_number = n;
    return 1;
}

int command_option_bytes(
    const struct command_line *line, const char *name, uint64_t max, uint64_t *ret_bytes, struct err *err)
{
    const char *text = command_option(line, name);
    uint64_t n;

    if (!text)
        return 0;
    if (conf_parse_bytes(text, &n) < 0 || n > max) {
        (void)err_set(err, ERR_INVALID,
            "--%s must be a number of bytes, with K, M, G or T where it is large, not \"%s\"", name, text);
        return err_hint(err, "10M is 10 x 1024 x 1024.");
    }
    *ret_bytes = n;
    return 1;
}

int command_option_usec(const struct command_line *line, const char *name, uint64_t *ret_usec, struct err *err)
{
    const char *text = command_option(line, name);

    if (!text)
        return 0;
    if (clock_parse_duration(text, ret_usec, err) < 0)
        return err_wrap(err, "--%s", name);
    return 1;
}

enum exit_code command_exit_code(const struct err *err)
{
    switch (err->code) {
    case ERR_NONE:
        return EXIT_DONE;
    case ERR_INVALID:
    case ERR_TOO_LARGE:
        return EXIT_USAGE;
    case ERR_NOT_FOUND:
        return EXIT_NOT_FOUND;
    case ERR_REFUSED:
    case ERR_CONFLICT:
    case ERR_EXISTS:
    case ERR_DENIED:
    case ERR_UNAUTHENTICATED:
        return EXIT_REFUSED;
    default:
        return EXIT_FAILED;
    }
}
