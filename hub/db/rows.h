/* SPDX-License-Identifier: Apache-2.0
 *
 * The row structs that db_list and db_get fill, with their entities. `version` is the ETag of a row: it grows
 * with every change that a person or a pipeline can make, not with status. Times are UTC microseconds, 0 =
 * never. JSON columns are text. Ids are UUID text.
 */
#ifndef HUB_DB_ROWS_H
#define HUB_DB_ROWS_H

#include "hub/db/entity.h"

struct site_row {
    const char *id, *name, *description;
    uint64_t version, created_at, updated_at;
};
extern const struct db_entity db_sites;

struct policy_row {
    const char *id, *name, *description;
    bool is_default;
    uint64_t interval_usec;            /* between crash-consistent points */
    uint64_t filesystem_interval_usec; /* between file-system-consistent points; 0: none */
    uint64_t app_interval_usec;        /* between app-consistent points; 0: none */
    uint64_t rpo_target_usec;          /* warning above, critical above three times */
    uint64_t keep_all_usec, keep_minute_usec, keep_hour_usec, keep_day_usec;
    uint64_t keep_tagged_usec, lock_usec; /* 0: tagged points for ever; 0: no retention lock */
    uint64_t freeze_budget_usec, max_rounds;
    bool may_freeze, compress_at_agent;
    uint64_t compress_level; /* zstd, 0: as sent */
    uint64_t throttle_bytes_per_sec;
    const char *work_hours, *work_hours_time_zone;
    uint64_t work_hours_throttle_bytes_per_sec, cpu_limit_percent;
    bool yield_to_workload;
    uint64_t machine_count; /* that use it */
    uint64_t version, created_at, updated_at;
};
extern const struct db_entity db_policies;

struct machine_row {
    const char *id, *name, *machine_uid;
    const char *site_id, *site_name;
    const char *state;             /* hub/core/machine_state.h */
    const char *cause, *remedy;    /* of the state or the health; "" */
    const char *cause_code;        /* the stable word for it, hub/core/health.h; "" */
    const char *cause_values_json; /* object: what stands in cause and remedy */
    const char *health;            /* "healthy", "warning", "critical", "unknown" */
    const char *policy_id, *policy_name, *node_id, *node_name, *vault_id, *vault_name; /* "" while unprotected */
    const char *pinned_node_id;                                                        /* "": placement chooses */
    const char *copies_json; /* of its points in other vaults; array of objects as in the API */
    const char *os_name, *kernel, *boot_id, *firmware, *software, *hostname;
    const char *addresses_json; /* array of strings */
    uint64_t cpus, memory_bytes;
    bool online, simulated;
    bool rescue; /* it runs the rescue system: its disks are there to be written */
    uint64_t last_seen_at, inventory_at;
    int64_t clock_skew_usec;
    int64_t point_skew_usec; /* of the clock that dates its points; as clock_skew_usec */
    bool has_rpo;            /* it is held to the target */
    uint64_t generation, desired_version;
    const char *agent_state; /* what the agent said last */
    uint64_t initial_total_bytes, initial_done_bytes, backlog_bytes;
    uint64_t last_point_sequence, last_point_at, rpo_usec; /* as of the last batch; live_status has it fresh */
    uint64_t disk_count, protected_disk_count;
    uint64_t rpo_target_usec; /* of its policy; 0 while unprotected */
    uint64_t damage_count;    /* places of its history that cannot be read */
    uint64_t version, created_at, updated_at;
};
extern const struct db_entity db_machines;

struct disk_row {
    const char *id, *machine_id, *key, *device, *model, *partition_table;
    int64_t number; /* in the machine's log; -1: never protected */
    uint64_t size_bytes, logical_sector_bytes, physical_sector_bytes;
    int64_t previous_size_bytes; /* before its last change; -1: it has never changed */
    uint64_t resized_at;
    bool trackable;
    const char *not_trackable_reason;
    bool volatile_cache, is_root;
    bool present;             /* in the last inventory */
    bool is_protected;        /* wanted in the desired state */
    const char *volumes_json; /* array of objects, see InventoryVolume */
    uint64_t version, created_at, updated_at;
};
extern const struct db_entity db_disks;

struct node_row {
    const char *id, *name, *site_id, *site_name, *endpoint, *software, *host;
    bool online, simulated, drain;
    const char *health, *cause_code, *cause, *remedy, *cause_values_json;
    uint64_t last_seen_at;
    uint64_t spool_bytes, spool_limit_bytes, streams, received_bytes, forwarded_bytes, cpu_permille;
    uint64_t throttle_bytes_per_sec, machine_throttle_bytes_per_sec, work_hours_throttle_bytes_per_sec;
    const char *work_hours, *work_hours_time_zone;
    int64_t clock_skew_usec;
    uint64_t machine_count, desired_version;
    uint64_t version, created_at, updated_at;
};
extern const struct db_entity db_nodes;

