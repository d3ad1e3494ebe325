/* SPDX-License-Identifier: Apache-2.0
 *
 * Open points. An opening is prepared on its machine's lane (index brought up to the point, point found, key and, for a
 * branch, its folder and a fresh nonce stream), then its child is started, then it is open:
 *
 *   preparing -> starting -> open -> closing -> forgotten
 *        ^           |         |
 *        |_ waiting _|_________|    a child that died is prepared and started again, after a while
 */
#include "transport/vault/opening.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "transport/base/bytes.h"
#include "transport/base/clock.h"
#include "transport/base/file.h"
#include "transport/base/log.h"
#include "transport/vault/branch.h"
#include "transport/vault/branchlist.h"
#include "transport/vault/opening_private.h"
#include "transport/vault/view.h"

#define SOCKET_PATH_MAX (sizeof(((struct sockaddr_un *)0)->sun_path) - 1)
#define SOCKET_FOLDER "/run/leeward"    /* where the vault's own folder has too long a name */
#define STEADY_USEC (10 * USEC_PER_SEC) /* a child that lived this long did not fail at once */
#define FAILURES_MAX 20                 /* two minutes */

static struct opening *find(const struct vaultd *d, const char *id)
{
    for (struct opening *o = d->openings; o != NULL; o = o->next)
        if (strcmp(o->id, id) == 0)
            return o;
    return NULL;
}

const char *opening_id(const struct opening *o)
{
    return o->id;
}

const char *opening_socket(const struct opening *o)
{
    return o->socket;
}

bool opening_has_disk(const struct opening *o, uint32_t number)
{
    for (uint32_t i = 0; i < o->mark.disk_count; i++)
        if (o->mark.disks[i].number == number)
            return true;
    return false;
}

static void forget(struct opening *o)
{
    struct opening **link = &o->d->openings;
    while (*link != NULL && *link != o)
        link = &(*link)->next;
    if (*link == o)
        *link = o->next;
    loop_timer_free(o->timer);
    loop_child_free(o->child);
    if (o->key_fd >= 0)
        (void)close(o->key_fd);
    free(o->socket);
    free(o);
}

/* ---- preparing, on the lane ---- */

struct prepare_job {
    struct vaultjob job;
    struct opening *o;
    char id[IDENT_TEXT_SIZE];
    uint64_t sequence;
    bool write;
    bool reopen;
    struct mark mark;
    uint32_t nonce_stream;
    int key_fd;
};

static int keys_to_memory(const struct keyring *keys, int *ret_fd, struct err *err)
{
    char text[KEYRING_TEXT_MAX];
    int fd AUTO_CLOSE = memfd_create("leeward-data-key", MFD_CLOEXEC);
    if (fd < 0)
        return err_sys(err, errno, "making memory for a key");
    keyring_to_text(keys, text);
    int result = file_write_all(fd, text, strlen(text), "memory for a key", err);
    explicit_bzero(text, sizeof(text));
    if (result < 0 || lseek(fd, 0, SEEK_SET) < 0)
        return -1;
    *ret_fd = TAKE_FD(fd);
    return 0;
}

/* Opens a view as the child will, so that what is wrong with the point is known here. */
static int try_view(struct prepare_job *j, struct store *s, const struct keyring *keys, struct err *err)
{
    struct view *v AUTO_OF(view) = NULL;
    struct err why = ERR_INIT;
    if (j->sequence > store_committed(s)) {
        (void)err_set(err, ERR_NOT_FOUND, "there is no recovery point %llu", (unsigned long long)j->sequence);
        return err_hint(err, "`leeward point list` shows those that there are");
    }
    bool flushed = store_flush(s, &why) == 0;
    bool full = !flushed && why.code == ERR_NOSPACE && j->sequence != 0; /* what was flushed before can be opened */
    if ((!flushed && !full) || view_open(store_dir(s), j->sequence, keys, 1, &v, err) < 0) {
        if (!flushed)
            err_copy(err, &why);
        return -1;
    }
    j->mark = *view_mark(v);
    j->sequence = j->mark.sequence;
    return 0;
}

