/* SPDX-License-Identifier: Apache-2.0
 *
 * The handlers of the route table, one per operation of the OpenAPI document. Each is called with input that the
 * document allows, r->conn acquired (unless its route says otherwise) and, for everything but GET, a transaction open
 * that the caller commits. 0: the reply is set. -1: err becomes a problem and the transaction is rolled back.
 */
#ifndef HUB_API_SERVE_H
#define HUB_API_SERVE_H

#include "hub/api/http_request.h"

/* ---- serve_status.c ---- */
int serve_liveness(struct request *r, struct err *err);
int serve_readiness(struct request *r, struct err *err);
int serve_openapi(struct request *r, struct err *err);
int serve_version(struct request *r, struct err *err);
int serve_status(struct request *r, struct err *err);
int serve_settings_get(struct request *r, struct err *err);
int serve_settings_update(struct request *r, struct err *err);

/* ---- serve_overview.c, serve_history.c ---- */
int serve_overview(struct request *r, struct err *err);
int serve_machine_history(struct request *r, struct err *err);

/* ---- serve_audit.c ---- */
int serve_audit_list(struct request *r, struct err *err);
int serve_audit_verify(struct request *r, struct err *err);
int serve_audit_export(struct request *r, struct err *err);

/* ---- serve_metrics.c ---- */
int serve_metrics(struct request *r, struct err *err);

/* ---- serve_machine.c ---- */
int serve_machine_list(struct request *r, struct err *err);
int serve_machine_get(struct request *r, struct err *err);
int serve_machine_update(struct request *r, struct err *err);
int serve_machine_delete(struct request *r, struct err *err);
int serve_disk_list(struct request *r, struct err *err);
int serve_disk_add(struct request *r, struct err *err);
int serve_disk_exclude(struct request *r, struct err *err);
int serve_disk_resize(struct request *r, struct err *err);
int serve_churn_list(struct request *r, struct err *err);
int serve_machine_protect(struct request *r, struct err *err);
int serve_machine_unprotect(struct request *r, struct err *err);
int serve_machine_resync(struct request *r, struct err *err);
int serve_machine_restore(struct request *r, struct err *err);
int serve_machine_move(struct request *r, struct err *err);
int serve_machine_erase(struct request *r, struct err *err);
/* serve_copy.c */
int serve_copy_list(struct request *r, struct err *err);
int serve_vault_copies(struct request *r, struct err *err);
int serve_copy_create(struct request *r, struct err *err);
int serve_copy_remove(struct request *r, struct err *err);
int serve_copy_use(struct request *r, struct err *err);
int serve_copy_points(struct request *r, struct err *err);
int serve_machine_rotate_key(struct request *r, struct err *err);

/* ---- serve_approval.c ---- */
int serve_approval_list(struct request *r, struct err *err);
int serve_approval_get(struct request *r, struct err *err);
int serve_approval_approve(struct request *r, struct err *err);
int serve_approval_reject(struct request *r, struct err *err);

/* ---- serve_integrity.c ---- */
int serve_machine_integrity(struct request *r, struct err *err);

/* ---- serve_point.c ---- */
int serve_point_list(struct request *r, struct err *err);
int serve_point_create(struct request *r, struct err *err);
int serve_point_get(struct request *r, struct err *err);
int serve_disk_export(struct request *r, struct err *err);
int serve_export_list(struct request *r, struct err *err);
int serve_export_open(struct request *r, struct err *err);
int serve_export_get(struct request *r, struct err *err);
int serve_export_close(struct request *r, struct err *err);

/* ---- serve_failover.c ---- */
int serve_target_list(struct request *r, struct err *err);
int serve_target_create(struct request *r, struct err *err);
int serve_target_get(struct request *r, struct err *err);
int serve_target_update(struct request *r, struct err *err);
int serve_target_delete(struct request *r, struct err *err);
int serve_failover_list(struct request *r, struct err *err);
int serve_failover_create(struct request *r, struct err *err);
int serve_failover_preview(struct request *r, struct err *err);
int serve_failover_get(struct request *r, struct err *err);
int serve_failover_screenshot(struct request *r, struct err *err);
int serve_failover_change_point(struct request *r, struct err *err);
int serve_failover_commit(struct request *r, struct err *err);
int serve_failover_rollback(struct request *r, struct err *err);
int serve_failover_cleanup(struct request *r, struct err *err);
int serve_failover_reprotect(struct request *r, struct err *err);
int serve_failover_failback(struct request *r, struct err *err);
int serve_failover_failback_preview(struct request *r, struct err *err);

