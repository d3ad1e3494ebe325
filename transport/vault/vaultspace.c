/* SPDX-License-Identifier: Apache-2.0
 *
 * One machine at a time, in stages that go from thread to thread: planned on the machine's lane, looked through and each segment
 * rewritten beside it, each new file put in place on the lane. In the background a pause follows each segment, as long as its bytes
 * take at the vault's rate; where somebody waits for it, or the disk is full, none does.
 *
 * Failure modes: what cannot be rewritten is left as it is and looked at again the next time. A store that was opened again in between ends
 * the round. A disk that is full to the last byte is helped by the segments of which the least stays.
 */
#include "transport/vault/vaultspace.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>

#include "transport/base/clock.h"
#include "transport/base/log.h"
#include "transport/vault/growth.h"
#include "transport/vault/store_compact.h"
#include "transport/vault/vaultd_private.h"

#define FIRST_LOOK_USEC (30 * USEC_PER_SEC)
#define LOOK_THINNED_USEC (300 * USEC_PER_SEC) /* after points were dropped, and between two looks at all */
#define LOOK_FULL_USEC (30 * USEC_PER_SEC)
#define START_PERCENT 10u /* in the background: garbage of the whole log, below which it is left alone, */
#define LEAST_PERCENT 6u  /* and of a segment */
#define ASKED_PERCENT 2u  /* of a segment, when somebody asked or room is needed */
#define NEAR_USEC (7 * 86400 * USEC_PER_SEC) /* a full disk within this is told as an event, */
#define FAR_USEC (9 * 86400 * USEC_PER_SEC)  /* and again after it was farther than that */

/* What was asked for. */
struct collecting {
    struct vaultd *d;
    struct collecting_spec spec;
    char *only;
    struct vmachine *vm; /* the one whose turn it is */
    uint64_t machines, freed, segments;
    bool starved, cancelled;
};

struct compacting {
    struct vaultjob job; /* the stage under way */
    struct vaultd *d;
    struct vmachine *vm;
    struct collecting *asked; /* NULL: in the background */
    struct store_compact *compact;
    struct compact_spec spec;
    _Atomic bool cancelled, hurry; /* hurry: somebody waits for it, or for room */
    uint64_t segments;
};

static void collect_next(struct collecting *g);
static void compacting_next(struct compacting *k);

/* ---- one machine ---- */

/* What was freed is no garbage any more; the next look tells exactly. */
static void take_space(struct compacting *k)
{
    struct compact_space *space = &k->vm->space;
    uint64_t freed = store_compact_freed(k->compact);
    *space = *store_compact_space(k->compact);
    uint64_t garbage = freed < space->garbage_bytes ? freed : space->garbage_bytes;
    space->garbage_bytes -= garbage;
    space->log_bytes = space->live_bytes + space->history_bytes + space->garbage_bytes;
    k->vm->space_known = true;
    k->d->space_news = true;
}

static void compacting_end(struct compacting *k)
{
    struct vaultd *d = k->d;
    struct collecting *g = k->asked;
    uint64_t freed = k->compact == NULL ? 0 : store_compact_freed(k->compact);
    if (k->job.result < 0 && k->job.err.code != ERR_CANCELLED)
        log_event(LOG_ERROR, "compaction_failed", LOG_S("machine", k->vm->id_text), LOG_E(&k->job.err));
    if (freed > 0)
        log_event(LOG_INFO, "space_given_back", LOG_S("machine", k->vm->id_text), LOG_U("bytes", freed),
            LOG_U("segments", k->segments));
    if (g != NULL) {
        g->machines++;
        g->freed += freed;
        g->segments += k->segments;
        g->starved = g->starved || (k->compact != NULL && store_compact_starved(k->compact));
    }
    k->vm->space_due_usec = clock_mono_usec() + (d->full ? LOOK_FULL_USEC : d->conf.compact_every_usec);
    k->vm->space_looked_usec = clock_mono_usec();
    d->compacting = NULL;
    store_compact_free(k->compact);
    free(k);
    if (g != NULL) {
        g->cancelled = g->cancelled || d->stopping;
        collect_next(g);
    }
}

enum where {
    ON_LANE,
    BESIDE,  /* reads the index: at idle priority in the background */
    REWRITE, /* reads and writes the log: at its pace in the background */
};

