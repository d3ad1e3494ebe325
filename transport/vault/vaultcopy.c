/* SPDX-License-Identifier: Apache-2.0
 *
 * Copies of what another vault has of a machine (copypass.h): by the clock, as the desired state says and whether the hub is there or not (P9). Each
 * pass is a chain of jobs, in turn on a thread that may wait for the other vault and on the machine's lane; a copy that is large makes room for others
 * every few seconds, for the chain goes to the end of the queue.
 *
 * Failure modes: another vault that is away, a full disk or damage there ends the pass; the hub is told why, and it is tried again. A copy that the hub
 * takes back touches the store no more from that moment on, so it may be erased.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "transport/base/clock.h"
#include "transport/base/log.h"
#include "transport/vault/copypass.h"
#include "transport/vault/vaultd_private.h"

#define THREADS 4u
#define JOBS_MAX 65536
#define AGAIN_USEC (5 * USEC_PER_SEC) /* after a failure */
#define PROGRESS_USEC (2 * USEC_PER_SEC)
#define ENDPOINT_MAX 256u
#define BUSY_MAX 64u /* copies under way: what each holds in memory is a change set at most */

/* Another vault, and the connection to it. */
struct copy_source {
    struct copy_source *next;
    struct ident vault;
    char endpoint[ENDPOINT_MAX];
    unsigned refs;
    struct rpc_channel *channel;
};

/* Calls of one pass at a time. They outlive the channels: a call that was given up may end late. */
struct copy_ask {
    struct copy_ask *next;
    struct vaultask *ask;
    struct copy_source *source; /* of the pass that has it; NULL: nobody has */
};

enum copy_step { COPY_LOAD, COPY_LOOK, COPY_BEGIN, COPY_GATHER, COPY_APPEND };

struct vaultcopy {
    struct vaultjob job; /* first */
    atomic_bool off;     /* the hub has taken it back, or it comes from elsewhere now */
    bool busy, wanted;
    enum copy_step step;
    struct ident vault; /* as the hub says */
    char endpoint[ENDPOINT_MAX];
    uint64_t interval_usec, due_usec; /* monotonic */
    struct copy_source *source;       /* while busy */
    struct copy_ask *ask;
    struct copypass *pass;
    struct copy_held held;
    bool loaded; /* held is what the log has */
    int more;
    unsigned permille;
    struct err trouble; /* why the last pass failed; code ERR_NONE: it did not */
    bool news;          /* the hub is to be told */
    uint64_t told_usec;
};

/* ---- other vaults ---- */

static void source_put(struct vaultd *d, struct copy_source *source)
{
    struct copy_source **link = &d->copy_sources;
    if (source == NULL || --source->refs > 0)
        return;
    while (*link != source)
        link = &(*link)->next;
    *link = source->next;
    rpc_channel_free(source->channel);
    free(source);
}

static struct copy_source *source_get(
    struct vaultd *d, const struct ident *vault, const char *endpoint, struct err *err)
{
    struct copy_source *s = d->copy_sources;
    while (s != NULL && (!ident_equal(&s->vault, vault) || strcmp(s->endpoint, endpoint) != 0))
        s = s->next;
    if (s != NULL) {
        s->refs++;
        return s;
    }
    s = mem_new(struct copy_source);
    if (s == NULL) {
        (void)err_set(err, ERR_NOMEM, "no memory for a copy");
        return NULL;
    }
    s->vault = *vault;
    s->refs = 1;
    (void)snprintf(s->endpoint, sizeof(s->endpoint), "%s", endpoint);
    if (rpc_channel_new(d->loop, endpoint, d->conf.client_tls, "vault", vault, NULL, &s->channel, err) < 0) {
        free(s);
        return NULL;
    }
    s->next = d->copy_sources;
    d->copy_sources = s;
    return s;
}

static void ring(void *arg)
{
    loop_bell_post(((struct vaultd *)arg)->copy_bell);
}

static void on_bell(void *arg)
{
    struct vaultd *d = arg;
    for (struct copy_ask *a = d->copy_asks; a != NULL; a = a->next)
        if (vaultask_wants_channel(a->ask))
            vaultask_kick(a->ask, a->source == NULL ? NULL : a->source->channel);
}

static struct copy_ask *ask_get(struct vaultd *d, struct copy_source *source, struct err *err)
{
    struct copy_ask *a = d->copy_asks;
    while (a != NULL && a->source != NULL)
        a = a->next;
    if (a == NULL) {
        a = mem_new(struct copy_ask);
        if (a == NULL || vaultask_new(ring, d, false, &a->ask, err) < 0) {
            if (a == NULL)
                (void)err_set(err, ERR_NOMEM, "no memory for a copy");
            free(a);
            return NULL;
        }
        a->next = d->copy_asks;
        d->copy_asks = a;
    }
    a->source = source;
    vaultask_give_up(a->ask, false);
    return a;
}

