/* SPDX-License-Identifier: Apache-2.0
 *
 * A model of a protected machine for the vault's tests: disks as plain arrays, a writer that makes real batches of sealed,
 * encrypted records as a node does, and a copy of the disks at each point to compare with.
 */
#ifndef TESTS_UNIT_VAULT_VAULTMODEL_H
#define TESTS_UNIT_VAULT_VAULTMODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "transport/base/buf.h"
#include "transport/log/mark.h"
#include "transport/log/seal.h"
#include "transport/vault/store.h"

#define MODEL_DISKS 2
#define MODEL_POINTS_MAX 4096

struct model_point {
    uint64_t sequence;
    uint8_t *disks[MODEL_DISKS];
};

struct model {
    char dir[64]; /* of the test; the machine's folder is dir/machine */
    char machine_dir[160];
    struct store_conf conf;
    struct store *store;
    struct store_opened opened;
    uint64_t disk_bytes[MODEL_DISKS];
    uint8_t *disks[MODEL_DISKS];
    uint64_t random;
    /* the writer */
    struct seal_work *work;
    struct record_digest *digest;
    struct buf batch;
    uint64_t nonce, records, changed, epoch;
    uint64_t began_utc_usec; /* a mark's time is so many seconds behind this as its sequence says */
    bool first_sent;
    const char *tag;    /* of the next marks; NULL: none */
    struct ident group; /* their group point; zero: none */
    /* what was committed */
    struct model_point points[MODEL_POINTS_MAX];
    unsigned point_count;
};

/* The id of a group point that was coordinated at that time, as transport/log/FORMAT.md has it. */
void model_group_id(uint64_t utc_usec, struct ident *ret_id);
void model_init(struct model *m, uint64_t seed);
/* The same with disks of other sizes. */
void model_init_sized(struct model *m, uint64_t seed, uint64_t bytes_0, uint64_t bytes_1);
/* Copies a folder of files and folders. */
void model_copy_tree(const char *from, const char *to);
/* Thins, in one step: all points of `drop` (ascending) go from the store and from the model. */
void model_drop(struct model *m, const uint64_t *drop, size_t count);
void model_done(struct model *m);
uint64_t model_random(struct model *m, uint64_t below);
void model_open(struct model *m);  /* store_open and store_begin; asserts */
void model_close(struct model *m); /* store_close */
/* Another data key, and a stream of it. 0, or -1: it failed, and the store must be opened again. */
int model_try_new_key(struct model *m, struct err *err);
void model_new_key(struct model *m); /* asserts */
/* Opens the store as after kill -9: nothing was flushed. */
void model_crash(struct model *m);
/* Changes the arrays and adds records to the batch. */
void model_write(struct model *m, unsigned disk, uint64_t start, uint32_t length, bool compressible);
/* The same with this content, in one record. */
void model_put(struct model *m, unsigned disk, uint64_t start, uint32_t length, const uint8_t *content);
void model_zero(struct model *m, unsigned disk, uint64_t start, uint64_t length);
void model_random_write(struct model *m);
/* Adds the mark. */
void model_mark(struct model *m, enum mark_kind kind);
/* The same with everything said; for batches that go another way than model_commit. */
void model_mark_at(struct model *m, enum mark_kind kind, uint64_t sequence, uint64_t generation);
void model_batch_reset(struct model *m);
/* Keeps a copy of the disks as the point with that sequence. */
void model_keep_point(struct model *m, uint64_t sequence);
/* Gives the batch to the store; asserts that it is committed, and keeps a copy of the disks if it is a point. */
void model_commit(struct model *m, enum mark_kind kind);
/* So many points, each of so many random writes. */
void model_fill(struct model *m, unsigned points, unsigned writes);
/* Opens the point and compares every byte. */
void model_check_point(struct model *m, const struct model_point *p);
void model_check_all(struct model *m);
void model_forget(struct model *m, uint64_t sequence); /* the point was dropped */

#endif
