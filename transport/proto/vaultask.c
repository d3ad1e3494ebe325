/* SPDX-License-Identifier: Apache-2.0
 *
 * The mutex guards the request and its answer; `phase` says whose they are. A late end of a call whose waiter has gone is told apart by
 * the request's number.
 */
#include "transport/proto/vaultask.h"

#include <errno.h>
#include <pthread.h>
#include <time.h>

#include "transport/base/clock.h"
#include "transport/base/mem.h"
#include "transport/proto/wire.h"

#define WAIT_SEC 120
#define REQUEST_MAX (1u << 20)

enum phase { ASK_IDLE, ASK_ASKED, ASK_CALLING, ASK_DONE };

struct answer {
    struct answer *next;
    struct buf bytes;
};

struct vaultask {
    void (*to_loop)(void *arg);
    void *arg;
    pthread_mutex_t lock;
    pthread_cond_t done;
    enum phase phase;
    bool stopped, given_up;
    uint64_t patience_usec;
    uint64_t number; /* of the request */
    const char *path;
    struct buf request;
    struct answer *answers, **last;
    size_t answer_bytes;
    struct err error;
    struct rpc_call *call; /* loop thread only */
    uint64_t call_number;
};

static void on_message(struct rpc_call *call, void *arg, struct buf *message);
static void on_end(struct rpc_call *call, void *arg, enum rpc_status status, const char *text);
static const struct rpc_call_ops call_ops = {.on_message = on_message, .on_end = on_end, .auto_consume = true};

int vaultask_new(
    void (*to_loop)(void *arg), void *arg, uint64_t patience_usec, struct vaultask **ret_ask, struct err *err)
{
    struct vaultask *v = mem_new(struct vaultask);
    pthread_condattr_t attr;

    if (!v)
        return err_set(err, ERR_NOMEM, "no memory for calls to the vault");
    v->to_loop = to_loop;
    v->arg = arg;
    v->patience_usec = patience_usec;
    v->last = &v->answers;
    buf_init(&v->request, REQUEST_MAX);
    pthread_mutex_init(&v->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&v->done, &attr);
    pthread_condattr_destroy(&attr);
    *ret_ask = v;
    return 0;
}

static void answers_free(struct answer *a)
{
    while (a) {
        struct answer *next = a->next;

        buf_done(&a->bytes);
        free(a);
        a = next;
    }
}

/* The caller's then. */
static struct answer *take_answers(struct vaultask *v)
{
    struct answer *all = v->answers;

    v->answers = NULL;
    v->last = &v->answers;
    v->answer_bytes = 0;
    return all;
}

void vaultask_free(struct vaultask *v)
{
    if (!v)
        return;
    answers_free(v->answers);
    buf_done(&v->request);
    pthread_cond_destroy(&v->done);
    pthread_mutex_destroy(&v->lock);
    free(v);
}

/* ---- the asking thread ---- */

static int wait_done(struct vaultask *v, struct err *err)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += WAIT_SEC;
    while (v->phase != ASK_DONE && !v->stopped && !v->given_up)
        if (pthread_cond_timedwait(&v->done, &v->lock, &until) == ETIMEDOUT)
            return err_set(err, ERR_TIMEOUT, "the vault did not answer within %d s", WAIT_SEC);
    if (v->stopped)
        return err_set(err, ERR_CANCELLED, "it is stopping");
    if (v->given_up)
        return err_set(err, ERR_CANCELLED, "it was cancelled");
    if (v->error.code == ERR_NONE)
        return 0;
    err_copy(err, &v->error);
    return -1;
}

/* With the lock held. */
static int ask(struct vaultask *v, const char *path, const ProtobufCMessage *request, struct err *err)
{
    int r;

    if (v->given_up)
        return err_set(err, ERR_CANCELLED, "it was cancelled");
    answers_free(take_answers(v));
    buf_done(&v->request); /* sending takes its memory */
    buf_init(&v->request, REQUEST_MAX);
    if (wire_pack(request, &v->request, err) < 0)
        return -1;
    v->path = path;
    v->phase = ASK_ASKED;
    v->number++;
    err_clear(&v->error);
    v->to_loop(v->arg);
    r = wait_done(v, err);
    v->phase = ASK_IDLE;
    v->number++;
    if (v->given_up && v->call)
        v->to_loop(v->arg); /* the call is of no use any more, and the next one waits for its end */
    return r;
}

/* Cancelled without being told to stop: the channel was taken away under the call. */
static bool is_passing(const struct vaultask *v, const struct err *err)
{
    return v->patience_usec > 0 && !v->stopped && !v->given_up &&
           (err->code == ERR_UNAVAILABLE || err->code == ERR_TIMEOUT || err->code == ERR_CANCELLED);
}

/* With the lock held. */
static int ask_again(struct vaultask *v, const char *path, const ProtobufCMessage *request, struct err *err)
{
    uint64_t until = clock_mono_usec() + v->patience_usec;

    for (;;) {
        struct err why = ERR_INIT;
        struct timespec next;

        if (ask(v, path, request, &why) == 0)
            return 0;
        if (!is_passing(v, &why)) {
            err_copy(err, &why);
            return -1;
        }
        if (clock_mono_usec() > until) {
            why.code = ERR_UNAVAILABLE; /* nobody has cancelled anything, whatever it was called */
            err_copy(err, &why);
            return -1;
        }
        clock_gettime(CLOCK_MONOTONIC, &next);
        next.tv_sec += 1;
        (void)pthread_cond_timedwait(&v->done, &v->lock, &next);
    }
}

