/* SPDX-License-Identifier: Apache-2.0
 *
 * Everything that the API serves, as data, and how a path finds its row. There are some sixty rows, so that walking them
 * with one comparison of segments each costs less than a lookup structure would.
 */
#include "hub/api/http_route.h"

#include <stdio.h>
#include <string.h>

#include "hub/api/openapi.h"
#include "hub/api/serve.h"

#define V1 "/api/v1"

const struct http_route http_routes[] = {
    {"GET", "/healthz", "getLiveness", NULL, ROUTE_INLINE, serve_liveness},
    {"GET", "/readyz", "getReadiness", NULL, ROUTE_NO_DATABASE, serve_readiness},
    {"GET", "/metrics", "getMetrics", "metrics:read", 0, serve_metrics},
    {"GET", V1 "/openapi.json", "getOpenapi", NULL, ROUTE_INLINE, serve_openapi},
    {"GET", V1 "/version", "getVersion", NULL, ROUTE_INLINE, serve_version},
    {"GET", V1 "/status", "getStatus", "status:read", 0, serve_status},
    {"GET", V1 "/overview", "getOverview", "status:read", 0, serve_overview},
    {"GET", V1 "/machines", "listMachines", "machines:read", 0, serve_machine_list},
    {"GET", V1 "/machines/{machine_id}", "getMachine", "machines:read", 0, serve_machine_get},
    {"PATCH", V1 "/machines/{machine_id}", "updateMachine", "machines:write", 0, serve_machine_update},
    {"DELETE", V1 "/machines/{machine_id}", "deleteMachine", "machines:write", 0, serve_machine_delete},
    {"GET", V1 "/machines/{machine_id}/disks", "listDisks", "machines:read", 0, serve_disk_list},
    {"GET", V1 "/machines/{machine_id}/churn", "listChurn", "machines:read", 0, serve_churn_list},
    {"GET", V1 "/machines/{machine_id}/history", "getHistory", "machines:read", 0, serve_machine_history},
    {"GET", V1 "/machines/{machine_id}/mapping", "getMachineMapping", "machines:read", 0, serve_machine_mapping_get},
    {"PATCH", V1 "/machines/{machine_id}/mapping", "updateMachineMapping", "machines:write", 0,
        serve_machine_mapping_update},
    {"POST", V1 "/machines/{machine_id}/protect", "protectMachine", "machines:protect", 0, serve_machine_protect},
    {"POST", V1 "/machines/{machine_id}/unprotect", "unprotectMachine", "machines:protect", 0, serve_machine_unprotect},
    {"POST", V1 "/machines/{machine_id}/rotate-key", "rotateMachineKey", "machines:write", 0, serve_machine_rotate_key},
    {"POST", V1 "/machines/{machine_id}/erase", "eraseMachine", "machines:write", 0, serve_machine_erase},
    {"POST", V1 "/machines/{machine_id}/restore", "restoreMachine", "failovers:commit", 0, serve_machine_restore},
    {"POST", V1 "/machines/{machine_id}/resync", "resyncMachine", "machines:protect", 0, serve_machine_resync},
    {"POST", V1 "/machines/{machine_id}/disks/add", "addDisks", "machines:protect", 0, serve_disk_add},
    {"POST", V1 "/machines/{machine_id}/disks/exclude", "excludeDisks", "machines:protect", 0, serve_disk_exclude},
    {"POST", V1 "/machines/{machine_id}/disks/resize", "resizeDisks", "machines:protect", 0, serve_disk_resize},
    {"POST", V1 "/machines/{machine_id}/move", "moveMachine", "machines:protect", 0, serve_machine_move},
    {"GET", V1 "/machines/{machine_id}/integrity", "getIntegrity", "points:read", 0, serve_machine_integrity},
    {"GET", V1 "/machines/{machine_id}/points", "listPoints", "points:read", 0, serve_point_list},
    {"POST", V1 "/machines/{machine_id}/points", "createPoint", "points:write", 0, serve_point_create},
    {"GET", V1 "/machines/{machine_id}/points/{sequence}", "getPoint", "points:read", 0, serve_point_get},
    {"POST", V1 "/machines/{machine_id}/points/{sequence}/export", "exportDisk", "exports:write", 0, serve_disk_export},
    {"GET", V1 "/machines/{machine_id}/copies", "listCopies", "points:read", 0, serve_copy_list},
    {"POST", V1 "/machines/{machine_id}/copies", "createCopy", "machines:protect", 0, serve_copy_create},
    {"DELETE", V1 "/machines/{machine_id}/copies/{vault_id}", "removeCopy", "machines:write", 0, serve_copy_remove},
    {"POST", V1 "/machines/{machine_id}/copies/{vault_id}/use", "useCopy", "failovers:commit", 0, serve_copy_use},
    {"GET", V1 "/machines/{machine_id}/copies/{vault_id}/points", "listCopyPoints", "points:read", 0,
        serve_copy_points},
    {"GET", V1 "/exports", "listExports", "exports:read", 0, serve_export_list},
    {"POST", V1 "/exports", "openPoint", "exports:write", 0, serve_export_open},
    {"GET", V1 "/exports/{export_id}", "getExport", "exports:read", 0, serve_export_get},
    {"DELETE", V1 "/exports/{export_id}", "closePoint", "exports:write", 0, serve_export_close},
    {"GET", V1 "/targets", "listTargets", "targets:read", 0, serve_target_list},
    {"POST", V1 "/targets", "createTarget", "targets:write", 0, serve_target_create},
    {"GET", V1 "/targets/{target_id}", "getTarget", "targets:read", 0, serve_target_get},
    {"PATCH", V1 "/targets/{target_id}", "updateTarget", "targets:write", 0, serve_target_update},
    {"DELETE", V1 "/targets/{target_id}", "deleteTarget", "targets:write", 0, serve_target_delete},
    {"GET", V1 "/failovers", "listFailovers", "failovers:read", 0, serve_failover_list},
    {"POST", V1 "/failovers", "createFailover", "failovers:execute", 0, serve_failover_create},
    {"POST", V1 "/failovers/preview", "previewFailover", "failovers:execute", 0, serve_failover_preview},
    {"GET", V1 "/failovers/{failover_id}", "getFailover", "failovers:read", 0, serve_failover_get},
    {"GET", V1 "/failovers/{failover_id}/screenshot", "getFailoverScreenshot", "failovers:execute", 0,
        serve_failover_screenshot},
    {"POST", V1 "/failovers/{failover_id}/change-point", "changeFailoverPoint", "failovers:execute", 0,
        serve_failover_change_point},
    {"POST", V1 "/failovers/{failover_id}/commit", "commitFailover", "failovers:commit", 0, serve_failover_commit},
    {"POST", V1 "/failovers/{failover_id}/rollback", "rollbackFailover", "failovers:execute", 0,
        serve_failover_rollback},
    {"POST", V1 "/failovers/{failover_id}/cleanup", "cleanupFailover", "failovers:execute", 0, serve_failover_cleanup},
    {"POST", V1 "/failovers/{failover_id}/reprotect", "reprotectFailover", "failovers:execute", 0,
        serve_failover_reprotect},
    {"GET", V1 "/failovers/{failover_id}/failback", "previewFailback", "failovers:read", 0,
        serve_failover_failback_preview},
    {"POST", V1 "/failovers/{failover_id}/failback", "failbackFailover", "failovers:commit", 0,
        serve_failover_failback},
    {"GET", V1 "/branches", "listBranches", "exports:read", 0, serve_branch_list},
    {"POST", V1 "/branches", "createBranch", "exports:write", 0, serve_branch_create},
    {"GET", V1 "/branches/{branch_id}", "getBranch", "exports:read", 0, serve_branch_get},
    {"DELETE", V1 "/branches/{branch_id}", "discardBranch", "exports:write", 0, serve_branch_discard},
    {"POST", V1 "/branches/{branch_id}/open", "openBranch", "exports:write", 0, serve_branch_open},
    {"POST", V1 "/branches/{branch_id}/close", "closeBranch", "exports:write", 0, serve_branch_close},
    {"POST", V1 "/branches/{branch_id}/promote", "promoteBranch", "branches:promote", 0, serve_branch_promote},
    {"GET", V1 "/nodes", "listNodes", "nodes:read", 0, serve_node_list},
    {"GET", V1 "/nodes/{node_id}", "getNode", "nodes:read", 0, serve_node_get},
    {"PATCH", V1 "/nodes/{node_id}", "updateNode", "nodes:write", 0, serve_node_update},
    {"DELETE", V1 "/nodes/{node_id}", "deleteNode", "nodes:write", 0, serve_node_delete},
    {"GET", V1 "/vaults", "listVaults", "vaults:read", 0, serve_vault_list},
    {"GET", V1 "/vaults/{vault_id}", "getVault", "vaults:read", 0, serve_vault_get},
    {"PATCH", V1 "/vaults/{vault_id}", "updateVault", "vaults:write", 0, serve_vault_update},
    {"DELETE", V1 "/vaults/{vault_id}", "deleteVault", "vaults:write", 0, serve_vault_delete},
    {"GET", V1 "/vaults/{vault_id}/copies", "listVaultCopies", "points:read", 0, serve_vault_copies},
    {"GET", V1 "/vaults/{vault_id}/space", "getVaultSpace", "vaults:read", 0, serve_vault_space},
    {"POST", V1 "/vaults/{vault_id}/gc", "compactVault", "vaults:verify", 0, serve_vault_gc},
    {"POST", V1 "/vaults/{vault_id}/rotate-key", "rotateVaultKey", "vaults:write", 0, serve_vault_rotate_key},
    {"POST", V1 "/vaults/{vault_id}/verify", "verifyVault", "vaults:verify", 0, serve_vault_verify},
    {"GET", V1 "/policies", "listPolicies", "policies:read", 0, serve_policy_list},
    {"POST", V1 "/policies", "createPolicy", "policies:write", 0, serve_policy_create},
    {"GET", V1 "/policies/{policy_id}", "getPolicy", "policies:read", 0, serve_policy_get},
    {"PATCH", V1 "/policies/{policy_id}", "updatePolicy", "policies:write", 0, serve_policy_update},
    {"DELETE", V1 "/policies/{policy_id}", "deletePolicy", "policies:write", 0, serve_policy_delete},
    {"GET", V1 "/plans", "listPlans", "plans:read", 0, serve_plan_list},
    {"POST", V1 "/plans", "createPlan", "plans:write", 0, serve_plan_create},
    {"GET", V1 "/plans/{plan_id}", "getPlan", "plans:read", 0, serve_plan_get},
    {"PATCH", V1 "/plans/{plan_id}", "updatePlan", "plans:write", 0, serve_plan_update},
    {"DELETE", V1 "/plans/{plan_id}", "deletePlan", "plans:write", 0, serve_plan_delete},
    {"POST", V1 "/plans/{plan_id}/forecast", "forecastPlanRun", "plans:read", 0, serve_plan_forecast},
    {"POST", V1 "/plans/{plan_id}/runs", "createPlanRun", "failovers:execute", 0, serve_plan_run},
    {"GET", V1 "/plan-runs", "listPlanRuns", "plans:read", 0, serve_plan_run_list},
    {"GET", V1 "/plan-runs/{run_id}", "getPlanRun", "plans:read", 0, serve_plan_run_get},
    {"GET", V1 "/plan-runs/{run_id}/report", "getPlanRunPage", "plans:read", 0, serve_plan_run_report},
    {"POST", V1 "/plan-runs/{run_id}/cleanup", "cleanupPlanRun", "failovers:execute", 0, serve_plan_run_cleanup},
    {"POST", V1 "/plan-runs/{run_id}/rollback", "rollbackPlanRun", "failovers:execute", 0, serve_plan_run_rollback},
    {"POST", V1 "/plan-runs/{run_id}/commit", "commitPlanRun", "failovers:commit", 0, serve_plan_run_commit},
    {"GET", V1 "/drills", "listDrills", "drills:read", 0, serve_drill_list},
    {"POST", V1 "/drills", "createDrill", "drills:write", 0, serve_drill_create},
    {"GET", V1 "/drills/{drill_id}", "getDrill", "drills:read", 0, serve_drill_get},
    {"PATCH", V1 "/drills/{drill_id}", "updateDrill", "drills:write", 0, serve_drill_update},
    {"DELETE", V1 "/drills/{drill_id}", "deleteDrill", "drills:write", 0, serve_drill_delete},
    {"POST", V1 "/drills/{drill_id}/runs", "runDrill", "failovers:execute", 0, serve_drill_run},
    {"GET", V1 "/drill-machines", "listDrillMachines", "drills:read", 0, serve_drill_machine_list},
    {"GET", V1 "/groups", "listGroups", "groups:read", 0, serve_group_list},
    {"POST", V1 "/groups", "createGroup", "groups:write", 0, serve_group_create},
    {"GET", V1 "/groups/{group_id}", "getGroup", "groups:read", 0, serve_group_get},
    {"PATCH", V1 "/groups/{group_id}", "updateGroup", "groups:write", 0, serve_group_update},
    {"DELETE", V1 "/groups/{group_id}", "deleteGroup", "groups:write", 0, serve_group_delete},
    {"POST", V1 "/groups/{group_id}/members", "addGroupMember", "groups:write", 0, serve_group_join},
    {"DELETE", V1 "/groups/{group_id}/members/{machine_id}", "removeGroupMember", "groups:write", 0, serve_group_leave},
    {"GET", V1 "/groups/{group_id}/points", "listGroupPoints", "points:read", 0, serve_group_points},
    {"POST", V1 "/groups/{group_id}/points", "createGroupPoint", "points:write", 0, serve_group_point},
    {"GET", V1 "/sites", "listSites", "sites:read", 0, serve_site_list},
    {"POST", V1 "/sites", "createSite", "sites:write", 0, serve_site_create},
    {"GET", V1 "/sites/{site_id}", "getSite", "sites:read", 0, serve_site_get},
    {"PATCH", V1 "/sites/{site_id}", "updateSite", "sites:write", 0, serve_site_update},
    {"DELETE", V1 "/sites/{site_id}", "deleteSite", "sites:write", 0, serve_site_delete},
    {"GET", V1 "/sites/{site_id}/mapping", "getSiteMapping", "sites:read", 0, serve_site_mapping_get},
    {"PATCH", V1 "/sites/{site_id}/mapping", "updateSiteMapping", "sites:write", 0, serve_site_mapping_update},
    {"GET", V1 "/jobs", "listJobs", "jobs:read", 0, serve_job_list},
    {"GET", V1 "/jobs/{job_id}", "getJob", "jobs:read", 0, serve_job_get},
    {"GET", V1 "/jobs/{job_id}/log", "listJobLog", "jobs:read", 0, serve_job_log},
    {"POST", V1 "/jobs/{job_id}/cancel", "cancelJob", "jobs:write", 0, serve_job_cancel},
    {"POST", V1 "/jobs/{job_id}/answer", "answerJob", "jobs:write", 0, serve_job_answer},
    {"DELETE", V1 "/simulation", "removeSimulation", "machines:write", 0, serve_simulation_remove},
    {"GET", V1 "/events", "listEvents", "events:read", 0, serve_event_list},
    {"GET", V1 "/events/stream", "streamEvents", "events:read", 0, serve_event_stream},
    {"POST", V1 "/session", "createSession", NULL, ROUTE_OWN_TRANSACTION, serve_session_create},
    {"GET", V1 "/session", "getSession", OPENAPI_SCOPE_SESSION, 0, serve_session_get},
    {"DELETE", V1 "/session", "endSession", OPENAPI_SCOPE_SESSION, 0, serve_session_end},
    {"POST", V1 "/session/password", "changePassword", OPENAPI_SCOPE_SESSION, ROUTE_OWN_TRANSACTION,
        serve_session_password},
    {"GET", V1 "/session/methods", "listSignInMethods", NULL, ROUTE_INLINE, serve_sign_in_methods},
    {"GET", V1 "/session/oidc", "beginOidc", NULL, 0, serve_oidc_begin},
    {"GET", V1 "/session/oidc/callback", "completeOidc", NULL, ROUTE_ANY_QUERY, serve_oidc_callback},
    {"GET", V1 "/sessions", "listSessions", "sessions:read", 0, serve_session_list},
    {"DELETE", V1 "/sessions/{session_id}", "revokeSession", "sessions:write", 0, serve_session_revoke},
    {"GET", V1 "/users", "listUsers", "users:read", 0, serve_user_list},
    {"POST", V1 "/users", "createUser", "users:write", 0, serve_user_create},
    {"GET", V1 "/users/{user_id}", "getUser", "users:read", 0, serve_user_get},
    {"PATCH", V1 "/users/{user_id}", "updateUser", "users:write", 0, serve_user_update},
    {"DELETE", V1 "/users/{user_id}", "deleteUser", "users:write", 0, serve_user_delete},
    {"GET", V1 "/alerts", "listAlerts", "alerts:read", 0, serve_alert_list},
    {"GET", V1 "/alerts/{alert_id}", "getAlert", "alerts:read", 0, serve_alert_get},
    {"POST", V1 "/alerts/{alert_id}/acknowledge", "acknowledgeAlert", "alerts:write", 0, serve_alert_acknowledge},
    {"GET", V1 "/alert-channels", "listAlertChannels", "alert_channels:read", 0, serve_channel_list},
    {"POST", V1 "/alert-channels", "createAlertChannel", "alert_channels:write", 0, serve_channel_create},
    {"GET", V1 "/alert-channels/{channel_id}", "getAlertChannel", "alert_channels:read", 0, serve_channel_get},
    {"PATCH", V1 "/alert-channels/{channel_id}", "updateAlertChannel", "alert_channels:write", 0, serve_channel_update},
    {"DELETE", V1 "/alert-channels/{channel_id}", "deleteAlertChannel", "alert_channels:write", 0,
        serve_channel_delete},
    {"POST", V1 "/alert-channels/{channel_id}/test", "testAlertChannel", "alert_channels:write", 0, serve_channel_test},
    {"GET", V1 "/alert-deliveries", "listAlertDeliveries", "alert_channels:read", 0, serve_delivery_list},
    {"GET", V1 "/alert-deliveries/{delivery_id}", "getAlertDelivery", "alert_channels:read", 0, serve_delivery_get},
    {"GET", V1 "/approvals", "listApprovals", "approvals:read", 0, serve_approval_list},
    {"GET", V1 "/approvals/{approval_id}", "getApproval", "approvals:read", 0, serve_approval_get},
    {"POST", V1 "/approvals/{approval_id}/approve", "approveApproval", "approvals:write", 0, serve_approval_approve},
    {"POST", V1 "/approvals/{approval_id}/reject", "rejectApproval", "approvals:write", 0, serve_approval_reject},
    {"GET", V1 "/reports/weekly", "getWeeklyReport", "reports:read", 0, serve_report_weekly},
    {"POST", V1 "/reports/weekly/send", "sendWeeklyReport", "reports:write", 0, serve_report_send},
    {"GET", V1 "/tokens", "listTokens", "tokens:read", 0, serve_token_list},
    {"POST", V1 "/tokens", "createToken", "tokens:write", 0, serve_token_create},
    {"DELETE", V1 "/tokens/{token_id}", "revokeToken", "tokens:write", 0, serve_token_revoke},
    {"GET", V1 "/enrolment-tokens", "listEnrolmentTokens", "enrolment_tokens:read", 0, serve_enrolment_token_list},
    {"POST", V1 "/enrolment-tokens", "createEnrolmentToken", "enrolment_tokens:write", 0, serve_enrolment_token_create},
    {"DELETE", V1 "/enrolment-tokens/{token_id}", "revokeEnrolmentToken", "enrolment_tokens:write", 0,
        serve_enrolment_token_revoke},
    {"GET", V1 "/audit", "listAudit", "audit:read", 0, serve_audit_list},
    {"GET", V1 "/audit/verify", "verifyAudit", "audit:read", 0, serve_audit_verify},
    {"GET", V1 "/audit/export", "exportAudit", "audit:read", 0, serve_audit_export},
    {"GET", V1 "/settings", "getSettings", "settings:read", 0, serve_settings_get},
    {"PATCH", V1 "/settings", "updateSettings", "settings:write", 0, serve_settings_update},
};
const size_t http_route_count = ARRAY_LEN(http_routes);

