/* SPDX-License-Identifier: Apache-2.0
 *
 * Simulated nodes and vaults: they add up what their machines do, and vaults tell the hub of points. A simulated vault holds no data: what
 * would read some is refused, what only maintains some is done at once.
 */
#include <stdio.h>
#include <string.h>

#include "hub/fleet/simfleet.h"
#include "transport/base/clock.h"
#include "transport/base/mem.h"

#define TIB (1ULL << 40)
#define SPOOL_LIMIT_BYTES (64ULL << 30)
#define STORED_SHARE 0.55  /* of what is used, compressed, with its history */
#define RECENT_POINTS 300u /* that a vault keeps of each machine, besides those of the past */
#define FULL_SHARE 0.93    /* of every seventh vault: something to warn of */

typedef Leeward__Control__V1__Report Report;

/* ---- sums ---- */

void simstore_sum(struct simfleet *f)
{
    for (size_t i = 0; i < f->count; i++)
        f->members[i].streams = f->members[i].stored_bytes = f->members[i].sent_bytes = 0;
    for (size_t i = 0; i < f->count; i++) {
        const struct simmember *m = &f->members[i];

        if (m->role != SIM_AGENT || !m->machine.is_wanted || m->machine.state == SIM_ERROR)
            continue;
        if (m->node) {
            m->node->streams += m->peer.up;
            m->node->sent_bytes += m->machine.sent_bytes;
        }
        if (m->vault) {
            m->vault->streams += m->peer.up;
            m->vault->stored_bytes += m->machine.done_bytes + m->machine.sent_bytes;
        }
    }
}

void simnode_tick(struct simmember *m)
{
    Leeward__Control__V1__NodeStatus s = LEEWARD__CONTROL__V1__NODE_STATUS__INIT;
    Report report = LEEWARD__CONTROL__V1__REPORT__INIT;
    uint64_t noise = clock_jitter_usec(1000); /* per mille */
    bool is_busy = m->number % 3 == 2;

    s.spool_limit_bytes = SPOOL_LIMIT_BYTES;
    s.spool_bytes = SPOOL_LIMIT_BYTES / 1000 * ((is_busy ? 700 : 10) + noise / 20);
    s.streams = (uint32_t)m->streams;
    s.received_bytes = s.forwarded_bytes = m->sent_bytes;
    s.cpu_permille = (uint32_t)(m->streams * 2 + noise / 20);
    s.cpu_permille = s.cpu_permille > 1000 ? 1000 : s.cpu_permille;
    s.desired_version = m->version;
    report.kind_case = LEEWARD__CONTROL__V1__REPORT__KIND_NODE_STATUS;
    report.node_status = &s;
    simpeer_report(&m->peer, &report);
}

/* Grows with what is in it, so that any number of machines fits. */
static uint64_t capacity(struct simmember *m, uint64_t used)
{
    uint64_t wanted = m->number % 7 == 2 ? (uint64_t)((double)used / FULL_SHARE) : 2 * used;

    if (m->capacity_bytes < 16 * TIB)
        m->capacity_bytes = 16 * TIB;
    if (m->number % 7 == 2 && used > TIB)
        m->capacity_bytes = wanted;
    else if (wanted > m->capacity_bytes)
        m->capacity_bytes = (wanted / (16 * TIB) + 1) * 16 * TIB;
    return m->capacity_bytes;
}

void simvault_tick(struct simmember *m)
{
    Leeward__Control__V1__VaultStatus s = LEEWARD__CONTROL__V1__VAULT_STATUS__INIT;
    Report report = LEEWARD__CONTROL__V1__REPORT__INIT;

    s.used_bytes = (uint64_t)((double)m->stored_bytes * STORED_SHARE);
    s.capacity_bytes = capacity(m, s.used_bytes);
    s.free_bytes = s.capacity_bytes - s.used_bytes;
    s.streams = (uint32_t)m->streams;
    s.accepting = true;
    s.desired_version = m->version;
    report.kind_case = LEEWARD__CONTROL__V1__REPORT__KIND_VAULT_STATUS;
    report.vault_status = &s;
    simpeer_report(&m->peer, &report);
}

/* ---- points ---- */

static void point_info(
    const struct simmember *agent, const struct simmachine_point *p, Leeward__Control__V1__PointInfo *out)
{
    leeward__control__v1__point_info__init(out);
    out->sequence = p->sequence;
    out->time_utc_usec = p->time_utc_usec;
    out->kind = (char *)(uintptr_t)p->kind;
    out->tag = (char *)(uintptr_t)p->tag;
    out->generation = agent->machine.generation;
    out->changed_bytes = p->changed_bytes;
    out->frozen = strcmp(p->kind, "crash") != 0;
    out->committed_utc_usec = p->time_utc_usec + 120 * USEC_PER_MSEC;
}

