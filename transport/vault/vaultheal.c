/* SPDX-License-Identifier: Apache-2.0
 *
 * One job after the other per machine: on the lane it brings the index up to date and takes what it needs of the store; on an idle
 * thread it finds records and points, heals, and writes the list; on the loop it tells. While the newest state of a disk lacks something,
 * it comes back: the source's resend is an ordinary change set, which nobody here has to wait for.
 *
 * What cannot be healed is not tried for ever at the same rate: whether a resend has come is looked for after 3 s, 6 s, ... up to a minute; the bucket, of
 * which whole segments are fetched, is asked after 1 min, 2 min, ... up to ten minutes while its service fails, and up to six hours where it has nothing better. A
 * command to verify asks at once, and so does damage that is new. Why the bucket is of no use is told once.
 */
#include "transport/vault/vaultheal.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "transport/base/clock.h"
#include "transport/base/log.h"
#include "transport/log/segment.h"
#include "transport/vault/heal.h"
#include "transport/vault/manifest.h"
#include "transport/vault/secondcopy.h"
#include "transport/vault/vaultd_private.h"

#define LOOK_AGAIN_USEC (3 * USEC_PER_SEC)
#define LOOK_AGAIN_MAX_USEC (60 * USEC_PER_SEC)
#define COPY_AGAIN_USEC (60 * USEC_PER_SEC)
#define COPY_FAILED_MAX_USEC (600 * USEC_PER_SEC)       /* when the bucket could not be asked */
#define COPY_USELESS_MAX_USEC (6 * 3600 * USEC_PER_SEC) /* when it had nothing better; somebody may put that right */
#define MENDED_TELL_USEC (10 * USEC_PER_SEC)            /* after the last that came from a copy */
#define LOGGED_MAX 10u                                  /* items per job that are logged one by one */

struct heal_job {
    struct vaultjob job;
    struct heal_job *next; /* in the queue */
    bool verified;         /* result is that of a verification */
    uint64_t after_segment;
    struct verify_result result;
    void (*done)(void *arg);
    void *arg;
    struct damagehit hit;
    struct mend_nonce nonce;
    struct quarantine list;
    size_t found, healed;    /* by this job */
    uint64_t points_hit;     /* that something of the list hits */
    uint64_t writes_from;    /* the segment that the store writes to */
    bool asks_copy;          /* also for what was known already */
    bool conflict;           /* the bucket is not to be asked: it holds something else */
    struct secondcopy *copy; /* NULL: there is no bucket, or it was not asked */
    bool copy_asked;
    struct heal_offers *offers; /* the job is about these alone; NULL: it is not */
    void (*offered)(void *arg, const struct err *err);
};

static void job_free(struct heal_job *j)
{
    keyring_cleanse(&j->hit.keys);
    pointlist_done(&j->hit.points);
    secondcopy_free(j->copy);
    verify_result_done(&j->result);
    quarantine_done(&j->list);
    free(j);
}

/* ---- on the lane ---- */

static int points_copy(const struct pointlist *from, struct pointlist *to, struct err *err)
{
    *to = (struct pointlist){.items = mem_alloc(from->count + 1, sizeof(*to->items)), .count = from->count};
    if (to->items == NULL)
        return err_set(err, ERR_NOMEM, "no memory to heal");
    to->cap = from->count + 1;
    if (from->count > 0)
        memcpy(to->items, from->items, from->count * sizeof(*to->items));
    return 0;
}

static int take_run(struct vaultjob *job, struct err *err)
{
    struct heal_job *j = (struct heal_job *)job;
    struct log_position position;
    struct store *s;
    if (vmachine_store(job->vm, &s, err) < 0 || store_flush(s, err) < 0 ||
        store_take_nonce_stream(s, &j->nonce.stream, err) < 0)
        return -1;
    j->hit.machine_dir = job->vm->dir;
    j->hit.machine = job->vm->id;
    j->hit.newest = store_committed(s);
    store_position(s, &position);
    j->writes_from = position.segment;
    store_keys(s, &j->hit.keys);
    return points_copy(store_points(s), &j->hit.points, err);
}

/* ---- on an idle thread ---- */

