/* SPDX-License-Identifier: Apache-2.0
 *
 * Working hours as agents, nodes and vaults get them: windows in local time, and the offsets of the policy's or peer's zone for more than a year, so that
 * nobody needs no zone database and, for so long, no hub.
 */
#ifndef HUB_CONTROL_DESIRED_HOURS_H
#define HUB_CONTROL_DESIRED_HOURS_H

#include "hub/core/work_hours.h"
#include "hub/db/db.h"
#include "transport/proto/control.pb-c.h"

#define DESIRED_OFFSETS_MAX 8u

struct desired_hours {
    size_t window_count, offset_count;
    Leeward__Control__V1__WorkWindow windows[WORK_HOURS_MAX], *window_list[WORK_HOURS_MAX];
    Leeward__Control__V1__UtcOffset offsets[DESIRED_OFFSETS_MAX], *offset_list[DESIRED_OFFSETS_MAX];
};

/* Of the machine's policy; without working hours everything is empty. */
int desired_hours_load(struct db_conn *conn, const char *machine_id, struct desired_hours *ret_hours, struct err *err);
/* Of the node itself. */
int desired_hours_load_node(
    struct db_conn *conn, const char *node_id, struct desired_hours *ret_hours, struct err *err);
/* Of the vault itself. */
int desired_hours_load_vault(
    struct db_conn *conn, const char *vault_id, struct desired_hours *ret_hours, struct err *err);
/* Into the message, which points into *hours from then on. */
void desired_hours_lay(struct desired_hours *hours, Leeward__Control__V1__AgentDesired *agent);
void desired_hours_lay_node(struct desired_hours *hours, Leeward__Control__V1__NodeDesired *node);
void desired_hours_lay_vault(struct desired_hours *hours, Leeward__Control__V1__VaultDesired *vault);

#endif
