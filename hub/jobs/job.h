/* SPDX-License-Identifier: Apache-2.0
 *
 * Durable jobs, as the API sees them: submit, cancel, answer. A job is a row with steps; a thread of any hub
 * on the database claims it, runs its idempotent steps in order and may be killed at any moment: another
 * claim goes on with the step that was not finished. Read jobs, steps and logs with db_list(&db_jobs,
 * &db_job_steps, &db_job_log).
 *
 * Kinds and their params (JSON object; unknown members are ERR_INVALID):
 *   protect       machine_id; {"disks": ["KEY", ...] | "all-eligible", "policy_id"?: UUID, "vault_id"?: UUID,
 *                 "seeds"?: [{"disk": "KEY", "path": text on the vault's host}]}
 *                 done when the machine is `protected`; result {"disks": n, "first_point": "7"}
 *   unprotect     machine_id; {}                     data in the vault stays until it is deleted there
 *   resync        machine_id; {}
 *   machine_move  machine_id; {"node_id"?: UUID (the best other one), "pin"?: bool (true: there it stays; false or without a node: a pin
 *                 ends), "reason"?: text (of placement)}   result {"node_id", "from_node_id"}
 *   machine_restore  machine_id; {"to": UUID of the machine whose disks are written, "sequence"?: "7", "disks"?: [{"number", "key"}], "confirm": its name}
 *                 result {"restored": {"sequence", "compared_bytes", "written_bytes", "traffic_bytes"}}
 *   disk_add      machine_id; {"disks": ["KEY", ...]}   result {"protected_disks": n, "first_point": "7"}
 *   disk_exclude  machine_id; {"disks": ["KEY", ...]}   result {"protected_disks": n}
 *   disk_resize   machine_id; {"disks": ["KEY", ...]}   result {"disks": [{"key", "device", "before_bytes", "size_bytes"}], "sequence", "time"}
 *   point_create  machine_id; {"kind": "crash"|"filesystem"|"application", "tag"?: text}
 *                 result {"sequence": "7", "time": RFC 3339}
 *   point_open    machine_id; {"sequence"?: "7" (latest), "write"?: bool, "socket"?: path}
 *                 result {"export_id", "uri", "disks": [...], "sequence"}
 *   point_close   {"export_id": UUID, "discard"?: bool (false keeps a branch; else it is removed)}
 *   export        machine_id; {"sequence"?: "7", "disk": number, "path": text, "format":
 * "raw"|"qcow2"|"vpc"|"vmdk"} vault_verify  {"vault_id"?: UUID, "machine_id"?: UUID}   result as of Verify in
 * control.proto
 *   failover      machine_id; {"failover": "test"|"planned"|"unplanned", "target_id": UUID, "sequence": "7", "options"?: {"cpus", "memory_bytes",
 *                 "network", "boot_check"}}   result {"failover_id", "export_id", "verdict", "verdict_text", ...}
 *   failover_change_point   machine_id; {"failover_id": UUID, "sequence": "7"}
 *   failover_commit         machine_id; {"failover_id": UUID}
 *   failover_end            machine_id; {"failover_id": UUID, "outcome"?: "passed"|"failed", "notes"?: text, "failed"?: bool}
 *                 cleanup of a test, rollback of another failover; "failed": what a failed start left behind
 *   failover_reprotect      machine_id; {"failover_id": UUID}   result {"sequence": "7"}: the replica's first point
 *   failover_failback       machine_id; {"failover_id": UUID, "confirm": name of the machine whose disks are written, "to"?: UUID of another machine,
 *                 "disks"?: [{"number", "key"}], "keep_fixups"?: bool}
 *                 result {"sequence", "failback": {"passes", "compared_bytes", "written_bytes", "traffic_bytes"}, "first_point"}
 *   failover_resume         machine_id; {"failover_id": UUID, "fixups"?: bool (were taken back)}   lets the replica run again after a failback that came to nothing
 *   plan_run      {"run_id": UUID} of plan_run.h, which submits it; result {"run_id", "verdict"}
 *   plan_end      {"run_id": UUID, "action": "cleanup"|"rollback"|"commit", "outcome"?, "notes"?}
 *   plan_action, plan_gate   of one step, submitted by plan_run
 *   vault_gc      {"vault_id"?: UUID, "machine_id"?: UUID}   result as of Compact in control.proto
 */
#ifndef HUB_JOBS_JOB_H
#define HUB_JOBS_JOB_H

#include "hub/db/rows.h"
#include "transport/base/ident.h"

struct job_spec {
    const char *kind;
    const char *machine_id;   /* UUID text; NULL or "": none */
    const char *params_json;  /* NULL: {} */
    const char *requested_by; /* "token:NAME" */
};

/* Checks kind, params and the state of the machine, and stores job and steps in the caller's transaction (or
 * one of its own); threads hear of it at commit. ERR_INVALID, ERR_NOT_FOUND, ERR_REFUSED (wrong state, or
 * such a job runs already) with a correction. dry_run: only the checks. */
int job_submit(
    struct db_conn *conn, const struct job_spec *spec, bool dry_run, char ret_id[IDENT_TEXT_SIZE], struct err *err);
/* Asks a job to stop; ERR_REFUSED when it is over or cannot be cancelled any more. */
int job_cancel(struct db_conn *conn, const char *id, struct err *err);
/* Answers a job that is waiting_for_input; `answer` is "continue" or "abort". */
int job_answer(struct db_conn *conn, const char *id, const char *answer, const char *by, struct err *err);
bool job_status_is_final(const char *status);

#endif
