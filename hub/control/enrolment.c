/* SPDX-License-Identifier: Apache-2.0
 *
 * Enrolment and renewal. Enrol: one transaction uses the token up, makes the row of the new machine, node or vault, signs the
 * certificate and keeps its record; so a token is used if and only if an identity came of it. The same key may ask again with
 * its token: it gets a certificate for the same identity. Renew: the identity is the one in the certificate that the caller shows.
 *
 * Enrol is open to anybody who reaches the port, so each address has a budget; a refused token costs much of it.
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "hub/control/control_plane.h"
#include "hub/db/journal.h"
#include "hub/db/peer_store.h"
#include "hub/db/token_store.h"
#include "transport/base/clock.h"
#include "transport/base/hash.h"
#include "transport/base/log.h"
#include "transport/proto/wire.h"

#define CSR_MAX 16384
#define REPLY_MAX (256 * 1024)
/* An address may enrol a few hundred machines at once and, unless the configuration says otherwise, five a second after that;
 * guessing costs thirty times as much. */
#define BURST_SECONDS 60
#define PER_SECOND 5
#define COST_REFUSED 30
#define SLOTS 1024
/* Requests that are worked on at once, from everywhere: each holds its memory. */
#define IN_FLIGHT_MAX 512

struct enrolment_limit {
    struct {
        uint64_t address; /* hash */
        double left;
        uint64_t at_usec;
    } slots[SLOTS];
};

struct enrolment_limit *enrolment_limit_new(void)
{
    return mem_new(struct enrolment_limit);
}

/* The address without its port: "10.0.0.7:51234", "[::1]:5". */
static uint64_t address_hash(const char *address)
{
    const char *colon = strrchr(address, ':');

    return hash_64(address, colon ? (size_t)(colon - address) : strlen(address));
}

/* Takes cost from the budget of an address; false when there is nothing left. */
static bool spend(struct control *control, uint64_t address, double cost)
{
    size_t slot = address % SLOTS;
    uint64_t now = clock_mono_usec();
    double per_second = control->conf.enrolments_per_second ? control->conf.enrolments_per_second : PER_SECOND;
    double budget = per_second * BURST_SECONDS, left = budget;

    if (control->limit->slots[slot].address == address) {
        left =
            control->limit->slots[slot].left + (double)(now - control->limit->slots[slot].at_usec) / 1e6 * per_second;
        left = left > budget ? budget : left;
    }
    control->limit->slots[slot].address = address;
    control->limit->slots[slot].at_usec = now;
    control->limit->slots[slot].left = left - cost < 0 ? 0 : left - cost;
    return left >= 1;
}

/* ---- a call with one request and one reply ---- */

struct unary {
    struct control_task task;
    struct unary_call *owner;
    char role[16], name[256], machine_uid[64], token[ENROLMENT_TOKEN_TEXT_SIZE];
    uint64_t address;
    uint8_t csr[CSR_MAX];
    size_t csr_len;
    /* The answer: */
    char id[IDENT_TEXT_SIZE];
    char *pem;
};

/* The call may end before the task does, and the other way round. */
struct unary_call {
    struct control *control;
    struct rpc_call *call; /* NULL: over */
    struct unary *running; /* NULL: none */
};

static void unary_drop(struct control_task *task)
{
    struct unary *u = (struct unary *)task;

    free(u->pem);
    u->task.control->enrolments--;
    u->owner->running = NULL;
    if (!u->owner->call)
        free(u->owner);
}

static void reply(struct unary *u)
{
    Leeward__Control__V1__EnrolReply m = LEEWARD__CONTROL__V1__ENROL_REPLY__INIT;
    AUTO_BUF struct buf bytes = BUF_INIT(REPLY_MAX);
    struct rpc_call *call = u->owner->call;
    struct err err = ERR_INIT;

    m.id = u->id;
    m.certificate_pem = u->pem;
    m.ca_pem = (char *)(uintptr_t)ca_pem(u->task.control->conf.ca);
    if (wire_pack(&m.base, &bytes, &err) < 0 || rpc_call_send(call, &bytes, &err) < 0)
        rpc_call_fail(call, &err);
    else
        rpc_call_finish(call, RPC_OK, NULL);
}

static void unary_then(struct control_task *task)
{
    struct unary *u = (struct unary *)task;

    if (task->rc < 0) {
        log_event(LOG_WARN, "enrolment_refused", LOG_S("role", u->role), LOG_S("name", u->name), LOG_E(&task->err));
        if (task->err.code == ERR_DENIED)
            (void)spend(task->control, u->address, COST_REFUSED);
        if (u->owner->call)
            rpc_call_fail(u->owner->call, &task->err);
        return;
    }
    log_event(LOG_INFO, "certificate_issued", LOG_S("role", u->role), LOG_S("id", u->id), LOG_S("name", u->name));
    if (u->owner->call)
        reply(u);
}

static void on_end(struct rpc_call *call, void *arg, enum rpc_status status, const char *text)
{
    struct unary_call *owner = arg;

    (void)call;
    (void)status;
    (void)text;
    owner->call = NULL;
    if (!owner->running)
        free(owner);
}

