/* SPDX-License-Identifier: Apache-2.0
 *
 * Copies of what another vault has of a machine (copypass.h): by the clock, as the desired state says and whether the hub is there or not (P9). Each
 * pass is a chain of jobs, in turn on a thread that may wait for the other vault and on the machine's lane. Between two of them it waits for its turn
 * (copyturn.h), and no thread with it: how fast copies may come is the hub's to say, and one that is large gives way to others every few seconds.
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

#define THREADS 5u
#define JOBS_MAX 65536
#define PLACES 64u       /* passes that hold what they need: a change set at most, and some open files; */
#define SHORT_PLACES 16u /* of these never a long one's */
#define PASSES_MAX 2048u /* those without a place hold less than 100 KiB as a rule */
/* What a pass that is not long may have before the others: a second of the line. */
#define CREDIT_BYTES (16u << 20)
#define CREDIT_BYTES_MIN (256u << 10)
/* Under a bound for all: from one gather to the next, for by then it has told what it is granted. */
#define GATHER_USEC (10 * USEC_PER_MSEC)
#define AGAIN_USEC (5 * USEC_PER_SEC) /* after a failure */
#define HEAL_AGAIN_USEC (30 * USEC_PER_SEC)
#define HEAL_AGAIN_MAX_USEC (600 * USEC_PER_SEC)
#define PROGRESS_USEC (2 * USEC_PER_SEC)

/* ---- start and end ---- */

static void go_on(struct vaultd *d);

static void on_bell(void *arg)
{
    vaultcopysource_kick(arg);
    go_on(arg);
}

static void on_timer(void *arg)
{
    go_on(arg);
}

int vaultcopy_start(struct vaultd *d, struct err *err)
{
    copypace_init(&d->copy_pace);
    copyturns_init(&d->copy_turns, THREADS, PLACES, SHORT_PLACES);
    d->copy_turns.credit_bytes = CREDIT_BYTES;
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
    if (c->step == COPY_RETURN)
        return copypass_return(c->pass, s, err);
    if (c->step == COPY_OFFER_BEGIN)
        return copypass_offer_begin(c->pass, s, err);
    c->more = copypass_append(c->pass, s, err);
    return c->more < 0 ? -1 : 0;
}

static int run_waiting(struct vaultcopy *c, struct err *err)
{
    if (atomic_load(&c->off))
        return err_set(err, ERR_CANCELLED, "the copy was ended");
    c->more = c->step == COPY_GATHER ? copypass_gather(c->pass, err)
              : c->step == COPY_LOOK ? copypass_look(c->pass, err)
                                     : copypass_offer(c->pass, err);
    return c->more < 0 ? -1 : 0;
}

static bool may_wait(enum copy_step step)
{
    return step == COPY_LOOK || step == COPY_GATHER || step == COPY_OFFER;
}

static int step_run(struct vaultjob *job, struct err *err)
{
    struct vaultcopy *c = (struct vaultcopy *)job;
    return may_wait(c->step) ? run_waiting(c, err) : run_lane(c, err);
}

static void step_done(struct vaultjob *job);

static int step_start(struct vmachine *vm, struct err *err)
{
    struct vaultcopy *c = vm->copy;
    c->job.run = step_run;
    c->job.done = step_done;
    return may_wait(c->step) ? vaultjob_copy(vm->d, vm, &c->job, err) : vaultjob_lane(vm, &c->job, err);
}

/* Others wait for the place of one that has had it for long: it goes on from where it is, later. */
static bool gives_way(struct vmachine *vm)
{
    struct vaultcopy *c = vm->copy;
    if (!copyturn_yields(&vm->d->copy_turns, &c->turn, clock_mono_usec()))
        return false;
    if (!copypass_park(c->pass)) {
        copypass_hurry(c->pass);
        return false;
    }
    copyturn_leave(&vm->d->copy_turns, &c->turn);
    return true;
}

