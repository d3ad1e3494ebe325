/* SPDX-License-Identifier: Apache-2.0
 *
 * The node's figures for Prometheus, exposition format 0.0.4. Labels carry ids of machines, never of points.
 */
#include <string.h>
#include <sys/resource.h>

#include "transport/base/clock.h"
#include "transport/node/machine.h"

struct figure {
    const char *name, *type, *help;
    double value;
};

static double cpu_seconds(void)
{
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) < 0)
        return 0;
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static int head(struct buf *out, const struct figure *f, struct err *err)
{
    return buf_printf(out, err, "# HELP %s %s\n# TYPE %s %s\n", f->name, f->help, f->name, f->type);
}

static int write_node(struct node *node, struct buf *out, struct err *err)
{
    const char *reason;
    uint32_t streams = 0, vaults_lost = 0;
    uint64_t bound_usec, bound_bytes, received = 0, unsent = 0;
    linkshape_totals(node, &bound_usec, &bound_bytes);
    for (const struct machine *m = node->machines; m != NULL; m = m->next) {
        streams += m->intake != NULL && m->intake->state == INTAKE_OPEN;
        vaults_lost += m->link.cause.code != ERR_NONE;
        for (const struct batch *b = m->queue_head; b != NULL; b = b->next)
            received += b->message.len;
        unsent += m->link.call != NULL ? rpc_call_queued(m->link.call) : 0;
    }
    const struct figure figures[] = {
        {"leeward_node_ready", "gauge", "1 while agents may come here.", node_is_ready(node, &reason)},
        {"leeward_node_draining", "gauge", "1 while machines are let go.",
            node->draining || node->drain.since_usec != 0},
        {"leeward_node_machines", "gauge", "Machines that this node serves.", (double)node->machine_count},
        {"leeward_node_streams", "gauge", "Agents that are connected.", streams},
        {"leeward_node_machines_without_vault", "gauge", "Machines whose vault cannot be reached.", vaults_lost},
        {"leeward_node_spool_bytes", "gauge", "Bytes in the spool, all machines together.", (double)node->spool_bytes},
        {"leeward_node_spool_limit_bytes", "gauge", "Most bytes of the spool.", (double)node->conf.spool_bytes},
        {"leeward_node_spool_disk_full", "gauge", "1 while the file system of the spool takes no more.",
            node->disk.full},
        {"leeward_node_spool_used_ratio", "gauge", "Used part of the spool, 0 to 1.",
            (double)node->spool_bytes / (double)node->conf.spool_bytes},
        {"leeward_node_received_bytes_total", "counter", "Received from agents since the start.",
            (double)node->received_bytes},
        {"leeward_node_forwarded_bytes_total", "counter", "Forwarded to vaults since the start.",
            (double)node->forwarded_bytes},
        {"leeward_node_received_waiting_bytes", "gauge", "In memory: received from agents and not in the spool yet.",
            (double)received},
        {"leeward_node_unsent_waiting_bytes", "gauge", "In memory: on the way to vaults that do not take it yet.",
            (double)unsent},
        {"leeward_node_throttle_bytes_per_second", "gauge", "Bound on what goes to vaults now; 0: none.",
            (double)node->shape.shaper.rate},
        {"leeward_node_throttled_seconds_total", "counter", "Time during which some bound on what goes to vaults held.",
            (double)bound_usec / 1e6},
        {"leeward_node_throttled_bytes_total", "counter", "Forwarded to vaults in that time.", (double)bound_bytes},
        {"leeward_node_joined_bytes_total", "counter", "Taken out of spools because a later change set overwrites it.",
            (double)node->joined_bytes},
        {"leeward_node_points_given_up_total", "counter", "Points joined into later ones while a vault was away.",
            (double)node->joined_points},
        {"leeward_node_cpu_seconds_total", "counter", "Processor time since the start.", cpu_seconds()},
    };
    for (size_t i = 0; i < ARRAY_LEN(figures); i++)
        if (head(out, &figures[i], err) < 0 ||
            buf_printf(out, err, "%s %.17g\n", figures[i].name, figures[i].value) < 0)
            return -1;
    return 0;
}

static double machine_value(const struct machine *m, size_t i)
{
    const double values[] = {
        (double)m->spooled.bytes, (double)m->committed, m->full, m->intake != NULL && m->intake->state == INTAKE_OPEN};
    return values[i];
}

static int write_machines(struct node *node, struct buf *out, struct err *err)
{
    static const struct figure figures[] = {
        {"leeward_node_machine_spool_bytes", "gauge", "Bytes of the machine in the spool.", 0},
        {"leeward_node_machine_committed_sequence", "gauge", "Last change set that the vault has committed.", 0},
        {"leeward_node_machine_waits_for_spool", "gauge", "1 while it waits for room in the spool.", 0},
        {"leeward_node_machine_connected", "gauge", "1 while its agent is connected.", 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(figures) && node->machines != NULL; i++) {
        if (head(out, &figures[i], err) < 0)
            return -1;
        for (const struct machine *m = node->machines; m != NULL; m = m->next)
            if (buf_printf(out, err, "%s{machine=\"%s\"} %.17g\n", figures[i].name, m->text, machine_value(m, i)) < 0)
                return -1;
    }
    return 0;
}

int node_metrics(struct node *node, struct buf *out, struct err *err)
{
    return write_node(node, out, err) < 0 ? -1 : write_machines(node, out, err);
}
