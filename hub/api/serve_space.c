/* SPDX-License-Identifier: Apache-2.0
 *
 * What the machines of a vault take, as the vault said it last, and asking it to give back what nothing needs.
 */
#include "hub/api/serve.h"

#include <string.h>

#include "hub/db/rows.h"
#include "hub/db/space_store.h"
#include "transport/base/mem.h"

/* The vault has not said anything yet. */
static json_t *nothing(const char *vault_id)
{
    return json_pack("{s:s, s:b, s:i, s:n, s:n, s:[]}", "vault_id", vault_id, "forecast_known", 0,
        "growth_bytes_per_day", 0, "full_at", "updated_at", "machines");
}

static int vault_of(struct request *r, char ret_id[IDENT_TEXT_SIZE], struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};

    if (db_need(r->conn, &db_vaults, r->params[0], &set, err) < 0)
        return -1;
    memcpy(ret_id, db_at(&set, struct vault_row, 0)->id, IDENT_TEXT_SIZE);
    return 0;
}

int serve_vault_space(struct request *r, struct err *err)
{
    AUTO_FREE char *text = NULL;
    char id[IDENT_TEXT_SIZE];
    json_t *report;
    int found;

    if (vault_of(r, id, err) < 0)
        return -1;
    found = space_get(r->conn, id, &text, err);
    if (found < 0)
        return -1;
    report = found ? json_loads(text, JSON_REJECT_DUPLICATES, NULL) : nothing(id);
    return report ? reply_json(r, 200, report, err) : err_set(err, ERR_INTERNAL, "a stored report is not JSON");
}

int serve_vault_gc(struct request *r, struct err *err)
{
    const char *machine = request_str(r, "machine");
    AUTO_DB_SET struct db_set set = {0};
    char id[IDENT_TEXT_SIZE];
    json_t *params;

    if (vault_of(r, id, err) < 0)
        return -1;
    if (machine && db_need(r->conn, &db_machines, machine, &set, err) < 0)
        return -1;
    params = json_pack("{s:s}", "vault_id", id);
    if (params && machine)
        json_object_set_new(params, "machine_id", json_string(db_at(&set, struct machine_row, 0)->id));
    return serve_job_submit(r, "vault_gc", NULL, params, err);
}