static int hand_over(const struct answer *a, const ProtobufCMessageDescriptor *type,
    int (*on_answer)(void *arg, const ProtobufCMessage *m, struct err *err), void *arg, struct err *err)
{
    for (; a; a = a->next) {
        ProtobufCMessage *m = NULL;
        int r = wire_unpack(type, a->bytes.data, a->bytes.len, &m, err);

        if (r == 0)
            r = on_answer(arg, m, err);
        wire_free(m);
        if (r < 0)
            return -1;
    }
    return 0;
}

int vaultask_run(struct vaultask *v, const char *path, const ProtobufCMessage *request,
    const ProtobufCMessageDescriptor *answer, int (*on_answer)(void *arg, const ProtobufCMessage *m, struct err *err),
    void *arg, uint64_t *traffic, struct err *err)
{
    struct answer *answers;
    struct err why = ERR_INIT;
    int r;

    pthread_mutex_lock(&v->lock);
    r = ask_again(v, path, request, &why);
    if (r == 0 || why.code != ERR_UNAVAILABLE || v->answer_bytes > 0) /* else there was no way to the vault */
        *traffic += protobuf_c_message_get_packed_size(request) + v->answer_bytes;
    answers = take_answers(v);
    pthread_mutex_unlock(&v->lock);
    if (r < 0)
        err_copy(err, &why);
    /* on_answer may ask for more. */
    if (r == 0)
        r = hand_over(answers, answer, on_answer, arg, err);
    answers_free(answers);
    return r;
}

/* ---- the loop ---- */

static void finish(struct vaultask *v, const struct err *error)
{
    v->phase = ASK_DONE;
    if (error)
        err_copy(&v->error, error);
    pthread_cond_signal(&v->done);
}

static int start_call(struct vaultask *v, struct rpc_channel *channel, struct err *err)
{
    if (rpc_call_start(channel, v->path, clock_mono_usec() + (WAIT_SEC - 5) * USEC_PER_SEC, v->patience_usec == 0,
            &call_ops, v, &v->call, err) < 0)
        return -1;
    v->call_number = v->number;
    v->phase = ASK_CALLING;
    if (rpc_call_send(v->call, &v->request, err) < 0)
        rpc_call_cancel(v->call);
    else
        rpc_call_half_close(v->call);
    return 0;
}

/* Its waiter has gone. With the lock held. */
static bool is_stale(const struct vaultask *v)
{
    return v->call && v->call_number != v->number;
}

bool vaultask_wants_channel(struct vaultask *v)
{
    bool wants;

    pthread_mutex_lock(&v->lock);
    wants = (v->phase == ASK_ASKED && !v->call) || is_stale(v);
    pthread_mutex_unlock(&v->lock);
    return wants;
}

void vaultask_kick(struct vaultask *v, struct rpc_channel *channel)
{
    struct rpc_call *stale;
    struct err err = ERR_INIT;

    pthread_mutex_lock(&v->lock);
    stale = is_stale(v) ? v->call : NULL;
    pthread_mutex_unlock(&v->lock);
    if (stale)
        rpc_call_cancel(stale); /* on_end takes the lock */
    pthread_mutex_lock(&v->lock);
    if (v->phase == ASK_ASKED && !v->call) {
        if (!channel)
            err_set(&err, ERR_UNAVAILABLE, "there is no way to the vault now");
        else
            (void)start_call(v, channel, &err);
        if (err.code != ERR_NONE && v->phase == ASK_ASKED)
            finish(v, &err);
    }
    pthread_mutex_unlock(&v->lock);
}

static int keep(struct vaultask *v, struct buf *message, struct err *err)
{
    struct answer *a = message->len > VAULTASK_ANSWER_MAX - v->answer_bytes ? NULL : mem_new(struct answer);

    if (!a)
        return err_set(err, v->answer_bytes > 0 ? ERR_TOO_LARGE : ERR_NOMEM, "the vault's answer does not fit");
    buf_move(&a->bytes, message);
    v->answer_bytes += a->bytes.len;
    *v->last = a;
    v->last = &a->next;
    return 0;
}

static void on_message(struct rpc_call *call, void *arg, struct buf *message)
{
    struct vaultask *v = arg;
    struct err err = ERR_INIT;
    int r = 0;

    pthread_mutex_lock(&v->lock);
    if (v->phase == ASK_CALLING && v->call_number == v->number && (r = keep(v, message, &err)) < 0)
        finish(v, &err);
    pthread_mutex_unlock(&v->lock);
    if (r < 0)
        rpc_call_cancel(call);
}

static void on_end(struct rpc_call *call, void *arg, enum rpc_status status, const char *text)
{
    struct vaultask *v = arg;
    struct err err = ERR_INIT;

    (void)call;
    pthread_mutex_lock(&v->lock);
    v->call = NULL;
    if (v->phase == ASK_CALLING && v->call_number == v->number) {
        if (status != RPC_OK)
            err_set(&err, err_from_grpc_status((int)status), "asking the vault: %s", text ? text : "");
        finish(v, err.code == ERR_NONE ? NULL : &err);
    } else if (v->phase == ASK_ASKED) {
        v->to_loop(v->arg);
    }
    pthread_mutex_unlock(&v->lock);
}

void vaultask_stop(struct vaultask *v)
{
    pthread_mutex_lock(&v->lock);
    v->stopped = true;
    pthread_cond_broadcast(&v->done);
    pthread_mutex_unlock(&v->lock);
}

void vaultask_give_up(struct vaultask *v, bool on)
{
    pthread_mutex_lock(&v->lock);
    v->given_up = on;
    if (on)
        pthread_cond_broadcast(&v->done);
    pthread_mutex_unlock(&v->lock);
}
