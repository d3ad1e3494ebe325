/* SPDX-License-Identifier: Apache-2.0
 *
 * One scrub per machine, one after the other. A machine whose store cannot be opened is a damage of its own; the others are
 * verified all the same.
 */
#include "transport/vault/vaultverify.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "transport/base/clock.h"
#include "transport/base/log.h"
#include "transport/vault/scrub.h"
#include "transport/vault/vaultd_private.h"
#include "transport/vault/vaultheal.h"

#define PROGRESS_EVERY_USEC (500 * USEC_PER_MSEC)
#define DAMAGES_LISTED 1000u

struct verifying {
    struct vaultd *d;
    struct verifying_spec spec;
    char *only;          /* machine id; NULL: all */
    struct vmachine *vm; /* the one that is being verified, or was last */
    struct scrub *scrub;
    struct loop_timer *timer;
    bool cancelled;
    uint64_t begun_utc_usec; /* on this machine */
    uint64_t records, bytes, points, damages, healed;
    json_t *damaged;
};

static void verifying_free(struct verifying *v)
{
    loop_timer_free(v->timer);
    json_decref(v->damaged);
    free(v->only);
    free(v);
}

/* ---- the result ---- */

static json_t *number_text(uint64_t n)
{
    char text[24];
    (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)n);
    return json_string(text);
}

static void add_place(struct verifying *v, const struct vmachine *vm, const struct verify_damage *damage)
{
    v->damages++;
    (void)json_array_append_new(v->damaged,
        json_pack("{s:s, s:s, s:I, s:o, s:o, s:s}", "machine_id", vm->id_text, "kind", verify_kind_name(damage->kind),
            "segment", (json_int_t)damage->segment, "offset", number_text(damage->offset), "points_from",
            number_text(damage->points_from), "text", damage->text));
}

static void add_failure(struct verifying *v, const struct vmachine *vm, const struct err *err)
{
    struct verify_damage damage = {.kind = VERIFY_LOG, .points_from = 1};
    (void)snprintf(damage.text, sizeof(damage.text), "%.199s", err->text);
    add_place(v, vm, &damage);
}

/* What is in quarantine, whenever it was found. */
static void add_item(struct verifying *v, const struct vmachine *vm, const struct quarantine_item *item)
{
    if (item->state == QUARANTINE_HEALED) {
        v->healed++;
        return;
    }
    v->damages++;
    if (json_array_size(v->damaged) >= DAMAGES_LISTED)
        return;
    (void)json_array_append_new(v->damaged,
        json_pack("{s:s, s:s, s:I, s:o, s:o, s:o, s:o, s:o, s:I, s:o, s:o, s:s}", "machine_id", vm->id_text, "kind",
            verify_kind_name(item->kind), "segment", (json_int_t)item->segment, "offset", number_text(item->offset),
            "points_from", number_text(item->sequence), "first_point", number_text(item->first_point), "last_point",
            number_text(item->last_point), "points", number_text(item->points), "disk", (json_int_t)item->disk, "start",
            number_text(item->start), "length_bytes", number_text(item->length), "text", item->text));
}

static char *result_text(const struct verifying *v)
{
    json_t *json =
        json_pack("{s:o, s:o, s:o, s:I, s:O}", "records", number_text(v->records), "bytes", number_text(v->bytes),
            "points", number_text(v->points), "damage_count", (json_int_t)v->damages, "damaged", v->damaged);
    char *text = json == NULL ? NULL : json_dumps(json, JSON_COMPACT);
    json_decref(json);
    return text;
}

static void verifying_end(struct verifying *v)
{
    struct err err = ERR_INIT;
    char *text AUTO_FREE = v->cancelled ? NULL : result_text(v);
    if (v->cancelled)
        (void)err_set(&err, ERR_CANCELLED, "verification was cancelled");
    v->spec.done(v->spec.arg, v->cancelled ? &err : NULL, v->cancelled ? NULL : text == NULL ? "{}" : text);
    verifying_free(v);
}

/* ---- machine by machine ---- */

static void verify_next(struct verifying *v);

static bool is_meant(const struct verifying *v, const struct vmachine *vm)
{
    return v->only == NULL || strcmp(v->only, vm->id_text) == 0;
}

