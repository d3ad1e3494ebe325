/* SPDX-License-Identifier: Apache-2.0
 *
 * Copies of what another vault has of a machine (copypass.h): by the clock, as the desired state says and whether the hub is there or not (P9). Each
 * pass is a chain of jobs, in turn on a thread that may wait for the other vault and on the machine's lane; a copy that is large makes room for others
 * every few seconds, for the chain goes to the end of the queue.
 *
 * How fast it may come is the hub's to say: a pass that must wait rests, and no thread with it.
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
#include "transport/vault/vaultcopy_private.h"

#define THREADS 4u
#define JOBS_MAX 65536
#define AGAIN_USEC (5 * USEC_PER_SEC)    /* after a failure */
#define RESUME_USEC (10 * USEC_PER_MSEC) /* between two that rested */
#define HEAL_AGAIN_USEC (30 * USEC_PER_SEC)
#define HEAL_AGAIN_MAX_USEC (600 * USEC_PER_SEC)
#define PROGRESS_USEC (2 * USEC_PER_SEC)
#define BUSY_MAX 64u /* copies under way: what each holds in memory is a change set at most */

enum copy_step { COPY_LOAD, COPY_LOOK, COPY_BEGIN, COPY_GATHER, COPY_APPEND };

struct vaultcopy {
    struct vaultjob job; /* first */
    atomic_bool off;     /* the hub has taken it back, or it comes from elsewhere now */
    bool busy, wanted;
    enum copy_step step;
    struct ident vault; /* as the hub says */
    char endpoint[COPY_ENDPOINT_MAX];
    uint64_t interval_usec, due_usec; /* monotonic */
    struct copyflow flow;             /* what it owes to the pace */
    bool resting;                     /* until the pace lets it go on, */
    uint64_t rests_since_usec;        /* who has waited longest goes on first, */
    uint64_t rested_traffic_bytes;    /* counted from when it last came on */
    struct copy_source *source;       /* while busy */
    struct copy_ask *ask;
    struct copypass *pass;
    struct copy_damage *damage; /* that the pass is to mend */
    struct healpace heal;       /* when that is tried again */
    struct copy_held held;
    bool loaded;                        /* held is what the log has */
    struct copy_counts unnoted, counts; /* what passes that failed have left to count; all, as told */
    int more;
    bool
        behind; /* there is more to be taken at once: the pass has come to a point that is not the newest one there, or to none */
    unsigned permille;
    struct err trouble; /* why the last pass failed; code ERR_NONE: it did not */
    bool news;          /* the hub is to be told */
    uint64_t told_usec;
};

/* ---- start and end ---- */

static void resume(struct vaultd *d);

static void on_bell(void *arg)
{
    vaultcopysource_kick(arg);
    resume(arg);
}

static void on_timer(void *arg)
{
    resume(arg);
}

int vaultcopy_start(struct vaultd *d, struct err *err)
{
    copypace_init(&d->copy_pace);
    if (loop_bell_new(d->loop, on_bell, d, &d->copy_bell, err) < 0 ||
        loop_timer_new(d->loop, 0, 0, on_timer, d, &d->copy_timer, err) < 0)
        return -1;
    return worker_pool_new(d->loop, "copy", THREADS, JOBS_MAX, &d->copy_pool, err);
}

void vaultcopy_stop(struct vaultd *d)
{
    for (struct vmachine *vm = d->machines; vm != NULL; vm = vm->next)
        if (vm->copy != NULL)
            atomic_store(&vm->copy->off, true);
    vaultcopysource_stop(d);
}

void vaultcopy_free(struct vaultd *d)
{
    vaultcopysource_free(d);
    loop_timer_free(d->copy_timer);
    if (d->copy_bell != NULL)
        loop_bell_free(d->copy_bell);
    copypace_done(&d->copy_pace);
}

void vaultcopy_forget(struct vmachine *vm)
{
    if (vm->copy == NULL)
        return;
    copypass_free(vm->copy->pass);
    free(vm->copy->damage);
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
    status.taken_bytes = c->counts.taken_bytes;
    status.traffic_bytes = c->counts.traffic_bytes;
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
        return copy_held_count(s, &c->held, &c->unnoted, err);
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
    c->more = c->step == COPY_GATHER ? copypass_gather(c->pass, err) : copypass_look(c->pass, err);
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
    c->rests_since_usec = 0;
    d->copies_busy--;
    c->permille = 0;
    if (c->pass != NULL)
        c->unnoted = copypass_unnoted(c->pass);
    copypass_free(TAKE_PTR(c->pass));
    free(TAKE_PTR(c->damage));
    if (c->ask != NULL)
        c->ask->source = NULL;
    c->ask = NULL;
    if (c->source != NULL && !atomic_load(&c->off))
        c->source->away = err != NULL && (err->code == ERR_UNAVAILABLE || err->code == ERR_TIMEOUT);
    vaultcopysource_put(TAKE_PTR(c->source));
    if (err != NULL || atomic_load(&c->off)) /* what it came to may be another vault's */
        c->loaded = false;
    if (!c->wanted) {
        vaultcopy_forget(vm);
        return;
    }
    /* The other steps fail for want of the other vault's room or memory. */
    if (err != NULL && err->code == ERR_NOSPACE && (c->step == COPY_BEGIN || c->step == COPY_APPEND))
        vaultd_set_full(d, true);
    c->due_usec = now + (err != NULL && c->interval_usec < AGAIN_USEC ? AGAIN_USEC : c->behind ? 0 : c->interval_usec);
    c->behind = false;
    if (atomic_load(&c->off)) { /* it comes from elsewhere now */
        atomic_store(&c->off, false);
        c->due_usec = now;
    } else {
        tell_trouble(vm, err);
    }
}

