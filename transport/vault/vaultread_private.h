/* SPDX-License-Identifier: Apache-2.0
 *
 * What vaultread.c and vaultdiffer.c share and nobody else sees: a call that is prepared on the machine's lane and then works in steps.
 */
#ifndef TRANSPORT_VAULT_VAULTREAD_PRIVATE_H
#define TRANSPORT_VAULT_VAULTREAD_PRIVATE_H

#include "transport/proto/vault.pb-c.h"
#include "transport/vault/vaultd_private.h"
#include "transport/vault/view.h"

struct read_call;
struct block_have;

/* One kind of call. All but `request` run on a worker. */
struct read_kind {
    const ProtobufCMessageDescriptor *type;
    /* Loop: takes the request over. */
    int (*request)(struct read_call *c, const ProtobufCMessage *m, struct err *err);
    /* Lane: whatever needs the store. */
    int (*prepare)(struct read_call *c, struct store *s, struct err *err);
    /* Pool: appends one message or more to c->out; 0: that was the last. */
    int (*step)(struct read_call *c, struct err *err);
    /* Loop, instead of both: begins what ends with vaultread_done. NULL: none. */
    int (*start)(struct read_call *c, struct err *err);
};

struct read_message {
    struct read_message *next;
    struct buf bytes;
};

struct read_call {
    struct vaultjob job;
    const struct read_kind *kind;
    struct vaultd *d;
    struct vmachine *vm;
    struct rpc_call *call; /* NULL when it is over */
    bool busy;             /* a job has it */
    bool asked, last, blocked;
    bool ended; /* finished or failed: nothing more is sent */
    struct read_message *out, **out_end;
    uint64_t sequence, after;
    uint32_t disk, limit, block_bytes;
    uint64_t start, end; /* what is left of the range */
    bool to_end;
    struct view *view;
    struct mark *marks; /* ListPoints: a scratch mark */
    struct pointlist points;
    size_t point_at;
    struct block_have *have; /* Blocks */
    size_t have_count, have_at;
    bool told;                  /* Changes: the first chunk is out */
    bool newest, marked;        /* ListPoints: only the last one; only those that somebody asked for */
    uint64_t held;              /* ListPoints: what the client's copy stands on */
    uint64_t damaged;           /* ListPoints: records of which that copy may have the content */
    struct quarantine damage;   /* Damage */
    struct heal_offers *offers; /* Mend */
};

/* vaultmend.c: what Damage tells of an item, which the record points into; the times are those of the first and the last point that show it, 0: none does. */
void vaultmend_describe(struct quarantine_item *item, uint64_t first_utc_usec, uint64_t last_utc_usec,
    Leeward__Vault__V1__DamagedRecord *ret_record);

int vaultread_accept(struct rpc_call *call, struct vaultd *d, const struct read_kind *kind,
    const struct rpc_call_ops **ret_ops, void **ret_arg, struct err *err);
int vaultread_machine(struct read_call *c, const ProtobufCBinaryData *id, struct err *err);
/* Loop: what `start` began is done; err NULL: what was put is sent. */
void vaultread_done(struct read_call *c, const struct err *err);
/* Worker: one more message to send. */
int vaultread_put(struct read_call *c, const ProtobufCMessage *m, struct err *err);
/* Lane: opens c->view at c->sequence; 0: the latest point, or with progress_too the latest committed content. */
/* What is stored cannot be read; the call is none the worse for it. ERR_DENIED is one of them: a tag does not fit, and the key is the right one. */
bool vaultread_is_damage(const struct err *why);
int vaultread_open(struct read_call *c, struct store *s, bool progress_too, struct err *err);

#endif
