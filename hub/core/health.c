/* SPDX-License-Identifier: Apache-2.0
 *
 * Health as a series of findings. The order is that of what an operator should look at first: a silent vault explains an RPO that is
 * not met, so of equals the first is shown.
 */
#include "hub/core/health.h"

#include <stdlib.h>
#include <string.h>

#include "hub/core/health_text.h"

#define USEC 1000000ULL
#define DAY_USEC (86400 * USEC)
/* A group point that was missed is tried again within the interval, or this (mobility/group/DESIGN.md). */
#define GROUP_AGAIN_USEC (600 * USEC)

const struct health_limits health_limits_default = {.silent_usec = HEALTH_SILENT_USEC,
    .clock_skew_usec = 5 * USEC,
    .full_warning_percent = 80,
    .full_critical_percent = 95,
    .forecast_usec = 7 * DAY_USEC,
    .certificate_usec = 14 * DAY_USEC};

const char *health_level_name(enum health_level level)
{
    static const char *const names[] = {[HEALTH_HEALTHY] = "healthy",
        [HEALTH_UNKNOWN] = "unknown",
        [HEALTH_WARNING] = "warning",
        [HEALTH_CRITICAL] = "critical"};

    return names[level];
}

/* What a finding is found with. */
struct finder {
    struct health_findings *found;
    const struct health_limits *limits;
};

/* A code stands once: the first is the one that explains most. */
static bool is_found(const struct health_findings *found, const char *code)
{
    for (size_t i = 0; i < found->count; i++)
        if (strcmp(found->list[i].code, code) == 0)
            return true;
    return false;
}

void health_say(struct health *h, enum health_level level, const char *code, const struct text_value *values)
{
    const struct health_text *text = health_text_find(code, text_value_form(values));
    size_t n = 0;

    *h = (struct health){.level = level, .code = code};
    text_value_fill(text ? text->cause : code, values, h->cause, sizeof(h->cause));
    text_value_fill(text ? text->remedy : "", values, h->remedy, sizeof(h->remedy));
    for (; values[n].name && n < HEALTH_VALUES_MAX; n++)
        h->values[n] = values[n];
}

static void find(struct finder *f, enum health_level level, const char *code, const struct text_value *values)
{
    if (f->found->count < HEALTH_FINDINGS_MAX && !is_found(f->found, code))
        health_say(&f->found->list[f->found->count++], level, code, values);
}

/* What has nothing but its words. */
static void find_plain(struct finder *f, enum health_level level, const char *code)
{
    find(f, level, code, &(const struct text_value){0});
}

static void find_form(struct finder *f, enum health_level level, const char *code, const char *form)
{
    find(f, level, code, TEXT_VALUES(VALUE_TEXT("form", form)));
}

static int64_t seconds_of(uint64_t usec)
{
    return (int64_t)(usec / USEC);
}

static unsigned percent_of(uint64_t part, uint64_t whole, unsigned of_nothing)
{
    return whole ? (unsigned)((double)part * 100.0 / (double)whole) : of_nothing;
}

static void find_silent(struct finder *f, const char *code, uint64_t silent_usec, enum health_level level)
{
    if (silent_usec == UINT64_MAX)
        find_form(f, level, code, "never");
    else if (silent_usec > f->limits->silent_usec)
        find(f, level, code,
            TEXT_VALUES(VALUE_TEXT("form", "silent"), VALUE_NUMBER("silent_seconds", seconds_of(silent_usec))));
}

/* In the words of who reports it. */
static void find_reported(
    struct finder *f, const char *code, enum health_level level, const char *cause, const char *remedy)
{
    if (cause && cause[0])
        find(f, level, code, TEXT_VALUES(VALUE_TEXT("cause", cause), VALUE_TEXT("remedy", remedy ? remedy : "")));
}

static void find_certificate(struct finder *f, int64_t left_usec)
{
    if (left_usec == 0 || left_usec > (int64_t)f->limits->certificate_usec)
        return;
    if (left_usec < 0)
        find_form(f, HEALTH_CRITICAL, "certificate_expiry", "expired");
    else
        find(f, HEALTH_WARNING, "certificate_expiry",
            TEXT_VALUES(VALUE_TEXT("form", "expires"), VALUE_NUMBER("left_days", left_usec / (int64_t)DAY_USEC)));
}

