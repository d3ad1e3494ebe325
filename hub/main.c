/* SPDX-License-Identifier: Apache-2.0
 *
 * leeward-hub: configuration and the order in which the parts of the hub come up and go down. Up: lock, CA, PostgreSQL (private
 * unless a DSN is given), migrations, control plane, API, news, jobs. Down: the other way round, so that nobody is asked for
 * something that is gone already.
 */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hub/api/api.h"
#include "hub/api/oidc.h"
#include "hub/control/ca.h"
#include "hub/control/control.h"
#include "hub/control/live_status.h"
#include "hub/db/config_store.h"
#include "hub/db/job_store.h"
#include "hub/db/migrate.h"
#include "hub/db/news.h"
#include "hub/db/postgres_embedded.h"
#include "hub/db/secret_box.h"
#include "hub/db/token_store.h"
#include "hub/fabric/action.h"
#include "hub/fabric/fabric_task.h"
#include "hub/fabric/fixup_vm.h"
#include "hub/fabric/libvirt_child.h"
#include "hub/db/user_store.h"
#include "hub/jobs/drill_clock.h"
#include "hub/jobs/job_runner.h"
#include "hub/notify/notify.h"
#include "transport/base/clock.h"
#include "transport/base/conf.h"
#include "transport/base/file.h"
#include "transport/base/ident.h"
#include "transport/base/log.h"
#include "transport/loop/loop.h"

#define NAMES_MAX 32
#define DAY_USEC (24 * 3600 * USEC_PER_SEC)

struct settings {
    char *data, *database, *listen, *api_listen, *hostnames, *log_level, *rescue_image;
    char *api_certificate, *api_key, *public_url;
    char *scripts_dir, *scripts_user;
    uint64_t api_rate, api_failure_rate;
    char *oidc_issuer, *oidc_client_id, *oidc_client_secret, *oidc_ca, *oidc_scopes, *oidc_role_claim, *oidc_role_map,
        *oidc_name;
    uint64_t job_threads, api_threads, db_connections, enrolments_per_second, sessions_per_second;
    uint64_t rescue_machines;
    bool log_json, rescue_emulated;
};