/* It begins at once, or waits for its turn. */
static int step_next(struct vmachine *vm, enum copy_step step, struct err *err)
{
    struct vaultcopy *c = vm->copy;
    static const enum copyturn_want wants[] = {[COPY_LOOK] = COPYTURN_LOOK,
        [COPY_BEGIN] = COPYTURN_PLACE,
        [COPY_RETURN] = COPYTURN_PLACE,
        [COPY_OFFER_BEGIN] = COPYTURN_PLACE,
        [COPY_OFFER] = COPYTURN_GATHER,
        [COPY_GATHER] = COPYTURN_GATHER};
    c->step = step == COPY_GATHER && gives_way(vm) ? COPY_RETURN : step;
    if (c->step == COPY_LOAD || c->step == COPY_APPEND)
        return step_start(vm, err);
    c->waits = true;
    copyturn_wait(&vm->d->copy_turns, &c->turn, wants[c->step], 0, clock_mono_usec());
    return 0;
}

static void note_source(struct copy_source *source, const struct err *err, uint64_t now)
{
    source->turn.away = err != NULL && (err->code == ERR_UNAVAILABLE || err->code == ERR_TIMEOUT);
    if (!source->turn.away)
        return;
    source->away_usec = now;
    source->why = *err;
}

static void pass_end(struct vmachine *vm, const struct err *err)
{
    struct vaultcopy *c = vm->copy;
    struct vaultd *d = vm->d;
    uint64_t now = clock_mono_usec();
    c->busy = false;
    copyturn_leave(&d->copy_turns, &c->turn);
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
        note_source(c->source, err, now);
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
    c->charged_bytes = 0;
    return copypass_new(&spec, &c->pass, err);
}

/* Is what the other vault lacks to be sent instead of going on? At once when it is new, then ever more seldom: the copy may not have it either. */
static bool offers_now(struct vaultcopy *c)
{
    uint64_t lacks = copypass_lacks_there(c->pass), now = clock_mono_usec();
    if (lacks == 0 || lacks > c->lacked_there)
        healpace_rest(&c->offer);
    c->lacked_there = lacks;
    if (lacks == 0 || (c->offer.due_usec != 0 && now < c->offer.due_usec))
        return false;
    healpace_wait(&c->offer, now, HEAL_AGAIN_USEC, HEAL_AGAIN_MAX_USEC);
    return true;
}

/* The pass that was put off comes next. */
static void offered(struct vmachine *vm)
{
    struct vaultcopy *c = vm->copy;
    c->behind = true;
    log_event(LOG_INFO, "damage_offered", LOG_S("machine", vm->id_text), LOG_U("lacked", c->lacked_there),
        LOG_U("mended", copypass_mended(c->pass)), LOG_U("traffic_bytes", copypass_traffic(c->pass)));
}

/* What follows upon the step that is done. 1: there is another step; 0: the pass is over. */
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
        if (offers_now(c)) {
            next = COPY_OFFER_BEGIN;
            break;
        }
        if (c->more == 0)
            return 0;
        c->turn.is_long = copypass_is_whole(c->pass);
        next = COPY_BEGIN;
        break;
    case COPY_GATHER:
        next = c->more == 0 ? COPY_GATHER : COPY_APPEND;
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
    case COPY_OFFER:
        if (c->more == 0) {
            offered(vm);
            return 0;
        }
        next = COPY_OFFER;
        break;
    case COPY_OFFER_BEGIN:
        next = COPY_OFFER;
        break;
    default:
        next = COPY_GATHER;
    }
    return step_next(vm, next, err) < 0 ? -1 : 1;
}

/* Its thread is free. A vault from which something came is there. */
static void turn_done(struct vmachine *vm)
{
    struct vaultcopy *c = vm->copy;
    uint64_t bytes = copypass_traffic(c->pass) - c->charged_bytes;
    c->charged_bytes += bytes;
    copyturn_done(&vm->d->copy_turns, &c->turn, bytes);
    if (bytes > 0 && c->job.result == 0)
        c->source->turn.away = false;
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
    if (may_wait(c->step))
        turn_done(vm);
    int result = job->result < 0 ? -1 : follow_up(vm, &err);
    if (c->pass != NULL)
        c->counts = copypass_counts(c->pass);
    if (result <= 0)
        pass_end(vm, result < 0 ? &err : NULL);
    go_on(vm->d);
}

/* ---- turns ---- */

static struct vaultcopy *copy_of(struct copyturn *t)
{
    return (struct vaultcopy *)(void *)((char *)t - offsetof(struct vaultcopy, turn));
}

