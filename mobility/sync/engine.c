/* SPDX-License-Identifier: Apache-2.0
 *
 * The engine's thread. Happy path of a turn: take what came in, converge, agree with the vault, apply commits, then one step
 * of work, a chunk of a sweep or a cycle. What fails becomes the trouble of the status with its remedy, and is tried again
 * after a while; a stream that was lost is no trouble of the engine's, it just waits for the next one while tracking goes on.
 */
#include "mobility/sync/engine_internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#include "transport/base/clock.h"
#include "transport/base/log.h"

#define RETRY_USEC (5 * USEC_PER_SEC)
#define IDLE_USEC (1 * USEC_PER_SEC)
#define SAVE_USEC (30 * USEC_PER_SEC)
/* A command that found no stream for this long is answered instead of waiting on. */
#define COMMAND_USEC (60 * USEC_PER_SEC)

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

void engine_result(struct engine *e, const struct engine_command *c, const struct err *error)
{
    struct engine_output o = {.kind = ENGINE_RESULT, .sequence = c->sequence, .time_utc_usec = c->time_utc_usec};

    snprintf(o.command_id, sizeof(o.command_id), "%s", c->id);
    if (error)
        o.error = *error;
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

int engine_create_point(struct engine *e, const char *id, const char *kind, const char *tag, struct err *err)
{
    int number = mark_kind_from_name(kind && kind[0] ? kind : "crash");
    struct engine_command c = {.asked_usec = clock_mono_usec()};
    int r = 0;

    if (number <= MARK_PROGRESS || strlen(tag) > MARK_TAG_MAX || strlen(id) >= sizeof(c.id)) {
        err_set(err, ERR_INVALID, "no point of the kind \"%.32s\" can be made", kind);
        return err_hint(err, "ask for crash, filesystem or application, with a tag of at most %u bytes", MARK_TAG_MAX);
    }
    c.kind = (enum mark_kind)number;
    snprintf(c.id, sizeof(c.id), "%s", id);
    snprintf(c.tag, sizeof(c.tag), "%s", tag);
    pthread_mutex_lock(&e->lock);
    if (e->command_count == ENGINE_COMMANDS_MAX)
        r = err_set(err, ERR_NOMEM, "%u points are asked for already; wait for them", ENGINE_COMMANDS_MAX);
    else if (e->status.phase == PHASE_IDLE) {
        err_set(err, ERR_REFUSED, "this machine is not protected");
        r = err_hint(err, "protect it first: leeward machine protect NAME");
    } else
        e->commands[e->command_count++] = c;
    e->woken = true;
    pthread_cond_signal(&e->cond);
    pthread_mutex_unlock(&e->lock);
    return r;
}

static int find_command(const struct engine *e, const char *id)
{
    for (unsigned i = 0; i < e->command_count; i++)
        if (strcmp(e->commands[i].id, id) == 0)
            return (int)i;
    return -1;
}

/* With the lock held. */
static struct engine_command drop_command(struct engine *e, unsigned i)
{
    struct engine_command c = e->commands[i];

    memmove(&e->commands[i], &e->commands[i + 1], (e->command_count - i - 1) * sizeof(c));
    e->command_count--;
    return c;
}

void engine_command_end(struct engine *e, const char *id, const struct err *error)
{
    struct engine_command c;
    int i;

    pthread_mutex_lock(&e->lock);
    i = find_command(e, id);
    if (i >= 0)
        c = drop_command(e, (unsigned)i);
    pthread_mutex_unlock(&e->lock);
    if (i >= 0)
        engine_result(e, &c, error);
}

int engine_cancel(struct engine *e, const char *id)
{
    struct err cancelled = ERR_INIT;
    bool waits;
    int i;

    pthread_mutex_lock(&e->lock);
    i = find_command(e, id);
    waits = i >= 0 && e->commands[i].state == COMMAND_WAITING;
    pthread_mutex_unlock(&e->lock);
    if (!waits)
        return 0;
    err_set(&cancelled, ERR_CANCELLED, "the point was cancelled before it was made");
    engine_command_end(e, id, &cancelled);
    return 1;
}

bool engine_next_command(struct engine *e, struct engine_command *ret_command)
{
    bool found = false;

    pthread_mutex_lock(&e->lock);
    for (unsigned i = 0; i < e->command_count && !found; i++)
        if (e->commands[i].state == COMMAND_WAITING) {
            *ret_command = e->commands[i];
            found = true;
        }
    pthread_mutex_unlock(&e->lock);
    return found;
}

void engine_command_sent(struct engine *e, const char *id, uint64_t sequence, uint64_t time_utc_usec)
{
    int i;

    pthread_mutex_lock(&e->lock);
    i = find_command(e, id);
    if (i >= 0) {
        e->commands[i].state = COMMAND_SENT;
        e->commands[i].sequence = sequence;
        e->commands[i].time_utc_usec = time_utc_usec;
    }
    pthread_mutex_unlock(&e->lock);
}

static void expire_commands(struct engine *e)
{
    uint64_t now = clock_mono_usec();
    struct engine_command c;
    struct err late = ERR_INIT;

    while (engine_next_command(e, &c) && c.asked_usec + COMMAND_USEC < now) {
        err_set(&late, ERR_UNAVAILABLE, "no point could be made within a minute: %s",
            e->trouble.code ? e->trouble.text : "the process node or the vault cannot be reached");
        engine_command_end(e, c.id, &late);
    }
}

bool engine_is_stopping(struct engine *e)
{
    bool stop;

    pthread_mutex_lock(&e->lock);
    stop = e->stop;
    pthread_mutex_unlock(&e->lock);
    return stop;
}

/* ---- status ---- */

static bool any_copy(const struct engine *e, enum copy_state copy)
{
    for (uint32_t i = 0; i < e->state.disk_count; i++)
        if (e->state.disks[i].copy == copy)
            return true;
    return false;
}

static enum phase present_phase(const struct engine *e)
{
    if (!e->has_wish || !e->wish.protect)
        return e->trouble.code ? PHASE_ERROR : PHASE_IDLE;
    if (e->trouble.code)
        return PHASE_ERROR;
    if (any_copy(e, COPY_RESYNC))
        return PHASE_RESYNCHRONIZING;
    if (any_copy(e, COPY_INITIAL) || e->state.disk_count == 0)
        return PHASE_INITIAL_REPLICATION;
    if (e->state.first_point_due) /* swept, but its first point is not committed: stay where it came from */
        return e->status.phase == PHASE_RESYNCHRONIZING ? PHASE_RESYNCHRONIZING : PHASE_INITIAL_REPLICATION;
    return PHASE_PROTECTED;
}

static const char *phase_why(const struct engine *e)
{
    return e->trouble.code ? e->trouble.text : e->wish.protect ? "as wished" : "nothing to protect";
}

/* Sums over the disks; the tracker counts what was written, which bounds what is dirty. */
static void measure(struct engine *e, struct engine_status *s)
{
    for (unsigned i = 0; i < MARK_DISKS_MAX; i++) {
        struct engine_disk *d = &e->disks[i];
        struct tracker_stats stats;
        uint64_t size, dirty;

        if (!d->attached)
            continue;
        tracker_disk_stats(d->tracked, &stats);
        size = tracker_disk_size_bytes(d->tracked);
        e->changed_bytes += stats.bytes - d->counted_bytes;
        d->counted_bytes = stats.bytes;
        dirty = stats.bytes - d->drained_bytes;
        s->backlog_bytes += dirty < size ? dirty : size;
        if (d->plan) {
            s->total_bytes += d->plan->used_bytes;
            s->done_bytes += d->swept ? d->plan->used_bytes : plan_bytes_before(d->plan, d->at);
        }
    }
    if (e->retained)
        s->backlog_bytes += retained_bytes(e->retained);
    s->changed_bytes = e->changed_bytes;
}

static void publish(struct engine *e)
{
    struct engine_status s = {.version = e->has_wish ? e->wish.version : 0,
        .points_made = e->points_made,
        .points_frozen = e->points_frozen,
        .rounds = e->rounds,
        .window_usec = e->window_usec,
        .freeze_usec = e->freeze_usec,
        .phase = e->status.phase};
    enum phase before = e->status.phase;
    struct err bug = ERR_INIT;

    if (phase_move(&s.phase, present_phase(e), phase_why(e), &bug) < 0)
        log_event(LOG_ERROR, "phase_refused", LOG_E(&bug));
    if (e->trouble.code) {
        snprintf(s.cause, sizeof(s.cause), "%s", e->trouble.text);
        snprintf(s.remedy, sizeof(s.remedy), "%s", e->trouble.correction);
    }
    measure(e, &s);
    pthread_mutex_lock(&e->lock);
    e->status = s;
    pthread_mutex_unlock(&e->lock);
    if (before != s.phase)
        engine_event(e, s.phase == PHASE_ERROR ? "error" : "info", phase_name(s.phase), s.remedy, "agent is now %s%s%s",
            phase_name(s.phase), s.cause[0] ? ": " : "", s.cause);
}

/* ---- the thread ---- */

int engine_save(struct engine *e, struct err *err)
{
    e->saved_usec = clock_mono_usec();
    return syncstate_save(e->state_path, &e->state, err);
}

static void take_inputs(struct engine *e)
{
    bool fresh;

    pthread_mutex_lock(&e->lock);
    fresh = e->wish_is_new;
    e->wish_is_new = false;
    e->woken = false;
    if (e->rescan)
        e->inventory_usec = 0;
    e->rescan = false;
    if (fresh) {
        e->wish = e->new_wish;
        e->has_wish = true;
    }
    pthread_mutex_unlock(&e->lock);
    if (fresh)
        e->retry_usec = 0;
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
    *ret_commanded = engine_next_command(e, ret_command);
    return *ret_commanded || clock_mono_usec() >= e->next_cycle_usec;
}

/* One step of work. 1: done some; 0: nothing to do now. */
static int work(struct engine *e, struct err *err)
{
    struct engine_command command;
    struct engine_disk *d;
    bool commanded;

    if (e->catching)
        return !engine_chunk_fits(e) ? 0 : engine_catchup(e, err) < 0 ? -1 : 1;
    if (cycle_is_due(e, &command, &commanded)) {
        int begun = engine_catchup_begin(e, err);

        if (begun != 0)
            return begun;
        e->caught_up = false;
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

    if (engine_refresh_inventory(e, false, err) < 0 || engine_converge(e, err) < 0)
        return -1;
    if (!e->wish.protect)
        return 0;
    if (engine_check_disks(e, err) < 0 || engine_apply_commits(e, err) < 0)
        return -1;
    r = engine_agree(e, err);
    if (r <= 0)
        return r;
    if (clock_mono_usec() > e->saved_usec + SAVE_USEC && engine_save(e, err) < 0)
        return -1;
    return work(e, err);
}

/* A lost stream and a stop end a step early; neither is a trouble. */
static bool is_trouble(const struct err *err)
{
    return err->code != ERR_UNAVAILABLE && err->code != ERR_CANCELLED && err->code != ERR_NONE;
}

static void note_trouble(struct engine *e, const struct err *err)
{
    if (strcmp(e->trouble.text, err->text) != 0)
        log_event(LOG_ERROR, "engine_trouble", LOG_E(err), LOG_S("remedy", err->correction));
    err_copy(&e->trouble, err);
    e->retry_usec = clock_mono_usec() + RETRY_USEC;
}

static uint64_t next_wake(const struct engine *e)
{
    uint64_t now = clock_mono_usec(), at = now + IDLE_USEC;

    if (e->agreed && !e->catching && e->next_cycle_usec < at && engine_cycle_possible(e) &&
        engine_uncommitted(e) < ENGINE_UNCOMMITTED_MAX)
        at = e->next_cycle_usec;
    return at > now ? at : now;
}

static void *engine_main(void *arg)
{
    struct engine *e = arg;

    prctl(PR_SET_NAME, "capture");
    while (!engine_is_stopping(e)) {
        struct err err = ERR_INIT;
        int r = 0;

        take_inputs(e);
        if (e->has_wish && clock_mono_usec() >= e->retry_usec) {
            r = turn(e, &err);
            if (r >= 0)
                err_clear(&e->trouble);
            else if (is_trouble(&err))
                note_trouble(e, &err);
        } else if (!e->has_wish) {
            (void)engine_refresh_inventory(e, false, &err);
        }
        expire_commands(e);
        publish(e);
        if (r <= 0)
            wait_until(e, next_wake(e));
    }
    return NULL;
}

/* ---- life ---- */

static void free_parts(struct engine *e)
{
    engine_detach_all(e);
    cycle_free(e->cycle);
    reader_free(e->reader);
    retained_free(e->retained);
    changeset_free(e->set);
    tracker_close(e->tracker);
    inventory_free(e->inventory);
}

static int start(struct engine *e, struct err *err)
{
    pthread_condattr_t attr;
    int r;

    e->outputs = mem_alloc(ENGINE_OUTPUTS_MAX, sizeof(*e->outputs));
    if (!e->outputs)
        return err_set(err, ERR_NOMEM, "no memory for the engine");
    if (syncstate_boot_id(e->boot_id, err) < 0 || syncstate_load(e->state_path, &e->state, err) < 0 ||
        changeset_new(e->conf.link, &e->set, err) < 0 || reader_new(0, &e->reader, err) < 0 ||
        engine_cycle_parts(e, err) < 0)
        return -1;
    e->committed = e->state.committed_sequence;
    e->must_bump = true;
    pthread_mutex_init(&e->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&e->cond, &attr);
    pthread_condattr_destroy(&attr);
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
