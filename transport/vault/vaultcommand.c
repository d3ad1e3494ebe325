/* SPDX-License-Identifier: Apache-2.0
 *
 * Commands of the hub to a vault: open and close points, verify, export a disk, cancel. Each is answered by its id; long ones
 * report progress. What is asked twice (the hub was restarted) does no harm.
 */
#include <jansson.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "transport/base/clock.h"
#include "transport/base/log.h"
#include "transport/vault/diskimage.h"
#include "transport/vault/opening.h"
#include "transport/vault/vaultd_private.h"
#include "transport/vault/verify.h"

#define PROGRESS_EVERY_USEC (500 * USEC_PER_MSEC)

/* A command that takes a while. */
struct longjob {
    struct longjob *next;
    struct vaultd *d;
    char *id;
    struct diskimage *image;
    struct loop_timer *timer;
    /* verification: the machines one after the other */
    char *only;          /* machine id; NULL: all */
    struct vmachine *vm; /* the one that is being verified, or was last */
    _Atomic bool cancelled;
    _Atomic uint64_t done_bytes;
    uint64_t total_bytes;
    uint64_t records, bytes, points, damages;
    json_t *damaged;
};

/* ---- answers ---- */

static void answer(struct vaultd *d, const char *id, const struct err *err, const char *json)
{
    if (err != NULL && err->code != ERR_NONE)
        log_event(LOG_WARN, "command_failed", LOG_S("command", id), LOG_E(err));
    if (d->session != NULL)
        session_command_done(d->session, id, err, json);
}

static void longjob_end(struct longjob *l, const struct err *err, const char *json)
{
    struct longjob **link = &l->d->longjobs;
    while (*link != NULL && *link != l)
        link = &(*link)->next;
    if (*link == l)
        *link = l->next;
    answer(l->d, l->id, err, json);
    loop_timer_free(l->timer);
    json_decref(l->damaged);
    free(l->only);
    free(l->id);
    free(l);
}

static struct longjob *longjob_find(const struct vaultd *d, const char *id)
{
    for (struct longjob *l = d->longjobs; l != NULL; l = l->next)
        if (strcmp(l->id, id) == 0)
            return l;
    return NULL;
}

/* NULL: no memory, or it runs already (which is fine: its end answers). */
static struct longjob *longjob_new(struct vaultd *d, const char *id)
{
    if (longjob_find(d, id) != NULL)
        return NULL;
    struct longjob *l = mem_new(struct longjob);
    if (l == NULL)
        return NULL;
    l->d = d;
    l->id = mem_strdup(id);
    if (l->id == NULL) {
        free(l);
        return NULL;
    }
    l->next = d->longjobs;
    d->longjobs = l;
    return l;
}

/* ---- OpenPoint, ClosePoint ---- */

struct open_answer {
    struct vaultd *d;
    char id[]; /* of the command */
};

static struct open_answer *open_answer_new(struct vaultd *d, const char *id)
{
    struct open_answer *a = mem_alloc(1, sizeof(*a) + strlen(id) + 1);
    if (a != NULL) {
        a->d = d;
        memcpy(a->id, id, strlen(id) + 1);
    }
    return a;
}

static void on_opened(void *arg, struct opening *o, const struct err *err)
{
    struct open_answer *a = arg;
    char *json AUTO_FREE = o == NULL ? NULL : opening_json(o);
    answer(a->d, a->id, err, json);
    free(a);
}

static void on_closed(void *arg, const struct err *err)
{
    struct open_answer *a = arg;
    answer(a->d, a->id, err, NULL);
    free(a);
}

static void open_point(struct vaultd *d, const char *id, const Leeward__Control__V1__OpenPoint *q)
{
    struct err err = ERR_INIT;
    struct open_answer *a = open_answer_new(d, id);
    struct opening_spec spec = {.export_id = q->export_id,
        .machine_id = q->machine_id,
        .sequence = q->sequence,
        .write = q->write,
        .reopen = q->reopen,
        .socket = q->socket};
    if (a != NULL && opening_open(d, &spec, on_opened, a, &err) == 0)
        return;
    free(a);
    if (err.code == ERR_NONE)
        (void)err_set(&err, ERR_NOMEM, "no memory to open a point");
    answer(d, id, &err, NULL);
}

static void close_point(struct vaultd *d, const char *id, const Leeward__Control__V1__ClosePoint *q)
{
    struct err err = ERR_INIT;
    struct open_answer *a = open_answer_new(d, id);
    if (a != NULL && opening_close(d, q->export_id, q->discard, on_closed, a, &err) == 0)
        return;
    free(a);
    if (err.code == ERR_NONE)
        (void)err_set(&err, ERR_NOMEM, "no memory to close a point");
    answer(d, id, &err, NULL);
}

/* ---- ExportDisk ---- */

static void on_image_progress(void *arg, unsigned permille)
{
    struct longjob *l = arg;
    if (l->d->session != NULL)
        session_command_progress(l->d->session, l->id, permille, "copying the disk");
}

