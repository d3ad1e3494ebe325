/* SPDX-License-Identifier: Apache-2.0
 *
 * First everything is looked up and asked (would the failover be accepted?), then the forecast is made, then the rows are written. A machine belongs to one
 * run at a time by an index of the database, so two runs that begin at the same moment cannot both have it.
 */
#include "hub/jobs/plan_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hub/jobs/job.h"
#include "hub/jobs/job_kind.h"
#include "transport/base/clock.h"
#include "transport/base/mem.h"

#define PAST_MAX 5u
/* What a replica is thought to take where nothing is known of any. */
#define MACHINE_GUESS_USEC (60 * USEC_PER_SEC)
#define ACTION_GUESS_USEC (5 * USEC_PER_SEC)

/* What is known of each step before the run. */
struct prospect {
    char machine_id[IDENT_TEXT_SIZE], target_id[IDENT_TEXT_SIZE];
    char target_name[256];
    uint64_t sequence, loss_usec, takes_usec;
    bool known, skipped;
};

struct draft {
    const struct plan_run_spec *spec;
    struct plan *plan;
    char plan_id[IDENT_TEXT_SIZE], plan_name[256];
    char *document_json;
    int kind;
    struct prospect steps[PLAN_STEPS_MAX];
    struct plan_forecast forecast[PLAN_STEPS_MAX];
    uint64_t whole_usec;
};

static void draft_free(struct draft **draft)
{
    if (!*draft)
        return;
    plan_free((*draft)->plan);
    free((*draft)->document_json);
    free(*draft);
}
#define AUTO_DRAFT __attribute__((cleanup(draft_free)))

bool plan_kind_has_point(const char *kind)
{
    return strcmp(kind, "test") == 0 || strcmp(kind, "unplanned") == 0;
}

/* ---- names ---- */

static const char *target_of(const struct plan *plan, const struct plan_step *step)
{
    const char *own = plan_step_text(step, "target");

    return own[0] ? own : plan->target[0] ? plan->target : "disks";
}

static int find_target(struct db_conn *conn, const char *name, struct prospect *ret, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};

    if (db_need(conn, &db_targets, name, &set, err) < 0)
        return -1;
    (void)snprintf(ret->target_id, sizeof(ret->target_id), "%s", db_at(&set, struct target_row, 0)->id);
    (void)snprintf(ret->target_name, sizeof(ret->target_name), "%s", db_at(&set, struct target_row, 0)->name);
    return 0;
}

static int find_machine(struct db_conn *conn, const struct plan_step *step, struct prospect *ret, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};

    if (db_need(conn, &db_machines, plan_step_text(step, "machine"), &set, err) < 0)
        return -1;
    (void)snprintf(ret->machine_id, sizeof(ret->machine_id), "%s", db_at(&set, struct machine_row, 0)->id);
    return 0;
}

int plan_check_names(struct db_conn *conn, const struct plan *plan, struct err *err)
{
    struct prospect found;

    if (plan->target[0] && find_target(conn, plan->target, &found, err) < 0)
        return -1;
    for (size_t i = 0; i < plan->graph.count; i++) {
        const struct plan_step *step = &plan->steps[i];

        if (step->type == PLAN_MACHINE &&
            (find_machine(conn, step, &found, err) < 0 || find_target(conn, target_of(plan, step), &found, err) < 0))
            return err_wrap(err, "step %.60s", step->name);
    }
    return 0;
}

/* ---- one machine ---- */

/* A test is alone in its network: that of production is never its own. */
static json_t *replica_options(const struct plan_step *step, const char *kind, const json_t *over)
{
    const json_t *own = json_object_get(step->json, "options");
    bool test = strcmp(kind, "test") == 0;
    json_t *options = own ? json_deep_copy(own) : json_object();
    json_t *network = json_object_get(over, "network");

    if (!options)
        return NULL;
    if (!network)
        network = json_object_get(own, test ? "test_network" : "network");
    json_object_del(options, "network");
    json_object_del(options, "test_network");
    if (network)
        json_object_set(options, "network", network);
    if (json_object_get(over, "boot_check"))
        json_object_set(options, "boot_check", json_object_get(over, "boot_check"));
    return options;
}

json_t *plan_failover_params(
    const struct plan_step *step, const char *kind, const char *target_id, uint64_t sequence, const json_t *options)
{
    json_t *params = json_pack(
        "{s:s, s:s, s:o*}", "failover", kind, "target_id", target_id, "options", replica_options(step, kind, options));

    if (params && sequence > 0 &&
        json_object_set_new(params, "sequence", json_sprintf("%llu", (unsigned long long)sequence)) < 0) {
        json_decref(params);
        return NULL;
    }
    return params;
}

