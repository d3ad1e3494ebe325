/* SPDX-License-Identifier: Apache-2.0
 *
 * The private PostgreSQL of a hub that was given no DSN: a cluster in DATA/postgres, made by initdb at first
 * start, that listens on a Unix socket only (in DATA/pg, or in a short folder under /run or /tmp where that
 * path is too long for a socket), runs as `postgres` or else `nobody` when the hub is root, is started as a
 * child, started again when it dies, and stopped with the hub. A server that an earlier hub left behind is
 * stopped first; an initdb that was interrupted is done again. Loop thread only.
 */
#ifndef HUB_DB_POSTGRES_EMBEDDED_H
#define HUB_DB_POSTGRES_EMBEDDED_H

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "transport/base/err.h"

struct postgres_embedded;

/* Blocks (turning the loop) until the server answers or 60 s are over. data_dir is the hub's DATA. */
int postgres_embedded_start(sd_event *loop, const char *data_dir, struct postgres_embedded **ret_pg, struct err *err);
/* The conninfo for db_new; lives as long as pg. */
const char *postgres_embedded_dsn(const struct postgres_embedded *pg);
pid_t postgres_embedded_pid(const struct postgres_embedded *pg); /* 0: not running at this moment */
/* Fast shutdown, waits for it (turning the loop), frees. NULL is allowed. */
void postgres_embedded_stop(struct postgres_embedded *pg);

#endif