struct vault_row {
    const char *id, *name, *site_id, *site_name, *endpoint, *software, *host;
    bool online, simulated, accepting;
    const char *health, *cause_code, *cause, *remedy, *cause_values_json;
    uint64_t last_seen_at;
    uint64_t used_bytes, free_bytes, capacity_bytes, streams;
    uint64_t throttle_bytes_per_sec, machine_throttle_bytes_per_sec, work_hours_throttle_bytes_per_sec; /* of copies */
    const char *work_hours, *work_hours_time_zone;
    int64_t clock_skew_usec;
    uint64_t machine_count, desired_version;
    uint64_t version, created_at, updated_at;
};
extern const struct db_entity db_vaults;

/* Key: "MACHINE-UUID:SEQUENCE"; list them with a filter on machine_id. */
struct point_row {
    const char *key, *machine_id, *kind, *tag, *group_point_id, *vault_id;
    uint64_t sequence, time, generation, changed_bytes, unreadable_blocks, committed_at;
    bool frozen;
};
extern const struct db_entity db_points;

/* Of a machine's points, in another vault. Key: "MACHINE-UUID:VAULT-UUID". */
struct copy_row {
    const char *key, *machine_id, *machine_name, *vault_id, *vault_name, *source_vault_id, *source_vault_name;
    const char *state; /* "initial": has no point yet; "following", "failing", "ending" */
    const char *cause, *remedy, *created_by;
    uint64_t source_sequence, sequence, point_time, point_count;
    uint64_t behind_usec; /* how much older that point is than the machine's newest */
    uint64_t taken_bytes, traffic_bytes, progress_permille, created_at, updated_at;
};
extern const struct db_entity db_copies;

/* Key: "MACHINE-UUID:VAULT-UUID:SEQUENCE". */
struct copy_point_row {
    const char *key, *copy_key, *machine_id, *vault_id, *kind, *tag;
    uint64_t sequence, time, generation, changed_bytes, committed_at;
};
extern const struct db_entity db_copy_points;

/* Key: "MACHINE-UUID:DISK:MINUTE". */
struct disk_minute_row {
    const char *key, *machine_id;
    uint64_t disk, minute; /* number in the machine's log */
    uint64_t changed_bytes, incompressible_bytes, turned_bytes, entropy_millibits;
};
extern const struct db_entity db_disk_minutes;

struct group_row {
    const char *id, *name, *description,
        *members_json;                             /* [{"machine_id", "machine_name", "online", "state", "address"}] */
    const char *coordinator_id, *coordinator_name; /* the one that the hub names */
    const char *coordinated_by, *coordinated_by_name; /* the one that spoke last */
    /* With a finding (hub/core/health.h) its code, texts and values; else cause and remedy of the last attempt that was missed. */
    const char *health, *cause_code, *cause, *remedy, *cause_values_json;
    const char *culprit_id, *culprit_name, *last_point_id;
    uint64_t number, membership, interval_usec, freeze_budget_usec, member_count;
    uint64_t made, missed, news_at, last_point_at, last_freeze_usec;
    uint64_t version, created_at, updated_at;
};
extern const struct db_entity db_groups;

/* Complete ones only. */
struct group_point_row {
    const char *id, *group_id,
        *points_json; /* [{"machine_id", "machine_name", "sequence", "time", "kind", "frozen"}] */
    uint64_t time, membership, machine_count;
};
extern const struct db_entity db_group_points;

struct export_row {
    const char *id, *machine_id, *machine_name, *vault_id;
    uint64_t sequence, point_time;
    bool writable;
    const char *state; /* "opening", "open", "closing", "kept" (a branch), "closed", "failed", "promoted" */
    const char *uri;
    const char *disks_json; /* [{"number":0,"name":"vda","size_bytes":"...","uri":"nbd+unix:..."}] */
    const char *job_id, *created_by;
    uint64_t version, created_at, updated_at;
};
extern const struct db_entity db_exports;

/* An export that is writable, as long as there is something of it; ERR_NOT_FOUND afterwards. */
struct branch_row {
    const char *id, *name, *machine_id, *machine_name, *vault_id;
    uint64_t sequence, point_time;
    const char *state; /* "opening", "open", "closing", "kept" */
    const char *uri, *disks_json;
    uint64_t stored_bytes;
    const char *job_id, *created_by;
    uint64_t version, created_at, updated_at;
};
extern const struct db_entity db_branches;