static const struct http_route *route_of_operation(const char *id)
{
    for (size_t i = 0; i < http_route_count; i++)
        if (strcmp(http_routes[i].operation, id) == 0)
            return &http_routes[i];
    return NULL;
}

static bool same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

int http_routes_check(const struct openapi *doc, struct err *err)
{
    for (size_t i = 0; i < http_route_count; i++)
        if (!openapi_find(doc, http_routes[i].operation))
            return err_set(err, ERR_INTERNAL, "openapi.json lacks the operation %s", http_routes[i].operation);
    for (size_t i = 0; i < openapi_count(doc); i++) {
        const struct openapi_operation *op = openapi_at(doc, i);
        const struct http_route *route = route_of_operation(op->id);

        if (!route)
            return err_set(err, ERR_INTERNAL, "nobody serves the operation %s of openapi.json", op->id);
        if (!same_text(route->method, op->method) || !same_text(route->path, op->path) ||
            !same_text(route->scope, op->scope))
            return err_set(
                err, ERR_INTERNAL, "openapi.json and the server differ on method, path or scope of %s", op->id);
    }
    return 0;
}

/* One segment of a path: up to the next '/' or the end. */
static size_t segment_length(const char *s)
{
    return strcspn(s, "/");
}

/* 1: the path fits; params filled. 0: it does not. */
static int match(const char *template, const char *path, char params[REQUEST_PARAMS_MAX][REQUEST_PARAM_SIZE])
{
    size_t param = 0;

    while (*template == '/' && *path == '/') {
        size_t want = segment_length(++template);
        size_t have = segment_length(++path);

        if (*template == '{') {
            if (have == 0 || have >= REQUEST_PARAM_SIZE || param == REQUEST_PARAMS_MAX)
                return 0;
            memcpy(params[param], path, have);
            params[param++][have] = 0;
        } else if (want != have || memcmp(template, path, want) != 0) {
            return 0;
        }
        template += want;
        path += have;
    }
    return !*template && !*path;
}

