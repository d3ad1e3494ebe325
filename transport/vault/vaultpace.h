/* SPDX-License-Identifier: Apache-2.0
 *
 * The pace of work in the background that reads and writes much: bytes per second, a quarter of them while data comes in, shared by all
 * threads that do the same work. Verification runs at idle priority as well; the pace is for what that does not reach (a disk's own cache). Work that
 * writes has the pace alone: at idle priority it would hold up others where it holds the file system's locks.
 */
#ifndef TRANSPORT_VAULT_VAULTPACE_H
#define TRANSPORT_VAULT_VAULTPACE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct vaultpace {
    uint64_t rate;             /* bytes per second; 0: none is kept */
    _Atomic uint64_t due_usec; /* monotonic: when the next piece may go */
};

/* Waits until these bytes are due, or until *cancelled. ingest_usec: when data last came in (monotonic; 0: never). */
void vaultpace_wait(
    struct vaultpace *p, const _Atomic uint64_t *ingest_usec, uint64_t bytes, const _Atomic bool *cancelled);

#endif