/* The next stage. What somebody waits for runs as everything else does. */
static void stage(struct compacting *k, enum where where, int (*run)(struct vaultjob *j, struct err *err),
    void (*done)(struct vaultjob *j))
{
    bool hurries = k->asked != NULL || k->d->full;
    int submitted;
    k->job.run = run;
    k->job.done = done;
    if (where == ON_LANE)
        submitted = vaultjob_lane(k->vm, &k->job, &k->job.err);
    else if (hurries)
        submitted = vaultjob_pool(k->d, k->vm, &k->job, &k->job.err);
    else if (where == REWRITE)
        submitted = vaultjob_paced(k->d, k->vm, &k->job, &k->job.err);
    else
        submitted = vaultjob_idle(k->d, k->vm, &k->job, &k->job.err);
    if (submitted < 0)
        compacting_end(k);
}

static int finish_run(struct vaultjob *j, struct err *err)
{
    struct store *s;
    return vmachine_store(j->vm, &s, err) < 0 ? -1 : store_compact_finish(s, ((struct compacting *)j)->compact, err);
}

static void finish_done(struct vaultjob *j)
{
    struct compacting *k = (struct compacting *)j;
    if (j->result < 0) {
        compacting_end(k);
        return;
    }
    k->segments++;
    take_space(k);
    compacting_next(k);
}

static int rewrite_run(struct vaultjob *j, struct err *err)
{
    return store_compact_rewrite(((struct compacting *)j)->compact, err);
}

static void tell_progress(const struct compacting *k)
{
    uint64_t done, total;
    store_compact_progress(k->compact, &done, &total);
    if (k->asked != NULL && k->asked->spec.progress != NULL && total > 0)
        k->asked->spec.progress(k->asked->spec.arg, (unsigned)(done * 999 / total));
}

static void rewrite_done(struct vaultjob *j)
{
    struct compacting *k = (struct compacting *)j;
    tell_progress(k);
    if (j->result <= 0)
        compacting_end(k);
    else
        stage(k, ON_LANE, finish_run, finish_done);
}

static void compacting_next(struct compacting *k)
{
    if (k->d->stopping || atomic_load(&k->cancelled))
        compacting_end(k);
    else
        stage(k, REWRITE, rewrite_run, rewrite_done);
}

static int trim_run(struct vaultjob *j, struct err *err)
{
    struct store *s;
    if (vmachine_store(j->vm, &s, err) < 0)
        return -1;
    store_compact_trim(s, ((struct compacting *)j)->compact);
    return 0;
}

static void trim_done(struct vaultjob *j)
{
    struct compacting *k = (struct compacting *)j;
    if (j->result < 0) {
        compacting_end(k);
        return;
    }
    take_space(k);
    vaultupkeep_merge(k->vm);
    compacting_next(k);
}

static int look_run(struct vaultjob *j, struct err *err)
{
    return store_compact_look(((struct compacting *)j)->compact, err);
}

static void look_done(struct vaultjob *j)
{
    if (j->result < 0)
        compacting_end((struct compacting *)j);
    else
        stage((struct compacting *)j, ON_LANE, trim_run, trim_done);
}

static int plan_run(struct vaultjob *j, struct err *err)
{
    struct compacting *k = (struct compacting *)j;
    struct store *s;
    return vmachine_store(j->vm, &s, err) < 0 ? -1 : store_compact_plan(s, &k->spec, &k->compact, err);
}

static void plan_done(struct vaultjob *j)
{
    if (j->result <= 0)
        compacting_end((struct compacting *)j);
    else
        stage((struct compacting *)j, BESIDE, look_run, look_done);
}

/* On its own thread, while a segment is rewritten. What is needed meanwhile goes on at full speed. */
static void pace(void *arg, uint64_t bytes)
{
    struct compacting *k = arg;
    if (!atomic_load_explicit(&k->hurry, memory_order_relaxed))
        vaultpace_wait(&k->d->compact_pace, &k->d->ingest_usec, bytes, &k->cancelled);
}

static int compacting_begin(struct vmachine *vm, struct collecting *g)
{
    struct compacting *k = mem_new(struct compacting);
    bool needed = g != NULL || vm->d->full;
    if (k == NULL)
        return -1;
    k->d = vm->d;
    k->vm = vm;
    k->asked = g;
    k->spec = (struct compact_spec){.start_percent = needed ? 0 : START_PERCENT,
        .least_percent = needed ? ASKED_PERCENT : LEAST_PERCENT,
        .cancelled = &k->cancelled};
    if (!needed) {
        k->spec.pace = pace;
        k->spec.pace_arg = k;
    }
    vm->d->compacting = k;
    stage(k, ON_LANE, plan_run, plan_done);
    return 0;
}

