/* SPDX-License-Identifier: Apache-2.0
 *
 * The tables of alerts. The sweep reads all open ones, decides (hub/core/alert.h) and writes what changed in one statement, so that a
 * storm over ten thousand machines is one transaction.
 */
#ifndef HUB_DB_ALERT_STORE_H
#define HUB_DB_ALERT_STORE_H

#include "hub/db/peer_store.h"
#include "hub/db/rows.h"
#include "transport/base/ident.h"

/* Columns of alert_open_list: those that are not resolved, ordered by subject_id, code, detail. Times are microseconds since 1970, 0 for
 * none. BARE: the text is stored without values. */
enum alert_open_column {
    AO_ID,
    AO_SUBJECT,
    AO_CODE,
    AO_DETAIL,
    AO_STATE,
    AO_SEVERITY,
    AO_SINCE,
    AO_LACKS,
    AO_EASED,
    AO_CAUSE,
    AO_AGE,
    AO_KIND,
    AO_BARE
};
int alert_open_list(struct db_conn *conn, PGresult **ret_rows, struct err *err);
/* When the sweep was here last; 0: never. Notes that it is here now. */
int alert_sweep_stamp(struct db_conn *conn, uint64_t *ret_before_utc_usec, struct err *err);
/* It is here still: a sweep that takes long is no time without one. */
int alert_sweep_goes_on(struct db_conn *conn, struct err *err);

/* `changed`: array of {"id", "code", "subject_kind", "subject_id", "detail", "severity", "state", "cause", "remedy", "since_usec",
 * "lacks_usec", "eased_usec", "change", "text_values"}, change "" where nobody is told; without values (or with none) they stay as they were. An acknowledgement that came meanwhile stays. `forgotten`: array
 * of ids. Subjects that are gone are left out. In the caller's transaction. */
int alert_apply(struct db_conn *conn, const char *changed, const char *forgotten, struct err *err);

/* Sources of alerts beside health. Jobs that failed within a day and after which none of their kind succeeded for the same machine or
 * vault; columns: 0 kind, 1 subject kind, 2 subject id, 3 text, 4 correction, 5 subject's name. */
int alert_failed_jobs(struct db_conn *conn, PGresult **ret_rows, struct err *err);
/* A hub notes its own certificate, now and again: what was not noted for two days is of a hub that is no more. */
int alert_note_certificate(struct db_conn *conn, const struct certificate_put *certificate, struct err *err);
/* Columns: 0 id, 1 microseconds that are left of the newest certificate. */
int alert_hub_certificates(struct db_conn *conn, PGresult **ret_rows, struct err *err);

/* 1: acknowledged; 0: it is already, or it is resolved. */
int alert_acknowledge(struct db_conn *conn, const char *id, const char *actor, const char *note, struct err *err);

/* Columns: key, JSON value, of the settings whose names begin with "alert_". */
int alert_settings(struct db_conn *conn, PGresult **ret_rows, struct err *err);

#endif