/* Begins the work for the one request of a call; a second request is an error. */
static struct unary *unary_begin(struct unary_call *owner, const ProtobufCBinaryData *csr, struct err *err)
{
    struct unary *u;

    if (owner->running) {
        (void)err_set(err, ERR_INVALID, "only one request may be sent");
        return NULL;
    }
    if (csr->len == 0 || csr->len > CSR_MAX) {
        (void)err_set(err, ERR_INVALID, "a certificate request of %zu bytes", csr->len);
        return NULL;
    }
    u = owner->control->enrolments < IN_FLIGHT_MAX ? (struct unary *)control_task_new(sizeof(*u), owner->control, NULL)
                                                   : NULL;
    if (!u) {
        (void)err_set(err, ERR_UNAVAILABLE, "the hub is busy with other enrolments");
        (void)err_hint(err, "Try again in a moment.");
        return NULL;
    }
    owner->control->enrolments++;
    u->task.then = unary_then;
    u->task.drop = unary_drop;
    u->owner = owner;
    owner->running = u;
    memcpy(u->csr, csr->data, csr->len);
    u->csr_len = csr->len;
    u->address = address_hash(rpc_call_address(owner->call));
    return u;
}

static void unary_submit(struct unary_call *owner, struct unary *u)
{
    struct rpc_call *call = owner->call;

    if (control_task_submit(&u->task, NULL) < 0)
        rpc_call_finish(call, RPC_RESOURCE_EXHAUSTED, "the hub is busy; try again");
}

static int accept_unary(struct rpc_call *call, struct control *control, const struct rpc_call_ops *ops,
    const struct rpc_call_ops **ret_ops, void **ret_arg, struct err *err)
{
    struct unary_call *owner = mem_new(struct unary_call);

    if (!owner)
        return err_set(err, ERR_NOMEM, "no memory for a call");
    owner->control = control;
    owner->call = call;
    *ret_ops = ops;
    *ret_arg = owner;
    return 0;
}

/* ---- signing, in the caller's transaction ---- */

static int sign(struct unary *u, struct db_conn *conn, struct err *err)
{
    struct ca_certificate c = {0};
    struct ident id;
    int rc;

    if (ident_from_text(u->id, &id) < 0)
        return err_set(err, ERR_INTERNAL, "a peer's id is not one");
    if (ca_issue(u->task.control->conf.ca, u->csr, u->csr_len, u->role, &id, &c, err) < 0)
        return -1;
    const struct certificate_put put = {.serial = c.serial,
        .role = u->role,
        .subject_id = u->id,
        .subject_name = u->name,
        .fingerprint_sha256 = c.fingerprint_sha256,
        .not_before = c.not_before_utc_usec,
        .not_after = c.not_after_utc_usec};

    rc = certificate_put(conn, &put, err);
    if (rc == 0)
        u->pem = TAKE_PTR(c.pem);
    ca_certificate_done(&c);
    return rc;
}

/* ---- Enrol ---- */

static int refuse_token(const char *role, struct err *err)
{
    err_set(err, ERR_DENIED, "the enrolment token is refused: used, expired, revoked, or for another role");
    return err_hint(err, "Make a new one: leeward enrol-token create --role %s", role);
}

static int enrol_new(struct unary *u, const struct enrolment_use *use, struct db_conn *conn, struct err *err)
{
    const struct peer_enrolment peer = {
        .role = u->role, .id = u->id, .name = u->name, .machine_uid = u->machine_uid, .site_id = use->site_id};

    if (use->again)
        return 0;
    return peer_insert(conn, &peer, err);
}

static int enrol_note(struct unary *u, struct db_conn *conn, struct err *err)
{
    const struct event_spec event = {.severity = "info",
        .code = "enrolled",
        .values = TEXT_VALUES(VALUE_TEXT("who", u->role), VALUE_TEXT("name", u->name)),
        .machine_id = strcmp(u->role, "agent") == 0 ? u->id : "",
        .node_id = strcmp(u->role, "node") == 0 ? u->id : "",
        .vault_id = strcmp(u->role, "vault") == 0 ? u->id : "",
        .actor = "enrolment"};
    const struct audit_spec audit = {
        .actor = "enrolment", .action = "peer.enrol", .object_kind = u->role, .object_id = u->id, .outcome = "done"};

    return audit_append(conn, &audit, err) < 0 ? -1 : event_append(conn, &event, err);
}

static int enrol_work(struct control_task *task, struct db_conn *conn, struct err *err)
{
    struct unary *u = (struct unary *)task;
    struct enrolment_use use = {0};
    uint8_t key[32];
    struct ident id;
    int used;

    if (ca_request_key_sha256(u->csr, u->csr_len, key, err) < 0)
        return -1;
    if (ident_random(&id) < 0)
        return err_set(err, ERR_INTERNAL, "the kernel gives no randomness");
    ident_to_text(&id, use.subject_id);
    if (db_begin(conn, err) < 0 || (used = enrolment_token_use(conn, u->token, u->role, key, &use, err)) < 0)
        return -1;
    if (!used)
        return refuse_token(u->role, err);
    memcpy(u->id, use.subject_id, sizeof(u->id));
    if (enrol_new(u, &use, conn, err) < 0 || sign(u, conn, err) < 0 || enrol_note(u, conn, err) < 0)
        return -1;
    return db_commit(conn, err);
}

