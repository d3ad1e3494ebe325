/* SPDX-License-Identifier: Apache-2.0
 *
 * The inventory as the message that the hub gets, with what is known of the host: name, system, kernel, processors, memory,
 * firmware, addresses.
 */
#ifndef MOBILITY_REPORT_H
#define MOBILITY_REPORT_H

#include "mobility/inventory.h"
#include "transport/base/err.h"
#include "transport/proto/control.pb-c.h"

struct report_inventory;

/* Builds the message; the inventory must outlive it. */
int report_inventory_new(
    const struct inventory *inventory, const char *boot_id, struct report_inventory **ret_report, struct err *err);
Leeward__Control__V1__Inventory *report_inventory_message(struct report_inventory *report);
void report_inventory_free(struct report_inventory *report); /* NULL allowed */

#endif