/* Before the first point there is none. */
static void find_rpo(struct finder *f, const struct health_machine *in)
{
    const char *form = in->state == MACHINE_RESYNCHRONIZING ? "comparing" : "late";

    if (!machine_state_has_rpo(in->state) || in->rpo_target_usec == 0 || in->rpo_usec <= in->rpo_target_usec)
        return;
    find(f, in->rpo_usec > 3 * in->rpo_target_usec ? HEALTH_CRITICAL : HEALTH_WARNING, "rpo_not_met",
        TEXT_VALUES(VALUE_TEXT("form", form), VALUE_NUMBER("rpo_seconds", seconds_of(in->rpo_usec)),
            VALUE_NUMBER("target_seconds", seconds_of(in->rpo_target_usec))));
}

/* One that was missed may have met a busy moment; two in a row are worth a look. */
static bool is_late(uint64_t age_usec, uint64_t interval_usec, uint64_t moment_usec)
{
    return interval_usec != 0 && age_usec > 2 * interval_usec + moment_usec;
}

static void find_kind(struct finder *f, const char *code, uint64_t age_usec, uint64_t interval_usec)
{
    if (is_late(age_usec, interval_usec, f->limits->silent_usec))
        find(f, HEALTH_WARNING, code,
            TEXT_VALUES(VALUE_NUMBER("age_seconds", seconds_of(age_usec)),
                VALUE_NUMBER("interval_seconds", seconds_of(interval_usec))));
}

static void find_history(struct finder *f, const struct health_machine *in)
{
    if (in->looks_encrypted)
        find_plain(f, HEALTH_CRITICAL, "looks_encrypted");
    if (in->damage_count > 0)
        find(f, HEALTH_CRITICAL, "integrity_damaged",
            TEXT_VALUES(VALUE_NUMBER("places", (int64_t)in->damage_count),
                VALUE_NUMBER("points", (int64_t)in->damaged_points)));
}

static void find_path(struct finder *f, const struct health_machine *in)
{
    bool replicates = machine_state_replicates(in->state);

    find_silent(f, "agent_silent", in->silent_usec, replicates ? HEALTH_CRITICAL : HEALTH_UNKNOWN);
    if (!replicates)
        return;
    if (!in->vault_online)
        find_plain(f, HEALTH_CRITICAL, "vault_unreachable");
    if (!in->vault_accepting)
        find_plain(f, HEALTH_CRITICAL, "vault_refuses");
    if (!in->node_online)
        find_plain(f, HEALTH_CRITICAL, "node_unreachable");
}

/* A source whose replica runs instead of it sends in vain (P7): it is said why, and what ends that. */
static void find_fenced(struct finder *f, const struct health_machine *in)
{
    bool back = in->silent_usec <= f->limits->silent_usec;

    if (in->state == MACHINE_FAILED_OVER)
        find_form(f, HEALTH_WARNING, "source_fenced", "failed_over");
    else if (in->state == MACHINE_COMMITTED)
        find_form(f, HEALTH_WARNING, "source_fenced", "committed");
    else if (back && (in->state == MACHINE_REVERSE_REPLICATING || in->state == MACHINE_REVERSE_PROTECTED))
        find_form(f, HEALTH_WARNING, "source_fenced", "back");
}

static const struct health_limits *or_default(const struct health_limits *limits)
{
    return limits ? limits : &health_limits_default;
}

static void say_clock(struct finder *f, int64_t skew_usec, const char *form, const char *who, uint64_t peers)
{
    find(f, HEALTH_WARNING, "clock_skew",
        TEXT_VALUES(VALUE_TEXT("form", form), VALUE_NUMBER("skew_seconds", llabs(skew_usec / (int64_t)USEC)),
            VALUE_TEXT("who", who), VALUE_NUMBER("peers", (int64_t)peers)));
}

static void find_clock(struct finder *f, int64_t skew_usec, const char *whose)
{
    int64_t max = (int64_t)f->limits->clock_skew_usec;

    if (skew_usec < -max || skew_usec > max)
        say_clock(f, skew_usec, skew_usec < 0 ? "slow" : "fast", whose, 0);
}

