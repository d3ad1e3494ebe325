/* SPDX-License-Identifier: Apache-2.0
 *
 * The table. A finding whose sentence depends on what is the matter has a form for each, so that whoever translates
 * one never has to put words together.
 */
#include "hub/core/health_text.h"

#include <string.h>

#include "transport/base/mem.h"

#define REACH "Check that it runs and that it reaches the hub's control port."
#define START "Start it and check that it reaches the hub's control port."
#define MAKE_ROOM "Add a disk to the vault, shorten retention, or move machines to another vault."
#define RENEW "It renews itself while it reaches the hub: check its clock and its session, or enrol it anew."
#define MADE_FAIL "See the events of the machine for what made it fail."
#define GROUP_LATE "No group point for {age_seconds} s, one is due every {interval_seconds} s: "
#define GROUP_WAIT                                                                                                     \
    "Group points go on when that is done: leeward machine show MACHINE tells how much is left, and what slows it down."
#define GROUP_REACH                                                                                                    \
    "See that the agents run and that the members reach each other on the group's port: leeward group show GROUP."
#define KEEP_CLOCK "Let the {who} keep its clock by NTP."

const struct health_text health_texts[] = {
    {"agent_silent", "never", "The agent was never heard of", START},
    {"agent_silent", "silent", "The agent has been silent for {silent_seconds} s", REACH},
    {"node_silent", "never", "The node was never heard of", START},
    {"node_silent", "silent", "The node has been silent for {silent_seconds} s", REACH},
    {"vault_silent", "never", "The vault was never heard of", START},
    {"vault_silent", "silent", "The vault has been silent for {silent_seconds} s", REACH},
    {"vault_unreachable", "", "Its vault is not connected", "Start the vault; replication goes on by itself."},
    {"vault_refuses", "", "Its vault accepts no data", "Free space in the vault or add a disk to it."},
    {"node_unreachable", "", "Its node is not connected", "Start the node, or move the machine to another one."},
    {"source_fenced", "failed_over", "Its replica runs instead of it: nothing that the source sends is taken",
        "Commit the failover, or roll it back: leeward failover commit|rollback MACHINE."},
    {"source_fenced", "committed",
        "Its replica is the machine, and is not protected; nothing that the source sends is taken",
        "Protect the replica: leeward failover reprotect MACHINE."},
    {"source_fenced", "back",
        "Its source is back while its replica is the machine: nothing that the source sends is taken",
        "Fail back to it, which overwrites its disks: leeward failover failback MACHINE."},
    {"agent_error", "", "{cause}", "{remedy}"},
    {"agent_warning", "", "{cause}", "{remedy}"},
    {"node_warning", "", "{cause}", "{remedy}"},
    {"vault_warning", "", "{cause}", "{remedy}"},
    {"looks_encrypted", "", "What is written to its disks looks encrypted",
        "Look at the machine now. Its events name the last recovery point from before."},
    {"integrity_damaged", "", "{places} places of its history cannot be read, {points} recovery points are hit",
        "Leave the agent connected: it sends again what is missing. If it stays, check the vault's disk."},
    {"rpo_not_met", "late", "The RPO is {rpo_seconds} s, its target {target_seconds} s",
        "Check the node's spool, the network between agent, node and vault, and the churn."},
    {"rpo_not_met", "comparing",
        "The RPO is {rpo_seconds} s, its target {target_seconds} s: its disks are compared with the vault",
        "Points go on when that is done: leeward machine show MACHINE tells how much is left, and what slows it down."},
    {"no_app_point", "", "No app-consistent point for {age_seconds} s, one is due every {interval_seconds} s",
        MADE_FAIL},
    {"no_filesystem_point", "",
        "No file-system-consistent point for {age_seconds} s, one is due every {interval_seconds} s", MADE_FAIL},
    {"no_group_point", "unprotected", GROUP_LATE "{member} is not protected",
        "Protect it, or take it out of the group: leeward group remove GROUP MACHINE."},
    {"no_group_point", "copying", GROUP_LATE "a disk of {member} is copied for the first time", GROUP_WAIT},
    {"no_group_point", "comparing", GROUP_LATE "the disks of {member} are compared with the vault", GROUP_WAIT},
    {"no_group_point", "failed_over", GROUP_LATE "the replica of {member} runs instead of it",
        "Fail back to it, or take it out of the group: leeward group remove GROUP MACHINE."},
    {"no_group_point", "silent", GROUP_LATE "{member} is not connected",
        "Start its agent, or take it out of the group: leeward group remove GROUP MACHINE."},
    {"no_group_point", "missed", GROUP_LATE "{member}: {cause}", GROUP_REACH},
    {"no_group_point", "advised", GROUP_LATE "{member}: {cause}", "{remedy}"},
    {"no_group_point", "incomplete", GROUP_LATE "they are made, but not every part of them comes to its vault",
        "See which member's points do not come: leeward point list MACHINE. Then look at its node and its vault."},
    {"no_group_point", "unheard", GROUP_LATE "no member says why", GROUP_REACH},
    {"clock_skew", "slow", "Its clock is {skew_seconds} s slow", KEEP_CLOCK},
    {"clock_skew", "fast", "Its clock is {skew_seconds} s fast", KEEP_CLOCK},
    {"clock_skew", "slow_by_peers", "Its clock is {skew_seconds} s slow by the clocks of most of its {peers} peers",
        KEEP_CLOCK},
    {"clock_skew", "fast_by_peers", "Its clock is {skew_seconds} s fast by the clocks of most of its {peers} peers",
        KEEP_CLOCK},
    {"drill_overdue", "", "Its drill on a schedule is overdue for {overdue_hours} h",
        "See why its drills do not come or do not pass: leeward drill list. A drill needs a boot check to pass."},
    {"certificate_expiry", "expired", "Its certificate has expired", RENEW},
    {"certificate_expiry", "expires", "Its certificate expires in {left_days} days", RENEW},
    {"spool_filling", "", "Its spool is {full_percent} % full",
        "Check the way to the vault; agents wait meanwhile and lose nothing."},
    {"vault_full", "unsaid", "It accepts no data", MAKE_ROOM},
    {"vault_full", "reported", "{cause}", "{remedy}"},
    {"vault_filling", "full", "Its disk is {full_percent} % full", MAKE_ROOM},
    {"vault_filling", "forecast", "Its disk will be full in {left_hours} hours at this rate", MAKE_ROOM},
    {"job_failed", "plain", "The job {job} failed: {problem}", "See the log of the job, and repeat it."},
    {"job_failed", "advised", "The job {job} failed: {problem}", "{remedy}"},
};
const size_t health_text_count = ARRAY_LEN(health_texts);

const struct health_text *health_text_find(const char *code, const char *form)
{
    for (size_t i = 0; i < health_text_count; i++)
        if (strcmp(health_texts[i].code, code) == 0 && strcmp(health_texts[i].form, form) == 0)
            return &health_texts[i];
    return NULL;
}
