/* SPDX-License-Identifier: Apache-2.0
 *
 * A list in the order in which things came, packed. An event is dropped when the hub has stored it; the end of a command is only marked as sent, and goes when
 * there are too many. Where events are too many, the oldest of those that matter least goes, which may be the new one. On disk is what somebody has to act upon.
 */
#include "transport/proto/kept.h"

#include <string.h>

#include "transport/base/ident.h"
#include "transport/base/log.h"
#include "transport/base/mem.h"
#include "transport/proto/kept.pb-c.h"
#include "transport/proto/wire.h"

enum weight { WEIGHT_INFO, WEIGHT_WARNING, WEIGHT_ERROR };

struct kept_item {
    struct kept_item *next;
    char *command_id;      /* that has ended; NULL: an event */
    struct ident event_id; /* zero: it is told once */
    enum weight weight;    /* of an event: how much it matters */
    bool sent;
    struct buf bytes;
};

void kept_init(struct kept *k)
{
    *k = (struct kept){0};
    k->end = &k->head;
}

static void item_free(struct kept_item *i)
{
    buf_done(&i->bytes);
    free(i->command_id);
    free(i);
}

static bool is_worth_saving(const struct kept_item *i)
{
    return i->command_id == NULL && i->weight > WEIGHT_INFO && !ident_is_zero(&i->event_id);
}

static void put(struct kept *k, struct kept_item *i)
{
    k->unsaved = k->unsaved || is_worth_saving(i);
    *k->end = i;
    k->end = &i->next;
    if (i->command_id == NULL) {
        k->events++;
    } else {
        k->results++;
        k->result_bytes += i->bytes.len;
    }
}

static void drop(struct kept *k, struct kept_item **at)
{
    struct kept_item *i = *at;
    *at = i->next;
    if (k->end == &i->next)
        k->end = at;
    if (i->command_id == NULL) {
        k->events--;
    } else {
        k->results--;
        k->result_bytes -= i->bytes.len;
    }
    k->has_lost = k->has_lost && k->events > 0;
    k->unsaved = k->unsaved || is_worth_saving(i);
    item_free(i);
}

void kept_done(struct kept *k)
{
    while (k->head != NULL)
        drop(k, &k->head);
}

/* ---- room ---- */

static bool is_result(const struct kept_item *i)
{
    return i->command_id != NULL;
}

static bool is_sent_result(const struct kept_item *i)
{
    return is_result(i) && i->sent;
}

static bool is_event(const struct kept_item *i)
{
    return !is_result(i);
}

/* The place of the oldest that is so; of NULL: there is none. */
static struct kept_item **oldest(struct kept *k, bool (*is_so)(const struct kept_item *i))
{
    struct kept_item **at = &k->head;
    while (*at != NULL && !is_so(*at))
        at = &(*at)->next;
    return at;
}

static struct kept_item **lightest_event(struct kept *k)
{
    struct kept_item **found = oldest(k, is_event);
    for (struct kept_item **at = found; *at != NULL; at = &(*at)->next)
        if (is_event(*at) && (*at)->weight < (*found)->weight)
            found = at;
    return found;
}

/* False: there is none, for all that are there matter more. */
static bool make_room_for_event(struct kept *k, const struct kept_item *i)
{
    struct kept_item **lightest = lightest_event(k);
    if (k->events < KEPT_EVENTS_MAX)
        return true;
    if (!k->has_lost)
        log_event(LOG_WARN, "events_lost", LOG_U("kept", KEPT_EVENTS_MAX));
    k->has_lost = true;
    if ((*lightest)->weight > i->weight)
        return false;
    drop(k, lightest);
    return true;
}

static void make_room_for_result(struct kept *k, size_t bytes)
{
    while (k->results > 0 && (k->results >= KEPT_RESULTS_MAX || k->result_bytes + bytes > KEPT_RESULT_BYTES)) {
        struct kept_item **sent = oldest(k, is_sent_result);
        drop(k, *sent != NULL ? sent : oldest(k, is_result));
    }
}

/* ---- adding ---- */

static enum weight weight_of(const char *severity)
{
    if (strcmp(severity, "info") == 0)
        return WEIGHT_INFO;
    return strcmp(severity, "error") == 0 ? WEIGHT_ERROR : WEIGHT_WARNING;
}

static void describe_event(struct kept_item *i, const Leeward__Control__V1__Event *event)
{
    if (event->id.len == IDENT_SIZE)
        memcpy(i->event_id.bytes, event->id.data, IDENT_SIZE);
    i->weight = weight_of(event->severity);
}