void health_find_machine(
    const struct health_machine *in, const struct health_limits *limits, struct health_findings *ret_findings)
{
    struct finder f = {ret_findings, or_default(limits)};

    ret_findings->count = 0;
    find_path(&f, in);
    find_fenced(&f, in);
    if (in->agent_state && strcmp(in->agent_state, "error") == 0)
        find_reported(&f, "agent_error", HEALTH_CRITICAL, in->agent_cause, in->agent_remedy);
    find_history(&f, in);
    find_rpo(&f, in);
    if (!in->looks_encrypted && (!in->agent_state || strcmp(in->agent_state, "error") != 0))
        find_reported(&f, "agent_warning", HEALTH_WARNING, in->agent_cause, in->agent_remedy);
    if (in->state == MACHINE_PROTECTED) {
        find_kind(&f, "no_app_point", in->application_age_usec, in->application_interval_usec);
        find_kind(&f, "no_filesystem_point", in->filesystem_age_usec, in->filesystem_interval_usec);
    }
    find_clock(&f, in->clock_skew_usec, "machine");
    if (in->drill_overdue_usec > 0)
        find(&f, HEALTH_WARNING, "drill_overdue",
            TEXT_VALUES(VALUE_NUMBER("overdue_hours", seconds_of(in->drill_overdue_usec) / 3600)));
    find_certificate(&f, in->certificate_left_usec);
}

/* form "": the code has one text. */
static void find_filling(struct finder *f, const char *code, const char *form, unsigned percent)
{
    enum health_level level = percent >= f->limits->full_critical_percent ? HEALTH_CRITICAL : HEALTH_WARNING;

    if (percent < f->limits->full_warning_percent)
        return;
    if (form[0])
        find(f, level, code, TEXT_VALUES(VALUE_TEXT("form", form), VALUE_NUMBER("full_percent", percent)));
    else
        find(f, level, code, TEXT_VALUES(VALUE_NUMBER("full_percent", percent)));
}

void health_find_node(
    const struct health_node *in, const struct health_limits *limits, struct health_findings *ret_findings)
{
    struct finder f = {ret_findings, or_default(limits)};

    ret_findings->count = 0;
    find_silent(&f, "node_silent", in->silent_usec, HEALTH_CRITICAL);
    find_filling(&f, "spool_filling", "", percent_of(in->spool_bytes, in->spool_limit_bytes, 0));
    find_reported(&f, "node_warning", HEALTH_WARNING, in->cause, in->remedy);
    find_clock(&f, in->clock_skew_usec, "node");
    find_certificate(&f, in->certificate_left_usec);
}

/* The vault says why, or it is known only that it takes nothing. */
static void find_full(struct finder *f, const struct health_vault *in)
{
    const struct health_text *unsaid = health_text_find("vault_full", "unsaid");
    bool has_cause = in->cause && in->cause[0], has_remedy = in->remedy && in->remedy[0];

    if (!has_cause && !has_remedy)
        find_form(f, HEALTH_CRITICAL, "vault_full", "unsaid");
    else
        find(f, HEALTH_CRITICAL, "vault_full",
            TEXT_VALUES(VALUE_TEXT("form", "reported"), VALUE_TEXT("cause", has_cause ? in->cause : unsaid->cause),
                VALUE_TEXT("remedy", has_remedy ? in->remedy : unsaid->remedy)));
}

void health_find_vault(
    const struct health_vault *in, const struct health_limits *limits, struct health_findings *ret_findings)
{
    struct finder f = {ret_findings, or_default(limits)};
    unsigned full = 100 - percent_of(in->free_bytes, in->capacity_bytes, 100);

    ret_findings->count = 0;
    find_silent(&f, "vault_silent", in->silent_usec, HEALTH_CRITICAL);
    if (!in->accepting)
        find_full(&f, in);
    find_filling(&f, "vault_filling", "full", full);
    if (in->full_in_usec != 0 && in->full_in_usec < f.limits->forecast_usec)
        find(&f, HEALTH_WARNING, "vault_filling",
            TEXT_VALUES(
                VALUE_TEXT("form", "forecast"), VALUE_NUMBER("left_hours", seconds_of(in->full_in_usec) / 3600)));
    if (in->accepting)
        find_reported(&f, "vault_warning", HEALTH_WARNING, in->cause, in->remedy);
    find_clock(&f, in->clock_skew_usec, "vault");
    find_certificate(&f, in->certificate_left_usec);
}

/* How soon there is a group point again, once nothing is in the way of it. */
static uint64_t again_usec(const struct health_group *in)
{
    return in->interval_usec < GROUP_AGAIN_USEC ? in->interval_usec : GROUP_AGAIN_USEC;
}

