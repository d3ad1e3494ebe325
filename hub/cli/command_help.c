/* SPDX-License-Identifier: Apache-2.0
 *
 * What the table of commands says to people: help and Markdown.
 */
#include "hub/cli/command.h"

static void print_options(const struct command_option *options, FILE *out)
{
    for (; options && options->name; options++) {
        char left[64];

        (void)snprintf(left, sizeof(left), "%c%c%s--%s%s%s", options->letter ? '-' : ' ',
            options->letter ? options->letter : ' ', options->letter ? ", " : "  ", options->name,
            options->value ? " " : "", options->value ? options->value : "");
        (void)fprintf(out, "  %-30s %s\n", left, options->help);
    }
}

static void print_overview(FILE *out)
{
    (void)fputs("leeward: keep a continuously updated, recoverable copy of running servers at another site\n\n", out);
    for (size_t i = 0; i < command_count; i++) {
        char left[80];

        (void)snprintf(left, sizeof(left), "%s %s", commands[i].words, commands[i].arguments);
        (void)fprintf(out, "  %-44s %s\n", left, commands[i].summary);
    }
    (void)fputs("\nOptions of every command:\n", out);
    print_options(global_options, out);
    (void)fputs("\nExit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 refused.\n", out);
}

void command_print_help(const struct command *command, FILE *out)
{
    if (!command) {
        print_overview(out);
        return;
    }
    (void)fprintf(out, "leeward %s%s%s\n\n%s.\n", command->words, command->arguments[0] ? " " : "", command->arguments,
        command->summary);
    if (command->options && command->options->name) {
        (void)fputs("\nOptions:\n", out);
        print_options(command->options, out);
    }
    if (command_is_list(command)) {
        (void)fputs("\nOptions of every list:\n", out);
        print_options(list_options, out);
    }
    (void)fputs("\nOptions of every command:\n", out);
    print_options(global_options, out);
}

static void print_markdown_options(const struct command_option *options, FILE *out)
{
    for (; options && options->name; options++) {
        (void)fputs("- `", out);
        if (options->letter)
            (void)fprintf(out, "-%c`, `", options->letter);
        (void)fprintf(out, "--%s%s%s`: %s\n", options->name, options->value ? " " : "",
            options->value ? options->value : "", options->help);
    }
}

void command_print_markdown(FILE *out)
{
    (void)fputs(
        "# The `leeward` command\n\nMade from the program's own table by `leeward help --markdown`; do not edit.\n\n"
        "Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 refused. Errors go to standard error and say what can\n"
        "be done. `-o json` prints what the API answers.\n\n## Options of every command\n\n",
        out);
    print_markdown_options(global_options, out);
    (void)fputs("\n## Options of every list\n\n", out);
    print_markdown_options(list_options, out);
    for (size_t i = 0; i < command_count; i++) {
        (void)fprintf(out, "\n## leeward %s\n\n    leeward %s%s%s\n\n%s.\n", commands[i].words, commands[i].words,
            commands[i].arguments[0] ? " " : "", commands[i].arguments, commands[i].summary);
        if (commands[i].options && commands[i].options->name) {
            (void)fputs("\n", out);
            print_markdown_options(commands[i].options, out);
        }
    }
}
