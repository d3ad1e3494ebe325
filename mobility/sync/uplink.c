/* SPDX-License-Identifier: Apache-2.0
 *
 * One mutex guards everything in struct uplink; it is held for pointer work only. `room` is signalled when the queue shrank or
 * the stream ended.
 */
#include "mobility/sync/uplink.h"

#include <pthread.h>

/* Points that are on their way; a point that finds no place here is shown a little later. */
#define POINTS_MAX 128u

struct item {
    struct item *next;
    struct buf batch;
    uint64_t closes;
};

struct point {
    uint64_t sequence;
    uint64_t time_utc_usec;
};

struct uplink {
    struct uplink_ops ops;
    uint64_t queue_max;
    pthread_mutex_t lock;
    pthread_cond_t room;
    enum uplink_state state;
    bool stopped, wanted, reopen, leaving, left;
    struct uplink_opening opening;
    struct uplink_answer answer;
    uint64_t streams;
    struct item *head, **tail;
    uint64_t queued_bytes;
    uint64_t committed;
    struct point points[POINTS_MAX]; /* ascending */
    unsigned point_count;
    struct point last_point;
};

int uplink_new(const struct uplink_ops *ops, uint64_t queue_max_bytes, struct uplink **ret_link, struct err *err)
{
    struct uplink *l = mem_new(struct uplink);

    if (!l)
        return err_set(err, ERR_NOMEM, "no memory for the link to the node");
    l->ops = *ops;
    l->queue_max = queue_max_bytes;
    l->tail = &l->head;
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->room, NULL);
    *ret_link = l;
    return 0;
}

static void empty_queue(struct uplink *l)
{
    while (l->head) {
        struct item *i = l->head;

        l->head = i->next;
        buf_done(&i->batch);
        free(i);
    }
    l->tail = &l->head;
    l->queued_bytes = 0;
}

void uplink_free(struct uplink *l)
{
    if (!l)
        return;
    empty_queue(l);
    pthread_cond_destroy(&l->room);
    pthread_mutex_destroy(&l->lock);
    free(l);
}

void uplink_prepare(struct uplink *l, const struct uplink_opening *opening)
{
    pthread_mutex_lock(&l->lock);
    l->opening = *opening;
    l->wanted = true;
    pthread_mutex_unlock(&l->lock);
    l->ops.to_loop(l->ops.arg);
}

enum uplink_state uplink_state(struct uplink *l, struct uplink_answer *ret_answer)
{
    enum uplink_state state;

    pthread_mutex_lock(&l->lock);
    state = l->state;
    if (ret_answer)
        *ret_answer = l->answer;
    pthread_mutex_unlock(&l->lock);
    return state;
}

void uplink_go(struct uplink *l, const struct uplink_answer *answer)
{
    pthread_mutex_lock(&l->lock);
    if (l->state == UPLINK_OPENED && l->answer.stream == answer->stream)
        l->state = UPLINK_RUNNING;
    pthread_mutex_unlock(&l->lock);
    l->ops.to_loop(l->ops.arg);
}

void uplink_reopen(struct uplink *l, const struct uplink_opening *opening)
{
    pthread_mutex_lock(&l->lock);
    l->opening = *opening;
    l->wanted = true;
    l->reopen = l->reopen || l->state != UPLINK_DOWN; /* the loop may not have seen the last one yet */
    l->state = UPLINK_DOWN;
    empty_queue(l);
    l->point_count = 0;
    if (l->committed >= opening->next_sequence)
        l->committed = opening->next_sequence > 0 ? opening->next_sequence - 1 : 0;
    pthread_mutex_unlock(&l->lock);
    l->ops.to_loop(l->ops.arg);
}

int uplink_push(struct uplink *l, struct buf *batch, uint64_t closes, struct err *err)
{
    struct item *i = mem_new(struct item);
    int r = 0;

    if (!i)
        return err_set(err, ERR_NOMEM, "no memory for a batch of records");
    pthread_mutex_lock(&l->lock);
    while (!l->stopped && l->state == UPLINK_RUNNING && l->queued_bytes >= l->queue_max)
        pthread_cond_wait(&l->room, &l->lock);
    if (l->stopped)
        r = err_set(err, ERR_CANCELLED, "the agent is stopping");
    else if (l->state != UPLINK_RUNNING)
        r = err_set(err, ERR_UNAVAILABLE, "the stream to the node was lost");
    if (r == 0) {
        buf_init(&i->batch, batch->max);
        buf_move(&i->batch, batch);
        i->closes = closes;
        l->queued_bytes += i->batch.len;
        *l->tail = i;
        l->tail = &i->next;
        i = NULL;
    }
    pthread_mutex_unlock(&l->lock);
    free(i);
    if (r == 0)
        l->ops.to_loop(l->ops.arg);
    return r;
}

void uplink_note_point(struct uplink *l, uint64_t sequence, uint64_t time_utc_usec)
{
    pthread_mutex_lock(&l->lock);
    if (l->point_count < POINTS_MAX)
        l->points[l->point_count++] = (struct point){sequence, time_utc_usec};
    pthread_mutex_unlock(&l->lock);
}

