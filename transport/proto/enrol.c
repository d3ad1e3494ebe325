/* SPDX-License-Identifier: Apache-2.0
 *
 * Enrolment, client side. Order of the files: key, (the hub is asked), CA, certificate; each is replaced whole and synced, and
 * an identity counts only when the certificate is there, so a crash at any point leaves either nothing or a key with which the
 * hub gives the same answer again. The server is trusted by the fingerprint in the token alone, before the token is sent.
 */
#include "transport/proto/enrol.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <systemd/sd-event.h>

#include "transport/base/buf.h"
#include "transport/base/bytes.h"
#include "transport/base/backoff.h"
#include "transport/base/clock.h"
#include "transport/base/file.h"
#include "transport/base/log.h"
#include "transport/base/mem.h"
#include "transport/proto/control.pb-c.h"
#include "transport/proto/keypair.h"
#include "transport/proto/wire.h"
#include "transport/rpc/rpc.h"

#define ENROL_PATH "/leeward.control.v1.Enrolment/Enrol"
#define TOKEN_SECRET_LEN 43 /* base64url of 32 bytes */
#define WAIT_USEC (60 * USEC_PER_SEC)
#define CALL_USEC (20 * USEC_PER_SEC)
#define RETRY_MIN_USEC (200 * USEC_PER_MSEC)
#define RETRY_MAX_USEC (5 * USEC_PER_SEC)
#define PEM_MAX 65536u
#define REQUEST_MAX 65536u

/* ---- token ---- */

static bool is_base64url(const char *s, size_t n)
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    for (size_t i = 0; i < n; i++)
        if (s[i] == '\0' || strchr(alphabet, s[i]) == NULL)
            return false;
    return true;
}

int enrol_token_fingerprint(const char *token, char ret_fingerprint[ENROL_FINGERPRINT_SIZE], struct err *err)
{
    uint8_t digest[32];
    size_t prefix = strlen(ENROL_TOKEN_PREFIX);
    bool ok = strlen(token) == prefix + TOKEN_SECRET_LEN + 1 + 64 && strncmp(token, ENROL_TOKEN_PREFIX, prefix) == 0 &&
              is_base64url(token + prefix, TOKEN_SECRET_LEN) && token[prefix + TOKEN_SECRET_LEN] == '.' &&
              bytes_from_hex(token + prefix + TOKEN_SECRET_LEN + 1, digest, sizeof(digest)) == 0;
    if (!ok) {
        err_set(err, ERR_INVALID, "this is not an enrolment token");
        return err_hint(err, "copy the whole text, from lwe_ to the last digit, as the hub printed it");
    }
    bytes_to_hex(digest, sizeof(digest), ret_fingerprint);
    return 0;
}

/* ---- files ---- */

void enrol_identity_done(struct enrol_identity *identity)
{
    free((char *)(uintptr_t)identity->files.certificate);
    free((char *)(uintptr_t)identity->files.key);
    free((char *)(uintptr_t)identity->files.ca);
    *identity = (struct enrol_identity){0};
}

static int identity_paths(const char *data_dir, struct enrol_identity *identity, struct err *err)
{
    identity->files.certificate = mem_printf("%s/identity/cert.pem", data_dir);
    identity->files.key = mem_printf("%s/identity/key.pem", data_dir);
    identity->files.ca = mem_printf("%s/identity/ca.pem", data_dir);
    if (identity->files.certificate == NULL || identity->files.key == NULL || identity->files.ca == NULL)
        return err_set(err, ERR_NOMEM, "no memory for an identity");
    return 0;
}

static int identity_take(struct enrol_identity *identity, const char *pem, size_t n, struct err *err)
{
    struct tls_peer peer;
    uint64_t from, to;
    if (tls_certificate_read(pem, n, &peer, &from, &to, err) < 0 || keypair_match(identity->files.key, pem, n, err) < 0)
        return -1;
    identity->id = peer.id;
    ident_to_text(&peer.id, identity->id_text);
    memcpy(identity->role, peer.role, sizeof(identity->role));
    return 0;
}

static int identity_load(struct enrol_identity *identity, struct err *err)
{
    AUTO_BUF struct buf pem = BUF_INIT(PEM_MAX);
    if (file_read(identity->files.certificate, &pem, err) < 0)
        return -1;
    if (identity_take(identity, (const char *)pem.data, pem.len, err) < 0) {
        if (err != NULL)
            err->code = ERR_CORRUPT;
        err_wrap(err, "%s", identity->files.certificate);
        return err_hint(err, "remove the identity folder and enrol again with a new token");
    }
    return 0;
}

int enrol_load(const char *data_dir, struct enrol_identity *ret_identity, struct err *err)
{
    struct enrol_identity identity = {0};
    if (identity_paths(data_dir, &identity, err) < 0 || identity_load(&identity, err) < 0) {
        enrol_identity_done(&identity);
        return -1;
    }
    *ret_identity = identity;
    return 0;
}

