/* SPDX-License-Identifier: Apache-2.0
 *
 * The daemon's life: its folder and lock, its key, the machines that the hub gave it, the server, the clock that drives
 * status and retention, and the end.
 */
#include "transport/vault/vaultd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/ioprio.h>
#include <openssl/crypto.h>
#include <sched.h>
#include <string.h>
#include <sys/file.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "transport/base/clock.h"
#include "transport/base/file.h"
#include "transport/base/log.h"
#include "transport/vault/erase.h"
#include "transport/vault/opening.h"
#include "transport/vault/rekey.h"
#include "transport/vault/vaultd_private.h"
#include "transport/vault/vaultspace.h"

#define STREAMS_MAX 4096 /* of one connection: a node has one for all of its machines */
#define TICK_USEC (500 * USEC_PER_MSEC)
#define CLOCK_EVERY_USEC (600 * USEC_PER_SEC)
#define COMPACT_EVERY_USEC (1800 * USEC_PER_SEC) /* where the configuration says nothing */
#define JOBS_MAX 65536                           /* flow control bounds what waits long before this */
#define ROOM_AGAIN_PERCENT 25    /* of the reserve, above it, before a full disk counts as having room again */
#define AMPLE_BYTES (4ULL << 30) /* above the reserve: no segment, and so no change set, is longer */
#define AMPLE_AGAIN_USEC (60 * USEC_PER_SEC)
#define UPKEEP_EVERY_USEC (60 * USEC_PER_SEC)

/* ---- jobs ---- */

static void job_run(struct worker_job *job)
{
    struct vaultjob *j = (struct vaultjob *)job;
    err_clear(&j->err);
    j->result = j->run(j, &j->err);
}

static void job_done(struct worker_job *job)
{
    struct vaultjob *j = (struct vaultjob *)job;
    j->done(j);
}

static void job_prepare(struct vaultjob *j, struct vmachine *vm)
{
    j->job.run = job_run;
    j->job.done = job_done;
    j->vm = vm;
    j->result = -1;
    (void)err_set(&j->err, ERR_CANCELLED, "the vault is ending");
}

int vaultjob_lane(struct vmachine *vm, struct vaultjob *j, struct err *err)
{
    job_prepare(j, vm);
    return worker_lane_submit(vm->lane, &j->job, err);
}

int vaultjob_pool(struct vaultd *d, struct vmachine *vm, struct vaultjob *j, struct err *err)
{
    job_prepare(j, vm);
    return worker_submit(d->pool, &j->job, err);
}

/* SCHED_IDLE and idle I/O are for the thread, so for all that it does later: it serves this pool only. */
static void idle_run(struct worker_job *job)
{
    const struct sched_param none = {0};
    (void)sched_setscheduler(0, SCHED_IDLE, &none);
    (void)syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_IDLE, 0));
    job_run(job);
}

int vaultjob_idle(struct vaultd *d, struct vmachine *vm, struct vaultjob *j, struct err *err)
{
    job_prepare(j, vm);
    j->job.run = idle_run;
    return worker_submit(d->idle_pool, &j->job, err);
}

int vaultjob_copy(struct vaultd *d, struct vmachine *vm, struct vaultjob *j, struct err *err)
{
    job_prepare(j, vm);
    return worker_submit(d->copy_pool, &j->job, err);
}

int vaultjob_paced(struct vaultd *d, struct vmachine *vm, struct vaultjob *j, struct err *err)
{
    job_prepare(j, vm);
    return worker_submit(d->pace_pool, &j->job, err);
}

int vmachine_store(struct vmachine *vm, struct store **ret_store, struct err *err)
{
    if (vm->store != NULL && store_is_broken(vm->store)) {
        store_close(vm->store);
        vm->store = NULL;
        vm->lane_token = 0;
    }
    if (vm->erased)
        return err_set(err, ERR_NOT_FOUND, "the machine was erased from this vault");
    if (vm->store == NULL && store_open(&vm->store_conf, &vm->store, err) < 0)
        return -1;
    *ret_store = vm->store;
    return 0;
}

/* ---- machines ---- */

struct vmachine *vaultd_machine(struct vaultd *d, const struct ident *id)
{
    for (struct vmachine *vm = d->machines; vm != NULL; vm = vm->next)
        if (ident_equal(&vm->id, id))
            return vm;
    return NULL;
}

