/* SPDX-License-Identifier: Apache-2.0
 *
 * The engine's thread. Happy path of a turn: take what came in, converge, agree with the vault, apply commits, then one step
 * of work, a chunk of a sweep or a cycle. What fails becomes the trouble of the status with its remedy, and is tried again
 * after a while; a stream that was lost is no trouble of the engine's, it just waits for the next one while tracking goes on. Nor is a disk
 * that is away for a moment, but when it holds up all work for longer the status says so.
 */
#include "mobility/sync/engine_internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "transport/base/clock.h"
#include "transport/base/log.h"
#include "transport/base/mem.h"

#define RETRY_USEC (5 * USEC_PER_SEC)
#define IDLE_USEC (1 * USEC_PER_SEC)
#define FAILED_USEC (100 * USEC_PER_MSEC) /* between two turns that fail, where something is due all the same */
#define SAVE_USEC (30 * USEC_PER_SEC)
#define SAVE_CURSOR_USEC (1 * USEC_PER_SEC) /* what a killed agent may copy twice; a save waits for the disk */

/* ---- out ---- */

void engine_put(struct engine *e, struct engine_output *o)
{
    pthread_mutex_lock(&e->lock);
    if (e->output_count < ENGINE_OUTPUTS_MAX) {
        e->outputs[(e->output_head + e->output_count++) % ENGINE_OUTPUTS_MAX] = *o;
        o->inventory = NULL;
    }
    pthread_mutex_unlock(&e->lock);
    inventory_free(o->inventory); /* no room: the hub gets the next one */
    e->conf.to_loop(e->conf.arg);
}

void engine_event(struct engine *e, const char *severity, const char *code, const char *remedy, const char *fmt, ...)
{
    struct engine_output o = {.kind = ENGINE_EVENT, .severity = severity, .code = code};
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(o.text, sizeof(o.text), fmt, ap);
    va_end(ap);
    snprintf(o.remedy, sizeof(o.remedy), "%s", remedy ? remedy : "");
    engine_put(e, &o);
}

int engine_take(struct engine *e, struct engine_output *ret_output)
{
    int have = 0;

    pthread_mutex_lock(&e->lock);
    if (e->output_count > 0) {
        *ret_output = e->outputs[e->output_head];
        e->output_head = (e->output_head + 1) % ENGINE_OUTPUTS_MAX;
        e->output_count--;
        have = 1;
    }
    pthread_mutex_unlock(&e->lock);
    return have;
}

void engine_get_status(struct engine *e, struct engine_status *ret_status)
{
    pthread_mutex_lock(&e->lock);
    *ret_status = e->status;
    pthread_mutex_unlock(&e->lock);
}

/* ---- in ---- */

void engine_wake(struct engine *e)
{
    pthread_mutex_lock(&e->lock);
    e->woken = true;
    pthread_cond_signal(&e->cond);
    pthread_mutex_unlock(&e->lock);
}

void engine_rescan(struct engine *e)
{
    pthread_mutex_lock(&e->lock);
    e->rescan = e->woken = true;
    pthread_cond_signal(&e->cond);
    pthread_mutex_unlock(&e->lock);
}

void engine_set_wish(struct engine *e, const struct engine_wish *wish)
{
    pthread_mutex_lock(&e->lock);
    e->new_wish = *wish;
    e->wish_is_new = true;
    e->woken = true;
    pthread_cond_signal(&e->cond);
    pthread_mutex_unlock(&e->lock);
}

bool engine_is_stopping(struct engine *e)
{
    bool stop;

    pthread_mutex_lock(&e->lock);
    stop = e->stop;
    pthread_mutex_unlock(&e->lock);
    return stop;
}

/* ---- the thread ---- */

/* By the note of hold.h: then it is right that nothing can be written. */
static bool system_is_held(const struct engine *e)
{
    char note[512];

    snprintf(note, sizeof(note), "%s/held", e->conf.run_dir);
    return access(note, F_OK) == 0;
}

static void tell_unsaved(struct engine *e, const struct err *why)
{
    if (!e->told_unsaved)
        engine_event(e, "warning", "state_not_saved", why->correction, "replication goes on, but %s", why->text);
    e->told_unsaved = true;
}

/* The state on disk is newer from here on. A spare that cannot be removed has to say the same: a next process would go by it. */
static int drop_spare(struct engine *e, struct err *err)
{
    if (access(e->spare_path, F_OK) < 0 || unlink(e->spare_path) == 0)
        return 0;
    log_event(LOG_WARN, "spare_state_stays", LOG_S("path", e->spare_path));
    return syncstate_save(e->spare_path, &e->state, err);
}

