/* SPDX-License-Identifier: Apache-2.0
 *
 * How fast copies may come from other vaults: bytes per second of all together, and of each machine. It is paid afterwards: a call goes when nothing
 * is owed, is charged with what it was granted, and settled by what it really took; so over time no more comes than the rate. Moments are arguments
 * (monotonic). Any thread.
 */
#ifndef TRANSPORT_VAULT_COPYPACE_H
#define TRANSPORT_VAULT_COPYPACE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define COPYPACE_BYTES_MIN (64u << 10) /* of a grant: one block */
#define COPYPACE_BYTES_MAX (16u << 20)

struct copypace {
    pthread_mutex_t lock;     /* guards all of it */
    uint64_t rate, flow_rate; /* of all together, of each; 0: no bound */
    uint64_t due_usec;        /* when nothing is owed any more */
};

/* One machine; zeroed at first. Touched by one thread at a time. */
struct copyflow {
    uint64_t due_usec;
};

void copypace_init(struct copypace *p);
void copypace_done(struct copypace *p);
/* What is owed under a bound that is gone is forgotten. True: something changed, and who waits may go on. */
bool copypace_set(struct copypace *p, uint64_t rate, uint64_t flow_rate);
bool copypace_is_bound(struct copypace *p);
bool copypace_is_shared(struct copypace *p); /* is there a bound of all together? */
/* Bytes that a call of a machine should bring at most, so that others need not wait long: a quarter of a second, one block at least. */
uint64_t copypace_grant(struct copypace *p);
/* When the next call of the machine may go; not later than now: now. */
uint64_t copypace_due(struct copypace *p, const struct copyflow *f);
/* It goes now, granted so many bytes. False: it must wait until copypace_due. */
bool copypace_begin(struct copypace *p, struct copyflow *f, uint64_t granted, uint64_t now_usec);
/* It took so many. */
void copypace_settle(struct copypace *p, struct copyflow *f, uint64_t granted, uint64_t bytes);

#endif