#define AT(member) offsetof(struct settings, member)
static const struct conf_row rows[] = {
    {.key = "data",
        .type = CONF_STRING,
        .offset = AT(data),
        .fallback = "/var/lib/leeward/hub",
        .help = "folder of the CA, certificates and the private database"},
    {.key = "database",
        .type = CONF_STRING,
        .offset = AT(database),
        .secret = true,
        .help = "PostgreSQL to use (conninfo or postgresql:// URI); none: a private one in DATA/postgres"},
    {.key = "listen",
        .type = CONF_STRING,
        .offset = AT(listen),
        .fallback = "0.0.0.0:9442",
        .help = "ADDRESS:PORT for agents, nodes and vaults"},
    {.key = "api-listen",
        .type = CONF_STRING,
        .offset = AT(api_listen),
        .fallback = "127.0.0.1:8443",
        .help = "ADDRESS:PORT of the HTTPS API"},
    {.key = "hostnames",
        .type = CONF_STRING,
        .offset = AT(hostnames),
        .help = "more names and addresses for the API's certificate, separated by commas"},
    {.key = "api-certificate",
        .type = CONF_STRING,
        .offset = AT(api_certificate),
        .help = "PEM file of a certificate (with its chain) for the API; none: the hub's own CA makes one"},
    {.key = "api-key", .type = CONF_STRING, .offset = AT(api_key), .help = "PEM file of the key of api-certificate"},
    {.key = "api-rate",
        .type = CONF_UINT,
        .offset = AT(api_rate),
        .fallback = "1000",
        .min = 1,
        .max = 100000,
        .help = "requests a second of one token or session; twice as many at once"},
    {.key = "api-failure-rate",
        .type = CONF_UINT,
        .offset = AT(api_failure_rate),
        .fallback = "20",
        .min = 1,
        .max = 100000,
        .help = "wrong credentials a second of one address; ten times as many at once"},
    {.key = "public-url",
        .type = CONF_STRING,
        .offset = AT(public_url),
        .help = "https://NAME[:PORT] of this hub as browsers see it; needed with oidc-issuer"},
    {.key = "oidc-issuer",
        .type = CONF_STRING,
        .offset = AT(oidc_issuer),
        .help = "URL of an OpenID provider that people may sign in with"},
    {.key = "oidc-client-id", .type = CONF_STRING, .offset = AT(oidc_client_id), .help = "this hub's name there"},
    {.key = "oidc-client-secret",
        .type = CONF_STRING,
        .offset = AT(oidc_client_secret),
        .secret = true,
        .help = "and its secret; none for a public client"},
    {.key = "oidc-role-map",
        .type = CONF_STRING,
        .offset = AT(oidc_role_map),
        .help = "VALUE=ROLE,...: which values of the claim give viewer, operator or admin; * is everybody"},
    {.key = "oidc-role-claim",
        .type = CONF_STRING,
        .offset = AT(oidc_role_claim),
        .fallback = "groups",
        .help = "claim with the values of oidc-role-map, such as realm_access.roles"},
    {.key = "oidc-scopes",
        .type = CONF_STRING,
        .offset = AT(oidc_scopes),
        .fallback = "openid profile email",
        .help = "what is asked of the provider"},
    {.key = "oidc-ca",
        .type = CONF_STRING,
        .offset = AT(oidc_ca),
        .help = "PEM file of the provider's CA; none: the system's"},
    {.key = "oidc-name", .type = CONF_STRING, .offset = AT(oidc_name), .help = "what the sign-in page calls it"},
    {.key = "job-threads",
        .type = CONF_UINT,
        .offset = AT(job_threads),
        .fallback = "4",
        .min = 1,
        .max = 16,
        .help = "threads that work on jobs"},
    {.key = "api-threads",
        .type = CONF_UINT,
        .offset = AT(api_threads),
        .fallback = "4",
        .min = 1,
        .max = 64,
        .help = "threads that answer API requests"},
    {.key = "database-connections",
        .type = CONF_UINT,
        .offset = AT(db_connections),
        .fallback = "32",
        .min = 12,
        .max = 256,
        .help = "most connections to PostgreSQL"},
    {.key = "enrolments-per-second",
        .type = CONF_UINT,
        .offset = AT(enrolments_per_second),
        .fallback = "5",
        .min = 1,
        .max = 10000,
        .help = "peers that may enrol from one address, after a first burst of sixty times as many"},
    {.key = "sessions-per-second",
        .type = CONF_UINT,
        .offset = AT(sessions_per_second),
        .fallback = "500",
        .max = 100000,
        .help = "new connections of agents, nodes and vaults, after a burst of as many; others wait a little (0: no "
                "limit)"},
    {.key = "scripts-dir",
        .type = CONF_STRING,
        .offset = AT(scripts_dir),
        .help = "folder of the scripts that recovery plans may run on this host; none: plans run no scripts"},
    {.key = "scripts-user",
        .type = CONF_STRING,
        .offset = AT(scripts_user),
        .fallback = "nobody",
        .help = "who they run as, where the hub is root"},
    {.key = "rescue-image",
        .type = CONF_STRING,
        .offset = AT(rescue_image),
        .fallback = "/usr/lib/leeward/rescue",
        .help = "folder of the rescue image (vmlinuz, initrd), in which the disks of replicas are prepared"},
    {.key = "rescue-emulated",
        .type = CONF_BOOL,
        .offset = AT(rescue_emulated),
        .help = "it runs without the host's KVM"},
    {.key = "rescue-machines",
        .type = CONF_UINT,
        .offset = AT(rescue_machines),
        .fallback = "2",
        .min = 1,
        .max = 32,
        .help = "replicas whose disks are prepared at the same time; each takes 768 MiB of memory, the others wait"},
    {.key = "log-level",
        .type = CONF_STRING,
        .offset = AT(log_level),
        .fallback = "info",
        .help = "debug, info, warn or error"},
    {.key = "log-json", .type = CONF_BOOL, .offset = AT(log_json), .help = "one JSON object per line"},
};

struct hub {
    struct settings settings;
    sd_event *loop;
    int lock_fd;
    struct ident id; /* of this installation: the same for every hub on the database */
    char id_text[IDENT_TEXT_SIZE];
    char instance[IDENT_TEXT_SIZE]; /* of this process, for leases; it is in the lock's file, too */
    char before[IDENT_TEXT_SIZE];   /* of the process that had this folder before, "" if that is not known */
    struct ca *ca;
    struct postgres_embedded *postgres;
    struct db *db;
    struct live_status *live;
    struct control *control;
    struct api *api;
    char *api_certificate, *api_key;
    char *redirect_uri;
    struct oidc_conf oidc;
    char *first_password;       /* path */
    struct loop_timer *renewal; /* of the API's certificate */
    pthread_mutex_t
        news_lock; /* guards `news` against the API's threads, which serve before it is there and after it is gone */
    struct news *news;
    struct job_runner *runner;
    struct notify *notify;
    struct drill_clock *drills;
};

