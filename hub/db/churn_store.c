/* SPDX-License-Identifier: Apache-2.0
 *
 * One statement. The average entropy of two parts of a minute is taken by their bytes.
 */
#include "hub/db/churn_store.h"

#define ENTROPY_MAX 8000u

int churn_put(struct db_conn *conn, const char *machine_id, const struct disk_minute_row *row, struct err *err)
{
    if (row->changed_bytes > INT64_MAX / 2 || row->incompressible_bytes > row->changed_bytes ||
        row->turned_bytes > row->changed_bytes || row->entropy_millibits > ENTROPY_MAX || row->disk > INT32_MAX)
        return err_set(err, ERR_INVALID, "a minute of a disk with numbers that cannot be");
    return db_exec(conn, NULL, err,
               "INSERT INTO disk_minutes AS d (machine_id, disk, minute, changed_bytes, incompressible_bytes, "
               "turned_bytes,"
               " entropy_millibits) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (machine_id, minute, disk) DO "
               "UPDATE SET"
               " entropy_millibits = (d.entropy_millibits::numeric * d.changed_bytes + "
               "excluded.entropy_millibits::numeric"
               " * excluded.changed_bytes) / greatest(d.changed_bytes + excluded.changed_bytes, 1),"
               " changed_bytes = least(d.changed_bytes + excluded.changed_bytes, 4611686018427387904),"
               " incompressible_bytes = least(d.incompressible_bytes + excluded.incompressible_bytes, "
               "4611686018427387904),"
               " turned_bytes = least(d.turned_bytes + excluded.turned_bytes, 4611686018427387904)",
               DB_S(machine_id), DB_U(row->disk), DB_T(row->minute), DB_U(row->changed_bytes),
               DB_U(row->incompressible_bytes), DB_U(row->turned_bytes), DB_U(row->entropy_millibits)) < 0
               ? -1
               : 0;
}