/* What came is looked at by those who heal (vaultheal.c), who tell it. */
static void damage_mended(struct vmachine *vm)
{
    struct vaultcopy *c = vm->copy;
    c->behind = true;
    vm->healed_at_point = UINT64_MAX;
    log_event(
        LOG_INFO, "damage_asked_for", LOG_S("machine", vm->id_text), LOG_U("traffic_bytes", copypass_traffic(c->pass)));
}

static void point_made(struct vmachine *vm)
{
    struct vaultcopy *c = vm->copy;
    c->held = *copypass_held(c->pass);
    if (copypass_heals(c->pass)) {
        damage_mended(vm);
        return;
    }
    c->behind = copypass_is_behind(c->pass);
    log_event(LOG_INFO, "point_copied", LOG_S("machine", vm->id_text),
        LOG_U("source_sequence", c->held.source_sequence), LOG_U("sequence", c->held.sequence),
        LOG_U("traffic_bytes", copypass_traffic(c->pass)));
    vm->last_point = c->held.sequence > vm->last_point ? c->held.sequence : vm->last_point;
    if (!vm->syncing)
        vaultreport_sync(vm);
    tell(vm, 0);
}

/* What the newest content lacks, when it is time to ask for it: seldom, for the other vault may not have it either. *ret_count 0: nothing. */
static int find_damage(struct vmachine *vm, size_t *ret_count, struct err *err)
{
    struct vaultcopy *c = vm->copy;
    const struct quarantine *q = &vm->quarantine;
    uint64_t now = clock_mono_usec();
    *ret_count = 0;
    if (c->heal.due_usec != 0 && now < c->heal.due_usec)
        return 0;
    c->damage = mem_alloc(q->count + 1, sizeof(*c->damage));
    if (c->damage == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a copy");
    for (size_t i = 0; i < q->count; i++)
        if (q->items[i].now && q->items[i].state == QUARANTINE_DAMAGED && q->items[i].length > 0)
            c->damage[(*ret_count)++] = (struct copy_damage){
                .disk = q->items[i].disk, .start = q->items[i].start, .length = q->items[i].length};
    if (*ret_count > 0)
        healpace_wait(&c->heal, now, HEAL_AGAIN_USEC, HEAL_AGAIN_MAX_USEC);
    else
        healpace_rest(&c->heal);
    return 0;
}

static int pass_new(struct vmachine *vm, struct err *err)
{
    struct vaultcopy *c = vm->copy;
    size_t damage_count;
    if (find_damage(vm, &damage_count, err) < 0)
        return -1;
    const struct copypass_spec spec = {.damage = c->damage,
        .damage_count = damage_count,
        .ask = c->ask->ask,
        .machine = vm->id,
        .source = c->source->vault,
        .held = c->held,
        .unnoted = c->unnoted,
        .pace = &vm->d->copy_pace,
        .flow = &c->flow};
    c->loaded = true;
    return copypass_new(&spec, &c->pass, err);
}

/* Nothing of it is under way, and no thread waits: resume() goes on with it. */
static void rest(struct vmachine *vm)
{
    struct vaultcopy *c = vm->copy;
    uint64_t traffic = copypass_traffic(c->pass);
    if (c->rests_since_usec == 0 || traffic != c->rested_traffic_bytes)
        c->rests_since_usec = clock_mono_usec();
    c->rested_traffic_bytes = traffic;
    c->resting = true;
    vm->d->copies_resting++;
}

/* What follows upon the step that is done. 1: another step is under way, or it rests; 0: the pass is over. */
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
        if (c->more == 0) {
            rest(vm);
            return 1;
        }
        next = COPY_APPEND;
        break;
    case COPY_APPEND:
        c->counts = copypass_counts(c->pass);
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
    if (c->pass != NULL)
        c->counts = copypass_counts(c->pass);
    if (result <= 0)
        pass_end(vm, result < 0 ? &err : NULL);
    if (vm->d->copies_resting > 0) /* it has told the pace what it took */
        resume(vm->d);
}

/* ---- the desired state ---- */

