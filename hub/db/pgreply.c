/* SPDX-License-Identifier: Apache-2.0
 *
 * Flush, poll and consume until libpq is no longer busy, result by result. When the time is over the socket is shut:
 * PQfinish would wait as long as the server does to say good-bye. Source: libpq documentation, Asynchronous Command
 * Processing.
 */
#include "hub/db/pgreply.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

#include "transport/base/clock.h"

/* Milliseconds left for poll, rounded up; -1: no limit. */
static int msec_left(uint64_t deadline)
{
    uint64_t now = clock_mono_usec();

    if (deadline == 0)
        return -1;
    if (deadline <= now)
        return 0;
    return (int)((deadline - now + USEC_PER_MSEC - 1) / USEC_PER_MSEC);
}

/* 1: a result can be taken without waiting; 0: the time is over; -1: the connection broke. */
static int wait_for_result(PGconn *pg, uint64_t deadline)
{
    while (PQisBusy(pg)) {
        int unsent = PQflush(pg);
        struct pollfd p = {.fd = PQsocket(pg), .events = (short)(unsent > 0 ? POLLIN | POLLOUT : POLLIN)};

        if (unsent < 0 || p.fd < 0)
            return -1;
        int n = poll(&p, 1, msec_left(deadline));

        if (n == 0)
            return 0;
        if (n < 0 && errno != EINTR)
            return -1;
        if (n > 0 && PQconsumeInput(pg) != 1)
            return -1;
    }
    return 1;
}

static bool is_error(const PGresult *r)
{
    ExecStatusType status = PQresultStatus(r);

    return status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK;
}

PGresult *pgreply_take(PGconn *pg, uint64_t limit_usec, bool *ret_late)
{
    uint64_t deadline = limit_usec ? clock_mono_usec() + limit_usec : 0;
    PGresult *last = NULL;
    int ready;

    *ret_late = false;
    while ((ready = wait_for_result(pg, deadline)) != 0) {
        PGresult *r = PQgetResult(pg); /* after a broken connection: the error, then NULL */

        if (!r)
            return last;
        if (last && is_error(last)) {
            PQclear(r);
            continue;
        }
        PQclear(last);
        last = r;
    }
    PQclear(last);
    *ret_late = true;
    (void)shutdown(PQsocket(pg), SHUT_RDWR);
    return NULL;
}
