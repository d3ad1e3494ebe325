/* SPDX-License-Identifier: Apache-2.0
 *
 * What vaults say about the integrity of what they hold: per machine the latest report, and which ranges of its disks the vault
 * wants to be sent again.
 */
#ifndef HUB_DB_INTEGRITY_STORE_H
#define HUB_DB_INTEGRITY_STORE_H

#include "hub/db/db.h"

/* report: the object that the API shows, resend: [{"disk", "start", "length"}]. A machine that is not in that vault is passed over.
 * When the ranges are others than before, the machine's agent is to be told: its desired state gets a new version. */
int integrity_put(struct db_conn *conn, const char *vault_id, const char *machine_id, const char *report,
    const char *resend, struct err *err);
/* 1: *ret_report is the text (caller frees); 0: no vault has said anything of the machine yet. */
int integrity_get(struct db_conn *conn, const char *machine_id, char **ret_report, struct err *err);
/* The ranges that the machine's agent is to send again: columns request, disk, start, length. */
int integrity_resend(struct db_conn *conn, const char *machine_id, PGresult **ret_rows, struct err *err);

#endif