/* Where the disk of the data folder is held still, full, read-only by itself after an error or broken, this boot has to know all the same: a source that is
 * in trouble is what it is all for. After a reboot the disks are compared anyway. */
int engine_save(struct engine *e, struct err *err)
{
    struct err why = ERR_INIT;

    e->saved_usec = clock_mono_usec();
    e->cursor_moved = false;
    uplink_last_point(e->conf.link, &e->state.last_point_sequence, &e->state.last_point_utc_usec);
    if (syncstate_save(e->state_path, &e->state, &why) == 0) {
        if (drop_spare(e, err) < 0)
            return -1;
        e->told_unsaved = false;
        return 0;
    }
    (void)err_hint(&why, "see that %s can be written to and has room", e->conf.data_dir);
    if (syncstate_save(e->spare_path, &e->state, NULL) == 0) {
        if (!system_is_held(e))
            tell_unsaved(e, &why);
        return 0;
    }
    if (err)
        *err = why;
    return -1;
}

/* What is saved from time to time only spares the next process some work: a source whose disk is full stays protected. */
static void save_if_due(struct engine *e)
{
    struct err err = ERR_INIT;

    if (clock_mono_usec() <= e->saved_usec + (e->cursor_moved ? SAVE_CURSOR_USEC : SAVE_USEC))
        return;
    if (engine_save(e, &err) < 0)
        tell_unsaved(e, &err);
}

static void take_inputs(struct engine *e)
{
    bool fresh, lost;

    pthread_mutex_lock(&e->lock);
    fresh = e->wish_is_new;
    lost = e->resend_is_new;
    e->wish_is_new = e->resend_is_new = false;
    e->woken = false;
    if (e->rescan)
        e->stale_usec = clock_mono_usec();
    e->rescan = false;
    if (fresh) {
        e->wish = e->new_wish;
        e->has_wish = true;
    }
    pthread_mutex_unlock(&e->lock);
    if (lost)
        engine_point_now(e); /* it heals the vault */
    if (!fresh)
        return;
    e->retry_usec = 0;
    engine_heed_interval(e);
}

/* Until something comes in, or the time has come. */
static void wait_until(struct engine *e, uint64_t mono_usec)
{
    struct timespec ts = {
        .tv_sec = (time_t)(mono_usec / USEC_PER_SEC), .tv_nsec = (long)(mono_usec % USEC_PER_SEC * 1000)};

    pthread_mutex_lock(&e->lock);
    while (!e->stop && !e->woken)
        if (pthread_cond_timedwait(&e->cond, &e->lock, &ts) == ETIMEDOUT)
            break;
    pthread_mutex_unlock(&e->lock);
}

static bool cycle_is_due(struct engine *e, struct engine_command *ret_command, bool *ret_commanded)
{
    *ret_commanded = false;
    if (!engine_cycle_possible(e) || engine_uncommitted(e) >= ENGINE_UNCOMMITTED_MAX)
        return false;
    *ret_commanded = engine_next_command(e, ret_command) || engine_schedule_next(e, ret_command);
    return *ret_commanded || clock_mono_usec() >= e->next_cycle_usec;
}

static bool retry_is_due(const struct engine *e)
{
    return engine_cycle_possible(e) && engine_uncommitted(e) < ENGINE_UNCOMMITTED_MAX &&
           clock_mono_usec() >= engine_unreadable_wake(e);
}

/* The machine goes to another node: what was sent is waited for, nothing new is begun, so nothing will be sent twice. */
static bool is_leaving(struct engine *e)
{
    if (!uplink_is_leaving(e->conf.link))
        return false;
    if (changeset_is_empty(e->set) && engine_uncommitted(e) == 0)
        uplink_left(e->conf.link);
    return true;
}

/* One step of work. 1: done some; 0: nothing to do now. */
static int work(struct engine *e, struct err *err)
{
    struct engine_command command;
    struct engine_disk *d;
    bool commanded, due;

    if (is_leaving(e))
        return 0;
    if (!e->catching) {
        int grouped = engine_group_run(e, err);

        if (grouped != 0)
            return grouped;
    }
    if (e->catching)
        return !engine_chunk_fits(e) ? 0 : engine_catchup(e, err) < 0 ? -1 : 1;
    due = cycle_is_due(e, &command, &commanded);
    if (retry_is_due(e) && !(due && e->retried)) {
        e->retried = true;
        return engine_unreadable_retry(e, err);
    }
    if (due) {
        int begun = engine_catchup_begin(e, err);

        if (begun != 0)
            return begun;
        e->caught_up = e->retried = false;
        return engine_cycle(e, commanded ? &command : NULL, err) < 0 ? -1 : 1;
    }
    d = engine_sweep_due(e);
    if (d)
        return engine_sweep(e, d, err) < 0 ? -1 : 1;
    return 0;
}