/* What replicas of a machine, or of a site's machines, get at a target (hub/jobs/replica_mapping.h); version and updated_at are the mapping's. */
struct machine_mapping_row {
    const char *machine_id, *machine_name, *mapping_json;
    const char *site_id, *site_name, *site_mapping_json; /* of the machine's site; "", "" and {} */
    const char *nics_json, *addresses_json;              /* of its inventory */
    uint64_t version, updated_at;
};
extern const struct db_entity db_machine_mappings;

struct site_mapping_row {
    const char *site_id, *site_name, *mapping_json;
    uint64_t version, updated_at;
};
extern const struct db_entity db_site_mappings;

/* Where replicas can run. */
struct target_row {
    const char *id, *name, *description, *adapter; /* "disk", "command", "libvirt" */
    const char *config_json;
    uint64_t version, created_at, updated_at;
};
extern const struct db_entity db_targets;

struct failover_row {
    const char *id, *machine_id, *machine_name, *vault_id, *target_id, *target_name, *adapter, *target_config_json;
    const char *kind, *state; /* hub/core/failover_state.h */
    const char *export_id, *options_json, *fixups_json, *replica_json, *failback_json, *verdict, *verdict_text,
        *outcome, *notes;
    const char *job_id, *requested_by;
    uint64_t sequence, point_time, requested_at, running_at, ended_at;
    uint64_t rto_usec; /* from the request until it ran; 0: not yet */
    uint64_t loss_usec;
    uint64_t version, created_at, updated_at;
};
extern const struct db_entity db_failovers;

struct plan_row {
    const char *id, *name, *description;
    const char *document_json; /* hub/jobs/plan_document.h */
    const char *last_run_id, *last_run_state;
    uint64_t last_run_at, version, created_at, updated_at;
};
extern const struct db_entity db_plans;

struct plan_run_row {
    const char *id, *plan_id, *plan_name, *drill_id;
    const char *kind;  /* as failovers.kind, or "failback" */
    const char *state; /* "running", "succeeded", "failed", "cancelled" */
    const char *document_json, *point, *options_json;
    bool cleanup;
    const char *verdict, *verdict_text, *job_id, *requested_by;
    uint64_t predicted_usec, step_count, done_count, waiting_count, replica_count; /* replicas that run */
    uint64_t rto_usec; /* until its last step was over; 0: not yet */
    uint64_t requested_at, recovered_at, ended_at, version, created_at, updated_at;
};
extern const struct db_entity db_plan_runs;

/* Key: "RUN-UUID:ORDINAL"; list them with a filter on run_id. The last ones are of the failover. */
struct plan_run_step_row {
    const char *key, *run_id, *name, *group_name, *type, *state; /* hub/core/plan_graph.h */
    const char *machine_id, *machine_name, *target_id, *target_name, *job_id, *failover_id, *detail;
    uint64_t ordinal, sequence, attempts, predicted_usec, started_at, finished_at, attempt_at;
    bool predicted_known, timed_out, live;
    const char *failover_state, *verdict, *verdict_text, *question;
    uint64_t point_sequence, point_time, running_at, rto_usec,
        loss_usec; /* both from the run's request on; 0: not yet */
};
extern const struct db_entity db_plan_run_steps;

/* A drill on a schedule: of a plan or of a policy. */
struct drill_row {
    const char *id, *name, *plan_id, *plan_name, *policy_id, *policy_name, *target_id, *target_name;
    const char *window, *time_zone, *options_json, *last_run_id, *last_run_state, *last_run_verdict, *last_problem;
    bool enabled;
    uint64_t interval_usec, overdue_after_usec, machine_count, overdue_count;
    uint64_t last_started_at, version, created_at, updated_at;
};
extern const struct db_entity db_drills;

/* Key: the machine's id. Machines that some schedule has. */
struct drill_machine_row {
    const char *machine_id, *machine_name;
    bool overdue;
    uint64_t last_good_at, overdue_at; /* 0: never; when it is or will be overdue */
    uint64_t last_at;
    const char *last_verdict, *last_failover_id;
};
extern const struct db_entity db_drill_machines;

