/* SPDX-License-Identifier: Apache-2.0
 *
 * How far a machine's history has been verified in its vault, and what is damaged of it: as the vault said it last.
 */
#include "hub/api/serve.h"

#include <string.h>

#include "hub/db/integrity_store.h"
#include "hub/db/rows.h"
#include "transport/base/mem.h"

/* Nobody has said anything yet. */
static json_t *nothing(const char *machine_id)
{
    return json_pack("{s:s, s:n, s:n, s:i, s:i, s:n, s:n, s:i, s:i, s:i, s:n, s:[]}", "machine_id", machine_id,
        "vault_id", "pass_started_at", "pass_done_bytes", 0, "pass_total_bytes", 0, "last_started_at",
        "last_finished_at", "damage_count", 0, "healed_count", 0, "damaged_points", 0, "updated_at", "damages");
}

int serve_machine_integrity(struct request *r, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    AUTO_FREE char *text = NULL;
    json_t *report;
    int found;

    if (db_need(r->conn, &db_machines, r->params[0], &set, err) < 0)
        return -1;
    const char *id = db_at(&set, struct machine_row, 0)->id;

    found = integrity_get(r->conn, id, &text, err);
    if (found < 0)
        return -1;
    report = found ? json_loads(text, JSON_REJECT_DUPLICATES, NULL) : nothing(id);
    return report ? reply_json(r, 200, report, err) : err_set(err, ERR_INTERNAL, "a stored report is not JSON");
}
