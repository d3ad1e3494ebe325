/* SPDX-License-Identifier: Apache-2.0
 *
 * A program of the user's, run to its end: text on standard input, what it prints kept up to a bound, the last line of standard error as the reason for
 * a failure. It runs in a process group of its own, which is ended when the time is over or the hub stops.
 */
#ifndef HUB_FABRIC_PROGRAM_H
#define HUB_FABRIC_PROGRAM_H

#include <stdatomic.h>
#include <stdint.h>

#include "transport/base/buf.h"

/* Descriptors that a program gets beside its standard ones, from this number on. */
#define PROGRAM_FIRST_FD 4
#define PROGRAM_FDS_MAX 40

struct program_run {
    const char *who;         /* for messages: "the target's program" */
    const char *const *argv; /* NULL-terminated; argv[0] is the absolute path */
    const char *const *envp; /* NULL: the hub's own */
    const char *input;
    /* Its descriptors PROGRAM_FIRST_FD and on; descriptor 3 is its standard error once more. The caller's stay open. */
    const int *fds;
    size_t fd_count;
    uint64_t limit_usec;
    const atomic_bool *cancelled;
    struct buf *output; /* with its maximum; ERR_TOO_LARGE beyond */
};
/* 0: exit status 0. ERR_REFUSED: another one, with the reason; ERR_TOO_LARGE: it wrote a larger file than it may (RLIMIT_FSIZE); ERR_TIMEOUT,
 * ERR_CANCELLED. Blocks. */
int program_run(const struct program_run *run, struct err *err);

#endif
