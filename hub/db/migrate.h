/* SPDX-License-Identifier: Apache-2.0
 *
 * Brings the database to the schema that this program was built with: the files of migrations/, embedded at
 * build time, in the order of their numbers, each in a transaction of its own, under an advisory lock so that
 * several hubs may start at once. schema_migrations keeps a checksum of each: a file that was changed after
 * it was applied, or a database that is newer than the program, is refused.
 */
#ifndef HUB_DB_MIGRATE_H
#define HUB_DB_MIGRATE_H

#include "hub/db/db.h"

struct migration {
    unsigned number;
    const char *name; /* "0001_foundation" */
    const char *sql;
};
/* Generated from migrations/, ascending, ended by a row with a NULL name. */
extern const struct migration migrations_embedded[];

/* ERR_REFUSED: changed after it was applied, a gap, or newer than the program. ret_applied (may be NULL): how
 * many were new. */
int migrate_run(struct db *db, const struct migration *migrations, unsigned *ret_applied, struct err *err);

#endif
