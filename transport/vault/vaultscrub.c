/* SPDX-License-Identifier: Apache-2.0
 *
 * The background pass: all that the vault holds is read and checked from time to time, one machine after the other, at a rate that
 * nobody notices. A pass that was interrupted goes on behind the last segment that it had verified. What it finds is told to the
 * hub, and so is how far it is.
 */
#include <stdlib.h>
#include <string.h>

#include "transport/base/clock.h"
#include "transport/base/log.h"
#include "transport/vault/scrub.h"
#include "transport/vault/vaultd_private.h"

#define SAVE_EVERY_USEC (5 * USEC_PER_SEC)   /* what a crash may cost is verified again */
#define REPORT_EVERY_USEC (5 * USEC_PER_SEC) /* while a pass runs */
#define RETRY_USEC (60 * USEC_PER_SEC)
#define PASS_THREADS 2u

/* ---- the state on disk ---- */

struct state_job {
    struct vaultjob job;
    struct scrubstate state;
};

static int load_run(struct vaultjob *j, struct err *err)
{
    return scrubstate_load(j->vm->dir, &j->vm->id, &((struct state_job *)j)->state, err);
}

static void load_done(struct vaultjob *j)
{
    j->vm->scrub_loading = false;
    if (j->result == 0) {
        j->vm->scrubbed = ((struct state_job *)j)->state;
        j->vm->scrub_loaded = j->vm->integrity_news = true;
    }
    free(j);
}

static void load(struct vmachine *vm)
{
    struct state_job *j = mem_new(struct state_job);
    if (j == NULL)
        return;
    j->job.run = load_run;
    j->job.done = load_done;
    vm->scrub_loading = vaultjob_lane(vm, &j->job, NULL) == 0;
    if (!vm->scrub_loading)
        free(j);
}

static int save_run(struct vaultjob *j, struct err *err)
{
    return scrubstate_store(j->vm->dir, &j->vm->id, &((struct state_job *)j)->state, err);
}

static void save_done(struct vaultjob *j)
{
    if (j->result < 0 && j->err.code != ERR_CANCELLED)
        log_event(LOG_WARN, "scrub_state_not_saved", LOG_S("machine", j->vm->id_text), LOG_E(&j->err));
    free(j);
}

/* On the lane, so in the order in which it was asked for. */
void vaultscrub_save(struct vmachine *vm)
{
    struct state_job *j = mem_new(struct state_job);
    if (j == NULL)
        return;
    j->job.run = save_run;
    j->job.done = save_done;
    j->state = vm->scrubbed;
    vm->scrub_saved_usec = clock_mono_usec();
    if (vaultjob_lane(vm, &j->job, NULL) < 0)
        free(j);
}

/* ---- what is told ---- */

void vaultscrub_found(struct vmachine *vm, const struct verify_result *r)
{
    vm->integrity_news = true;
    vm->damage_count = r->damage_count;
    for (size_t i = 0; i < r->listed && i < 10; i++)
        log_event(LOG_ERROR, "damage_found", LOG_S("machine", vm->id_text),
            LOG_S("kind", verify_kind_name(r->damages[i].kind)), LOG_U("segment", r->damages[i].segment),
            LOG_U("offset", r->damages[i].offset), LOG_U("points_from", r->damages[i].points_from),
            LOG_S("text", r->damages[i].text));
    if (r->index_damaged)
        vaultupkeep_rebuild(vm);
}

static void report(struct vmachine *vm)
{
    Leeward__Control__V1__Integrity told = LEEWARD__CONTROL__V1__INTEGRITY__INIT;
    Leeward__Control__V1__Report report = LEEWARD__CONTROL__V1__REPORT__INIT;
    struct err err = ERR_INIT;
    uint64_t done = 0, total = 0;
    if (vm->scrub != NULL)
        scrub_get_progress(vm->scrub, &done, &total);
    told.machine_id = vm->id_text;
    told.pass_started_utc_usec = vm->scrubbed.started_utc_usec;
    told.pass_done_bytes = done;
    told.pass_total_bytes = total;
    told.last_started_utc_usec = vm->scrubbed.last_started_utc_usec;
    told.last_finished_utc_usec = vm->scrubbed.last_finished_utc_usec;
    told.damage_count = vm->damage_count;
    report.kind_case = LEEWARD__CONTROL__V1__REPORT__KIND_INTEGRITY;
    report.integrity = &told;
    int sent = session_report(vm->d->session, &report, &err);
    if (sent < 0)
        log_event(LOG_ERROR, "report_failed", LOG_S("machine", vm->id_text), LOG_E(&err));
    vm->integrity_news = sent == 0;
}

/* ---- a pass ---- */

