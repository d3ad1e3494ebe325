/* SPDX-License-Identifier: Apache-2.0
 *
 * Agreeing with the vault about what it has (replication.proto, "Sequence", "Epoch").
 *
 * A stream may go on when the node expects exactly the change set that would be sent next, in our epoch. In every other case
 * all that is not committed is joined into the open slot again, sweeps go back to what is committed, and the stream is opened
 * again with an epoch that nobody has used: from then on the vault refuses what is still under way from before. A new process
 * always does that; it costs sending the last seconds twice.
 *
 * A vault that has more in our epoch than this process ever closed has it from this process in a time that was abandoned: the machine
 * was set back to a snapshot with its memory, and process, tracker and disks went back together. The disks are compared then.
 *
 * With the answer to a new epoch the vault itself has spoken. If it has less than it once committed it has lost something, and
 * the disks are compared; if it has nothing at all they are copied anew.
 */
#include "mobility/sync/engine_internal.h"

#include <stdio.h>
#include <string.h>

#include "transport/base/clock.h"
#include "transport/base/log.h"

/* New epochs in a row without a stream that runs: beyond that it is not a race, and is tried again slowly. */
#define BUMPS_MAX 5u
/* The state keeps what the node says, and its numbers are signed: one that is higher could not be loaded again. */
#define NUMBER_MAX ((uint64_t)INT64_MAX)

const struct engine_disk *engine_disk_numbered(const struct engine *e, uint32_t number)
{
    for (unsigned i = 0; i < MARK_DISKS_MAX; i++)
        if (e->disks[i].attached && e->disks[i].number == number)
            return &e->disks[i];
    return NULL;
}

void engine_frame(struct engine *e, bool only_swept)
{
    struct mark m = {.machine = e->conf.machine, .generation = e->state.generation, .epoch = e->state.epoch};

    for (uint32_t i = 0; i < e->state.disk_count; i++) { /* rows are in order of number, as marks want them */
        const struct engine_disk *d = engine_disk_numbered(e, e->state.disks[i].number);
        struct mark_disk *out = &m.disks[m.disk_count];
        const char *path;

        if (!d || (only_swept && !d->swept))
            continue;
        path = tracker_disk_path(d->tracked);
        out->number = d->number;
        out->sector_bytes = reader_disk_sector_bytes(e->reader, engine_index(e, d));
        out->size_bytes = tracker_disk_size_bytes(d->tracked);
        snprintf(out->name, sizeof(out->name), "%s", strncmp(path, "/dev/", 5) == 0 ? path + 5 : path);
        m.disk_count++;
    }
    changeset_set_frame(e->set, &m);
}

uint64_t engine_uncommitted(const struct engine *e)
{
    return changeset_next_sequence(e->set) - 1 - e->committed;
}

/* ---- commits ---- */

/* Of the open slot, what a chunk of a backlog has sent; what could not be read was not, and a next process has to know of it. */
static void forget_sent(struct engine *e, const struct engine_chunk *c)
{
    const struct dirty *bad = e->disks[c->disk].bad;
    uint64_t at = c->start, next = c->start, start, length;

    while (bad && dirty_next(bad, &next, 0, &start, &length) > 0 && start < c->cursor) {
        retained_forget(e->retained, c->disk, at, start - at);
        at = start + length;
    }
    if (at < c->cursor)
        retained_forget(e->retained, c->disk, at, c->cursor - at);
}

static int apply_chunks(struct engine *e, struct err *err)
{
    unsigned done = 0;
    bool last = false;

    while (done < e->chunk_count && e->chunks[done].sequence <= e->committed) {
        const struct engine_chunk *c = &e->chunks[done++];
        struct syncstate_disk *row = engine_row(e, &e->disks[c->disk]);

        if (c->catch_up) {
            forget_sent(e, c);
            continue;
        }
        last |= c->last;
        if (!row || row->copy == COPY_DONE)
            continue;
        row->cursor = c->last ? 0 : c->cursor;
        e->cursor_moved = true;
        if (!c->last)
            continue;
        row->copy = COPY_DONE;
        engine_event(e, "info", "copy_complete", "", "the vault has a complete copy of disk %s", row->key);
    }
    if (done == 0)
        return 0;
    e->chunk_count -= done;
    memmove(e->chunks, e->chunks + done, e->chunk_count * sizeof(e->chunks[0]));
    return last ? engine_save(e, err) : 0; /* else soon: turn() */
}

