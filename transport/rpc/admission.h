/* SPDX-License-Identifier: Apache-2.0
 *
 * How fast a server lets connections in: a burst of as many as a second may have, then evenly spaced. What is not let in waits in the kernel's
 * queue of the listening socket. Pure; the time is passed in.
 */
#ifndef TRANSPORT_RPC_ADMISSION_H
#define TRANSPORT_RPC_ADMISSION_H

#include <stdint.h>

struct admission {
    uint32_t per_sec;   /* 0: no limit */
    uint64_t next_usec; /* where the next one has its place when all are evenly spaced */
};

/* Microseconds until one more may be let in; 0: now. */
uint64_t admission_wait(const struct admission *a, uint64_t now_usec);
/* One was let in. */
void admission_note(struct admission *a, uint64_t now_usec);

#endif
