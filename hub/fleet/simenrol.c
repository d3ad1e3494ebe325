/* SPDX-License-Identifier: Apache-2.0
 *
 * Enrolment of a whole fleet over one connection, some requests at a time. The hub is known by the fingerprint in the tokens. A hub that
 * is busy, or that lets only so many in per second, is asked again after a pause; a refused token ends the fleet, for somebody
 * else has used it.
 */
#include <stdio.h>
#include <string.h>

#include "hub/fleet/simfleet.h"
#include "transport/base/clock.h"
#include "transport/base/file.h"
#include "transport/base/log.h"
#include "transport/base/mem.h"
#include "transport/proto/enrol.h"
#include "transport/proto/keypair.h"
#include "transport/proto/wire.h"

#define ENROL_PATH "/leeward.control.v1.Enrolment/Enrol"
#define IN_FLIGHT_MAX 16u
#define CALL_USEC (60 * USEC_PER_SEC)
#define PAUSE_USEC (2 * USEC_PER_SEC)
#define REQUEST_MAX 65536u

struct simenrol {
    struct simfleet *fleet;
    struct tls_context *tls;
    struct rpc_channel *channel;
    char fingerprint[ENROL_FINGERPRINT_SIZE];
    char *key, *ca;
    bool has_ca, stopping;
    unsigned in_flight;
    size_t next;         /* members before it were asked for */
    uint64_t pause_usec; /* monotonic: nobody is asked before */
};

/* ---- the answer ---- */

static int store_pem(const char *path, const char *pem, struct err *err)
{
    FILE *f = fopen(path, "we");

    /* Not synced: a fleet that is gone is made anew. */
    if (!f || fputs(pem, f) < 0 || fclose(f) != 0)
        return err_set(err, ERR_IO, "%s cannot be written", path);
    return 0;
}

static int store_ca(struct simenrol *e, const char *pem, struct err *err)
{
    char shown[ENROL_FINGERPRINT_SIZE];

    if (e->has_ca)
        return 0;
    if (keypair_fingerprint(pem, strlen(pem), shown, err) < 0)
        return -1;
    if (strcmp(shown, e->fingerprint) != 0)
        return err_set(err, ERR_UNAUTHENTICATED, "the hub's answer carries another CA than its tokens");
    if (store_pem(e->ca, pem, err) < 0)
        return -1;
    e->has_ca = true;
    return 0;
}

static int take_reply(struct simenrol *e, struct simmember *m, const struct buf *bytes, struct err *err)
{
    ProtobufCMessage *message = NULL;
    struct tls_peer identity;
    uint64_t from, to;
    int rc = -1;

    if (wire_unpack(&leeward__control__v1__enrol_reply__descriptor, bytes->data, bytes->len, &message, err) < 0)
        return -1;
    const Leeward__Control__V1__EnrolReply *reply = (const Leeward__Control__V1__EnrolReply *)message;
    AUTO_FREE char *path = mem_printf("%s/%s-%u.pem", e->fleet->conf.data_dir, m->peer.role, m->number);
    const struct tls_files files = {.certificate = path, .key = e->key, .ca = e->ca};

    if (!path)
        (void)err_set(err, ERR_NOMEM, "no memory for an identity");
    else if (tls_certificate_read(reply->certificate_pem, strlen(reply->certificate_pem), &identity, &from, &to, err) ==
                 0 &&
             store_ca(e, reply->ca_pem, err) == 0 && store_pem(path, reply->certificate_pem, err) == 0) {
        ident_to_text(&identity.id, m->peer.id);
        rc = strcmp(identity.role, m->peer.role) != 0
                 ? err_set(err, ERR_CORRUPT, "the hub made a certificate for a %s", identity.role)
                 : simpeer_open(e->fleet->loop, e->fleet->conf.hub, &files, &m->peer, err);
    }
    wire_free(message);
    return rc;
}

static void give_up(struct simenrol *e, const struct err *why)
{
    log_event(LOG_ERROR, "enrolment_failed", LOG_E(why));
    (void)sd_event_exit(e->fleet->loop, 1);
}

