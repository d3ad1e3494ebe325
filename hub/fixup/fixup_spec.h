/* SPDX-License-Identifier: Apache-2.0
 *
 * What is wanted of fix-ups, as people write it: options.fixups of a failover and the mappings of machines and sites. Pure.
 *   {"drivers": bool, "storage": bool, "agent": bool, "serial_console": bool,       the first three are on unless they are false
 *    "on_failure": "stop" | "continue",     what becomes of the failover when they cannot be done, or the replica would surely not boot with what was done
 *    "network": {"method": "keep" | "dhcp"
 *                | "static", "address": "192.0.2.7/24", "gateway"?: "192.0.2.1", "dns"?: ["192.0.2.1", ...]
 *                | "each", "nics": [{"name"?: "eth0", "method": "dhcp" | "static", "address"?, "gateway"?, "dns"?}, ...]    the replica's cards in their order
 *                | "translate", "map": [{"from": "10.1.0.0/16", "to": "10.9.0.0/16"}, ...]}}
 * translate keeps the layout and puts each IPv4 address of the network configuration that lies in `from` to the same place in `to`.
 */
#ifndef HUB_FIXUP_FIXUP_SPEC_H
#define HUB_FIXUP_FIXUP_SPEC_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "transport/base/err.h"

#define FIXUP_MAP_MAX 64
#define FIXUP_DNS_MAX 8
#define FIXUP_NICS_MAX 16

/* ERR_INVALID names the member, beginning with "fixups". NULL is right: there are none. */
int fixup_spec_check(const json_t *fixups, struct err *err);
/* "keep" where nothing is said. */
const char *fixup_network_method(const json_t *fixups);
/* Whether the failover goes on without: what on_failure says, else all but a planned one do, whose source is there to go back to. */
bool fixup_may_fail(const json_t *fixups, bool planned);
/* The first three are on unless they are false, others only when they are true. */
bool fixup_wants(const json_t *fixups, const char *what);

/* "A.B.C.D/N" in host order, host bits kept. 0, or -1 without an error. */
int fixup_prefix(const char *text, uint32_t *ret_address, unsigned *ret_bits);
/* The address's place in the first entry that it lies in: true and *address is changed. */
bool fixup_translate(const json_t *map, uint32_t *address);
/* An address that a locally administered network card may have, made of a failover's id: "52:54:00:xx:xx:xx". */
void fixup_mac(const char *failover_id, char ret_mac[18]);
/* Of the replica's n-th card; 0: as fixup_mac. */
void fixup_nic_mac(const char *failover_id, unsigned n, char ret_mac[18]);

#endif