/* ---- in the background ---- */

void vaultspace_thinned(struct vmachine *vm)
{
    uint64_t soon = vm->space_looked_usec + LOOK_THINNED_USEC;
    if (soon < vm->space_due_usec)
        vm->space_due_usec = soon;
}

/* The forecast, and what follows from it. */
static void look_ahead(struct vaultd *d)
{
    struct statvfs vfs;
    struct err err = ERR_INIT;
    uint64_t now = clock_utc_usec();
    if (statvfs(d->data_dir, &vfs) < 0)
        return;
    uint64_t available = (uint64_t)vfs.f_bavail * vfs.f_frsize;
    uint64_t usable = available > d->conf.reserve_bytes ? available - d->conf.reserve_bytes : 0;
    if (growth_note(&d->growth, now, (uint64_t)(vfs.f_blocks - vfs.f_bfree) * vfs.f_frsize)) {
        d->space_news = true;
        if (growth_store(d->data_dir, &d->growth, &err) < 0)
            log_event(LOG_WARN, "growth_not_stored", LOG_E(&err));
    }
    growth_forecast(&d->growth, now, usable, &d->forecast);
    bool is_near = d->forecast.full_utc_usec != 0 && d->forecast.full_utc_usec < now + NEAR_USEC;
    if (d->forecast.full_utc_usec == 0 || d->forecast.full_utc_usec > now + FAR_USEC)
        d->told_filling = false;
    if (!is_near || d->told_filling || d->session == NULL)
        return;
    char at[CLOCK_RFC3339_SIZE];
    clock_rfc3339(d->forecast.full_utc_usec, at);
    char *text AUTO_FREE = mem_printf("At the rate of the last days the vault's disk is full on %.10s.", at);
    d->told_filling = true;
    log_event(LOG_WARN, "vault_filling", LOG_S("full_at", at));
    if (text != NULL)
        session_event(d->session, "warning", "vault_filling", NULL,
            "Make its disk larger or shorten the retention; a full vault accepts nothing more, and drops nothing.",
            text);
}

void vaultspace_tick(struct vaultd *d, uint64_t now)
{
    struct vmachine *due = NULL;
    if (d->compacting != NULL && (d->full || d->asked_space != NULL))
        atomic_store_explicit(&d->compacting->hurry, true, memory_order_relaxed);
    if (now >= d->growth_due_usec) {
        d->growth_due_usec = now + 60 * USEC_PER_SEC;
        look_ahead(d);
    }
    uint64_t every = d->conf.compact_every_usec;
    for (struct vmachine *vm = d->machines; vm != NULL; vm = vm->next) {
        if (vm->space_due_usec == 0)
            vm->space_due_usec = now + (every < FIRST_LOOK_USEC ? every : FIRST_LOOK_USEC);
        if (d->full && vm->space_due_usec > vm->space_looked_usec + LOOK_FULL_USEC)
            vm->space_due_usec = vm->space_looked_usec + LOOK_FULL_USEC;
        if (vm->desired && now >= vm->space_due_usec && (due == NULL || vm->space_due_usec < due->space_due_usec))
            due = vm;
    }
    if (due != NULL && d->compacting == NULL && d->asked_space == NULL)
        (void)compacting_begin(due, NULL);
    else if (d->asked_space != NULL && d->compacting == NULL)
        collect_next(d->asked_space); /* it waited for the background to end */
}

/* ---- asked for ---- */

static bool is_meant(const struct collecting *g, const struct vmachine *vm)
{
    return g->only == NULL || strcmp(g->only, vm->id_text) == 0;
}

static char *number_text(uint64_t n)
{
    return mem_printf("%llu", (unsigned long long)n);
}

static void collecting_end(struct collecting *g)
{
    struct err err = ERR_INIT;
    char *freed AUTO_FREE = number_text(g->freed);
    json_t *json = json_pack("{s:s, s:I, s:I, s:b}", "freed_bytes", freed == NULL ? "0" : freed, "segments",
        (json_int_t)g->segments, "machines", (json_int_t)g->machines, "short_of_room", g->starved);
    char *text AUTO_FREE = json == NULL ? NULL : json_dumps(json, JSON_COMPACT);
    json_decref(json);
    g->d->asked_space = NULL;
    if (g->cancelled)
        (void)err_set(&err, ERR_CANCELLED, "giving back space was cancelled");
    vaultspace_report(g->d);
    g->spec.done(g->spec.arg, g->cancelled ? &err : NULL, g->cancelled ? NULL : text);
    free(g->only);
    free(g);
}

