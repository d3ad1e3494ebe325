/* SPDX-License-Identifier: Apache-2.0
 *
 * Manual pages from the table of commands: leeward(1), and one page for each first word that several commands share. Written with the
 * macros of man(7).
 */
#include "hub/cli/command.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "transport/base/mem.h"

/* Text that roff takes as it is: no command at the start of a line, no escapes, hyphens that can be copied. */
static void text(const char *s, FILE *out)
{
    for (; *s; s++) {
        if (*s == '\\')
            (void)fputs("\\e", out);
        else if (*s == '-')
            (void)fputs("\\-", out);
        else if (*s == '\'')
            (void)fputs("\\(aq", out);
        else if (*s == '`')
            (void)fputs("\\(ga", out);
        else if (*s == '"')
            (void)fputs("\\(dq", out);
        else
            (void)fputc(*s, out);
    }
}

static size_t group_length(const struct command *command)
{
    return strcspn(command->words, " ");
}

static bool same_group(const struct command *a, const struct command *b)
{
    size_t n = group_length(a);

    return n == group_length(b) && strncmp(a->words, b->words, n) == 0;
}

/* Commands of one word have no page of their own, unless others begin with the same word. */
static bool has_page(const struct command *command)
{
    for (size_t i = 0; i < command_count; i++)
        if (same_group(&commands[i], command) && strchr(commands[i].words, ' '))
            return true;
    return false;
}

static bool is_first_of_group(size_t at)
{
    for (size_t i = 0; i < at; i++)
        if (same_group(&commands[i], &commands[at]))
            return false;
    return true;
}

static void print_options(const struct command_option *options, FILE *out)
{
    for (; options && options->name; options++) {
        (void)fputs(".TP\n\\fB", out);
        if (options->letter)
            (void)fprintf(out, "\\-%c\\fR, \\fB", options->letter);
        (void)fputs("\\-\\-", out);
        text(options->name, out);
        (void)fputs("\\fR", out);
        if (options->value) {
            (void)fputs(" \\fI", out);
            text(options->value, out);
            (void)fputs("\\fR", out);
        }
        (void)fputc('\n', out);
        text(options->help, out);
        (void)fputs(".\n", out);
    }
}

static void print_command(const struct command *command, FILE *out)
{
    (void)fputs(".SS leeward ", out);
    text(command->words, out);
    if (command->arguments[0]) {
        (void)fputc(' ', out);
        text(command->arguments, out);
    }
    (void)fputc('\n', out);
    text(command->summary, out);
    (void)fputs(".\n", out);
    print_options(command->options, out);
}

static void print_head(const char *name, const char *about, FILE *out)
{
    (void)fputs(".TH ", out);
    text(name, out);
    (void)fputs(" 1 \"\" \"leeward " LEEWARD_VERSION "\" \"Leeward\"\n.SH NAME\n", out);
    text(name, out);
    (void)fputs(" \\- ", out);
    text(about, out);
    (void)fputs("\n.SH SYNOPSIS\n.B leeward\n.I COMMAND\n[\n.I OPTIONS\n]\n", out);
}

static void print_common(FILE *out)
{
    (void)fputs(".SH OPTIONS OF EVERY LIST\n", out);
    print_options(list_options, out);
    (void)fputs(".SH OPTIONS OF EVERY COMMAND\n", out);
    print_options(global_options, out);
    (void)fputs(
        ".SH ENVIRONMENT\n.TP\n.BR LEEWARD_URL \", \" LEEWARD_TOKEN \", \" LEEWARD_CA\nWhere the hub is, the API "
        "token, and "
        "the certificate by which the hub is known.\n.TP\n.B LEEWARD_PROFILE\nThe profile to use; "
        "\\fBleeward login\\fR makes them.\n.SH EXIT STATUS\n0 done, 1 failed, 2 usage, 3 not found, 4 refused.\n",
        out);
}

static void print_see_also(const struct command *except, FILE *out)
{
    (void)fputs(".SH SEE ALSO\n", out);
    if (except)
        (void)fputs(".BR leeward (1)\n", out);
    for (size_t i = 0; i < command_count; i++)
        if (is_first_of_group(i) && has_page(&commands[i]) && !(except && same_group(&commands[i], except))) {
            (void)fputs(".BR leeward\\-", out);
            (void)fprintf(out, "%.*s", (int)group_length(&commands[i]), commands[i].words);
            (void)fputs(" (1)\n", out);
        }
}

static void print_main_page(FILE *out)
{
    print_head("leeward", "keep a recoverable copy of running servers at another site", out);
    (void)fputs(
        ".SH DESCRIPTION\nEverything that the API of a Leeward hub does, from a terminal or a pipeline. Results go to "
        "standard output, everything else to standard error; \\fB\\-o json\\fR prints what the API answers.\n"
        ".SH COMMANDS\n",
        out);
    for (size_t i = 0; i < command_count; i++)
        if (!has_page(&commands[i]))
            print_command(&commands[i], out);
    print_common(out);
    print_see_also(NULL, out);
}

static void print_group_page(const struct command *first, FILE *out)
{
    char name[64], about[96];

    (void)snprintf(name, sizeof(name), "leeward-%.*s", (int)group_length(first), first->words);
    (void)snprintf(about, sizeof(about), "the %.*s commands of leeward", (int)group_length(first), first->words);
    print_head(name, about, out);
    (void)fputs(".SH COMMANDS\n", out);
    for (size_t i = 0; i < command_count; i++)
        if (same_group(&commands[i], first))
            print_command(&commands[i], out);
    print_common(out);
    print_see_also(first, out);
}

static int write_page(const char *dir, const struct command *group, struct err *err)
{
    AUTO_FREE char *path = group ? mem_printf("%s/leeward-%.*s.1", dir, (int)group_length(group), group->words)
                                 : mem_printf("%s/leeward.1", dir);
    FILE *out = path ? fopen(path, "we") : NULL;

    if (!out)
        return err_sys(err, errno, "writing manual pages in %s", dir);
    if (group)
        print_group_page(group, out);
    else
        print_main_page(out);
    return fclose(out) == 0 ? 0 : err_sys(err, errno, "%s", path);
}

int command_write_man(const char *dir, struct err *err)
{
    if (write_page(dir, NULL, err) < 0)
        return -1;
    for (size_t i = 0; i < command_count; i++)
        if (is_first_of_group(i) && has_page(&commands[i]) && write_page(dir, &commands[i], err) < 0)
            return -1;
    return 0;
}
