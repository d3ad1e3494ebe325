/* SPDX-License-Identifier: Apache-2.0
 *
 * Verification that was asked for: all machines of the vault one after the other, or one; everything, or what was not verified
 * since a moment, or what was never verified. It is not paced, but gives way to all else. What it finds is dealt with as what the
 * background pass finds, and told as the result.
 */
#ifndef TRANSPORT_VAULT_VAULTVERIFY_H
#define TRANSPORT_VAULT_VAULTVERIFY_H

#include <stdbool.h>
#include <stdint.h>

#include "transport/base/err.h"

struct vaultd;
struct verifying;

struct verifying_spec {
    const char *machine_id; /* "": all */
    bool incremental;       /* only what was never verified, or: */
    uint64_t not_since_utc_usec;
    void (*progress)(void *arg, unsigned permille);
    void (*done)(
        void *arg, const struct err *err, const char *json); /* once; json is the result of the command Verify */
    void *arg;
};

/* Loop thread. ERR_NOT_FOUND: no such machine here. It frees itself behind `done`. */
int verifying_start(
    struct vaultd *d, const struct verifying_spec *spec, struct verifying **ret_verifying, struct err *err);
void verifying_cancel(struct verifying *v);

#endif
