/* SPDX-License-Identifier: Apache-2.0
 *
 * Converging to the wish. A disk is tracked before anything of it is read. What an earlier process left is taken over when the
 * tracker's bits and the retained changes both lived on; otherwise the disk is compared with the vault from its start.
 *
 * Failure modes: a disk that is not there (any more), cannot be tracked or cannot be read is the trouble of the whole agent:
 * points without it would not be the machine. Tracking of the others goes on meanwhile.
 */
#include "mobility/sync/engine_internal.h"

#include <stdio.h>
#include <string.h>

#include "transport/base/clock.h"
#include "transport/base/file.h"
#include "transport/base/log.h"

#define INVENTORY_USEC (30 * USEC_PER_SEC)
/* For a look without which a step cannot go on. It takes milliseconds unless some disk is slow. */
#define LOOK_USEC (1 * USEC_PER_SEC)
#define LOOK_AGAIN_USEC (1 * USEC_PER_SEC) /* after one that failed */
#define MISSED_USEC (10 * USEC_PER_SEC)    /* a disk that is missing in a list older than this is looked for again */
#define HINT_KEY_MAX 130                   /* that a remedy has room for */

/* ---- inventory ---- */

static void take_inventory(struct engine *e, struct inventory *fresh)
{
    struct engine_output o = {.kind = ENGINE_INVENTORY};
    bool changed = !e->inventory || !inventory_equal(e->inventory, fresh);

    inventory_free(e->inventory);
    e->inventory = fresh;
    engine_watch_inventory(e);
    if (!changed)
        return;
    o.inventory = inventory_ref(fresh);
    engine_put(e, &o);
}

static int take_look(struct engine *e, uint64_t since_usec, uint64_t wait_usec, struct err *err)
{
    struct inventory *fresh;
    int r = scout_take(e->scout, since_usec, wait_usec, &fresh, &e->inventory_usec, err);

    if (r > 0)
        take_inventory(e, fresh);
    if (r >= 0)
        return 0;
    e->asked_usec = 0;
    e->ask_after_usec = clock_mono_usec() + LOOK_AGAIN_USEC;
    return err_wrap(err, "looking for disks");
}

static bool is_known_since(const struct engine *e, uint64_t usec)
{
    return e->inventory && e->inventory_usec >= usec;
}

int engine_refresh_inventory(struct engine *e, uint64_t since_usec, struct err *err)
{
    uint64_t now = clock_mono_usec(), needed = since_usec > e->stale_usec ? since_usec : e->stale_usec;

    if (take_look(e, 0, 0, err) < 0)
        return -1;
    if ((e->asked_usec == 0 || e->asked_usec < needed || now >= e->asked_usec + INVENTORY_USEC) &&
        now >= e->ask_after_usec) {
        scout_ask(e->scout);
        e->asked_usec = now;
    }
    if (!is_known_since(e, since_usec) && e->asked_usec > 0 &&
        take_look(e, since_usec ? since_usec : 1, LOOK_USEC, err) < 0)
        return -1;
    if (!is_known_since(e, since_usec))
        return err_set(err, ERR_UNAVAILABLE, "the disks of this machine are still being looked for");
    return 0;
}

/* ---- one disk ---- */

unsigned engine_index(const struct engine *e, const struct engine_disk *d)
{
    return (unsigned)(d - e->disks);
}

struct syncstate_disk *engine_row(struct engine *e, const struct engine_disk *d)
{
    return syncstate_find(&e->state, d->number);
}

static void drop_chunks(struct engine *e, unsigned disk)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < e->chunk_count; i++)
        if (e->chunks[i].disk != disk)
            e->chunks[kept++] = e->chunks[i];
    e->chunk_count = kept;
}

static void drop_plan(struct engine_disk *d)
{
    plan_free(TAKE_PTR(d->plan));
    d->plan_since_usec = 0;
}

