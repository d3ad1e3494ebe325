/* SPDX-License-Identifier: Apache-2.0
 *
 * leeward.vault.v1, for a vault that keeps a copy of a machine: which of the machine's records are damaged here, and their content from there. Only records
 * of which the hash is known are told, and nothing is taken that has another one; what is taken stands beside the log (mend.h), so no point is touched,
 * and none can be dropped, made or changed by it. Whatever else is damaged only the bucket or the source can heal.
 */
#include <string.h>

#include "transport/vault/heal.h"
#include "transport/vault/vaultheal.h"
#include "transport/vault/vaultread_private.h"

#define DAMAGE_MAX 256u /* records that one call tells */
#define MEND_MAX 15u    /* records of one call: a message has at most a MiB */

/* The list is the loop's, and good once it was loaded. */
uint64_t vaultmend_count(const struct vmachine *vm)
{
    uint64_t count = 0;
    for (size_t i = 0; vm->scrub_loaded && i < vm->quarantine.count; i++)
        count += heal_may_be_given(&vm->quarantine.items[i]);
    return count;
}

/* Whose copy it is is asked by vaultread_machine. */
static int only_a_vault(const struct read_call *c, struct err *err)
{
    return c->d->conf.tls == NULL || strcmp(rpc_call_peer(c->call)->role, "vault") == 0
               ? 0
               : err_set(err, ERR_DENIED, "only a vault that keeps a copy may heal another one");
}

/* ---- Damage ---- */

static bool is_behind(const struct quarantine_item *i, uint64_t segment, uint64_t offset)
{
    return i->segment > segment || (i->segment == segment && i->offset > offset);
}

static int damage_request(struct read_call *c, const ProtobufCMessage *m, struct err *err)
{
    const Leeward__Vault__V1__DamageRequest *q = (const void *)m;
    size_t limit = q->limit == 0 || q->limit > DAMAGE_MAX ? DAMAGE_MAX : q->limit;
    if (only_a_vault(c, err) < 0 || vaultread_machine(c, &q->machine_id, err) < 0)
        return -1;
    const struct quarantine *list = &c->vm->quarantine;
    for (size_t i = 0; c->vm->scrub_loaded && i < list->count && c->damage.count < limit; i++)
        if (heal_may_be_given(&list->items[i]) && is_behind(&list->items[i], q->after_segment, q->after_offset) &&
            quarantine_put(&c->damage, &list->items[i], err) < 0)
            return -1;
    return 0;
}

/* The points are the lane's: it takes along those that are named. */
static int damage_prepare(struct read_call *c, struct store *s, struct err *err)
{
    const struct pointlist *points = store_points(s);
    for (size_t i = 0; i < c->damage.count; i++) {
        const struct point *first = pointlist_find(points, c->damage.items[i].first_point);
        const struct point *last = pointlist_find(points, c->damage.items[i].last_point);
        c->damage.items[i].first_point = first == NULL ? 0 : first->time_utc_usec;
        c->damage.items[i].last_point = last == NULL ? 0 : last->time_utc_usec;
    }
    (void)err;
    return 0;
}

void vaultmend_describe(struct quarantine_item *item, uint64_t first_utc_usec, uint64_t last_utc_usec,
    Leeward__Vault__V1__DamagedRecord *ret_record)
{
    leeward__vault__v1__damaged_record__init(ret_record);
    ret_record->segment = item->segment;
    ret_record->offset = item->offset;
    ret_record->disk = item->disk;
    ret_record->start = item->start;
    ret_record->length = (uint32_t)item->length;
    ret_record->hash = (ProtobufCBinaryData){HASH_SIZE, item->hash.bytes};
    ret_record->first_time_utc_usec = first_utc_usec;
    ret_record->last_time_utc_usec = last_utc_usec;
}

static int damage_step(struct read_call *c, struct err *err)
{
    for (size_t i = 0; i < c->damage.count; i++) {
        Leeward__Vault__V1__DamagedRecord record;
        struct quarantine_item *item = &c->damage.items[i];
        vaultmend_describe(item, item->first_point, item->last_point, &record);
        if (vaultread_put(c, &record.base, err) < 0)
            return -1;
    }
    return 0;
}

static const struct read_kind damage_kind = {.type = &leeward__vault__v1__damage_request__descriptor,
    .request = damage_request,
    .prepare = damage_prepare,
    .step = damage_step};

int vaultmend_accept_damage(
    struct rpc_call *call, void *server_arg, const struct rpc_call_ops **ret_ops, void **ret_arg, struct err *err)
{
    return vaultread_accept(call, server_arg, &damage_kind, ret_ops, ret_arg, err);
}

/* ---- Mend ---- */

static int take_offer(struct heal_offer *o, const Leeward__Vault__V1__MendedRecord *r, struct err *err)
{
    if (r->data.len == 0 || r->data.len > RECORD_BLOCK_SIZE)
        return err_set(err, ERR_INVALID, "a record has 1 to %u bytes", RECORD_BLOCK_SIZE);
    *o = (struct heal_offer){
        .segment = r->segment, .offset = r->offset, .data = mem_alloc(1, r->data.len), .length = r->data.len};
    if (o->data == NULL)
        return err_set(err, ERR_NOMEM, "no memory to heal");
    memcpy(o->data, r->data.data, r->data.len);
    return 0;
}

static int mend_request(struct read_call *c, const ProtobufCMessage *m, struct err *err)
{
    const Leeward__Vault__V1__MendRequest *q = (const void *)m;
    if (q->n_records == 0 || q->n_records > MEND_MAX)
        return err_set(err, ERR_INVALID, "1 to %u records are mended at a time", MEND_MAX);
    if (only_a_vault(c, err) < 0 || vaultread_machine(c, &q->machine_id, err) < 0)
        return -1;
    c->offers = mem_alloc(1, sizeof(*c->offers) + q->n_records * sizeof(c->offers->items[0]));
    if (c->offers == NULL)
        return err_set(err, ERR_NOMEM, "no memory to heal");
    c->offers->count = c->offers->mended = 0;
    for (size_t i = 0; i < q->n_records; i++, c->offers->count++)
        if (take_offer(&c->offers->items[i], q->records[i], err) < 0)
            return -1;
    return 0;
}

static void mend_done(void *arg, const struct err *why)
{
    struct read_call *c = arg;
    Leeward__Vault__V1__MendReply reply = LEEWARD__VAULT__V1__MEND_REPLY__INIT;
    struct err err = ERR_INIT;
    reply.mended = (uint32_t)c->offers->mended;
    if (why == NULL && vaultread_put(c, &reply.base, &err) < 0)
        why = &err;
    vaultread_done(c, why);
}

/* Before the list was read nothing is taken: it would be written over. The copy comes again with what it has. */
static int mend_start(struct read_call *c, struct err *err)
{
    if (!c->vm->scrub_loaded) {
        mend_done(c, NULL);
        return 0;
    }
    return vaultheal_offered(c->vm, c->offers, mend_done, c, err);
}

static const struct read_kind mend_kind = {
    .type = &leeward__vault__v1__mend_request__descriptor, .request = mend_request, .start = mend_start};

int vaultmend_accept_mend(
    struct rpc_call *call, void *server_arg, const struct rpc_call_ops **ret_ops, void **ret_arg, struct err *err)
{
    return vaultread_accept(call, server_arg, &mend_kind, ret_ops, ret_arg, err);
}