/* Why it need not wait any longer; NULL: it does. Who waits for a vault that was seen to be away would only find out the same. */
static const struct err *is_futile(const struct vaultcopy *c, const struct err *given_up)
{
    const struct copy_source *s = c->source;
    if (atomic_load(&c->off))
        return given_up;
    return c->step == COPY_LOOK && s->turn.away && c->turn.since_usec <= s->away_usec ? &s->why : NULL;
}

static void look_at_waiting(struct vaultd *d)
{
    struct err given_up = ERR_INIT;
    (void)err_set(&given_up, ERR_CANCELLED, "the copy was ended");
    for (struct copyturn *t = d->copy_turns.waiting, *next; t != NULL; t = next) {
        struct vaultcopy *c = copy_of(t);
        const struct err *why = is_futile(c, &given_up);
        next = t->next;
        t->due_usec = t->want == COPYTURN_GATHER ? copypace_due(&d->copy_pace, &c->flow) : 0;
        if (why == NULL)
            continue;
        struct err err = *why;
        copyturn_forget(&d->copy_turns, t);
        c->waits = false;
        pass_end(c->job.vm, &err);
    }
}

/* Those whose turn it is go on. */
static void go_on(struct vaultd *d)
{
    uint64_t now = clock_mono_usec(), due = UINT64_MAX, spaced = 0;
    struct copyturn *t = NULL;
    if (d->stopping || d->copy_turns.waiting == NULL)
        return;
    look_at_waiting(d);
    do {
        spaced = copypace_is_shared(&d->copy_pace) ? d->copy_gathered_usec + GATHER_USEC : 0;
        t = copyturn_next(&d->copy_turns, now, spaced <= now, &due);
        if (t == NULL)
            break;
        struct vaultcopy *c = copy_of(t);
        struct err err = ERR_INIT;
        c->waits = false;
        if (t->want == COPYTURN_GATHER)
            d->copy_gathered_usec = now;
        if (step_start(c->job.vm, &err) == 0)
            continue;
        if (may_wait(c->step))
            copyturn_done(&d->copy_turns, t, 0);
        pass_end(c->job.vm, &err);
    } while (d->copy_turns.waiting != NULL);
    if (spaced > now && spaced < due)
        due = spaced;
    if (d->copy_turns.waiting != NULL && due != UINT64_MAX)
        loop_timer_set(d->copy_timer, due > now ? due - now : 1);
}

/* ---- the beginning of a pass ---- */

static void pass_begin(struct vmachine *vm)
{
    struct vaultcopy *c = vm->copy;
    struct vaultd *d = vm->d;
    struct err err = ERR_INIT;
    c->busy = true;
    d->copies_busy++;
    c->job.vm = vm;
    c->source = vaultcopysource_get(d, &c->vault, c->endpoint, &err);
    if (c->source != NULL)
        copyturn_begin(&d->copy_turns, &c->turn, &c->source->turn);
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
    return source == NULL || !source->turn.away || source->refs == 0;
}

/* ---- by the clock ---- */

static void look_at_pace(struct vaultd *d)
{
    uint64_t rate = workhours_rate_at(&d->copy_hours, d->copy_rate, d->copy_work_rate, clock_utc_usec());
    if (!copypace_set(&d->copy_pace, rate, d->copy_flow_rate))
        return;
    d->copy_turns.credit_bytes = rate == 0 ? CREDIT_BYTES : rate < CREDIT_BYTES_MIN ? CREDIT_BYTES_MIN : rate;
    for (struct vmachine *vm = d->machines; vm != NULL; vm = vm->next) {
        struct vaultcopy *c = vm->copy;
        if (c != NULL && (!c->busy || c->waits))
            c->flow = (struct copyflow){0};
        if (c != NULL && !c->busy)
            copyturn_forgive(&c->turn);
    }
    log_event(
        LOG_INFO, "copies_throttled", LOG_U("bytes_per_sec", rate), LOG_U("machine_bytes_per_sec", d->copy_flow_rate));
    go_on(d);
}

/* Begins where it left off, so that each has its turn. */
static void begin_passes(struct vaultd *d, uint64_t now)
{
    struct vmachine *first = d->copy_last == NULL || d->copy_last->next == NULL ? d->machines : d->copy_last->next;
    struct vmachine *vm = first;
    while (vm != NULL && d->copies_busy < PASSES_MAX) {
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
    go_on(d);
}