static void end_commands(struct engine *e)
{
    struct engine_command done[ENGINE_COMMANDS_MAX];
    unsigned n = 0;

    pthread_mutex_lock(&e->lock);
    for (unsigned i = 0; i < e->command_count; i++)
        if (e->commands[i].state == COMMAND_SENT && e->commands[i].sequence <= e->committed)
            done[n++] = e->commands[i];
    pthread_mutex_unlock(&e->lock);
    for (unsigned i = 0; i < n; i++)
        engine_command_end(e, done[i].id, NULL);
}

static int commit(struct engine *e, uint64_t sequence, struct err *err)
{
    if (sequence <= e->committed)
        return 0;
    e->committed = sequence;
    e->state.committed_sequence = sequence;
    retained_commit(e->retained, sequence);
    end_commands(e);
    if (e->first_point > 0 && e->first_point <= sequence) {
        e->first_point = 0;
        e->state.first_point_due = false;
        if (engine_save(e, err) < 0)
            return -1;
    }
    return 0;
}

/* A chunk in which nothing differed has no mark of its own: it goes with the last one before it, which may be committed already.
 *
 * Nobody can have committed what was never sent: then the vault is asked for the truth, by way of a new epoch. */
int engine_apply_commits(struct engine *e, struct err *err)
{
    uint64_t sequence = uplink_committed_sequence(e->conf.link);

    if (!e->agreed)
        return 0;
    if (sequence < changeset_next_sequence(e->set))
        return commit(e, sequence, err) < 0 ? -1 : apply_chunks(e, err);
    log_event(LOG_WARN, "commit_of_the_future", LOG_U("sequence", sequence),
        LOG_U("next_sequence", changeset_next_sequence(e->set)));
    e->must_bump = true;
    return 0;
}

/* ---- agreement ---- */

static struct uplink_opening opening_now(const struct engine *e)
{
    return (struct uplink_opening){.generation = e->state.generation,
        .epoch = e->must_bump ? 0 : e->state.epoch,
        .next_sequence = e->must_bump ? 0 : changeset_next_sequence(e->set)};
}

/* Everything of the open slot goes out with the next cycle again. */
static void resend_open(struct engine *e)
{
    engine_catchup_end(e);
    for (unsigned i = 0; i < MARK_DISKS_MAX; i++)
        e->disks[i].resend = true;
}

static void requeue_commands(struct engine *e)
{
    pthread_mutex_lock(&e->lock);
    for (unsigned i = 0; i < e->command_count; i++)
        e->commands[i].state = COMMAND_WAITING;
    pthread_mutex_unlock(&e->lock);
}

/* A first copy that has not begun. */
static bool is_untouched(const struct syncstate_disk *row)
{
    return row->copy == COPY_INITIAL && row->cursor == 0;
}

/* An epoch is durable here before it is used, so a higher one is somebody else's: of another agent with this identity, or the vault's own, which took
 * a replica's changes over, or lost some. What the copy holds now is not what this agent has sent. */
static void distrust_copies(struct engine *e, const char *why)
{
    for (unsigned i = 0; i < MARK_DISKS_MAX; i++) {
        struct engine_disk *d = &e->disks[i];
        const struct syncstate_disk *row = d->attached ? engine_row(e, d) : NULL;

        if (!row || is_untouched(row))
            continue;
        engine_restart_copy(e, d, COPY_RESYNC);
        engine_tell_resync(e, d, why);
    }
    e->knows_closed = false;
}

