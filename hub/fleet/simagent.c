/* SPDX-License-Identifier: Apache-2.0
 *
 * What a simulated agent says and answers.
 */
#include <stdio.h>
#include <string.h>

#include "hub/fleet/simfleet.h"
#include "transport/base/clock.h"

typedef Leeward__Control__V1__Report Report;

static void say_inventory(struct simmember *m)
{
    struct simmachine_inventory inventory;
    Report report = LEEWARD__CONTROL__V1__REPORT__INIT;

    simmachine_inventory(&m->machine, &inventory);
    report.kind_case = LEEWARD__CONTROL__V1__REPORT__KIND_INVENTORY;
    report.inventory = &inventory.message;
    simpeer_report(&m->peer, &report);
}

static void say_status(struct simmember *m, uint64_t now)
{
    Leeward__Control__V1__AgentStatus status;
    Report report = LEEWARD__CONTROL__V1__REPORT__INIT;

    simmachine_status(&m->machine, now, &status);
    report.kind_case = LEEWARD__CONTROL__V1__REPORT__KIND_AGENT_STATUS;
    report.agent_status = &status;
    simpeer_report(&m->peer, &report);
}

static void say_minutes(struct simmember *m, uint64_t now)
{
    Leeward__Control__V1__DiskMinute minute;
    Report report = LEEWARD__CONTROL__V1__REPORT__INIT;

    report.kind_case = LEEWARD__CONTROL__V1__REPORT__KIND_DISK_MINUTE;
    report.disk_minute = &minute;
    for (unsigned i = 0; i < m->machine.disk_count; i++)
        if (simmachine_minute(&m->machine, i, now, &minute))
            simpeer_report(&m->peer, &report);
    simmachine_minute_done(&m->machine, now);
}

void simagent_tick(struct simmember *m, uint64_t now)
{
    struct simmachine_point points[SIMMACHINE_POINTS_MAX];
    unsigned count = simmachine_step(&m->machine, now, points);

    if (count > 0 && !m->past_told && m->fleet->conf.with_past)
        simvault_past(m, now);
    m->past_told |= count > 0;
    simvault_points(m, points, count);
    say_minutes(m, now);
    say_status(m, now);
}

bool simagent_is_away(const struct simmember *m, uint64_t now)
{
    return simmachine_is_away(&m->machine, now);
}

/* ---- directives ---- */

static void create_point(struct simmember *m, const Leeward__Control__V1__Command *command)
{
    uint64_t now = clock_utc_usec();
    struct simmachine_point point;
    struct err err = ERR_INIT;
    char result[128], time[CLOCK_RFC3339_SIZE];

    if (!simmachine_make_point(&m->machine, command->create_point->kind, command->create_point->tag, now, &point)) {
        (void)err_set(&err, ERR_REFUSED, "the machine is not protected yet");
        (void)err_hint(&err, "Wait until its first point is there.");
        simpeer_command_done(&m->peer, command->command_id, &err, NULL);
        return;
    }
    simvault_points(m, &point, 1);
    clock_rfc3339(point.time_utc_usec, time);
    (void)snprintf(
        result, sizeof(result), "{\"sequence\": \"%llu\", \"time\": \"%s\"}", (unsigned long long)point.sequence, time);
    simpeer_command_done(&m->peer, command->command_id, NULL, result);
    say_status(m, now);
}

static void take_command(struct simmember *m, const Leeward__Control__V1__Command *command)
{
    struct err err = ERR_INIT;

    if (command->kind_case == LEEWARD__CONTROL__V1__COMMAND__KIND_CREATE_POINT)
        create_point(m, command);
    else if (command->kind_case != LEEWARD__CONTROL__V1__COMMAND__KIND_CANCEL) {
        (void)err_set(&err, ERR_REFUSED, "this machine is simulated: there is nothing that could do it");
        simpeer_command_done(&m->peer, command->command_id, &err, NULL);
    }
}

static void on_directive(struct simpeer *peer, const Leeward__Control__V1__Directive *d)
{
    struct simmember *m = (struct simmember *)peer;

    if (d->kind_case == LEEWARD__CONTROL__V1__DIRECTIVE__KIND_COMMAND)
        take_command(m, d->command);
    if (d->kind_case != LEEWARD__CONTROL__V1__DIRECTIVE__KIND_AGENT)
        return;
    m->node = simfleet_find(m->fleet, SIM_NODE, d->agent->node_id);
    m->vault = simfleet_find(m->fleet, SIM_VAULT, d->agent->vault_id);
    simmachine_desire(&m->machine, d->agent, m->vault != NULL, clock_utc_usec());
    say_status(m, clock_utc_usec());
}

static void on_up(struct simpeer *peer)
{
    simfleet_on_up(peer);
    say_inventory((struct simmember *)peer);
}

const struct simpeer_ops simagent_ops = {on_up, simfleet_on_down, on_directive};
