/* SPDX-License-Identifier: Apache-2.0
 *
 * What every daemon does around its sd-event loop: create it, take SIGTERM and SIGINT as "stop", feed the systemd
 * watchdog from the loop itself, ignore SIGPIPE, announce readiness, and small helpers for timers, posted calls and
 * child processes. Callbacks never block.
 */
#ifndef TRANSPORT_LOOP_LOOP_H
#define TRANSPORT_LOOP_LOOP_H

#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "transport/base/err.h"

/* A new default-free loop with signals blocked and handled: the first SIGTERM/SIGINT calls on_stop (or, when NULL,
 * sd_event_exit(loop, 0)); a second one exits at once. Must be called before any thread is started. */
int loop_new(void (*on_stop)(void *arg), void *arg, sd_event **ret_loop, struct err *err);
void loop_free(sd_event *loop);
/* Runs until sd_event_exit; returns its code (>= 0) or -1. */
int loop_run(sd_event *loop, struct err *err);
/* READY=1 / STOPPING=1 to systemd; no-ops without NOTIFY_SOCKET. */
void loop_notify_ready(void);
void loop_notify_stopping(void);

/* A one-shot or repeating timer on the monotonic clock. interval_usec 0 = one shot. */
struct loop_timer;
int loop_timer_new(sd_event *loop, uint64_t first_usec, uint64_t interval_usec, void (*fire)(void *arg), void *arg,
    struct loop_timer **ret_timer, struct err *err);
void loop_timer_set(struct loop_timer *timer, uint64_t delay_usec); /* re-arms from now */
void loop_timer_free(struct loop_timer *timer);

/* A mailbox into a loop from other threads: post() may be called from any thread and makes `wake` run on the loop
 * thread soon; several posts may be answered by one wake. */
struct loop_bell;
int loop_bell_new(sd_event *loop, void (*wake)(void *arg), void *arg, struct loop_bell **ret_bell, struct err *err);
void loop_bell_post(struct loop_bell *bell);
void loop_bell_free(struct loop_bell *bell);

/* A child process. Its stdin is /dev/null, stdout and stderr are inherited unless fds are given (>= 0; they are dup'ed,
 * the caller keeps its own). It gets SIGTERM when this process dies (PR_SET_PDEATHSIG). All other descriptors are
 * closed, but for pass_fd (>= 0), which arrives as fd 3. on_exit runs on the loop thread with the wait status. */
struct loop_child;
struct loop_child_spec {
    const char *const *argv; /* NULL-terminated; argv[0] is looked up in PATH */
    const char *const *env;  /* NULL: inherited */
    int stdout_fd, stderr_fd, pass_fd; /* -1: as described above */
    uid_t uid;               /* 0: unchanged */
    gid_t gid;
    const char *cwd;         /* NULL: unchanged */
    void (*on_exit)(void *arg, int wait_status);
    void *arg;
};
int loop_child_start(sd_event *loop, const struct loop_child_spec *spec, struct loop_child **ret_child, struct err *err);
pid_t loop_child_pid(const struct loop_child *child);
void loop_child_kill(struct loop_child *child, int signal);
/* Forgets the child without killing it (on_exit will not run), or frees a finished one. */
void loop_child_free(struct loop_child *child);

#endif
