/* SPDX-License-Identifier: Apache-2.0
 *
 * See the header. A disk keeps its number for ever; what changes when a machine moves to other disks is the key under which an agent finds it.
 */
#include "hub/db/receiver_store.h"

#include "hub/db/protection_store.h"

int receiver_put(struct db_conn *conn, const char *machine_id, const char *receiver_id, struct err *err)
{
    if (db_exec(conn, NULL, err, "UPDATE protections SET receiver_id = $2, updated_at = now() WHERE machine_id = $1",
            DB_S(machine_id), DB_S(receiver_id)) < 0)
        return -1;
    return machine_converge_anew(conn, machine_id, err);
}

int receiver_busy(struct db_conn *conn, const char *receiver_id, PGresult **ret_rows, struct err *err)
{
    return db_exec(conn, ret_rows, err,
        "SELECT m.name FROM protections p JOIN machines m ON m.id = p.machine_id WHERE p.receiver_id = $1 LIMIT 1",
        DB_S(receiver_id));
}

int receiver_disks(struct db_conn *conn, const char *receiver_id, PGresult **ret_rows, struct err *err)
{
    return db_exec(conn, ret_rows, err,
        "SELECT key, device, size_bytes, is_root,"
        " coalesce((SELECT v->'mount_points'->>0 FROM jsonb_array_elements(volumes) v"
        " WHERE jsonb_array_length(v->'mount_points') > 0 LIMIT 1), '')"
        " FROM disks WHERE machine_id = $1 AND present ORDER BY device, key",
        DB_S(receiver_id));
}

int receiver_node(struct db_conn *conn, const char *machine_id, PGresult **ret_rows, struct err *err)
{
    return db_exec(conn, ret_rows, err,
        "SELECT n.endpoint, n.id FROM protections p JOIN nodes n ON n.id = p.node_id WHERE p.machine_id = $1 AND "
        "p.active",
        DB_S(machine_id));
}

#define CHOSEN "SELECT * FROM jsonb_to_recordset($2::jsonb) AS c(number integer, key text)"

int receiver_take_place(
    struct db_conn *conn, const char *machine_id, const char *receiver_id, const char *disks_json, struct err *err)
{
    /* Disks that the machine was seen with under these keys, but never protected, were the same ones. */
    if (db_exec(conn, NULL, err,
            "DELETE FROM disks WHERE machine_id = $1 AND number IS NULL AND key IN (SELECT key FROM (" CHOSEN ") c)",
            DB_S(machine_id), DB_S(disks_json)) < 0 ||
        db_exec(conn, NULL, err,
            "UPDATE disks SET key = 'replaced:' || id, present = false, version = version + 1, updated_at = now()"
            " WHERE machine_id = $1 AND (number IN (SELECT number FROM (" CHOSEN ") c)"
            " OR key IN (SELECT key FROM (" CHOSEN ") c))",
            DB_S(machine_id), DB_S(disks_json)) < 0)
        return -1;
    return db_exec(conn, NULL, err,
        "UPDATE disks d SET key = c.key, device = r.device, model = r.model, present = true, version = d.version + 1,"
        " updated_at = now() FROM (" CHOSEN ") c JOIN disks r ON r.machine_id = $3 AND r.key = c.key"
        " WHERE d.machine_id = $1 AND d.number = c.number",
        DB_S(machine_id), DB_S(disks_json), DB_S(receiver_id));
}
