/* SPDX-License-Identifier: Apache-2.0
 *
 * The generic cell rate algorithm (ITU-T I.371), which is a leaky bucket that keeps one moment instead of a level.
 */
#include "transport/rpc/admission.h"

#include "transport/base/clock.h"

static uint64_t interval(const struct admission *a)
{
    return USEC_PER_SEC / a->per_sec > 0 ? USEC_PER_SEC / a->per_sec : 1;
}

uint64_t admission_wait(const struct admission *a, uint64_t now_usec)
{
    if (a->per_sec == 0)
        return 0;
    uint64_t from = now_usec + USEC_PER_SEC - interval(a);
    return a->next_usec > from ? a->next_usec - from : 0;
}

void admission_note(struct admission *a, uint64_t now_usec)
{
    if (a->per_sec != 0)
        a->next_usec = (a->next_usec > now_usec ? a->next_usec : now_usec) + interval(a);
}