/* ---- data folder ---- */

/* Whoever wrote it is dead: the lock is ours. */
static void read_instance_before(struct hub *hub)
{
    struct ident id;
    ssize_t n = pread(hub->lock_fd, hub->before, sizeof(hub->before) - 1, 0);

    if (n != sizeof(hub->before) - 1 || ident_from_text(hub->before, &id) < 0)
        hub->before[0] = '\0';
}

/* Others may pass through to the database's folder but see nothing: keys are 0600. */
static int prepare_data(struct hub *hub, struct err *err)
{
    const char *data = hub->settings.data;
    AUTO_FREE char *lock = mem_printf("%s/hub.lock", data);

    if (!lock)
        return err_set(err, ERR_NOMEM, "no memory");
    if (file_make_dirs(data, 0711, err) < 0)
        return -1;
    hub->lock_fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (hub->lock_fd < 0)
        return err_sys(err, errno, "opening %s", lock);
    if (flock(hub->lock_fd, LOCK_EX | LOCK_NB) == 0) {
        read_instance_before(hub);
        return 0;
    }
    if (errno != EWOULDBLOCK)
        return err_sys(err, errno, "locking %s", lock);
    err_set(err, ERR_REFUSED, "another hub works on %s", data);
    return err_hint(err, "Stop it, or give this one another --data folder.");
}

/* ---- database ---- */

static int start_database(struct hub *hub, struct err *err)
{
    uint8_t secret_key[DB_SECRET_KEY_SIZE];
    struct db_options options = {.dsn = hub->settings.database,
        .connections_max = (unsigned)hub->settings.db_connections,
        .secret_key = secret_key};

    if (ca_derive_key(hub->ca, "leeward stored secrets 1", secret_key, err) < 0)
        return -1;
    if (!options.dsn[0]) {
        if (postgres_embedded_start(hub->loop, hub->settings.data, &hub->postgres, err) < 0)
            return -1;
        options.dsn = postgres_embedded_dsn(hub->postgres);
    }
    if (db_new(&options, &hub->db, err) < 0)
        return -1;
    return migrate_run(hub->db, migrations_embedded, NULL, err);
}

/* The installation's id is made once and kept in the database. */
static int load_id(struct hub *hub, struct db_conn *conn, struct err *err)
{
    AUTO_FREE char *json = NULL;
    int found = setting_get(conn, "hub_id", &json, err);

    if (found < 0)
        return -1;
    if (found == 0) {
        if (ident_random(&hub->id) < 0)
            return err_set(err, ERR_INTERNAL, "the kernel gives no randomness");
        ident_to_text(&hub->id, hub->id_text);
        json = mem_printf("\"%s\"", hub->id_text);
        return json ? setting_put(conn, "hub_id", json, err) : err_set(err, ERR_NOMEM, "no memory");
    }
    if (strlen(json) != IDENT_TEXT_SIZE + 1)
        return err_set(err, ERR_CORRUPT, "setting hub_id is not an id");
    memcpy(hub->id_text, json + 1, IDENT_TEXT_SIZE - 1);
    return ident_from_text(hub->id_text, &hub->id) < 0 ? err_set(err, ERR_CORRUPT, "setting hub_id is not an id") : 0;
}

static bool has_admin(struct db_conn *conn, struct err *err, bool *ret_failed)
{
    AUTO_DB_SET struct db_set set = {0};
    const struct db_filter filters[] = {{"role", DB_EQ, "admin"}, {"revoked_at", DB_EQ, ""}};
    const struct db_page page = {.filters = filters, .filter_count = ARRAY_LEN(filters), .limit = 1};

    *ret_failed = db_list(conn, &db_api_tokens, &page, &set, err) < 0;
    return set.count > 0;
}

/* First start: an administrator's token in DATA/admin.token. The file is there before the token counts. */
static int ensure_admin(struct hub *hub, struct db_conn *conn, struct err *err)
{
    const struct api_token_spec spec = {.name = "first administrator", .role = "admin", .created_by = "system"};
    AUTO_FREE char *path = mem_printf("%s/admin.token", hub->settings.data);
    char id[IDENT_TEXT_SIZE], text[API_TOKEN_TEXT_SIZE];
    bool failed;

    if (!path)
        return err_set(err, ERR_NOMEM, "no memory");
    if (has_admin(conn, err, &failed) || failed)
        return failed ? -1 : 0;
    if (db_begin(conn, err) < 0 || api_token_create(conn, &spec, id, text, err) < 0 ||
        file_replace(path, text, strlen(text), 0600, err) < 0)
        return -1;
    log_event(LOG_INFO, "admin_token_made", LOG_S("path", path));
    return db_commit(conn, err);
}

