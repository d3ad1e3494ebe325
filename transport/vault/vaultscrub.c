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
#include "transport/vault/secondcopy.h"
#include "transport/vault/vaultd_private.h"
#include "transport/vault/vaultheal.h"

#define SAVE_EVERY_USEC (5 * USEC_PER_SEC)   /* what a crash may cost is verified again */
#define REPORT_EVERY_USEC (5 * USEC_PER_SEC) /* while a pass runs */
#define RETRY_USEC (60 * USEC_PER_SEC)
#define PASS_THREADS 2u
#define DAMAGES_TOLD 1000u

/* ---- the state on disk ---- */

struct state_job {
    struct vaultjob job;
    struct scrubstate state;
    struct quarantine list; /* when it is loaded */
};

static int load_run(struct vaultjob *j, struct err *err)
{
    struct state_job *l = (struct state_job *)j;
    if (secondcopy_sweep(j->vm->dir, err) < 0)
        return -1;
    if (quarantine_load(j->vm->dir, &j->vm->id, &l->list, err) < 0)
        return -1;
    return scrubstate_load(j->vm->dir, &j->vm->id, &l->state, err);
}

static void load_done(struct vaultjob *j)
{
    struct state_job *l = (struct state_job *)j;
    struct vmachine *vm = j->vm;
    vm->scrub_loading = false;
    if (j->result == 0 && vm->quarantine.count == 0) {
        vm->quarantine = l->list;
        l->list = (struct quarantine){0};
        vaultheal_loaded(vm);
        for (size_t i = 0; i < vm->quarantine.count; i++) /* until it is counted again: at least so many */
            if (vm->quarantine.items[i].state == QUARANTINE_DAMAGED && vm->quarantine.items[i].points > vm->points_hit)
                vm->points_hit = vm->quarantine.items[i].points;
    }
    if (j->result == 0) {
        vm->scrubbed = l->state;
        vm->scrub_loaded = vm->integrity_news = true;
    }
    quarantine_done(&l->list);
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
    vm->integrity_news = true;
    vm->scrub_saved_usec = clock_mono_usec();
    if (vaultjob_lane(vm, &j->job, NULL) < 0)
        free(j);
}

/* ---- what is told ---- */

static void describe(const struct quarantine_item *item, Leeward__Control__V1__Damage *d)
{
    leeward__control__v1__damage__init(d);
    d->kind = (char *)(uintptr_t)verify_kind_name(item->kind);
    d->state = (char *)(uintptr_t)(item->state == QUARANTINE_HEALED ? "healed" : "damaged");
    d->segment = item->segment;
    d->offset = item->offset;
    d->stored_bytes = item->end > item->offset ? item->end - item->offset : 0;
    d->first_point = item->first_point;
    d->last_point = item->last_point;
    d->points = item->points;
    d->disk = item->disk;
    d->start = item->start;
    d->length = item->length;
    d->found_utc_usec = item->found_utc_usec;
    d->text = (char *)(uintptr_t)item->text;
}

struct integrity_lists {
    Leeward__Control__V1__Damage *damages, **damage_links;
    Leeward__Control__V1__DiskRange *ranges, **range_links;
};

/* Ranges that follow on each other are one: a damaged sector often hits a sweep of the disk. */
static void add_range(
    struct integrity_lists *l, Leeward__Control__V1__Integrity *told, const struct quarantine_item *item)
{
    Leeward__Control__V1__DiskRange *last = told->n_resend == 0 ? NULL : told->resend[told->n_resend - 1];
    if (last != NULL && last->disk == item->disk && last->start + last->length == item->start) {
        last->length += item->length;
        return;
    }
    Leeward__Control__V1__DiskRange *r = &l->ranges[told->n_resend];
    leeward__control__v1__disk_range__init(r);
    r->disk = item->disk;
    r->start = item->start;
    r->length = item->length;
    told->resend[told->n_resend++] = r;
}

static int lists_fill(struct integrity_lists *l, const struct quarantine *q, Leeward__Control__V1__Integrity *told)
{
    l->damages = mem_alloc(q->count + 1, sizeof(*l->damages));
    l->damage_links = mem_alloc(q->count + 1, sizeof(*l->damage_links));
    l->ranges = mem_alloc(q->count + 1, sizeof(*l->ranges));
    l->range_links = mem_alloc(q->count + 1, sizeof(*l->range_links));
    if (l->damages == NULL || l->damage_links == NULL || l->ranges == NULL || l->range_links == NULL)
        return -1;
    told->damages = l->damage_links;
    told->resend = l->range_links;
    for (size_t i = 0; i < q->count; i++) {
        const struct quarantine_item *item = &q->items[i];
        *(item->state == QUARANTINE_HEALED ? &told->healed_count : &told->damage_count) += 1;
        if (told->n_damages < DAMAGES_TOLD) {
            l->damage_links[told->n_damages] = &l->damages[told->n_damages];
            describe(item, &l->damages[told->n_damages++]);
        }
        if (item->now)
            add_range(l, told, item);
    }
    return 0;
}

static void lists_done(struct integrity_lists *l)
{
    free(l->damages);
    free(l->damage_links);
    free(l->ranges);
    free(l->range_links);
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
    told.damaged_points = vm->points_hit;
    report.kind_case = LEEWARD__CONTROL__V1__REPORT__KIND_INTEGRITY;
    report.integrity = &told;
    struct integrity_lists lists = {0};
    int sent = lists_fill(&lists, &vm->quarantine, &told);
    if (sent == 0)
        sent = session_report(vm->d->session, &report, &err);
    lists_done(&lists);
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
    if (end->result->index_damaged)
        vaultupkeep_rebuild(vm);
    vaultheal_found(vm, end->after, end->result, NULL, NULL);
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

/* What a first copy brings was checked a moment ago, and no point shows it yet. */
static bool has_points(const struct vmachine *vm)
{
    return vm->last_point > 0 || vm->reported > 0 || vm->known_sequence > 0;
}

static bool is_due(const struct vmachine *vm, uint64_t now_utc)
{
    const struct scrubstate *s = &vm->scrubbed;
    if (!vm->desired || !has_points(vm) || !vm->scrub_loaded || clock_mono_usec() < vm->scrub_retry_usec)
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
    for (struct vmachine *vm = d->machines; vm != NULL; vm = vm->next) {
        machine_tick(vm, now);
        vaultheal_tick(vm, now);
    }
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