static int turn(struct engine *e, struct err *err)
{
    int r;

    if (engine_refresh_inventory(e, 0, err) < 0 || engine_converge(e, err) < 0)
        return -1;
    e->converged_version = e->wish.version;
    if (!e->wish.protect)
        return 0;
    if (engine_check_disks(e, err) < 0 || engine_apply_commits(e, err) < 0)
        return -1;
    r = engine_agree(e, err);
    if (r <= 0)
        return r;
    save_if_due(e);
    return work(e, err);
}

/* A lost stream and a stop end a step early; neither is a trouble. */
static bool is_trouble(const struct err *err)
{
    return err->code != ERR_UNAVAILABLE && err->code != ERR_CANCELLED && err->code != ERR_NONE;
}

static void note_trouble(struct engine *e, const struct err *err)
{
    if (strcmp(e->trouble.text, err->text) != 0) {
        log_event(LOG_ERROR, "engine_trouble", LOG_E(err), LOG_S("remedy", err->correction));
        if (e->status.phase == PHASE_ERROR) /* else the new phase is told with its cause */
            engine_event(e, "error", "error", err->correction, "agent is still in error: %s", err->text);
    }
    err_copy(&e->trouble, err);
    e->retry_usec = clock_mono_usec() + RETRY_USEC;
}

static uint64_t next_wake(const struct engine *e, bool failed)
{
    uint64_t now = clock_mono_usec(), soonest = now + (failed ? FAILED_USEC : 0), at = now + IDLE_USEC,
             scheduled = engine_schedule_wake(e);
    uint64_t due = e->next_cycle_usec < scheduled ? e->next_cycle_usec : scheduled;

    if (engine_unreadable_wake(e) < due)
        due = engine_unreadable_wake(e);
    if (e->retry_usec > now)
        return e->retry_usec < at ? e->retry_usec : at;
    if (e->agreed && !e->catching && due < at && !uplink_is_leaving(e->conf.link) && engine_cycle_possible(e) &&
        engine_uncommitted(e) < ENGINE_UNCOMMITTED_MAX)
        at = due;
    return at > soonest ? at : soonest;
}

/* An agent that was killed inside a freeze has left its hooks frozen. */
static void thaw_left_over(struct engine *e)
{
    const struct hooks_conf conf = {
        .dir = e->conf.hooks_dir, .run_dir = e->conf.run_dir, .limit_usec = e->conf.hook_usec};
    struct err err = ERR_INIT;

    if (hooks_recover(&conf, &err) > 0)
        engine_event(
            e, "warning", "hooks_thawed_late", "", "the agent ended while applications were held; they were let go");
}

static void *engine_main(void *arg)
{
    struct engine *e = arg;

    prctl(PR_SET_NAME, "capture");
    thaw_left_over(e);
    while (!engine_is_stopping(e)) {
        struct err err = ERR_INIT;
        bool grouped = engine_group_is_asked(e);
        int r = 0;

        take_inputs(e);
        engine_schedule_look(e);
        if (e->has_wish && clock_mono_usec() >= e->retry_usec) {
            r = turn(e, &err);
            if (r < 0 && is_trouble(&err))
                note_trouble(e, &err);
            else
                err_clear(&e->trouble);
            if (r < 0 && err.code == ERR_UNAVAILABLE && uplink_state(e->conf.link, NULL) == UPLINK_RUNNING)
                engine_held_up(e, &err);
        } else if (!e->has_wish) {
            (void)engine_refresh_inventory(e, 0, &err);
        }
        if (grouped && engine_group_is_asked(e))
            engine_group_refuse(e);
        engine_expire_commands(e);
        engine_insight_tick(e);
        engine_publish(e);
        engine_prepare(e);
        if (r <= 0)
            wait_until(e, next_wake(e, r < 0));
    }
    return NULL;
}

/* ---- life ---- */

static void on_look(void *arg)
{
    engine_wake(arg);
}