static int take_names(struct unary *u, const Leeward__Control__V1__EnrolRequest *r, struct err *err)
{
    if (strlen(r->token) >= sizeof(u->token) || strlen(r->role) >= sizeof(u->role) ||
        (strcmp(r->role, "agent") != 0 && strcmp(r->role, "node") != 0 && strcmp(r->role, "vault") != 0))
        return err_set(err, ERR_INVALID, "the token or the role is malformed");
    snprintf(u->token, sizeof(u->token), "%s", r->token);
    snprintf(u->role, sizeof(u->role), "%s", r->role);
    peer_report_text(u->name, sizeof(u->name), r->name[0] ? r->name : r->role);
    peer_report_text(u->machine_uid, sizeof(u->machine_uid), r->machine_uid);
    return 0;
}

static int take_enrol(struct unary_call *owner, const Leeward__Control__V1__EnrolRequest *r, struct err *err)
{
    struct unary *u;

    if (!spend(owner->control, address_hash(rpc_call_address(owner->call)), 1)) {
        err_set(err, ERR_UNAVAILABLE, "too many enrolments from this address");
        return err_hint(err, "Wait a minute and try again.");
    }
    u = unary_begin(owner, &r->csr_der, err);
    if (!u)
        return -1;
    if (take_names(u, r, err) < 0) {
        control_task_free(&u->task);
        return -1;
    }
    u->task.work = enrol_work;
    unary_submit(owner, u);
    return 0;
}

static void on_enrol(struct rpc_call *call, void *arg, struct buf *message)
{
    ProtobufCMessage *m = NULL;
    struct err err = ERR_INIT;

    if (wire_unpack(&leeward__control__v1__enrol_request__descriptor, message->data, message->len, &m, &err) < 0 ||
        take_enrol(arg, (const Leeward__Control__V1__EnrolRequest *)m, &err) < 0)
        rpc_call_fail(call, &err);
    wire_free(m);
}

static const struct rpc_call_ops enrol_ops = {.on_message = on_enrol, .on_end = on_end, .auto_consume = true};

int enrolment_accept(
    struct rpc_call *call, void *server_arg, const struct rpc_call_ops **ret_ops, void **ret_arg, struct err *err)
{
    return accept_unary(call, server_arg, &enrol_ops, ret_ops, ret_arg, err);
}

/* ---- Renew ---- */

static int renew_work(struct control_task *task, struct db_conn *conn, struct err *err)
{
    struct unary *u = (struct unary *)task;
    const struct db_entity *entity = strcmp(u->role, "agent") == 0  ? &db_machines
                                     : strcmp(u->role, "node") == 0 ? &db_nodes
                                                                    : &db_vaults;
    AUTO_DB_SET struct db_set set = {0};
    int found = db_get(conn, entity, u->id, &set, err);

    if (found < 0)
        return -1;
    if (found == 0) {
        err_set(err, ERR_DENIED, "the hub does not know this %s any more", u->role);
        return err_hint(err, "Enrol again with a new token.");
    }
    return sign(u, conn, err);
}

static int take_renew(struct unary_call *owner, const Leeward__Control__V1__RenewRequest *r, struct err *err)
{
    const struct tls_peer *peer = rpc_call_peer(owner->call);
    struct unary *u = unary_begin(owner, &r->csr_der, err);

    if (!u)
        return -1;
    snprintf(u->role, sizeof(u->role), "%s", peer->role);
    ident_to_text(&peer->id, u->id);
    u->task.work = renew_work;
    unary_submit(owner, u);
    return 0;
}

static void on_renew(struct rpc_call *call, void *arg, struct buf *message)
{
    ProtobufCMessage *m = NULL;
    struct err err = ERR_INIT;

    if (wire_unpack(&leeward__control__v1__renew_request__descriptor, message->data, message->len, &m, &err) < 0 ||
        take_renew(arg, (const Leeward__Control__V1__RenewRequest *)m, &err) < 0)
        rpc_call_fail(call, &err);
    wire_free(m);
}

static const struct rpc_call_ops renew_ops = {.on_message = on_renew, .on_end = on_end, .auto_consume = true};

int renewal_accept(
    struct rpc_call *call, void *server_arg, const struct rpc_call_ops **ret_ops, void **ret_arg, struct err *err)
{
    const struct tls_peer *peer = rpc_call_peer(call);

    if (!peer->authenticated || strcmp(peer->role, "hub") == 0)
        return err_set(err, ERR_DENIED, "only agents, nodes and vaults renew here");
    return accept_unary(call, server_arg, &renew_ops, ret_ops, ret_arg, err);
}