int vaultcopy_start(struct vaultd *d, struct err *err)
{
    if (loop_bell_new(d->loop, on_bell, d, &d->copy_bell, err) < 0)
        return -1;
    return worker_pool_new(d->loop, "copy", THREADS, JOBS_MAX, &d->copy_pool, err);
}

void vaultcopy_stop(struct vaultd *d)
{
    for (struct vmachine *vm = d->machines; vm != NULL; vm = vm->next)
        if (vm->copy != NULL)
            atomic_store(&vm->copy->off, true);
    for (struct copy_ask *a = d->copy_asks; a != NULL; a = a->next)
        vaultask_stop(a->ask);
}

void vaultcopy_free(struct vaultd *d)
{
    while (d->copy_sources != NULL) {
        d->copy_sources->refs = 1;
        source_put(d, d->copy_sources);
    }
    while (d->copy_asks != NULL) {
        struct copy_ask *a = d->copy_asks;
        d->copy_asks = a->next;
        vaultask_free(a->ask);
        free(a);
    }
    if (d->copy_bell != NULL)
        loop_bell_free(d->copy_bell);
}

void vaultcopy_forget(struct vmachine *vm)
{
    if (vm->copy == NULL)
        return;
    copypass_free(vm->copy->pass);
    free(vm->copy);
    vm->copy = NULL;
}

/* ---- what the hub is told ---- */

static void tell(struct vmachine *vm, unsigned permille)
{
    struct vaultcopy *c = vm->copy;
    Leeward__Control__V1__CopyStatus status = LEEWARD__CONTROL__V1__COPY_STATUS__INIT;
    Leeward__Control__V1__Report report = LEEWARD__CONTROL__V1__REPORT__INIT;
    char source[IDENT_TEXT_SIZE];
    struct err err = ERR_INIT;
    c->news = true;
    if (vm->d->session == NULL)
        return;
    ident_to_text(&c->vault, source);
    status.machine_id = vm->id_text;
    status.source_vault_id = source;
    if (c->held.known) {
        status.source_sequence = c->held.source_sequence;
        status.point_utc_usec = c->held.time_utc_usec;
        status.sequence = c->held.sequence;
    }
    status.taken_bytes = c->held.taken_bytes;
    status.traffic_bytes = c->held.traffic_bytes;
    status.progress_permille = permille;
    status.cause = c->trouble.text;
    status.remedy = c->trouble.correction;
    report.kind_case = LEEWARD__CONTROL__V1__REPORT__KIND_COPY_STATUS;
    report.copy_status = &status;
    c->told_usec = clock_mono_usec();
    if (session_report(vm->d->session, &report, &err) > 0)
        c->news = false;
}

/* An event once, and once when it is over. */
static void tell_trouble(struct vmachine *vm, const struct err *err)
{
    struct vaultcopy *c = vm->copy;
    bool fails = err != NULL, failed = c->trouble.code != ERR_NONE;
    if (fails)
        c->trouble = *err;
    else
        err_clear(&c->trouble);
    if (fails != failed) {
        if (fails)
            log_event(LOG_WARN, "copy_failed", LOG_S("machine", vm->id_text), LOG_E(err));
        else
            log_event(LOG_INFO, "copy_goes_on", LOG_S("machine", vm->id_text));
        if (vm->d->session != NULL)
            session_event(vm->d->session, fails ? "warning" : "info", fails ? "copy_failed" : "copy_goes_on",
                vm->id_text, fails ? err->correction : "",
                fails ? err->text : "The copy of the machine's points goes on.");
    }
    if (fails || failed)
        tell(vm, 0);
}

/* ---- steps ---- */

static int run_lane(struct vaultcopy *c, struct err *err)
{
    struct vmachine *vm = c->job.vm;
    struct store *s;
    if (atomic_load(&c->off))
        return err_set(err, ERR_CANCELLED, "the copy was ended");
    if (vmachine_store(vm, &s, err) < 0)
        return -1;
    if (c->step == COPY_LOAD) {
        copy_held_load(s, &c->source->vault, &c->held);
        return 0;
    }
    if (c->step == COPY_BEGIN) {
        vm->lane_token = 0;
        return copypass_begin(c->pass, s, err);
    }
    c->more = copypass_append(c->pass, s, err);
    return c->more < 0 ? -1 : 0;
}