/* Lets go of a disk. Tracking of it goes on unless it is removed. */
static void detach(struct engine *e, struct engine_disk *d)
{
    unsigned i = engine_index(e, d);

    cycle_clear_disk(e->cycle, i);
    reader_remove_disk(e->reader, i);
    if (e->retained)
        retained_detach(e->retained, i);
    drop_chunks(e, i);
    drop_plan(d);
    engine_unreadable_forget(d);
    yield_close(&d->yield);
    engine_insight_leave(e, d);
    d->attached = d->swept = false;
    d->at = 0;
}

/* What the tracker still holds stays known here: it can be ended again, and would refuse to be added a second time. */
static int end_tracking(struct engine *e, struct engine_disk *d, struct err *err)
{
    if (d->tracked && tracker_remove(e->tracker, d->tracked, err) < 0)
        return -1;
    d->tracked = NULL;
    return 0;
}

static int untrack(struct engine *e, struct engine_disk *d, struct err *err)
{
    detach(e, d);
    retained_remove(e->retained, engine_index(e, d));
    return end_tracking(e, d, err);
}

void engine_detach_all(struct engine *e)
{
    for (unsigned i = 0; i < MARK_DISKS_MAX; i++)
        if (e->disks[i].attached)
            detach(e, &e->disks[i]);
}

void engine_restart_copy(struct engine *e, struct engine_disk *d, enum copy_state copy)
{
    struct syncstate_disk *row = engine_row(e, d);

    row->copy = copy;
    row->cursor = 0;
    d->at = 0;
    d->swept = false;
    d->compare = copy == COPY_RESYNC;
    engine_unreadable_forget(d); /* the sweep finds it again */
    drop_plan(d);
    drop_chunks(e, engine_index(e, d));
    cycle_clear_disk(e->cycle, engine_index(e, d));
    e->state.first_point_due = true;
    e->first_point = 0;
    e->no_point_reason = NULL; /* there is none until it is over */
}

void engine_tell_resync(struct engine *e, const struct engine_disk *d, const char *why)
{
    engine_event(e, "warning", "resync_started", "", "disk %s is compared with the vault: %s", d->key, why);
}

/* What says so in the kernel is acknowledged when it is durable here. */
static int start_resync(struct engine *e, struct engine_disk *d, const char *why, struct err *err)
{
    engine_restart_copy(e, d, COPY_RESYNC);
    e->must_bump = true; /* the vault's content must stand still while it is compared: nothing else is on its way */
    if (engine_save(e, err) < 0)
        return -1;
    tracker_disk_acknowledge(d->tracked);
    engine_tell_resync(e, d, why);
    return 0;
}

/* Decides what the copy of a disk is worth that has just been attached. Durable when it returns: before that its retained changes are none
 * that a next process would go on from. */
static int judge_copy(struct engine *e, struct engine_disk *d, bool resumed, struct err *err)
{
    struct syncstate_disk *row = engine_row(e, d);
    bool rebooted = strcmp(e->state.boot_id, e->boot_id) != 0;

    if (!row) {
        row = syncstate_disk(&e->state, d->number);
        if (!row)
            return err_set(err, ERR_TOO_LARGE, "more than %u disks", MARK_DISKS_MAX);
        snprintf(row->key, sizeof(row->key), "%s", d->key);
        row->size_bytes = tracker_disk_size_bytes(d->tracked);
        engine_restart_copy(e, d, COPY_INITIAL);
        return engine_save(e, err);
    }
    row->size_bytes = tracker_disk_size_bytes(d->tracked);
    if (strcmp(row->key, d->key) != 0) {
        snprintf(row->key, sizeof(row->key), "%s", d->key);
        return start_resync(e, d, "another disk has taken its number", err);
    }
    d->resend = true;
    d->at = row->cursor;
    d->compare = row->copy == COPY_RESYNC;
    if (!resumed && (row->copy != COPY_INITIAL || row->cursor > 0))
        return start_resync(
            e, d, rebooted ? "the machine was restarted" : "its changes were not tracked for a while", err);
    d->swept = row->copy == COPY_DONE;
    return 0;
}

