/* SPDX-License-Identifier: Apache-2.0
 *
 * What agents, nodes and vaults said last, in memory: the control plane writes it on its loop, API threads
 * read copies. The database gets it in batches every few seconds, so its rows may be that old; this is fresh
 * to the message. One mutex guards the table.
 */
#ifndef HUB_CONTROL_LIVE_STATUS_H
#define HUB_CONTROL_LIVE_STATUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "transport/base/err.h"
#include "transport/base/ident.h"

struct live_status; /* the table */

struct live_machine {
    bool online;
    uint64_t heard_utc_usec;
    char agent_state[32], cause[256], remedy[256];
    char node_id[IDENT_TEXT_SIZE];
    uint64_t last_point_sequence, last_point_utc_usec;
    uint64_t rpo_usec; /* age of the last committed point as the agent told it, by its own clock */
    uint64_t backlog_bytes, initial_total_bytes, initial_done_bytes;
    uint64_t sent_bytes, changed_bytes;                 /* since the agent started */
    uint64_t sent_bytes_per_sec, changed_bytes_per_sec; /* between the last two messages */
    uint64_t points_made, points_frozen, window_usec, freeze_usec;
    uint32_t rounds;
    uint64_t throughput_bytes_per_sec, remaining_usec;
    char slowed_by[32];
    uint64_t desired_version;
};

struct live_node {
    bool online, draining;
    uint64_t heard_utc_usec;
    uint64_t spool_bytes, spool_limit_bytes, received_bytes, forwarded_bytes;
    uint64_t received_bytes_per_sec, forwarded_bytes_per_sec;
    uint32_t streams, cpu_permille;
    char cause[256], remedy[256];
    uint64_t desired_version;
};

struct live_vault {
    bool online, accepting;
    uint64_t heard_utc_usec;
    uint64_t used_bytes, free_bytes, capacity_bytes;
    uint32_t streams;
    char cause[256], remedy[256];
    uint64_t desired_version;
};

/* Copies one entry. false: never heard of since this hub started (then the row is all there is). Any thread.
 */
bool live_status_machine(struct live_status *live, const char *machine_id, struct live_machine *ret);
bool live_status_node(struct live_status *live, const char *node_id, struct live_node *ret);
bool live_status_vault(struct live_status *live, const char *vault_id, struct live_vault *ret);

/* ---- the control plane's side ---- */
int live_status_new(struct live_status **ret_live, struct err *err);
void live_status_free(struct live_status *live);
/* Store what was said now: heard_utc_usec, online and the rates are filled in here. ERR_NOMEM leaves the old. */
int live_status_put_machine(struct live_status *live, const char *id, const struct live_machine *said, struct err *err);
int live_status_put_node(struct live_status *live, const char *id, const struct live_node *said, struct err *err);
int live_status_put_vault(struct live_status *live, const char *id, const struct live_vault *said, struct err *err);
/* A vault has committed a point of that machine: fresher than the agent's next status. */
void live_status_point(struct live_status *live, const char *machine_id, uint64_t sequence, uint64_t time_utc_usec);
/* Its session began or ended. */
void live_status_online(struct live_status *live, const char *role, const char *id, bool online);
/* Sessions that are open now, by role: for readiness and metrics. */
struct live_counts {
    size_t agents, nodes, vaults;
};
void live_status_counts(struct live_status *live, struct live_counts *ret_counts);

#endif