/* ---- asking the hub ---- */

struct asking {
    sd_event *loop;
    struct buf reply;
    struct err err;
    bool answered;
};

static void on_answer(void *arg, enum rpc_status status, const char *text, struct buf *reply)
{
    struct asking *a = arg;
    a->answered = true;
    err_clear(&a->err);
    if (status == RPC_OK) {
        buf_move(&a->reply, reply);
    } else {
        /* "what happened; what to do" */
        const char *cut = strrchr(text, ';');
        err_set(&a->err, err_from_grpc_status((int)status), "%.*s", cut != NULL ? (int)(cut - text) : (int)strlen(text),
            text);
        if (cut != NULL)
            err_hint(&a->err, "%s", cut + strspn(cut, "; "));
    }
}

static int request_pack(
    const struct enrol_conf *conf, const struct enrol_identity *identity, struct buf *out, struct err *err)
{
    char host[256] = "", machine_uid[64] = "";
    AUTO_BUF struct buf csr = BUF_INIT(REQUEST_MAX);
    AUTO_BUF struct buf uid = BUF_INIT(sizeof(machine_uid) - 1);
    (void)gethostname(host, sizeof(host) - 1);
    const char *name = conf->name != NULL && conf->name[0] != '\0' ? conf->name : host;
    if (file_read("/etc/machine-id", &uid, NULL) == 0) {
        memcpy(machine_uid, uid.data, uid.len);
        machine_uid[strcspn(machine_uid, "\n")] = '\0';
    }
    if (keypair_request(identity->files.key, name, &csr, err) < 0)
        return -1;
    Leeward__Control__V1__EnrolRequest request = LEEWARD__CONTROL__V1__ENROL_REQUEST__INIT;
    request.token = (char *)(uintptr_t)conf->token;
    request.csr_der = (ProtobufCBinaryData){.len = csr.len, .data = csr.data};
    request.role = (char *)(uintptr_t)conf->role;
    request.name = (char *)(uintptr_t)name;
    request.machine_uid = machine_uid;
    return wire_pack(&request.base, out, err);
}

/* One attempt. */
static int ask_once(struct asking *a, struct rpc_channel *channel, const struct buf *request, struct err *err)
{
    struct buf copy = BUF_INIT(REQUEST_MAX);
    a->answered = false;
    if (buf_append(&copy, request->data, request->len, err) < 0)
        return -1;
    int rc = rpc_unary(channel, ENROL_PATH, clock_mono_usec() + CALL_USEC, &copy, on_answer, a, err);
    buf_done(&copy);
    while (rc >= 0 && !a->answered)
        rc = sd_event_run(a->loop, UINT64_MAX);
    if (rc < 0 && !a->answered)
        return err_sys(err, -rc, "waiting for the hub");
    err_copy(err, &a->err);
    return a->err.code == ERR_NONE ? 0 : -1;
}

static void pause_for(sd_event *loop, uint64_t usec)
{
    uint64_t end = clock_mono_usec() + usec;
    for (uint64_t now; (now = clock_mono_usec()) < end;)
        if (sd_event_run(loop, end - now) < 0)
            return;
}

static int ask(struct asking *a, struct rpc_channel *channel, const struct enrol_conf *conf, const struct buf *request,
    struct err *err)
{
    uint64_t end = clock_mono_usec() + (conf->wait_usec != 0 ? conf->wait_usec : WAIT_USEC);
    uint64_t pause = RETRY_MIN_USEC;
    for (unsigned attempt = 1;; attempt++) {
        struct err why = ERR_INIT;
        if (ask_once(a, channel, request, &why) == 0)
            return 0;
        bool again = why.code == ERR_UNAVAILABLE || why.code == ERR_TIMEOUT;
        if (!again || clock_mono_usec() + pause >= end) {
            err_copy(err, &why);
            err_wrap(err, "enrolling with the hub at %s", conf->hub);
            return -1;
        }
        if (attempt == 1)
            log_event(LOG_WARN, "hub_not_reached", LOG_S("hub", conf->hub), LOG_E(&why));
        pause_for(a->loop, backoff_spread(pause, clock_jitter_usec(UINT64_MAX)));
        pause = backoff_longer(pause, RETRY_MIN_USEC, RETRY_MAX_USEC);
    }
}

