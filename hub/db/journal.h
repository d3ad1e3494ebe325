/* SPDX-License-Identifier: Apache-2.0
 *
 * What is only ever appended: events for people and SSE, the hash-chained audit log, and the answers kept for
 * Idempotency-Key.
 */
#ifndef HUB_DB_JOURNAL_H
#define HUB_DB_JOURNAL_H

#include "hub/core/text_value.h"
#include "hub/db/rows.h"

struct event_spec {
    const char *severity;            /* "info", "warning", "error" */
    const char *code;                /* stable word */
    const char *text, *remedy;       /* text NULL: that of the code and the values (event_text.h), with its remedy */
    const struct text_value *values; /* what stands in them; NULL: nothing is said of it */
    const char *machine_id, *node_id, *vault_id, *job_id; /* NULL or "": none */
    const char *actor;                                    /* who did it; NULL: the system */
    uint64_t at_utc_usec;                                 /* 0: now */
    /* By whom and as which one: that is stored once, and may be told again. Both, or NULL or "" both. */
    const char *told_by, *told_id;
};
/* The sequence is given out in commit order (an advisory lock until the transaction ends: append last). */
int event_append(struct db_conn *conn, const struct event_spec *spec, struct err *err);
/* The lowest and highest sequence that is stored; 0, 0 when none is. */
int event_range(struct db_conn *conn, uint64_t *ret_first, uint64_t *ret_last, struct err *err);

struct audit_spec {
    const char *actor;  /* "token:NAME", "system" */
    const char *action; /* "machine.protect" */
    const char *object_kind, *object_id;
    const char *outcome;     /* "done", "denied", "failed" */
    const char *detail_json; /* object; NULL: {} */
    const char *address, *request_id;
};
/* hash = SHA-256(previous hash, all fields): a removed or changed row breaks the chain. */
int audit_append(struct db_conn *conn, const struct audit_spec *spec, struct err *err);
/* Walks the chain. 1: whole; 0: *ret_bad_seq is the first row that does not fit; -1. */
int audit_verify(struct db_conn *conn, uint64_t *ret_bad_seq, struct err *err);

/* Idempotency-Key. Begin inside the transaction that does the work: 1 = new, go on and call
 * idempotency_finish in the same transaction; 0 = done before: *ret_status, *ret_body and *ret_location
 * (caller frees) are the answer; ERR_CONFLICT = in flight, ERR_INVALID = the key was used for another
 * request. Keys live 24 hours. */
int idempotency_begin(struct db_conn *conn, const char *actor, const char *key, const char *fingerprint,
    unsigned *ret_status, char **ret_body, char **ret_location, struct err *err);
int idempotency_finish(struct db_conn *conn, const char *actor, const char *key, unsigned status, const char *body,
    const char *location, struct err *err);

#endif
