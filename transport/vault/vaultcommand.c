/* SPDX-License-Identifier: Apache-2.0
 *
 * Commands of the hub to a vault: open and close points, verify, export a disk, cancel. Each is answered by its id; long ones
 * report progress. What is asked twice (the hub was restarted) does no harm.
 */
#include <stdio.h>
#include <string.h>

#include "transport/base/log.h"
#include "transport/vault/diskimage.h"
#include "transport/vault/opening.h"
#include "transport/vault/vaultd_private.h"
#include "transport/vault/vaultspace.h"
#include "transport/vault/vaultverify.h"

/* A command that takes a while. */
struct longjob {
    struct longjob *next;
    struct vaultd *d;
    char *id;
    struct diskimage *image;
    struct verifying *verifying;
    struct collecting *collecting;
    struct vaultseed *seed;
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

/* ---- PromoteBranch ---- */

static void on_point(void *arg, uint64_t sequence, const struct err *err)
{
    struct open_answer *a = arg;
    char *json AUTO_FREE = mem_printf("{\"sequence\":\"%llu\"}", (unsigned long long)sequence);
    answer(a->d, a->id, err, err == NULL ? json : NULL);
    free(a);
}

static void promote_branch(struct vaultd *d, const char *id, const Leeward__Control__V1__PromoteBranch *q)
{
    struct err err = ERR_INIT;
    struct open_answer *a = open_answer_new(d, id);
    struct vaultpromote_spec spec = {.machine_id = q->machine_id,
        .branch_id = q->branch_id,
        .generation = q->generation,
        .done = on_point,
        .arg = a};
    if (a != NULL && vaultpromote_start(d, &spec, &err) == 0)
        return;
    free(a);
    if (err.code == ERR_NONE)
        (void)err_set(&err, ERR_NOMEM, "no memory to promote a branch");
    answer(d, id, &err, NULL);
}

/* ---- FollowBranch ---- */

static void follow_branch(struct vaultd *d, const char *id, const Leeward__Control__V1__FollowBranch *q)
{
    struct err err = ERR_INIT;
    struct open_answer *a = open_answer_new(d, id);
    struct vaultfollow_spec spec = {.machine_id = q->machine_id,
        .branch_id = q->branch_id,
        .generation = q->generation,
        .done = on_point,
        .arg = a};
    if (a != NULL && vaultfollow_start(d, &spec, &err) == 0)
        return;
    free(a);
    if (err.code == ERR_NONE)
        (void)err_set(&err, ERR_NOMEM, "no memory to follow a branch");
    answer(d, id, &err, NULL);
}

/* ---- ExportDisk ---- */

static void on_image_progress(void *arg, unsigned permille, const char *what)
{
    struct longjob *l = arg;
    if (l->d->session != NULL)
        session_command_progress(l->d->session, l->id, permille, what);
}

static void on_image_done(void *arg, const struct diskimage_result *r, const struct err *err)
{
    char *json AUTO_FREE =
        err != NULL
            ? NULL
            : mem_printf("{\"size_bytes\":\"%llu\",\"written_bytes\":\"%llu\",\"resumed\":%s,\"verified\":true}",
                  (unsigned long long)r->size_bytes, (unsigned long long)r->written_bytes,
                  r->resumed ? "true" : "false");
    longjob_end(arg, err, json);
}

static void export_disk(struct vaultd *d, const char *id, const Leeward__Control__V1__ExportDisk *q)
{
    struct err err = ERR_INIT;
    struct longjob *l = longjob_new(d, id);
    if (l == NULL)
        return;
    struct diskimage_spec spec = {.id = id,
        .protected_devices = q->protected_devices,
        .protected_count = q->n_protected_devices,
        .machine_id = q->machine_id,
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

static void on_verify_progress(void *arg, unsigned permille)
{
    struct longjob *l = arg;
    if (l->d->session != NULL)
        session_command_progress(l->d->session, l->id, permille, "verifying");
}

static void on_verified(void *arg, const struct err *err, const char *json)
{
    longjob_end(arg, err, json);
}

static void verify(struct vaultd *d, const char *id, const Leeward__Control__V1__Verify *q)
{
    struct err err = ERR_INIT;
    struct longjob *l = longjob_new(d, id);
    if (l == NULL)
        return;
    struct verifying_spec spec = {.machine_id = q->machine_id,
        .incremental = q->incremental,
        .not_since_utc_usec = q->not_since_utc_usec,
        .progress = on_verify_progress,
        .done = on_verified,
        .arg = l};
    if (verifying_start(d, &spec, &l->verifying, &err) < 0)
        longjob_end(l, &err, NULL);
}

/* ---- Compact ---- */

static void on_compact_progress(void *arg, unsigned permille)
{
    struct longjob *l = arg;
    if (l->d->session != NULL)
        session_command_progress(l->d->session, l->id, permille, "rewriting segments");
}

static void on_compacted(void *arg, const struct err *err, const char *json)
{
    longjob_end(arg, err, json);
}

static void compact(struct vaultd *d, const char *id, const Leeward__Control__V1__Compact *q)
{
    struct err err = ERR_INIT;
    struct longjob *l = longjob_new(d, id);
    if (l == NULL)
        return;
    struct collecting_spec spec = {
        .machine_id = q->machine_id, .progress = on_compact_progress, .done = on_compacted, .arg = l};
    if (vaultspace_collect(d, &spec, &l->collecting, &err) < 0)
        longjob_end(l, &err, NULL);
}

/* ---- SeedMachine ---- */

static void on_seed_progress(void *arg, unsigned permille)
{
    struct longjob *l = arg;
    if (l->d->session != NULL)
        session_command_progress(l->d->session, l->id, permille, "reading the seed");
}

static void on_seeded(void *arg, const struct err *err, const char *json)
{
    longjob_end(arg, err, json);
}

static void seed_machine(struct vaultd *d, const char *id, const Leeward__Control__V1__SeedMachine *q)
{
    struct err err = ERR_INIT;
    struct longjob *l = longjob_new(d, id);
    if (l == NULL)
        return;
    struct vaultseed_spec spec = {.command = q, .progress = on_seed_progress, .done = on_seeded, .arg = l};
    if (vaultseed_start(d, &spec, &l->seed, &err) < 0)
        longjob_end(l, &err, NULL);
}

/* ---- Cancel, and the end ---- */

static void cancel(struct vaultd *d, const char *id, const char *target)
{
    struct longjob *l = longjob_find(d, target);
    if (l == NULL)
        diskimage_forget(d, target);
    if (l != NULL) {
        if (l->verifying != NULL)
            verifying_cancel(l->verifying);
        if (l->image != NULL)
            diskimage_cancel(l->image);
        if (l->collecting != NULL)
            vaultspace_cancel(l->collecting);
        if (l->seed != NULL)
            vaultseed_cancel(l->seed);
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
    case LEEWARD__CONTROL__V1__COMMAND__KIND_PROMOTE_BRANCH:
        promote_branch(d, c->command_id, c->promote_branch);
        return;
    case LEEWARD__CONTROL__V1__COMMAND__KIND_FOLLOW_BRANCH:
        follow_branch(d, c->command_id, c->follow_branch);
        return;
    case LEEWARD__CONTROL__V1__COMMAND__KIND_EXPORT_DISK:
        export_disk(d, c->command_id, c->export_disk);
        return;
    case LEEWARD__CONTROL__V1__COMMAND__KIND_COMPACT:
        compact(d, c->command_id, c->compact);
        return;
    case LEEWARD__CONTROL__V1__COMMAND__KIND_ROTATE_KEY:
        vaultrotate_start(d, c->command_id);
        return;
    case LEEWARD__CONTROL__V1__COMMAND__KIND_NEW_DATA_KEY:
        vaultnewkey_start(d, c->command_id, c->new_data_key->machine_id);
        return;
    case LEEWARD__CONTROL__V1__COMMAND__KIND_ERASE_MACHINE:
        vaulterase_start(d, c->command_id, c->erase_machine->machine_id);
        return;
    case LEEWARD__CONTROL__V1__COMMAND__KIND_SEED_MACHINE:
        seed_machine(d, c->command_id, c->seed_machine);
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
        if (l->verifying != NULL)
            verifying_cancel(l->verifying);
}