static bool is_for_later(enum rpc_status status)
{
    return status == RPC_UNAVAILABLE || status == RPC_RESOURCE_EXHAUSTED || status == RPC_DEADLINE_EXCEEDED;
}

static void on_answer(void *arg, enum rpc_status status, const char *text, struct buf *reply)
{
    struct simmember *m = arg;
    struct simenrol *e = m->fleet->enrol;
    struct err err = ERR_INIT;

    m->enrolling = false;
    if (!e || e->stopping)
        return;
    e->in_flight--;
    if (is_for_later(status)) {
        log_event(LOG_DEBUG, "enrolment_later", LOG_S("peer", m->peer.name), LOG_S("text", text));
        e->pause_usec = clock_mono_usec() + PAUSE_USEC;
        e->next = 0; /* it is looked for again */
        return;
    }
    if (status != RPC_OK) {
        (void)err_set(&err, err_from_grpc_status((int)status), "%s: %s", m->peer.name, text);
        give_up(e, &err);
    } else if (take_reply(e, m, reply, &err) < 0)
        give_up(e, &err);
    else {
        free(TAKE_PTR(m->token));
        simfleet_enrolled(m);
    }
}

/* ---- asking ---- */

static int ask(struct simenrol *e, struct simmember *m, struct err *err)
{
    Leeward__Control__V1__EnrolRequest request = LEEWARD__CONTROL__V1__ENROL_REQUEST__INIT;
    AUTO_BUF struct buf csr = BUF_INIT(REQUEST_MAX);
    AUTO_BUF struct buf bytes = BUF_INIT(REQUEST_MAX);

    if (keypair_request(e->key, m->peer.name, &csr, err) < 0)
        return -1;
    request.token = m->token;
    request.csr_der = (ProtobufCBinaryData){.len = csr.len, .data = csr.data};
    request.role = (char *)(uintptr_t)m->peer.role;
    request.name = m->peer.name;
    if (wire_pack(&request.base, &bytes, err) < 0)
        return -1;
    return rpc_unary(e->channel, ENROL_PATH, clock_mono_usec() + CALL_USEC, &bytes, on_answer, m, err);
}

void simenrol_go_on(struct simenrol *e)
{
    struct err err = ERR_INIT;

    if (clock_mono_usec() < e->pause_usec)
        return;
    for (; e->next < e->fleet->count && e->in_flight < IN_FLIGHT_MAX; e->next++) {
        struct simmember *m = &e->fleet->members[e->next];

        if (!m->token || m->enrolling)
            continue;
        if (ask(e, m, &err) < 0) {
            give_up(e, &err);
            return;
        }
        m->enrolling = true;
        e->in_flight++;
    }
}

int simenrol_new(struct simfleet *fleet, struct simenrol **ret_enrol, struct err *err)
{
    struct simenrol *e = mem_new(struct simenrol);

    if (!e)
        return err_set(err, ERR_NOMEM, "no memory for enrolment");
    *ret_enrol = e; /* the fleet frees it, whatever comes */
    e->fleet = fleet;
    e->key = mem_printf("%s/key.pem", fleet->conf.data_dir);
    e->ca = mem_printf("%s/ca.pem", fleet->conf.data_dir);
    if (!e->key || !e->ca)
        return err_set(err, ERR_NOMEM, "no memory for enrolment");
    if (enrol_token_fingerprint(fleet->members[0].token, e->fingerprint, err) < 0 || keypair_ensure(e->key, err) < 0 ||
        tls_client_new(&(struct tls_files){0}, e->fingerprint, &e->tls, err) < 0)
        return -1;
    return rpc_channel_new(fleet->loop, fleet->conf.hub, e->tls, "hub", NULL, NULL, &e->channel, err);
}

void simenrol_free(struct simenrol *e)
{
    if (!e)
        return;
    e->stopping = true;
    rpc_channel_free(e->channel);
    tls_context_free(e->tls);
    free(e->key);
    free(e->ca);
    free(e);
}
