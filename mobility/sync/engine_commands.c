/* SPDX-License-Identifier: Apache-2.0
 *
 * Points that were asked for. A command waits until a cycle makes its point, then until the vault has committed it; a new epoch
 * sets it back to waiting. The list is guarded by the engine's lock, for it is filled by the event loop.
 */
#include "mobility/sync/engine_internal.h"

#include <stdio.h>
#include <string.h>

#include "transport/base/clock.h"

/* A command that did not get on for this long is answered instead of waiting on. */
#define PATIENCE_USEC (60 * USEC_PER_SEC)

static void put_result(struct engine *e, const struct engine_command *c, const struct err *error)
{
    struct engine_output o = {.kind = ENGINE_RESULT, .sequence = c->sequence, .time_utc_usec = c->time_utc_usec};

    snprintf(o.command_id, sizeof(o.command_id), "%s", c->id);
    if (error)
        o.error = *error;
    engine_put(e, &o);
}

static int find_command(const struct engine *e, const char *id)
{
    for (unsigned i = 0; i < e->command_count; i++)
        if (strcmp(e->commands[i].id, id) == 0)
            return (int)i;
    return -1;
}

/* With the lock held. Under way, or ended a moment ago: its answer is on the way to the session, which gives it again when the hub asks again. */
static bool is_known(const struct engine *e, const char *id)
{
    for (unsigned i = 0; i < ENGINE_ENDED_MAX; i++)
        if (strcmp(e->ended[i], id) == 0)
            return true;
    return find_command(e, id) >= 0;
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
    if (is_known(e, id))
        r = 0;
    else if (e->command_count == ENGINE_COMMANDS_MAX)
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

/* With the lock held. */
static struct engine_command drop_command(struct engine *e, unsigned i)
{
    struct engine_command c = e->commands[i];

    memmove(&e->commands[i], &e->commands[i + 1], (e->command_count - i - 1) * sizeof(c));
    e->command_count--;
    memcpy(e->ended[e->ended_next++ % ENGINE_ENDED_MAX], c.id, sizeof(c.id));
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
        put_result(e, &c, error);
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

/* A copy is no trouble: it is said as what it is. */
static void say_late(struct engine *e, struct err *late)
{
    static const char begin[] = "no point could be made within a minute";
    const struct err *holdup = engine_standing_holdup(e);
    uint64_t backlog_bytes;
    enum phase phase;

    pthread_mutex_lock(&e->lock);
    phase = e->status.phase;
    backlog_bytes = e->status.backlog_bytes;
    pthread_mutex_unlock(&e->lock);
    if (e->trouble.code) {
        err_set(late, ERR_UNAVAILABLE, "%s: %s", begin, e->trouble.text);
    } else if (holdup) {
        err_set(late, ERR_UNAVAILABLE, "%s: %s", begin, holdup->text);
    } else if (phase == PHASE_INITIAL_REPLICATION || phase == PHASE_RESYNCHRONIZING) {
        err_set(late, ERR_UNAVAILABLE, "%s: the machine's disks are still being %s", begin,
            phase == PHASE_RESYNCHRONIZING ? "compared with the vault" : "copied for the first time");
        err_hint(late, "Points go on when that is over: leeward machine show");
    } else if (e->agreed && e->catching) {
        err_set(late, ERR_UNAVAILABLE,
            "%s: a backlog of %llu MB is being sent, and the process node or the vault takes nothing of it", begin,
            (unsigned long long)(backlog_bytes / 1000000));
    } else {
        err_set(late, ERR_UNAVAILABLE, "%s: the process node or the vault cannot be reached", begin);
    }
}

static bool way_is_clear(const struct engine *e)
{
    return e->agreed && e->trouble.code == ERR_NONE && engine_cycle_possible(e) && !engine_standing_holdup(e);
}

/* A backlog of hours is no reason to give a point up that comes after it, as long as it is sent: a planned failover has stopped the
 * machine's services by then. One step of work can be longer than the patience, so what moved in it counts when it is over, also
 * where it has ended with the stream. */
static uint64_t stuck_since(struct engine *e, uint64_t now)
{
    struct engine_patience *p = &e->patience;
    uint64_t sent = changeset_sent_bytes(e->set);
    bool clear = way_is_clear(e);

    if ((sent != p->sent_bytes || e->committed != p->committed) && (clear || p->clear))
        p->since_usec = now;
    p->clear = clear;
    p->sent_bytes = sent;
    p->committed = e->committed;
    return p->since_usec;
}

void engine_expire_commands(struct engine *e)
{
    uint64_t now = clock_mono_usec(), since = stuck_since(e, now);
    uint64_t patience = e->conf.patience_usec ? e->conf.patience_usec : PATIENCE_USEC;
    struct engine_command c;
    struct err late = ERR_INIT;

    while (engine_next_command(e, &c) && (c.asked_usec > since ? c.asked_usec : since) + patience < now) {
        say_late(e, &late);
        engine_command_end(e, c.id, &late);
    }
}

void engine_refuse_commands(struct engine *e)
{
    struct err why = ERR_INIT;
    char id[ENGINE_COMMAND_ID_MAX];
    bool any;

    err_set(&why, ERR_REFUSED, "this machine is not protected any more");
    do {
        pthread_mutex_lock(&e->lock);
        any = e->command_count > 0;
        if (any)
            memcpy(id, e->commands[0].id, sizeof(id));
        pthread_mutex_unlock(&e->lock);
        if (any)
            engine_command_end(e, id, &why);
    } while (any);
}
