/* SPDX-License-Identifier: Apache-2.0
 *
 * Waiting for PostgreSQL's answer, for a bounded time. libpq's own PQexec waits for ever when the server stands still
 * without closing its sockets (stopped, out of memory, its disk hung, the network cut).
 */
#ifndef HUB_DB_PGREPLY_H
#define HUB_DB_PGREPLY_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>

/* Takes the answer to what a PQsend... function has just sent on a non-blocking connection: the last result, or the
 * first that is an error, as PQexec gives it. limit_usec 0: no limit. NULL when nothing came, with *ret_late
 * telling that the time was over: the connection is then shut, nothing can follow on it, and whether the statement
 * took effect is not known. NULL without *ret_late: the connection broke, PQerrorMessage says how. PQclear the result. */
PGresult *pgreply_take(PGconn *pg, uint64_t limit_usec, bool *ret_late);

#endif