static void collect_next(struct collecting *g)
{
    struct vmachine *vm = g->vm == NULL ? g->d->machines : g->vm->next;
    while (vm != NULL && !is_meant(g, vm))
        vm = vm->next;
    if (vm == NULL || g->cancelled) {
        collecting_end(g);
        return;
    }
    g->vm = vm;
    if (vm->desired && vm->tiers.all_usec != 0)
        vaultupkeep_thin(vm); /* before it on the same lane: what is due goes first */
    if (compacting_begin(vm, g) < 0)
        collecting_end(g);
}

int vaultspace_collect(
    struct vaultd *d, const struct collecting_spec *spec, struct collecting **ret_collecting, struct err *err)
{
    bool any = spec->machine_id[0] == '\0';
    for (const struct vmachine *vm = d->machines; vm != NULL && !any; vm = vm->next)
        any = strcmp(vm->id_text, spec->machine_id) == 0;
    if (!any)
        return err_set(err, ERR_NOT_FOUND, "this vault does not hold the machine %s", spec->machine_id);
    if (d->asked_space != NULL)
        return err_set(err, ERR_CONFLICT, "this vault is giving back space already");
    struct collecting *g = mem_new(struct collecting);
    if (g == NULL)
        return err_set(err, ERR_NOMEM, "no memory to give back space");
    g->d = d;
    g->spec = *spec;
    g->only = spec->machine_id[0] == '\0' ? NULL : mem_strdup(spec->machine_id);
    g->spec.machine_id = NULL;
    *ret_collecting = d->asked_space = g;
    if (d->compacting == NULL)
        collect_next(g);
    return 0;
}

void vaultspace_cancel(struct collecting *g)
{
    g->cancelled = true;
    if (g->d->compacting != NULL)
        atomic_store(&g->d->compacting->cancelled, true);
}

void vaultspace_stop(struct vaultd *d)
{
    if (d->compacting != NULL) /* the stage that is under way ends it */
        atomic_store(&d->compacting->cancelled, true);
}

/* ---- telling ---- */

void vaultspace_report(struct vaultd *d)
{
    Leeward__Control__V1__Report report = LEEWARD__CONTROL__V1__REPORT__INIT;
    Leeward__Control__V1__VaultSpace all = LEEWARD__CONTROL__V1__VAULT_SPACE__INIT;
    struct err err = ERR_INIT;
    size_t count = 0;
    for (const struct vmachine *vm = d->machines; vm != NULL; vm = vm->next)
        count += vm->space_known;
    Leeward__Control__V1__MachineSpace *items AUTO_FREE = mem_alloc(count + 1, sizeof(*items));
    Leeward__Control__V1__MachineSpace **list AUTO_FREE = mem_alloc(count + 1, sizeof(struct machine_space *));
    if (d->session == NULL || items == NULL || list == NULL)
        return;
    for (struct vmachine *vm = d->machines; vm != NULL; vm = vm->next) {
        Leeward__Control__V1__MachineSpace *m = &items[all.n_machines];
        if (!vm->space_known)
            continue;
        leeward__control__v1__machine_space__init(m);
        m->machine_id = vm->id_text;
        m->live_bytes = vm->space.live_bytes;
        m->history_bytes = vm->space.history_bytes;
        m->garbage_bytes = vm->space.garbage_bytes;
        m->index_bytes = vm->space.index_bytes;
        m->has_bucket = vaultupload_lag(vm, &m->bucket_point_utc_usec, &m->bucket_behind_bytes);
        list[all.n_machines++] = m;
    }
    all.machines = list;
    all.growth_bytes_per_day = d->forecast.bytes_per_day;
    all.forecast_known = d->forecast.known;
    all.full_utc_usec = d->forecast.full_utc_usec;
    report.kind_case = LEEWARD__CONTROL__V1__REPORT__KIND_VAULT_SPACE;
    report.vault_space = &all;
    if (session_report(d->session, &report, &err) < 0)
        log_event(LOG_ERROR, "report_failed", LOG_E(&err));
    else
        d->space_news = false;
}
