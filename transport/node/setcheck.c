/* SPDX-License-Identifier: Apache-2.0
 *
 * The checks on a stream of change sets. A set that fails is refused as a whole; what the caller does about the part that
 * it has stored already is its business (it rewinds to the last mark).
 */
#include "transport/node/setcheck.h"

#include "transport/log/mark.h"

int setcheck_init(struct setcheck *c, struct err *err)
{
    *c = (struct setcheck){.digest = record_digest_new()};
    if (c->digest == NULL)
        return err_set(err, ERR_NOMEM, "no memory for the digest of a change set");
    return 0;
}

void setcheck_done(struct setcheck *c)
{
    record_digest_free(c->digest);
    c->digest = NULL;
}

static void begin_set(struct setcheck *c)
{
    c->record_count = 0;
    c->changed_bytes = 0;
    record_digest_reset(c->digest);
}

void setcheck_start(
    struct setcheck *c, const struct ident *machine, uint64_t generation, uint64_t epoch, uint64_t next_sequence)
{
    c->machine = *machine;
    c->generation = generation;
    c->epoch = epoch;
    c->next_sequence = next_sequence;
    c->saw_point = false;
    begin_set(c);
}

static int check_identity(const struct setcheck *c, const struct mark *m, struct err *err)
{
    if (!ident_equal(&m->machine, &c->machine)) {
        (void)err_set(err, ERR_DENIED, "the stream carries a mark of another machine");
        return err_hint(err, "Check that the agent's data folder was not copied from another machine.");
    }
    if (m->generation != c->generation || m->epoch != c->epoch)
        return err_set(err, ERR_REFUSED, "mark of generation %llu, epoch %llu in a stream of %llu, %llu",
            (unsigned long long)m->generation, (unsigned long long)m->epoch, (unsigned long long)c->generation,
            (unsigned long long)c->epoch);
    if (m->sequence != c->next_sequence)
        return err_set(err, ERR_REFUSED, "change set %llu came where %llu was expected",
            (unsigned long long)m->sequence, (unsigned long long)c->next_sequence);
    return 0;
}

static int check_whole(const struct setcheck *c, const struct mark *m, struct err *err)
{
    struct hash128 digest;
    record_digest_get(c->digest, &digest);
    if (m->record_count == c->record_count && m->changed_bytes == c->changed_bytes && hash_equal(&m->digest, &digest))
        return 0;
    return err_set(err, ERR_CORRUPT, "change set %llu is not what its mark says: %llu of %llu records arrived%s",
        (unsigned long long)m->sequence, (unsigned long long)c->record_count, (unsigned long long)m->record_count,
        m->record_count == c->record_count ? ", their digest differs" : "");
}

static int take_mark(struct setcheck *c, const struct record *r, const uint8_t *payload, struct err *err)
{
    struct mark m;
    if (mark_decode(r, payload, &m, err) < 0 || check_identity(c, &m, err) < 0 || check_whole(c, &m, err) < 0)
        return -1;
    c->next_sequence++;
    c->saw_point |= mark_is_point(&m);
    begin_set(c);
    return 1;
}

int setcheck_record(struct setcheck *c, const struct record *r, const uint8_t *payload, struct err *err)
{
    if (r->kind == RECORD_MARK)
        return take_mark(c, r, payload, err);
    if (r->kind == RECORD_SEAL)
        return err_set(err, ERR_CORRUPT, "a seal has no place in a stream");
    c->record_count++;
    c->changed_bytes += r->length;
    record_digest_add(c->digest, r);
    return 0;
}

bool setcheck_is_open(const struct setcheck *c)
{
    return c->record_count > 0;
}