static bool is_found_again(const struct heal_job *j, const struct quarantine_item *i)
{
    for (size_t n = 0; n < j->result.listed; n++) {
        const struct verify_damage *d = &j->result.damages[n];
        if (d->segment == i->segment && i->offset >= d->offset && (d->end == 0 || i->offset < d->end))
            return true;
    }
    return false;
}

/* What lies in segments that were verified, and was not found again, is gone: rewritten, dropped, or readable after all. */
static void drop_gone(struct heal_job *j)
{
    if (!j->verified || j->result.damage_count > j->result.listed)
        return;
    for (size_t i = j->list.count; i > 0; i--)
        if (j->list.items[i - 1].segment > j->after_segment && !is_found_again(j, &j->list.items[i - 1]))
            quarantine_remove(&j->list, i - 1);
}

static bool is_still_healed(const struct heal_job *j, const struct quarantine_item *item)
{
    char name[SEGMENT_NAME_SIZE];
    if (item->kind != VERIFY_LOG)
        return mend_is_good(j->hit.machine_dir, item->segment, item->offset, &j->hit.keys);
    segment_name(item->segment, name);
    char *path AUTO_FREE = mem_printf("%s/main/%s", j->hit.machine_dir, name);
    return path != NULL && access(path, F_OK) == 0;
}

static int treat(struct heal_job *j, struct quarantine_item *item, struct err *err)
{
    if (damagehit_points(&j->hit, item, err) < 0)
        return -1;
    if (item->state == QUARANTINE_HEALED && is_still_healed(j, item)) {
        item->now = false;
        return 0;
    }
    item->state = QUARANTINE_DAMAGED;
    const struct heal_copy copy = {.read = secondcopy_read, .restore = secondcopy_restore, .arg = j->copy};
    int healed = heal_item(&j->hit, item, j->copy == NULL ? NULL : &copy, &j->nonce, err);
    j->healed += healed > 0;
    return healed < 0 ? -1 : 0;
}

/* Points that are hit by anything, each counted once. */
static uint64_t count_hit(const struct heal_job *j)
{
    const struct pointlist *points = &j->hit.points;
    uint64_t count = 0;
    for (size_t p = 0; p < points->count; p++) {
        uint64_t sequence = points->items[p].sequence;
        for (size_t i = 0; i < j->list.count; i++) {
            const struct quarantine_item *d = &j->list.items[i];
            if (d->state == QUARANTINE_DAMAGED && d->points > 0 && sequence >= d->first_point &&
                sequence <= d->last_point) {
                count++;
                break;
            }
        }
    }
    return count;
}

/* What lies in a segment that was put back is good, and need not wait for the next verification. */
static void drop_restored(struct heal_job *j)
{
    for (size_t i = j->list.count; i > 0; i--) {
        uint64_t segment = j->list.items[i - 1].segment;
        if (!j->list.items[i - 1].restored)
            continue;
        for (size_t k = j->list.count; k > 0; k--)
            if (j->list.items[k - 1].segment == segment)
                quarantine_remove(&j->list, k - 1);
        i = j->list.count + 1;
    }
}

/* Only what was offered is looked at: there may be many calls. */
static int take_offers(struct heal_job *j, struct err *err)
{
    for (size_t i = 0; i < j->offers->count; i++) {
        const struct heal_offer *o = &j->offers->items[i];
        struct quarantine_item *item = quarantine_find(&j->list, o->segment, o->offset);
        int healed = item == NULL ? 0 : heal_with(&j->hit, item, o->data, o->length, &j->nonce, err);
        if (healed < 0)
            return -1;
        j->offers->mended += healed > 0;
    }
    return 0;
}

static int open_copy(struct heal_job *j, struct err *err)
{
    if (j->conflict || (!j->asks_copy && j->found == 0))
        return 0;
    j->copy_asked = true;
    return vaultupload_copy(j->job.vm, &j->hit, j->writes_from, &j->copy, err);
}

