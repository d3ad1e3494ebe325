/* SPDX-License-Identifier: Apache-2.0
 *
 * Waits for a job of the hub and shows how far it is: one line that renews itself on a terminal, nothing otherwise.
 */
#ifndef HUB_CLI_JOBWAIT_H
#define HUB_CLI_JOBWAIT_H

#include <jansson.h>

#include "hub/cli/client.h"
#include "hub/cli/command.h"

/* Asks for a job (POST or DELETE path with body, borrowed, may be NULL) and waits for its end, unless --no-wait was given.
 * *ret_job is the job as it is then (caller: json_decref). A job that failed is -1 with its own code and correction; one
 * that was cancelled ERR_CANCELLED. */
int jobwait_run(const struct command_line *line, const char *method, const char *path, const json_t *body,
    json_t **ret_job, struct err *err);
/* Waits for a job that is there. timeout_usec 0: for ever; ERR_TIMEOUT when it is over (the job goes on). */
int jobwait_for(
    const struct command_line *line, const char *id, uint64_t timeout_usec, json_t **ret_job, struct err *err);
/* The job as JSON, or "done: " with what came out of it when it succeeded. NULL: nothing. */
void jobwait_print(const struct command_line *line, const json_t *job, bool succeeded);
/* jobwait_run, then prints: the job as JSON, or "done: " with what came out. */
int jobwait_and_print(
    const struct command_line *line, const char *method, const char *path, const json_t *body, struct err *err);
/* Options of commands that ask for jobs. */
#define JOBWAIT_OPTIONS                                                                                                \
    {"no-wait", 0, NULL, "Do not wait for the job; print it as it is"},                                                \
    {                                                                                                                  \
        "timeout", 0, "DURATION", "Wait at most this long (the job goes on)"                                           \
    }

#endif
