/* SPDX-License-Identifier: Apache-2.0
 *
 * The last change set of a log after a crash. Its records and its mark were handed to the kernel together and made durable by
 * one fdatasync; when the power failed before that returned, the mark may have reached the disk and the data not. Such a set
 * was never announced as committed, but its headers and its mark look good: only its payloads tell. So those of the last set,
 * and of no other, are opened at start (the fdatasync of a set returns before the mark of the next one is written). A set whose
 * payloads do not fit never was: the log ends before it, and the agent, which has forgotten nothing, sends it again.
 *
 * What the index covers was durable before the index was written: damage there is damage, not a torn end.
 */
#include "transport/base/log.h"
#include "transport/log/mark.h"
#include "transport/vault/store_private.h"

struct tail {
    uint64_t before; /* where the last set begins */
    uint64_t end;    /* behind its mark */
};

static void on_mark(void *arg, const struct record *r, const uint8_t *payload, uint64_t end_bytes)
{
    struct tail *t = arg;
    (void)r;
    (void)payload;
    t->before = t->end;
    t->end = end_bytes;
}

static bool is_covered(const struct store *s, uint64_t number, const struct tail *t)
{
    AUTO_MANIFEST struct manifest m;
    manifest_init(&m, &s->machine);
    return manifest_load(s->dir, &s->machine, &m, NULL) == 0 &&
           (m.covered.segment > number || (m.covered.segment == number && m.covered.offset >= t->end));
}

/* 1: every payload fits; 0: one does not (*ret_why); -1. */
static int payloads_fit(struct store *s, uint64_t number, const struct tail *t, struct err *ret_why, struct err *err)
{
    struct segment_reader *reader AUTO_OF(segment_reader) = NULL;
    uint64_t offset = t->before;
    struct record r;
    const uint8_t *payload;
    if (segment_open(s->main_fd, number, &reader, err) < 0)
        return -1;
    while (offset < t->end) {
        if (segment_read_next(reader, &offset, &r, &payload, err) != 1)
            return -1;
        if (r.kind != RECORD_DATA ||
            seal_open(s->work, &r, payload, keyring_key(&s->keys, r.nonce_stream), s->scratch, ret_why) == 0)
            continue;
        if (ret_why->code == ERR_CORRUPT || ret_why->code == ERR_DENIED)
            return 0;
        err_copy(err, ret_why);
        return -1;
    }
    return 1;
}

int store_tail_recover(struct store *s, uint64_t number, uint64_t *ret_end, bool *ret_sealed, struct err *err)
{
    struct tail t = {.end = SEGMENT_HEADER_SIZE};
    struct err why = ERR_INIT;
    if (segment_recover(s->main_fd, number, on_mark, &t, ret_end, ret_sealed, err) < 0)
        return -1;
    if (*ret_sealed || t.before == 0 || is_covered(s, number, &t))
        return 0;
    int fit = payloads_fit(s, number, &t, &why, err);
    if (fit != 0)
        return fit < 0 ? -1 : 0;
    log_event(LOG_WARN, "torn_set_dropped", LOG_S("dir", s->dir), LOG_U("segment", number), LOG_U("offset", t.before),
        LOG_E(&why));
    *ret_end = t.before;
    return 0;
}