/* What was verified now need not be verified by the next incremental one. */
static void note_verified(struct verifying *v, uint64_t through)
{
    struct vmachine *vm = v->vm;
    if (!v->spec.incremental && v->spec.not_since_utc_usec == 0) {
        struct scrubstate before = vm->scrubbed;
        scrubstate_finish(&vm->scrubbed, v->begun_utc_usec, clock_utc_usec(), through);
        if (vm->scrub != NULL) { /* a background pass goes on */
            vm->scrubbed.started_utc_usec = before.started_utc_usec;
            vm->scrubbed.cursor = before.cursor;
        }
    } else if (vm->scrubbed.last_started_utc_usec != 0 && through > vm->scrubbed.through) {
        vm->scrubbed.through = through;
    }
    vaultscrub_save(vm);
}

/* What was found is on the machine's list now, with the points that it hits. */
static void on_listed(void *arg)
{
    struct verifying *v = arg;
    for (size_t i = 0; i < v->vm->quarantine.count; i++)
        add_item(v, v->vm, &v->vm->quarantine.items[i]);
    verify_next(v);
}

static void on_scrubbed(void *arg, const struct scrub_end *end)
{
    struct verifying *v = arg;
    v->scrub = NULL;
    if (end->err != NULL) {
        if (end->err->code != ERR_CANCELLED)
            add_failure(v, v->vm, end->err);
        verify_next(v);
        return;
    }
    v->records += end->result->records;
    v->bytes += end->result->bytes;
    v->points += end->points;
    for (size_t i = 0; i < end->result->listed; i++)
        if (end->result->damages[i].kind == VERIFY_INDEX)
            add_place(v, v->vm, &end->result->damages[i]);
    if (end->result->index_damaged)
        vaultupkeep_rebuild(v->vm);
    note_verified(v, end->through);
    vaultheal_found(v->vm, end->after, end->result, on_listed, v);
}

static void verify_next(struct verifying *v)
{
    struct vmachine *vm = v->vm == NULL ? v->d->machines : v->vm->next;
    struct err err = ERR_INIT;
    while (vm != NULL && !is_meant(v, vm))
        vm = vm->next;
    if (vm == NULL || v->cancelled || v->d->stopping) {
        v->cancelled = v->cancelled || v->d->stopping;
        verifying_end(v);
        return;
    }
    v->vm = vm;
    v->begun_utc_usec = clock_utc_usec();
    bool part = v->spec.incremental || v->spec.not_since_utc_usec != 0;
    struct scrub_spec spec = {
        .after_segment = part ? scrubstate_verified(&vm->scrubbed, v->spec.not_since_utc_usec) : 0,
        .threads = v->d->conf.threads,
        .done = on_scrubbed,
        .arg = v};
    if (scrub_start(vm, &spec, &v->scrub, &err) == 0)
        return;
    add_failure(v, vm, &err);
    verifying_end(v);
}

static void on_timer(void *arg)
{
    struct verifying *v = arg;
    uint64_t done = 0, total = 0;
    if (v->scrub != NULL)
        scrub_get_progress(v->scrub, &done, &total);
    done = total == 0 ? 0 : done * 1000 / total;
    v->spec.progress(v->spec.arg, done > 999 ? 999 : (unsigned)done);
}

int verifying_start(
    struct vaultd *d, const struct verifying_spec *spec, struct verifying **ret_verifying, struct err *err)
{
    struct verifying *v = mem_new(struct verifying);
    bool any = false;
    if (v == NULL)
        return err_set(err, ERR_NOMEM, "no memory to verify");
    v->d = d;
    v->spec = *spec;
    v->only = spec->machine_id[0] == '\0' ? NULL : mem_strdup(spec->machine_id);
    v->damaged = json_array();
    for (const struct vmachine *vm = d->machines; vm != NULL; vm = vm->next)
        any = any || is_meant(v, vm);
    if (!any && v->only != NULL) {
        (void)err_set(err, ERR_NOT_FOUND, "this vault does not hold the machine %s", v->only);
        verifying_free(v);
        return -1;
    }
    (void)loop_timer_new(d->loop, PROGRESS_EVERY_USEC, PROGRESS_EVERY_USEC, on_timer, v, &v->timer, NULL);
    *ret_verifying = v;
    verify_next(v);
    return 0;
}

void verifying_cancel(struct verifying *v)
{
    v->cancelled = true;
    if (v->scrub != NULL)
        scrub_cancel(v->scrub);
}
