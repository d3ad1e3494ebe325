/* SPDX-License-Identifier: Apache-2.0
 *
 * The list of adapters, and what they share.
 */
#include "hub/fabric/compute.h"

#include <string.h>

#include "hub/core/json_members.h"
#include "transport/base/mem.h"

static const struct compute_adapter *const adapters[] = {&compute_disk, &compute_command, &compute_libvirt};

const struct compute_adapter *compute_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(adapters); i++)
        if (strcmp(adapters[i]->name, name) == 0)
            return adapters[i];
    return NULL;
}

int compute_configure(const char *adapter, const json_t *config, struct err *err)
{
    const struct compute_adapter *found = compute_find(adapter);

    if (found)
        return found->configure(config, err);
    err_set(err, ERR_INVALID, "adapter: there is no adapter %.40s", adapter);
    return err_hint(err, "disk, command or libvirt.");
}

/* ---- screens ---- */

static atomic_uint screens; /* that are being read */

static int read_screen(const struct compute_adapter *adapter, const json_t *config, const char *failover_id,
    uint64_t limit_usec, struct buf *png, struct err *err)
{
    static const atomic_bool cancelled = false;
    json_t *spec = json_pack("{s:s}", "failover_id", failover_id);
    const struct compute_call call = {
        .config = config, .spec = spec, .limit_usec = limit_usec, .cancelled = &cancelled};
    int rc = spec ? adapter->screenshot(&call, png, err) : err_set(err, ERR_NOMEM, "no memory for a screenshot");

    json_decref(spec);
    return rc;
}

int compute_screenshot(const char *adapter, const json_t *config, const char *failover_id,
    const struct compute_screen_limits *limits, struct buf *png, struct err *err)
{
    const struct compute_adapter *found = compute_find(adapter);
    int rc;

    if (!found || !found->screenshot) {
        err_set(err, ERR_REFUSED, "targets of the kind %.40s show no screens", adapter);
        return err_hint(err, "Replicas on libvirt targets have one.");
    }
    if (atomic_fetch_add(&screens, 1) >= limits->at_once) {
        err_set(err, ERR_UNAVAILABLE, "the screens of other replicas are being read");
        rc = err_hint(err, "Ask again in a moment.");
    } else {
        rc = read_screen(found, config, failover_id, limits->wait_usec, png, err);
    }
    atomic_fetch_sub(&screens, 1);
    return rc;
}

int compute_known(const json_t *config, const char *const *known, struct err *err)
{
    const char *key = json_unknown_member(config, known);

    if (!key)
        return 0;
    err_set(err, ERR_INVALID, "config.%.60s: this adapter does not know it", key);
    return err_hint(err, "Leave it out; docs/failover.md lists what each adapter takes.");
}

const char *compute_text(const json_t *object, const char *key, const char *fallback)
{
    const char *s = json_string_value(json_object_get(object, key));

    return s ? s : fallback;
}
