/* SPDX-License-Identifier: Apache-2.0
 *
 * The bucket of the daemon: every few seconds each machine has a turn (upload.h). What its folder is at that moment is taken on the machine's
 * lane, which takes no longer than reading two small files; all the rest runs on one thread of its own, so that a slow or absent
 * service holds up nothing but itself.
 *
 * Failure modes: a turn that fails is repeated after 1 s, 2 s, ... up to 5 minutes. The hub is told once when that has lasted, or at once when
 * waiting will not help, and again when it is over; until then the vault's status says what the bucket lacks.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "transport/base/clock.h"
#include "transport/base/log.h"
#include "transport/vault/damagehit.h"
#include "transport/vault/erase.h"
#include "transport/vault/secondcopy.h"
#include "transport/vault/upload.h"
#include "transport/vault/vaultd_private.h"

#define BACKOFF_FIRST_USEC USEC_PER_SEC
#define BACKOFF_MAX_USEC (300 * USEC_PER_SEC)
#define TELL_AFTER_USEC (60 * USEC_PER_SEC)

#define PURGE_RETRY_USEC (60 * USEC_PER_SEC)
#define REPORT_EVERY_USEC (30 * USEC_PER_SEC)
#define JOBS_MAX 65536 /* one of each machine at a time */

/* Of the daemon. */
struct bucket {
    struct worker_pool *pool;
    struct object_store *objects; /* the thread's */
    atomic_bool stop;
    bool purging;
    uint64_t purge_due_usec; /* monotonic; UINT64_MAX: nothing is to be removed */
};

/* Of a machine. */
struct machine_upload {
    struct upload *upload; /* the thread's */
    bool busy, erased;
    uint64_t due_usec; /* monotonic */
    unsigned failures; /* in a row */
    uint64_t failing_since_usec;
    bool told;
    uint64_t reported_usec; /* when the hub was last told how far the bucket is; monotonic */
    struct err why;
    struct upload_result last;
};

struct turn_job {
    struct vaultjob job;
    struct upload_source src;
    struct upload_result result;
};

/* ---- telling ---- */

static void point_text(const struct upload_result *r, char out[64])
{
    char when[CLOCK_RFC3339_SIZE];

    if (r->point == 0) {
        (void)snprintf(out, 64, "no recovery point yet");
        return;
    }
    clock_rfc3339(r->point_time_utc_usec, when);
    (void)snprintf(out, 64, "the recovery point of %s", when);
}

static char *behind_text(const struct vmachine *vm)
{
    const struct machine_upload *mu = vm->upload;
    char point[64];

    point_text(&mu->last, point);
    return mem_printf("The bucket has %s of %s as its newest, and %llu MiB less than the vault: %s", point,
        vm->name != NULL ? vm->name : vm->id_text, (unsigned long long)(mu->last.behind_bytes >> 20), mu->why.text);
}

static const char *remedy_of(const struct machine_upload *mu)
{
    return mu->why.correction[0] != '\0' ? mu->why.correction
                                         : "Check the storage service. The upload goes on by itself when it answers.";
}

static void tell_behind(struct vmachine *vm)
{
    char *text AUTO_FREE = behind_text(vm);

    vm->upload->told = true;
    vm->d->status_due_usec = 0;
    vm->d->space_news = true;
    if (text != NULL && vm->d->session != NULL)
        session_event(vm->d->session, "warning", "bucket_behind", vm->id_text, remedy_of(vm->upload), text);
}

static void tell_caught_up(struct vmachine *vm)
{
    char point[64];

    vm->upload->told = false;
    vm->d->status_due_usec = 0;
    vm->d->space_news = true;
    point_text(&vm->upload->last, point);
    char *text AUTO_FREE = mem_printf("The bucket has what the vault has again: %s.", point);
    if (text != NULL && vm->d->session != NULL)
        session_event(vm->d->session, "info", "bucket_caught_up", vm->id_text, "", text);
}

