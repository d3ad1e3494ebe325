/* SPDX-License-Identifier: Apache-2.0
 *
 * Runs of recovery plans, before they begin: all that can be refused is refused here, while somebody listens; what the run is expected to take; and its rows
 * with the job that does it. Points are pinned here, so that "the latest" means what the caller saw.
 */
#ifndef HUB_JOBS_PLAN_RUN_H
#define HUB_JOBS_PLAN_RUN_H

#include "hub/db/plan_store.h"
#include "hub/jobs/plan_document.h"

/* The machines and targets that the plan names must be there: ERR_NOT_FOUND, with the step. */
int plan_check_names(struct db_conn *conn, const struct plan *plan, struct err *err);

struct plan_run_spec {
    const char *plan; /* id or name; NULL: the document that follows, as a run without a plan */
    const char *plan_name, *document_json;
    const char *drill_id;                    /* NULL: none */
    const char *kind, *point, *requested_by; /* point: as of plan_point */
    const char *target;                      /* in place of what the plan says; NULL: as it says */
    const json_t *options;                   /* "network", "boot_check" in place of what steps say; may be NULL */
    bool cleanup;                            /* a test: take the replicas away when it is over */
};
/* dry_run: only the checks and the forecast. *ret_forecast is a new reference:
 *   {"plan_name", "kind", "predicted_rto_seconds", "predicted_known", "data_loss_seconds", "steps": [{"name", "group", "type", "skipped", "critical",
 *    "begins_seconds", "takes_seconds", "known", "after": [...], "machine", "target", "sequence", "data_loss_seconds"}]}
 * ERR_INVALID, ERR_NOT_FOUND, ERR_REFUSED name the step. */
int plan_run_start(struct db_conn *conn, const struct plan_run_spec *spec, bool dry_run,
    char ret_run_id[IDENT_TEXT_SIZE], char ret_job_id[IDENT_TEXT_SIZE], json_t **ret_forecast, struct err *err);

/* The kind of that job: a failback is one of its own. */
const char *plan_failover_job(const char *kind);
/* Params of the failback of a machine: a new reference, NULL with err; ERR_REFUSED: it has no replica that is protected. */
json_t *plan_failback_params(struct db_conn *conn, const char *machine_id, struct err *err);
/* Params of the failover job of a machine step. A new reference; NULL without memory. */
json_t *plan_failover_params(
    const struct plan_step *step, const char *kind, const char *target_id, uint64_t sequence, const json_t *options);
/* Whether the point is the caller's to choose: a planned failover makes its own, and a failback has
 * none. */
bool plan_kind_has_point(const char *kind);

/* The run as JSON (run, machines, steps, measured times), and as a page of HTML. New references; the text is the caller's. */
int plan_report_json(struct db_conn *conn, const char *run_id, json_t **ret_report, struct err *err);
int plan_report_html(const json_t *report, char **ret_html, struct err *err);

#endif