static int run_waiting(struct vaultcopy *c, struct err *err)
{
    if (atomic_load(&c->off))
        return err_set(err, ERR_CANCELLED, "the copy was ended");
    if (c->step == COPY_GATHER)
        return copypass_gather(c->pass, err);
    c->more = copypass_look(c->pass, err);
    return c->more < 0 ? -1 : 0;
}

static int step_run(struct vaultjob *job, struct err *err)
{
    struct vaultcopy *c = (struct vaultcopy *)job;
    return c->step == COPY_LOOK || c->step == COPY_GATHER ? run_waiting(c, err) : run_lane(c, err);
}

static void step_done(struct vaultjob *job);

static int step_next(struct vmachine *vm, enum copy_step step, struct err *err)
{
    struct vaultcopy *c = vm->copy;
    c->step = step;
    c->job.run = step_run;
    c->job.done = step_done;
    return step == COPY_LOOK || step == COPY_GATHER ? vaultjob_copy(vm->d, vm, &c->job, err)
                                                    : vaultjob_lane(vm, &c->job, err);
}

static void pass_end(struct vmachine *vm, const struct err *err)
{
    struct vaultcopy *c = vm->copy;
    struct vaultd *d = vm->d;
    uint64_t now = clock_mono_usec();
    c->busy = false;
    d->copies_busy--;
    c->permille = 0;
    copypass_free(TAKE_PTR(c->pass));
    if (c->ask != NULL)
        c->ask->source = NULL;
    c->ask = NULL;
    source_put(d, TAKE_PTR(c->source));
    if (err != NULL)
        c->loaded = false;
    if (!c->wanted) {
        vaultcopy_forget(vm);
        return;
    }
    if (err != NULL && err->code == ERR_NOSPACE)
        vaultd_set_full(d, true);
    c->due_usec = now + (err != NULL && c->interval_usec < AGAIN_USEC ? AGAIN_USEC : c->interval_usec);
    if (atomic_load(&c->off)) { /* it comes from elsewhere now */
        atomic_store(&c->off, false);
        c->due_usec = now;
    } else {
        tell_trouble(vm, err);
    }
}

static void point_made(struct vmachine *vm)
{
    struct vaultcopy *c = vm->copy;
    c->held = *copypass_held(c->pass);
    log_event(LOG_INFO, "point_copied", LOG_S("machine", vm->id_text),
        LOG_U("source_sequence", c->held.source_sequence), LOG_U("sequence", c->held.sequence),
        LOG_U("traffic_bytes", copypass_traffic(c->pass)));
    vm->last_point = c->held.sequence > vm->last_point ? c->held.sequence : vm->last_point;
    if (!vm->syncing)
        vaultreport_sync(vm);
    tell(vm, 0);
}

static int pass_new(struct vmachine *vm, struct err *err)
{
    struct vaultcopy *c = vm->copy;
    const struct copypass_spec spec = {
        .ask = c->ask->ask, .machine = vm->id, .source = c->source->vault, .held = c->held};
    c->loaded = true;
    return copypass_new(&spec, &c->pass, err);
}

/* What follows upon the step that is done. 1: another step is under way; 0: the pass is over. */
static int follow_up(struct vmachine *vm, struct err *err)
{
    struct vaultcopy *c = vm->copy;
    enum copy_step next = COPY_LOOK;
    switch (c->step) {
    case COPY_LOAD:
        if (pass_new(vm, err) < 0)
            return -1;
        break;
    case COPY_LOOK:
        if (c->more == 0)
            return 0;
        next = COPY_BEGIN;
        break;
    case COPY_GATHER:
        next = COPY_APPEND;
        break;
    case COPY_APPEND:
        if (c->more == 0) {
            point_made(vm);
            return 0;
        }
        atomic_store_explicit(&vm->d->ingest_usec, clock_mono_usec(), memory_order_relaxed);
        c->permille = copypass_permille(c->pass);
        if (clock_mono_usec() - c->told_usec >= PROGRESS_USEC)
            tell(vm, c->permille);
        next = COPY_GATHER;
        break;
    default:
        next = COPY_GATHER;
    }
    return step_next(vm, next, err) < 0 ? -1 : 1;
}

static void step_done(struct vaultjob *job)
{
    struct vaultcopy *c = (struct vaultcopy *)job;
    struct vmachine *vm = job->vm;
    struct err err = job->err;
    if (vm->d->stopping) {
        c->busy = false;
        return;
    }
    int result = job->result < 0 ? -1 : follow_up(vm, &err);
    if (result <= 0)
        pass_end(vm, result < 0 ? &err : NULL);
}

/* ---- the desired state ---- */