bool vaultupload_describe(const struct vaultd *d, char **ret_cause, const char **ret_remedy)
{
    for (const struct vmachine *vm = d->machines; vm != NULL; vm = vm->next) {
        if (vm->upload == NULL || !vm->upload->told)
            continue;
        *ret_cause = behind_text(vm);
        *ret_remedy = remedy_of(vm->upload);
        return *ret_cause != NULL;
    }
    return false;
}

bool vaultupload_lag(const struct vmachine *vm, uint64_t *ret_point_time_utc_usec, uint64_t *ret_behind_bytes)
{
    if (vm->upload == NULL || (vm->upload->last.sequence == 0 && vm->upload->last.behind_bytes == 0))
        return false;
    *ret_point_time_utc_usec = vm->upload->last.point_time_utc_usec;
    *ret_behind_bytes = vm->upload->last.behind_bytes;
    return true;
}

/* Now and then: each report goes to the hub's database. */
static void report_lag(struct vmachine *vm)
{
    uint64_t now = clock_mono_usec();

    if (vm->upload->reported_usec != 0 && now - vm->upload->reported_usec < REPORT_EVERY_USEC)
        return;
    vm->upload->reported_usec = now;
    vm->d->space_news = true;
}

/* ---- a turn ---- */

static bool waiting_helps(enum err_code code)
{
    return err_is_retryable(code) || code == ERR_NOMEM || code == ERR_IO;
}

static void turn_failed(struct vmachine *vm, const struct err *why)
{
    struct machine_upload *mu = vm->upload;
    uint64_t now = clock_mono_usec();
    uint64_t pause = mu->failures > 8 ? BACKOFF_MAX_USEC : BACKOFF_FIRST_USEC << mu->failures;

    if (mu->failures++ == 0)
        mu->failing_since_usec = now;
    mu->due_usec = now + (pause < BACKOFF_MAX_USEC ? pause : BACKOFF_MAX_USEC);
    err_copy(&mu->why, why);
    log_event(LOG_WARN, "bucket_upload_failed", LOG_S("machine", vm->id_text), LOG_U("failures", mu->failures),
        LOG_U("behind_bytes", mu->last.behind_bytes), LOG_E(why));
    if (!mu->told && (!waiting_helps(why->code) || now - mu->failing_since_usec >= TELL_AFTER_USEC))
        tell_behind(vm);
}

static void turn_succeeded(struct vmachine *vm)
{
    struct machine_upload *mu = vm->upload;

    mu->failures = 0;
    mu->due_usec = clock_mono_usec() + (mu->last.more ? 0 : vm->d->conf.bucket_every_usec);
    log_event(LOG_DEBUG, "bucket_turn", LOG_S("machine", vm->id_text), LOG_U("sequence", mu->last.sequence),
        LOG_U("point", mu->last.point), LOG_U("sent_bytes", mu->last.sent_bytes),
        LOG_U("behind_bytes", mu->last.behind_bytes));
    if (mu->told && !mu->last.more)
        tell_caught_up(vm);
}

static void turn_end(struct turn_job *t)
{
    struct vmachine *vm = t->job.vm;

    vm->upload->busy = false;
    if (t->job.result < 0 && t->job.err.code != ERR_CANCELLED)
        turn_failed(vm, &t->job.err);
    else if (t->job.result == 0)
        turn_succeeded(vm);
    upload_source_done(&t->src);
    free(t);
}

static int open_bucket(struct vaultd *d, struct err *err)
{
    struct bucket *b = d->bucket;
    struct object_store *objects AUTO_OF(object_store) = NULL;

    if (b->objects != NULL)
        return 0;
    if (bucketconf_open(d->conf.bucket, &b->stop, &objects, err) < 0 || object_probe(objects, err) < 0)
        return -1;
    if ((object_features(objects) & OBJECT_CONDITION_HONOURED) == 0)
        log_event(LOG_WARN, "bucket_ignores_conditions", LOG_S("url", d->conf.bucket->url));
    b->objects = TAKE_PTR(objects);
    return 0;
}

