/* SPDX-License-Identifier: Apache-2.0
 *
 * A real agent and its session with a hub, all on one loop.
 */
#ifndef TESTS_UNIT_MOBILITY_AGENT_AGENTRIG_H
#define TESTS_UNIT_MOBILITY_AGENT_AGENTRIG_H

#include "mobility/agent.h"
#include "tests/unit/proto/fakehub.h"

struct agentrig {
    char dir[64], run[96], address[64]; /* address: the hub's, also when it comes back */
    sd_event *loop;
    struct fakehub hub;
    struct testca_files files;
    struct enrol_identity identity;
    struct agent *agent;
};

/* Set-up and tear-down of a test: *state is the rig, whose agent has greeted the hub. */
int agentrig_new(void **state);
int agentrig_free(void **state);

#endif
