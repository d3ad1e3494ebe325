/* SPDX-License-Identifier: Apache-2.0
 *
 * The commands of `leeward` as one table: words, arguments, options, what runs. Parsing, `--help`, completion and the
 * reference in docs/cli.md come from it. Every command has the global options too, every list those of lists.
 */
#ifndef HUB_CLI_COMMAND_H
#define HUB_CLI_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "transport/base/err.h"

/* What the shell sees. */
enum exit_code { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_NOT_FOUND = 3, EXIT_REFUSED = 4 };

enum output_form { OUTPUT_TABLE, OUTPUT_WIDE, OUTPUT_JSON };

struct client;
struct command_line;

struct command_option {
    const char *name;  /* "policy" for --policy */
    char letter;       /* 0: none */
    const char *value; /* "NAME" in the help; NULL: a switch */
    const char *help;
};

struct command {
    const char *words;     /* "machine protect" */
    const char *arguments; /* "MACHINE [DISK...]" */
    const char *summary;
    const struct command_option *options; /* ended by a row without a name; NULL: none */
    unsigned arguments_min, arguments_max;
    bool local; /* needs no hub */
    int (*run)(struct command_line *line, struct err *err);
};

extern const struct command commands[];
extern const size_t command_count;
extern const struct command_option global_options[];
/* Of those that print a list of the hub's. */
extern const struct command_option list_options[];
bool command_is_list(const struct command *command);

#define COMMAND_ARGUMENTS_MAX 1024u
#define COMMAND_OPTIONS_MAX 96u

struct command_line {
    const struct command *command;
    const char *arguments[COMMAND_ARGUMENTS_MAX];
    unsigned argument_count;
    struct {
        const struct command_option *option;
        const char *value; /* "" for a switch */
    } given[COMMAND_OPTIONS_MAX];
    unsigned given_count;
    enum output_form output;
    struct client *client; /* NULL for local commands */
};

/* Finds the command and its options. 0; 1: help was asked for and printed on `out`; -1: err (ERR_INVALID) says what is wrong
 * and its correction which help to read. The texts point into argv. */
int command_parse(int argc, char **argv, struct command_line *line, FILE *out, struct err *err);
/* The value of an option, "" for a switch, NULL when it was not given. */
const char *command_option(const struct command_line *line, const char *name);
/* The i-th value of an option that may be repeated; NULL: there are not so many. */
const char *command_option_nth(const struct command_line *line, const char *name, unsigned i);
/* As a whole number, as one of bytes ("10M" is 10 << 20, as in configuration files), or as a duration; 1 given, 0 not, -1 not understood. */
int command_option_number(const struct command_line *line, const char *name, uint64_t min, uint64_t max,
    uint64_t *ret_number, struct err *err);
int command_option_bytes(
    const struct command_line *line, const char *name, uint64_t max, uint64_t *ret_bytes, struct err *err);
int command_option_usec(const struct command_line *line, const char *name, uint64_t *ret_usec, struct err *err);
enum exit_code command_exit_code(const struct err *err);

/* `command` NULL: the overview of all. */
void command_print_help(const struct command *command, FILE *out);
/* Manual pages, leeward.1 and leeward-GROUP.1, into a folder. */
int command_write_man(const char *dir, struct err *err);
/* The command, or the option (without its dashes), that may have been meant; NULL: none is near. */
const char *command_suggest(const char *given);
/* The first word of commands, the begin of the result: one that begins so, or one that is near. */
const char *command_suggest_group(const char *given, size_t *ret_len);
const char *command_suggest_option(const struct command *command, const char *given);
/* The whole reference as Markdown, and the completion script of "bash" or "zsh" (-1: another shell). */
void command_print_markdown(FILE *out);
int command_print_completion(const char *shell, FILE *out);

#endif
