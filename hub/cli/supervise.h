/* SPDX-License-Identifier: Apache-2.0
 *
 * One daemon that `leeward up` keeps running: started from the folder of this program, started again with a growing
 * delay when it ends, ended with SIGTERM and, after a while, SIGKILL. Loop thread only.
 */
#ifndef HUB_CLI_SUPERVISE_H
#define HUB_CLI_SUPERVISE_H

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "transport/base/err.h"

#define SUPERVISE_ARGUMENTS_MAX 24u

struct supervised;

struct supervised_spec {
    const char *program; /* "leeward-node" */
    /* Called before each start: fills argv from index 1 on (texts live as long as the spec); 1: start now; 0: not yet,
     * supervise_start will be called later; -1: give up. */
    int (*prepare)(void *arg, const char *argv[SUPERVISE_ARGUMENTS_MAX]);
    /* It ended without being asked to. false: do not start it again. */
    bool (*on_exit)(void *arg, int wait_status);
    void (*on_stopped)(void *arg); /* after supervise_stop: it is gone */
    void *arg;
};

/* Does not start it yet. The spec must outlive it. */
int supervise_new(sd_event *loop, const struct supervised_spec *spec, struct supervised **ret_child, struct err *err);
void supervise_free(struct supervised *child); /* NULL is allowed */
/* Starts it now unless it runs or is being stopped. A program that cannot be started is an error. */
int supervise_start(struct supervised *child, struct err *err);
/* Ends it for good; on_stopped is called when it is gone, at once if it does not run. */
void supervise_stop(struct supervised *child);
/* The path of a program of ours: beside this one, else as it is for PATH. out: PATH_MAX bytes. */
void supervise_find_program(const char *name, char *out);
bool supervise_is_running(const struct supervised *child);

#endif
