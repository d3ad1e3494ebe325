/* SPDX-License-Identifier: Apache-2.0
 *
 * Fix-ups of a replica's disks: a step of the jobs that start one, between the branch and the start; and a job that only lists what they would change. The
 * point is never touched: the step writes to the branch, the preview reads the point and writes to a copy that is thrown away.
 */
#include <stdio.h>

#include "hub/db/failover_store.h"
#include "hub/fixup/fixup_spec.h"
#include "hub/jobs/branch_steps.h"
#include "hub/jobs/failover_steps.h"
#include "hub/jobs/point_steps.h"
#include "hub/jobs/replica_mapping.h"
#include "transport/base/mem.h"

static size_t count_of(const json_t *report, const char *what)
{
    return json_array_size(json_object_get(report, what));
}

/* What was changed is kept with the failover and told. */
static int note(struct job_run *run, const struct failover_row *f, const json_t *report, struct err *err)
{
    AUTO_FREE char *kept = json_dumps(report, JSON_COMPACT);
    const char *unbootable = json_string_value(json_object_get(report, "unbootable"));
    bool failed = json_object_get(report, "failed") != NULL || unbootable;
    const char *problem = unbootable ? unbootable
                          : failed   ? job_param_text(json_object_get(report, "failed"), "text")
                                     : "";

    if (!kept)
        return err_set(err, ERR_NOMEM, "no memory for a replica's fix-ups");
    snprintf(run->detail, sizeof(run->detail), "%zu changes, %zu warnings%s", count_of(report, "changes"),
        count_of(report, "warnings"), failed ? "; it may not boot" : "");
    if (failover_note_fixups(run->conn, f->id, kept, err) < 0)
        return -1;
    return failover_tell(run, "failover_fixups",
        failed                         ? "error"
        : count_of(report, "warnings") ? "warning"
                                       : "info",
        TEXT_VALUES(VALUE_TEXT("form", failed ? "doubtful" : "done"), VALUE_TEXT("machine", f->machine_name),
            VALUE_NUMBER("changes", (int64_t)count_of(report, "changes")),
            VALUE_NUMBER("warnings", (int64_t)count_of(report, "warnings")), VALUE_TEXT("problem", problem)),
        err);
}

/* The report of fix-ups that came to nothing, where the replica is started all the same: better one that may boot than none. Takes the error. */
static int report_failure(struct err *why, json_t **ret_report)
{
    static const char saying[] = "The fix-ups failed, and the replica is started as its disks are: ";
    AUTO_FREE char *warning = mem_printf("%s%s", saying, why->text);

    *ret_report =
        warning ? json_pack("{s:[], s:[s], s:b, s:{s:s, s:s, s:s}}", "changes", "warnings", warning, "applied", 0,
                      "failed", "code", err_code_name(why->code), "text", why->text, "correction", why->correction)
                : NULL;
    if (!*ret_report)
        return err_set(why, ERR_NOMEM, "no memory for a replica's fix-ups");
    err_clear(why);
    return JOB_DONE;
}

/* How bad it is what they could not do: -1 ends the failover. */
static int judge(struct job_run *run, bool may_fail, int rc, json_t **report, struct err *err)
{
    const char *unbootable = json_string_value(json_object_get(*report, "unbootable"));

    if (rc < 0 && may_fail && err->code != ERR_CANCELLED && err->code != ERR_NOMEM) {
        run->final = false;
        return report_failure(err, report);
    }
    if (rc != JOB_DONE || !unbootable || may_fail)
        return rc;
    run->final = true;
    err_set(err, ERR_REFUSED, "the replica would not boot: %.300s", unbootable);
    return err_hint(err, "Mend the source's system; or go on all the same: --fixups-failure continue");
}

int fixup_steps_apply(struct job_run *run, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    const json_t *disks = json_object_get(run->result, "disks"), *fixups;
    const struct failover_row *f;
    json_t *report = NULL, *options;
    bool wanted, may_fail;
    int rc;

    if (failover_read(run, &set, &f, err) < 0)
        return -1;
    options = json_loads(f->options_json, JSON_REJECT_DUPLICATES, NULL);
    fixups = json_object_get(options, "fixups");
    wanted = fixups != NULL;
    /* A committed replica that is to run again has no source to go back to. */
    may_fail = strcmp(run->job->kind, "failover_resume") == 0 ||
               fixup_may_fail(fixups, strcmp(f->kind, failover_kind_name(FAILOVER_PLANNED)) == 0);
    json_decref(options);
    if (!wanted) {
        snprintf(run->detail, sizeof(run->detail), "none were asked for");
        return JOB_DONE;
    }
    rc = replica_ask(run, f, FABRIC_FIXUP, disks, false, &report, err);
    rc = judge(run, may_fail, rc, &report, err);
    if (rc == JOB_DONE && note(run, f, report, err) < 0)
        rc = -1;
    json_decref(report);
    return rc;
}

