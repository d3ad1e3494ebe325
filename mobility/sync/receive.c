/* SPDX-License-Identifier: Apache-2.0
 *
 * The thread waits for a command, opens the disks if it does not hold them for this failback already, and makes passes. The mutex guards the
 * command, its cancellation and the outputs; the disks and what they hold are the thread's alone.
 * Failure modes: a command that fails gives the disks back, so the next one begins with all of each disk; an agent that dies does the same.
 */
#include "mobility/sync/receive.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "mobility/sync/receive_disk.h"
#include "mobility/sync/receive_order.h"
#include "transport/base/clock.h"
#include "transport/base/log.h"
#include "transport/base/mem.h"
#include "transport/log/mark.h"

/* With the replica at work it is never done: good enough is what the last pass, for which the replica is down, has little to do with. */
#define PASSES_MAX 10u
#define LITTLE_BYTES (1u << 20)
#define OUTPUTS_MAX 16u
#define PROGRESS_USEC USEC_PER_SEC

struct receive {
    struct receive_conf conf;
    pthread_t thread;
    bool has_thread;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    struct receive_order order; /* command_id "": none */
    bool cancelled, release, stopping;
    struct receive_output outputs[OUTPUTS_MAX];
    unsigned output_count;
    /* The thread's. */
    struct receive_disk *disks[MARK_DISKS_MAX];
    unsigned disk_count;
    struct receive_order held; /* whose disks they are; receive_id "": none are held */
    uint64_t holds;            /* the point that all of them hold; 0: nobody knows */
    uint64_t told_usec;
};

/* ---- outputs ---- */

static void put(struct receive *r, const struct receive_output *o)
{
    pthread_mutex_lock(&r->lock);
    /* A progress that nobody took yet is of no use any more. */
    if (r->output_count > 0 && !r->outputs[r->output_count - 1].done)
        r->output_count--;
    if (r->output_count < OUTPUTS_MAX)
        r->outputs[r->output_count++] = *o;
    pthread_mutex_unlock(&r->lock);
    r->conf.to_loop(r->conf.arg);
}

bool receive_take(struct receive *r, struct receive_output *ret_output)
{
    bool got;

    pthread_mutex_lock(&r->lock);
    got = r->output_count > 0;
    if (got) {
        *ret_output = r->outputs[0];
        memmove(r->outputs, r->outputs + 1, --r->output_count * sizeof(r->outputs[0]));
    }
    pthread_mutex_unlock(&r->lock);
    return got;
}

/* With the lock held. A thread that waits for the vault must not wait on. */
static void set_cancelled(struct receive *r, bool on)
{
    r->cancelled = on;
    vaultask_give_up(r->conf.ask, on);
}

static bool is_cancelled(struct receive *r)
{
    bool cancelled;

    pthread_mutex_lock(&r->lock);
    cancelled = r->cancelled || r->stopping;
    pthread_mutex_unlock(&r->lock);
    return cancelled;
}

static bool goes_on(void *arg, uint64_t at_bytes, uint64_t size_bytes)
{
    struct receive *r = arg;
    struct receive_output o = {0};
    uint64_t now = clock_mono_usec();
    bool on;

    pthread_mutex_lock(&r->lock);
    on = !r->cancelled && !r->stopping;
    memcpy(o.command_id, r->order.command_id, sizeof(o.command_id));
    pthread_mutex_unlock(&r->lock);
    if (!on || now - r->told_usec < PROGRESS_USEC)
        return on;
    r->told_usec = now;
    o.permille = size_bytes > 0 ? (unsigned)((double)at_bytes / (double)size_bytes * 1000.0) : 0;
    snprintf(
        o.text, sizeof(o.text), "compared %" PRIu64 " of %" PRIu64 " MB", at_bytes / 1000000, size_bytes / 1000000);
    put(r, &o);
    return on;
}

/* ---- the disks ---- */

static void let_go(struct receive *r)
{
    for (unsigned i = 0; i < r->disk_count; i++)
        receive_disk_close(TAKE_PTR(r->disks[i]));
    if (r->disk_count > 0)
        log_event(LOG_INFO, "disks_given_back", LOG_S("receive", r->held.receive_id), LOG_U("point", r->holds));
    r->disk_count = 0;
    r->held.receive_id[0] = '\0';
    r->holds = 0;
}

