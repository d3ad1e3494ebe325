/* SPDX-License-Identifier: Apache-2.0
 *
 * Health as a series of findings. The order is that of what an operator should look at first: a silent vault explains an RPO that is
 * not met, so of equals the first is shown.
 */
#include "hub/core/health.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define USEC 1000000ULL
#define DAY_USEC (86400 * USEC)

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

static void __attribute__((format(printf, 5, 6)))
find(struct finder *f, const char *code, enum health_level level, const char *remedy, const char *cause, ...)
{
    struct health *h;
    va_list ap;

    if (f->found->count == HEALTH_FINDINGS_MAX || is_found(f->found, code))
        return;
    h = &f->found->list[f->found->count++];
    h->level = level;
    h->code = code;
    va_start(ap, cause);
    vsnprintf(h->cause, sizeof(h->cause), cause, ap);
    va_end(ap);
    snprintf(h->remedy, sizeof(h->remedy), "%s", remedy);
}

static unsigned percent_of(uint64_t part, uint64_t whole, unsigned of_nothing)
{
    return whole ? (unsigned)((double)part * 100.0 / (double)whole) : of_nothing;
}

static void find_silent(
    struct finder *f, const char *code, const char *who, uint64_t silent_usec, enum health_level level)
{
    if (silent_usec == UINT64_MAX)
        find(f, code, level, "Start it and check that it reaches the hub's control port.", "The %s was never heard of",
            who);
    else if (silent_usec > f->limits->silent_usec)
        find(f, code, level, "Check that it runs and that it reaches the hub's control port.",
            "The %s has been silent for %llu s", who, (unsigned long long)(silent_usec / USEC));
}

static void find_reported(
    struct finder *f, const char *code, enum health_level level, const char *cause, const char *remedy)
{
    if (cause && cause[0])
        find(f, code, level, remedy ? remedy : "", "%s", cause);
}

static void find_certificate(struct finder *f, int64_t left_usec)
{
    static const char remedy[] =
        "It renews itself while it reaches the hub: check its clock and its session, or enrol it anew.";

    if (left_usec == 0 || left_usec > (int64_t)f->limits->certificate_usec)
        return;
    if (left_usec < 0)
        find(f, "certificate_expiry", HEALTH_CRITICAL, remedy, "Its certificate has expired");
    else
        find(f, "certificate_expiry", HEALTH_WARNING, remedy, "Its certificate expires in %lld days",
            (long long)(left_usec / (int64_t)DAY_USEC));
}

/* While protected the RPO is held to its target; before the first point there is none. */
static void find_rpo(struct finder *f, const struct health_machine *in)
{
    static const char remedy[] = "Check the node's spool, the network between agent, node and vault, and the churn.";

    if (in->state != MACHINE_PROTECTED || in->rpo_target_usec == 0 || in->rpo_usec <= in->rpo_target_usec)
        return;
    find(f, "rpo_not_met", in->rpo_usec > 3 * in->rpo_target_usec ? HEALTH_CRITICAL : HEALTH_WARNING, remedy,
        "The RPO is %llu s, its target %llu s", (unsigned long long)(in->rpo_usec / USEC),
        (unsigned long long)(in->rpo_target_usec / USEC));
}

/* One that was missed may have met a busy moment; two in a row are worth a look. */
static void find_kind(struct finder *f, const char *code, const char *kind, uint64_t age_usec, uint64_t interval_usec)
{
    static const char remedy[] = "See the events of the machine for what made it fail.";

    if (interval_usec != 0 && age_usec > 2 * interval_usec + HEALTH_SILENT_USEC)
        find(f, code, HEALTH_WARNING, remedy, "No %s point for %llu s, one is due every %llu s", kind,
            (unsigned long long)(age_usec / USEC), (unsigned long long)(interval_usec / USEC));
}

static void find_history(struct finder *f, const struct health_machine *in)
{
    if (in->looks_encrypted)
        find(f, "looks_encrypted", HEALTH_CRITICAL,
            "Look at the machine now. Its events name the last recovery point from before.",
            "What is written to its disks looks encrypted");
    if (in->damage_count > 0)
        find(f, "integrity_damaged", HEALTH_CRITICAL,
            "Leave the agent connected: it sends again what is missing. If it stays, check the vault's disk.",
            "%llu places of its history cannot be read, %llu recovery points are hit",
            (unsigned long long)in->damage_count, (unsigned long long)in->damaged_points);
}

static void find_path(struct finder *f, const struct health_machine *in)
{
    bool replicates = machine_state_replicates(in->state);

    find_silent(f, "agent_silent", "agent", in->silent_usec, replicates ? HEALTH_CRITICAL : HEALTH_UNKNOWN);
    if (!replicates)
        return;
    if (!in->vault_online)
        find(f, "vault_unreachable", HEALTH_CRITICAL, "Start the vault; replication goes on by itself.",
            "Its vault is not connected");
    if (!in->vault_accepting)
        find(f, "vault_refuses", HEALTH_CRITICAL, "Free space in the vault or add a disk to it.",
            "Its vault accepts no data");
    if (!in->node_online)
        find(f, "node_unreachable", HEALTH_CRITICAL, "Start the node, or move the machine to another one.",
            "Its node is not connected");
}

