/* SPDX-License-Identifier: Apache-2.0
 *
 * Changes to what people configure: sites, policies, names of machines, nodes and vaults, settings. Each
 * change takes the version that the caller saw (If-Match); 0 = whatever it is now. A stale version is
 * ERR_CONFLICT, absence ERR_NOT_FOUND, a name in use ERR_EXISTS, something still in use ERR_REFUSED. New ids
 * and versions come back in caller-owned memory. All of them take part in the caller's transaction, if there
 * is one.
 */
#ifndef HUB_DB_CONFIG_STORE_H
#define HUB_DB_CONFIG_STORE_H

#include "hub/core/node_throttle.h"
#include "hub/db/rows.h"
#include "transport/base/ident.h"

/* Creation: id and version of the row are ignored, *ret_id is filled. Update: row->id and every other field
 * count. */
int site_create(struct db_conn *conn, const struct site_row *row, char ret_id[IDENT_TEXT_SIZE], struct err *err);
int site_update(struct db_conn *conn, const struct site_row *row, uint64_t if_version, struct err *err);
int site_delete(struct db_conn *conn, const char *id, uint64_t if_version, struct err *err);

/* Checked with policy_check (hub/core/policy.h) by the caller first. A change reaches agents and vaults at
 * once: the desired versions of its machines grow. is_default true takes it from the policy that had it. */
int policy_create(struct db_conn *conn, const struct policy_row *row, char ret_id[IDENT_TEXT_SIZE], struct err *err);
int policy_update(struct db_conn *conn, const struct policy_row *row, uint64_t if_version, struct err *err);
int policy_delete(struct db_conn *conn, const char *id, uint64_t if_version, struct err *err);

/* NULL members stay as they are; site_id "" = no site. */
struct machine_change {
    const char *name, *site_id, *policy_id;
};
int machine_update(
    struct db_conn *conn, const char *id, const struct machine_change *change, uint64_t if_version, struct err *err);
/* Only a machine that is unprotected; its certificate is revoked. */
int machine_delete(struct db_conn *conn, const char *id, uint64_t if_version, struct err *err);

struct peer_change {
    const char *name, *site_id;
    /* nodes only */
    const bool *drain;
    const struct node_throttle *throttle; /* NULL: as it is; checked by the caller, but for the zone */
};
int node_update(
    struct db_conn *conn, const char *id, const struct peer_change *change, uint64_t if_version, struct err *err);
int vault_update(
    struct db_conn *conn, const char *id, const struct peer_change *change, uint64_t if_version, struct err *err);
/* Only without machines; the certificate is revoked. */
int node_delete(struct db_conn *conn, const char *id, uint64_t if_version, struct err *err);
int vault_delete(struct db_conn *conn, const char *id, uint64_t if_version, struct err *err);

/* JSON values by key. 1 found, 0 not; *ret_json is the caller's to free. */
int setting_get(struct db_conn *conn, const char *key, char **ret_json, struct err *err);
int setting_put(struct db_conn *conn, const char *key, const char *json, struct err *err);
/* Back to its default: it is not there any more. */
int setting_clear(struct db_conn *conn, const char *key, struct err *err);
/* All of them at one moment; column 0 key, 1 JSON value. *ret_version counts their changes (settings_changed). */
int setting_list(struct db_conn *conn, PGresult **ret_rows, uint64_t *ret_version, struct err *err);
/* Once in a transaction that changes settings, before it reads what it compares with: whoever comes at the same moment waits for its end. ERR_CONFLICT
 * when if_version (0: any) is not the version that there is. */
int settings_changed(struct db_conn *conn, uint64_t if_version, struct err *err);

#endif