/* First start: a user `admin` whose password is drawn, and stays in a file until it is changed. */
static int ensure_first_user(struct hub *hub, struct db_conn *conn, struct err *err)
{
    char password[USER_PASSWORD_TEXT_SIZE], hash[USER_HASH_SIZE];
    uint64_t users = 0;
    bool stands;
    int made;

    if (user_first_password_stands(conn, &stands, err) < 0)
        return -1;
    if (!stands && unlink(hub->first_password) < 0 && errno != ENOENT)
        return err_sys(err, errno, "removing %s", hub->first_password);
    if (db_count(conn, &db_users, &(struct db_page){0}, &users, err) < 0 || users > 0)
        return users > 0 ? 0 : -1;
    user_password_draw(password);
    if (user_password_hash(password, hash, err) < 0 || db_begin(conn, err) < 0)
        return -1;
    made = user_ensure_first(conn, "admin", hash, err);
    if (made <= 0)
        return made < 0 ? -1 : db_commit(conn, err);
    if (file_replace(hub->first_password, password, strlen(password), 0600, err) < 0)
        return -1;
    log_event(LOG_INFO, "first_user_made", LOG_S("user", "admin"), LOG_S("password_file", hub->first_password));
    return db_commit(conn, err);
}

static int prepare_database(struct hub *hub, struct err *err)
{
    struct db_conn *conn AUTO_OF(db_conn) = NULL;

    if (db_acquire(hub->db, &conn, err) < 0)
        return -1;
    hub->first_password = mem_printf("%s/admin-password", hub->settings.data);
    if (!hub->first_password)
        return err_set(err, ERR_NOMEM, "no memory");
    if (load_id(hub, conn, err) < 0 || ensure_admin(hub, conn, err) < 0)
        return -1;
    return ensure_first_user(hub, conn, err) < 0 ? -1 : secret_seal_old(conn, err);
}

/* ---- parts ---- */

static void hear(void *arg, enum news_topic topic)
{
    struct hub *hub = arg;

    control_news(hub->control, topic);
    api_news(hub->api);
}

static size_t ready(void *arg, struct api_check checks[API_CHECKS_MAX])
{
    struct hub *hub = arg;
    bool database;

    pthread_mutex_lock(&hub->news_lock);
    database = hub->news && news_is_connected(hub->news);
    pthread_mutex_unlock(&hub->news_lock);
    checks[0] = (struct api_check){.name = "database", .ok = database};
    if (!database)
        snprintf(checks[0].text, sizeof(checks[0].text),
            "PostgreSQL cannot be reached; the hub goes on by itself when it is back");
    checks[1] = (struct api_check){.name = "control", .ok = hub->control != NULL};
    return 2;
}

static int make_instance(struct hub *hub, struct err *err)
{
    struct ident instance;

    if (ident_random(&instance) < 0)
        return err_set(err, ERR_INTERNAL, "the kernel gives no randomness");
    ident_to_text(&instance, hub->instance);
    return 0;
}

static int start_control(struct hub *hub, struct err *err)
{
    struct control_conf conf = {.loop = hub->loop,
        .db = hub->db,
        .ca = hub->ca,
        .data_dir = hub->settings.data,
        .listen = hub->settings.listen,
        .enrolments_per_second = (uint32_t)hub->settings.enrolments_per_second,
        .sessions_per_second = (uint32_t)hub->settings.sessions_per_second,
        .hub_id = &hub->id};

    if (make_instance(hub, err) < 0 || live_status_new(&hub->live, err) < 0)
        return -1;
    conf.instance = hub->instance;
    conf.live = hub->live;
    return control_start(&conf, &hub->control, err);
}

static int make_api_certificate(struct hub *hub, struct err *err)
{
    AUTO_FREE char *list = mem_strdup(hub->settings.hostnames);
    const char *names[NAMES_MAX];
    char *save = NULL;
    size_t n = 0;

    if (!list)
        return err_set(err, ERR_NOMEM, "no memory");
    for (char *name = strtok_r(list, ", ", &save); name && n < NAMES_MAX; name = strtok_r(NULL, ", ", &save))
        names[n++] = name;
    return ca_ensure_api(hub->ca, hub->settings.data, names, n, err);
}

