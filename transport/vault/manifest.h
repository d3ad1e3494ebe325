/* SPDX-License-Identifier: Apache-2.0
 *
 * The manifest of a machine's index: the runs that make it up, and how far into the log they reach. A small file
 * (`manifest`) that is replaced as a whole; when it is missing or damaged the index is rebuilt from the log.
 */
#ifndef TRANSPORT_VAULT_MANIFEST_H
#define TRANSPORT_VAULT_MANIFEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "transport/base/err.h"
#include "transport/base/ident.h"
#include "transport/base/mem.h"
#include "transport/vault/run.h"

#define MANIFEST_RUNS_MAX 65536u

/* A place in the log, always behind a mark: everything before it is covered. */
struct log_position {
    uint64_t sequence; /* of that mark; 0: the beginning of the log */
    uint64_t segment;  /* 0: the beginning of the log */
    uint64_t offset;
};

struct manifest {
    struct ident machine;
    struct log_position covered;
    uint64_t next_run_id;
    uint64_t points_id;   /* names the file of the point list that belongs to this index */
    uint64_t point_count; /* how many points up to `covered` it holds */
    size_t run_count;
    struct run_info *runs; /* by last_sequence, a delta before the cumulative run that ends with it */
};

void manifest_init(struct manifest *m, const struct ident *machine);
void manifest_done(struct manifest *m);
/* Takes a copy of the runs. */
int manifest_copy(const struct manifest *from, struct manifest *to, struct err *err);
/* ERR_NOT_FOUND: no file; ERR_CORRUPT, ERR_UNSUPPORTED: the index must be rebuilt. *m must be empty. */
int manifest_load(const char *machine_dir, const struct ident *machine, struct manifest *m, struct err *err);
/* The same from the file's bytes. */
int manifest_decode(const uint8_t *p, size_t n, const struct ident *machine, struct manifest *m, struct err *err);
/* Durable when it returns. *ret_stands: it is the one that is read from now on; after a failure that leaves open which of the two a power failure
 * brings back, so nothing that either names may be removed. */
int manifest_store(const char *machine_dir, const struct manifest *m, bool *ret_stands, struct err *err);
/* Puts a run in its place. ERR_TOO_LARGE over MANIFEST_RUNS_MAX. */
int manifest_add(struct manifest *m, const struct run_info *run, struct err *err);
void manifest_remove(struct manifest *m, uint64_t run_id);

static inline void manifest_done_indirect(struct manifest *m)
{
    manifest_done(m);
}
#define AUTO_MANIFEST __attribute__((cleanup(manifest_done_indirect)))

#endif