static int prepare_branch(struct prepare_job *j, struct store *s, struct err *err)
{
    char *dir AUTO_FREE = mem_printf("%s/branches/%s", store_dir(s), j->id);
    struct branch_info info = {
        .machine = j->job.vm->id, .base_sequence = j->sequence, .created_utc_usec = clock_utc_usec()};
    if (dir == NULL || ident_from_text(j->id, &info.id) < 0)
        return err_set(err, ERR_NOMEM, "no memory to make a branch");
    if (branch_base_check(&j->mark, &info.base_check, err) < 0)
        return -1;
    return branch_create(dir, &info, err) < 0 ? -1 : store_take_nonce_stream(s, &j->nonce_stream, err);
}

/* A branch that is there says itself which point it stands on. */
static int base_of_branch(struct prepare_job *j, struct store *s, struct err *err)
{
    char *dir AUTO_FREE = mem_printf("%s/branches/%s", store_dir(s), j->id);
    struct branch_info info;
    struct err why = ERR_INIT;
    if (dir == NULL)
        return err_set(err, ERR_NOMEM, "no memory to open a branch");
    if (branch_load_info(dir, &info, &why) < 0) {
        if (why.code == ERR_NOT_FOUND && !j->reopen)
            return 0;
        err_copy(err, &why);
        return why.code == ERR_NOT_FOUND ? err_set(err, ERR_NOT_FOUND, "the vault has no branch %s", j->id) : -1;
    }
    if (j->sequence == 0)
        j->sequence = info.base_sequence;
    if (info.base_sequence <= store_committed(s))
        return 0;
    (void)err_set(err, ERR_CORRUPT,
        "the point %llu that the branch stands on is lost with the end of the machine's log",
        (unsigned long long)info.base_sequence);
    return err_hint(err, "discard the branch and begin another one on a point that is there");
}

static int prepare_run(struct vaultjob *job, struct err *err)
{
    struct prepare_job *j = (struct prepare_job *)job;
    struct keyring keys;
    struct store *s;
    if (vmachine_store(job->vm, &s, err) < 0)
        return -1;
    if (j->write && base_of_branch(j, s, err) < 0)
        return -1;
    store_keys(s, &keys);
    int result = try_view(j, s, &keys, err);
    if (result == 0 && j->write)
        result = prepare_branch(j, s, err);
    if (result == 0)
        result = keys_to_memory(&keys, &j->key_fd, err);
    keyring_cleanse(&keys);
    return result;
}

/* Where somebody waits for the answer, or the point is gone, trying again does not help. Else it is tried for as long as it takes: what was open
 * is a running machine's disk, and what is in the way (a full or failing disk, a wrong key, a hole in the log) may be put right. */
static void count_unprepared(struct opening *o, const struct err *err)
{
    if (o->opened != NULL || err->code == ERR_NOT_FOUND)
        o->failures = FAILURES_MAX;
    else if (o->failures > FAILURES_MAX / 2)
        o->failures = FAILURES_MAX / 2;
}

static void prepare_done(struct vaultjob *job)
{
    struct prepare_job *j = (struct prepare_job *)job;
    struct opening *o = j->o;
    struct err err = job->err;
    int result = job->result;
    if (result == 0) {
        o->sequence = j->sequence;
        o->mark = j->mark;
        o->nonce_stream = j->nonce_stream;
        o->key_fd = TAKE_FD(j->key_fd);
    }
    free(j);
    if (o->state == OPENING_CLOSING || o->d->stopping) {
        opening_gone(o);
        return;
    }
    if (result == 0)
        result = opening_child_start(o, &err);
    vaultupkeep_merge(o->vm); /* opening a point may have written a small run */
    if (result < 0) {
        count_unprepared(o, &err);
        opening_failed(o, &err);
    }
}

