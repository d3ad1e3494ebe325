/* SPDX-License-Identifier: Apache-2.0
 *
 * The end of a simulation.
 */
#include "hub/api/serve.h"
#include "hub/db/simulation_store.h"

/* Bounds the transaction: half a second at most where it was measured. */
#define MACHINES_PER_CALL 500

int serve_simulation_remove(struct request *r, struct err *err)
{
    struct simulation_removed gone;

    if (simulation_remove(r->conn, MACHINES_PER_CALL, &gone, err) < 0)
        return -1;
    return reply_json(r, 200,
        json_pack("{s:I, s:I, s:I, s:I}", "machines", (json_int_t)gone.machines, "nodes", (json_int_t)gone.nodes,
            "vaults", (json_int_t)gone.vaults, "remaining", (json_int_t)gone.remaining),
        err);
}