static void on_image_done(void *arg, const struct err *err)
{
    longjob_end(arg, err, err == NULL ? "{}" : NULL);
}

static void export_disk(struct vaultd *d, const char *id, const Leeward__Control__V1__ExportDisk *q)
{
    struct err err = ERR_INIT;
    struct longjob *l = longjob_new(d, id);
    if (l == NULL)
        return;
    struct diskimage_spec spec = {.machine_id = q->machine_id,
        .sequence = q->sequence,
        .disk = q->disk,
        .path = q->path,
        .format = q->format,
        .progress = on_image_progress,
        .done = on_image_done,
        .arg = l};
    if (diskimage_start(d, &spec, &l->image, &err) < 0)
        longjob_end(l, &err, NULL);
}

/* ---- Verify ---- */

struct verify_job {
    struct vaultjob job;
    struct longjob *l;
    struct verify_spec spec;
    struct verify_result result;
    uint64_t points;
};

static void verify_next(struct longjob *l);

static int prepare_run(struct vaultjob *job, struct err *err)
{
    struct verify_job *j = (struct verify_job *)job;
    struct store *s;
    if (vmachine_store(job->vm, &s, err) < 0)
        return -1;
    store_data_key(s, &j->spec.key);
    j->spec.machine_dir = job->vm->dir;
    j->spec.machine = job->vm->id;
    j->spec.until_sequence = store_committed(s);
    j->points = store_points(s)->count;
    return 0;
}

static int verify_job_run(struct vaultjob *job, struct err *err)
{
    struct verify_job *j = (struct verify_job *)job;
    return verify_run(&j->spec, &j->result, err);
}

/* Lane: the index is damaged: the store is opened again without one, which rebuilds it from the log. */
static int rebuild_run(struct vaultjob *job, struct err *err)
{
    struct vmachine *vm = job->vm;
    struct store *s;
    store_discard_index(vm->store);
    return vmachine_store(vm, &s, err);
}

static void rebuild_done(struct vaultjob *job)
{
    if (job->result < 0)
        log_event(LOG_ERROR, "index_rebuild_failed", LOG_S("machine", job->vm->id_text), LOG_E(&job->err));
    free(job);
}

static void rebuild_index(struct vmachine *vm)
{
    struct vaultjob *j = mem_new(struct vaultjob);
    if (j == NULL)
        return;
    j->run = rebuild_run;
    j->done = rebuild_done;
    if (vaultjob_lane(vm, j, NULL) < 0)
        free(j);
}

static void add_damage(struct longjob *l, const struct vmachine *vm, const struct verify_damage *damage)
{
    char offset[24], from[24];
    (void)snprintf(offset, sizeof(offset), "%llu", (unsigned long long)damage->offset);
    (void)snprintf(from, sizeof(from), "%llu", (unsigned long long)damage->points_from);
    (void)json_array_append_new(
        l->damaged, json_pack("{s:s, s:I, s:s, s:s, s:s}", "machine_id", vm->id_text, "segment",
                        (json_int_t)damage->segment, "offset", offset, "points_from", from, "text", damage->text));
}

static void add_failure(struct longjob *l, const struct vmachine *vm, const struct err *err)
{
    struct verify_damage damage = {.points_from = 1};
    (void)snprintf(damage.text, sizeof(damage.text), "%.199s", err->text);
    add_damage(l, vm, &damage);
    l->damages++;
}

static void verify_done(struct vaultjob *job)
{
    struct verify_job *j = (struct verify_job *)job;
    struct longjob *l = j->l;
    if (job->result < 0) {
        add_failure(l, job->vm, &job->err);
    } else {
        l->records += j->result.records;
        l->bytes += j->result.bytes;
        l->points += j->points;
        l->damages += j->result.damage_count;
        for (size_t i = 0; i < j->result.listed; i++)
            add_damage(l, job->vm, &j->result.damages[i]);
        if (j->result.index_damaged)
            rebuild_index(job->vm);
    }
    explicit_bzero(&j->spec.key, sizeof(j->spec.key));
    verify_result_done(&j->result);
    free(j);
    verify_next(l);
}

static void prepare_done(struct vaultjob *job)
{
    struct verify_job *j = (struct verify_job *)job;
    struct vaultd *d = job->vm->d;
    job->run = verify_job_run;
    job->done = verify_done;
    if (job->result < 0 || vaultjob_pool(d, job->vm, job, &job->err) < 0) {
        job->result = -1;
        verify_done(job);
    }
    (void)j;
}