const char *plan_failover_job(const char *kind)
{
    return strcmp(kind, "failback") == 0 ? "failover_failback" : "failover";
}

/* Whoever starts the run of a plan has typed the plan's name; the job wants that of the machine whose disks are overwritten. */
json_t *plan_failback_params(struct db_conn *conn, const char *machine_id, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    char failover_id[IDENT_TEXT_SIZE];
    json_t *params;
    int found;

    if (db_need(conn, &db_machines, machine_id, &set, err) < 0)
        return NULL;
    const char *name = db_at(&set, struct machine_row, 0)->name;

    found = plan_reprotected(conn, machine_id, failover_id, err);
    if (found == 0) {
        err_set(err, ERR_REFUSED, "the machine %s has no replica that is protected", name);
        err_hint(err, "A failback goes from there: commit its failover, then leeward reprotect %s", name);
    }
    if (found <= 0)
        return NULL;
    params = json_pack("{s:s, s:s}", "failover_id", failover_id, "confirm", name);
    if (!params)
        err_set(err, ERR_NOMEM, "no memory for a failback");
    return params;
}

/* The failover itself says whether it would begin. */
static int ask_failover(struct db_conn *conn, const struct draft *d, const struct plan_step *step,
    const struct prospect *p, struct err *err)
{
    bool back = strcmp(d->spec->kind, "failback") == 0;
    json_t *params = back ? plan_failback_params(conn, p->machine_id, err)
                          : plan_failover_params(step, d->spec->kind, p->target_id, p->sequence, d->spec->options);
    AUTO_FREE char *text = params ? json_dumps(params, JSON_COMPACT) : NULL;
    const struct job_spec job = {.kind = plan_failover_job(d->spec->kind),
        .machine_id = p->machine_id,
        .params_json = text,
        .requested_by = d->spec->requested_by};
    char none[IDENT_TEXT_SIZE];

    json_decref(params);
    if (!text)
        return back ? -1 : err_set(err, ERR_NOMEM, "no memory for a failover");
    return job_submit(conn, &job, true, none, err);
}

static int choose_point(
    struct db_conn *conn, const struct draft *d, const struct plan_step *step, struct prospect *p, struct err *err)
{
    uint64_t sequence;

    if (strcmp(d->spec->kind, "failback") == 0)
        return 0;
    if (plan_point(conn, p->machine_id, plan_kind_has_point(d->spec->kind) ? d->spec->point : "latest", &sequence,
            &p->loss_usec, err) < 0)
        return -1;
    p->sequence = sequence;
    if (sequence > 0)
        return 0;
    err_set(err, ERR_REFUSED, "the machine %s has no recovery point%s", plan_step_text(step, "machine"),
        strcmp(d->spec->point, "latest") == 0 ? "" : " of that sort or time");
    return err_hint(err, "List its points: leeward point list %s", plan_step_text(step, "machine"));
}

static int check_free(struct db_conn *conn, const char *machine_id, const char *machine, struct err *err)
{
    const struct db_filter filters[] = {{"machine_id", DB_EQ, machine_id}, {"live", DB_EQ, "true"}};
    const struct db_page page = {.filters = filters, .filter_count = ARRAY_LEN(filters), .limit = 1};
    AUTO_DB_SET struct db_set set = {0};

    if (db_list(conn, &db_plan_run_steps, &page, &set, err) < 0)
        return -1;
    if (set.count == 0)
        return 0;
    err_set(err, ERR_REFUSED, "the machine %s is in another run that goes on: %s", machine,
        db_at(&set, struct plan_run_step_row, 0)->run_id);
    return err_hint(err, "Wait for that run or cancel it: leeward plan runs");
}

static int look_at_machine(
    struct db_conn *conn, const struct draft *d, const struct plan_step *step, struct prospect *p, struct err *err)
{
    if (find_machine(conn, step, p, err) < 0 ||
        find_target(conn, d->spec->target ? d->spec->target : target_of(d->plan, step), p, err) < 0 ||
        check_free(conn, p->machine_id, plan_step_text(step, "machine"), err) < 0 ||
        choose_point(conn, d, step, p, err) < 0)
        return -1;
    return ask_failover(conn, d, step, p, err);
}