static int join_cycle(struct engine *e, struct engine_disk *d, struct err *err)
{
    return cycle_set_disk(
        e->cycle, engine_index(e, d), tracker_disk_size_bytes(d->tracked), tracker_disk_granule_shift(d->tracked), err);
}

int engine_join_cycle(struct engine *e, struct engine_disk *d, struct err *err)
{
    d->swept = true;
    if (engine_all_swept(e))
        engine_point_now(e); /* the first one with all of them */
    return join_cycle(e, d, err);
}

/* What would make protection of this disk feed on itself. */
static void warn_of_loops(struct engine *e, const struct inventory_disk *disk)
{
    size_t index = (size_t)(disk - e->inventory->disks);
    struct inventory_set set;

    inventory_disks_of_path(e->inventory, NULL, e->conf.data_dir, &set);
    if (inventory_set_has(&set, index))
        engine_event(e, "warning", "protects_own_data",
            "keep the data folders of Leeward on a disk that is not protected",
            "the data folder of this agent lies on the protected disk %s: each point changes the disk again",
            disk->key);
    inventory_disks_below(e->inventory, NULL, disk, &set);
    for (unsigned i = 0; i < e->wish.disk_count; i++) {
        const struct inventory_disk *below = inventory_find(e->inventory, e->wish.disks[i].key);

        if (below && inventory_set_has(&set, (size_t)(below - e->inventory->disks)))
            engine_event(e, "warning", "loop_on_protected_disk", "protect only one of the two",
                "the backing file of %s lies on %s, which is protected too: its changes are sent twice", disk->key,
                below->key);
    }
}

static int track(
    struct engine *e, struct engine_disk *d, const struct inventory_disk *disk, bool *ret_resumed, struct err *err)
{
    unsigned i = engine_index(e, d);
    struct tracker_stats stats;
    struct dirty_tag tag;

    if (d->tracked && tracker_disk_actual_bytes(d->tracked) == 0 && end_tracking(e, d, err) < 0)
        return -1;
    if (!d->tracked && tracker_add(e->tracker, disk->device, &d->tracked, err) < 0)
        return -1;
    if (reader_add_disk(e->reader, i, disk->device, err) < 0)
        return -1;
    tracker_disk_stats(d->tracked, &stats);
    d->counted_bytes = d->drained_bytes = stats.bytes;
    d->unmeasured = true;
    tracker_disk_tag(d->tracked, &tag);
    return retained_add(e->retained, i, d->number, tracker_disk_size_bytes(d->tracked),
        tracker_disk_granule_shift(d->tracked), &tag, ret_resumed, err);
}

/* NULL: it is not there, or the list is too old to tell which device it is, and err has that. */
static const struct inventory_disk *find_present(struct engine *e, const char *key, struct err *err)
{
    uint64_t now = clock_mono_usec();
    const struct inventory_disk *disk;

    if (engine_refresh_inventory(e, e->stale_usec, err) < 0)
        return NULL;
    disk = inventory_find(e->inventory, key);
    if ((!disk || !disk->trackable) && now > MISSED_USEC && engine_refresh_inventory(e, now - MISSED_USEC, NULL) == 0)
        disk = inventory_find(e->inventory, key);
    /* Names may have been swapped: another disk's content would be taken for this one's. */
    if (disk && !inventory_disk_is_current(disk)) {
        e->stale_usec = now;
        err_set(err, ERR_UNAVAILABLE, "the device of disk %s has just changed", key);
        return NULL;
    }
    return disk;
}

/* What leaves a disk out, to be copied into a shell. A disk that is gone is known by its key alone. One that is very long, or that a shell would not take as it
 * is, the reader finds in the list. */
