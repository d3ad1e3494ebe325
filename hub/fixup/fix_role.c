/* SPDX-License-Identifier: Apache-2.0
 *
 * Nodes and vaults refuse what a fenced source sends (P7); in a test the source is not fenced, and a replica has its identity. So the replica's agent
 * must not even try: a file that the agent's unit and the agent itself look for says that this is a replica, and of what.
 */
#include <string.h>

#include "hub/fixup/fixers.h"
#include "hub/fixup/fixup_spec.h"
#include "transport/base/mem.h"

#define MARKER "/etc/leeward/replica"
#define DROP_IN                                                                                                        \
    "[Unit]\n# This system is a replica: its agent must not replicate as the source "                                  \
    "does.\nConditionPathExists=!" MARKER "\n"

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    return text ? text : "";
}

int fix_role(const struct fixup_call *call, struct err *err)
{
    AUTO_FREE char *text = mem_printf("failover %s\nmachine %s %s\n", text_of(call->context, "failover_id"),
        text_of(call->context, "machine_id"), text_of(call->context, "machine_name"));

    if (!text)
        return err_set(err, ERR_NOMEM, "no memory for a replica's role");
    if (change_list_put(
            call->list, "agent", MARKER, text, 0644, "says that this system is a replica, and of what", err) < 0)
        return -1;
    return change_list_put(call->list, "agent", "/etc/systemd/system/leeward-agent.service.d/50-replica.conf", DROP_IN,
        0644, "the agent does not start in a replica", err);
}

int fix_all(const struct fixup_call *call, struct err *err)
{
    static const struct {
        const char *name;
        int (*fix)(const struct fixup_call *call, struct err *err);
    } fixers[] = {{"storage", fix_storage}, {"serial_console", fix_serial_console}, {"network", fix_network},
        {"agent", fix_role}, {"drivers", fix_drivers}};

    for (size_t i = 0; i < ARRAY_LEN(fixers); i++) {
        bool wanted = strcmp(fixers[i].name, "network") == 0 ? strcmp(fixup_network_method(call->fixups), "keep") != 0
                                                             : fixup_wants(call->fixups, fixers[i].name);

        if (wanted && fixers[i].fix(call, err) < 0)
            return err_wrap(err, "fix-up %s", fixers[i].name);
    }
    return 0;
}
