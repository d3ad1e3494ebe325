/* SPDX-License-Identifier: Apache-2.0
 *
 * One pass of a copy: a point that another vault has of a machine becomes a point of this vault's own log: the next one that somebody asked for,
 * or the newest if there is none of these. Only what differs travels: where the
 * point before is known, what the other vault says has changed since is compared by hashes; else all of each disk is. What comes is checked against
 * its hash, sealed under this vault's key of the machine and appended in change sets of bounded size; the last of them is the point. So there is a
 * point here when all of it is, and never before (P1).
 *
 * The work is divided: what asks the other vault runs on a thread that may wait, what touches the store on the machine's lane, one after the other:
 *     look (1: there is a newer point) -> begin -> gather, append -> gather, append -> ... until append says 0
 * Under a bound (copypace.h) gather says when it may go on, and no thread waits until then.
 * The file `copied` in the machine's folder says which point of the other vault the newest own one is. It is written behind the point: after
 * a crash between both all is compared once more, which changes nothing.
 */
#ifndef TRANSPORT_VAULT_COPYPASS_H
#define TRANSPORT_VAULT_COPYPASS_H

#include <stdbool.h>
#include <stdint.h>

#include "transport/base/err.h"
#include "transport/base/ident.h"
#include "transport/base/mem.h"
#include "transport/proto/vaultask.h"
#include "transport/vault/copypace.h"
#include "transport/vault/store.h"

/* Of all passes, also of those that failed: content that came, and messages in both directions for it. */
struct copy_counts {
    uint64_t taken_bytes, traffic_bytes;
};

/* What the file `copied` says. */
struct copy_held {
    bool known;          /* else nothing is known of what the log has of the other vault's points */
    struct ident source; /* the other vault */
    uint64_t source_sequence, time_utc_usec, source_generation,
        changed_bytes;         /* its point, and what tells it from another of that number */
    uint64_t sequence, epoch;  /* of this vault's log: the mark of that point */
    struct copy_counts counts; /* since the copy was begun; good even if the rest is not known */
};

/* Lane. Not known where the file is not there or damaged, is about another vault, or the log does not end with what it says. */
void copy_held_load(const struct store *s, const struct ident *source, struct copy_held *ret_held);
/* Lane. Adds to *held, and to the file, what is counted there not yet, once that is worth a write; what was added is zero then. */
int copy_held_count(const struct store *s, struct copy_held *held, struct copy_counts *unnoted, struct err *err);

/* A range of the newest content that cannot be read here. */
struct copy_damage {
    uint32_t disk;
    uint64_t start, length;
};

struct copypass;
struct copypass_spec {
    struct vaultask *ask;
    struct ident machine, source;
    struct copy_held held;
    struct copy_counts unnoted; /* of passes before, and not in the file yet */
    struct copypace *pace;      /* NULL: no bound is kept */
    struct copyflow *flow;      /* of the machine, with pace; outlives the pass */
    const struct copy_damage
        *damage; /* outlives the pass; where there is any, the pass mends that and comes to no other point */
    size_t damage_count;
};
int copypass_new(const struct copypass_spec *spec, struct copypass **ret_pass, struct err *err);
void copypass_free(struct copypass *p); /* NULL allowed; nothing of it is under way */
DEFINE_AUTO(copypass, copypass_free)

/* May wait. 1: there is a point to be taken; 0: the newest one is here already, or there is none. */
int copypass_look(struct copypass *p, struct err *err);
/* Is nothing known of what has changed, so that all of the disks is to be compared? Once look has said 1. */
bool copypass_is_whole(const struct copypass *p);
/* Lane. A new stream of the machine. */
int copypass_begin(struct copypass *p, struct store *s, struct err *err);
/* May wait. Some of what differs, as much as a change set takes, or what came within a few seconds: 1, append it. 0: not before
 * copypass_rests_until may more be asked for; gather again then. */
int copypass_gather(struct copypass *p, struct err *err);
uint64_t copypass_rests_until(const struct copypass *p); /* monotonic */
/* The next gather that has to rest has what it has appended before. */
void copypass_hurry(struct copypass *p);
/* It holds no more memory and files than it must, until copypass_return: between two steps, where nothing waits to be appended. False: something does. */
bool copypass_park(struct copypass *p);
/* Lane. Then gather. */
int copypass_return(struct copypass *p, struct store *s, struct err *err);
/* Lane. Makes it durable. 1: gather more; 0: the point is there. */
int copypass_append(struct copypass *p, struct store *s, struct err *err);

/* copyoffer.c: records that are damaged in the other vault, of which the copy may have the content, as look was told. To send that is another way to use a pass
 * that has looked: begin (lane), then offer (may wait) until it says 0. It was not before copypass_rests_until when it says 1. */
uint64_t copypass_lacks_there(const struct copypass *p);
int copypass_offer_begin(struct copypass *p, struct store *s, struct err *err);
int copypass_offer(struct copypass *p, struct err *err);
uint64_t copypass_mended(const struct copypass *p); /* so many were taken */

/* Does the pass mend damage? Then append says 0 when all that the other vault could give of it is durable, as progress. */
bool copypass_heals(const struct copypass *p);
/* Once append has said 0. */
const struct copy_held *copypass_held(const struct copypass *p);
/* Bytes in both directions so far, and how far it is. Between two steps. */
/* Is there a newer one there than the pass has come to? */
bool copypass_is_behind(const struct copypass *p);
uint64_t copypass_traffic(const struct copypass *p);
/* Since the copy was begun; and what of that the file does not have, which a pass that fails leaves to the next one. Between two steps. */
struct copy_counts copypass_counts(const struct copypass *p);
struct copy_counts copypass_unnoted(const struct copypass *p);
unsigned copypass_permille(const struct copypass *p);

#endif