static int hint_exclude(const struct engine_disk *d, const char *otherwise, struct err *err)
{
    if (strlen(d->key) > HINT_KEY_MAX || strchr(d->key, '\''))
        return err_hint(
            err, "%sleave it out: leeward disk exclude MACHINE KEY (leeward disk list has the key)", otherwise);
    return err_hint(err, "%sleave it out: leeward disk exclude MACHINE '%s'", otherwise, d->key);
}

/* In the same words however it was found out: what is said anew is an event of its own. */
static int missing(const struct engine_disk *d, struct err *err)
{
    if (d->device[0])
        err_set(err, ERR_NOT_FOUND, "no points are made: the protected disk %s (%s) is not there", d->key, d->device);
    else
        err_set(err, ERR_NOT_FOUND, "no points are made: the protected disk %s is not there", d->key);
    return hint_exclude(d, "attach it again (it is compared with the vault then), or ", err);
}

static int attach(struct engine *e, struct engine_disk *d, struct err *err)
{
    struct err why = ERR_INIT;
    const struct inventory_disk *disk = find_present(e, d->key, &why);
    bool resumed;

    if (why.code != ERR_NONE) {
        err_copy(err, &why);
        return -1;
    }
    if (!disk)
        return missing(d, err);
    if (!disk->trackable) {
        err_set(err, ERR_UNSUPPORTED, "%s", disk->reason);
        return hint_exclude(d, "", err);
    }
    if (track(e, d, disk, &resumed, err) < 0 || judge_copy(e, d, resumed, err) < 0 ||
        retained_keep(e->retained, engine_index(e, d), err) < 0 || (d->swept && join_cycle(e, d, err) < 0)) {
        detach(e, d);
        return err_wrap(err, "disk %s", d->key);
    }
    d->attached = true;
    snprintf(d->device, sizeof(d->device), "%s", disk->device);
    warn_of_loops(e, disk);
    log_event(LOG_INFO, "disk_attached", LOG_S("key", d->key), LOG_S("device", disk->device),
        LOG_U("number", d->number), LOG_U("size_bytes", disk->size_bytes), LOG_B("resumed", resumed));
    return 0;
}

/* ---- all disks ---- */

static struct engine_disk *disk_of(struct engine *e, const struct engine_disk_wish *w)
{
    struct engine_disk *free_one = NULL;

    for (unsigned i = 0; i < MARK_DISKS_MAX; i++) {
        struct engine_disk *d = &e->disks[i];

        if (d->key[0] && d->number == w->number && strcmp(d->key, w->key) == 0)
            return d;
        if (!d->key[0] && !free_one)
            free_one = d;
    }
    if (free_one) {
        *free_one = (struct engine_disk){.number = w->number};
        snprintf(free_one->key, sizeof(free_one->key), "%s", w->key);
    }
    return free_one;
}

/* Disks that are wished no more. */
static int drop_unwished(struct engine *e, struct err *err)
{
    bool dropped = false;

    for (unsigned i = 0; i < MARK_DISKS_MAX; i++) {
        struct engine_disk *d = &e->disks[i];

        if (!d->key[0] || d->wished)
            continue;
        if (untrack(e, d, err) < 0)
            return -1;
        log_event(LOG_INFO, "disk_dropped", LOG_S("key", d->key), LOG_U("number", d->number));
        *d = (struct engine_disk){0};
        dropped = true;
    }
    for (uint32_t i = 0; i < e->state.disk_count;) {
        bool wished = false;

        for (uint32_t j = 0; j < e->wish.disk_count; j++)
            wished = wished || e->wish.disks[j].number == e->state.disks[i].number;
        if (wished) {
            i++;
            continue;
        }
        syncstate_drop_disk(&e->state, e->state.disks[i].number);
        dropped = true;
    }
    if (dropped && e->state.first_point_due && e->first_point == 0 && engine_all_swept(e))
        engine_point_now(e); /* nothing else was missing for it */
    return dropped ? engine_save(e, err) : 0;
}