static int send_run(struct vaultjob *j, struct err *err)
{
    struct turn_job *t = (struct turn_job *)j;
    struct vmachine *vm = j->vm;

    if (open_bucket(vm->d, err) < 0)
        return err_wrap(err, "opening the bucket");
    return upload_turn(vm->upload->upload, vm->d->bucket->objects, &t->src, &t->result, err);
}

static void send_done(struct vaultjob *j)
{
    struct turn_job *t = (struct turn_job *)j;

    if (t->result.sequence > 0 || t->result.behind_bytes > 0)
        j->vm->upload->last = t->result;
    report_lag(j->vm);
    turn_end(t);
}

static int take_run(struct vaultjob *j, struct err *err)
{
    struct turn_job *t = (struct turn_job *)j;
    struct store *s;

    return vmachine_store(j->vm, &s, err) < 0 ? -1 : upload_source_take(s, &j->vm->id, &t->src, err);
}

static void take_done(struct vaultjob *j)
{
    struct vaultd *d = j->vm->d;

    if (j->result < 0 || d->stopping) {
        turn_end((struct turn_job *)j);
        return;
    }
    j->run = send_run;
    j->done = send_done;
    j->result = err_set(&j->err, ERR_CANCELLED, "the vault is ending"); /* when it never runs */
    if (worker_submit(d->bucket->pool, &j->job, &j->err) < 0)
        turn_end((struct turn_job *)j);
}

static void begin_turn(struct vmachine *vm)
{
    struct turn_job *t = mem_new(struct turn_job);

    if (t == NULL)
        return;
    upload_source_init(&t->src);
    t->job.run = take_run;
    t->job.done = take_done;
    if (vaultjob_lane(vm, &t->job, NULL) < 0)
        free(t);
    else
        vm->upload->busy = true;
}

static int know(struct vmachine *vm)
{
    struct err err = ERR_INIT;
    struct machine_upload *mu = mem_new(struct machine_upload);

    if (mu == NULL || upload_new(&vm->id, 0, &mu->upload, &err) < 0) {
        free(mu);
        return -1;
    }
    vm->upload = mu;
    return 0;
}

void vaultupload_tick(struct vmachine *vm, uint64_t now)
{
    if (vm->upload != NULL && vm->upload->erased && !vm->upload->busy)
        vaultupload_forget(vm); /* what it knows of the bucket is not there any more */
    if (vm->d->bucket == NULL || !vm->desired || (vm->upload == NULL && know(vm) < 0))
        return;
    if (vm->upload->busy || now < vm->upload->due_usec)
        return;
    if (erase_is_kept(vm->d->data_dir, &vm->id)) /* its life before is still there */
        vm->upload->due_usec = now + BACKOFF_FIRST_USEC;
    else
        begin_turn(vm);
}

/* ---- erased machines ---- */

struct purge_job {
    struct worker_job job;
    struct vaultd *d;
    int result;
    struct err err;
};

/* The marks go first: without them there is no machine to rebuild. Its folder, which kept it in mind, goes last. */
static int purge_all(struct vaultd *d, struct err *err)
{
    struct ident *machines AUTO_FREE = NULL;
    size_t count = 0;

    if (erase_kept(d->data_dir, &machines, &count, err) < 0 || (count > 0 && open_bucket(d, err) < 0))
        return -1;
    for (size_t i = 0; i < count; i++) {
        char id[IDENT_TEXT_SIZE];
        if (upload_purge(&machines[i], d->bucket->objects, err) < 0 || erase_finish(d->data_dir, &machines[i], err) < 0)
            return -1;
        ident_to_text(&machines[i], id);
        log_event(LOG_WARN, "machine_erased_from_bucket", LOG_S("machine", id));
    }
    return 0;
}

