/* SPDX-License-Identifier: Apache-2.0
 *
 * leeward-vault: stores the replicated data and its recovery points at the recovery site, and opens any point as a disk.
 * Start: configuration, identity (a one-time token at the first start), the vault, then the session with the hub.
 */
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "transport/base/conf.h"
#include "transport/base/log.h"
#include "transport/base/mem.h"
#include "transport/loop/loop.h"
#include "transport/proto/enrol.h"
#include "transport/proto/session.h"
#include "transport/vault/rebuildcommand.h"
#include "transport/vault/salvagecommand.h"
#include "transport/vault/vaultd.h"

#define DAEMON "leeward-vault"
#define KEEP_FREED_BYTES (64u << 20) /* some dozen batches in flight */
#define SUMMARY                                                                                                        \
    "Stores replicated machines with their recovery points and opens any of them as a disk. "                          \
    "\"leeward-vault rebuild\" makes a lost one again from its bucket, \"leeward-vault salvage\" helps a machine "     \
    "whose "                                                                                                           \
    "log has a hole."
#define PLUGIN "leeward-vault-nbd.so"
#define PORT_DEFAULT 9444

struct config {
    struct bucketconf bucket;
    uint64_t bucket_every;
    char *data, *hub, *token, *listen, *advertise, *plugin, *sockets, *log_level;
    bool log_json;
    uint64_t reserve, cache, threads, scrub_rate, scrub_every, compact_rate, compact_every;
};

#define ROW(member) CONF_OFFSET(struct config, member)
static const struct conf_row rows[] = {
    {.key = "data", .type = CONF_STRING, .offset = ROW(data), .required = true, .help = "folder of this vault"},
    {.key = "hub",
        .type = CONF_STRING,
        .offset = ROW(hub),
        .required = true,
        .help = "HOST:PORT of the hub's control plane"},
    {.key = "token",
        .type = CONF_STRING,
        .offset = ROW(token),
        .secret = true,
        .help = "enrolment token, for the first start"},
    {.key = "listen",
        .type = CONF_STRING,
        .offset = ROW(listen),
        .fallback = "0.0.0.0:9444",
        .help = "ADDRESS:PORT to serve on"},
    {.key = "advertise",
        .type = CONF_STRING,
        .offset = ROW(advertise),
        .help = "HOST:PORT for nodes (default: host name and port)"},
    {.key = "reserve",
        .type = CONF_BYTES,
        .offset = ROW(reserve),
        .fallback = "512M",
        .help = "bytes kept free on the vault's disk"},
    {.key = "cache",
        .type = CONF_BYTES,
        .offset = ROW(cache),
        .fallback = "64M",
        .min = 1u << 20,
        .help = "bytes of decoded blocks per open point"},
    {.key = "threads",
        .type = CONF_UINT,
        .offset = ROW(threads),
        .fallback = "4",
        .min = 1,
        .max = 64,
        .help = "worker threads"},
    {.key = "scrub-rate",
        .type = CONF_BYTES,
        .offset = ROW(scrub_rate),
        .fallback = "64M",
        .help = "bytes per second that the background verification reads (0: it is off)"},
    {.key = "scrub-every",
        .type = CONF_USEC,
        .offset = ROW(scrub_every),
        .fallback = "7d",
        .min = 1000000,
        .help = "time from the beginning of one full background verification to the next"},
    {.key = "compact-rate",
        .type = CONF_BYTES,
        .offset = ROW(compact_rate),
        .fallback = "32M",
        .help = "bytes per second that giving back the space of dropped points reads and writes in the background (0: "
                "as fast as it goes)"},
    {.key = "compact-every",
        .type = CONF_USEC,
        .offset = ROW(compact_every),
        .fallback = "30m",
        .min = 1000000,
        .help = "how often a machine's log is looked through for what no point needs any more"},
    {.key = "nbdkit-plugin",
        .type = CONF_STRING,
        .offset = ROW(plugin),
        .help = "path of " PLUGIN " (default: beside the program, or ../lib/leeward)"},
    {.key = "export-sockets",
        .type = CONF_STRING,
        .offset = ROW(sockets),
        .help = "folder of the sockets of open points; its group may use them (default: DATA/exports, for the vault "
                "alone)"},
    {.key = "bucket",
        .type = CONF_STRING,
        .offset = ROW(bucket.url),
        .help = "URL of a copy in object storage: file:///PATH, azure://ACCOUNT/CONTAINER[/PREFIX] or "
                "s3://BUCKET[/PREFIX]"},
    {.key = "bucket-every",
        .type = CONF_USEC,
        .offset = ROW(bucket_every),
        .fallback = "10s",
        .min = 100000,
        .max = 86400000000,
        .help = "how often what is new goes to the bucket"},
    BUCKETCONF_ROWS(struct config, bucket),
    {.key = "log-level",
        .type = CONF_STRING,
        .offset = ROW(log_level),
        .fallback = "info",
        .help = "debug, info, warn or error"},
    {.key = "log-json", .type = CONF_BOOL, .offset = ROW(log_json), .help = "one JSON object per line"},
};

/* What must be ended in the right order. */
struct running {
    sd_event *loop;
    struct enrol_identity identity;
    struct tls_context *tls, *client_tls;
    struct vaultd *vault;
    struct session *session;
};