void uplink_unnote_point(struct uplink *l, uint64_t sequence)
{
    pthread_mutex_lock(&l->lock);
    while (l->point_count > 0 && l->points[l->point_count - 1].sequence >= sequence)
        l->point_count--;
    pthread_mutex_unlock(&l->lock);
}

void uplink_seed_point(struct uplink *l, uint64_t sequence, uint64_t time_utc_usec)
{
    pthread_mutex_lock(&l->lock);
    l->last_point = (struct point){sequence, time_utc_usec};
    pthread_mutex_unlock(&l->lock);
}

bool uplink_wants_stream(struct uplink *l, struct uplink_opening *ret_opening)
{
    bool wanted;

    pthread_mutex_lock(&l->lock);
    wanted = l->wanted && !l->stopped && l->state == UPLINK_DOWN;
    *ret_opening = l->opening;
    pthread_mutex_unlock(&l->lock);
    return wanted;
}

void uplink_opened(struct uplink *l, const struct uplink_answer *answer)
{
    pthread_mutex_lock(&l->lock);
    l->answer = *answer;
    l->answer.stream = ++l->streams;
    l->state = UPLINK_OPENED;
    pthread_mutex_unlock(&l->lock);
    l->ops.to_capture(l->ops.arg);
}

void uplink_lost(struct uplink *l)
{
    pthread_mutex_lock(&l->lock);
    l->state = UPLINK_DOWN;
    l->reopen = false;
    empty_queue(l);
    pthread_cond_broadcast(&l->room);
    pthread_mutex_unlock(&l->lock);
    l->ops.to_capture(l->ops.arg);
}

int uplink_pop(struct uplink *l, struct buf *ret_batch, uint64_t *ret_closes)
{
    struct item *i = NULL;

    pthread_mutex_lock(&l->lock);
    if (l->state == UPLINK_RUNNING && l->head) {
        i = l->head;
        l->head = i->next;
        if (!l->head)
            l->tail = &l->head;
        l->queued_bytes -= i->batch.len;
        pthread_cond_signal(&l->room);
    }
    pthread_mutex_unlock(&l->lock);
    if (!i)
        return 0;
    buf_move(ret_batch, &i->batch);
    *ret_closes = i->closes;
    buf_done(&i->batch);
    free(i);
    return 1;
}

/* Points leave the list from the front as they are committed. */
static void advance_points(struct uplink *l)
{
    unsigned done = 0;

    while (done < l->point_count && l->points[done].sequence <= l->committed)
        l->last_point = l->points[done++];
    for (unsigned i = done; i < l->point_count; i++)
        l->points[i - done] = l->points[i];
    l->point_count -= done;
}

void uplink_committed(struct uplink *l, uint64_t sequence)
{
    pthread_mutex_lock(&l->lock);
    if (sequence > l->committed)
        l->committed = sequence;
    advance_points(l);
    pthread_mutex_unlock(&l->lock);
    l->ops.to_capture(l->ops.arg);
}

bool uplink_take_reopen(struct uplink *l)
{
    bool reopen;

    pthread_mutex_lock(&l->lock);
    reopen = l->reopen;
    l->reopen = false;
    pthread_mutex_unlock(&l->lock);
    return reopen;
}

/* ---- leaving ---- */

static bool read_flag(struct uplink *l, const bool *flag)
{
    bool value;

    pthread_mutex_lock(&l->lock);
    value = *flag;
    pthread_mutex_unlock(&l->lock);
    return value;
}

void uplink_leave(struct uplink *l, bool leaving)
{
    pthread_mutex_lock(&l->lock);
    l->leaving = leaving;
    l->left = false;
    pthread_mutex_unlock(&l->lock);
    l->ops.to_capture(l->ops.arg);
}

bool uplink_is_leaving(struct uplink *l)
{
    return read_flag(l, &l->leaving);
}

void uplink_left(struct uplink *l)
{
    pthread_mutex_lock(&l->lock);
    l->left = l->leaving;
    pthread_mutex_unlock(&l->lock);
    l->ops.to_loop(l->ops.arg);
}

bool uplink_has_left(struct uplink *l)
{
    return read_flag(l, &l->left);
}

void uplink_stop(struct uplink *l)
{
    pthread_mutex_lock(&l->lock);
    l->stopped = true;
    l->state = UPLINK_DOWN;
    pthread_cond_broadcast(&l->room);
    pthread_mutex_unlock(&l->lock);
}

uint64_t uplink_committed_sequence(struct uplink *l)
{
    uint64_t v;

    pthread_mutex_lock(&l->lock);
    v = l->committed;
    pthread_mutex_unlock(&l->lock);
    return v;
}

void uplink_last_point(struct uplink *l, uint64_t *ret_sequence, uint64_t *ret_time_utc_usec)
{
    pthread_mutex_lock(&l->lock);
    *ret_sequence = l->last_point.sequence;
    *ret_time_utc_usec = l->last_point.time_utc_usec;
    pthread_mutex_unlock(&l->lock);
}

uint64_t uplink_queued_bytes(struct uplink *l)
{
    uint64_t v;

    pthread_mutex_lock(&l->lock);
    v = l->queued_bytes;
    pthread_mutex_unlock(&l->lock);
    return v;
}
