/* SPDX-License-Identifier: Apache-2.0
 *
 * When something is tried again that did not come about: after a pause that doubles each time, up to a bound. Pure.
 */
#ifndef TRANSPORT_VAULT_HEALPACE_H
#define TRANSPORT_VAULT_HEALPACE_H

#include <stdbool.h>
#include <stdint.h>

struct healpace {
    uint64_t pause_usec; /* the last one; 0: none so far */
    uint64_t due_usec;   /* monotonic; 0: never */
};

/* Once more after the next pause, which is first_usec at the beginning and never more than max_usec. */
static inline void healpace_wait(struct healpace *p, uint64_t now_usec, uint64_t first_usec, uint64_t max_usec)
{
    p->pause_usec = p->pause_usec == 0 ? first_usec : p->pause_usec * 2;
    p->pause_usec = p->pause_usec < max_usec ? p->pause_usec : max_usec;
    p->due_usec = now_usec + p->pause_usec;
}

/* There is nothing to be tried: the next pause is the first one again. */
static inline void healpace_rest(struct healpace *p)
{
    *p = (struct healpace){0};
}

static inline bool healpace_is_due(const struct healpace *p, uint64_t now_usec)
{
    return p->due_usec != 0 && now_usec >= p->due_usec;
}

#endif