static void vmachine_free(struct vmachine *vm)
{
    if (vm == NULL)
        return;
    store_close(vm->store);
    vaultupload_forget(vm);
    vaulterase_forget(vm);
    vaultcopy_forget(vm);
    worker_lane_free(vm->lane);
    quarantine_done(&vm->quarantine);
    droplog_done(&vm->dropped);
    branchlist_done(&vm->branches);
    OPENSSL_cleanse(&vm->store_conf, sizeof(vm->store_conf));
    free(vm->name);
    free(vm->dir);
    free(vm);
}

struct vmachine *vaultd_machine_add(struct vaultd *d, const struct ident *id, struct err *err)
{
    struct vmachine *vm = vaultd_machine(d, id);
    if (vm != NULL)
        return vm;
    vm = mem_new(struct vmachine);
    if (vm != NULL) {
        vm->d = d;
        vm->id = *id;
        ident_to_text(id, vm->id_text);
        vm->dir = mem_printf("%s/machines/%s", d->data_dir, vm->id_text);
        vm->lane = worker_lane_new(d->pool);
        vm->dropped_untold = true;
    }
    if (vm == NULL || vm->dir == NULL || vm->lane == NULL) {
        vmachine_free(vm);
        (void)err_set(err, ERR_NOMEM, "no memory for a machine");
        return NULL;
    }
    vm->store_conf = (struct store_conf){.dir = vm->dir,
        .machine = *id,
        .vault_key = d->key,
        .reserve_bytes = d->conf.reserve_bytes,
        .clock = &d->clock};
    vm->store_conf.has_older_key = d->has_older_key;
    vm->store_conf.older_key = d->older_key;
    vm->next = d->machines;
    d->machines = vm;
    vaultbranch_look(vm);
    return vm;
}

static void apply_machine(struct vaultd *d, const Leeward__Control__V1__VaultMachine *m)
{
    struct err err = ERR_INIT;
    struct ident id;
    if (ident_from_text(m->machine_id, &id) < 0) {
        log_event(LOG_WARN, "desired_machine_ignored", LOG_S("machine", m->machine_id));
        return;
    }
    struct vmachine *vm = vaultd_machine_add(d, &id, &err);
    if (vm == NULL) {
        log_event(LOG_ERROR, "machine_failed", LOG_S("machine", m->machine_id), LOG_E(&err));
        return;
    }
    free(vm->name);
    vm->name = mem_strdup(m->name);
    vm->desired = true;
    vm->generation = m->generation;
    vm->known_sequence = m->known_sequence;
    vm->reported = m->known_sequence;
    vm->tiers = (struct thin_tiers){
        m->keep_all_usec, m->keep_minute_usec, m->keep_hour_usec, m->keep_day_usec, m->keep_tagged_usec};
    vm->lock_usec = m->lock_usec;
    vaultfollow_set(vm, m->follow_branch_id, m->follow_interval_usec);
    vaultcopy_set(vm, m);
    vaultreport_sync(vm);
}

void vaultd_apply(struct vaultd *d, const Leeward__Control__V1__VaultDesired *desired)
{
    d->desired_version = desired->version;
    vaultcopy_throttle(d, desired);
    for (struct vmachine *vm = d->machines; vm != NULL; vm = vm->next)
        vm->desired = false;
    for (size_t i = 0; i < desired->n_machines; i++)
        apply_machine(d, desired->machines[i]);
    for (struct vmachine *vm = d->machines; vm != NULL; vm = vm->next) {
        struct err err = ERR_INIT;
        (void)err_set(&err, ERR_REFUSED, "the hub has taken this machine from this vault");
        if (vm->desired)
            continue;
        vaultcopy_unset(vm);
        if (vm->stream != NULL)
            replicate_refuse(vm->stream, &err);
    }
}

/* ---- room ---- */

static int free_bytes(const struct vaultd *d, uint64_t *ret_free)
{
    struct statvfs vfs;
    if (statvfs(d->data_dir, &vfs) < 0)
        return -1;
    *ret_free = (uint64_t)vfs.f_bavail * vfs.f_frsize;
    return 0;
}

/* While it is full, room is more than what giving back the change set that did not fit made: that would only be sent again,
 * and fill the disk again. Where there is more than any change set takes it was something else than bytes that was lacking (inodes, a quota), or they came back
 * before anybody looked: that is tried again after a while. */