/* A source whose replica runs instead of it sends in vain (P7): it is said why, and what ends that. */
static void find_fenced(struct finder *f, const struct health_machine *in)
{
    bool back = in->silent_usec <= f->limits->silent_usec;

    if (in->state == MACHINE_FAILED_OVER)
        find(f, "source_fenced", HEALTH_WARNING,
            "Commit the failover, or roll it back: leeward failover commit|rollback MACHINE.",
            "Its replica runs instead of it: nothing that the source sends is taken");
    else if (in->state == MACHINE_COMMITTED)
        find(f, "source_fenced", HEALTH_WARNING, "Protect the replica: leeward failover reprotect MACHINE.",
            "Its replica is the machine, and is not protected; nothing that the source sends is taken");
    else if (back && (in->state == MACHINE_REVERSE_REPLICATING || in->state == MACHINE_REVERSE_PROTECTED))
        find(f, "source_fenced", HEALTH_WARNING,
            "Fail back to it, which overwrites its disks: leeward failover failback MACHINE.",
            "Its source is back while its replica is the machine: nothing that the source sends is taken");
}

static const struct health_limits *or_default(const struct health_limits *limits)
{
    return limits ? limits : &health_limits_default;
}

static void find_clock(struct finder *f, int64_t skew_usec, const char *whose)
{
    int64_t max = (int64_t)f->limits->clock_skew_usec;
    char remedy[64];

    if (skew_usec >= -max && skew_usec <= max)
        return;
    (void)snprintf(remedy, sizeof(remedy), "Let the %s keep its clock by NTP.", whose);
    find(f, "clock_skew", HEALTH_WARNING, remedy, "Its clock is %lld s %s",
        llabs((long long)(skew_usec / (int64_t)USEC)), skew_usec < 0 ? "slow" : "fast");
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
        find_kind(&f, "no_app_point", "app-consistent", in->application_age_usec, in->application_interval_usec);
        find_kind(
            &f, "no_filesystem_point", "file-system-consistent", in->filesystem_age_usec, in->filesystem_interval_usec);
    }
    find_clock(&f, in->clock_skew_usec, "machine");
    if (in->drill_overdue_usec > 0)
        find(&f, "drill_overdue", HEALTH_WARNING,
            "See why its drills do not come or do not pass: leeward drill list. A drill needs a boot check to pass.",
            "Its drill on a schedule is overdue for %llu h",
            (unsigned long long)(in->drill_overdue_usec / USEC / 3600));
    find_certificate(&f, in->certificate_left_usec);
}

static void find_filling(struct finder *f, const char *code, unsigned percent, const char *what, const char *remedy)
{
    if (percent >= f->limits->full_warning_percent)
        find(f, code, percent >= f->limits->full_critical_percent ? HEALTH_CRITICAL : HEALTH_WARNING, remedy,
            "Its %s is %u %% full", what, percent);
}

void health_find_node(
    const struct health_node *in, const struct health_limits *limits, struct health_findings *ret_findings)
{
    struct finder f = {ret_findings, or_default(limits)};

    ret_findings->count = 0;
    find_silent(&f, "node_silent", "node", in->silent_usec, HEALTH_CRITICAL);
    find_filling(&f, "spool_filling", percent_of(in->spool_bytes, in->spool_limit_bytes, 0), "spool",
        "Check the way to the vault; agents wait meanwhile and lose nothing.");
    find_reported(&f, "node_warning", HEALTH_WARNING, in->cause, in->remedy);
    find_clock(&f, in->clock_skew_usec, "node");
    find_certificate(&f, in->certificate_left_usec);
}

void health_find_vault(
    const struct health_vault *in, const struct health_limits *limits, struct health_findings *ret_findings)
{
    static const char remedy[] = "Add a disk to the vault, shorten retention, or move machines to another vault.";
    struct finder f = {ret_findings, or_default(limits)};
    unsigned full = 100 - percent_of(in->free_bytes, in->capacity_bytes, 100);

    ret_findings->count = 0;
    find_silent(&f, "vault_silent", "vault", in->silent_usec, HEALTH_CRITICAL);
    if (!in->accepting)
        find(&f, "vault_full", HEALTH_CRITICAL, in->remedy && in->remedy[0] ? in->remedy : remedy, "%s",
            in->cause && in->cause[0] ? in->cause : "It accepts no data");
    find_filling(&f, "vault_filling", full, "disk", remedy);
    if (in->full_in_usec != 0 && in->full_in_usec < f.limits->forecast_usec)
        find(&f, "vault_filling", HEALTH_WARNING, remedy, "Its disk will be full in %llu hours at this rate",
            (unsigned long long)(in->full_in_usec / (3600 * USEC)));
    if (in->accepting)
        find_reported(&f, "vault_warning", HEALTH_WARNING, in->cause, in->remedy);
    find_clock(&f, in->clock_skew_usec, "vault");
    find_certificate(&f, in->certificate_left_usec);
}

void health_find_hub(
    const struct health_hub *in, const struct health_limits *limits, struct health_findings *ret_findings)
{
    struct finder f = {ret_findings, or_default(limits)};
    long long behind = (long long)(in->clock_behind_usec / (int64_t)USEC);

    ret_findings->count = 0;
    if (in->clock_behind_usec != 0)
        find(&f, "clock_skew", HEALTH_WARNING, "Let the hub keep its clock by NTP.",
            "Its clock is %lld s %s by the clocks of most of its %llu peers", llabs(behind),
            behind < 0 ? "fast" : "slow", (unsigned long long)in->clock_peers);
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
