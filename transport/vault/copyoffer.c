/* SPDX-License-Identifier: Apache-2.0
 *
 * The other way round: the vault from which a copy comes is damaged, and the copy may have the content. The other vault tells what it lacks by hash and by
 * the time of the points that show it; what has that hash here, at a point of these times or at the newest one, goes there. It is the other
 * vault that decides: it takes what has the hash and nothing else. Calls go the way that they go anyway, from here to there.
 *
 * Happy path: some records are asked for, found and sent, then those behind them, until there are no more. Failure modes: what is not found here, or is
 * damaged here, too, is left out. A call that fails ends it; it is tried again with pauses (vaultcopy.c).
 */
#include <inttypes.h>
#include <string.h>

#include "transport/base/clock.h"
#include "transport/base/log.h"
#include "transport/vault/copypass_private.h"

#define RECORDS 15u /* of one call: a message has at most a MiB */
#define CACHE_SMALL 1u
#define PLACES 2u /* points that are looked at for one record */

struct wanted {
    uint64_t segment, offset, start, first_utc_usec, last_utc_usec;
    uint32_t disk, length;
    struct hash128 hash;
};

struct copy_offer {
    char *dir;
    struct keyring keys;
    struct pointlist points;
    struct view *view; /* of the point that was looked at last */
    uint64_t view_sequence, after_segment, after_offset, mended;
    size_t wanted_count, found_count;
    struct wanted wanted[RECORDS];
    Leeward__Vault__V1__MendedRecord found[RECORDS], *list[RECORDS];
    uint8_t data[RECORDS][RECORD_BLOCK_SIZE];
};

void copy_offer_free(struct copy_offer *o)
{
    if (o == NULL)
        return;
    view_close(o->view);
    pointlist_done(&o->points);
    keyring_cleanse(&o->keys);
    free(o->dir);
    free(o);
}

uint64_t copypass_lacks_there(const struct copypass *p)
{
    return p->lacks_there;
}

uint64_t copypass_mended(const struct copypass *p)
{
    return p->offer == NULL ? 0 : p->offer->mended;
}

int copypass_offer_begin(struct copypass *p, struct store *s, struct err *err)
{
    struct copy_offer *o = p->offer = mem_new(struct copy_offer);
    if (o == NULL || (o->dir = mem_strdup(store_dir(s))) == NULL)
        return err_set(err, ERR_NOMEM, "no memory to heal the other vault");
    if (store_flush(s, err) < 0)
        return -1;
    store_keys(s, &o->keys);
    for (size_t i = 0; i < store_points(s)->count; i++)
        if (pointlist_add(&o->points, &store_points(s)->items[i], err) < 0)
            return -1;
    return 0;
}

/* ---- what is wanted ---- */

static int take_wanted(void *arg, const ProtobufCMessage *m, struct err *err)
{
    const Leeward__Vault__V1__DamagedRecord *r = (const void *)m;
    struct copy_offer *o = arg;
    if (o->wanted_count == RECORDS || r->length == 0 || r->length > RECORD_BLOCK_SIZE ||
        r->length % RECORD_SECTOR != 0 || r->start % RECORD_SECTOR != 0 || r->hash.len != HASH_SIZE ||
        r->disk > RECORD_DISK_MAX || r->segment < o->after_segment ||
        (r->segment == o->after_segment && r->offset <= o->after_offset))
        return err_set(err, ERR_CORRUPT, "the other vault names damage that there cannot be");
    struct wanted *w = &o->wanted[o->wanted_count++];
    *w = (struct wanted){.segment = r->segment,
        .offset = r->offset,
        .disk = r->disk,
        .start = r->start,
        .length = r->length,
        .first_utc_usec = r->first_time_utc_usec,
        .last_utc_usec = r->last_time_utc_usec};
    memcpy(w->hash.bytes, r->hash.data, HASH_SIZE);
    o->after_segment = r->segment;
    o->after_offset = r->offset;
    return 0;
}

static int ask_wanted(struct copypass *p, struct err *err)
{
    Leeward__Vault__V1__DamageRequest q = LEEWARD__VAULT__V1__DAMAGE_REQUEST__INIT;
    q.machine_id = (ProtobufCBinaryData){IDENT_SIZE, p->spec.machine.bytes};
    q.after_segment = p->offer->after_segment;
    q.after_offset = p->offer->after_offset;
    q.limit = RECORDS;
    p->offer->wanted_count = 0;
    return vaultask_run(p->spec.ask, "/leeward.vault.v1.Vault/Damage", &q.base,
        &leeward__vault__v1__damaged_record__descriptor, take_wanted, p->offer, &p->traffic_bytes, err);
}

