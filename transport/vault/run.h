/* SPDX-License-Identifier: Apache-2.0
 *
 * An index run: an immutable, sorted file of extents (FORMAT.md has every byte). It covers the change sets
 * first_sequence..last_sequence of a log:
 *   top      what is visible at last_sequence of what these change sets wrote: sorted by key, no overlap
 *   history  what was hidden again within them, kept only while a recovery point inside needs it; each entry with `dead`,
 *            the sequence at which the last part of it was hidden. Entries may overlap: the youngest that is old enough wins.
 * A cumulative run (first_sequence 1) is the whole block map at last_sequence, and has no history.
 *
 * Every block of 4 KiB carries a checksum that is verified on first use. Readers map the file; they may be used by any
 * number of threads, and go on when the file is unlinked.
 */
#ifndef TRANSPORT_VAULT_RUN_H
#define TRANSPORT_VAULT_RUN_H

#include <stdbool.h>
#include <stdint.h>

#include "transport/base/err.h"
#include "transport/base/ident.h"
#include "transport/base/mem.h"
#include "transport/vault/extent.h"

#define RUN_BLOCK_SIZE 4096u
#define RUN_BLOCK_HEAD 16u
#define RUN_TOP_SIZE 32u
#define RUN_HISTORY_SIZE 40u
#define RUN_TOP_PER_BLOCK ((RUN_BLOCK_SIZE - RUN_BLOCK_HEAD) / RUN_TOP_SIZE)
#define RUN_HISTORY_PER_BLOCK ((RUN_BLOCK_SIZE - RUN_BLOCK_HEAD) / RUN_HISTORY_SIZE)
#define RUN_NAME_SIZE 24

enum run_kind { RUN_DELTA = 0, RUN_CUMULATIVE = 1 };

struct run_info {
    struct ident machine;
    enum run_kind kind;
    uint64_t id; /* names the file; never used twice in a folder */
    uint64_t first_sequence;
    uint64_t last_sequence;
    uint64_t top_count;
    uint64_t history_count;
};

/* "%016llx.run" */
void run_name(uint64_t id, char out[RUN_NAME_SIZE]);
int run_id_from_name(const char *name, uint64_t *ret_id); /* -1: not a run's name */

/* ---- writing: all of top in order, then all of history in order of key, then finish ---- */
struct run_writer;
/* info's counts are ignored. ERR_EXISTS if the file is there. */
int run_writer_new(int dirfd, const struct run_info *info, struct run_writer **ret_writer, struct err *err);
/* ERR_INTERNAL when e is out of order: a run that cannot be searched is never written. */
int run_writer_top(struct run_writer *w, const struct extent *e, struct err *err);
int run_writer_history(struct run_writer *w, const struct extent *e, uint64_t dead, struct err *err);
/* Writes the header, fsyncs file and folder, and tells the counts. The file is complete only after this. */
int run_writer_finish(struct run_writer *w, struct run_info *ret_info, struct err *err);
/* Closes; removes the file unless it was finished. */
void run_writer_free(struct run_writer *w);
DEFINE_AUTO(run_writer, run_writer_free)

/* ---- reading ---- */
struct run;
/* ERR_CORRUPT for a file that is damaged or does not belong here, ERR_UNSUPPORTED for another version. */
int run_open(int dirfd, uint64_t id, const struct ident *machine, struct run **ret_run, struct err *err);
void run_close(struct run *r);
DEFINE_AUTO(run, run_close)
const struct run_info *run_get_info(const struct run *r);

/* The top extent that covers key or, if none does, the first one behind it. 1; 0: neither; -1 ERR_CORRUPT. */
int run_find(struct run *r, uint64_t key, struct extent *ret_extent, struct err *err);
/* Entry by index, < the counts of run_get_info. */
int run_top_at(struct run *r, uint64_t index, struct extent *ret_extent, struct err *err);
int run_history_at(struct run *r, uint64_t index, struct extent *ret_extent, uint64_t *ret_dead, struct err *err);
/* Reads and checks every block. */
int run_verify(struct run *r, struct err *err);

#endif