static int open_parts(struct engine *e, struct err *err)
{
    char scan_dir[600];
    struct tracker_config config = {
        .driver = e->conf.driver, .pin_root = e->conf.pin_root, .instance = e->conf.instance, .state_dir = scan_dir};

    snprintf(scan_dir, sizeof(scan_dir), "%s/scan", e->conf.data_dir);
    if (!e->retained && retained_new(e->retained_dir, &e->retained, err) < 0)
        return -1;
    if (e->tracker)
        return 0;
    e->prepared = e->others_forgotten = false;
    if (tracker_open(&config, &e->tracker, err) < 0)
        return err_wrap(err, "starting to track changes");
    log_event(LOG_INFO, "tracker_open", LOG_S("driver", tracker_driver_name(e->tracker)));
    return 0;
}

/* Nothing is protected, and there is time: the first copy of a machine that is protected later need not wait for the verifier. */
void engine_prepare(struct engine *e)
{
    if (e->tracker || e->prepared || !e->has_wish || e->wish.protect)
        return;
    tracker_prepare();
    e->prepared = true;
}

/* Nothing is to be protected: no trace is left in the kernel or under /run, and nothing is known of the disks. */
static int leave(struct engine *e, struct err *err)
{
    char scan_dir[600];
    struct tracker_config config = {.pin_root = e->conf.pin_root, .instance = e->conf.instance, .state_dir = scan_dir};

    snprintf(scan_dir, sizeof(scan_dir), "%s/scan", e->conf.data_dir);
    if (!e->tracker && !e->retained && e->state.disk_count == 0)
        return 0;
    for (unsigned i = 0; i < MARK_DISKS_MAX; i++) {
        if (e->disks[i].attached)
            detach(e, &e->disks[i]);
        e->disks[i] = (struct engine_disk){0};
    }
    engine_refuse_commands(e);
    changeset_restart(e->set, changeset_next_sequence(e->set));
    changeset_set_threads(e->set, 0, 0);
    tracker_close(TAKE_PTR(e->tracker));
    retained_free(TAKE_PTR(e->retained));
    e->linked = e->agreed = e->knows_closed = false;
    e->must_bump = true;
    e->chunk_count = 0;
    e->no_point_reason = NULL;
    if (tracker_destroy(&config, err) < 0 || retained_destroy(e->retained_dir, err) < 0)
        return -1; /* the disks are still known, so it is tried again */
    e->state.disk_count = 0;
    e->state.first_point_due = false;
    engine_event(e, "info", "protection_ended", "", "tracking was removed from all disks");
    return engine_save(e, err);
}

/* Disks that were left out while no agent ran: their maps would stay in memory until the next start of the machine. */
static void forget_others(struct engine *e)
{
    struct err why = ERR_INIT;

    if (e->others_forgotten)
        return;
    e->others_forgotten = true;
    if (tracker_forget_others(e->tracker, &why) < 0)
        log_event(LOG_WARN, "forget_others_failed", LOG_E(&why));
}

static int attach_wished(struct engine *e, struct err *err)
{
    for (unsigned i = 0; i < MARK_DISKS_MAX; i++)
        e->disks[i].wished = false;
    for (uint32_t i = 0; i < e->wish.disk_count; i++) {
        struct engine_disk *d = disk_of(e, &e->wish.disks[i]);

        if (d)
            d->wished = true;
    }
    if (drop_unwished(e, err) < 0)
        return -1;
    for (unsigned i = 0; i < MARK_DISKS_MAX; i++)
        if (e->disks[i].wished && !e->disks[i].attached && attach(e, &e->disks[i], err) < 0)
            return -1;
    forget_others(e);
    return 0;
}

/* A request of the hub that was not obeyed yet, and all disks that it is about, in one save: half of it would count as obeyed. A hub that was restored from a
 * backup, or protects the machine anew, begins again with lower numbers: they ask for nothing, and are where the next request is counted from. On a
 * machine without a copy there is nothing to compare. */