/* ---- the way back ---- */

/* Whether something was changed that a failback would take to the original machine. */
static bool is_changed(const json_t *fixups)
{
    return json_is_true(json_object_get(fixups, "applied")) && json_array_size(json_object_get(fixups, "changes")) > 0;
}

/* 1: there is something to take back, *ret_row is the failover and *ret_fixups a new reference; 0: not, and the detail says why. */
static int find_fixups(
    struct job_run *run, struct db_set *set, const struct failover_row **ret_row, json_t **ret_fixups, struct err *err)
{
    json_t *fixups;

    if (failover_read(run, set, ret_row, err) < 0)
        return -1;
    fixups = json_loads((*ret_row)->fixups_json, JSON_REJECT_DUPLICATES, NULL);
    if (!is_changed(fixups))
        snprintf(run->detail, sizeof(run->detail), "none were made");
    else if (json_is_true(json_object_get(run->params, "keep_fixups")))
        snprintf(run->detail, sizeof(run->detail), "they are kept, as was asked for");
    else
        *ret_fixups = json_incref(fixups);
    json_decref(fixups);
    return *ret_fixups != NULL;
}

int fixup_steps_try_host(struct job_run *run, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    const struct failover_row *f;
    json_t *fixups = NULL;
    int rc = find_fixups(run, &set, &f, &fixups, err);

    json_decref(fixups);
    if (rc <= 0)
        return rc < 0 ? -1 : JOB_DONE;
    rc = replica_ask(run, f, FABRIC_TRY, NULL, false, NULL, err);
    return rc < 0 ? err_hint(err, "%.150s To fail back with them: --keep-fixups", err->correction) : rc;
}

static int note_taken_back(
    struct job_run *run, const struct failover_row *f, json_t *fixups, json_t *report, struct err *err)
{
    AUTO_FREE char *kept = NULL;

    if (json_object_set(fixups, "taken_back", report) < 0 || !(kept = json_dumps(fixups, JSON_COMPACT)))
        return err_set(err, ERR_NOMEM, "no memory for a replica's fix-ups");
    snprintf(run->detail, sizeof(run->detail), "%zu files, %zu warnings", count_of(report, "changes"),
        count_of(report, "warnings"));
    if (failover_note_fixups(run->conn, f->id, kept, err) < 0)
        return -1;
    return failover_tell(run, "fixups_taken_back", count_of(report, "warnings") ? "warning" : "info",
        TEXT_VALUES(VALUE_TEXT("machine", f->machine_name),
            VALUE_NUMBER("changes", (int64_t)count_of(report, "changes")),
            VALUE_NUMBER("warnings", (int64_t)count_of(report, "warnings"))),
        err);
}

/* While the replica stands still and its branch is open: so the last point is without them. */
int fixup_steps_take_back(struct job_run *run, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    AUTO_DB_SET struct db_set branch = {0};
    const struct failover_row *f;
    json_t *fixups = NULL, *report = NULL, *disks = NULL;
    int rc = find_fixups(run, &set, &f, &fixups, err);

    if (rc <= 0)
        return rc < 0 ? -1 : JOB_DONE;
    if (db_need(run->conn, &db_exports, f->export_id, &branch, err) < 0) {
        json_decref(fixups);
        return -1;
    }
    disks = json_loads(db_at(&branch, struct export_row, 0)->disks_json, JSON_REJECT_DUPLICATES, NULL);
    rc = replica_ask(run, f, FABRIC_TAKE_BACK, disks, false, &report, err);
    if (rc < 0)
        err_hint(err, "%.150s To fail back with the fix-ups in place: --keep-fixups", err->correction);
    if (rc == JOB_DONE && note_taken_back(run, f, fixups, report, err) < 0)
        rc = -1;
    json_decref(disks);
    json_decref(report);
    json_decref(fixups);
    return rc;
}

/* ---- failover_preview ---- */

static int preview_check(struct db_conn *conn, const struct machine_row *machine, json_t *params,
    char ret_vault_id[IDENT_TEXT_SIZE], struct err *err)
{
    static const char *const known[] = {"failover", "target_id", "sequence", "options", NULL};
    const char *kind = job_param_text(params, "failover");
    AUTO_DB_SET struct db_set set = {0};
    uint64_t sequence;

    if (*kind && failover_kind_from_name(kind) < 0)
        return err_set(err, ERR_INVALID, "failover: none of test, planned, unplanned");
    if (job_params_known(params, known, err) < 0 || job_param_u64(params, "sequence", &sequence, err) < 0 ||
        replica_options_check(json_object_get(params, "options"), err) < 0 ||
        db_need(conn, &db_targets, job_param_text(params, "target_id"), &set, err) < 0 ||
        point_steps_sequence(conn, machine, params, err) < 0 ||
        replica_mapping_resolve(conn, machine->id, strcmp(kind, failover_kind_name(FAILOVER_TEST)) == 0, params, err) <
            0)
        return -1;
    if (!json_object_get(json_object_get(params, "options"), "fixups")) {
        err_set(err, ERR_INVALID, "options.fixups: missing");
        return err_hint(
            err, "A preview lists what fix-ups would change: {\"fixups\": {}} for what every replica needs.");
    }
    if (sequence == 0) {
        err_set(err, ERR_REFUSED, "the machine %s has no recovery point", machine->name);
        return err_hint(err, "Wait for its first one: leeward point list %s", machine->name);
    }
    return point_steps_vault(conn, machine->id, ret_vault_id, err);
}

