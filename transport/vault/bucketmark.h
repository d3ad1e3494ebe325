/* SPDX-License-Identifier: Apache-2.0
 *
 * Marks in the bucket: what says that a machine's objects there make up a state of its folder (FORMAT.md, "The bucket").
 * A file of the folder is one object, or several pieces while it still grows. A mark names the pieces that came and the files that went since
 * the mark before it; a full mark (base equals serial) names all. Objects that no mark names do not exist for a reader.
 * Pure: bytes in, struct out. Marks come from outside: counts and lengths are checked before anything is allocated for them.
 */
#ifndef TRANSPORT_VAULT_BUCKETMARK_H
#define TRANSPORT_VAULT_BUCKETMARK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "transport/base/buf.h"
#include "transport/base/err.h"
#include "transport/base/hash.h"
#include "transport/base/ident.h"
#include "transport/base/mem.h"
#include "transport/vault/manifest.h"

#define BUCKETMARK_META_SIZE 128u
#define BUCKETMARK_BYTES_MAX (64u << 20)
#define BUCKETMARK_NAME_SIZE 224
#define BUCKETMARK_PATH_SIZE 96
#define BUCKET_FILE_BYTES_MAX (1ULL << 40) /* of one file: far more than a segment or a run can have */

/* Of a file of the machine's folder. Those without a number of their own have 1. */
enum bucket_kind {
    BUCKET_SEGMENT = 1,
    BUCKET_RUN = 2,
    BUCKET_POINTS = 3,
    BUCKET_LOCKS = 4,          /* the retention lock */
    BUCKET_QUARANTINE = 5,     /* what is damaged */
    BUCKET_MEND = 6,           /* a mended record; its number: segment << 32 | offset */
    BUCKET_BRANCH = 7,         /* the file `branch` of the branch `owner` */
    BUCKET_BRANCH_SEGMENT = 8, /* a segment of its log */
    BUCKET_KEYS = 9,           /* the older data keys */
};
#define BUCKET_KIND_LAST BUCKET_KEYS

/* A piece of a file that came (at offset 0: instead of all pieces before), or a file that went. */
struct bucket_entry {
    enum bucket_kind kind;
    bool gone;
    struct ident owner; /* the branch; zero for what is the machine's */
    uint64_t number;    /* of the segment, the run, the point list, the mended record */
    uint64_t offset;
    uint64_t bytes;
    struct hash128 hash;
};

struct bucketmark {
    struct ident machine;
    uint64_t serial; /* 1, 2, 3, ... without a gap */
    uint64_t base;   /* serial of the full mark that this one builds on */
    struct log_position committed;
    uint64_t point; /* sequence of the newest recovery point; 0: none */
    uint64_t point_time_utc_usec;
    uint64_t written_utc_usec;
    uint8_t meta[BUCKETMARK_META_SIZE]; /* the file meta */
    struct buf manifest;                /* the file manifest; empty: none */
    struct bucket_entry *entries;
    size_t count;
};

void bucketmark_init(struct bucketmark *m);
void bucketmark_done(struct bucketmark *m);
static inline void bucketmark_done_indirect(struct bucketmark *m)
{
    bucketmark_done(m);
}
#define AUTO_BUCKETMARK __attribute__((cleanup(bucketmark_done_indirect)))

/* Appends to out (empty before). ERR_TOO_LARGE. */
int bucketmark_encode(const struct bucketmark *m, struct buf *out, struct err *err);
/* *m must be initialised and empty. ERR_CORRUPT, ERR_UNSUPPORTED. */
int bucketmark_decode(const uint8_t *p, size_t n, struct bucketmark *m, struct err *err);

/* ---- names of objects ---- */
void bucketmark_name(const struct ident *machine, uint64_t serial, uint64_t base, char out[BUCKETMARK_NAME_SIZE]);
void bucketmark_piece_name(const struct ident *machine, const struct bucket_entry *e, char out[BUCKETMARK_NAME_SIZE]);
/* -1: it is no such name. */
int bucketmark_parse_name(const char *name, struct ident *ret_machine, uint64_t *ret_serial, uint64_t *ret_base);
int bucketmark_parse_piece_name(const char *name, struct ident *ret_machine, struct bucket_entry *ret_entry);

/* ---- names of files ---- */
/* Where a file lies in the machine's folder: kind, owner and number of e. */
void bucketmark_path(const struct bucket_entry *e, char out[BUCKETMARK_PATH_SIZE]);
/* The reverse. -1: there is no such file in a bucket. */
int bucketmark_parse_path(const char *path, struct bucket_entry *ret_entry);

#endif
