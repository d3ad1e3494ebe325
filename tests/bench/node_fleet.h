/* SPDX-License-Identifier: Apache-2.0
 *
 * The folders of a node and a vault whose hub is away: identities of a CA made here, and the cached desired state by which they serve a
 * number of machines (P9). And the machines' own certificates.
 */
#ifndef TESTS_BENCH_NODE_FLEET_H
#define TESTS_BENCH_NODE_FLEET_H

#include "tests/unit/rpc/testca.h"

struct node_fleet {
    struct testca *ca;
    struct testca_files node, vault, *machines;
    size_t count;
};

/* Fills DIR/node and DIR/vault, so that the daemons can be started on them; the vault will serve on 127.0.0.1:vault_port. */
int node_fleet_make(const char *dir, size_t count, unsigned vault_port, struct node_fleet *ret_fleet, struct err *err);
void node_fleet_done(struct node_fleet *fleet);

#endif
