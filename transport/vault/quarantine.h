/* SPDX-License-Identifier: Apache-2.0
 *
 * What is known to be damaged in a machine's log, in the file `quarantine` (FORMAT.md): one item per record that cannot be read, or per
 * place where nothing more is known. Readers do not need it, for they check every record that they read; it is for people, for
 * healing, and so that nothing is told twice. Losing the file costs a verification.
 */
#ifndef TRANSPORT_VAULT_QUARANTINE_H
#define TRANSPORT_VAULT_QUARANTINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "transport/base/err.h"
#include "transport/base/ident.h"
#include "transport/vault/verify.h"

#define QUARANTINE_ITEMS_MAX 4096u /* more are not listed, but found again */

enum quarantine_state { QUARANTINE_DAMAGED = 0, QUARANTINE_HEALED = 1 };

struct quarantine_item {
    enum verify_kind kind;
    enum quarantine_state state;
    bool has_hash; /* the content is known by its hash: it can be healed if anybody still has it */
    bool restored; /* just now, the segment as a whole; not kept in the file */
    bool now;      /* the newest state of the disk needs it: the source is asked to send it again */
    uint64_t segment, offset, end;
    uint64_t sequence;                        /* of its change set, or where it may begin */
    uint64_t first_point, last_point, points; /* that are hit; points 0: none */
    uint32_t disk;
    uint64_t start, length; /* of the disk; length 0: not known */
    struct hash128 hash;
    uint64_t found_utc_usec;
    char text[64];
};

struct quarantine {
    struct quarantine_item *items; /* ascending by segment and offset */
    size_t count;
};

/* *q is filled; a file that is missing or damaged is an empty list. */
int quarantine_load(const char *machine_dir, const struct ident *machine, struct quarantine *q, struct err *err);
/* Durable when it returns. An empty list removes the file. */
int quarantine_store(const char *machine_dir, const struct ident *machine, const struct quarantine *q, struct err *err);
void quarantine_done(struct quarantine *q);
int quarantine_copy(const struct quarantine *from, struct quarantine *to, struct err *err);
/* NULL: not in it. */
struct quarantine_item *quarantine_find(const struct quarantine *q, uint64_t segment, uint64_t offset);
/* Puts it in its place, over one of the same place. 1: it is new; 0; -1. A full list takes no more (0). */
int quarantine_put(struct quarantine *q, const struct quarantine_item *item, struct err *err);
void quarantine_remove(struct quarantine *q, size_t index);

#endif