static void verify_end(struct longjob *l)
{
    char records[24], bytes[24], points[24];
    struct err err = ERR_INIT;
    if (atomic_load(&l->cancelled)) {
        (void)err_set(&err, ERR_CANCELLED, "verification was cancelled");
        longjob_end(l, &err, NULL);
        return;
    }
    (void)snprintf(records, sizeof(records), "%llu", (unsigned long long)l->records);
    (void)snprintf(bytes, sizeof(bytes), "%llu", (unsigned long long)l->bytes);
    (void)snprintf(points, sizeof(points), "%llu", (unsigned long long)l->points);
    json_t *json = json_pack("{s:s, s:s, s:s, s:I, s:O}", "records", records, "bytes", bytes, "points", points,
        "damage_count", (json_int_t)l->damages, "damaged", l->damaged);
    char *text = json == NULL ? NULL : json_dumps(json, JSON_COMPACT);
    if (l->damages > 0 && l->d->session != NULL)
        session_event(l->d->session, "error", "vault_damaged", l->only,
            "Look at the result of the verification; replicate the machine anew if its newest points are hit.",
            "Verification found damage in the vault.");
    longjob_end(l, NULL, text == NULL ? "{}" : text);
    free(text);
    json_decref(json);
}

static bool is_meant(const struct longjob *l, const struct vmachine *vm)
{
    return l->only == NULL || strcmp(l->only, vm->id_text) == 0;
}

static void verify_next(struct longjob *l)
{
    struct vmachine *vm = l->vm == NULL ? l->d->machines : l->vm->next;
    while (vm != NULL && !is_meant(l, vm))
        vm = vm->next;
    struct verify_job *j = vm == NULL || atomic_load(&l->cancelled) ? NULL : mem_new(struct verify_job);
    if (j == NULL) {
        verify_end(l);
        return;
    }
    l->vm = vm;
    j->l = l;
    j->job.run = prepare_run;
    j->job.done = prepare_done;
    j->spec.cancelled = &l->cancelled;
    j->spec.done_bytes = &l->done_bytes;
    if (vaultjob_lane(vm, &j->job, NULL) < 0) {
        free(j);
        verify_end(l);
    }
}

static void on_verify_timer(void *arg)
{
    struct longjob *l = arg;
    uint64_t done = atomic_load(&l->done_bytes);
    unsigned permille = l->total_bytes == 0 ? 0 : (unsigned)(done * 1000 / l->total_bytes);
    if (l->d->session != NULL)
        session_command_progress(l->d->session, l->id, permille > 999 ? 999 : permille, "verifying");
}

static void verify(struct vaultd *d, const char *id, const Leeward__Control__V1__Verify *q)
{
    struct err err = ERR_INIT;
    struct longjob *l = longjob_new(d, id);
    bool any = false;
    if (l == NULL)
        return;
    l->only = q->machine_id[0] == '\0' ? NULL : mem_strdup(q->machine_id);
    l->damaged = json_array();
    for (const struct vmachine *vm = d->machines; vm != NULL; vm = vm->next) {
        if (!is_meant(l, vm))
            continue;
        any = true;
        l->total_bytes += verify_total_bytes(vm->dir);
    }
    if (!any && l->only != NULL) {
        (void)err_set(&err, ERR_NOT_FOUND, "this vault does not hold the machine %s", l->only);
        longjob_end(l, &err, NULL);
        return;
    }
    (void)loop_timer_new(d->loop, PROGRESS_EVERY_USEC, PROGRESS_EVERY_USEC, on_verify_timer, l, &l->timer, NULL);
    verify_next(l);
}

/* ---- Cancel, and the end ---- */

static void cancel(struct vaultd *d, const char *id, const char *target)
{
    struct longjob *l = longjob_find(d, target);
    if (l != NULL) {
        atomic_store(&l->cancelled, true);
        if (l->image != NULL)
            diskimage_cancel(l->image);
    }
    answer(d, id, NULL, NULL);
}

void vaultcommand_run(struct vaultd *d, const Leeward__Control__V1__Command *c)
{
    struct err err = ERR_INIT;
    switch (c->kind_case) {
    case LEEWARD__CONTROL__V1__COMMAND__KIND_OPEN_POINT:
        open_point(d, c->command_id, c->open_point);
        return;
    case LEEWARD__CONTROL__V1__COMMAND__KIND_CLOSE_POINT:
        close_point(d, c->command_id, c->close_point);
        return;
    case LEEWARD__CONTROL__V1__COMMAND__KIND_VERIFY:
        verify(d, c->command_id, c->verify);
        return;
    case LEEWARD__CONTROL__V1__COMMAND__KIND_EXPORT_DISK:
        export_disk(d, c->command_id, c->export_disk);
        return;
    case LEEWARD__CONTROL__V1__COMMAND__KIND_CANCEL:
        cancel(d, c->command_id, c->cancel->command_id);
        return;
    default:
        (void)err_set(&err, ERR_UNSUPPORTED, "a vault does not know this command");
        answer(d, c->command_id, &err, NULL);
    }
}

void vaultcommand_stop(struct vaultd *d)
{
    d->session = NULL;
    for (struct longjob *l = d->longjobs; l != NULL; l = l->next)
        atomic_store(&l->cancelled, true);
}
