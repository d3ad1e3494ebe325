/* SPDX-License-Identifier: Apache-2.0
 *
 * The recovery points of one machine, ascending by sequence. They come from the marks in the log; a compact file beside the
 * index (`points-%016llx`, named by the manifest) saves reading the whole log at start. What is rarely asked for (tag,
 * group, disks) stays in the mark, whose place is kept.
 *
 * The file is only ever appended to; removing points writes a new file under a new id, which the manifest then names.
 */
#ifndef TRANSPORT_VAULT_POINTLIST_H
#define TRANSPORT_VAULT_POINTLIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "transport/base/err.h"
#include "transport/base/ident.h"
#include "transport/log/mark.h"

#define POINT_TAGGED 1u     /* the mark has a tag */
#define POINT_GROUPED 2u    /* the mark has a group point id */
#define POINT_GROUP_TIME 4u /* group_msec is known; not in the file */

struct point {
    uint64_t sequence;
    uint64_t time_utc_usec;
    uint64_t committed_utc_usec;
    uint64_t changed_bytes;
    uint64_t generation;
    uint64_t unreadable_blocks;
    uint32_t segment; /* of the mark's record */
    uint32_t offset;
    uint8_t kind;       /* enum mark_kind */
    uint8_t flags;      /* of the mark */
    uint8_t more;       /* POINT_ */
    int32_t group_msec; /* from its time to the one in the group point's id, both in whole milliseconds */
};

struct pointlist {
    struct point *items;
    size_t count;
    size_t cap;
};

void pointlist_done(struct pointlist *l);
/* Behind all others; ERR_INTERNAL when its sequence is not the highest. */
int pointlist_add(struct pointlist *l, const struct point *p, struct err *err);
void pointlist_from_mark(
    const struct mark *m, uint32_t segment, uint32_t offset, uint64_t committed_utc_usec, struct point *ret_point);
/* Takes the time of a group point from its mark; NULL: that cannot be read, and the own time has to do. So it has where the id has none, or one that is more
 * than a day away: clocks are wrong by hours where a host takes local time for UTC, and by more where nothing should go by them. */
void point_learn_group(struct point *p, const struct mark *m);
/* The time by which a group point is told from others, the same on all members if it was learnt; else the own one. */
uint64_t point_group_time(const struct point *p);
/* Index of the first point with that sequence or a higher one; count if there is none. */
size_t pointlist_at(const struct pointlist *l, uint64_t sequence);
/* NULL: no such point. Good until the list changes. */
const struct point *pointlist_find(const struct pointlist *l, uint64_t sequence);
/* Is there a point p with from <= p < before? */
bool pointlist_any(const struct pointlist *l, uint64_t from, uint64_t before);

/* Reads the first `count` points of the file; ERR_CORRUPT when they are not there. *l must be empty. */
int pointlist_load(const char *machine_dir, uint64_t id, const struct ident *machine, uint64_t count,
    struct pointlist *l, struct err *err);
/* One point out of the first `count` of the file, without reading the others; sequence 0: the last. 1; 0: there is no such point; -1. */
int pointlist_lookup(const char *machine_dir, uint64_t id, const struct ident *machine, uint64_t count,
    uint64_t sequence, struct point *ret_point, struct err *err);
/* Makes the file hold l: writes those from `from` on at their place (from 0: the whole file), cuts off what is behind, and
 * syncs. */
int pointlist_store(const char *machine_dir, uint64_t id, const struct ident *machine, const struct pointlist *l,
    size_t from, struct err *err);
void pointlist_unlink(const char *machine_dir, uint64_t id);
/* The id of the list that a file of that name in a machine's folder holds; -1: it is none. */
int pointlist_id_from_name(const char *name, uint64_t *ret_id);

#endif