static void set_readers(struct vmachine *vm, char *const *ids, size_t count)
{
    struct copy_reader before[READERS_MAX];
    unsigned before_count = vm->reader_count;
    memcpy(before, vm->readers, sizeof(before));
    vm->reader_count = 0;
    for (size_t i = 0; i < count && vm->reader_count < READERS_MAX; i++) {
        struct copy_reader *r = &vm->readers[vm->reader_count];
        *r = (struct copy_reader){.known_usec = clock_mono_usec()};
        if (ident_from_text(ids[i], &r->vault) < 0)
            continue;
        for (unsigned k = 0; k < before_count; k++)
            if (ident_equal(&before[k].vault, &r->vault))
                *r = before[k];
        vm->reader_count++;
    }
}

/* What is under way has nothing more to do. */
static void give_up(struct vaultcopy *c)
{
    atomic_store(&c->off, true);
    if (c->ask != NULL)
        vaultask_give_up(c->ask->ask, true);
    if (c->resting)
        vaultcopysource_ring(c->job.vm->d);
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
        strlen(m->copy_vault_endpoint) >= COPY_ENDPOINT_MAX) {
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

/* One that is being taken back is none any more: its points may be the machine's own line now, and are to be told as such. */
bool vaultcopy_is_copy(const struct vmachine *vm)
{
    return vm->copy != NULL && vm->copy->wanted;
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
    c->source = vaultcopysource_get(d, &c->vault, c->endpoint, &err);
    c->ask = c->source == NULL ? NULL : vaultcopysource_ask(d, c->source, &err);
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
    if (!vm->desired || c == NULL || c->busy || !c->wanted || now < c->due_usec)
        return false;
    const struct copy_source *source = vaultcopysource_find(vm->d, &c->vault, c->endpoint);
    return source == NULL || !source->away || source->refs == 0;
}

/* ---- the pace ---- */

void vaultcopy_throttle(struct vaultd *d, const Leeward__Control__V1__VaultDesired *desired)
{
    d->copy_rate = desired->throttle_bytes_per_sec;
    d->copy_work_rate = desired->work_throttle_bytes_per_sec;
    d->copy_flow_rate = desired->machine_throttle_bytes_per_sec;
    workhours_take(
        &d->copy_hours, desired->work_windows, desired->n_work_windows, desired->utc_offsets, desired->n_utc_offsets);
}

static void look_at_pace(struct vaultd *d)
{
    uint64_t rate = workhours_rate_at(&d->copy_hours, d->copy_rate, d->copy_work_rate, clock_utc_usec());
    if (!copypace_set(&d->copy_pace, rate, d->copy_flow_rate))
        return;
    for (struct vmachine *vm = d->machines; vm != NULL; vm = vm->next)
        if (vm->copy != NULL && (!vm->copy->busy || vm->copy->resting))
            vm->copy->flow = (struct copyflow){0};
    log_event(
        LOG_INFO, "copies_throttled", LOG_U("bytes_per_sec", rate), LOG_U("machine_bytes_per_sec", d->copy_flow_rate));
    resume(d);
}

/* The one that may go on now and has waited longest; NULL: none, *ret_due is when to look again (UINT64_MAX: when another rests). */
static struct vmachine *next_rested(struct vaultd *d, uint64_t now, uint64_t *ret_due)
{
    struct vmachine *next = NULL;
    *ret_due = UINT64_MAX;
    for (struct vmachine *vm = d->machines; vm != NULL; vm = vm->next) {
        const struct vaultcopy *c = vm->copy;
        if (c == NULL || !c->resting)
            continue;
        uint64_t due = atomic_load(&c->off) ? 0 : copypace_due(&d->copy_pace, &c->flow);
        if (due <= now && (next == NULL || c->rests_since_usec < next->copy->rests_since_usec))
            next = vm;
        *ret_due = due < *ret_due ? due : *ret_due;
    }
    return next;
}

/* One at a time: what it is granted tells when the next one may go, and the bell is rung then. */
static void resume(struct vaultd *d)
{
    uint64_t now = clock_mono_usec(), due;
    struct err err = ERR_INIT;
    if (d->stopping || d->copies_resting == 0)
        return;
    struct vmachine *vm = next_rested(d, now, &due);
    if (vm != NULL) {
        vm->copy->resting = false;
        d->copies_resting--;
        if (step_next(vm, COPY_GATHER, &err) < 0)
            pass_end(vm, &err);
        due = now + RESUME_USEC;
    }
    if (due != UINT64_MAX)
        loop_timer_set(d->copy_timer, due > now + RESUME_USEC ? due - now : RESUME_USEC);
}

/* ---- by the clock ---- */

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
    look_at_pace(d);
    vaultcopysource_tick(d, now);
    for (struct vmachine *vm = d->machines; up && vm != NULL; vm = vm->next)
        if (vm->desired && vm->copy != NULL && vm->copy->news && vm->copy->loaded)
            tell(vm, vm->copy->permille);
    if (!d->stopping && !d->full)
        begin_passes(d, now);
}
