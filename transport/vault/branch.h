/* SPDX-License-Identifier: Apache-2.0
 *
 * A branch: a writable copy-on-write line over a recovery point, in a folder of its own with a log in the same format.
 * Writing appends records and notes them in a block map in memory; nothing of the machine's main line is ever touched. A
 * flush writes a mark and syncs: after a crash the branch is what it was at its last flush. Opening it again reads its log.
 *
 * Safe for any number of threads, as an NBD server uses it; overlapping writes that run at the same time end in either order.
 */
#ifndef TRANSPORT_VAULT_BRANCH_H
#define TRANSPORT_VAULT_BRANCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "transport/base/err.h"
#include "transport/base/ident.h"
#include "transport/base/mem.h"
#include "transport/vault/keyring.h"
#include "transport/vault/view.h"

struct branch;

/* What the file `branch` in its folder says. */
struct branch_info {
    struct ident id;
    struct ident machine;
    uint64_t base_sequence;
    uint64_t created_utc_usec;
    uint64_t base_check; /* of branch_base_check: the number alone may come to mean another point */
};

/* What tells the mark of a point from any other mark of the same sequence (a log whose end was lost goes on with the same
 * numbers). Never 0. */
int branch_base_check(const struct mark *m, uint64_t *ret_check, struct err *err);

/* Makes the folder and says what the branch stands on; 0 too when it is there already with the same base.
 * ERR_CONFLICT: it stands on another point. */
int branch_create(const char *branch_dir, const struct branch_info *info, struct err *err);
/* ERR_NOT_FOUND, ERR_CORRUPT. */
int branch_load_info(const char *branch_dir, struct branch_info *ret_info, struct err *err);

struct branch_conf {
    const char *dir;
    const struct view *base;    /* its base point; must outlive the branch */
    const struct keyring *keys; /* of the machine; copied */
    uint32_t nonce_stream;      /* never used before */
    size_t cache_bytes;         /* of decoded blocks, 0: 64 MiB */
    uint64_t reserve_bytes;     /* writes fail with ERR_NOSPACE before less than this is free: replication needs it */
};
/* Opens it for writing. ERR_CONFLICT: another process has it open, or it stands on another point; ERR_CORRUPT: the point of that number is
 * not the one that it was made on. */
int branch_open(const struct branch_conf *conf, struct branch **ret_branch, struct err *err);
/* Flushes and closes. NULL is allowed. */
void branch_close(struct branch *b);
DEFINE_AUTO(branch, branch_close)

/* Any range within the disk, any alignment. */
int branch_read(struct branch *b, uint32_t disk, uint64_t start, size_t n, uint8_t *out, struct err *err);
int branch_write(struct branch *b, uint32_t disk, uint64_t start, size_t n, const uint8_t *data, struct err *err);
/* Makes the range read as zeros without storing any. */
int branch_zero(struct branch *b, uint32_t disk, uint64_t start, uint64_t n, struct err *err);
/* All that was written before the call is durable when it returns. */
int branch_flush(struct branch *b, struct err *err);
/* What lies at key, as view_piece; data pieces are to be read with branch_read. */
int branch_piece(struct branch *b, uint64_t key, uint64_t end, struct piece *ret_piece, struct err *err);

#endif