static const char *absent_form(enum machine_state state)
{
    static const char *const forms[MACHINE_STATE_COUNT] = {[MACHINE_UNPROTECTED] = "unprotected",
        [MACHINE_ENABLING] = "copying",
        [MACHINE_INITIAL_REPLICATION] = "copying",
        [MACHINE_PROTECTED] = "silent",
        [MACHINE_RESYNCHRONIZING] = "comparing",
        [MACHINE_FAILED_OVER] = "failed_over",
        [MACHINE_COMMITTED] = "failed_over",
        [MACHINE_REVERSE_REPLICATING] = "failed_over",
        [MACHINE_REVERSE_PROTECTED] = "failed_over"};

    return forms[state];
}

/* Why there is none. What the hub knows of a member goes before what another one said of it. */
static const char *group_form(const struct health_group *in, uint64_t moment_usec)
{
    uint64_t next_usec =
        in->missed ? again_usec(in) : in->interval_usec; /* when its coordinator tells of another one */

    if (in->absent[0])
        return absent_form(in->absent_state);
    if (is_late(in->news_usec, next_usec, moment_usec))
        return "unheard";
    if (!in->missed)
        return "incomplete";
    if (!in->culprit[0] || !in->cause[0])
        return "unheard";
    return in->remedy[0] ? "advised" : "missed";
}

/* While a member is copied for the first time, and until a new list of members or another interval had its time, nobody has to do anything. */
static bool is_excused(const struct health_group *in, uint64_t moment_usec)
{
    return in->first_copy || !is_late(in->list_age_usec, in->interval_usec, moment_usec);
}

/* A member without any points is told by an alert of its own, as a rule; its coming back costs patience until the next group point, not an alert. */
void health_find_group(
    const struct health_group *in, const struct health_limits *limits, struct health_findings *ret_findings)
{
    struct finder f = {ret_findings, or_default(limits)};
    uint64_t moment_usec = f.limits->silent_usec;

    ret_findings->count = 0;
    if (in->members < 2 || (is_excused(in, moment_usec) && !in->was_late) ||
        !is_late(in->age_usec, in->interval_usec, moment_usec))
        return;
    find(&f, HEALTH_WARNING, "no_group_point",
        TEXT_VALUES(VALUE_TEXT("form", group_form(in, moment_usec)),
            VALUE_NUMBER("age_seconds", seconds_of(in->age_usec)),
            VALUE_NUMBER("interval_seconds", seconds_of(in->interval_usec)),
            VALUE_TEXT("member", in->absent[0] ? in->absent : in->culprit), VALUE_TEXT("cause", in->cause),
            VALUE_TEXT("remedy", in->remedy)));
    ret_findings->list[0].explained =
        is_excused(in, moment_usec) || is_late(in->told_age_usec, in->interval_usec, moment_usec);
    ret_findings->list[0].patience_usec = again_usec(in) + moment_usec;
}

void health_find_hub(
    const struct health_hub *in, const struct health_limits *limits, struct health_findings *ret_findings)
{
    struct finder f = {ret_findings, or_default(limits)};
    int64_t behind = in->clock_behind_usec;

    ret_findings->count = 0;
    if (behind != 0)
        say_clock(&f, behind, behind < 0 ? "fast_by_peers" : "slow_by_peers", "hub", in->clock_peers);
    find_certificate(&f, in->certificate_left_usec);
}

void health_worst(const struct health_findings *findings, struct health *ret_health)
{
    *ret_health = (struct health){.level = HEALTH_HEALTHY, .code = ""};
    for (size_t i = 0; i < findings->count; i++)
        if (findings->list[i].level > ret_health->level)
            *ret_health = findings->list[i];
}

void health_of_machine(const struct health_machine *in, struct health *ret_health)
{
    struct health_findings found;

    health_find_machine(in, NULL, &found);
    health_worst(&found, ret_health);
}

void health_of_node(const struct health_node *in, struct health *ret_health)
{
    struct health_findings found;

    health_find_node(in, NULL, &found);
    health_worst(&found, ret_health);
}

void health_of_vault(const struct health_vault *in, struct health *ret_health)
{
    struct health_findings found;

    health_find_vault(in, NULL, &found);
    health_worst(&found, ret_health);
}
