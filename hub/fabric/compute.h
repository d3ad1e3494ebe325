/* SPDX-License-Identifier: Apache-2.0
 *
 * Where replicas run: one interface, an adapter per kind of place. The functions block, for minutes where a machine boots, and are called on
 * threads of their own (fabric_task.h). Each may be called again after a crash of the hub with what it was called with before, and must
 * then come to the same end: a replica is named by the id of its failover, and one that is there is not made a second time.
 *
 * `config` is the target's (compute_targets.config); `spec` is the same for all calls about one replica:
 *   {"failover_id": UUID, "kind": "test"|"planned"|"unplanned", "isolated": bool,
 *    "machine": {"id", "name", "hostname"}, "sequence": n,
 *    "cpus": n, "memory_bytes": n, "firmware": "bios"|"uefi",
 *    "nics": [{"network": text, "isolated": bool, "source": text}], "network": text     cards; that of the first one, "" = there is none. isolated: the
 *                                                                                     network is to lead nowhere else; source: the card's name in the machine
 *    "boot_check": {"type": "none"|"tcp"|"serial", "timeout_seconds": n, "address"?, "port"?, "pattern"?},
 *    "fixups"?: {...} (hub/fixup/fixup_spec.h; absent: none),
 *    "disks": [{"number": n, "device": text, "uri": "nbd+unix:...", "size_bytes": n, "is_root": bool}, ...]}   disks are there from start on
 * What start returns is the replica: an object that the adapter gets back in look and stop, and that people are shown. Members that
 * everybody understands: "name", "address", "console" (end of the serial output), "verdict" ("unknown"|"passed"|"failed"), "verdict_text".
 */
#ifndef HUB_FABRIC_COMPUTE_H
#define HUB_FABRIC_COMPUTE_H

#include <jansson.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "transport/base/buf.h"
#include "transport/base/err.h"

struct compute_call {
    const json_t *config, *spec;
    const json_t *replica; /* stop: what start returned, {} when it did not come to that */
    bool graceful;         /* stop: the guest may shut itself down first */
    uint64_t limit_usec;   /* screenshot: how long it may take; 0 with the others, which have limits of their own */
    const atomic_bool *cancelled; /* give up soon */
};

struct compute_adapter {
    const char *name;
    /* The config alone, when a target is made or changed: ERR_INVALID with the member. */
    int (*configure)(const json_t *config, struct err *err);
    /* Before anything begins: the place answers, the network is there, the spec fits. */
    int (*check)(const struct compute_call *call, struct err *err);
    /* Starts it and waits for the verdict of the boot check. *ret_replica is a new reference. */
    int (*start)(const struct compute_call *call, json_t **ret_replica, struct err *err);
    /* It is gone afterwards; one that is not there is success. */
    int (*stop)(const struct compute_call *call, struct err *err);
    /* What its screen shows now, as a PNG at the end of *png; of the spec only failover_id is there. ERR_REFUSED while it does not run. NULL: there are no
     * screens here. */
    int (*screenshot)(const struct compute_call *call, struct buf *png, struct err *err);
};

extern const struct compute_adapter compute_disk, compute_command, compute_libvirt;

/* NULL: there is none of that name. */
const struct compute_adapter *compute_find(const char *name);
/* How long a screen may take, and how many are read at the same time. */
struct compute_screen_limits {
    uint64_t wait_usec;
    unsigned at_once;
};
/* The screenshot of a replica of that adapter; ERR_REFUSED where it has none, or does not run; ERR_UNAVAILABLE beyond the limits. */
int compute_screenshot(const char *adapter, const json_t *config, const char *failover_id,
    const struct compute_screen_limits *limits, struct buf *png, struct err *err);
/* ERR_INVALID for an unknown adapter or a config that is not right for it. */
int compute_configure(const char *adapter, const json_t *config, struct err *err);

/* ---- for adapters ---- */
/* ERR_INVALID for a member of config that is not in the NULL-terminated list. */
int compute_known(const json_t *config, const char *const *known, struct err *err);
const char *compute_text(const json_t *object, const char *key, const char *fallback);

#endif