bool vaultd_has_room(const struct vaultd *d)
{
    uint64_t available, margin = d->conf.reserve_bytes * ROOM_AGAIN_PERCENT / 100;
    if (free_bytes(d, &available) < 0 || available < d->conf.reserve_bytes + margin)
        return false;
    bool is_ample =
        available - d->conf.reserve_bytes >= AMPLE_BYTES && clock_mono_usec() - d->full_since_usec >= AMPLE_AGAIN_USEC;
    return !d->full || is_ample || (d->full_free_bytes != 0 && available >= d->full_free_bytes + margin);
}

void vaultd_set_full(struct vaultd *d, bool full)
{
    if (d->full == full)
        return;
    d->full = full;
    d->full_free_bytes = 0;
    d->full_since_usec = clock_mono_usec();
    d->status_due_usec = 0;
    log_event(full ? LOG_ERROR : LOG_INFO, full ? "vault_full" : "vault_has_room", LOG_S("dir", d->data_dir));
    if (d->session == NULL)
        return;
    if (full)
        session_event(d->session, "error", "vault_full", NULL, "Make its disk larger or shorten the retention.",
            "The vault's disk is full. It accepts nothing more; what it holds stays.");
    else
        session_event(d->session, "info", "vault_has_room", NULL, "", "The vault has room again and goes on.");
}

static void look_for_room(struct vaultd *d)
{
    uint64_t available;
    if (d->full_free_bytes == 0 && free_bytes(d, &available) == 0)
        d->full_free_bytes = available > 0 ? available : 1;
    if (vaultd_has_room(d))
        vaultd_set_full(d, false);
}

/* ---- the clock ---- */

/* Is there something that the hub does not know, and may be told now? */
static bool wants_sync(const struct vmachine *vm, uint64_t now)
{
    bool up = vm->d->session != NULL && session_is_up(vm->d->session);
    return vm->desired && up && !vm->syncing && now >= vm->sync_retry_usec &&
           (vm->last_point > vm->reported || vm->report_all || vm->dropped_untold);
}

static void machine_tick(struct vmachine *vm, uint64_t now)
{
    if (wants_sync(vm, now))
        vaultreport_sync(vm);
    vaultupload_tick(vm, now);
    vaulterase_tick(vm, now);
    if (vm->desired)
        vaultfollow_tick(vm, now);
    if (now - vm->upkept_usec < UPKEEP_EVERY_USEC)
        return;
    vm->upkept_usec = now;
    vaultbranch_look(vm);
    if (!vm->desired)
        return;
    vaultupkeep_merge(vm);
    vaultreport_settle(vm, now);
    if (vm->tiers.all_usec != 0)
        vaultupkeep_thin(vm);
}

static void save_clock(struct vaultd *d, uint64_t now)
{
    struct err err = ERR_INIT;
    if (now < d->clock_due_usec)
        return;
    d->clock_due_usec = now + CLOCK_EVERY_USEC;
    (void)retentionclock_now(&d->clock);
    if (retentionclock_save(&d->clock, d->data_dir, &err) < 0)
        log_event(LOG_ERROR, "retention_clock_not_stored", LOG_E(&err));
}

static void on_tick(void *arg)
{
    struct vaultd *d = arg;
    uint64_t now = clock_mono_usec();
    if (d->full)
        look_for_room(d);
    for (struct vmachine *vm = d->machines; vm != NULL; vm = vm->next)
        machine_tick(vm, now);
    vaultcopy_tick(d, now);
    save_clock(d, now);
    vaultscrub_tick(d);
    vaultupload_purge_tick(d, now);
    vaultspace_tick(d, now);
    if (d->session != NULL && now >= d->status_due_usec) {
        d->status_due_usec = now + session_status_interval_usec(d->session);
        vaultreport_status(d);
        if (d->space_news)
            vaultspace_report(d);
    }
}

/* ---- session ---- */

static void on_directive(void *arg, const Leeward__Control__V1__Directive *directive)
{
    struct vaultd *d = arg;
    if (directive->kind_case == LEEWARD__CONTROL__V1__DIRECTIVE__KIND_VAULT)
        vaultd_apply(d, directive->vault);
    else if (directive->kind_case == LEEWARD__CONTROL__V1__DIRECTIVE__KIND_COMMAND)
        vaultcommand_run(d, directive->command);
}

static void on_up(void *arg)
{
    struct vaultd *d = arg;
    d->status_due_usec = 0;
    d->space_news = true; /* the hub may have forgotten */
    vaultscrub_forget_told(d);
    vaultcopy_forget_told(d);
    vaultreport_status(d);
}