static int heal_run(struct vaultjob *job, struct err *err)
{
    struct heal_job *j = (struct heal_job *)job;
    size_t added;
    if (j->offers != NULL) {
        if (take_offers(j, err) < 0)
            return -1;
        j->points_hit = count_hit(j);
        return quarantine_store(j->hit.machine_dir, &j->hit.machine, &j->list, err);
    }
    drop_gone(j);
    for (size_t i = 0; i < j->result.listed; i++) {
        if (damagehit_items(&j->hit, &j->result.damages[i], clock_utc_usec(), &j->list, &added, err) < 0)
            return -1;
        j->found += added;
    }
    if (open_copy(j, err) < 0)
        return -1;
    for (size_t i = 0; i < j->list.count; i++)
        if (treat(j, &j->list.items[i], err) < 0)
            return -1;
    drop_restored(j);
    if (j->verified && mend_sweep(j->hit.machine_dir, err) < 0)
        return -1;
    j->points_hit = count_hit(j);
    return quarantine_store(j->hit.machine_dir, &j->hit.machine, &j->list, err);
}

/* ---- on the loop ---- */

static void log_items(const struct heal_job *j)
{
    for (size_t i = 0; i < j->list.count && i < LOGGED_MAX && j->found + j->healed > 0; i++) {
        const struct quarantine_item *d = &j->list.items[i];
        log_event(d->state == QUARANTINE_HEALED ? LOG_INFO : LOG_ERROR, "damage", LOG_S("machine", j->job.vm->id_text),
            LOG_S("kind", verify_kind_name(d->kind)),
            LOG_S("state", d->state == QUARANTINE_HEALED ? "healed" : "damaged"), LOG_U("segment", d->segment),
            LOG_U("offset", d->offset), LOG_U("first_point", d->first_point), LOG_U("last_point", d->last_point),
            LOG_S("text", d->text));
    }
}

static void points_hit(const struct quarantine *q, uint64_t *ret_first, uint64_t *ret_last)
{
    *ret_first = *ret_last = 0;
    for (size_t i = 0; i < q->count; i++) {
        const struct quarantine_item *d = &q->items[i];
        if (d->state == QUARANTINE_HEALED || d->points == 0)
            continue;
        *ret_first = *ret_first == 0 || d->first_point < *ret_first ? d->first_point : *ret_first;
        *ret_last = d->last_point > *ret_last ? d->last_point : *ret_last;
    }
}

/* Once for what is new, once for what was healed: the list itself goes with the integrity report. */
static void tell(const struct heal_job *j)
{
    struct vmachine *vm = j->job.vm;
    uint64_t first, last;
    points_hit(&j->list, &first, &last);
    char *hit AUTO_FREE = first == 0 ? mem_strdup("No recovery point is hit.")
                                     : mem_printf("Recovery points %llu to %llu are hit.", (unsigned long long)first,
                                           (unsigned long long)last);
    char *found AUTO_FREE = mem_printf(
        "%zu places of what the vault holds of this machine cannot be read. %s", j->found, hit == NULL ? "" : hit);
    char *healed AUTO_FREE =
        mem_printf("%zu damaged places in the vault were healed. %s", j->healed, hit == NULL ? "" : hit);
    log_items(j);
    if (vm->d->session == NULL || found == NULL || healed == NULL)
        return;
    if (j->found > j->healed)
        session_event(vm->d->session, "error", "vault_damaged", vm->id_text,
            "`leeward machine integrity` names the points. Check the vault's disk and memory.", found);
    if (j->healed > 0)
        session_event(vm->d->session, "info", "damage_healed", vm->id_text, "", healed);
}

static bool is_damaged(const struct quarantine *q)
{
    for (size_t i = 0; i < q->count; i++)
        if (q->items[i].state == QUARANTINE_DAMAGED)
            return true;
    return false;
}

static bool waits(const struct quarantine *q)
{
    for (size_t i = 0; i < q->count; i++)
        if (q->items[i].now)
            return true;
    return false;
}

/* Why the bucket did not help; NULL: it did, or had nothing to say. */
static const struct err *copy_trouble(const struct heal_job *j)
{
    const struct err *why = j->copy == NULL ? NULL : secondcopy_failure(j->copy), *bad;
    if (why == NULL && j->copy != NULL && secondcopy_bad(j->copy, &bad) > 0)
        why = bad;
    return why != NULL && why->code == ERR_CANCELLED ? NULL : why;
}

