/* SPDX-License-Identifier: Apache-2.0
 *
 * Where the capture thread and the event loop meet: a bounded queue of record batches on their way to the node, and the state
 * of the replication stream.
 *
 * The life of a stream: the outbox (loop thread) opens it with what uplink_prepare() said and reports what the node answered
 * (uplink_opened); the engine (capture thread) compares that with what it has and either lets it run (uplink_go) or asks for
 * another one with a higher epoch (uplink_reopen). When a stream ends the queue is emptied and every push fails with
 * ERR_UNAVAILABLE until the engine has let a new stream run: nothing of an old stream ever gets into a new one.
 *
 *   DOWN -> OPENED -> RUNNING -> DOWN      (any -> DOWN when the stream ends; OPENED -> DOWN by uplink_reopen)
 *
 * A push blocks while the queue is full: that is how back-pressure reaches the live rounds. It is never called while a file
 * system is frozen.
 */
#ifndef MOBILITY_SYNC_UPLINK_H
#define MOBILITY_SYNC_UPLINK_H

#include <stdbool.h>
#include <stdint.h>

#include "transport/base/buf.h"
#include "transport/base/err.h"
#include "transport/base/mem.h"

struct uplink;

enum uplink_state { UPLINK_DOWN, UPLINK_OPENED, UPLINK_RUNNING };

/* What the node said to Open. */
struct uplink_answer {
    uint64_t stream; /* counts the streams of this link; the link's own */
    uint64_t expected_sequence;
    uint64_t committed_sequence;
    uint64_t epoch;
    uint64_t generation;
    bool has_point;
};

/* With what the stream is opened. */
struct uplink_opening {
    uint64_t generation;
    uint64_t epoch;
    uint64_t next_sequence;
};

struct uplink_ops {
    void *arg;
    void (*to_loop)(void *arg);    /* any thread: there is work for the outbox */
    void (*to_capture)(void *arg); /* any thread: the stream changed or something was committed */
};

/* queue_max_bytes bounds what waits in the queue; one batch more may be in it. */
int uplink_new(const struct uplink_ops *ops, uint64_t queue_max_bytes, struct uplink **ret_link, struct err *err);
void uplink_free(struct uplink *link); /* NULL allowed; no thread may be in a push */
DEFINE_AUTO(uplink, uplink_free)

/* ---- capture thread ---- */
/* Sets with what streams are opened from now on and lets the outbox open one. */
void uplink_prepare(struct uplink *link, const struct uplink_opening *opening);
enum uplink_state uplink_state(struct uplink *link, struct uplink_answer *ret_answer); /* ret_answer may be NULL */
/* Lets the stream with that answer run; nothing happens if it is gone by now. */
void uplink_go(struct uplink *link, const struct uplink_answer *answer);
/* What was said to be committed beyond opening->next_sequence - 1 is forgotten; all of it where that is 0, not known. */
void uplink_reopen(struct uplink *link, const struct uplink_opening *opening);
/* Queues one batch, taking its memory. `closes` is the sequence of the mark at its end, 0 if it ends in no mark. Blocks
 * while the queue is full. ERR_UNAVAILABLE: the stream is gone. ERR_CANCELLED: uplink_stop was called. */
int uplink_push(struct uplink *link, struct buf *batch, uint64_t closes, struct err *err);
/* The stream is to be left (uplink_leave): nothing new is to be begun. */
bool uplink_is_leaving(struct uplink *link);
/* Nothing has been begun, and the vault has committed all that was sent: the stream may end. */
void uplink_left(struct uplink *link);
/* Says that a mark is a recovery point, before it is pushed. */
void uplink_note_point(struct uplink *link, uint64_t sequence, uint64_t time_utc_usec);
/* It was not pushed: another mark, which need not be a point, will have its number. */
void uplink_unnote_point(struct uplink *link, uint64_t sequence);

/* What an earlier process knew of the last committed point. */
void uplink_seed_point(struct uplink *link, uint64_t sequence, uint64_t time_utc_usec);

/* ---- loop thread ---- */
bool uplink_wants_stream(struct uplink *link, struct uplink_opening *ret_opening);
void uplink_opened(struct uplink *link, const struct uplink_answer *answer);
/* The stream ended: empties the queue. */
void uplink_lost(struct uplink *link);
/* Takes the next batch: 1, or 0 when there is none or the stream may not run yet. */
int uplink_pop(struct uplink *link, struct buf *ret_batch, uint64_t *ret_closes);
void uplink_committed(struct uplink *link, uint64_t sequence);
/* Asks the engine to come to the end of its change set and of what is not committed, or (false) to go on as before. Whoever asks
 * decides how long to wait for it; the wish holds beyond the end of the stream. */
void uplink_leave(struct uplink *link, bool leaving);
bool uplink_has_left(struct uplink *link);
/* True once after uplink_reopen: end the present stream and open another. */
bool uplink_take_reopen(struct uplink *link);

/* ---- any thread ---- */
/* Ends every wait, now and later. */
void uplink_stop(struct uplink *link);
uint64_t uplink_committed_sequence(struct uplink *link);
/* The last committed recovery point; sequence 0: none since the start. */
void uplink_last_point(struct uplink *link, uint64_t *ret_sequence, uint64_t *ret_time_utc_usec);
uint64_t uplink_queued_bytes(struct uplink *link);

#endif
