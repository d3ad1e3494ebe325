/* SPDX-License-Identifier: Apache-2.0
 *
 * libvirt's calls have no deadlines: a daemon that is frozen, or whose host is, holds whoever asks it until it answers, from the first word of opening a
 * connection on. A thread that waits so cannot be ended; a process can. So each verb of the adapter is a process of its own: the hub's program once more,
 * which is told its work as JSON on standard input, says what became of it on standard output, and ends with the hub (PR_SET_PDEATHSIG). It ends itself when a call
 * takes too long, and is ended when the job is cancelled.
 */
#ifndef HUB_FABRIC_LIBVIRT_CHILD_H
#define HUB_FABRIC_LIBVIRT_CHILD_H

#include "hub/fabric/compute.h"

/* What a single call may take. Opening a connection takes a second where the daemon is started by it, some where ssh is slow. A daemon that is alive
 * (libvirt_host.c asks it all the time) may take minutes to start a machine with much memory. */
struct libvirt_limits {
    unsigned open_sec, call_sec;
};
extern const struct libvirt_limits libvirt_limits_default;

struct libvirt_ask {
    const char *verb; /* "check", "start", "stop" or "screenshot" */
    const struct compute_call *call;
    struct libvirt_limits limits;
    json_t **answer;     /* a new reference; may be NULL */
    struct buf *picture; /* appended to; may be NULL */
};
/* 0; -1 with the error that the process told. ERR_UNAVAILABLE: the host does not answer, and what was asked of it may have happened or may still happen.
 * ERR_CANCELLED. Blocks. */
int libvirt_child_ask(const struct libvirt_ask *ask, struct err *err);

/* To be called first in main: -1 in the program that was started by somebody else, which goes on; in such a process its exit status, and all is
 * done. Without it libvirt_child_ask refuses: what it started would be that program once more. */
int libvirt_child_main(int argc, char **argv);

/* ---- for libvirt_host.c, in the process ---- */
/* From now on until the next call of it there are so many seconds; then the process says so and ends. 0: no end. The words are fixed text. */
void libvirt_child_within(unsigned seconds, const char *what);

#endif
