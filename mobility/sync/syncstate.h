/* SPDX-License-Identifier: Apache-2.0
 *
 * What the agent has to know after any crash or reboot: DATA/state, a small JSON object that is replaced as a whole. Where
 * the file is behind the truth the agent only does more than it must: it sends part of a sweep again, or asks the vault.
 */
#ifndef MOBILITY_SYNC_SYNCSTATE_H
#define MOBILITY_SYNC_SYNCSTATE_H

#include <stdbool.h>
#include <stdint.h>

#include "transport/base/err.h"
#include "transport/base/ident.h"
#include "transport/log/mark.h"

#define SYNCSTATE_KEY_MAX 256

/* How far the copy of a disk is. */
enum copy_state {
    COPY_INITIAL, /* the vault has it up to the cursor, or nothing */
    COPY_RESYNC,  /* the vault has an older copy that is being compared, up to the cursor */
    COPY_DONE,    /* the vault's copy is complete but for what is dirty or uncommitted */
};
const char *copy_state_name(enum copy_state state); /* "initial", "resync", "done" */

struct syncstate_disk {
    uint32_t number;
    char key[SYNCSTATE_KEY_MAX];
    uint64_t size_bytes;
    enum copy_state copy;
    uint64_t cursor; /* bytes of the disk whose sweep is committed; 0 when done */
};

struct syncstate {
    char boot_id[IDENT_TEXT_SIZE];  /* of the boot in which it was written; "" at first */
    char vault_id[IDENT_TEXT_SIZE]; /* that holds the copy */
    uint64_t generation;
    uint64_t epoch;               /* the last one that was used; written before it is used */
    uint64_t committed_sequence;  /* at least this is in the vault */
    uint64_t last_point_sequence; /* a committed recovery point, and its time: what RPO is counted from */
    uint64_t last_point_utc_usec; /* after a restart; 0: none */
    uint64_t resync_request;      /* the last one that was obeyed */
    bool first_point_due;         /* a sweep ended after the last committed point: the next point carries MARK_FIRST */
    uint32_t disk_count;
    struct syncstate_disk disks[MARK_DISKS_MAX];
};

/* Absence is an empty state. ERR_CORRUPT when the file is not one of ours (its correction says what to do). */
int syncstate_load(const char *path, struct syncstate *ret_state, struct err *err);
int syncstate_save(const char *path, const struct syncstate *state, struct err *err);
/* NULL when there is none. */
struct syncstate_disk *syncstate_find(struct syncstate *state, uint32_t number);
/* The row for a disk, made in order of number when there is none; NULL when there are too many. */
struct syncstate_disk *syncstate_disk(struct syncstate *state, uint32_t number);
void syncstate_drop_disk(struct syncstate *state, uint32_t number);
/* The boot that this machine is in: /proc/sys/kernel/random/boot_id. */
int syncstate_boot_id(char out[IDENT_TEXT_SIZE], struct err *err);

#endif