struct job_row {
    const char *id, *kind, *status; /* "queued","running","waiting_for_input","succeeded","failed","cancelled" */
    const char *machine_id, *machine_name, *vault_id;
    const char *params_json, *result_json;
    const char *problem_code, *problem_text, *problem_correction; /* "" unless failed */
    const char *waiting_for;                                      /* the question, while waiting_for_input */
    const char *requested_by;
    uint64_t progress_permille;
    bool may_cancel, cancel_requested;
    uint64_t version, created_at, started_at, finished_at, updated_at;
};
extern const struct db_entity db_jobs;

struct job_step_row {
    const char *key, *job_id, *name, *title, *status, *detail, *problem_text;
    uint64_t ordinal, progress_permille, attempts, started_at, finished_at;
};
extern const struct db_entity db_job_steps;

struct job_log_row {
    uint64_t seq;
    const char *job_id, *level, *text;
    uint64_t at;
};
extern const struct db_entity db_job_log;

/* Pending ones are not among them. */
struct alert_row {
    const char *id, *code, *severity, *state; /* "firing", "acknowledged", "resolved" */
    const char *subject_kind, *subject_id, *subject_name, *detail;
    const char *machine_id, *node_id, *vault_id, *group_id;
    const char *cause, *remedy, *values_json, *acknowledged_by, *note;
    uint64_t since, raised_at, acknowledged_at, resolved_at;
    uint64_t version, updated_at;
};
extern const struct db_entity db_alerts;

/* What waits, or waited, for a second person; state "expired" is a pending one that is too old. */
struct approval_row {
    const char *id, *kind, *summary, *machine_id, *machine_name;
    const char *method, *path, *query_json, *body_json;
    const char *requested_by, *user_id, *state, *decided_by, *note, *job_id;
    uint64_t if_version, created_at, expires_at, decided_at, version;
};
extern const struct db_entity db_approvals;

struct channel_row {
    const char *id, *name, *kind; /* "webhook", "smtp" */
    bool enabled, send_resolved, weekly_report, has_secret;
    const char *min_severity, *url, *server, *security, *username, *from_address, *to_json, *ca_certificate;
    uint64_t port, group_usec;
    const char *last_error;
    uint64_t last_delivered_at, last_failed_at, version, created_at, updated_at;
};
extern const struct db_entity db_alert_channels;

struct delivery_row {
    const char *id, *channel_id, *kind, *state, *last_error; /* "queued", "delivered", "failed" */
    uint64_t change_count, attempts, next_at, created_at, finished_at;
};
extern const struct db_entity db_alert_deliveries;

struct event_row {
    uint64_t seq; /* durable, grows in commit order: SSE resumes after it */
    uint64_t at;
    const char *severity, *code, *text, *remedy, *values_json;
    const char *machine_id, *machine_name, *node_id, *vault_id, *job_id, *actor;
};
extern const struct db_entity db_events;

struct sample_row {
    const char *key, *machine_id;
    uint64_t minute; /* its start */
    uint64_t rpo_max_usec, rpo_avg_usec, changed_bytes, sent_bytes, points, frozen_points, backlog_bytes;
};
extern const struct db_entity db_samples;

struct user_row {
    const char *id, *name, *display_name, *role, *oidc_issuer, *oidc_subject;
    bool disabled, must_change_password, has_password;
    uint64_t last_login_at, password_changed_at, session_count; /* alive ones */
    uint64_t version, created_at, updated_at;
};
extern const struct db_entity db_users;

struct session_row {
    const char *id, *user_id, *user_name, *user_display_name, *role, *method, *address, *user_agent;
    bool must_change_password;
    uint64_t last_seen_at, expires_at, ends_at, revoked_at, created_at; /* ends_at: when nobody uses it from now on */
};
extern const struct db_entity db_sessions;

struct api_token_row {
    const char *id, *name, *scopes_json, *role, *created_by;
    const char *user_id, *user_name, *user_role; /* "" for a token without an owner */
    uint64_t expires_at, last_used_at, revoked_at;
    uint64_t version, created_at;
};
extern const struct db_entity db_api_tokens;

struct enrolment_token_row {
    const char *id, *role, *name, *site_id, *created_by, *used_by;
    uint64_t expires_at, used_at, revoked_at;
    uint64_t version, created_at;
};
extern const struct db_entity db_enrolment_tokens;

struct certificate_row {
    const char *serial, *role, *subject_id, *subject_name, *fingerprint_sha256, *revoke_reason;
    uint64_t not_before, not_after, revoked_at, created_at;
};
extern const struct db_entity db_certificates;

struct audit_row {
    uint64_t seq, at;
    const char *actor, *action, *object_kind, *object_id, *outcome, *detail_json, *address, *request_id, *hash;
};
extern const struct db_entity db_audit_log;

#endif
