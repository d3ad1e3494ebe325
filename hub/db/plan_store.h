/* SPDX-License-Identifier: Apache-2.0
 *
 * Recovery plans and their runs, as rows. hub/jobs decides, this stores. All take part in the caller's transaction, if there is one. A change of a plan
 * takes the version that the caller saw (0: whatever it is now): stale ERR_CONFLICT, absent ERR_NOT_FOUND, name in use ERR_EXISTS.
 */
#ifndef HUB_DB_PLAN_STORE_H
#define HUB_DB_PLAN_STORE_H

#include "hub/core/plan_graph.h"
#include "hub/db/rows.h"
#include "transport/base/ident.h"

/* name, description and document_json of the row. */
int plan_create(struct db_conn *conn, const struct plan_row *row, char ret_id[IDENT_TEXT_SIZE], struct err *err);
int plan_update(struct db_conn *conn, const struct plan_row *row, uint64_t if_version, struct err *err);
/* ERR_REFUSED while a run of it goes on. */
int plan_delete(struct db_conn *conn, const char *id, uint64_t if_version, struct err *err);

/* ---- runs ---- */

struct plan_run_put {
    const char *id, *plan_id, *plan_name, *drill_id; /* plan_id, drill_id: "" or NULL is none */
    const char *kind, *document_json, *point, *options_json, *requested_by;
    bool cleanup;
    uint64_t predicted_usec;
};
int plan_run_insert(struct db_conn *conn, const struct plan_run_put *put, struct err *err);
struct plan_run_step_put {
    uint64_t ordinal;
    const char *name, *group, *type;
    enum plan_step_state state;
    const char *machine_id, *machine_name, *target_id; /* "" where there is none */
    uint64_t sequence, predicted_usec;
    bool predicted_known;
};
/* ERR_REFUSED when another run has the machine. */
int plan_run_step_insert(
    struct db_conn *conn, const char *run_id, const struct plan_run_step_put *put, struct err *err);
int plan_run_note_job(struct db_conn *conn, const char *run_id, const char *job_id, struct err *err);
/* The time of the last step's end, for the RTO. */
int plan_run_recovered(struct db_conn *conn, const char *run_id, struct err *err);
/* Ends it and lets go of its machines. */
int plan_run_end(struct db_conn *conn, const char *run_id, const char *state, const char *verdict,
    const char *verdict_text, struct err *err);
/* What is said of one that is over. */
int plan_run_judge(
    struct db_conn *conn, const char *run_id, const char *verdict, const char *verdict_text, struct err *err);

/* What became of a step. The job and the failover stay as they are where these are NULL; "" is none. */
struct plan_step_note {
    const char *run_id;
    uint64_t ordinal;
    enum plan_step_state state;
    const char *detail, *job_id, *failover_id;
    bool new_attempt;         /* begins now */
    uint64_t next_after_usec; /* with job_id "": another one begins so much later */
    bool timed_out;
};
int plan_step_note(struct db_conn *conn, const struct plan_step_note *note, struct err *err);

/* All steps of a run in their order, and what became of their jobs. */
enum plan_look_column {
    PL_STATE,
    PL_MACHINE_ID,
    PL_TARGET_ID,
    PL_SEQUENCE,
    PL_JOB_ID,
    PL_FAILOVER_ID,
    PL_ATTEMPTS,
    PL_TIMED_OUT,
    PL_ATTEMPT_AGE, /* usec since the try began; negative: until it will */
    PL_JOB_STATUS,
    PL_JOB_TEXT,
    PL_JOB_RESULT,
    PL_JOB_DETAIL, /* of the step that it is at */
    PL_NAME,
};
int plan_look(struct db_conn *conn, const char *run_id, PGresult **ret_rows, struct err *err);

/* The newest point of the machine that `point` allows: "latest", "latest_application", or a time in RFC 3339 at which or before which it was. 0: there is
 * none. *ret_age_usec: of that point. */
int plan_point(struct db_conn *conn, const char *machine_id, const char *point, uint64_t *ret_sequence,
    uint64_t *ret_age_usec, struct err *err);
/* What the step took in the last runs of the plan, those of the same kind first; of a machine without any, what its failovers took. Returns how many. */
int plan_past(struct db_conn *conn, const char *plan_id, const char *step, const char *machine_id, const char *kind,
    uint64_t *ret_usec, size_t max, struct err *err);
/* Failovers of the run that are in `running`, the last one begun first: id, machine_id, verdict. */
int plan_run_replicas(struct db_conn *conn, const char *run_id, PGresult **ret_rows, struct err *err);
/* The machine's failover whose replica is protected, and can fail back. 1, or 0: there is none. */
int plan_reprotected(struct db_conn *conn, const char *machine_id, char ret_id[IDENT_TEXT_SIZE], struct err *err);
/* A point in the transaction to which a failed statement can be undone. */
int plan_savepoint(struct db_conn *conn, struct err *err);
int plan_savepoint_undo(struct db_conn *conn, struct err *err);

#endif