int kept_add(
    struct kept *k, const Leeward__Control__V1__Report *report, const char *command_id, bool sent, struct err *err)
{
    struct kept_item *i = mem_new(struct kept_item);
    if (i == NULL)
        return err_set(err, ERR_NOMEM, "no memory to keep a report");
    i->bytes = BUF_INIT(KEPT_REPORT_MAX);
    i->command_id = command_id != NULL ? mem_strdup(command_id) : NULL;
    i->sent = sent;
    if ((command_id != NULL && i->command_id == NULL) || wire_pack(&report->base, &i->bytes, err) < 0) {
        if (command_id != NULL && i->command_id == NULL)
            (void)err_set(err, ERR_NOMEM, "no memory to keep a report");
        item_free(i);
        return -1;
    }
    if (command_id == NULL)
        describe_event(i, report->event);
    else
        make_room_for_result(k, i->bytes.len);
    if (is_event(i) && !make_room_for_event(k, i))
        item_free(i);
    else
        put(k, i);
    return 0;
}

/* ---- sending ---- */

void kept_flush(struct kept *k, bool events_stay, int (*send)(void *arg, const struct buf *bytes), void *arg)
{
    struct kept_item **at = &k->head;
    while (*at != NULL) {
        struct kept_item *i = *at;
        if (!i->sent && send(arg, &i->bytes) < 0)
            return;
        if (is_event(i) && (!events_stay || ident_is_zero(&i->event_id))) {
            drop(k, at);
        } else {
            i->sent = true;
            at = &i->next;
        }
    }
}

bool kept_answer(struct kept *k, const char *command_id, int (*send)(void *arg, const struct buf *bytes), void *arg)
{
    struct kept_item *i = k->head;
    while (i != NULL && (is_event(i) || strcmp(i->command_id, command_id) != 0))
        i = i->next;
    if (i != NULL)
        i->sent = send(arg, &i->bytes) == 0;
    return i != NULL;
}

void kept_untold(struct kept *k)
{
    for (struct kept_item *i = k->head; i != NULL; i = i->next)
        i->sent = i->sent && is_result(i);
}

bool kept_stored(struct kept *k, const ProtobufCBinaryData *id)
{
    struct kept_item **at = &k->head;
    if (id->len != IDENT_SIZE)
        return false;
    while (*at != NULL && (is_result(*at) || memcmp((*at)->event_id.bytes, id->data, IDENT_SIZE) != 0))
        at = &(*at)->next;
    if (*at == NULL)
        return false;
    drop(k, at);
    return true;
}

bool kept_waits(const struct kept *k)
{
    for (const struct kept_item *i = k->head; i != NULL; i = i->next)
        if (is_event(i) || !i->sent)
            return true;
    return false;
}

/* ---- on disk ---- */

typedef Leeward__Kept__V1__KeptEvents KeptEvents;

int kept_pack(const struct kept *k, const char *teller, struct buf *out, struct err *err)
{
    ProtobufCBinaryData reports[KEPT_EVENTS_MAX];
    KeptEvents m = LEEWARD__KEPT__V1__KEPT_EVENTS__INIT;

    m.teller = (char *)(uintptr_t)teller;
    m.reports = reports;
    for (const struct kept_item *i = k->head; i != NULL && m.n_reports < KEPT_EVENTS_MAX; i = i->next)
        if (is_worth_saving(i))
            reports[m.n_reports++] = (ProtobufCBinaryData){.len = i->bytes.len, .data = i->bytes.data};
    return m.n_reports == 0 ? 0 : wire_pack(&m.base, out, err);
}

static int unpack_one(struct kept *k, const ProtobufCBinaryData *packed, struct err *err)
{
    ProtobufCMessage *m = NULL;

    if (wire_unpack(&leeward__control__v1__report__descriptor, packed->data, packed->len, &m, err) < 0)
        return -1;
    const Leeward__Control__V1__Report *report = (Leeward__Control__V1__Report *)m;
    int rc = report->kind_case == LEEWARD__CONTROL__V1__REPORT__KIND_EVENT ? kept_add(k, report, NULL, false, err)
                                                                           : err_set(err, ERR_INVALID, "not an event");
    wire_free(m);
    return rc;
}

int kept_unpack(struct kept *k, const char *teller, const struct buf *in, struct err *err)
{
    ProtobufCMessage *m = NULL;
    int rc = 0;

    if (wire_unpack(&leeward__kept__v1__kept_events__descriptor, in->data, in->len, &m, err) < 0)
        return -1;
    const KeptEvents *events = (KeptEvents *)m;
    if (strcmp(events->teller, teller) != 0)
        rc = err_set(err, ERR_INVALID, "these are events of %.40s", events->teller);
    for (size_t i = 0; rc == 0 && i < events->n_reports; i++)
        rc = unpack_one(k, &events->reports[i], err);
    wire_free(m);
    return rc;
}