/* ---- serve_mapping.c ---- */
int serve_machine_mapping_get(struct request *r, struct err *err);
int serve_machine_mapping_update(struct request *r, struct err *err);
int serve_site_mapping_get(struct request *r, struct err *err);
int serve_site_mapping_update(struct request *r, struct err *err);

/* ---- serve_plan.c ---- */
int serve_plan_list(struct request *r, struct err *err);
int serve_plan_create(struct request *r, struct err *err);
int serve_plan_get(struct request *r, struct err *err);
int serve_plan_update(struct request *r, struct err *err);
int serve_plan_delete(struct request *r, struct err *err);
int serve_plan_forecast(struct request *r, struct err *err);
int serve_plan_run(struct request *r, struct err *err);
int serve_plan_run_list(struct request *r, struct err *err);
int serve_plan_run_get(struct request *r, struct err *err);
int serve_plan_run_report(struct request *r, struct err *err);
int serve_plan_run_cleanup(struct request *r, struct err *err);
int serve_plan_run_rollback(struct request *r, struct err *err);
int serve_plan_run_commit(struct request *r, struct err *err);

/* ---- serve_drill.c ---- */
int serve_drill_list(struct request *r, struct err *err);
int serve_drill_create(struct request *r, struct err *err);
int serve_drill_get(struct request *r, struct err *err);
int serve_drill_update(struct request *r, struct err *err);
int serve_drill_delete(struct request *r, struct err *err);
int serve_drill_run(struct request *r, struct err *err);
int serve_drill_machine_list(struct request *r, struct err *err);

/* ---- serve_branch.c ---- */
int serve_branch_list(struct request *r, struct err *err);
int serve_branch_create(struct request *r, struct err *err);
int serve_branch_get(struct request *r, struct err *err);
int serve_branch_open(struct request *r, struct err *err);
int serve_branch_close(struct request *r, struct err *err);
int serve_branch_discard(struct request *r, struct err *err);
int serve_branch_promote(struct request *r, struct err *err);

/* ---- serve_peer.c ---- */
int serve_node_list(struct request *r, struct err *err);
int serve_node_get(struct request *r, struct err *err);
int serve_node_update(struct request *r, struct err *err);
int serve_node_delete(struct request *r, struct err *err);
int serve_vault_list(struct request *r, struct err *err);
int serve_vault_get(struct request *r, struct err *err);
int serve_vault_update(struct request *r, struct err *err);
int serve_vault_delete(struct request *r, struct err *err);
int serve_vault_verify(struct request *r, struct err *err);
int serve_vault_rotate_key(struct request *r, struct err *err);
int serve_vault_gc(struct request *r, struct err *err);
int serve_vault_space(struct request *r, struct err *err);

/* ---- serve_policy.c ---- */
struct policy_row;
/* Whether points would be kept, or locked, for less long. */
bool serve_policy_shortens(const struct policy_row *before, const struct policy_row *after);
int serve_policy_list(struct request *r, struct err *err);
int serve_policy_create(struct request *r, struct err *err);
int serve_policy_get(struct request *r, struct err *err);
int serve_policy_update(struct request *r, struct err *err);
int serve_policy_delete(struct request *r, struct err *err);

/* ---- serve_site.c ---- */
int serve_site_list(struct request *r, struct err *err);
int serve_site_create(struct request *r, struct err *err);
int serve_site_get(struct request *r, struct err *err);
int serve_site_update(struct request *r, struct err *err);
int serve_site_delete(struct request *r, struct err *err);