static void say_points(struct simmember *agent, Leeward__Control__V1__Points *points)
{
    Report report = LEEWARD__CONTROL__V1__REPORT__INIT;

    points->machine_id = agent->peer.id;
    report.kind_case = LEEWARD__CONTROL__V1__REPORT__KIND_POINTS;
    report.points = points;
    simpeer_report(&agent->vault->peer, &report);
}

void simvault_points(struct simmember *agent, const struct simmachine_point *points, unsigned count)
{
    Leeward__Control__V1__Points message = LEEWARD__CONTROL__V1__POINTS__INIT;
    Leeward__Control__V1__PointInfo infos[SIMMACHINE_POINTS_MAX], *list[SIMMACHINE_POINTS_MAX];
    uint64_t dropped[SIMMACHINE_POINTS_MAX];

    if (count == 0 || !agent->vault)
        return;
    for (unsigned i = 0; i < count; i++) {
        uint64_t sequence = points[i].sequence;

        point_info(agent, &points[i], &infos[i]);
        list[i] = &infos[i];
        if (sequence > RECENT_POINTS + simmachine_past_count(&agent->machine))
            dropped[message.n_dropped++] = sequence - RECENT_POINTS;
    }
    message.added = list;
    message.n_added = count;
    message.dropped = dropped;
    say_points(agent, &message);
}

void simvault_past(struct simmember *agent, uint64_t now)
{
    unsigned count = simmachine_past_count(&agent->machine), n = 0;
    Leeward__Control__V1__Points message = LEEWARD__CONTROL__V1__POINTS__INIT;
    AUTO_FREE struct simmachine_point *points = mem_alloc(count, sizeof(*points));
    AUTO_FREE Leeward__Control__V1__PointInfo *infos = mem_alloc(count, sizeof(*infos));
    AUTO_FREE Leeward__Control__V1__PointInfo **list = mem_alloc(count, sizeof(*list));

    if (!points || !infos || !list || !agent->vault)
        return; /* a past is an extra */
    for (; n < count && simmachine_past_point(&agent->machine, n, now, &points[n]); n++) {
        point_info(agent, &points[n], &infos[n]);
        list[n] = &infos[n];
    }
    message.added = list;
    message.n_added = n;
    message.complete = true;
    say_points(agent, &message);
}

/* ---- directives ---- */

static void take_command(struct simmember *m, const Leeward__Control__V1__Command *command)
{
    struct err err = ERR_INIT;

    switch (command->kind_case) {
    case LEEWARD__CONTROL__V1__COMMAND__KIND_CANCEL:
        break;
    case LEEWARD__CONTROL__V1__COMMAND__KIND_CLOSE_POINT:
    case LEEWARD__CONTROL__V1__COMMAND__KIND_ERASE_MACHINE:
        simpeer_command_done(&m->peer, command->command_id, NULL, NULL);
        break;
    case LEEWARD__CONTROL__V1__COMMAND__KIND_VERIFY:
        simpeer_command_done(&m->peer, command->command_id, NULL,
            "{\"records\": \"0\", \"bytes\": \"0\", \"points\": \"0\", \"damage_count\": 0, \"damaged\": []}");
        break;
    case LEEWARD__CONTROL__V1__COMMAND__KIND_COMPACT:
        simpeer_command_done(&m->peer, command->command_id, NULL,
            "{\"freed_bytes\": \"0\", \"segments\": 0, \"machines\": 0, \"short_of_room\": false}");
        break;
    default:
        (void)err_set(&err, ERR_REFUSED, "this vault is simulated: it holds no data");
        (void)err_hint(&err, "Protect a real machine to open its points.");
        simpeer_command_done(&m->peer, command->command_id, &err, NULL);
    }
}

static void on_directive(struct simpeer *peer, const Leeward__Control__V1__Directive *d)
{
    struct simmember *m = (struct simmember *)peer;

    if (d->kind_case == LEEWARD__CONTROL__V1__DIRECTIVE__KIND_COMMAND)
        take_command(m, d->command);
    else if (d->kind_case == LEEWARD__CONTROL__V1__DIRECTIVE__KIND_NODE)
        m->version = d->node->version;
    else if (d->kind_case == LEEWARD__CONTROL__V1__DIRECTIVE__KIND_VAULT)
        m->version = d->vault->version;
}

const struct simpeer_ops simnode_ops = {simfleet_on_up, simfleet_on_down, on_directive};
const struct simpeer_ops simvault_ops = {simfleet_on_up, simfleet_on_down, on_directive};