static int take_disks(struct receive *r, const struct receive_order *o, struct err *err)
{
    if (r->disk_count > 0 && strcmp(r->held.receive_id, o->receive_id) == 0 && receive_order_same_disks(&r->held, o))
        return 0;
    let_go(r);
    for (unsigned i = 0; i < o->disk_count; i++) {
        if (receive_disk_open(o->disks[i].key, o->disks[i].number, &r->disks[i], err) < 0) {
            let_go(r);
            return -1;
        }
        r->disk_count++;
    }
    r->held = *o;
    return 0;
}

/* All disks are of one point: the newest is asked for once. */
static int look(struct receive *r, struct receive_pass *pass, struct err *err)
{
    for (unsigned i = 0; i < r->disk_count; i++)
        if (receive_disk_look(r->disks[i], pass, &pass->sequence, err) < 0)
            return -1;
    return 0;
}

static int one_pass(struct receive *r, struct receive_pass *pass, struct err *err)
{
    pass->after = r->holds;
    r->holds = 0;
    for (unsigned i = 0; i < r->disk_count; i++)
        if (receive_disk_pass(r->disks[i], pass, err) < 0)
            return -1;
    r->holds = pass->sequence;
    log_event(LOG_INFO, "disks_written", LOG_U("point", r->holds),
        LOG_U("compared_bytes", pass->figures->compared_bytes), LOG_U("written_bytes", pass->figures->written_bytes),
        LOG_U("traffic_bytes", pass->figures->traffic_bytes));
    return 0;
}

/* ---- commands ---- */

static int passes(struct receive *r, const struct receive_order *o, struct receive_figures *figures,
    unsigned *ret_count, struct err *err)
{
    uint64_t before = UINT64_MAX;

    for (*ret_count = 0; *ret_count < PASSES_MAX;) {
        uint64_t written = figures->written_bytes;
        struct receive_pass pass = {.ask = r->conf.ask,
            .machine = o->machine,
            .sequence = o->sequence,
            .figures = figures,
            .goes_on = goes_on,
            .arg = r};

        if (look(r, &pass, err) < 0)
            return -1;
        if (pass.sequence == r->holds)
            return 0;
        if (one_pass(r, &pass, err) < 0)
            return -1;
        written = figures->written_bytes - written;
        ++*ret_count;
        if (o->sequence > 0 || (*ret_count > 1 && (written <= LITTLE_BYTES || written >= before)))
            return 0;
        before = written;
    }
    return 0;
}

static int check_only(struct receive *r, const struct receive_order *o, struct err *err)
{
    struct receive_figures figures = {0};
    uint32_t numbers[MARK_DISKS_MAX];
    struct receive_pass pass = {
        .ask = r->conf.ask, .machine = o->machine, .sequence = o->sequence, .figures = &figures};

    for (unsigned i = 0; i < o->disk_count; i++)
        numbers[i] = o->disks[i].number;
    if (o->sequence > 0) { /* that one and no other: all of it is wanted */
        pass.numbers = numbers;
        pass.number_count = o->disk_count;
    }
    return look(r, &pass, err);
}

static int work(struct receive *r, const struct receive_order *o, struct receive_output *out, struct err *err)
{
    struct receive_figures figures = {0};
    unsigned count = 0;

    if (o->release) {
        if (strcmp(r->held.receive_id, o->receive_id) == 0)
            let_go(r);
        return 0;
    }
    if (is_cancelled(r))
        return err_set(err, ERR_CANCELLED, "the writing of the disks was cancelled");
    if (take_disks(r, o, err) < 0)
        return -1;
    if (o->check_only) {
        int rc = check_only(r, o, err);

        let_go(r);
        return rc;
    }
    if (passes(r, o, &figures, &count, err) < 0) {
        let_go(r);
        return -1;
    }
    snprintf(out->json, sizeof(out->json),
        "{\"sequence\": \"%" PRIu64 "\", \"passes\": %u, \"compared_bytes\": \"%" PRIu64
        "\", \"written_bytes\": \"%" PRIu64 "\", \"traffic_bytes\": \"%" PRIu64 "\"}",
        r->holds, count, figures.compared_bytes, figures.written_bytes, figures.traffic_bytes);
    if (!o->last)
        return 0;
    for (unsigned i = 0; i < r->disk_count; i++)
        receive_disk_reread(r->disks[i]);
    let_go(r);
    return 0;
}

