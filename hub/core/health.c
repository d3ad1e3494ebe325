/* SPDX-License-Identifier: Apache-2.0
 *
 * Health as a series of findings; the worst wins, of equals the first. The order is that of what an operator should look at
 * first: a silent vault explains an RPO that is not met.
 */
#include "hub/core/health.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define USEC 1000000ULL
#define CLOCK_SKEW_WARN_USEC (5 * (int64_t)USEC)
#define FULL_WARN_PERCENT 80
#define FULL_CRITICAL_PERCENT 95

const char *health_level_name(enum health_level level)
{
    static const char *const names[] = {[HEALTH_HEALTHY] = "healthy",
        [HEALTH_UNKNOWN] = "unknown",
        [HEALTH_WARNING] = "warning",
        [HEALTH_CRITICAL] = "critical"};

    return names[level];
}

static void __attribute__((format(printf, 4, 5)))
find(struct health *h, enum health_level level, const char *remedy, const char *cause, ...)
{
    va_list ap;

    if (level <= h->level)
        return;
    h->level = level;
    va_start(ap, cause);
    vsnprintf(h->cause, sizeof(h->cause), cause, ap);
    va_end(ap);
    snprintf(h->remedy, sizeof(h->remedy), "%s", remedy);
}

static unsigned percent_of(uint64_t part, uint64_t whole, unsigned of_nothing)
{
    return whole ? (unsigned)((double)part * 100.0 / (double)whole) : of_nothing;
}

static void find_silent(struct health *h, const char *who, uint64_t silent_usec, enum health_level level)
{
    if (silent_usec == UINT64_MAX)
        find(h, level, "Start it and check that it reaches the hub's control port.", "The %s was never heard of", who);
    else if (silent_usec > HEALTH_SILENT_USEC)
        find(h, level, "Check that it runs and that it reaches the hub's control port.",
            "The %s has been silent for %llu s", who, (unsigned long long)(silent_usec / USEC));
}

static void find_reported(struct health *h, enum health_level level, const char *cause, const char *remedy)
{
    if (cause && cause[0])
        find(h, level, remedy ? remedy : "", "%s", cause);
}

/* While protected the RPO is held to its target; before the first point there is none. */
static void find_rpo(struct health *h, const struct health_machine *in)
{
    static const char remedy[] = "Check the node's spool, the network between agent, node and vault, and the churn.";

    if (in->state != MACHINE_PROTECTED || in->rpo_target_usec == 0 || in->rpo_usec <= in->rpo_target_usec)
        return;
    find(h, in->rpo_usec > 3 * in->rpo_target_usec ? HEALTH_CRITICAL : HEALTH_WARNING, remedy,
        "The RPO is %llu s, its target %llu s", (unsigned long long)(in->rpo_usec / USEC),
        (unsigned long long)(in->rpo_target_usec / USEC));
}

/* One that was missed may have met a busy moment; two in a row are worth a look. */
static void find_kind(struct health *h, const char *kind, uint64_t age_usec, uint64_t interval_usec)
{
    static const char remedy[] = "See the events of the machine for what made it fail.";

    if (interval_usec != 0 && age_usec > 2 * interval_usec + HEALTH_SILENT_USEC)
        find(h, HEALTH_WARNING, remedy, "No %s point for %llu s, one is due every %llu s", kind,
            (unsigned long long)(age_usec / USEC), (unsigned long long)(interval_usec / USEC));
}

void health_of_machine(const struct health_machine *in, struct health *ret_health)
{
    struct health *h = ret_health;
    bool replicates = machine_state_replicates(in->state);

    *h = (struct health){.level = HEALTH_HEALTHY};
    find_silent(h, "agent", in->silent_usec, replicates ? HEALTH_CRITICAL : HEALTH_UNKNOWN);
    if (replicates && !in->vault_online)
        find(h, HEALTH_CRITICAL, "Start the vault; replication goes on by itself.", "Its vault is not connected");
    if (replicates && !in->vault_accepting)
        find(h, HEALTH_CRITICAL, "Free space in the vault or add a disk to it.", "Its vault accepts no data");
    if (replicates && !in->node_online)
        find(h, HEALTH_CRITICAL, "Start the node, or move the machine to another one.", "Its node is not connected");
    if (in->agent_state && strcmp(in->agent_state, "error") == 0)
        find_reported(h, HEALTH_CRITICAL, in->agent_cause, in->agent_remedy);
    find_rpo(h, in);
    find_reported(h, HEALTH_WARNING, in->agent_cause, in->agent_remedy);
    if (in->state == MACHINE_PROTECTED) {
        find_kind(h, "app-consistent", in->application_age_usec, in->application_interval_usec);
        find_kind(h, "file-system-consistent", in->filesystem_age_usec, in->filesystem_interval_usec);
    }
    if (in->clock_skew_usec > CLOCK_SKEW_WARN_USEC || in->clock_skew_usec < -CLOCK_SKEW_WARN_USEC)
        find(h, HEALTH_WARNING, "Let the machine keep its clock by NTP.", "Its clock is off by %lld s",
            (long long)(in->clock_skew_usec / (int64_t)USEC));
}

void health_of_node(const struct health_node *in, struct health *ret_health)
{
    struct health *h = ret_health;
    unsigned percent = percent_of(in->spool_bytes, in->spool_limit_bytes, 0);
    static const char remedy[] = "Check the way to the vault; agents wait meanwhile and lose nothing.";

    *h = (struct health){.level = HEALTH_HEALTHY};
    find_silent(h, "node", in->silent_usec, HEALTH_CRITICAL);
    if (percent >= FULL_WARN_PERCENT)
        find(h, percent >= FULL_CRITICAL_PERCENT ? HEALTH_CRITICAL : HEALTH_WARNING, remedy, "Its spool is %u %% full",
            percent);
    find_reported(h, HEALTH_WARNING, in->cause, in->remedy);
}

void health_of_vault(const struct health_vault *in, struct health *ret_health)
{
    struct health *h = ret_health;
    unsigned free_percent = percent_of(in->free_bytes, in->capacity_bytes, 100);
    static const char remedy[] = "Add a disk to the vault, shorten retention, or move machines to another vault.";

    *h = (struct health){.level = HEALTH_HEALTHY};
    find_silent(h, "vault", in->silent_usec, HEALTH_CRITICAL);
    if (!in->accepting)
        find(h, HEALTH_CRITICAL, in->remedy && in->remedy[0] ? in->remedy : remedy, "%s",
            in->cause && in->cause[0] ? in->cause : "It accepts no data");
    if (free_percent <= 100 - FULL_WARN_PERCENT)
        find(h, free_percent <= 100 - FULL_CRITICAL_PERCENT ? HEALTH_CRITICAL : HEALTH_WARNING, remedy,
            "Only %u %% of its disk is free", free_percent);
    find_reported(h, HEALTH_WARNING, in->cause, in->remedy);
}