static int refuse_method(struct request *r, const char *path_template)
{
    static const struct {
        unsigned bits;
        const char *allow;
    } allows[] = {{1, "GET, HEAD"}, {2, "POST"}, {3, "GET, HEAD, POST"}, {4, "DELETE"}, {5, "GET, HEAD, DELETE"},
        {7, "GET, HEAD, POST, DELETE"}, {9, "GET, HEAD, PATCH"}, {13, "GET, HEAD, PATCH, DELETE"}};
    static const char *const methods[] = {"GET", "POST", "DELETE", "PATCH"};
    unsigned bits = 0;

    for (size_t i = 0; i < http_route_count; i++)
        for (unsigned k = 0; k < ARRAY_LEN(methods); k++)
            if (strcmp(http_routes[i].path, path_template) == 0 && strcmp(http_routes[i].method, methods[k]) == 0)
                bits |= 1u << k;
    reply_problem_status(r, 405, "method_not_allowed", "this method is not served under this path", NULL);
    r->reply.allow = "GET, HEAD";
    for (size_t i = 0; i < ARRAY_LEN(allows); i++)
        if (allows[i].bits == bits)
            r->reply.allow = allows[i].allow;
    return -1;
}

int http_route_find(struct request *r)
{
    const char *method = strcmp(r->method, "HEAD") == 0 ? "GET" : r->method;
    const char *other = NULL; /* the path is known, the method is not */

    for (size_t i = 0; i < http_route_count; i++) {
        if (!match(http_routes[i].path, r->path, r->params))
            continue;
        if (strcmp(http_routes[i].method, method) == 0) {
            r->route = &http_routes[i];
            return 0;
        }
        other = http_routes[i].path;
    }
    if (other)
        return refuse_method(r, other);
    reply_problem_status(
        r, 404, "not_found", "nothing is served under this path", "/api/v1/openapi.json lists what there is.");
    return -1;
}
