/* SPDX-License-Identifier: Apache-2.0
 *
 * What the bucket holds of one machine: its files and their pieces, as its marks tell it. Made by applying marks in their order, from
 * the newest full one on; the uploader changes it along with what it sends. One thread.
 */
#ifndef TRANSPORT_VAULT_BUCKETSTATE_H
#define TRANSPORT_VAULT_BUCKETSTATE_H

#include "transport/vault/bucketmark.h"
#include "transport/vault/object/object.h"

struct bucket_piece {
    uint64_t offset, bytes;
    struct hash128 hash;
};

struct bucket_file {
    enum bucket_kind kind;
    struct ident owner;
    uint64_t number;
    uint64_t bytes;              /* of all pieces: they follow one another from 0 on */
    struct bucket_piece *pieces; /* at least one */
    size_t count;
};

struct bucketstate {
    struct ident machine;
    struct bucket_file *files; /* by kind, then owner, then number */
    size_t count, cap;
    struct bucketmark last; /* the newest mark, without entries; serial 0: none */
};

void bucketstate_init(struct bucketstate *st, const struct ident *machine);
void bucketstate_done(struct bucketstate *st);
static inline void bucketstate_done_indirect(struct bucketstate *st)
{
    bucketstate_done(st);
}
#define AUTO_BUCKETSTATE __attribute__((cleanup(bucketstate_done_indirect)))

/* NULL: no such file. Good until the state changes. */
const struct bucket_file *bucketstate_find(const struct bucketstate *st, enum bucket_kind kind, uint64_t number);
/* The same for any file: that of which e is a piece. */
const struct bucket_file *bucketstate_file(const struct bucketstate *st, const struct bucket_entry *e);
/* A piece of the file as an entry. */
struct bucket_entry bucketstate_entry(const struct bucket_file *f, const struct bucket_piece *p);
bool bucketstate_has(const struct bucketstate *st, const struct bucket_entry *piece);
/* ERR_CORRUPT: a piece that does not follow on, or a file that is not there. */
int bucketstate_change(struct bucketstate *st, const struct bucket_entry *e, struct err *err);
/* Takes over a mark: the next one, or a full one into an empty state. ERR_CORRUPT. */
int bucketstate_apply(struct bucketstate *st, const struct bucketmark *m, struct err *err);
/* All pieces as entries of a mark (empty before). */
int bucketstate_entries(const struct bucketstate *st, struct bucketmark *m, struct err *err);
/* Does it hold together: does the log reach the mark's place, is each run and the point list there that the manifest names?
 * ERR_CORRUPT. */
int bucketstate_check(const struct bucketstate *st, struct err *err);

/* Reads the marks of a machine from the bucket into an empty state. 1; 0: there are none. ERR_CORRUPT names the object. */
int bucketstate_load(struct bucketstate *st, struct object_store *objects, struct err *err);

#endif
