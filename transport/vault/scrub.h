/* SPDX-License-Identifier: Apache-2.0
 *
 * The verification of one machine as jobs: what was committed when it began, segment by segment on several threads that run only
 * when the machine has nothing better to do, then the order of the segments, then the index. The background pass (vaultscrub.c)
 * and the commands of the hub (vaultverify.c) both use it.
 */
#ifndef TRANSPORT_VAULT_SCRUB_H
#define TRANSPORT_VAULT_SCRUB_H

#include <stdbool.h>
#include <stdint.h>

#include "transport/base/err.h"
#include "transport/vault/verify.h"

struct vmachine;
struct scrub;

struct scrub_end {
    const struct err *err; /* NULL: it went through, whatever it found */
    const struct verify_result *result;
    uint64_t points;  /* the machine has */
    uint64_t after;   /* as of the spec: what lies in segments above it was looked at */
    uint64_t through; /* segments up to this number are verified, and sealed */
};

struct scrub_spec {
    uint64_t after_segment; /* only those above it */
    unsigned threads;       /* at the same time, >= 1 */
    bool paced;             /* at the rate of the vault's configuration, and slower while data comes in */
    void (*progress)(
        void *arg, uint64_t through); /* a sealed segment and all before it are verified and good; NULL allowed */
    void (*done)(void *arg, const struct scrub_end *end); /* once */
    void *arg;
};

/* Loop thread. It frees itself behind `done`. */
int scrub_start(struct vmachine *vm, const struct scrub_spec *spec, struct scrub **ret_scrub, struct err *err);
/* `done` comes soon, with ERR_CANCELLED. */
void scrub_cancel(struct scrub *s);
/* Bytes verified so far, and in all (0: not known yet). Loop thread. */
void scrub_get_progress(const struct scrub *s, uint64_t *ret_done_bytes, uint64_t *ret_total_bytes);

#endif