static void tell_trouble(struct vmachine *vm, const struct err *why)
{
    log_event(LOG_WARN, "second_copy_not_used", LOG_S("machine", vm->id_text), LOG_E(why));
    if (vm->copy_told == why->code)
        return;
    vm->copy_told = why->code;
    char *text AUTO_FREE = mem_printf("The vault's damage cannot be healed from the bucket: %s", why->text);
    if (vm->d->session != NULL && text != NULL)
        session_event(vm->d->session, "warning", "second_copy_unusable", vm->id_text,
            why->correction[0] != '\0' ? why->correction : "Check the storage service. It is asked again by itself.",
            text);
}

/* When the bucket is asked the next time. */
static void see_copy(struct heal_job *j)
{
    struct vmachine *vm = j->job.vm;
    const struct err *why = copy_trouble(j);
    bool passes = why != NULL && err_is_retryable(why->code);
    if (!is_damaged(&j->list)) {
        healpace_rest(&vm->heal_copy);
        vm->copy_told = ERR_NONE;
        return;
    }
    if (why != NULL)
        tell_trouble(vm, why);
    else if (j->copy_asked)
        vm->copy_told = ERR_NONE;
    if (j->healed > 0 || j->found > 0)
        healpace_rest(&vm->heal_copy);
    if (vm->d->bucket != NULL && (j->copy_asked || j->conflict))
        healpace_wait(&vm->heal_copy, clock_mono_usec(), COPY_AGAIN_USEC,
            passes || j->conflict ? COPY_FAILED_MAX_USEC : COPY_USELESS_MAX_USEC);
}

/* When it is looked the next time what has come. */
static void see_resend(struct heal_job *j)
{
    struct vmachine *vm = j->job.vm;
    if (j->healed > 0 || j->found > 0 || !waits(&j->list))
        healpace_rest(&vm->heal_look);
    if (waits(&j->list))
        healpace_wait(&vm->heal_look, clock_mono_usec(), LOOK_AGAIN_USEC, LOOK_AGAIN_MAX_USEC);
}

static void start(struct heal_job *j, struct vmachine *vm);

static void start_next(struct vmachine *vm)
{
    struct heal_job *next = vm->heal_queue;
    if (next == NULL)
        return;
    vm->heal_queue = next->next;
    start(next, vm);
}

/* Something else than the damage is in the way. */
static void wait_longer(struct vmachine *vm)
{
    uint64_t now = clock_mono_usec();
    if (vm->heal_copy.due_usec != 0)
        healpace_wait(&vm->heal_copy, now, COPY_AGAIN_USEC, COPY_FAILED_MAX_USEC);
    if (vm->heal_look.due_usec != 0)
        healpace_wait(&vm->heal_look, now, LOOK_AGAIN_USEC, LOOK_AGAIN_MAX_USEC);
}

static void note_mended(struct vmachine *vm, size_t count)
{
    if (count == 0)
        return;
    vm->mended_untold += count;
    vm->mended_usec = clock_mono_usec();
}

/* Once for all that came in one go. */
static void tell_mended(struct vmachine *vm, uint64_t now)
{
    if (vm->mended_untold == 0 || now < vm->mended_usec + MENDED_TELL_USEC)
        return;
    char *text AUTO_FREE =
        mem_printf("%llu damaged places in the vault were healed from a copy that another vault has.",
            (unsigned long long)vm->mended_untold);
    log_event(LOG_INFO, "mended_from_copy", LOG_S("machine", vm->id_text), LOG_U("places", vm->mended_untold));
    if (vm->d->session != NULL && text != NULL)
        session_event(vm->d->session, "info", "damage_healed", vm->id_text, "", text);
    vm->mended_untold = 0;
}

static void heal_done(struct vaultjob *job)
{
    struct heal_job *j = (struct heal_job *)job;
    struct vmachine *vm = job->vm;
    if (job->result == 0) {
        if (j->offers == NULL) {
            tell(j);
            see_copy(j);
            see_resend(j);
        } else {
            note_mended(vm, j->offers->mended);
        }
        quarantine_done(&vm->quarantine);
        vm->quarantine = j->list;
        vm->points_hit = j->points_hit;
        vm->integrity_news = true;
        j->list = (struct quarantine){0};
    } else if (job->err.code != ERR_CANCELLED) {
        log_event(LOG_ERROR, "healing_failed", LOG_S("machine", vm->id_text), LOG_E(&job->err));
        wait_longer(vm);
    }
    vm->healing = false;
    if (j->done != NULL)
        j->done(j->arg);
    if (j->offered != NULL)
        j->offered(j->arg, job->result == 0 ? NULL : &job->err);
    job_free(j);
    start_next(vm);
}

