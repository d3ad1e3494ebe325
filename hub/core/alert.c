/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of rules and the life of one alert. Two delays keep it quiet: one before it is raised, one before it is cleared or loses
 * severity. A hub that was down has seen nothing meanwhile, so delays begin anew after a gap.
 */
#include "hub/core/alert.h"

#include <string.h>

#include "transport/base/mem.h"

#define USEC 1000000ULL

const struct alert_rule alert_rules[] = {
    {.code = "looks_encrypted", .title = "Writes look like ransomware", .at_once = true, .sticky = true},
    {.code = "integrity_damaged", .title = "Recovery points are damaged", .at_once = true},
    {.code = "vault_full", .title = "A vault accepts no data", .at_once = true},
    {.code = "vault_silent", .title = "A vault is not connected"},
    {.code = "vault_unreachable", .title = "The vault of a machine is not connected", .covered = true},
    {.code = "vault_refuses", .title = "The vault of a machine accepts no data", .covered = true},
    {.code = "node_silent", .title = "A node is not connected"},
    {.code = "node_unreachable", .title = "The node of a machine is not connected", .covered = true},
    {.code = "agent_silent", .title = "An agent is silent"},
    {.code = "agent_error", .title = "An agent cannot replicate"},
    {.code = "rpo_not_met", .title = "The RPO is above its target"},
    {.code = "job_failed", .title = "A job failed", .at_once = true},
    {.code = "vault_filling", .title = "A vault is filling up"},
    {.code = "spool_filling", .title = "The spool of a node is filling up"},
    {.code = "no_app_point", .title = "App-consistent points are missing"},
    {.code = "no_filesystem_point", .title = "File-system-consistent points are missing"},
    {.code = "no_group_point", .title = "Points of a consistency group are missing"},
    {.code = "certificate_expiry", .title = "A certificate expires soon"},
    {.code = "clock_skew", .title = "A clock is wrong"},
    {.code = "drill_overdue", .title = "A failover drill is overdue"},
    {.code = "source_fenced", .title = "A replica runs instead of its source"},
    {.code = "agent_warning", .title = "An agent reports a problem"},
    {.code = "node_warning", .title = "A node reports a problem"},
    {.code = "vault_warning", .title = "A vault reports a problem"},
};
const size_t alert_rule_count = ARRAY_LEN(alert_rules);

const struct alert_timing alert_timing_default = {
    .raise_after_usec = 60 * USEC, .clear_after_usec = 120 * USEC, .gap_usec = 60 * USEC};

const struct alert_rule *alert_rule_find(const char *code)
{
    for (size_t i = 0; i < alert_rule_count; i++)
        if (strcmp(alert_rules[i].code, code) == 0)
            return &alert_rules[i];
    return NULL;
}

const char *alert_title(const char *code)
{
    const struct alert_rule *rule = alert_rule_find(code);

    return rule ? rule->title : code;
}

static const char *const phase_names[] = {[ALERT_NONE] = "",
    [ALERT_PENDING] = "pending",
    [ALERT_FIRING] = "firing",
    [ALERT_ACKNOWLEDGED] = "acknowledged",
    [ALERT_RESOLVED] = "resolved"};

const char *alert_phase_name(enum alert_phase phase)
{
    return phase_names[phase];
}

enum alert_phase alert_phase_from_name(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(phase_names); i++)
        if (strcmp(phase_names[i], name) == 0)
            return (enum alert_phase)i;
    return ALERT_NONE;
}

static enum alert_change present(const struct alert_rule *rule, const struct alert_timing *t, struct alert_state *s,
    const struct health *found, uint64_t now)
{
    enum health_level level = found->level;

    s->lacks_usec = 0;
    if (s->phase == ALERT_PENDING) {
        s->level = level;
        if (!rule->at_once && now - s->since_usec < t->raise_after_usec + found->patience_usec)
            return ALERT_UNCHANGED;
        s->phase = ALERT_FIRING;
        return ALERT_RAISED;
    }
    if (level > s->level) {
        s->level = level;
        s->eased_usec = 0;
        s->phase = ALERT_FIRING;
        return ALERT_WORSENED;
    }
    if (level == s->level) {
        s->eased_usec = 0;
        return ALERT_UNCHANGED;
    }
    if (s->eased_usec == 0)
        s->eased_usec = now;
    if (now - s->eased_usec < t->clear_after_usec)
        return ALERT_UNCHANGED;
    s->level = level;
    s->eased_usec = 0;
    return ALERT_EASED;
}

static enum alert_change absent(
    const struct alert_rule *rule, const struct alert_timing *t, struct alert_state *s, uint64_t now)
{
    s->eased_usec = 0;
    if (s->phase == ALERT_PENDING) {
        s->phase = ALERT_NONE;
        return ALERT_FORGOTTEN;
    }
    if (s->lacks_usec == 0)
        s->lacks_usec = now;
    if ((rule->sticky && s->phase != ALERT_ACKNOWLEDGED) || now - s->lacks_usec < t->clear_after_usec)
        return ALERT_UNCHANGED;
    s->phase = ALERT_RESOLVED;
    return ALERT_CLEARED;
}

/* Time in which nobody looked counts for nothing. */
static void skip_gap(struct alert_state *s, uint64_t now)
{
    if (s->phase == ALERT_PENDING)
        s->since_usec = now;
    if (s->lacks_usec)
        s->lacks_usec = now;
    if (s->eased_usec)
        s->eased_usec = now;
}

/* One that somebody was told of stays until its finding is gone, whatever explains it later. */
static bool counts(const struct alert_state *s, const struct health *found)
{
    bool is_told = s->phase == ALERT_FIRING || s->phase == ALERT_ACKNOWLEDGED;

    return found->level >= HEALTH_WARNING && (is_told || !found->explained);
}

enum alert_change alert_evaluate(const struct alert_rule *rule, const struct alert_timing *timing,
    struct alert_state *s, const struct health *found, uint64_t now)
{
    bool is_new = s->phase == ALERT_NONE || s->phase == ALERT_RESOLVED, is_there = counts(s, found);

    if (is_new && (!is_there || rule->covered))
        return ALERT_UNCHANGED;
    if (is_new)
        *s = (struct alert_state){.phase = ALERT_PENDING, .level = found->level, .since_usec = now};
    else if (now - s->checked_usec > timing->gap_usec)
        skip_gap(s, now);
    s->checked_usec = now;
    if (!is_there)
        return absent(rule, timing, s, now);

    enum alert_change change = present(rule, timing, s, found, now);

    return is_new && change == ALERT_UNCHANGED ? ALERT_BEGUN : change;
}