static void purge_run(struct worker_job *job)
{
    struct purge_job *p = (struct purge_job *)job;
    p->result = purge_all(p->d, &p->err);
}

static void purge_done(struct worker_job *job)
{
    struct purge_job *p = (struct purge_job *)job;
    struct bucket *b = p->d->bucket;
    bool again = worker_job_was_run(job) && p->result < 0;

    b->purging = false;
    if (again && p->err.code != ERR_CANCELLED)
        log_event(LOG_WARN, "bucket_purge_failed", LOG_E(&p->err));
    if (again)
        b->purge_due_usec = clock_mono_usec() + PURGE_RETRY_USEC;
    free(p);
}

void vaultupload_purge_tick(struct vaultd *d, uint64_t now)
{
    struct bucket *b = d->bucket;
    struct purge_job *p = b == NULL || b->purging || now < b->purge_due_usec ? NULL : mem_new(struct purge_job);

    if (p == NULL)
        return;
    p->job.run = purge_run;
    p->job.done = purge_done;
    p->d = d;
    if (worker_submit(b->pool, &p->job, NULL) < 0) {
        free(p);
        return;
    }
    b->purging = true;
    b->purge_due_usec = UINT64_MAX;
}

void vaultupload_erased(struct vmachine *vm)
{
    if (vm->upload != NULL)
        vm->upload->erased = true;
    if (vm->d->bucket != NULL)
        vm->d->bucket->purge_due_usec = 0;
}

/* ---- start and end ---- */

bool vaultupload_is_configured(const struct vaultd *d)
{
    return d->conf.bucket != NULL && d->conf.bucket->url != NULL && d->conf.bucket->url[0] != '\0';
}

int vaultupload_copy(const struct vmachine *vm, const struct damagehit *hit, uint64_t writes_from,
    struct secondcopy **ret_copy, struct err *err)
{
    const struct vaultd *d = vm->d;

    *ret_copy = NULL;
    if (d->bucket == NULL)
        return 0;
    const struct secondcopy_spec spec = {.bucket = d->conf.bucket,
        .stop = &d->bucket->stop,
        .machine_dir = hit->machine_dir,
        .machine = hit->machine,
        .keys = &hit->keys,
        .points = &hit->points,
        .committed = hit->newest,
        .writes_from = writes_from};
    return secondcopy_new(&spec, ret_copy, err);
}

bool vaultupload_is_in_conflict(const struct vmachine *vm)
{
    return vm->upload != NULL && vm->upload->failures > 0 && vm->upload->why.code == ERR_CONFLICT;
}

int vaultupload_start(struct vaultd *d, struct err *err)
{
    struct object_store *tried AUTO_OF(object_store) = NULL;

    if (!vaultupload_is_configured(d))
        return 0;
    if (bucketconf_open(d->conf.bucket, NULL, &tried, err) < 0)
        return err_wrap(err, "bucket");
    d->bucket = mem_new(struct bucket);
    if (d->bucket == NULL)
        return err_set(err, ERR_NOMEM, "no memory for the bucket");
    return worker_pool_new(d->loop, "bucket", 1, JOBS_MAX, &d->bucket->pool, err);
}

void vaultupload_stop(struct vaultd *d)
{
    if (d->bucket == NULL)
        return;
    atomic_store(&d->bucket->stop, true);
    worker_pool_free(TAKE_PTR(d->bucket->pool));
}

void vaultupload_free(struct vaultd *d)
{
    if (d->bucket == NULL)
        return;
    object_close(d->bucket->objects);
    free(d->bucket);
    d->bucket = NULL;
}

void vaultupload_forget(struct vmachine *vm)
{
    if (vm->upload == NULL)
        return;
    upload_free(vm->upload->upload);
    free(vm->upload);
    vm->upload = NULL;
}