/* Before a number is taken back. */
static void note_closed(struct engine *e)
{
    uint64_t closed = changeset_next_sequence(e->set) - 1;

    if (e->knows_closed && closed > e->highest_closed)
        e->highest_closed = closed;
}

static bool is_of_an_abandoned_time(const struct engine *e, const struct uplink_answer *answer)
{
    return e->knows_closed && answer->epoch == e->state.epoch && answer->committed_sequence > e->highest_closed;
}

/* A new epoch: what is not committed is sent again from committed + 1 on. */
static int bump(struct engine *e, const struct uplink_answer *answer, struct err *err)
{
    struct uplink_opening opening;

    if (answer->epoch >= NUMBER_MAX || answer->committed_sequence >= NUMBER_MAX) {
        err_set(err, ERR_CORRUPT, "the node answers with numbers that cannot be");
        return err_hint(err, "move the machine to another process node: leeward machine move");
    }
    if (e->bumps >= BUMPS_MAX) {
        e->bumps = 0;
        err_set(err, ERR_CONFLICT, "the process node and this agent do not agree on what comes next");
        return err_hint(err, "see that no other agent with the identity of this machine is running");
    }
    e->must_bump = true; /* until it is saved: this stream was opened with another epoch, whatever fits by then */
    if (engine_uncommitted(e) > 0)
        engine_point_now(e); /* the one that is not committed is made again */
    if (retained_reopen(e->retained, err) < 0)
        return -1;
    resend_open(e);
    engine_rewind_sweeps(e);
    requeue_commands(e);
    engine_schedule_rewind(e);
    engine_insight_rewind(e);
    e->first_point = 0;
    if (answer->epoch > e->state.epoch)
        distrust_copies(e, "its copy was written to by somebody else");
    else if (is_of_an_abandoned_time(e, answer))
        distrust_copies(e, "the vault has changes that this machine knows nothing of: it was set back to a snapshot");
    e->state.epoch = (answer->epoch > e->state.epoch ? answer->epoch : e->state.epoch) + 1;
    if (engine_save(e, err) < 0)
        return -1;
    e->bumps++;
    changeset_restart(e->set, answer->committed_sequence + 1);
    e->agreed = e->must_bump = false;
    e->bumped = true;
    opening = opening_now(e);
    log_event(LOG_INFO, "epoch_raised", LOG_U("epoch", opening.epoch), LOG_U("next_sequence", opening.next_sequence));
    uplink_reopen(e->conf.link, &opening);
    return 0;
}

static bool any_done(const struct engine *e)
{
    for (uint32_t i = 0; i < e->state.disk_count; i++)
        if (e->state.disks[i].copy == COPY_DONE)
            return true;
    return false;
}

/* True: the copy of the disk begins anew. A first copy that has not begun, on a vault that may hold an older one (older): only a machine
 * without any complete disk asks. */
static bool compare_history(struct engine *e, struct engine_disk *d, const struct uplink_answer *answer, bool older)
{
    bool less = answer->committed_sequence < e->state.committed_sequence;
    const struct syncstate_disk *row = engine_row(e, d);

    if (!row || (is_untouched(row) && !older))
        return false;
    if (answer->committed_sequence == 0) {
        engine_restart_copy(e, d, COPY_INITIAL);
        engine_event(
            e, "warning", "vault_empty", "", "the vault holds nothing of disk %s: it is copied anew", row->key);
        return true;
    }
    if (!less && !is_untouched(row))
        return false;
    engine_restart_copy(e, d, COPY_RESYNC);
    engine_tell_resync(e, d, less ? "the vault has less than it once committed" : "the vault holds an older copy");
    return true;
}

/* What the vault has after a new epoch against what it had committed before. All that follows is saved at once: who knew the vault's new
 * number, and not that some disk is to be compared, would never compare it. */