/* What was on its way may be lost: the next report begins where the hub was known to be, and says once more what was dropped. */
static void on_down(void *arg, const struct err *why)
{
    struct vaultd *d = arg;
    (void)why;
    for (struct vmachine *vm = d->machines; vm != NULL; vm = vm->next) {
        vm->reported = vm->known_sequence;
        vm->dropped_untold = true;
    }
}

static void on_renewed(void *arg)
{
    struct vaultd *d = arg;
    struct err err = ERR_INIT;
    if ((d->conf.tls != NULL && tls_reload(d->conf.tls, &err) < 0) ||
        (d->conf.client_tls != NULL && tls_reload(d->conf.client_tls, &err) < 0))
        log_event(LOG_ERROR, "certificate_reload_failed", LOG_E(&err));
}

const struct session_ops vaultd_session_ops = {
    .on_directive = on_directive, .on_up = on_up, .on_down = on_down, .on_renewed = on_renewed};

void vaultd_set_session(struct vaultd *d, struct session *session)
{
    d->session = session;
}

/* ---- start and end ---- */

static const struct rpc_method methods[] = {
    {.path = "/leeward.replication.v1.Replication/Replicate", .accept = replicate_accept},
    {.path = "/leeward.vault.v1.Vault/ListPoints", .accept = vaultread_accept_points},
    {.path = "/leeward.vault.v1.Vault/ReadRange", .accept = vaultread_accept_range},
    {.path = "/leeward.vault.v1.Vault/Hashes", .accept = vaultread_accept_hashes},
    {.path = "/leeward.vault.v1.Vault/Changes", .accept = vaultdiffer_accept_changes},
    {.path = "/leeward.vault.v1.Vault/Blocks", .accept = vaultdiffer_accept_blocks},
    {.path = "/leeward.vault.v1.Vault/Damage", .accept = vaultmend_accept_damage},
    {.path = "/leeward.vault.v1.Vault/Mend", .accept = vaultmend_accept_mend},
};

static int lock_folder(struct vaultd *d, struct err *err)
{
    char *path AUTO_FREE = mem_printf("%s/lock", d->data_dir);
    if (path == NULL)
        return err_set(err, ERR_NOMEM, "no memory to start the vault");
    d->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (d->lock_fd < 0)
        return err_sys(err, errno, "opening %s", path);
    if (flock(d->lock_fd, LOCK_EX | LOCK_NB) == 0)
        return 0;
    (void)err_set(err, ERR_CONFLICT, "another vault runs on %s", d->data_dir);
    return err_hint(err, "stop it first, or give this one another --data folder");
}

static bool folder_has_entries(const char *path)
{
    DIR *dir = opendir(path);
    struct dirent *entry;
    bool any = false;
    while (dir != NULL && !any && (entry = readdir(dir)) != NULL)
        any = entry->d_name[0] != '.';
    if (dir != NULL)
        (void)closedir(dir);
    return any;
}

static int load_key(struct vaultd *d, struct err *err)
{
    char *machines AUTO_FREE = mem_printf("%s/machines", d->data_dir);
    char *path AUTO_FREE = mem_printf("%s/vault.key", d->data_dir);
    if (machines == NULL || path == NULL)
        return err_set(err, ERR_NOMEM, "no memory to start the vault");
    if (file_make_dirs(machines, 0700, err) < 0)
        return -1;
    if (vaultkeys_load(path, !folder_has_entries(machines), &d->key, err) < 0 ||
        rekey_resume(d->data_dir, &d->key, &d->older_key, &d->has_older_key, err) < 0)
        return -1;
    if (erase_sweep(d->data_dir, vaultupload_is_configured(d), err) <
        0) /* what was being erased when the vault ended */
        return -1;
    char id[VAULTKEYS_ID_SIZE];
    vaultkeys_id(&d->key, id);
    log_event(LOG_INFO, "vault_key", LOG_S("id", id));
    return 0;
}

static int open_clock(struct vaultd *d, struct err *err)
{
    struct retentionclock_machine machine;
    retentionclock_machine(&machine);
    d->has_clock = retentionclock_open(&d->clock, d->data_dir, &machine, err) == 0;
    return d->has_clock ? 0 : -1;
}

