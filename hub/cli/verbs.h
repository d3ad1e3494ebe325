/* SPDX-License-Identifier: Apache-2.0
 *
 * What the rows of the command table run (verb_*.c), and what those share.
 */
#ifndef HUB_CLI_VERBS_H
#define HUB_CLI_VERBS_H

#include <jansson.h>

#include "hub/cli/client.h"
#include "hub/cli/command.h"
#include "hub/cli/output.h"

/* ---- shared (verbs.c) ---- */

/* The path of a list with what --filter and --sort say; NULL with err. Caller: free(). */
char *verb_list_path(const struct command_line *line, const char *path, struct err *err);
/* Reads a list page by page and prints it, with --filter and --sort. path has its filters already ("?" or "&" is added as needed); at most `most`
 * items, 0 = all. */
int verb_print_list(const struct command_line *line, const char *path, const struct column *columns, size_t count,
    size_t most, struct err *err);
/* Reads it into a JSON array (caller: json_decref). 1: there are more than `most`; 0: these are all. */
int verb_read_list(const struct command_line *line, const char *path, size_t most, json_t **ret_items, struct err *err);
/* GET path and print the item. */
int verb_print_item(const struct command_line *line, const char *path, struct err *err);
/* GET path for its etag, then method with body and that as If-Match; prints the item that comes back. */
int verb_change_item(
    const struct command_line *line, const char *method, const char *path, const json_t *body, struct err *err);
/* The id of a machine that is given by id or name. */
int verb_machine_id(const struct command_line *line, const char *machine, char ret_id[40], struct err *err);
/* Where the option was given: the id of what it names under a collection of the API ("policies"), as a member of body. */
int verb_add_id(const struct command_line *line, const char *option, const char *collection, const char *member,
    json_t *body, struct err *err);
/* Splits MACHINE[@POINT] at the last '@'; without one the point is "latest". */
int verb_split_point(const char *text, char machine[129], const char **ret_point, struct err *err);
/* The sequence that POINT names. */
int verb_resolve_point(
    const struct command_line *line, const char *machine, const char *point, uint64_t *ret_sequence, struct err *err);
/* The same of the copy that a vault has; POINT is a number there, "latest", a moment or a tag. */
int verb_copy_point(const struct command_line *line, const char *machine, const char *vault, const char *point,
    uint64_t *ret_sequence, struct err *err);

/* Appends the key of a disk that is named by its key or, while it is there, its device; disks as the API lists them (verb_disk.c). */
int verb_disk_key(const json_t *disks, const char *name, json_t *keys, struct err *err);
/* The vault that was named, or the only one there is. */
int verb_choose_vault(const struct command_line *line, char ret_id[40], struct err *err);
/* --confirm, --to and --disk of what overwrites a machine's disks, as the API takes them; NULL with err (verb_restore.c). */
json_t *verb_overwrite_body(const struct command_line *line, struct err *err);
/* What the machines of a vault take (verb_space.c). */
int verb_vault_space(struct command_line *line, const char *vault, struct err *err);

/* How many machines a simulation shall have (verb_simulate.c). */
int verb_simulate_count(const char *text, unsigned *ret_machines, struct err *err);

#define VERB(name) int verb_##name(struct command_line *line, struct err *err)

