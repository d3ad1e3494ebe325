/* SPDX-License-Identifier: Apache-2.0
 *
 * What a replica gets at its target instead of what its machine has: the mapping of a machine, and that of its site for what the machine's does not say.
 *   {"cpus"?: n, "memory_bytes"?: n,
 *    "nics"?: [{"source": "eth0" | "52:54:00:12:34:56" | "10.1.0.0/16" | "*",   of the machine: a card by name or hardware address, cards with an address in
 *                                                                            that network, any
 *               "network"?: text,            of planned and unplanned failovers; without it the replica has no such card
 *               "test_network"?: text,       of tests and drills: one that leads nowhere else, which the target is asked; without it no such card
 *               "ip"?: {...}, "test_ip"?: {...}}, ...]}                        as fixups.network (hub/fixup/fixup_spec.h); test_ip: as ip; ip: keep
 * The first entry that fits a card counts, of the machine's entries before those of the site. What a failover asks for itself goes before both. Resolved when
 * a failover is asked for: what it runs with is in its options, and a later change of the mapping is no change of it.
 */
#ifndef HUB_JOBS_REPLICA_MAPPING_H
#define HUB_JOBS_REPLICA_MAPPING_H

#include <jansson.h>
#include <stdbool.h>

#include "hub/db/db.h"

#define REPLICA_CPUS_MAX 512
#define REPLICA_MEMORY_MIN_BYTES (64LL << 20)
#define REPLICA_MEMORY_MAX_BYTES (64LL << 40)

/* ERR_INVALID names the member. A site's may not have a static address, which is of one machine. */
int replica_mapping_check(const json_t *mapping, bool of_site, struct err *err);

struct replica_mapping_question {
    const json_t *machine, *site; /* mappings; NULL: none */
    const json_t
        *nics; /* of the machine's inventory: [{"name", "mac", "addresses"}]; empty: it told none, and there is one */
    const json_t *addresses; /* of the machine, for that one */
    bool test;
};

/* Adds to the options of a failover what they leave open: "cpus", "memory_bytes", "nics": [{"source", "network", "isolated"}] and "fixups"."network".
 * Options with "mapping": false stay as they are. ERR_REFUSED, with what to change, for a mapping that does not fit the machine. */
int replica_mapping_apply(const struct replica_mapping_question *q, json_t *options, struct err *err);
/* The same with the rows of a machine, to params.options. */
int replica_mapping_resolve(struct db_conn *conn, const char *machine_id, bool test, json_t *params, struct err *err);

#endif
