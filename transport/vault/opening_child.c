/* SPDX-License-Identifier: Apache-2.0
 *
 * The nbdkit child of an open point. It gets the machine's data key through a memory file as descriptor 3. It serves when it
 * has written its pid file. One that dies while it is open is started again, ever later, unless it dies over and over.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "transport/base/clock.h"
#include "transport/base/log.h"
#include "transport/vault/opening_private.h"

#define ASK_EVERY_USEC (10 * USEC_PER_MSEC)
#define AGAIN_USEC                                                                                                     \
    (500 * USEC_PER_MSEC)    /* an older child may still be writing out its branch; doubled with each failure, */
#define AGAIN_DOUBLED_MAX 4u /* so often */
#define START_LIMIT_USEC (60 * USEC_PER_SEC)
#define END_LIMIT_USEC (20 * USEC_PER_SEC)
#define ARGUMENTS_MAX 16

/* nbdkit writes its pid file when it takes connections. */
static bool child_serves(const struct opening *o)
{
    char *path AUTO_FREE = mem_printf("%s" OPENING_PID_SUFFIX, o->socket);
    return path != NULL && access(path, F_OK) == 0;
}

void opening_child_sweep(const struct opening *o)
{
    char *path AUTO_FREE = mem_printf("%s" OPENING_PID_SUFFIX, o->socket);
    (void)unlink(o->socket);
    if (path != NULL)
        (void)unlink(path);
}

static void on_timer(void *arg)
{
    struct opening *o = arg;
    struct err err = ERR_INIT;
    bool late = clock_mono_usec() >= o->waits_until_usec;
    if (o->state == OPENING_STARTING && child_serves(o)) {
        opening_ready(o);
        return;
    }
    if (o->state == OPENING_WAITING) {
        opening_again(o);
        return;
    }
    if (late && o->child != NULL) {
        loop_child_kill(o->child, SIGKILL);
        (void)err_set(&err, ERR_TIMEOUT, "nbdkit did not serve the point in time");
        if (o->state == OPENING_STARTING)
            opening_failed(o, &err);
        return;
    }
    if (o->state == OPENING_STARTING || o->state == OPENING_CLOSING)
        loop_timer_set(o->timer, ASK_EVERY_USEC);
}

static void on_exit_child(void *arg, int wait_status)
{
    struct opening *o = arg;
    struct err err = ERR_INIT;
    loop_child_free(TAKE_PTR(o->child));
    if (o->state == OPENING_CLOSING) {
        opening_gone(o);
        return;
    }
    (void)err_set(&err, ERR_UNAVAILABLE, "nbdkit ended (%s %d) while it served an open point",
        WIFSIGNALED(wait_status) ? "signal" : "status",
        WIFSIGNALED(wait_status) ? WTERMSIG(wait_status) : WEXITSTATUS(wait_status));
    (void)err_hint(&err, "the lines of nbdkit in the vault's log say why");
    opening_failed(o, &err);
}

static int timer_arm(struct opening *o, uint64_t limit_usec, struct err *err)
{
    o->waits_until_usec = clock_mono_usec() + limit_usec;
    if (o->timer == NULL)
        return loop_timer_new(o->d->loop, ASK_EVERY_USEC, 0, on_timer, o, &o->timer, err);
    loop_timer_set(o->timer, ASK_EVERY_USEC);
    return 0;
}

int opening_child_wait(struct opening *o, struct err *err)
{
    unsigned doubled = o->failures > 0 ? o->failures - 1 : 0;
    uint64_t pause = AGAIN_USEC << (doubled < AGAIN_DOUBLED_MAX ? doubled : AGAIN_DOUBLED_MAX);
    if (timer_arm(o, pause, err) < 0)
        return -1;
    o->state = OPENING_WAITING;
    loop_timer_set(o->timer, pause);
    return 0;
}

struct arguments {
    char machine[512], sequence[48], cache[48], branch[600], nonce[48], reserve[48], pid[160];
    const char *argv[ARGUMENTS_MAX];
};

static int arguments_fill(const struct opening *o, struct arguments *a, struct err *err)
{
    const char *plain[] = {"nbdkit", "-f", "-U", o->socket, "-P", a->pid, o->d->plugin, a->machine, a->sequence,
        "key-fd=3", a->cache, o->write ? a->branch : NULL, a->nonce, a->reserve, NULL};
    int n = snprintf(a->machine, sizeof(a->machine), "machine=%s", o->vm->dir);
    int m = snprintf(a->branch, sizeof(a->branch), "branch=%s/branches/%s", o->vm->dir, o->id);
    if (n >= (int)sizeof(a->machine) || m >= (int)sizeof(a->branch))
        return err_set(err, ERR_INVALID, "the path of the vault's folder is too long");
    (void)snprintf(a->sequence, sizeof(a->sequence), "sequence=%llu", (unsigned long long)o->sequence);
    (void)snprintf(a->cache, sizeof(a->cache), "cache=%llu", (unsigned long long)o->d->conf.cache_bytes);
    (void)snprintf(a->pid, sizeof(a->pid), "%s" OPENING_PID_SUFFIX, o->socket);
    (void)snprintf(a->nonce, sizeof(a->nonce), "nonce-stream=%u", o->nonce_stream);
    (void)snprintf(a->reserve, sizeof(a->reserve), "reserve=%llu", (unsigned long long)o->d->conf.reserve_bytes);
    memcpy(a->argv, plain, sizeof(plain));
    return 0;
}

int opening_child_start(struct opening *o, struct err *err)
{
    struct arguments *a AUTO_FREE = mem_new(struct arguments);
    if (a == NULL)
        return err_set(err, ERR_NOMEM, "no memory to open a point");
    if (arguments_fill(o, a, err) < 0)
        return -1;
    struct loop_child_spec spec = {
        .argv = a->argv, .stdout_fd = -1, .stderr_fd = -1, .pass_fd = o->key_fd, .on_exit = on_exit_child, .arg = o};
    opening_child_sweep(o); /* of a child that was killed */
    if (timer_arm(o, START_LIMIT_USEC, err) < 0)
        return -1;
    int result = loop_child_start(o->d->loop, &spec, &o->child, err);
    (void)close(TAKE_FD(o->key_fd));
    if (result < 0)
        return err_hint(err, "install nbdkit on the vault");
    o->started_usec = clock_mono_usec();
    o->state = OPENING_STARTING;
    return 0;
}

void opening_child_end(struct opening *o)
{
    o->state = OPENING_CLOSING;
    if (o->child == NULL) {
        opening_gone(o);
        return;
    }
    loop_child_kill(o->child, SIGTERM);
    (void)timer_arm(o, END_LIMIT_USEC, NULL);
}