/* The API looks at the files by itself. */
static void renew_api_certificate(void *arg)
{
    struct err err = ERR_INIT;

    if (make_api_certificate(arg, &err) < 0)
        log_event(LOG_WARN, "api_certificate_not_renewed", LOG_E(&err));
}

static int check_certificate(const struct settings *s, struct err *err)
{
    if (!*s->api_certificate == !*s->api_key)
        return 0;
    (void)err_set(err, ERR_INVALID, "a certificate for the API needs its key, and a key its certificate");
    return err_hint(err, "Give both --api-certificate and --api-key, or neither.");
}

/* One that is given is somebody else's to renew: the API looks at the files by itself. */
static int prepare_api_certificate(struct hub *hub, struct err *err)
{
    const struct settings *s = &hub->settings;
    bool given = *s->api_certificate;

    hub->api_certificate = given ? mem_strdup(s->api_certificate) : mem_printf("%s/api.pem", s->data);
    hub->api_key = given ? mem_strdup(s->api_key) : mem_printf("%s/api.key", s->data);
    if (!hub->api_certificate || !hub->api_key)
        return err_set(err, ERR_NOMEM, "no memory");
    if (given)
        return 0;
    return make_api_certificate(hub, err) < 0
               ? -1
               : loop_timer_new(hub->loop, DAY_USEC, DAY_USEC, renew_api_certificate, hub, &hub->renewal, err);
}

static int prepare_oidc(struct hub *hub, struct err *err)
{
    const struct settings *s = &hub->settings;
    size_t n = strlen(s->public_url);

    hub->redirect_uri = mem_printf(
        "%.*s/api/v1/session/oidc/callback", (int)(n > 0 && s->public_url[n - 1] == '/' ? n - 1 : n), s->public_url);
    hub->oidc = (struct oidc_conf){.issuer = s->oidc_issuer,
        .client_id = s->oidc_client_id,
        .client_secret = s->oidc_client_secret,
        .public_url = s->public_url,
        .redirect_uri = hub->redirect_uri,
        .ca_path = s->oidc_ca,
        .scopes = s->oidc_scopes,
        .role_claim = s->oidc_role_claim,
        .role_map = s->oidc_role_map,
        .name = s->oidc_name};
    if (!hub->redirect_uri)
        return err_set(err, ERR_NOMEM, "no memory");
    return *s->oidc_issuer ? oidc_check(&hub->oidc, err) : 0;
}

static int start_api(struct hub *hub, struct err *err)
{
    if (prepare_api_certificate(hub, err) < 0)
        return -1;
    const struct api_conf conf = {.listen = hub->settings.api_listen,
        .cert_path = hub->api_certificate,
        .key_path = hub->api_key,
        .db = hub->db,
        .live = hub->live,
        .control_port = control_port(hub->control),
        .hub_id = hub->id_text,
        .ca_fingerprint = ca_fingerprint(hub->ca),
        .ready = ready,
        .arg = hub,
        .first_password_path = hub->first_password,
        .requests_per_second = (unsigned)hub->settings.api_rate,
        .failures_per_second = (unsigned)hub->settings.api_failure_rate,
        .oidc = *hub->settings.oidc_issuer ? &hub->oidc : NULL,
        .handler_threads = (unsigned)hub->settings.api_threads};

    return api_start(&conf, &hub->api, err);
}

static struct news *exchange_news(struct hub *hub, struct news *news)
{
    struct news *before;

    pthread_mutex_lock(&hub->news_lock);
    before = hub->news;
    hub->news = news;
    pthread_mutex_unlock(&hub->news_lock);
    return before;
}

/* What the process before left in the middle of a step goes on at once. Its id is overwritten when that is done, so a start that is interrupted forgets
 * nothing; one that cannot be written costs the next start the time of a lease. */
static int take_up_jobs(struct hub *hub, struct err *err)
{
    struct db_conn *conn AUTO_OF(db_conn) = NULL;

    if (db_acquire(hub->db, &conn, err) < 0 || (hub->before[0] && job_store_let_go_of_dead(conn, hub->before, err) < 0))
        return -1;
    if (pwrite(hub->lock_fd, hub->instance, sizeof(hub->instance) - 1, 0) != sizeof(hub->instance) - 1)
        log_event(LOG_WARN, "hub_instance_not_written", LOG_I("errno", errno));
    return 0;
}