static void free_parts(struct engine *e)
{
    scout_free(e->scout);
    engine_detach_all(e);
    cycle_free(e->cycle);
    reader_free(e->reader);
    retained_free(e->retained);
    changeset_free(e->set);
    insight_free(e->insight);
    tracker_close(e->tracker);
    inventory_free(e->inventory);
}

/* What was last saved is lost: each disk of which the vault may have something is compared. */
static void distrust_state(struct syncstate *s)
{
    for (uint32_t i = 0; i < s->disk_count; i++) {
        struct syncstate_disk *d = &s->disks[i];

        if (d->copy != COPY_INITIAL || d->cursor > 0)
            d->copy = COPY_RESYNC;
        d->cursor = 0;
    }
    s->first_point_due = true;
}

/* Of both states the one in which more epochs have been used; at the same one that in memory, if it is of this boot. One that is there and says nothing
 * may have said that a disk is to be compared. */
static int load_state(struct engine *e, struct err *err)
{
    AUTO_FREE struct syncstate *spare = mem_new(struct syncstate);
    struct err unreadable = ERR_INIT;

    if (!spare)
        return err_set(err, ERR_NOMEM, "no memory for the engine");
    if (syncstate_load(e->state_path, &e->state, err) < 0)
        return -1;
    if (syncstate_load(e->spare_path, spare, &unreadable) < 0) {
        log_event(LOG_WARN, "spare_state_unreadable", LOG_E(&unreadable));
        distrust_state(&e->state);
        return 0;
    }
    if (strcmp(spare->boot_id, e->boot_id) != 0 || spare->epoch < e->state.epoch)
        return 0;
    e->state = *spare;
    return 0;
}

static int start(struct engine *e, struct err *err)
{
    pthread_condattr_t attr;
    int r;

    e->outputs = mem_alloc(ENGINE_OUTPUTS_MAX, sizeof(*e->outputs));
    if (!e->outputs)
        return err_set(err, ERR_NOMEM, "no memory for the engine");
    if (syncstate_boot_id(e->boot_id, err) < 0 || load_state(e, err) < 0 ||
        changeset_new(e->conf.link, &e->set, err) < 0 || reader_new(0, &e->reader, err) < 0 ||
        engine_cycle_parts(e, err) < 0 || engine_insight_open(e, err) < 0)
        return -1;
    e->committed = e->state.committed_sequence;
    e->must_bump = true;
    uplink_seed_point(e->conf.link, e->state.last_point_sequence, e->state.last_point_utc_usec);
    pthread_mutex_init(&e->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&e->cond, &attr);
    pthread_condattr_destroy(&attr);
    if (scout_new(on_look, e, &e->scout, err) < 0)
        return -1;
    r = pthread_create(&e->thread, NULL, engine_main, e);
    if (r != 0)
        return err_sys(err, r, "starting the capture thread");
    e->started = true;
    return 0;
}

int engine_new(const struct engine_conf *conf, struct engine **ret_engine, struct err *err)
{
    struct engine *e = mem_new(struct engine);

    if (!e)
        return err_set(err, ERR_NOMEM, "no memory for the engine");
    e->conf = *conf;
    snprintf(e->state_path, sizeof(e->state_path), "%s/state", conf->data_dir);
    snprintf(e->spare_path, sizeof(e->spare_path), "%s/spare-state", conf->run_dir);
    snprintf(e->retained_dir, sizeof(e->retained_dir), "%s/retained", conf->run_dir);
    if (start(e, err) < 0) {
        engine_free(e);
        return -1;
    }
    *ret_engine = e;
    return 0;
}

void engine_free(struct engine *e)
{
    struct engine_output o;
    struct err err = ERR_INIT;

    if (!e)
        return;
    if (e->started) {
        pthread_mutex_lock(&e->lock);
        e->stop = true;
        pthread_cond_signal(&e->cond);
        pthread_mutex_unlock(&e->lock);
        uplink_stop(e->conf.link);
        hashfetch_stop(e->conf.hashes);
        pthread_join(e->thread, NULL);
        scout_free(TAKE_PTR(e->scout)); /* it wakes this engine */
        if (e->has_wish && engine_save(e, &err) < 0)
            log_event(LOG_ERROR, "state_not_saved", LOG_E(&err));
        while (engine_take(e, &o))
            inventory_free(o.inventory);
        pthread_cond_destroy(&e->cond);
        pthread_mutex_destroy(&e->lock);
    }
    free_parts(e);
    free(e->outputs);
    free(e);
}
