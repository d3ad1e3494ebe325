/* SPDX-License-Identifier: Apache-2.0
 *
 * What the tests of failovers and of plans ask at the end: of the database, and of a target whose replica is one file.
 */
#ifndef TESTS_UNIT_HUB_JOBS_REPLICAS_H
#define TESTS_UNIT_HUB_JOBS_REPLICAS_H

#include "hub/db/db.h"

/* How many rows. */
int rows_of(struct db_conn *conn, const char *sql);
/* How many failovers have their file `replica-<id>` in the folder. */
int replicas_in(struct db_conn *conn, const char *folder);

#endif
