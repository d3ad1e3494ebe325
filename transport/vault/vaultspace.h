/* SPDX-License-Identifier: Apache-2.0
 *
 * Space: looking from time to time at what each machine's log holds, giving back what retention has let go (compaction, in
 * the background at a bounded rate, or at once when it is asked for or the disk is full), and telling the hub of it, with a forecast of
 * the day on which the disk is full.
 */
#ifndef TRANSPORT_VAULT_VAULTSPACE_H
#define TRANSPORT_VAULT_VAULTSPACE_H

#include <stdint.h>

#include "transport/base/err.h"

struct vaultd;
struct vmachine;
struct collecting;

struct collecting_spec {
    const char *machine_id; /* "": all */
    void (*progress)(void *arg, unsigned permille);
    void (*done)(
        void *arg, const struct err *err, const char *json); /* once; json: the result of the command Compact */
    void *arg;
};

/* Loop thread. ERR_NOT_FOUND: no such machine here; ERR_CONFLICT: one is under way. It frees itself behind `done`. */
int vaultspace_collect(
    struct vaultd *d, const struct collecting_spec *spec, struct collecting **ret_collecting, struct err *err);
void vaultspace_cancel(struct collecting *g);

void vaultspace_tick(struct vaultd *d, uint64_t now_mono_usec);
/* Retention has dropped points: it is worth looking soon. */
void vaultspace_thinned(struct vmachine *vm);
/* Tells the hub, if there is something new or it may have forgotten. */
void vaultspace_report(struct vaultd *d);
void vaultspace_stop(struct vaultd *d);

#endif