static void prepare(struct opening *o)
{
    struct err err = ERR_INIT;
    struct prepare_job *j = mem_new(struct prepare_job);
    o->state = OPENING_PREPARING;
    if (j != NULL) {
        j->job.run = prepare_run;
        j->job.done = prepare_done;
        j->o = o;
        j->key_fd = -1;
        j->sequence = o->sequence;
        j->write = o->write;
        j->reopen = o->reopen;
        memcpy(j->id, o->id, sizeof(j->id));
        if (vaultjob_lane(o->vm, &j->job, &err) == 0)
            return;
        free(j);
    }
    (void)err_set(&err, ERR_NOMEM, "no memory to open a point");
    count_unprepared(o, &err);
    opening_failed(o, &err);
}

/* ---- moves ---- */

/* Both have the group of a folder that gives it on (set-group-ID): it may use the socket, and lock the file beside it. */
static void share_socket(const struct opening *o)
{
    const char *folder = o->d->socket_folder;
    size_t n = folder != NULL ? strlen(folder) : 0;
    char *pid AUTO_FREE = mem_printf("%s" OPENING_PID_SUFFIX, o->socket);
    if (folder == NULL || strncmp(o->socket, folder, n) != 0 || o->socket[n] != '/' || pid == NULL)
        return;
    if (chmod(o->socket, 0660) < 0 || chmod(pid, 0640) < 0)
        log_event(LOG_WARN, "export_socket_not_shared", LOG_S("socket", o->socket), LOG_S("problem", strerror(errno)));
}

void opening_ready(struct opening *o)
{
    struct err err = ERR_INIT;
    share_socket(o);
    o->state = OPENING_OPEN;
    if (!o->passing && opening_file_write(o, &err) < 0)
        log_event(LOG_ERROR, "export_not_kept", LOG_S("export", o->id), LOG_E(&err));
    log_event(LOG_INFO, "point_opened", LOG_S("machine", o->vm->id_text), LOG_S("export", o->id),
        LOG_U("sequence", o->sequence), LOG_B("write", o->write), LOG_S("socket", o->socket));
    o->d->status_due_usec = 0;
    if (o->write)
        vaultbranch_look(o->vm);
    if (o->opened != NULL)
        TAKE_PTR(o->opened)(o->opened_arg, o, NULL);
}

void opening_failed(struct opening *o, const struct err *err)
{
    log_event(LOG_ERROR, "open_point_failed", LOG_S("machine", o->vm->id_text), LOG_S("export", o->id), LOG_E(err));
    bool was_steady = o->started_usec != 0 && clock_mono_usec() - o->started_usec > STEADY_USEC;
    o->failures = was_steady ? 1 : o->failures + 1;
    o->started_usec = 0;
    if (o->opened == NULL && o->failures < FAILURES_MAX && !o->d->stopping && opening_child_wait(o, NULL) == 0)
        return;
    void (*opened)(void *arg, struct opening *o, const struct err *err) = TAKE_PTR(o->opened);
    void *opened_arg = o->opened_arg;
    if (opened == NULL && o->d->session != NULL)
        session_event(o->d->session, "error", "export_lost", o->vm->id_text, err->correction, err->text);
    opening_child_end(o);
    /* Last: who is told may close the point, and it may be gone already. */
    if (opened != NULL)
        opened(opened_arg, NULL, err);
}

void opening_again(struct opening *o)
{
    prepare(o);
}

/* ---- discarding a branch, on the lane ---- */

struct discard_job {
    struct vaultjob job;
    char id[IDENT_TEXT_SIZE];
    void (*done)(void *arg, const struct err *err);
    void *arg;
};

static int discard_run(struct vaultjob *job, struct err *err)
{
    return branchlist_discard(job->vm->dir, ((struct discard_job *)job)->id, err);
}