static void set_readers(struct vmachine *vm, char *const *ids, size_t count)
{
    vm->reader_count = 0;
    for (size_t i = 0; i < count && vm->reader_count < READERS_MAX; i++)
        if (ident_from_text(ids[i], &vm->readers[vm->reader_count]) == 0)
            vm->reader_count++;
}

/* What is under way has nothing more to do. */
static void give_up(struct vaultcopy *c)
{
    atomic_store(&c->off, true);
    if (c->ask != NULL)
        vaultask_give_up(c->ask->ask, true);
}

void vaultcopy_unset(struct vmachine *vm)
{
    vm->reader_count = 0;
    if (vm->copy == NULL)
        return;
    vm->copy->wanted = false;
    if (vm->copy->busy)
        give_up(vm->copy);
    else
        vaultcopy_forget(vm);
}

void vaultcopy_set(struct vmachine *vm, const Leeward__Control__V1__VaultMachine *m)
{
    struct ident vault;
    struct vaultcopy *c = vm->copy;
    if (m->copy_vault_id[0] == '\0' || ident_from_text(m->copy_vault_id, &vault) < 0 ||
        strlen(m->copy_vault_endpoint) >= ENDPOINT_MAX) {
        vaultcopy_unset(vm);
        set_readers(vm, m->reader_vault_ids, m->n_reader_vault_ids);
        return;
    }
    set_readers(vm, m->reader_vault_ids, m->n_reader_vault_ids);
    if (c == NULL)
        c = vm->copy = mem_new(struct vaultcopy);
    if (c == NULL)
        return;
    bool same = ident_equal(&c->vault, &vault) && strcmp(c->endpoint, m->copy_vault_endpoint) == 0;
    c->vault = vault;
    (void)snprintf(c->endpoint, sizeof(c->endpoint), "%s", m->copy_vault_endpoint);
    c->interval_usec = m->copy_interval_usec > USEC_PER_SEC ? m->copy_interval_usec : USEC_PER_SEC;
    if (c->busy && (!same || !c->wanted))
        give_up(c);
    if (!same)
        c->loaded = false;
    if (!same || !c->wanted)
        c->due_usec = 0;
    c->wanted = true;
    c->news = true;
    if (vm->stream != NULL) {
        struct err why = ERR_INIT;
        (void)err_set(
            &why, ERR_REFUSED, "this vault has a copy of the machine's points: it is replicated to another one");
        replicate_refuse(vm->stream, &why);
    }
}

void vaultcopy_forget_told(struct vaultd *d)
{
    for (struct vmachine *vm = d->machines; vm != NULL; vm = vm->next)
        if (vm->copy != NULL)
            vm->copy->news = true;
}

static void pass_begin(struct vmachine *vm)
{
    struct vaultcopy *c = vm->copy;
    struct vaultd *d = vm->d;
    struct err err = ERR_INIT;
    c->busy = true;
    d->copies_busy++;
    c->source = source_get(d, &c->vault, c->endpoint, &err);
    c->ask = c->source == NULL ? NULL : ask_get(d, c->source, &err);
    int result = c->ask == NULL ? -1 : 0;
    if (result == 0 && c->loaded)
        result = pass_new(vm, &err) < 0 ? -1 : step_next(vm, COPY_LOOK, &err);
    else if (result == 0)
        result = step_next(vm, COPY_LOAD, &err);
    if (result < 0)
        pass_end(vm, &err);
}

static bool is_due(const struct vmachine *vm, uint64_t now)
{
    const struct vaultcopy *c = vm->copy;
    return vm->desired && c != NULL && !c->busy && c->wanted && now >= c->due_usec;
}

/* Begins where it left off, so that each has its turn. */
static void begin_passes(struct vaultd *d, uint64_t now)
{
    struct vmachine *first = d->copy_last == NULL || d->copy_last->next == NULL ? d->machines : d->copy_last->next;
    struct vmachine *vm = first;
    while (vm != NULL && d->copies_busy < BUSY_MAX) {
        if (is_due(vm, now)) {
            d->copy_last = vm;
            pass_begin(vm);
        }
        vm = vm->next == NULL ? d->machines : vm->next;
        if (vm == first)
            return;
    }
}

void vaultcopy_tick(struct vaultd *d, uint64_t now)
{
    bool up = d->session != NULL && session_is_up(d->session);
    for (struct vmachine *vm = d->machines; up && vm != NULL; vm = vm->next)
        if (vm->desired && vm->copy != NULL && vm->copy->news && vm->copy->loaded)
            tell(vm, vm->copy->permille);
    if (!d->stopping && !d->full)
        begin_passes(d, now);
}
