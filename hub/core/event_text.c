/* SPDX-License-Identifier: Apache-2.0
 *
 * The table. The finding of health_changed (its code, and its form behind a point) stands for the finding's own text; its values are among the event's.
 */
#include "hub/core/event_text.h"

#include <string.h>

#include "transport/base/mem.h"

const struct event_text event_texts[] = {
    {"alert_acknowledged", "", "alert acknowledged: {name}: {title}", ""},
    {"alerts_changed", "raised", "{raised} alerts raised ({alerts}), {resolved} resolved", ""},
    {"alerts_changed", "resolved", "{raised} alerts raised, {resolved} resolved", ""},
    {"approval_requested", "", "{person} asks to {summary}",
        "Another person decides: leeward approval show {approval}"},
    {"approval_approved", "", "{person} approved: {summary}", ""},
    {"approval_rejected", "", "{person} rejected: {summary}", ""},
    {"approval_withdrawn", "", "{person} withdrawn: {summary}", ""},
    {"copy_removed", "", "the copy of the points of {machine} was removed", ""},
    {"copy_used", "", "{machine} has its points in {vault} from now on: {lost_vault}, where it had them, is lost", ""},
    {"delivery_failed", "", "channel {channel} took no message for a day: {problem}",
        "Correct the channel and try it: leeward channel test NAME."},
    {"drill_not_started", "", "drill {drill} could not begin: {problem}", "{remedy}"},
    {"enrolled", "", "{who} {name} has enrolled", ""},
    {"failback_given_up", "",
        "the failback of {machine} was given up; its replica runs again. Boot check: {boot_check}", ""},
    {"failed_back", "original", "{machine} runs on its original machine again, with point {sequence}", ""},
    {"failed_back", "new", "{machine} runs on its new machine now, with point {sequence}", ""},
    {"failover_ended", "given_up", "{failover} failover of {machine}: what a failed start left is gone", ""},
    {"failover_ended", "given_up_noted",
        "{failover} failover of {machine}: what a failed start left is gone; outcome: {outcome}", ""},
    {"failover_ended", "cleaned", "{failover} failover of {machine}: cleaned up", ""},
    {"failover_ended", "cleaned_noted", "{failover} failover of {machine}: cleaned up; outcome: {outcome}", ""},
    {"failover_ended", "rolled_back", "{failover} failover of {machine}: rolled back", ""},
    {"failover_ended", "rolled_back_noted", "{failover} failover of {machine}: rolled back; outcome: {outcome}", ""},
    {"failover_fixups", "done", "fix-ups of {machine}'s replica: {changes} changes, {warnings} warnings", ""},
    {"failover_fixups", "doubtful",
        "fix-ups of {machine}'s replica: {changes} changes, {warnings} warnings; it may not boot: {problem}", ""},
    {"failover_running", "",
        "{failover} failover of {machine} runs point {sequence} at {target} after {rto_seconds} s; boot check: "
        "{boot_check}",
        ""},
    {"fixups_taken_back", "", "fix-ups of {machine}'s replica: {changes} taken back, {warnings} warnings", ""},
    {"health_changed", "healthy", "{who} {name} is {level}", ""},
    {"health_changed", "unhealthy", "{who} {name} is {level}: {finding}", "{advice}"},
    {"job_finished", "succeeded", "job {job}: succeeded", ""},
    {"job_finished", "failed", "job {job}: failed: {problem}", "{remedy}"},
    {"job_finished", "cancelled", "job {job}: cancelled", ""},
    {"machine_moved", "moved", "moved from node {from_node} to {node} ({reason})", ""},
    {"machine_moved", "placed", "moved from node none to {node} ({reason})", ""},
    {"machine_restored", "", "{machine} was restored to the disks of {other}, with point {sequence}", ""},
    {"machine_state", "", "{move} ({from} -> {to})", ""},
    {"plan_run_ended", "good", "{run} run of plan {plan} {ended}; verdict: {verdict}", ""},
    {"plan_run_ended", "bad", "{run} run of plan {plan} {ended}; verdict: {verdict}; {problem}",
        "See its report: leeward plan report"},
    {"replica_protected", "", "the replica of {machine} is protected; its first point is {sequence}", ""},
};
const size_t event_text_count = ARRAY_LEN(event_texts);

const struct event_text *event_text_find(const char *code, const struct text_value *values)
{
    const char *form = text_value_form(values);

    for (size_t i = 0; i < event_text_count; i++)
        if (strcmp(event_texts[i].code, code) == 0 && strcmp(event_texts[i].form, form) == 0)
            return &event_texts[i];
    return NULL;
}
