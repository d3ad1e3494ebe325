/* SPDX-License-Identifier: Apache-2.0 */
#include "hub/control/piecework.h"

#include <time.h>

#include "transport/base/clock.h"

#define RESTS 3u /* as long as the piece */
#define REST_MAX_USEC (30 * USEC_PER_MSEC)

uint64_t piecework_rest_usec(uint64_t took_usec)
{
    return took_usec < REST_MAX_USEC / RESTS ? took_usec * RESTS : REST_MAX_USEC;
}

void piecework_begin(struct piecework *work)
{
    work->begun_usec = clock_mono_usec();
}

void piecework_rest(struct piecework *work)
{
    uint64_t rest = piecework_rest_usec(clock_mono_usec() - work->begun_usec);
    const struct timespec t = {(time_t)(rest / USEC_PER_SEC), (long)(rest % USEC_PER_SEC) * 1000};

    (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL);
    piecework_begin(work);
}