/* A folder that is not there, as in a container, is no reason not to start. */
static void share_sockets(struct vaultd *d, const char *folder)
{
    if (folder == NULL || folder[0] == '\0')
        return;
    if (access(folder, W_OK | X_OK) == 0)
        d->socket_folder = mem_strdup(folder);
    else
        log_event(LOG_WARN, "export_sockets_not_shared", LOG_S("folder", folder), LOG_S("problem", strerror(errno)));
}

static int vaultd_init(struct vaultd *d, sd_event *loop, const struct vaultd_conf *conf, struct err *err)
{
    d->loop = loop;
    d->conf = *conf;
    d->lock_fd = -1;
    d->data_dir = mem_strdup(conf->data_dir);
    share_sockets(d, conf->socket_folder);
    d->listen = mem_strdup(conf->listen);
    d->plugin = mem_strdup(conf->plugin);
    if (d->data_dir == NULL || d->listen == NULL || d->plugin == NULL)
        return err_set(err, ERR_NOMEM, "no memory to start the vault");
    if (file_make_dirs(d->data_dir, 0700, err) < 0 || lock_folder(d, err) < 0 || load_key(d, err) < 0 ||
        growth_load(d->data_dir, &d->growth, err) < 0 || open_clock(d, err) < 0)
        return -1;
    d->scrub_pace.rate = conf->scrub_rate;
    d->compact_pace.rate = conf->compact_rate;
    if (d->conf.compact_every_usec == 0)
        d->conf.compact_every_usec = COMPACT_EVERY_USEC;
    if (worker_pool_new(loop, "vault", conf->threads, JOBS_MAX, &d->pool, err) < 0)
        return -1;
    if (worker_pool_new(loop, "scrub", conf->threads, JOBS_MAX, &d->idle_pool, err) < 0)
        return -1;
    if (worker_pool_new(loop, "rewrite", 1, JOBS_MAX, &d->pace_pool, err) < 0)
        return -1;
    return vaultcopy_start(d, err);
}

int vaultd_new(sd_event *loop, const struct vaultd_conf *conf, struct vaultd **ret_vault, struct err *err)
{
    static const struct rpc_limits limits = {.streams_max = STREAMS_MAX};
    struct vaultd *d = mem_new(struct vaultd);
    if (d == NULL)
        return err_set(err, ERR_NOMEM, "no memory to start the vault");
    if (vaultd_init(d, loop, conf, err) < 0 || vaultupload_start(d, err) < 0 || opening_restore(d, err) < 0 ||
        loop_timer_new(loop, TICK_USEC, TICK_USEC, on_tick, d, &d->tick, err) < 0 ||
        rpc_server_new(loop, d->listen, conf->tls, methods, ARRAY_LEN(methods), d, &limits, &d->server, err) < 0) {
        vaultd_free(d);
        return -1;
    }
    rpc_server_set_serving(d->server, "", true);
    rpc_server_set_serving(d->server, "leeward.replication.v1.Replication", true);
    rpc_server_set_serving(d->server, "leeward.vault.v1.Vault", true);
    *ret_vault = d;
    return 0;
}

void vaultd_free(struct vaultd *d)
{
    if (d == NULL)
        return;
    d->stopping = true;
    vaultspace_stop(d);
    loop_timer_free(d->tick);
    if (d->server != NULL)
        rpc_server_free(d->server);
    vaultcommand_stop(d);
    opening_stop_all(d);
    vaultscrub_stop(d);
    vaultcopy_stop(d);
    vaultupload_stop(d); /* before the threads that may be waiting for the bucket */
    worker_pool_free(d->idle_pool);
    worker_pool_free(d->pace_pool);
    worker_pool_free(d->copy_pool);
    worker_pool_free(d->pool); /* waits for the lanes: nobody touches a store any more */
    while (d->machines != NULL) {
        struct vmachine *vm = d->machines;
        d->machines = vm->next;
        vmachine_free(vm);
    }
    vaultcopy_free(d);
    vaultupload_free(d);
    if (d->has_clock) {
        d->clock_due_usec = 0;
        save_clock(d, clock_mono_usec());
        retentionclock_close(&d->clock);
    }
    if (d->lock_fd >= 0)
        (void)close(d->lock_fd);
    OPENSSL_cleanse(&d->key, sizeof(d->key));
    OPENSSL_cleanse(&d->older_key, sizeof(d->older_key));
    free(d->data_dir);
    free(d->socket_folder);
    free(d->listen);
    free(d->plugin);
    free(d);
}

unsigned vaultd_port(const struct vaultd *d)
{
    return rpc_server_port(d->server);
}
