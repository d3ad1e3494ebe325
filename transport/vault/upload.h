/* SPDX-License-Identifier: Apache-2.0
 *
 * Keeps a copy of one machine's folder in a bucket, in turns. A turn brings what is there (upload_source, taken on the machine's lane) to the
 * bucket: the retention lock, damage and mended records, sealed segments, the open one up to its last mark, runs, the point list, branches
 * up to their last flush; and when all of it has arrived, a mark (bucketmark.h) that makes it count. So at each moment the bucket is a state that the machine was in (P1), and what is not named is not there. When there is
 * more than a turn can bring, the log so far gets a mark of its own, without index: the bucket comes nearer with each turn.
 *
 * Nothing is overwritten. A file that was written anew under its old number is another object; the old one is deleted when
 * the mark that names the new one is there. Turns may fail and be repeated; after a restart the marks in the bucket and the names that are taken
 * there tell where to go on, nothing is kept on disk for it.
 *
 * A turn blocks, and may take long; it touches no store. One thread at a time.
 */
#ifndef TRANSPORT_VAULT_UPLOAD_H
#define TRANSPORT_VAULT_UPLOAD_H

#include "transport/vault/branchlist.h"
#include "transport/vault/bucketmark.h"
#include "transport/vault/object/object.h"
#include "transport/vault/store.h"

/* What a machine's folder is at a moment. */
struct upload_source {
    struct ident machine;
    char *dir;
    struct log_position committed;
    uint64_t point, point_time_utc_usec;
    uint8_t meta[BUCKETMARK_META_SIZE];
    struct buf manifest_bytes; /* empty: there is none */
    struct manifest manifest;
    struct branch_list branches;
    struct keyring keys; /* what is to take the place of another object is verified before */
};

void upload_source_init(struct upload_source *src);
void upload_source_done(struct upload_source *src);
/* On the machine's lane; src is initialised. */
int upload_source_take(const struct store *s, const struct ident *machine, struct upload_source *src, struct err *err);

struct upload_result {
    bool more;         /* the turn's share is used up: take another one soon */
    uint64_t sequence; /* of the newest mark in the bucket */
    uint64_t point;    /* the newest recovery point that the bucket can give back; 0: none */
    uint64_t point_time_utc_usec;
    uint64_t sent_bytes;   /* in this turn */
    uint64_t behind_bytes; /* of the log, not in the bucket yet */
};

struct upload;
/* turn_bytes: a turn's share; 0: 256 MiB. */
int upload_new(const struct ident *machine, uint64_t turn_bytes, struct upload **ret_upload, struct err *err);
void upload_free(struct upload *u); /* NULL is allowed */
DEFINE_AUTO(upload, upload_free)
/* One turn. The result is good after a failure, too. ERR_CONFLICT: the bucket holds something else of this machine, or another vault
 * writes there; ERR_CANCELLED; the errors of object.h. */
int upload_turn(struct upload *u, struct object_store *objects, const struct upload_source *src,
    struct upload_result *ret_result, struct err *err);

/* Removes all that the bucket has of a machine, its marks first. What is there behind the marks stays for the next try when it fails. */
int upload_purge(const struct ident *machine, struct object_store *objects, struct err *err);

#endif