/* ---- the thread ---- */

static void do_order(struct receive *r, const struct receive_order *o)
{
    struct receive_output out = {.done = true, .json = "{}"};

    memcpy(out.command_id, o->command_id, sizeof(out.command_id));
    if (work(r, o, &out, &out.error) < 0)
        log_event(LOG_WARN, "receive_failed", LOG_S("command", o->command_id), LOG_E(&out.error));
    pthread_mutex_lock(&r->lock);
    set_cancelled(r, false);
    r->order.command_id[0] = '\0';
    pthread_mutex_unlock(&r->lock);
    put(r, &out);
}

static void *receive_main(void *arg)
{
    struct receive *r = arg;
    AUTO_FREE struct receive_order *o = mem_new(struct receive_order);

    pthread_mutex_lock(&r->lock);
    while (o && !r->stopping) {
        if (r->order.command_id[0]) {
            *o = r->order;
            pthread_mutex_unlock(&r->lock);
            do_order(r, o);
            pthread_mutex_lock(&r->lock);
        } else if (r->release) {
            r->release = false;
            pthread_mutex_unlock(&r->lock);
            let_go(r);
            pthread_mutex_lock(&r->lock);
        } else {
            pthread_cond_wait(&r->cond, &r->lock);
        }
    }
    pthread_mutex_unlock(&r->lock);
    let_go(r);
    return NULL;
}

int receive_new(const struct receive_conf *conf, struct receive **ret_receive, struct err *err)
{
    struct receive *r = mem_new(struct receive);
    int rc;

    if (!r)
        return err_set(err, ERR_NOMEM, "no memory to write disks");
    r->conf = *conf;
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->cond, NULL);
    rc = pthread_create(&r->thread, NULL, receive_main, r);
    if (rc != 0) {
        receive_free(r);
        return err_sys(err, rc, "starting a thread");
    }
    r->has_thread = true;
    (void)pthread_setname_np(r->thread, "receive");
    *ret_receive = r;
    return 0;
}

void receive_free(struct receive *r)
{
    if (!r)
        return;
    pthread_mutex_lock(&r->lock);
    r->stopping = true;
    pthread_cond_signal(&r->cond);
    pthread_mutex_unlock(&r->lock);
    vaultask_stop(r->conf.ask);
    if (r->has_thread)
        pthread_join(r->thread, NULL);
    pthread_cond_destroy(&r->cond);
    pthread_mutex_destroy(&r->lock);
    free(r);
}

/* ---- the loop's side ---- */

int receive_command(
    struct receive *r, const char *command_id, const Leeward__Control__V1__ReceiveDisks *command, struct err *err)
{
    AUTO_FREE struct receive_order *o = mem_new(struct receive_order);
    int rc = 0;

    if (!o)
        return err_set(err, ERR_NOMEM, "no memory for a command");
    if (receive_order_read(command_id, command, o, err) < 0)
        return -1;
    if (ident_is_zero(&o->machine))
        o->machine = r->conf.machine;
    pthread_mutex_lock(&r->lock);
    if (!r->order.command_id[0]) {
        r->order = *o;
        set_cancelled(r, false);
        pthread_cond_signal(&r->cond);
    } else if (strcmp(r->order.command_id, command_id) != 0) {
        /* The one that is under way is given up by whoever wants its disks back: a release that comes late, of another job, is not about them. */
        if (o->release && strcmp(r->order.receive_id, o->receive_id) == 0)
            set_cancelled(r, true);
        err_set(err, ERR_CONFLICT, "the disks of this machine are being written");
        rc = err_hint(err, "Wait for that, or cancel it.");
    }
    pthread_mutex_unlock(&r->lock);
    return rc;
}

int receive_cancel(struct receive *r, const char *command_id)
{
    int found;

    pthread_mutex_lock(&r->lock);
    found = r->order.command_id[0] && strcmp(r->order.command_id, command_id) == 0;
    if (found)
        set_cancelled(r, true);
    pthread_mutex_unlock(&r->lock);
    return found;
}

void receive_release(struct receive *r)
{
    pthread_mutex_lock(&r->lock);
    r->release = true;
    if (r->order.command_id[0])
        set_cancelled(r, true); /* also one that the thread has not begun yet */
    pthread_cond_signal(&r->cond);
    pthread_mutex_unlock(&r->lock);
}