static void on_progress(void *arg, uint64_t through)
{
    struct vmachine *vm = arg;
    vm->scrubbed.cursor = through;
    if (clock_mono_usec() - vm->scrub_saved_usec >= SAVE_EVERY_USEC)
        vaultscrub_save(vm);
}

static void on_done(void *arg, const struct scrub_end *end)
{
    struct vmachine *vm = arg;
    struct vaultd *d = vm->d;
    uint64_t started = vm->scrubbed.started_utc_usec;
    vm->scrub = NULL;
    d->scrubbing = NULL;
    if (end->err != NULL) {
        vm->scrub_retry_usec = clock_mono_usec() + RETRY_USEC;
        if (end->err->code != ERR_CANCELLED)
            log_event(LOG_ERROR, "scrub_failed", LOG_S("machine", vm->id_text), LOG_E(end->err));
        return;
    }
    scrubstate_finish(&vm->scrubbed, started, clock_utc_usec(), end->through);
    vaultscrub_save(vm);
    log_event(LOG_INFO, "scrubbed", LOG_S("machine", vm->id_text), LOG_U("bytes", end->result->bytes),
        LOG_U("records", end->result->records), LOG_U("damages", end->result->damage_count));
    vaultscrub_found(vm, end->result);
    if (end->result->damage_count > 0 && d->session != NULL)
        session_event(d->session, "error", "vault_damaged", vm->id_text,
            "`leeward machine integrity` names the points that are hit. Check the vault's disk and memory.",
            "The background verification found damage in what the vault holds of this machine.");
}

static void begin(struct vmachine *vm)
{
    struct err err = ERR_INIT;
    bool resumed = vm->scrubbed.started_utc_usec != 0;
    if (!resumed) {
        vm->scrubbed.started_utc_usec = clock_utc_usec();
        vm->scrubbed.cursor = 0;
        vaultscrub_save(vm);
    }
    struct scrub_spec spec = {.after_segment = vm->scrubbed.cursor,
        .threads = PASS_THREADS,
        .paced = true,
        .progress = on_progress,
        .done = on_done,
        .arg = vm};
    if (scrub_start(vm, &spec, &vm->scrub, &err) < 0) {
        vm->scrub_retry_usec = clock_mono_usec() + RETRY_USEC;
        log_event(LOG_ERROR, "scrub_failed", LOG_S("machine", vm->id_text), LOG_E(&err));
        return;
    }
    vm->d->scrubbing = vm;
    log_event(LOG_INFO, resumed ? "scrub_resumed" : "scrub_begun", LOG_S("machine", vm->id_text),
        LOG_U("after_segment", vm->scrubbed.cursor));
}

/* ---- which one ---- */

static bool is_due(const struct vmachine *vm, uint64_t now_utc)
{
    const struct scrubstate *s = &vm->scrubbed;
    if (!vm->desired || !vm->scrub_loaded || clock_mono_usec() < vm->scrub_retry_usec)
        return false;
    return s->started_utc_usec != 0 || now_utc - s->last_started_utc_usec >= vm->d->conf.scrub_every_usec;
}

/* What was begun goes first, then what was not verified for the longest time. */
static struct vmachine *choose(struct vaultd *d)
{
    uint64_t now = clock_utc_usec();
    struct vmachine *best = NULL;
    for (struct vmachine *vm = d->machines; vm != NULL; vm = vm->next) {
        if (!is_due(vm, now))
            continue;
        if (vm->scrubbed.started_utc_usec != 0)
            return vm;
        if (best == NULL || vm->scrubbed.last_started_utc_usec < best->scrubbed.last_started_utc_usec)
            best = vm;
    }
    return best;
}

static void machine_tick(struct vmachine *vm, uint64_t now)
{
    if (vm->desired && !vm->scrub_loaded && !vm->scrub_loading)
        load(vm);
    if (vm->scrub != NULL && now - vm->integrity_told_usec >= REPORT_EVERY_USEC)
        vm->integrity_news = true;
    if (!vm->integrity_news || !vm->scrub_loaded || vm->d->session == NULL || !session_is_up(vm->d->session))
        return;
    vm->integrity_told_usec = now;
    report(vm);
}

void vaultscrub_tick(struct vaultd *d)
{
    uint64_t now = clock_mono_usec();
    for (struct vmachine *vm = d->machines; vm != NULL; vm = vm->next)
        machine_tick(vm, now);
    if (d->conf.scrub_rate == 0 || d->scrubbing != NULL || d->stopping)
        return;
    struct vmachine *vm = choose(d);
    if (vm != NULL)
        begin(vm);
}

void vaultscrub_forget_told(struct vaultd *d)
{
    for (struct vmachine *vm = d->machines; vm != NULL; vm = vm->next)
        vm->integrity_news = true;
}

void vaultscrub_stop(struct vaultd *d)
{
    if (d->scrubbing != NULL)
        scrub_cancel(d->scrubbing->scrub);
}
