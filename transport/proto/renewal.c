/* SPDX-License-Identifier: Apache-2.0
 *
 * Renewal of certificates. A timer looks at the certificate twelve times in its life; past two thirds it asks the hub, and asks
 * again at the next look when that failed. The answer must name the same role and id and be for our key.
 */
#include "transport/proto/renewal.h"

#include <string.h>

#include "transport/base/clock.h"
#include "transport/base/file.h"
#include "transport/base/log.h"
#include "transport/base/mem.h"
#include "transport/loop/loop.h"
#include "transport/proto/control.pb-c.h"
#include "transport/proto/keypair.h"
#include "transport/proto/wire.h"

#define RENEW_PATH "/leeward.control.v1.Control/Renew"
#define PEM_MAX 65536u
#define LOOKS_PER_LIFE 12u
#define LOOK_MIN_USEC (500 * USEC_PER_MSEC)
#define LOOK_MAX_USEC (3600 * USEC_PER_SEC)
#define CALL_USEC (20 * USEC_PER_SEC)

struct renewal {
    struct rpc_channel *channel;
    const struct enrol_identity *identity;
    void (*on_renewed)(void *arg);
    void *arg;
    struct loop_timer *timer;
    uint64_t from_usec, to_usec; /* validity, UTC */
    struct renewal_asking *asking;
};

/* The call may end after the renewal is gone. */
struct renewal_asking {
    struct renewal *renewal; /* NULL then */
};

static int certificate_look(struct renewal *r, struct err *err)
{
    struct tls_peer peer;
    AUTO_BUF struct buf pem = BUF_INIT(PEM_MAX);
    if (file_read(r->identity->files.certificate, &pem, err) < 0)
        return -1;
    return tls_certificate_read((const char *)pem.data, pem.len, &peer, &r->from_usec, &r->to_usec, err);
}

static void look_later(struct renewal *r)
{
    uint64_t wait = r->to_usec > r->from_usec ? (r->to_usec - r->from_usec) / LOOKS_PER_LIFE : LOOK_MAX_USEC;
    wait = wait < LOOK_MIN_USEC ? LOOK_MIN_USEC : wait;
    wait = wait > LOOK_MAX_USEC ? LOOK_MAX_USEC : wait;
    loop_timer_set(r->timer, wait - wait / 4 + clock_jitter_usec(wait / 4));
}

static int reply_store(struct renewal *r, const Leeward__Control__V1__EnrolReply *reply, struct err *err)
{
    struct tls_peer peer;
    uint64_t from, to;
    const char *pem = reply->certificate_pem;
    if (tls_certificate_read(pem, strlen(pem), &peer, &from, &to, err) < 0 ||
        keypair_match(r->identity->files.key, pem, strlen(pem), err) < 0)
        return -1;
    if (!ident_equal(&peer.id, &r->identity->id) || strcmp(peer.role, r->identity->role) != 0)
        return err_set(err, ERR_CORRUPT, "the renewed certificate is for somebody else");
    /* The CA first: with the new certificate and an old CA we could not verify a hub that has changed its own. */
    if (reply->ca_pem[0] != '\0' &&
        file_replace(r->identity->files.ca, reply->ca_pem, strlen(reply->ca_pem), 0600, err) < 0)
        return -1;
    return file_replace(r->identity->files.certificate, pem, strlen(pem), 0600, err);
}

static int reply_take(struct renewal *r, const struct buf *bytes, struct err *err)
{
    ProtobufCMessage *m = NULL;
    if (wire_unpack(&leeward__control__v1__enrol_reply__descriptor, bytes->data, bytes->len, &m, err) < 0)
        return -1;
    int rc = reply_store(r, (const Leeward__Control__V1__EnrolReply *)m, err);
    wire_free(m);
    return rc < 0 ? -1 : certificate_look(r, err);
}

static void on_reply(void *arg, enum rpc_status status, const char *text, struct buf *reply)
{
    struct renewal_asking *asking = arg;
    struct renewal *r = asking->renewal;
    struct err err = ERR_INIT;
    free(asking);
    if (r == NULL)
        return;
    r->asking = NULL;
    if (status != RPC_OK) {
        log_event(LOG_WARN, "certificate_not_renewed", LOG_S("error", text));
    } else if (reply_take(r, reply, &err) < 0) {
        log_event(LOG_ERROR, "certificate_not_renewed", LOG_E(&err));
    } else {
        log_event(LOG_INFO, "certificate_renewed", LOG_S("id", r->identity->id_text));
        r->on_renewed(r->arg);
    }
}

static int ask(struct renewal *r, struct err *err)
{
    AUTO_BUF struct buf csr = BUF_INIT(PEM_MAX);
    AUTO_BUF struct buf bytes = BUF_INIT(PEM_MAX);
    Leeward__Control__V1__RenewRequest request = LEEWARD__CONTROL__V1__RENEW_REQUEST__INIT;
    if (keypair_request(r->identity->files.key, r->identity->id_text, &csr, err) < 0)
        return -1;
    request.csr_der = (ProtobufCBinaryData){.len = csr.len, .data = csr.data};
    if (wire_pack(&request.base, &bytes, err) < 0)
        return -1;
    struct renewal_asking *asking = mem_new(struct renewal_asking);
    if (asking == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a renewal");
    asking->renewal = r;
    if (rpc_unary(r->channel, RENEW_PATH, clock_mono_usec() + CALL_USEC, &bytes, on_reply, asking, err) < 0) {
        free(asking);
        return -1;
    }
    r->asking = asking;
    return 0;
}

static void on_look(void *arg)
{
    struct renewal *r = arg;
    struct err err = ERR_INIT;
    bool due = clock_utc_usec() > r->from_usec + (r->to_usec - r->from_usec) / 3 * 2;
    if (due && r->asking == NULL && ask(r, &err) < 0)
        log_event(LOG_WARN, "certificate_not_renewed", LOG_E(&err));
    look_later(r);
}

int renewal_new(sd_event *loop, struct rpc_channel *channel, const struct enrol_identity *identity,
    void (*on_renewed)(void *arg), void *arg, struct renewal **ret_renewal, struct err *err)
{
    struct renewal *r = mem_new(struct renewal);
    if (r == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a renewal");
    *r = (struct renewal){.channel = channel, .identity = identity, .on_renewed = on_renewed, .arg = arg};
    if (certificate_look(r, err) < 0 || loop_timer_new(loop, LOOK_MIN_USEC, 0, on_look, r, &r->timer, err) < 0) {
        renewal_free(r);
        return -1;
    }
    *ret_renewal = r;
    return 0;
}

void renewal_free(struct renewal *r)
{
    if (r == NULL)
        return;
    if (r->asking != NULL)
        r->asking->renewal = NULL;
    loop_timer_free(r->timer);
    free(r);
}