/* ---- what is here ---- */

/* The first point at or behind the first that shows it there, and the last at or before the last one: retention may have dropped there what this side
 * still has of the time in which it was shown. Where no point shows it, the newest. */
static size_t candidates(const struct copy_offer *o, const struct wanted *w, uint64_t *out)
{
    uint64_t until = w->last_utc_usec == 0 ? UINT64_MAX : w->last_utc_usec, first = 0, last = 0;
    for (size_t i = 0; i < o->points.count; i++) {
        const struct point *at = &o->points.items[i];
        if (first == 0 && w->first_utc_usec != 0 && at->time_utc_usec >= w->first_utc_usec)
            first = at->sequence;
        if (at->time_utc_usec <= until)
            last = at->sequence;
    }
    size_t count = 0;
    if (first != 0)
        out[count++] = first;
    if (last != 0 && last != first)
        out[count++] = last;
    return count;
}

/* 1: it has that content there; 0: it has not, or it cannot be read here either; -1. */
static int read_there(struct copy_offer *o, uint64_t sequence, const struct wanted *w, uint8_t *out, struct err *err)
{
    struct err why = ERR_INIT;
    struct hash128 hash;
    if (o->view == NULL || o->view_sequence != sequence) {
        view_close(TAKE_PTR(o->view));
        o->view_sequence = sequence;
        if (view_open(o->dir, sequence, &o->keys, CACHE_SMALL, &o->view, &why) < 0)
            return why.code == ERR_NOMEM ? err_set(err, ERR_NOMEM, "no memory to heal the other vault") : 0;
    }
    const struct mark_disk *d = view_disk(o->view, w->disk);
    if (d == NULL || w->start > d->size_bytes || w->length > d->size_bytes - w->start ||
        view_read(o->view, w->disk, w->start, w->length, out, NULL) < 0)
        return 0;
    hash_128(out, w->length, &hash);
    return hash_equal(&hash, &w->hash);
}

static int find(struct copy_offer *o, const struct wanted *w, struct err *err)
{
    uint64_t points[PLACES];
    size_t count = candidates(o, w, points), at = o->found_count;
    int found = 0;
    for (size_t i = 0; found == 0 && i < count; i++)
        found = read_there(o, points[i], w, o->data[at], err);
    if (found <= 0)
        return found;
    o->found[at] = (Leeward__Vault__V1__MendedRecord)LEEWARD__VAULT__V1__MENDED_RECORD__INIT;
    o->found[at].segment = w->segment;
    o->found[at].offset = w->offset;
    o->found[at].data = (ProtobufCBinaryData){w->length, o->data[at]};
    o->list[at] = &o->found[at];
    o->found_count++;
    return 0;
}

static int take_reply(void *arg, const ProtobufCMessage *m, struct err *err)
{
    struct copy_offer *o = arg;
    (void)err;
    o->mended += ((const Leeward__Vault__V1__MendReply *)(const void *)m)->mended;
    return 0;
}

static int send_found(struct copypass *p, struct err *err)
{
    Leeward__Vault__V1__MendRequest q = LEEWARD__VAULT__V1__MEND_REQUEST__INIT;
    if (p->offer->found_count == 0)
        return 0;
    q.machine_id = (ProtobufCBinaryData){IDENT_SIZE, p->spec.machine.bytes};
    q.n_records = p->offer->found_count;
    q.records = p->offer->list;
    return vaultask_run(p->spec.ask, "/leeward.vault.v1.Vault/Mend", &q.base,
        &leeward__vault__v1__mend_reply__descriptor, take_reply, p->offer, &p->traffic_bytes, err);
}

static int some(struct copypass *p, struct err *err)
{
    struct copy_offer *o = p->offer;
    if (ask_wanted(p, err) < 0)
        return -1;
    o->found_count = 0;
    for (size_t i = 0; i < o->wanted_count; i++)
        if (find(o, &o->wanted[i], err) < 0)
            return -1;
    return send_found(p, err) < 0 ? -1 : o->wanted_count == RECORDS;
}

int copypass_offer(struct copypass *p, struct err *err)
{
    uint64_t traffic = p->traffic_bytes;
    if (!copy_may_ask(p))
        return 1;
    int result = some(p, err);
    copy_settle(p, p->traffic_bytes - traffic);
    return result;
}