static int compare_histories(struct engine *e, const struct uplink_answer *answer, struct err *err)
{
    bool older = answer->has_point && !any_done(e), anew = false;

    for (unsigned i = 0; i < MARK_DISKS_MAX; i++)
        if (e->disks[i].attached)
            anew |= compare_history(e, &e->disks[i], answer, older);
    e->state.committed_sequence = answer->committed_sequence;
    e->must_bump = anew && engine_save(e, err) < 0; /* else nothing is on its way: this epoch is fresh */
    return e->must_bump ? -1 : 0;
}

/* The vault's answer to our new epoch. */
static int settle(struct engine *e, const struct uplink_answer *answer, struct err *err)
{
    if (compare_histories(e, answer, err) < 0)
        return -1;
    e->committed = 0; /* so that what was committed meanwhile is applied */
    if (commit(e, answer->committed_sequence, err) < 0)
        return -1;
    e->committed = answer->committed_sequence;
    changeset_restart(e->set, answer->committed_sequence + 1);
    e->bumped = false;
    if (!e->knows_closed)
        e->highest_closed = answer->committed_sequence;
    e->knows_closed = true;
    return 0;
}

static bool may_go_on(const struct engine *e, const struct uplink_answer *answer)
{
    return !e->must_bump && answer->epoch <= e->state.epoch && !is_of_an_abandoned_time(e, answer) &&
           (e->bumped ? answer->expected_sequence == answer->committed_sequence + 1
                      : answer->expected_sequence == changeset_next_sequence(e->set) &&
                            answer->committed_sequence >= e->committed);
}

int engine_agree(struct engine *e, struct err *err)
{
    struct uplink_answer answer;
    struct uplink_opening opening;
    enum uplink_state state = uplink_state(e->conf.link, &answer);

    note_closed(e);
    if (!e->linked) {
        opening = opening_now(e);
        uplink_prepare(e->conf.link, &opening);
        e->linked = true;
    }
    if (state == UPLINK_DOWN) {
        if (e->agreed) { /* let the next stream open where this one ended */
            e->agreed = false;
            opening = opening_now(e);
            uplink_prepare(e->conf.link, &opening);
        }
        return 0;
    }
    if (state == UPLINK_RUNNING && !e->must_bump)
        return 1;
    if (state == UPLINK_RUNNING) {
        answer = (struct uplink_answer){.epoch = e->state.epoch, .committed_sequence = e->committed};
        return bump(e, &answer, err);
    }
    if (!may_go_on(e, &answer))
        return bump(e, &answer, err);
    if (e->bumped) {
        if (settle(e, &answer, err) < 0)
            return -1;
    } else {
        changeset_restart(e->set, changeset_next_sequence(e->set)); /* what was cut off is begun again */
        resend_open(e);
        if (commit(e, answer.committed_sequence, err) < 0)
            return -1;
    }
    uplink_go(e->conf.link, &answer);
    e->agreed = true;
    e->bumps = 0;
    return uplink_state(e->conf.link, NULL) == UPLINK_RUNNING;
}

int engine_relink(struct engine *e, struct err *err)
{
    bool other_vault = strcmp(e->state.vault_id, e->wish.vault_id) != 0;
    uint64_t generation = e->wish.generation ? e->wish.generation : 1;

    if (!other_vault && e->state.generation == generation)
        return 0;
    log_event(LOG_INFO, "new_line", LOG_S("vault", e->wish.vault_id), LOG_U("generation", generation));
    if (other_vault) {
        snprintf(e->state.vault_id, sizeof(e->state.vault_id), "%s", e->wish.vault_id);
        e->state.committed_sequence = e->committed = 0;
        for (unsigned i = 0; i < MARK_DISKS_MAX; i++)
            if (e->disks[i].attached)
                engine_restart_copy(e, &e->disks[i], COPY_INITIAL);
    }
    e->state.generation = generation;
    e->must_bump = true;
    e->knows_closed = false;
    if (e->linked) {
        struct uplink_opening opening = opening_now(e);

        e->agreed = e->bumped = false;
        uplink_reopen(e->conf.link, &opening);
    }
    return engine_save(e, err);
}
