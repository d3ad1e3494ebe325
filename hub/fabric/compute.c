/* SPDX-License-Identifier: Apache-2.0
 *
 * The list of adapters, and what they share.
 */
#include "hub/fabric/compute.h"

#include <string.h>

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

int compute_screenshot(
    const char *adapter, const json_t *config, const char *failover_id, struct buf *png, struct err *err)
{
    const struct compute_adapter *found = compute_find(adapter);
    const atomic_bool cancelled = false;
    json_t *spec;
    int rc;

    if (!found || !found->screenshot) {
        err_set(err, ERR_REFUSED, "targets of the kind %.40s show no screens", adapter);
        return err_hint(err, "Replicas on libvirt targets have one.");
    }
    if (!(spec = json_pack("{s:s}", "failover_id", failover_id)))
        return err_set(err, ERR_NOMEM, "no memory for a screenshot");
    const struct compute_call call = {.config = config, .spec = spec, .cancelled = &cancelled};

    rc = found->screenshot(&call, png, err);
    json_decref(spec);
    return rc;
}

int compute_known(const json_t *config, const char *const *known, struct err *err)
{
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)config, key, value)
    {
        size_t i = 0;

        while (known[i] && strcmp(known[i], key) != 0)
            i++;
        if (!known[i]) {
            err_set(err, ERR_INVALID, "config.%.60s: this adapter does not know it", key);
            return err_hint(err, "Leave it out; docs/failover.md lists what each adapter takes.");
        }
    }
    return 0;
}

const char *compute_text(const json_t *object, const char *key, const char *fallback)
{
    const char *s = json_string_value(json_object_get(object, key));

    return s ? s : fallback;
}