static void discard_done(struct vaultjob *job)
{
    struct discard_job *j = (struct discard_job *)job;
    if (job->result < 0)
        log_event(LOG_ERROR, "branch_not_removed", LOG_S("branch", j->id), LOG_E(&job->err));
    if (j->done != NULL)
        j->done(j->arg, job->result < 0 ? &job->err : NULL);
    vaultbranch_look(job->vm);
    free(j);
}

static int discard_branch(
    struct vmachine *vm, const char *id, void (*done)(void *arg, const struct err *err), void *arg, struct err *err)
{
    struct discard_job *j = mem_new(struct discard_job);
    if (j == NULL)
        return err_set(err, ERR_NOMEM, "no memory to discard a branch");
    memcpy(j->id, id, strlen(id) + 1);
    j->done = done;
    j->arg = arg;
    j->job.run = discard_run;
    j->job.done = discard_done;
    if (vaultjob_lane(vm, &j->job, err) == 0)
        return 0;
    free(j);
    return -1;
}

/* With the branch gone, too, where that was asked for. */
static void tell_closed(struct opening *o)
{
    struct err err = ERR_INIT;
    void (*closed)(void *arg, const struct err *err) = TAKE_PTR(o->closed);
    if (!o->write || !o->discard || o->d->stopping)
        closed(o->closed_arg, NULL);
    else if (discard_branch(o->vm, o->id, closed, o->closed_arg, &err) < 0)
        closed(o->closed_arg, &err);
}

void opening_gone(struct opening *o)
{
    if (!o->d->stopping) {
        opening_child_sweep(o);
        opening_file_remove(o);
        if (o->write)
            vaultbranch_look(o->vm);
    }
    log_event(LOG_INFO, "point_closed", LOG_S("machine", o->vm->id_text), LOG_S("export", o->id));
    o->d->status_due_usec = 0;
    if (o->opened != NULL) {
        struct err err = ERR_INIT;
        (void)err_set(&err, ERR_CANCELLED, "the point was closed before it was open");
        TAKE_PTR(o->opened)(o->opened_arg, NULL, &err);
    }
    if (o->closed != NULL)
        tell_closed(o);
    forget(o);
}

/* ---- asking for it ---- */

static int choose_socket(struct opening *o, const char *wanted, struct err *err)
{
    if (wanted[0] != '\0')
        o->socket = mem_strdup(wanted);
    else
        o->socket = o->d->socket_folder != NULL ? mem_printf("%s/%s.sock", o->d->socket_folder, o->id)
                                                : mem_printf("%s/exports/%s.sock", o->d->data_dir, o->id);
    if (o->socket != NULL && strlen(o->socket) > SOCKET_PATH_MAX && wanted[0] == '\0') {
        free(o->socket);
        o->socket = mem_printf(SOCKET_FOLDER "/%s.sock", o->id);
        if (file_make_dirs(SOCKET_FOLDER, 0700, err) < 0)
            return -1;
    }
    if (o->socket == NULL)
        return err_set(err, ERR_NOMEM, "no memory to open a point");
    if (o->socket[0] != '/' || strlen(o->socket) > SOCKET_PATH_MAX)
        return err_set(err, ERR_INVALID, "the socket must be an absolute path of at most %zu bytes", SOCKET_PATH_MAX);
    return 0;
}

static struct opening *opening_new(struct vaultd *d, const struct opening_spec *spec, struct err *err)
{
    struct ident id, machine;
    if (ident_from_text(spec->export_id, &id) < 0 || ident_from_text(spec->machine_id, &machine) < 0) {
        (void)err_set(err, ERR_INVALID, "the export and the machine are named by UUIDs");
        return NULL;
    }
    struct vmachine *vm = vaultd_machine(d, &machine);
    if (vm == NULL) {
        (void)err_set(err, ERR_NOT_FOUND, "this vault does not hold the machine %s", spec->machine_id);
        return NULL;
    }
    struct opening *o = mem_new(struct opening);
    if (o == NULL) {
        (void)err_set(err, ERR_NOMEM, "no memory to open a point");
        return NULL;
    }
    o->d = d;
    o->vm = vm;
    o->key_fd = -1;
    o->sequence = spec->sequence;
    o->write = spec->write;
    o->passing = spec->passing;
    o->reopen = spec->reopen;
    ident_to_text(&id, o->id);
    if (choose_socket(o, spec->socket, err) < 0) {
        forget(o);
        return NULL;
    }
    o->next = d->openings;
    d->openings = o;
    return o;
}