/* ---- serve_group.c ---- */
int serve_group_list(struct request *r, struct err *err);
int serve_group_create(struct request *r, struct err *err);
int serve_group_get(struct request *r, struct err *err);
int serve_group_update(struct request *r, struct err *err);
int serve_group_delete(struct request *r, struct err *err);
int serve_group_join(struct request *r, struct err *err);
int serve_group_leave(struct request *r, struct err *err);
int serve_group_points(struct request *r, struct err *err);
int serve_group_point(struct request *r, struct err *err);

/* ---- serve_job.c ---- */
int serve_job_list(struct request *r, struct err *err);
int serve_job_get(struct request *r, struct err *err);
int serve_job_log(struct request *r, struct err *err);
int serve_job_cancel(struct request *r, struct err *err);
int serve_job_answer(struct request *r, struct err *err);
/* Submits a job of that kind in the transaction of r and makes it the reply: 202, Location, the job; r->job_id is set for
 * ?wait=. params is taken over. With ?dry_run=true only the checks: 204. */
int serve_job_submit(struct request *r, const char *kind, const char *machine_id, json_t *params, struct err *err);
/* Makes the job r->job_id the body of the reply again. */
int serve_job_look(struct request *r, int status, struct err *err);
/* Whether the job in the reply is over, or waits for a person. */
bool serve_job_reply_is_final(const struct request *r);

/* ---- serve_simulation.c ---- */
int serve_simulation_remove(struct request *r, struct err *err);

/* ---- serve_event.c ---- */
int serve_event_list(struct request *r, struct err *err);
int serve_event_stream(struct request *r, struct err *err);

/* ---- serve_session.c ---- */
int serve_session_create(struct request *r, struct err *err);
int serve_session_get(struct request *r, struct err *err);
int serve_session_end(struct request *r, struct err *err);
int serve_session_password(struct request *r, struct err *err);
int serve_session_list(struct request *r, struct err *err);
int serve_session_revoke(struct request *r, struct err *err);
/* In the transaction of r: a session for that user. What it is told about itself comes back, the cookie is in r->reply. */
int session_begin(struct request *r, const char *user_id, const char *method, json_t **ret_json, struct err *err);
/* Makes it the answer, with the cookie that session_begin left. json is taken over. */
int session_answer(struct request *r, json_t *json, struct err *err);

/* ---- serve_oidc.c ---- */
int serve_sign_in_methods(struct request *r, struct err *err);
int serve_oidc_begin(struct request *r, struct err *err);
int serve_oidc_callback(struct request *r, struct err *err);

/* ---- serve_user.c ---- */
int serve_user_list(struct request *r, struct err *err);
int serve_user_get(struct request *r, struct err *err);
int serve_user_create(struct request *r, struct err *err);
int serve_user_update(struct request *r, struct err *err);
int serve_user_delete(struct request *r, struct err *err);

/* ---- serve_alert.c ---- */
int serve_alert_list(struct request *r, struct err *err);
int serve_alert_get(struct request *r, struct err *err);
int serve_alert_acknowledge(struct request *r, struct err *err);

/* ---- serve_report.c ---- */
int serve_report_weekly(struct request *r, struct err *err);
int serve_report_send(struct request *r, struct err *err);

/* ---- serve_channel.c ---- */
int serve_channel_list(struct request *r, struct err *err);
int serve_channel_create(struct request *r, struct err *err);
int serve_channel_get(struct request *r, struct err *err);
int serve_channel_update(struct request *r, struct err *err);
int serve_channel_delete(struct request *r, struct err *err);
int serve_channel_test(struct request *r, struct err *err);
int serve_delivery_list(struct request *r, struct err *err);
int serve_delivery_get(struct request *r, struct err *err);

/* ---- serve_token.c ---- */
int serve_token_list(struct request *r, struct err *err);
int serve_token_create(struct request *r, struct err *err);
int serve_token_revoke(struct request *r, struct err *err);
int serve_enrolment_token_list(struct request *r, struct err *err);
int serve_enrolment_token_create(struct request *r, struct err *err);
int serve_enrolment_token_revoke(struct request *r, struct err *err);

#endif
