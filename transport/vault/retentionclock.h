/* SPDX-License-Identifier: Apache-2.0
 *
 * The clock by which points grow old and retention locks run out: one that nobody can hurry by setting the machine's clock
 * forward, be it by mistake, by a false time server or on purpose. It runs with the time since the machine started, and follows the real-time clock
 *   - at once when that is behind (a lock lasts longer then, never shorter);
 *   - by a fiftieth of the time that passes when that is ahead: a vault that was off for a day has caught up after fifty, and a clock
 *     that is a year ahead frees a lock of a month half a day early.
 * While the machine is off it stands still. Kept in the vault's file `retention.clock`; any thread.
 */
#ifndef TRANSPORT_VAULT_RETENTIONCLOCK_H
#define TRANSPORT_VAULT_RETENTIONCLOCK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "transport/base/err.h"

#define RETENTIONCLOCK_BOOT_SIZE 16u

/* What the machine says; filled in by retentionclock_machine, or by a test. */
struct retentionclock_machine {
    uint8_t boot[RETENTIONCLOCK_BOOT_SIZE]; /* another after each start */
    uint64_t up_usec;                       /* since the machine started, with the time that it slept */
    uint64_t utc_usec;
};

struct retentionclock {
    pthread_mutex_t mutex;
    struct retentionclock_machine at; /* when it was last looked at; utc_usec is its own time then */
    bool damaged;                     /* the file cannot be read: nothing grows old */
};

void retentionclock_machine(struct retentionclock_machine *ret_machine);
/* Goes on from the file in that folder; without one it begins with the machine's time. A damaged one is not an error: damaged is set. */
int retentionclock_open(
    struct retentionclock *c, const char *data_dir, const struct retentionclock_machine *machine, struct err *err);
void retentionclock_close(struct retentionclock *c);
/* Microseconds UTC; 0 when damaged. */
uint64_t retentionclock_at(struct retentionclock *c, const struct retentionclock_machine *machine);
uint64_t retentionclock_now(struct retentionclock *c);
/* Durable when it returns. What passed since is lost when the machine stops. ERR_CORRUPT for a damaged one: it is not written over. */
int retentionclock_save(struct retentionclock *c, const char *data_dir, struct err *err);

#endif