static int log_setup(const struct config *c, struct err *err)
{
    int level = log_level_from_name(c->log_level);
    if (level < 0)
        return err_set(err, ERR_INVALID, "--log-level %s: debug, info, warn or error", c->log_level);
    log_set_daemon(DAEMON);
    log_set_level((enum log_level)level);
    log_set_json(c->log_json);
    return 0;
}

/* Beside the program, where the build puts it, or where it is installed. */
static char *plugin_path(const struct config *c)
{
    char self[PATH_MAX];
    if (c->plugin != NULL && c->plugin[0] != '\0')
        return mem_strdup(c->plugin);
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    self[n < 0 ? 0 : n] = '\0';
    const char *folder = dirname(self);
    char *beside = mem_printf("%s/" PLUGIN, folder);
    if (beside == NULL || access(beside, R_OK) == 0)
        return beside;
    free(beside);
    return mem_printf("%s/../lib/leeward/" PLUGIN, folder);
}

static char *advertised(const struct config *c, unsigned port)
{
    char host[HOST_NAME_MAX + 1] = "localhost";
    if (c->advertise != NULL && c->advertise[0] != '\0')
        return mem_strdup(c->advertise);
    (void)gethostname(host, sizeof(host) - 1);
    return mem_printf("%s:%u", host, port == 0 ? PORT_DEFAULT : port);
}

static int start_vault(struct running *r, const struct config *c, struct err *err)
{
    char *plugin AUTO_FREE = plugin_path(c);
    if (plugin == NULL)
        return err_set(err, ERR_NOMEM, "no memory to start");
    struct vaultd_conf conf = {.data_dir = c->data,
        .listen = c->listen,
        .plugin = plugin,
        .socket_folder = c->sockets,
        .reserve_bytes = c->reserve,
        .cache_bytes = c->cache,
        .threads = (unsigned)c->threads,
        .bucket = &c->bucket,
        .bucket_every_usec = c->bucket_every,
        .compact_rate = c->compact_rate,
        .compact_every_usec = c->compact_every,
        .scrub_rate = c->scrub_rate,
        .scrub_every_usec = c->scrub_every,
        .tls = r->tls,
        .client_tls = r->client_tls};
    return vaultd_new(r->loop, &conf, &r->vault, err);
}

static int start_session(struct running *r, const struct config *c, struct err *err)
{
    char *endpoint AUTO_FREE = advertised(c, vaultd_port(r->vault));
    struct session_conf conf = {.identity = &r->identity,
        .data_dir = c->data,
        .hub = c->hub,
        .software = DAEMON " " LEEWARD_VERSION,
        .endpoint = endpoint};
    if (endpoint == NULL)
        return err_set(err, ERR_NOMEM, "no memory to start");
    if (session_new(r->loop, &conf, &vaultd_session_ops, r->vault, &r->session, err) < 0)
        return -1;
    vaultd_set_session(r->vault, r->session);
    log_event(
        LOG_INFO, "ready", LOG_S("id", r->identity.id_text), LOG_S("listen", c->listen), LOG_S("advertise", endpoint));
    return 0;
}

static int start(struct running *r, const struct config *c, struct err *err)
{
    struct enrol_conf enrol = {.data_dir = c->data, .hub = c->hub, .token = c->token, .role = "vault"};
    if (log_setup(c, err) < 0 || loop_new(NULL, NULL, &r->loop, err) < 0 ||
        enrol_ensure(&enrol, &r->identity, err) < 0 || tls_server_new(&r->identity.files, false, &r->tls, err) < 0 ||
        tls_client_new(&r->identity.files, NULL, &r->client_tls, err) < 0)
        return -1;
    return start_vault(r, c, err) < 0 ? -1 : start_session(r, c, err);
}

static void stop(struct running *r)
{
    loop_notify_stopping();
    vaultd_free(r->vault);
    session_free(r->session);
    tls_context_free(r->tls);
    tls_context_free(r->client_tls);
    enrol_identity_done(&r->identity);
    loop_free(r->loop);
}

int main(int argc, char **argv)
{
    struct config c = {0};
    struct running r = {0};
    struct err err = ERR_INIT;
    if (argc > 1 && strcmp(argv[1], "rebuild") == 0)
        return rebuildcommand_main(argc - 1, argv + 1);
    if (argc > 1 && strcmp(argv[1], "salvage") == 0)
        return salvagecommand_main(argc - 1, argv + 1);
    mem_keep_freed(KEEP_FREED_BYTES);
    int result = conf_load(rows, ARRAY_LEN(rows), DAEMON, SUMMARY, argc, argv, &c, &err);
    if (result == 0)
        result = start(&r, &c, &err);
    else if (result > 0)
        return 0;
    if (result == 0) {
        loop_notify_ready();
        result = loop_run(r.loop, &err);
    }
    stop(&r);
    conf_done(rows, ARRAY_LEN(rows), &c);
    if (result < 0) {
        (void)fprintf(stderr, DAEMON ": %s%s%s\n", err.text, err.correction[0] != '\0' ? "; " : "", err.correction);
        return 1;
    }
    return 0;
}
