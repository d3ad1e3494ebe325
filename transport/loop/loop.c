/* SPDX-License-Identifier: Apache-2.0
 *
 * The loop of a daemon. SIGTERM, SIGINT and SIGCHLD are blocked for the whole process before any thread
 * exists and are read by sd-event from a signalfd. The first SIGTERM or SIGINT asks for an orderly stop and
 * gives that signal its default action back, so that a second one of the same kind ends the process even when
 * the orderly stop hangs. (The same kind: a terminal's Ctrl-C reaches a child as SIGINT and again as its
 * parent's SIGTERM, which is one wish.)
 *
 * Sources: sd-event(3), sd_event_set_watchdog(3), sd_notify(3).
 */
#include "transport/loop/loop.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <systemd/sd-daemon.h>

#include "transport/base/mem.h"

struct stop_request {
    void (*on_stop)(void *arg);
    void *arg;
    bool called;
};

/* What a signal source needs; one for each signal, freed with its source. */
struct stop_signal {
    struct stop_request *request; /* owned by the SIGTERM source */
    bool owns_request;
};

static void free_stop_signal(void *userdata)
{
    struct stop_signal *s = userdata;

    if (s->owns_request)
        free(s->request);
    free(s);
}

static void restore_default(int signal_number)
{
    sigset_t set;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, signal_number);
    (void)signal(signal_number, SIG_DFL);
    (void)pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

static int on_stop_signal(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata)
{
    struct stop_request *request = ((struct stop_signal *)userdata)->request;

    (void)sd_event_source_set_enabled(source, SD_EVENT_OFF);
    restore_default((int)info->ssi_signo);
    if (request->called)
        return 0;
    request->called = true;
    loop_notify_stopping();
    if (request->on_stop)
        request->on_stop(request->arg);
    else
        (void)sd_event_exit(sd_event_source_get_event(source), 0);
    return 0;
}

static int add_stop_signal(
    sd_event *loop, int signal_number, struct stop_request *request, bool owns_request, struct err *err)
{
    struct stop_signal *s = mem_new(struct stop_signal);
    sd_event_source *source = NULL;

    if (!s)
        return err_set(err, ERR_NOMEM, "out of memory for a signal");
    s->request = request;
    int rc = sd_event_add_signal(loop, &source, signal_number, on_stop_signal, s);
    if (rc < 0) {
        free(s);
        return err_sys(err, -rc, "taking signal %d", signal_number);
    }
    s->owns_request = owns_request;
    (void)sd_event_source_set_destroy_callback(source, free_stop_signal);
    (void)sd_event_source_set_floating(source, 1);
    (void)sd_event_source_unref(source);
    return 0;
}

static int block_signals(struct err *err)
{
    sigset_t set;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGCHLD);
    (void)signal(SIGPIPE, SIG_IGN);
    int rc = pthread_sigmask(SIG_BLOCK, &set, NULL);
    return rc == 0 ? 0 : err_sys(err, rc, "blocking signals");
}

static int add_stop_signals(sd_event *loop, void (*on_stop)(void *arg), void *arg, struct err *err)
{
    struct stop_request *request = mem_new(struct stop_request);

    if (!request)
        return err_set(err, ERR_NOMEM, "out of memory for the event loop");
    request->on_stop = on_stop;
    request->arg = arg;
    if (add_stop_signal(loop, SIGTERM, request, true, err) < 0) {
        free(request);
        return -1;
    }
    return add_stop_signal(loop, SIGINT, request, false, err);
}

int loop_new(void (*on_stop)(void *arg), void *arg, sd_event **ret_loop, struct err *err)
{
    sd_event *loop = NULL;

    if (block_signals(err) < 0)
        return -1;
    int rc = sd_event_new(&loop);
    if (rc < 0)
        return err_sys(err, -rc, "creating the event loop");
    /* Fed from the loop alone, so that a loop that hangs is a daemon that systemd restarts. 0 without
     * WATCHDOG_USEC. */
    rc = sd_event_set_watchdog(loop, 1);
    if (rc < 0)
        (void)err_sys(err, -rc, "starting the watchdog");
    else
        rc = add_stop_signals(loop, on_stop, arg, err);
    if (rc < 0) {
        loop_free(loop);
        return -1;
    }
    *ret_loop = loop;
    return 0;
}

void loop_free(sd_event *loop)
{
    (void)sd_event_unref(loop);
}

int loop_run(sd_event *loop, struct err *err)
{
    int rc = sd_event_loop(loop);

    return rc >= 0 ? rc : err_sys(err, -rc, "running the event loop");
}

void loop_notify_ready(void)
{
    (void)sd_notify(0, "READY=1");
}

void loop_notify_stopping(void)
{
    (void)sd_notify(0, "STOPPING=1");
}