static int obey_resync_request(struct engine *e, struct err *err)
{
    bool asked = e->wish.resync_request > e->state.resync_request;

    if (e->wish.resync_request == e->state.resync_request)
        return 0;
    e->state.resync_request = e->wish.resync_request;
    for (unsigned i = 0; asked && i < MARK_DISKS_MAX; i++) {
        struct engine_disk *d = &e->disks[i];

        if (!d->attached || engine_row(e, d)->copy == COPY_INITIAL)
            continue;
        engine_restart_copy(e, d, COPY_RESYNC);
        engine_tell_resync(e, d, "it was asked for");
        e->must_bump = true;
    }
    return engine_save(e, err);
}

int engine_converge(struct engine *e, struct err *err)
{
    if (!e->wish.protect)
        return leave(e, err);
    if (e->wish.disk_count == 0) {
        err_set(err, ERR_INVALID, "protection is wanted, but of no disk");
        return err_hint(err, "choose disks: leeward machine protect NAME --disk KEY");
    }
    engine_pace_follow(e);
    if (open_parts(e, err) < 0 || attach_wished(e, err) < 0)
        return -1;
    if (strcmp(e->state.boot_id, e->boot_id) != 0) {
        snprintf(e->state.boot_id, sizeof(e->state.boot_id), "%s", e->boot_id);
        if (engine_save(e, err) < 0)
            return -1;
    }
    if (engine_relink(e, err) < 0 || obey_resync_request(e, err) < 0)
        return -1;
    return 0;
}

/* ---- before each step ---- */

static int resize(struct engine *e, struct engine_disk *d, uint64_t actual, struct err *err)
{
    struct syncstate_disk *row = engine_row(e, d);
    uint64_t before = row->size_bytes;

    if (tracker_resize(e->tracker, d->tracked, err) < 0 ||
        retained_resize(e->retained, engine_index(e, d), tracker_disk_size_bytes(d->tracked), err) < 0 ||
        engine_unreadable_resize(d, err) < 0 || (d->swept && join_cycle(e, d, err) < 0))
        return -1;
    row->size_bytes = tracker_disk_size_bytes(d->tracked);
    d->unmeasured = true;
    drop_plan(d);
    engine_event(e, "info", "disk_resized", "", "disk %s went from %llu to %llu bytes", d->key,
        (unsigned long long)before, (unsigned long long)actual);
    return engine_save(e, err);
}

static int vanished(struct engine *e, struct engine_disk *d, struct err *err)
{
    struct err ignored = ERR_INIT;

    log_event(LOG_WARN, "disk_vanished", LOG_S("key", d->key), LOG_S("device", d->device), LOG_U("number", d->number));
    e->stale_usec = clock_mono_usec();
    if (untrack(e, d, &ignored) < 0)
        log_event(LOG_WARN, "untrack_failed", LOG_S("key", d->key), LOG_E(&ignored));
    return missing(d, err);
}

int engine_check_disks(struct engine *e, struct err *err)
{
    engine_watch(e);
    for (unsigned i = 0; i < MARK_DISKS_MAX; i++) {
        struct engine_disk *d = &e->disks[i];
        uint64_t actual;

        if (!d->attached)
            continue;
        actual = tracker_disk_actual_bytes(d->tracked);
        if (actual == 0)
            return vanished(e, d, err);
        /* The row follows last: a resize that failed halfway is gone on with. */
        if ((actual != tracker_disk_size_bytes(d->tracked) || actual != engine_row(e, d)->size_bytes) &&
            resize(e, d, actual, err) < 0)
            return -1;
        if (tracker_disk_is_unknown(d->tracked) &&
            start_resync(e, d, "some of its changes could not be recorded", err) < 0)
            return -1;
    }
    return 0;
}
