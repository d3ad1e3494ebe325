/* SPDX-License-Identifier: Apache-2.0
 *
 * The plan of hub/core/placement.h as jobs. A job that cannot be submitted (somebody moves the machine already, or has unprotected it)
 * is left to the next look.
 */
#include "hub/jobs/rebalance.h"

#include "hub/jobs/job.h"
#include "transport/base/log.h"

#define MOVES_MAX 256

static int submit(
    struct db_conn *conn, const struct placement_picture *p, const struct placement_move *move, struct err *err)
{
    const char *reason = placement_reason_name(move->reason);
    AUTO_FREE char *params = mem_printf("{\"node_id\": \"%s\", \"reason\": \"%s\"}", p->node_ids[move->to], reason);
    const struct job_spec spec = {.kind = "machine_move",
        .machine_id = p->machine_ids[move->machine],
        .params_json = params,
        .requested_by = "placement"};
    char id[IDENT_TEXT_SIZE];

    if (!params)
        return err_set(err, ERR_NOMEM, "no memory");
    if (job_submit(conn, &spec, false, id, err) < 0)
        return -1;
    log_event(LOG_INFO, "machine_moves", LOG_S("machine", spec.machine_id), LOG_S("node", p->node_ids[move->to]),
        LOG_S("reason", reason), LOG_S("job", id));
    return 0;
}

int rebalance(struct db_conn *conn, struct placement_churn *churn, struct err *err)
{
    AUTO_PLACEMENT_PICTURE struct placement_picture picture = {0};
    AUTO_FREE struct placement_move *moves = mem_alloc(MOVES_MAX, sizeof(*moves));
    int count, submitted = 0;

    if (!moves)
        return err_set(err, ERR_NOMEM, "no memory for moves");
    if (placement_picture_read(conn, churn, &picture, err) < 0)
        return -1;
    count = placement_plan(&picture.fleet, moves, MOVES_MAX, err);
    for (int i = 0; i < count; i++) {
        if (submit(conn, &picture, &moves[i], err) == 0)
            submitted++;
        else if (err->code != ERR_REFUSED && err->code != ERR_NOT_FOUND)
            return -1;
    }
    return count < 0 ? -1 : submitted;
}
