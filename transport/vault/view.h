/* SPDX-License-Identifier: Apache-2.0
 *
 * A view: what the disks of a machine held at one recovery point. It is made of the index runs up to that point (mapped, not
 * read) and reads records from the log. It belongs to no store: any process that may read the machine's folder can open one,
 * while replication goes on; later changes do not show in it.
 *
 * Opening costs a look at the manifest and the runs, never a sweep over history; only the one run that has the point in its
 * middle is walked.
 *
 * Safe for any number of threads once open.
 */
#ifndef TRANSPORT_VAULT_VIEW_H
#define TRANSPORT_VAULT_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "transport/base/err.h"
#include "transport/base/ident.h"
#include "transport/base/mem.h"
#include "transport/log/mark.h"
#include "transport/vault/keyring.h"
#include "transport/vault/extent.h"
#include "transport/vault/pointlist.h"

struct view;

/* The point with that sequence, 0: the latest. ERR_NOT_FOUND: no such point; ERR_UNAVAILABLE: the index does not reach it yet
 * (store_flush); ERR_CORRUPT. cache_bytes: of decoded blocks, 0: 64 MiB. */
int view_open(const char *machine_dir, uint64_t sequence, const struct keyring *keys, size_t cache_bytes,
    struct view **ret_view, struct err *err);
/* The content at any mark up to what the index covers, point or not; the caller gives the mark. */
int view_open_mark(const char *machine_dir, const struct mark *mark, const struct keyring *keys, size_t cache_bytes,
    struct view **ret_view, struct err *err);
void view_close(struct view *v);
/* The whole mark of a point, read from the log. */
int view_read_mark(const char *machine_dir, const struct point *p, struct mark *ret_mark, struct err *err);
DEFINE_AUTO(view, view_close)

const struct mark *view_mark(const struct view *v);
/* NULL: the machine had no such disk at that point. */
const struct mark_disk *view_disk(const struct view *v, uint32_t number);

struct piece {
    enum { PIECE_HOLE, PIECE_ZERO, PIECE_DATA } kind; /* hole: never written; reads as zeros */
    uint64_t sectors;                                 /* from the key asked for, >= 1 */
    struct extent extent;                             /* data and zero: covers the piece and perhaps more */
};

/* What lies at key, up to end at most. */
int view_piece(const struct view *v, uint64_t key, uint64_t end, struct piece *ret_piece, struct err *err);
/* Any range within the disk; alignment is not needed. ERR_INVALID out of the disk; ERR_CORRUPT, ERR_DENIED (wrong key), ERR_IO:
 * nothing in out may be used. */
int view_read(const struct view *v, uint32_t disk, uint64_t start, size_t n, uint8_t *out, struct err *err);
/* As view_read for a range that is within one piece of kind data. */
int view_read_piece(
    const struct view *v, const struct piece *p, uint64_t start, size_t n, uint8_t *out, struct err *err);
/* The header of the record behind a data piece. */
int view_record(const struct view *v, const struct piece *p, struct record *ret_record, struct err *err);

#endif