static int ask_hub(const struct enrol_conf *conf, const struct enrol_identity *identity, const char *fingerprint,
    struct buf *ret_reply, struct err *err)
{
    struct asking a = {0};
    struct tls_context *tls = NULL;
    struct rpc_channel *channel = NULL;
    AUTO_BUF struct buf request = BUF_INIT(REQUEST_MAX);
    int rc = request_pack(conf, identity, &request, err);
    if (rc == 0)
        rc = tls_client_new(&(struct tls_files){0}, fingerprint, &tls, err);
    if (rc == 0 && sd_event_new(&a.loop) < 0)
        rc = err_set(err, ERR_NOMEM, "no memory for an event loop");
    if (rc == 0)
        rc = rpc_channel_new(a.loop, conf->hub, tls, "hub", NULL, NULL, &channel, err);
    if (rc == 0)
        rc = ask(&a, channel, conf, &request, err);
    if (rc == 0)
        buf_move(ret_reply, &a.reply);
    rpc_channel_free(channel);
    tls_context_free(tls);
    sd_event_unref(a.loop);
    buf_done(&a.reply);
    explicit_bzero(request.data, request.len);
    return rc;
}

/* ---- storing the answer ---- */

static int reply_check(const struct enrol_conf *conf, const Leeward__Control__V1__EnrolReply *reply,
    const char *fingerprint, struct enrol_identity *identity, struct err *err)
{
    char shown[ENROL_FINGERPRINT_SIZE];
    const char *certificate = reply->certificate_pem, *ca = reply->ca_pem;
    if (keypair_fingerprint(ca, strlen(ca), shown, err) < 0)
        return err_wrap(err, "the hub's answer has no CA");
    if (strcmp(shown, fingerprint) != 0)
        return err_set(err, ERR_UNAUTHENTICATED, "the hub's answer carries another CA than its token");
    if (identity_take(identity, certificate, strlen(certificate), err) < 0)
        return err_wrap(err, "the hub's answer has no usable certificate");
    if (strcmp(identity->role, conf->role) != 0 || strcmp(identity->id_text, reply->id) != 0)
        return err_set(err, ERR_CORRUPT, "the hub's answer names %s %s, its certificate %s %s", conf->role, reply->id,
            identity->role, identity->id_text);
    return 0;
}

static int reply_store(const struct enrol_conf *conf, const struct buf *bytes, const char *fingerprint,
    struct enrol_identity *identity, struct err *err)
{
    ProtobufCMessage *message = NULL;
    if (wire_unpack(&leeward__control__v1__enrol_reply__descriptor, bytes->data, bytes->len, &message, err) < 0)
        return -1;
    const Leeward__Control__V1__EnrolReply *reply = (const Leeward__Control__V1__EnrolReply *)message;
    int rc = reply_check(conf, reply, fingerprint, identity, err);
    if (rc == 0)
        rc = file_replace(identity->files.ca, reply->ca_pem, strlen(reply->ca_pem), 0600, err);
    if (rc == 0)
        rc = file_replace(
            identity->files.certificate, reply->certificate_pem, strlen(reply->certificate_pem), 0600, err);
    wire_free(message);
    return rc;
}

static int enrol(const struct enrol_conf *conf, struct enrol_identity *identity, struct err *err)
{
    char fingerprint[ENROL_FINGERPRINT_SIZE];
    AUTO_FREE char *dir = mem_printf("%s/identity", conf->data_dir);
    AUTO_BUF struct buf reply = BUF_INIT(PEM_MAX);
    if (conf->token == NULL || conf->token[0] == '\0') {
        err_set(err, ERR_INVALID, "this %s is not enrolled and no token was given", conf->role);
        return err_hint(
            err, "make a token on the hub (leeward enrol-token create --role %s) and start with --token", conf->role);
    }
    if (dir == NULL)
        return err_set(err, ERR_NOMEM, "no memory for an identity");
    if (enrol_token_fingerprint(conf->token, fingerprint, err) < 0 || file_make_dirs(dir, 0700, err) < 0 ||
        keypair_ensure(identity->files.key, err) < 0 || ask_hub(conf, identity, fingerprint, &reply, err) < 0 ||
        reply_store(conf, &reply, fingerprint, identity, err) < 0)
        return -1;
    log_event(
        LOG_INFO, "enrolled", LOG_S("role", identity->role), LOG_S("id", identity->id_text), LOG_S("hub", conf->hub));
    return 0;
}

int enrol_ensure(const struct enrol_conf *conf, struct enrol_identity *ret_identity, struct err *err)
{
    struct enrol_identity identity = {0};
    struct err why = ERR_INIT;
    int rc = identity_paths(conf->data_dir, &identity, err);
    if (rc == 0 && identity_load(&identity, &why) < 0) {
        rc = why.code == ERR_NOT_FOUND ? enrol(conf, &identity, err) : -1;
        if (why.code != ERR_NOT_FOUND)
            err_copy(err, &why);
    }
    if (rc == 0 && strcmp(identity.role, conf->role) != 0) {
        rc = err_set(
            err, ERR_REFUSED, "%s/identity belongs to a %s, this is a %s", conf->data_dir, identity.role, conf->role);
        err_hint(err, "give each daemon a data folder of its own");
    }
    if (rc < 0) {
        enrol_identity_done(&identity);
        return -1;
    }
    *ret_identity = identity;
    return 0;
}
