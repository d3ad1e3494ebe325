/* SPDX-License-Identifier: Apache-2.0
 *
 * The agent on its event loop: the session with the hub, the stream to the node, and the engine's thread joined together.
 * Directives become wishes and commands of the engine; its events, results and status become reports.
 */
#ifndef MOBILITY_AGENT_H
#define MOBILITY_AGENT_H

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "mobility/capture/freeze.h"
#include "transport/base/err.h"
#include "transport/proto/enrol.h"

#define AGENT_SOFTWARE "leeward-agent " LEEWARD_VERSION

/* What the loop ends with in a rescue system whose machine is to start from its own disks. */
#define AGENT_RESTART 10

struct agent;

struct agent_conf {
    const char *data_dir;
    const char *run_dir; /* of this instance */
    const char *instance;
    const char *pin_root; /* NULL: the tracker's default */
    const char *hooks_dir;
    uint64_t hook_usec;
    const char *failover_dir; /* of the scripts that stop and start the source */
    const char *hub;
    bool rescue;                /* nothing of this machine is to be protected: its disks are there to be written */
    const char *group_listen;   /* "0.0.0.0:20004" */
    const char *group_endpoint; /* "host:port" under which the members of its group reach it */
    const struct enrol_identity *identity;
    struct freeze *freeze; /* NULL: no freeze */
};

/* conf and what it points to must outlive the agent. Starts the engine's thread; everything else happens on the loop. */
int agent_new(sd_event *loop, const struct agent_conf *conf, struct agent **ret_agent, struct err *err);
void agent_free(struct agent *a); /* waits for the engine; tracking goes on. NULL allowed */

/* Removes every trace of an agent that does not run: pins in bpffs, what lies under run_dir and in data_dir. */
int agent_uninstall(const struct agent_conf *conf, struct err *err);

#endif
