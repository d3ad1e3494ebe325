/* SPDX-License-Identifier: Apache-2.0
 *
 * One statement for many. The average entropy of two parts of a minute is taken by their bytes. Sorted, so that two hubs that write at the same
 * moment lock the rows in the same order.
 */
#include "hub/db/churn_store.h"

#define ENTROPY_MAX 8000u

bool churn_is_possible(const struct disk_minute_row *row)
{
    return row->changed_bytes <= INT64_MAX / 2 && row->incompressible_bytes <= row->changed_bytes &&
           row->turned_bytes <= row->changed_bytes && row->entropy_millibits <= ENTROPY_MAX && row->disk <= INT32_MAX;
}

#define MOST "4611686018427387904"

int churn_put(struct db_conn *conn, const char *json, struct err *err)
{
    static const char sql[] =
        "INSERT INTO disk_minutes AS d (machine_id, disk, minute, changed_bytes, incompressible_bytes, turned_bytes,"
        " entropy_millibits) SELECT s.id, s.disk, timestamptz 'epoch' + s.minute_usec * interval '1 microsecond',"
        " least(sum(s.changed_bytes), " MOST "), least(sum(s.incompressible_bytes), " MOST
        "), least(sum(s.turned_bytes), " MOST "),"
        " sum(s.entropy_millibits::numeric * s.changed_bytes) / greatest(sum(s.changed_bytes), 1)"
        " FROM jsonb_to_recordset($1::jsonb) AS s(id uuid, disk integer, minute_usec bigint, changed_bytes bigint,"
        " incompressible_bytes bigint, turned_bytes bigint, entropy_millibits integer)"
        " WHERE EXISTS (SELECT 1 FROM machines m WHERE m.id = s.id) GROUP BY 1, 2, 3 ORDER BY 1, 3, 2"
        " ON CONFLICT (machine_id, minute, disk) DO UPDATE SET"
        " entropy_millibits = (d.entropy_millibits::numeric * d.changed_bytes + excluded.entropy_millibits::numeric"
        " * excluded.changed_bytes) / greatest(d.changed_bytes + excluded.changed_bytes, 1),"
        " changed_bytes = least(d.changed_bytes + excluded.changed_bytes, " MOST "),"
        " incompressible_bytes = least(d.incompressible_bytes + excluded.incompressible_bytes, " MOST "),"
        " turned_bytes = least(d.turned_bytes + excluded.turned_bytes, " MOST ")";

    return db_exec(conn, NULL, err, sql, DB_S(json)) < 0 ? -1 : 0;
}