static int look_back(
    struct db_conn *conn, const struct draft *d, const struct plan_step *step, struct prospect *p, struct err *err)
{
    uint64_t past[PAST_MAX];
    int n = plan_past(conn, d->plan_id, step->name, p->machine_id, d->spec->kind, past, PAST_MAX, err);

    if (n < 0)
        return -1;
    p->known = n > 0;
    p->takes_usec = n > 0                        ? plan_median_usec(past, (size_t)n)
                    : step->type == PLAN_MACHINE ? MACHINE_GUESS_USEC
                    : step->type == PLAN_GATE    ? 0
                                                 : ACTION_GUESS_USEC;
    return 0;
}

/* ---- the draft ---- */

static int read_plan(struct db_conn *conn, struct draft *d, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    const char *text = d->spec->document_json, *name = d->spec->plan_name;

    if (d->spec->plan) {
        if (db_need(conn, &db_plans, d->spec->plan, &set, err) < 0)
            return -1;
        const struct plan_row *row = db_at(&set, struct plan_row, 0);

        text = row->document_json;
        name = row->name;
        (void)snprintf(d->plan_id, sizeof(d->plan_id), "%s", row->id);
    }
    (void)snprintf(d->plan_name, sizeof(d->plan_name), "%s", name);
    d->document_json = mem_strdup(text);
    if (!d->document_json)
        return err_set(err, ERR_NOMEM, "no memory for a plan");
    return plan_read_text(text, &d->plan, err);
}

static int check_spec(struct draft *d, struct err *err)
{
    d->kind = plan_kind_from_name(d->spec->kind);
    if (d->kind < 0) {
        err_set(err, ERR_INVALID, "kind: unknown kind of run");
        return err_hint(err, "test, planned, unplanned or failback.");
    }
    if (d->spec->cleanup && strcmp(d->spec->kind, "test") != 0) {
        err_set(err, ERR_INVALID, "cleanup: only a test is cleaned up");
        return err_hint(err, "Leave it out; commit or roll back afterwards.");
    }
    return 0;
}

static int look_at_steps(struct db_conn *conn, struct draft *d, struct err *err)
{
    uint64_t takes[PLAN_STEPS_MAX];
    size_t wanted = 0;

    for (size_t i = 0; i < d->plan->graph.count; i++) {
        const struct plan_step *step = &d->plan->steps[i];
        struct prospect *p = &d->steps[i];

        takes[i] = 0;
        p->skipped = !plan_step_is_for(step, d->kind);
        if (p->skipped)
            continue;
        wanted++;
        if ((step->type == PLAN_MACHINE && look_at_machine(conn, d, step, p, err) < 0) ||
            look_back(conn, d, step, p, err) < 0)
            return err_wrap(err, "step %.60s", step->name);
        takes[i] = p->takes_usec;
    }
    if (wanted == 0) {
        err_set(err, ERR_REFUSED, "no step of the plan is for a run of kind %s", d->spec->kind);
        return err_hint(err, "See `only` of its steps.");
    }
    d->whole_usec = plan_graph_predict(&d->plan->graph, takes, d->plan->parallel_max, d->forecast);
    return 0;
}

/* ---- the forecast ---- */

static double seconds(uint64_t usec)
{
    return (double)usec / (double)USEC_PER_SEC;
}

static json_t *names_before(const struct plan_graph *g, size_t step)
{
    json_t *list = json_array();

    for (size_t p = 0; list && p < g->count; p++)
        if (plan_graph_waits(g, step, p))
            json_array_append_new(list, json_string(g->names[p]));
    return list;
}

static json_t *step_json(const struct draft *d, size_t i)
{
    const struct plan_step *step = &d->plan->steps[i];
    const struct prospect *p = &d->steps[i];
    json_t *json = json_pack("{s:s, s:s, s:s, s:b, s:b, s:f, s:f, s:b, s:o}", "name", step->name, "group", step->group,
        "type", plan_step_type_name(step->type), "skipped", (int)p->skipped, "critical",
        (int)(d->forecast[i].critical && !p->skipped), "begins_seconds", seconds(d->forecast[i].begin_usec),
        "takes_seconds", seconds(p->takes_usec), "known", (int)p->known, "after", names_before(&d->plan->graph, i));

    if (json && step->type == PLAN_MACHINE && !p->skipped) {
        json_object_set_new(json, "machine", json_string(plan_step_text(step, "machine")));
        json_object_set_new(json, "target", json_string(p->target_name));
        json_object_set_new(json, "sequence", json_integer((json_int_t)p->sequence));
        json_object_set_new(json, "data_loss_seconds", json_real(seconds(p->loss_usec)));
    }
    return json;
}

