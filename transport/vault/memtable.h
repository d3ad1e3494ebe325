/* SPDX-License-Identifier: Apache-2.0
 *
 * What was committed since the last run was written: a block map of the newest extents, and those older ones that a
 * recovery point still needs. It has no file: it is made again from the log's tail at start.
 */
#ifndef TRANSPORT_VAULT_MEMTABLE_H
#define TRANSPORT_VAULT_MEMTABLE_H

#include <stddef.h>
#include <stdint.h>

#include "transport/base/err.h"
#include "transport/vault/extent.h"
#include "transport/vault/extmap.h"
#include "transport/vault/pointlist.h"
#include "transport/vault/run.h"

struct memtable_history {
    struct extent extent;
    uint64_t dead; /* sequence of the change set that hid it */
};

struct memtable {
    struct extmap *map;
    struct memtable_history *history;
    size_t history_count;
    size_t history_cap;
};

int memtable_init(struct memtable *t, struct err *err);
void memtable_done(struct memtable *t);
void memtable_clear(struct memtable *t);
size_t memtable_count(const struct memtable *t); /* extents of both kinds */
/* Puts one extent of change set `e->sequence` in. points: those committed so far, to tell which hidden ones are needed. */
int memtable_insert(struct memtable *t, const struct extent *e, const struct pointlist *points, struct err *err);
/* Writes all of it into a run (not finished here). Sorts the history. */
int memtable_write(struct memtable *t, struct run_writer *w, struct err *err);

#endif