VERB(up);
VERB(complete);
VERB(profile_list);
VERB(profile_use);
VERB(profile_remove);
VERB(api);
VERB(audit_list);
VERB(audit_verify);
VERB(settings_show);
VERB(settings_set);
VERB(settings_reset);
VERB(user_list);
VERB(user_show);
VERB(user_create);
VERB(user_set);
VERB(user_delete);
VERB(node_set);
VERB(node_drain);
VERB(node_undrain);
VERB(vault_set);
VERB(site_set);
VERB(simulate);
VERB(simulate_remove);
VERB(login);
VERB(status);
VERB(version);
VERB(help);
VERB(completion);
VERB(machine_list);
VERB(machine_show);
VERB(machine_protect);
VERB(machine_unprotect);
VERB(machine_resync);
VERB(machine_restore);
VERB(machine_move);
VERB(machine_set);
VERB(machine_mapping_show);
VERB(machine_mapping_set);
VERB(machine_mapping_clear);
VERB(site_mapping_show);
VERB(site_mapping_set);
VERB(site_mapping_clear);
VERB(machine_delete);
VERB(machine_churn);
VERB(capacity);
VERB(bench);
VERB(machine_integrity);
VERB(machine_erase);
VERB(machine_rotate_key);
VERB(copy_list);
VERB(vault_copies);
VERB(copy_create);
VERB(copy_points);
VERB(copy_remove);
VERB(copy_use);
VERB(disk_list);
VERB(disk_add);
VERB(disk_exclude);
VERB(disk_resize);
VERB(policy_list);
VERB(policy_show);
VERB(policy_create);
VERB(policy_set);
VERB(policy_delete);
VERB(group_list);
VERB(group_show);
VERB(group_create);
VERB(group_set);
VERB(group_delete);
VERB(group_add);
VERB(group_remove);
VERB(group_point);
VERB(group_points);
VERB(site_list);
VERB(site_show);
VERB(site_create);
VERB(site_delete);
VERB(node_list);
VERB(node_show);
VERB(node_delete);
VERB(vault_list);
VERB(vault_show);
VERB(vault_verify);
VERB(vault_rotate_key);
VERB(vault_gc);
VERB(vault_stat);
VERB(vault_delete);
VERB(overview);
VERB(machine_history);
VERB(session_list);
VERB(session_revoke);
VERB(approval_list);
VERB(approval_show);
VERB(approval_approve);
VERB(approval_reject);
VERB(alert_list);
VERB(alert_show);
VERB(alert_ack);
VERB(channel_list);
VERB(channel_show);
VERB(channel_create);
VERB(channel_set);
VERB(channel_delete);
VERB(channel_test);
VERB(channel_deliveries);
VERB(report_weekly);
VERB(report_send);
VERB(point_list);
VERB(point_show);
VERB(point_create);
VERB(point_open);
VERB(point_close);
VERB(export_list);
VERB(export_disk);
VERB(failover_screenshot);
VERB(failover_test);
VERB(failover_planned);
VERB(failover_unplanned);
VERB(failover_preview);
VERB(failover_list);
VERB(failover_show);
VERB(failover_change_point);
VERB(failover_commit);
VERB(failover_rollback);
VERB(failover_cleanup);
VERB(failover_reprotect);
VERB(failover_failback);
VERB(failover_failback_preview);
VERB(failover_cancel);
VERB(target_list);
VERB(target_show);
VERB(target_create);
VERB(target_set);
VERB(target_delete);
VERB(plan_list);
VERB(plan_show);
VERB(plan_apply);
VERB(plan_validate);
VERB(plan_export);
VERB(plan_delete);
VERB(plan_run);
VERB(plan_runs);
VERB(plan_report);
VERB(plan_cleanup);
VERB(plan_rollback);
VERB(plan_commit);
VERB(drill_list);
VERB(drill_show);
VERB(drill_create);
VERB(drill_set);
VERB(drill_delete);
VERB(drill_run);
VERB(drill_machines);
VERB(branch_list);
VERB(branch_show);
VERB(branch_create);
VERB(branch_open);
VERB(branch_close);
VERB(branch_discard);
VERB(branch_promote);
VERB(job_list);
VERB(job_show);
VERB(job_wait);
VERB(job_cancel);
VERB(job_answer);
VERB(event_list);
VERB(event_tail);
VERB(token_create);
VERB(token_list);
VERB(token_revoke);
VERB(enrol_token_create);
VERB(enrol_token_list);
VERB(enrol_token_revoke);

#undef VERB

#endif