static json_t *forecast_json(const struct draft *d)
{
    json_t *steps = json_array();
    uint64_t loss = 0;
    bool known = true;

    for (size_t i = 0; steps && i < d->plan->graph.count; i++) {
        json_array_append_new(steps, step_json(d, i));
        loss = d->steps[i].loss_usec > loss ? d->steps[i].loss_usec : loss;
        known = known && (d->steps[i].known || d->steps[i].skipped);
    }
    return json_pack("{s:s, s:s, s:f, s:b, s:f, s:o}", "plan_name", d->plan_name, "kind", d->spec->kind,
        "predicted_rto_seconds", seconds(d->whole_usec), "predicted_known", (int)known, "data_loss_seconds",
        seconds(plan_kind_has_point(d->spec->kind) ? loss : 0), "steps", steps);
}

/* ---- the rows ---- */

static int write_steps(struct db_conn *conn, const struct draft *d, const char *run_id, struct err *err)
{
    for (size_t i = 0; i < d->plan->graph.count; i++) {
        const struct plan_step *step = &d->plan->steps[i];
        const struct prospect *p = &d->steps[i];
        const struct plan_run_step_put put = {.ordinal = i,
            .name = step->name,
            .group = step->group,
            .type = plan_step_type_name(step->type),
            .state = p->skipped ? PLAN_STEP_SKIPPED : PLAN_STEP_PENDING,
            .machine_id = p->machine_id,
            .machine_name = step->type == PLAN_MACHINE ? plan_step_text(step, "machine") : "",
            .target_id = p->target_id,
            .sequence = p->sequence,
            .predicted_usec = p->takes_usec,
            .predicted_known = p->known};

        if (plan_run_step_insert(conn, run_id, &put, err) < 0)
            return -1;
    }
    return 0;
}

static int write_rows(struct db_conn *conn, const struct draft *d, char run_id[IDENT_TEXT_SIZE],
    char ret_job_id[IDENT_TEXT_SIZE], struct err *err)
{
    json_t *kept = json_pack("{s:s*, s:O*}", "target", d->spec->target, "options", (json_t *)d->spec->options);
    AUTO_FREE char *options = kept ? json_dumps(kept, JSON_COMPACT) : NULL;
    AUTO_FREE char *params = mem_printf("{\"run_id\":\"%s\"}", run_id);
    const struct plan_run_put put = {.id = run_id,
        .plan_id = d->plan_id,
        .plan_name = d->plan_name,
        .drill_id = d->spec->drill_id,
        .kind = d->spec->kind,
        .document_json = d->document_json,
        .point = d->spec->point,
        .options_json = options,
        .requested_by = d->spec->requested_by,
        .cleanup = d->spec->cleanup,
        .predicted_usec = d->whole_usec};
    const struct job_spec job = {.kind = "plan_run", .params_json = params, .requested_by = d->spec->requested_by};

    json_decref(kept);
    if (!options || !params)
        return err_set(err, ERR_NOMEM, "no memory for a run");
    if (plan_run_insert(conn, &put, err) < 0 || write_steps(conn, d, run_id, err) < 0 ||
        job_submit(conn, &job, false, ret_job_id, err) < 0)
        return -1;
    return plan_run_note_job(conn, run_id, ret_job_id, err);
}

int plan_run_start(struct db_conn *conn, const struct plan_run_spec *spec, bool dry_run,
    char ret_run_id[IDENT_TEXT_SIZE], char ret_job_id[IDENT_TEXT_SIZE], json_t **ret_forecast, struct err *err)
{
    AUTO_DRAFT struct draft *d = mem_new(struct draft);
    struct ident random;

    ret_run_id[0] = ret_job_id[0] = '\0';
    if (!d)
        return err_set(err, ERR_NOMEM, "no memory for a run");
    d->spec = spec;
    if (check_spec(d, err) < 0 || read_plan(conn, d, err) < 0 || look_at_steps(conn, d, err) < 0)
        return -1;
    if (ret_forecast && !(*ret_forecast = forecast_json(d)))
        return err_set(err, ERR_NOMEM, "no memory for a forecast");
    if (dry_run)
        return 0;
    if (ident_random(&random) < 0)
        return err_set(err, ERR_INTERNAL, "the kernel gives no randomness");
    ident_to_text(&random, ret_run_id);
    if (write_rows(conn, d, ret_run_id, ret_job_id, err) == 0)
        return 0;
    if (ret_forecast)
        json_decref(TAKE_PTR(*ret_forecast));
    return -1;
}
