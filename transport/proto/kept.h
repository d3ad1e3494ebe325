/* SPDX-License-Identifier: Apache-2.0
 *
 * What the hub must not miss, until it is known to have it: events, and the ends of commands; packed, in the order in which they came, within bounds.
 * What was sent stays: the hub says of events that it has stored them, and gives a command again whose end it does not have.
 */
#ifndef TRANSPORT_PROTO_KEPT_H
#define TRANSPORT_PROTO_KEPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "transport/base/buf.h"
#include "transport/base/err.h"
#include "transport/proto/control.pb-c.h"

#define KEPT_RESULTS_MAX 64u         /* as many commands as the hub has open in one session */
#define KEPT_RESULT_BYTES (4u << 20) /* of all: a verification's tells all that is damaged */
#define KEPT_EVENTS_MAX 256u
#define KEPT_REPORT_MAX (4u << 20) /* bytes of one report */
#define KEPT_FILE_MAX (1u << 20)   /* of all events, packed */

struct kept_item;

struct kept {
    struct kept_item *head, **end; /* oldest first */
    unsigned results, events;
    size_t result_bytes;
    bool has_lost; /* events, since there were none to keep */
    bool unsaved;  /* an event that is worth it came or went since whoever saves them cleared it */
};

void kept_init(struct kept *k);
void kept_done(struct kept *k);

/* Keeps a report: an event, or with command_id the end of that command; sent: it was. Where there is no room the oldest goes: of results one that was sent, if
 * there is one, of events one of those that matter least (by their severity), which may be this one, and that is logged. ERR_NOMEM, ERR_TOO_LARGE. */
int kept_add(
    struct kept *k, const Leeward__Control__V1__Report *report, const char *command_id, bool sent, struct err *err);
/* Sends what was not sent, in order, until one cannot be. events_stay: the hub is going to say which ones it has; else they go with being sent, as do those
 * without an id. send: 0 or -1. */
void kept_flush(struct kept *k, bool events_stay, int (*send)(void *arg, const struct buf *bytes), void *arg);
/* The end of that command, sent again with send. False: none is kept. */
bool kept_answer(struct kept *k, const char *command_id, int (*send)(void *arg, const struct buf *bytes), void *arg);
/* What was sent of events may not have come. */
void kept_untold(struct kept *k);
/* The hub has this event; false: there is none such. */
bool kept_stored(struct kept *k, const ProtobufCBinaryData *id);
/* Something is there that has to be sent, or that the hub has not said it has. */
bool kept_waits(const struct kept *k);

/* A KeptEvents (kept.proto) with the events that somebody has to act upon and that have an id; nothing where there are none. */
int kept_pack(const struct kept *k, const char *teller, struct buf *out, struct err *err);
/* Keeps these, too, not sent yet. ERR_INVALID: it is no such message, or not of this teller. */
int kept_unpack(struct kept *k, const char *teller, const struct buf *in, struct err *err);

#endif