static int start_work(struct hub *hub, struct err *err)
{
    struct news *news = NULL;

    action_allow_scripts(hub->settings.scripts_dir, hub->settings.scripts_user);
    if (take_up_jobs(hub, err) < 0)
        return -1;
    if (news_start(hub->db, hear, hub, &news, err) < 0)
        return -1;
    (void)exchange_news(hub, news);
    if (notify_start(hub->db, hub->news, hub->id_text, &hub->notify, err) < 0)
        return -1;
    if (drill_clock_start(hub->db, &hub->drills, err) < 0)
        return -1;
    return job_runner_start(hub->db, hub->news, hub->instance, (unsigned)hub->settings.job_threads, &hub->runner, err);
}

static int start(struct hub *hub, struct err *err)
{
    if (check_certificate(&hub->settings, err) < 0 || prepare_oidc(hub, err) < 0 || prepare_data(hub, err) < 0 ||
        loop_new(NULL, NULL, &hub->loop, err) < 0 || ca_open(hub->settings.data, &hub->ca, err) < 0 ||
        start_database(hub, err) < 0 || prepare_database(hub, err) < 0 || start_control(hub, err) < 0 ||
        start_api(hub, err) < 0)
        return -1;
    return start_work(hub, err);
}

static void stop(struct hub *hub)
{
    drill_clock_stop(hub->drills);
    job_runner_stop(hub->runner);
    notify_stop(hub->notify);
    fabric_task_cancel("");
    news_stop(exchange_news(hub, NULL));
    loop_timer_free(hub->renewal);
    api_stop(hub->api);
    control_stop(hub->control);
    live_status_free(hub->live);
    db_free(hub->db);
    postgres_embedded_stop(hub->postgres);
    ca_close(hub->ca);
    loop_free(hub->loop);
    if (hub->lock_fd >= 0)
        (void)close(hub->lock_fd);
    free(hub->api_certificate);
    free(hub->api_key);
    free(hub->first_password);
    free(hub->redirect_uri);
}

static int run(struct hub *hub, struct err *err)
{
    if (start(hub, err) < 0)
        return -1;
    log_event(LOG_INFO, "ready", LOG_S("hub", hub->id_text), LOG_U("control_port", control_port(hub->control)),
        LOG_U("api_port", api_port(hub->api)));
    loop_notify_ready();
    if (loop_run(hub->loop, err) < 0)
        return -1;
    loop_notify_stopping();
    api_drain(hub->api);
    return 0;
}

static int configure(const struct settings *s, struct err *err)
{
    int level = log_level_from_name(s->log_level);

    if (level < 0) {
        err_set(err, ERR_INVALID, "log-level: there is no level %.20s", s->log_level);
        return err_hint(err, "debug, info, warn or error.");
    }
    log_set_daemon("leeward-hub");
    log_set_level((enum log_level)level);
    log_set_json(s->log_json);
    fixup_vm_configure(s->rescue_image, s->rescue_emulated, (unsigned)s->rescue_machines);
    return 0;
}

/* A list of ten thousand machines is some MiB of rows and JSON, for a moment. From that size on memory is mapped and given back at once;
 * by default the limit grows with the first such block, and the heap keeps what lies between two of them. */
#define MAPPED_BYTES (1 << 20)

int main(int argc, char **argv)
{
    static struct hub hub = {.lock_fd = -1, .news_lock = PTHREAD_MUTEX_INITIALIZER};
    struct err err = ERR_INIT;
    int child = libvirt_child_main(argc, argv);

    if (child >= 0)
        return child;
    (void)mallopt(M_MMAP_THRESHOLD, MAPPED_BYTES);
    (void)mallopt(M_TRIM_THRESHOLD, 8 * MAPPED_BYTES); /* the rest of the heap need not breathe with every request */
    int rc = conf_load(rows, ARRAY_LEN(rows), "leeward-hub",
        "The hub of Leeward: inventory, policies, jobs, certificates, API.", argc, argv, &hub.settings, &err);

    if (rc == 0)
        rc = configure(&hub.settings, &err) < 0 ? -1 : run(&hub, &err);
    if (rc < 0)
        log_event(LOG_ERROR, "failed", LOG_E(&err), LOG_S("correction", err.correction));
    stop(&hub);
    if (rc == 0)
        log_event(LOG_INFO, "stopped");
    conf_done(rows, ARRAY_LEN(rows), &hub.settings);
    return rc < 0 ? 1 : 0;
}