static int already_open(struct opening *o, const struct opening_spec *spec,
    void (*done)(void *arg, struct opening *o, const struct err *err), void *arg, struct err *err)
{
    bool same = strcmp(o->vm->id_text, spec->machine_id) == 0 && o->write == spec->write &&
                (spec->sequence == 0 || spec->sequence == o->sequence);
    if (!same)
        return err_set(err, ERR_CONFLICT, "the export %s is open for something else", o->id);
    if (o->state != OPENING_OPEN)
        return err_set(err, ERR_CONFLICT, "the export %s is being opened or closed", o->id);
    done(arg, o, NULL);
    return 0;
}

int opening_open(struct vaultd *d, const struct opening_spec *spec,
    void (*done)(void *arg, struct opening *o, const struct err *err), void *arg, struct err *err)
{
    struct opening *o = find(d, spec->export_id);
    if (o != NULL)
        return already_open(o, spec, done, arg, err);
    if (access(d->plugin, R_OK) < 0) {
        (void)err_sys(err, errno, "the nbdkit plugin %s", d->plugin);
        return err_hint(err, "give its path with --nbdkit-plugin");
    }
    o = opening_new(d, spec, err);
    if (o == NULL)
        return -1;
    o->opened = done;
    o->opened_arg = arg;
    prepare(o);
    return 0;
}

int opening_close(struct vaultd *d, const char *export_id, bool discard, void (*done)(void *arg, const struct err *err),
    void *arg, struct err *err)
{
    struct opening *o = find(d, export_id);
    struct vmachine *vm = o == NULL && discard ? vaultbranch_machine(d, export_id) : NULL;
    if (vm != NULL)
        return discard_branch(vm, export_id, done, arg, err);
    if (o == NULL) {
        done(arg, NULL);
        return 0;
    }
    if (o->closed != NULL)
        return err_set(err, ERR_CONFLICT, "the export %s is being closed", export_id);
    o->closed = done;
    o->closed_arg = arg;
    o->discard = discard;
    if (o->state == OPENING_PREPARING)
        o->state = OPENING_CLOSING; /* its job ends it */
    else
        opening_child_end(o);
    return 0;
}

/* ---- start and end of the vault ---- */

static void restore_one(struct vaultd *d, const struct opening_spec *spec)
{
    struct err err = ERR_INIT;
    struct ident machine;
    char *folder AUTO_FREE = mem_printf("%s/machines/%s", d->data_dir, spec->machine_id);
    if (ident_from_text(spec->machine_id, &machine) < 0 || folder == NULL || access(folder, F_OK) < 0 ||
        vaultd_machine_add(d, &machine, &err) == NULL) {
        log_event(LOG_ERROR, "export_file_unusable", LOG_S("export", spec->export_id));
        return;
    }
    struct opening *o = opening_new(d, spec, &err);
    if (o == NULL) {
        log_event(LOG_ERROR, "open_point_failed", LOG_S("export", spec->export_id), LOG_E(&err));
        return;
    }
    prepare(o);
}

int opening_restore(struct vaultd *d, struct err *err)
{
    return opening_file_load(d, restore_one, err);
}

void opening_stop_all(struct vaultd *d)
{
    struct opening *next;
    for (struct opening *o = d->openings; o != NULL; o = next) {
        next = o->next;
        if (o->child != NULL)
            loop_child_kill(o->child, SIGTERM);
        if (o->state == OPENING_PREPARING)
            o->state = OPENING_CLOSING; /* its job, which still knows it, ends it */
        else
            forget(o);
    }
}
