/* SPDX-License-Identifier: Apache-2.0
 *
 * Health of machines, nodes, vaults and groups: everything that is wrong as a list of findings, and of them the worst as one level with its cause
 * and what to do about it. A finding has a code, a stable word that alerts (alert.h), metrics and translations go by, and the values that stand in
 * its text (health_text.h). Pure; times are passed in.
 */
#ifndef HUB_CORE_HEALTH_H
#define HUB_CORE_HEALTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hub/core/machine_state.h"
#include "hub/core/text_value.h"

enum health_level { HEALTH_HEALTHY, HEALTH_UNKNOWN, HEALTH_WARNING, HEALTH_CRITICAL };

/* One finding; or, as the health of something, the worst of them. */
#define HEALTH_VALUES_MAX 6u
struct health {
    enum health_level level;
    const char *code; /* static; "" when healthy */
    char cause[256];  /* "" when healthy */
    char remedy[256];
    /* Of cause and remedy; "form" among them where the code has several texts. One without name ends them. Texts are those of what it was found in. */
    struct text_value values[HEALTH_VALUES_MAX + 1];
    /* For alerts (alert.h): one that is open tells the cause already; and how much longer than others it has to stand. */
    bool explained;
    uint64_t patience_usec;
};

#define HEALTH_FINDINGS_MAX 16u
struct health_findings {
    size_t count;
    struct health list[HEALTH_FINDINGS_MAX];
};

/* How long after its last word a peer counts as silent. */
#define HEALTH_SILENT_USEC (30ULL * 1000000)

/* From where on something is wrong. */
struct health_limits {
    uint64_t silent_usec;
    uint64_t clock_skew_usec;
    unsigned full_warning_percent, full_critical_percent; /* of spools and vaults */
    uint64_t forecast_usec;                               /* a vault that will be full earlier is a warning */
    uint64_t certificate_usec;                            /* what is left of a certificate */
};
extern const struct health_limits health_limits_default;

struct health_machine {
    enum machine_state state;
    uint64_t silent_usec; /* since its agent was heard; UINT64_MAX: never */
    uint64_t rpo_usec, rpo_target_usec;
    /* Since the last point of the kind, or since protection began; interval 0: not scheduled. */
    uint64_t filesystem_age_usec, filesystem_interval_usec;
    uint64_t application_age_usec, application_interval_usec;
    int64_t clock_skew_usec;
    const char *agent_state, *agent_cause, *agent_remedy;
    bool node_online, vault_online, vault_accepting;
    uint64_t damage_count, damaged_points; /* of its history, as its vault says */
    bool looks_encrypted;                  /* its agent raised the alarm lately */
    int64_t certificate_left_usec;         /* 0: none is known */
    uint64_t drill_overdue_usec;           /* since when a drill on a schedule is; 0: it is not */
};

struct health_node {
    uint64_t silent_usec;
    uint64_t spool_bytes, spool_limit_bytes;
    const char *cause, *remedy; /* as the node reports */
    int64_t clock_skew_usec;
    int64_t certificate_left_usec;
};

struct health_vault {
    uint64_t silent_usec;
    bool accepting;
    uint64_t free_bytes, capacity_bytes;
    uint64_t full_in_usec; /* as forecast; 0: not known, or never */
    const char *cause, *remedy;
    int64_t clock_skew_usec;
    int64_t certificate_left_usec;
};

struct health_group {
    uint64_t interval_usec; /* 0: group points only when asked for */
    uint64_t members;
    bool was_late;   /* found to be, by the last look */
    bool first_copy; /* of a member is not complete: nothing is promised yet */
    /* Since its last complete group point; without one, since it has its list of members, if it was not late by the one before. */
    uint64_t age_usec;
    uint64_t list_age_usec; /* since it has its list of members and its interval */
    /* Of the members that have an open alert which tells why no points of theirs come: since the last point of the one that lacks them longest; 0: there is no
     * such member. */
    uint64_t told_age_usec;
    const char *absent;              /* a member that takes part in none; "": all could */
    enum machine_state absent_state; /* MACHINE_PROTECTED: it is not connected */
    uint64_t news_usec;              /* since its coordinator told what became of an attempt; UINT64_MAX: never */
    bool missed;                     /* that attempt; and by whom, why, and what to do, "" where it is not said: */
    const char *culprit, *cause, *remedy;
};

struct health_hub {
    int64_t certificate_left_usec; /* 0: none is known */
    int64_t clock_behind_usec;     /* skew.h; 0: nothing is said against its clock */
    uint64_t clock_peers;          /* that say it */
};

/* All that is wrong, what explains the rest first. limits NULL: the defaults. */
void health_find_machine(
    const struct health_machine *in, const struct health_limits *limits, struct health_findings *ret_findings);
void health_find_node(
    const struct health_node *in, const struct health_limits *limits, struct health_findings *ret_findings);
void health_find_vault(
    const struct health_vault *in, const struct health_limits *limits, struct health_findings *ret_findings);
/* Group points that do not come. A group that is late stays so until there is one: neither a first copy nor a new list of members or interval makes it right; they only keep the
 * finding from being told to anybody who was not. */
void health_find_group(
    const struct health_group *in, const struct health_limits *limits, struct health_findings *ret_findings);
/* What is wrong with a hub itself. */
void health_find_hub(
    const struct health_hub *in, const struct health_limits *limits, struct health_findings *ret_findings);
/* A finding in the words of its code, for what is found elsewhere; the values (HEALTH_VALUES_MAX at most) as in the finding. */
void health_say(struct health *ret_health, enum health_level level, const char *code, const struct text_value *values);
/* The worst; of equals the first; healthy when there is none. */
void health_worst(const struct health_findings *findings, struct health *ret_health);

/* Both at once, with the default limits. */
void health_of_machine(const struct health_machine *in, struct health *ret_health);
void health_of_node(const struct health_node *in, struct health *ret_health);
void health_of_vault(const struct health_vault *in, struct health *ret_health);
const char *health_level_name(enum health_level level); /* "healthy", "warning", "critical", "unknown" */

#endif
