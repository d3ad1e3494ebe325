/* SPDX-License-Identifier: Apache-2.0
 *
 * Which disks of a machine are wanted in its protection. A disk keeps its number in the machine's log for ever, so that one that
 * was left out for a while continues as the same disk. Everything in the caller's transaction; nobody is told here.
 *
 * `disks_json` is an array of keys throughout.
 */
#ifndef HUB_DB_DISK_STORE_H
#define HUB_DB_DISK_STORE_H

#include "hub/db/rows.h"

/* Exactly these are protected from now on; NULL: all that are there and can be tracked. Returns how many; ERR_INVALID names one that
 * is unknown or cannot be tracked. */
int disk_store_choose(struct db_conn *conn, const char *machine_id, const char *disks_json, struct err *err);

/* 0; ERR_INVALID as above, ERR_REFUSED when one is protected already. */
int disk_store_check_add(struct db_conn *conn, const char *machine_id, const char *disks_json, struct err *err);
/* 0; ERR_INVALID for an unknown disk, ERR_REFUSED when one is not protected, or none would be left. */
int disk_store_check_exclude(struct db_conn *conn, const char *machine_id, const char *disks_json, struct err *err);
/* 0; ERR_INVALID for an unknown disk, ERR_REFUSED when one is not protected or not there. */
int disk_store_check_protected(struct db_conn *conn, const char *machine_id, const char *disks_json, struct err *err);

/* Return how many disks are protected then. One that is as it is to be already is left alone; none would be left: ERR_REFUSED. */
int disk_store_add(struct db_conn *conn, const char *machine_id, const char *disks_json, struct err *err);
int disk_store_exclude(struct db_conn *conn, const char *machine_id, const char *disks_json, struct err *err);

#endif