static void take_done(struct vaultjob *job)
{
    bool taken = job->result == 0 && !job->vm->d->stopping;
    job->run = heal_run;
    job->done = heal_done;
    if (taken && vaultjob_idle(job->vm->d, job->vm, job, NULL) == 0)
        return;
    job->result = -1;
    heal_done(job);
}

/* Begins with the list as it is now, or waits until the job that changes it is done. */
static void start(struct heal_job *j, struct vmachine *vm)
{
    j->job.vm = vm;
    j->job.run = take_run;
    j->job.done = take_done;
    j->job.result = -1;
    j->conflict = vaultupload_is_in_conflict(vm);
    if (vm->healing) {
        struct heal_job **link = &vm->heal_queue;
        while (*link != NULL)
            link = &(*link)->next;
        *link = j;
        return;
    }
    vm->healing = true;
    if (vm->d->stopping || quarantine_copy(&vm->quarantine, &j->list, &j->job.err) < 0 ||
        vaultjob_lane(vm, &j->job, &j->job.err) < 0)
        heal_done(&j->job);
}

void vaultheal_found(
    struct vmachine *vm, uint64_t after_segment, const struct verify_result *result, void (*done)(void *arg), void *arg)
{
    struct heal_job *j = result->damage_count == 0 && vm->quarantine.count == 0 ? NULL : mem_new(struct heal_job);
    if (j != NULL && verify_result_join(&j->result, result, NULL) < 0) {
        job_free(j);
        j = NULL;
    }
    if (j == NULL) {
        if (done != NULL)
            done(arg);
        return;
    }
    j->verified = true;
    j->asks_copy = done != NULL || healpace_is_due(&vm->heal_copy, clock_mono_usec()); /* somebody waits for it */
    j->after_segment = after_segment;
    j->done = done;
    j->arg = arg;
    start(j, vm);
}

void vaultheal_loaded(struct vmachine *vm)
{
    uint64_t now = clock_mono_usec();
    if (waits(&vm->quarantine))
        healpace_wait(&vm->heal_look, now, LOOK_AGAIN_USEC, LOOK_AGAIN_MAX_USEC);
    if (vm->d->bucket != NULL && is_damaged(&vm->quarantine))
        healpace_wait(&vm->heal_copy, now, COPY_AGAIN_USEC, COPY_FAILED_MAX_USEC);
}

void vaultheal_offers_free(struct heal_offers *offers)
{
    for (size_t i = 0; offers != NULL && i < offers->count; i++)
        free(offers->items[i].data);
    free(offers);
}

int vaultheal_offered(struct vmachine *vm, struct heal_offers *offers, void (*done)(void *arg, const struct err *err),
    void *arg, struct err *err)
{
    if (vm->erase != NULL || !vm->desired) /* it would make the folder again */
        return err_set(err, ERR_REFUSED, "this vault is not to have the machine any more");
    struct heal_job *j = mem_new(struct heal_job);
    if (j == NULL)
        return err_set(err, ERR_NOMEM, "no memory to heal");
    j->offers = offers;
    j->offered = done;
    j->arg = arg;
    start(j, vm);
    return 0;
}

void vaultheal_tick(struct vmachine *vm, uint64_t now_usec)
{
    tell_mended(vm, now_usec);
    bool news = vm->healed_at_point != vm->last_point && healpace_is_due(&vm->heal_look, now_usec);
    bool copy_due = healpace_is_due(&vm->heal_copy, now_usec);
    if (vm->healing || vm->d->stopping || !(news || copy_due))
        return;
    struct heal_job *j = mem_new(struct heal_job);
    if (j == NULL)
        return;
    j->asks_copy = copy_due;
    vm->healed_at_point = vm->last_point;
    start(j, vm);
}
