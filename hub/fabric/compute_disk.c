/* SPDX-License-Identifier: Apache-2.0
 *
 * The disks, and nothing else: whoever asked for the failover starts something on their NBD URIs. A boot check by TCP tells
 * when that answers; without one nobody can know whether it runs.
 */
#include <stddef.h>

#include "hub/fabric/boot_check.h"
#include "hub/fabric/compute.h"

static int disk_configure(const json_t *config, struct err *err)
{
    static const char *const known[] = {NULL};

    return compute_known(config, known, err);
}

static int disk_check(const struct compute_call *call, struct err *err)
{
    return boot_check_validate(json_object_get(call->spec, "boot_check"), false, err);
}

static int disk_start(const struct compute_call *call, json_t **ret_replica, struct err *err)
{
    json_t *replica = json_pack("{s:s, s:O}", "name", compute_text(json_object_get(call->spec, "machine"), "name", ""),
        "disks", json_object_get(call->spec, "disks"));

    if (!replica)
        return err_set(err, ERR_NOMEM, "no memory for a replica");
    if (boot_check_by_tcp(json_object_get(call->spec, "boot_check"), NULL, call->cancelled, replica, err) < 0) {
        json_decref(replica);
        return -1;
    }
    *ret_replica = replica;
    return 0;
}

static int disk_stop(const struct compute_call *call, struct err *err)
{
    (void)call;
    (void)err;
    return 0;
}

const struct compute_adapter compute_disk = {
    .name = "disk",
    .configure = disk_configure,
    .check = disk_check,
    .start = disk_start,
    .stop = disk_stop,
};