/* The failover that it would be; there is no row of it. */
static int preview_ask(
    struct job_run *run, enum fabric_verb verb, const json_t *disks, json_t **ret_answer, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    AUTO_FREE char *options = json_dumps(json_object_get(run->params, "options"), JSON_COMPACT);
    uint64_t sequence;

    if (!options)
        return err_set(err, ERR_NOMEM, "no memory for a replica's fix-ups");
    if (db_need(run->conn, &db_targets, job_param_text(run->params, "target_id"), &set, err) < 0 ||
        job_param_u64(run->params, "sequence", &sequence, err) < 0)
        return -1;
    const struct target_row *t = db_at(&set, struct target_row, 0);
    const struct failover_row f = {.id = run->job->id,
        .machine_id = run->job->machine_id,
        .kind = failover_kind_name(FAILOVER_TEST),
        .target_name = t->name,
        .adapter = t->adapter,
        .target_config_json = t->config_json,
        .options_json = options,
        .replica_json = "{}",
        .sequence = sequence};

    return replica_ask(run, &f, verb, disks, false, ret_answer, err);
}

static int preview_first(struct job_run *run, struct err *err)
{
    return preview_ask(run, FABRIC_CHECK, NULL, NULL, err);
}

int fixup_steps_rehearse_open(struct job_run *run, struct err *err)
{
    struct branch_opening opening = {.name = "", .socket = "", .writable = false};

    if (job_param_u64(run->params, "sequence", &opening.sequence, err) < 0)
        return -1;
    return branch_steps_open(run, &opening, err);
}

/* Before the source of a planned failover is stopped: what its disks hold can be prepared, and the machine that does it reaches them. */
bool fixup_steps_rehearsal_wanted(const json_t *params)
{
    return strcmp(job_param_text(params, "failover"), failover_kind_name(FAILOVER_PLANNED)) == 0 &&
           json_object_get(json_object_get(params, "options"), "fixups") != NULL;
}

int fixup_steps_rehearse(struct job_run *run, struct err *err)
{
    const json_t *fixups = json_object_get(json_object_get(run->params, "options"), "fixups");
    json_t *report = NULL;
    int rc = preview_ask(run, FABRIC_PREVIEW, json_object_get(run->result, "disks"), &report, err);

    if (rc < 0 && fixup_may_fail(fixups, true) && err->code != ERR_CANCELLED) {
        run->final = false;
        snprintf(run->detail, sizeof(run->detail), "they will fail: %.200s", err->text);
        err_clear(err);
        rc = JOB_DONE;
    } else if (rc == JOB_DONE) {
        snprintf(run->detail, sizeof(run->detail), "%zu changes, %zu warnings", count_of(report, "changes"),
            count_of(report, "warnings"));
    }
    json_decref(report);
    return rc;
}

static int preview_list(struct job_run *run, struct err *err)
{
    json_t *report = NULL;
    int rc = preview_ask(run, FABRIC_PREVIEW, json_object_get(run->result, "disks"), &report, err);

    if (rc == JOB_DONE && json_object_set(run->result, "fixups", report) < 0)
        rc = err_set(err, ERR_NOMEM, "no memory for a replica's fix-ups");
    json_decref(report);
    return rc;
}

int fixup_steps_rehearse_close(struct job_run *run, struct err *err)
{
    int rc = branch_steps_close(run, job_state_text(run, "export_id"), true, err);

    /* What the job opens after this is another one. */
    if (rc == JOB_DONE)
        (void)json_object_del(run->state, "export_id");
    return rc;
}

static int preview_undo(struct job_run *run, struct err *err)
{
    fabric_task_cancel(run->job->id);
    return branch_steps_undo_open(run, err);
}

const struct job_kind job_kind_failover_preview = {.name = "failover_preview",
    .needs_machine = true,
    .may_cancel = true,
    .check = preview_check,
    .cancel = preview_undo,
    .undo_on_failure = true,
    .steps = {{"check", "Ask the target whether it can take the replica", preview_first, NULL},
        {"open", "Open the point", fixup_steps_rehearse_open, NULL},
        {"list", "List what fix-ups would change", preview_list, NULL},
        {"close", "Close the point", fixup_steps_rehearse_close, NULL}}};
