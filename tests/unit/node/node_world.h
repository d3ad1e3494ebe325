/* SPDX-License-Identifier: Apache-2.0
 *
 * A node between a fake agent and a fake vault, all on one loop over TLS on unix sockets, with certificates of a test CA.
 * Waiting is for conditions: world_until runs the loop until one holds, or fails the test after a minute.
 */
#ifndef TESTS_UNIT_NODE_NODE_WORLD_H
#define TESTS_UNIT_NODE_NODE_WORLD_H

#include "tests/unit/node/fake_agent.h"
#include "tests/unit/node/fake_vault.h"
#include "tests/unit/rpc/testca.h"
#include "transport/node/node.h"

struct world {
    char dir[64];
    char node_address[128], vault_address[128];
    struct testca *ca;
    struct testca_files agent_files, node_files, vault_files, stranger_files;
    struct tls_context *agent_tls, *stranger_tls, *vault_tls, *node_server_tls, *node_client_tls;
    sd_event *loop;
    struct fake_vault *vault;
    struct fake_agent *agent;
    struct node *node;
    uint64_t spool_bytes;
    uint64_t generation;            /* that the node is told */
    bool may_receive;               /* and whether the agent may read what points hold */
    struct ident other;             /* a second machine of the node, which has no agent here; zero: none */
    char receiver[IDENT_TEXT_SIZE]; /* and whose agent may read its points */
};

/* cmocka set-up and tear-down; *state is the world. The vault serves, the node runs and knows the machine. */
int world_set_up(void **state);
int world_tear_down(void **state);
void world_start_node(struct world *w);
void world_stop_node(struct world *w);
void world_apply(struct world *w, bool with_machine);
void world_start_vault(struct world *w);

#define world_until(w, condition)                                                                                      \
    do {                                                                                                               \
        uint64_t deadline_ = clock_mono_usec() + 60 * USEC_PER_SEC;                                                    \
        while (!(condition)) {                                                                                         \
            if (clock_mono_usec() > deadline_)                                                                         \
                fail_msg("gave up waiting for: %s", #condition);                                                       \
            (void)sd_event_run((w)->loop, 50000);                                                                      \
        }                                                                                                              \
    } while (0)

/* Opens with epoch 0 to learn, then with the next epoch, and waits until batches may flow. */
void world_open_agent(struct world *w);
/* True when the vault's disk is what the agent's is. */
bool world_same_disks(const struct world *w);

#endif
