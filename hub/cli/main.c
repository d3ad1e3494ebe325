/* SPDX-License-Identifier: Apache-2.0
 *
 * leeward: the command. Errors go to standard error with what can be done about them; the exit code says of which kind they
 * were (command.h).
 */
#include <curl/curl.h>
#include <signal.h>
#include <stdio.h>

#include "hub/cli/client.h"
#include "hub/cli/command.h"
#include "hub/cli/output.h"
#include "hub/cli/profile.h"

static int report(const struct err *err)
{
    (void)fflush(stdout);
    (void)fputs("leeward: ", stderr);
    output_text(err->text, stderr);
    (void)fputc('\n', stderr);
    if (err->correction[0]) {
        (void)fputs("  ", stderr);
        output_text(err->correction, stderr);
        (void)fputc('\n', stderr);
    }
    return (int)command_exit_code(err);
}

static int run(struct command_line *line, struct err *err)
{
    struct client *client AUTO_OF(client) = NULL;

    bool dry_run = command_option(line, "dry-run");
    int rc;

    if (dry_run && line->command->local)
        return err_set(err, ERR_INVALID, "leeward %s has no dry run", line->command->words);
    if (!line->command->local && profile_client(line, &client, err) < 0)
        return -1;
    line->client = client;
    if (dry_run)
        client_set_dry_run(client, true);
    rc = line->command->run(line, err);
    if (!dry_run || !client_would_succeed(client))
        return rc;
    (void)fputs(
        line->output == OUTPUT_JSON ? "{\"dry_run\": true}\n" : "the hub would do this; nothing was done\n", stdout);
    return 0;
}

int main(int argc, char **argv)
{
    struct command_line line;
    struct err err = ERR_INIT;
    int rc = command_parse(argc, argv, &line, stdout, &err);

    if (rc > 0)
        return EXIT_DONE;
    (void)signal(SIGPIPE, SIG_IGN);
    if (rc < 0 || curl_global_init(CURL_GLOBAL_DEFAULT) != 0 || run(&line, &err) < 0)
        rc = report(&err);
    if (fflush(stdout) != 0 && rc == 0)
        rc = EXIT_FAILED; /* a full disk behind a redirection is not "done" */
    curl_global_cleanup();
    return rc;
}
