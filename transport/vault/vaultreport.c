/* SPDX-License-Identifier: Apache-2.0
 *
 * What the hub is told: new points at once, all it missed after a gap, points that retention dropped, and the status.
 *
 * The hub says with the desired state which point it knows last. A sync sends what is behind that; when it knows none, or one
 * that is not there, the full list. A report that could not be sent is not counted as reported, and the next tick syncs again. What was
 * dropped is told again at the beginning of each session until it has long been told in one (droplog.h).
 */
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "transport/base/clock.h"
#include "transport/base/log.h"
#include "transport/vault/opening.h"
#include "transport/vault/vaultd_private.h"

#define POINTS_PER_REPORT 1000u
#define RANGES_PER_REPORT 8192u /* some 200 KB: the hub takes reports of up to 4 MiB */
#define SYNC_RETRY_USEC (60 * USEC_PER_SEC)
#define DROPPED_KNOWN_USEC (3600 * USEC_PER_SEC) /* told so long ago in a session that still goes on: the hub has it */

/* ---- collecting, on the lane ---- */

static int report_ranges(struct point_report *r, const struct mark *m, struct err *err)
{
    if (m->range_count == 0)
        return 0;
    r->ranges = mem_alloc(m->range_count, sizeof(*m->ranges));
    if (r->ranges == NULL)
        return err_set(err, ERR_NOMEM, "no memory to report points");
    memcpy(r->ranges, m->ranges, m->range_count * sizeof(*m->ranges));
    r->range_count = m->range_count;
    return 0;
}

static int report_fill(
    struct store *s, const struct point *p, struct point_report *r, struct mark *scratch, struct err *err)
{
    struct err why = ERR_INIT;
    r->point = *p;
    if (p->more == 0 && p->unreadable_blocks == 0)
        return 0;
    if (store_point_mark(s, p, scratch, &why) < 0) {
        if (why.code == ERR_NOMEM) {
            err_copy(err, &why);
            return -1;
        }
        /* Damage of one mark must not keep all other points from the hub. */
        log_event(LOG_ERROR, "mark_damaged", LOG_S("dir", store_dir(s)), LOG_U("sequence", p->sequence), LOG_E(&why));
        return 0;
    }
    r->group = scratch->group_point;
    if (report_ranges(r, scratch, err) < 0)
        return -1;
    if (scratch->tag[0] == '\0')
        return 0;
    r->tag = mem_strdup(scratch->tag);
    return r->tag == NULL ? err_set(err, ERR_NOMEM, "no memory to report points") : 0;
}

int vaultreport_collect(
    struct store *s, uint64_t after, struct point_report **ret_reports, size_t *ret_count, struct err *err)
{
    const struct pointlist *points = store_points(s);
    size_t first = after == UINT64_MAX ? points->count : pointlist_at(points, after + 1);
    size_t count = points->count - first;
    struct mark *scratch AUTO_FREE = mem_new(struct mark);
    struct point_report *reports = mem_alloc(count + 1, sizeof(*reports));
    if (reports == NULL || scratch == NULL) {
        free(reports);
        return err_set(err, ERR_NOMEM, "no memory to report points");
    }
    for (size_t i = 0; i < count; i++) {
        if (report_fill(s, &points->items[first + i], &reports[i], scratch, err) < 0) {
            vaultreport_free(reports, count);
            return -1;
        }
    }
    *ret_reports = reports;
    *ret_count = count;
    return 0;
}

void vaultreport_free(struct point_report *reports, size_t count)
{
    for (size_t i = 0; reports != NULL && i < count; i++) {
        free(reports[i].tag);
        free(reports[i].ranges);
    }
    free(reports);
}

/* ---- sending ---- */

struct info_row {
    Leeward__Control__V1__PointInfo info;
    char group[IDENT_TEXT_SIZE];
};

static void row_fill(struct info_row *row, const struct point_report *r)
{
    Leeward__Control__V1__PointInfo *info = &row->info;
    leeward__control__v1__point_info__init(info);
    info->sequence = r->point.sequence;
    info->time_utc_usec = r->point.time_utc_usec;
    info->kind = (char *)(uintptr_t)mark_kind_name((enum mark_kind)r->point.kind);
    if (r->tag != NULL)
        info->tag = r->tag;
    if (!ident_is_zero(&r->group)) {
        ident_to_text(&r->group, row->group);
        info->group_point_id = row->group;
    }
    info->generation = r->point.generation;
    info->changed_bytes = r->point.changed_bytes;
    info->frozen = (r->point.flags & MARK_FROZEN) != 0;
    info->unreadable_blocks = r->point.unreadable_blocks;
    info->committed_utc_usec = r->point.committed_utc_usec;
}

/* Room for the ranges of all points of a report. */
struct range_rows {
    Leeward__Control__V1__UnreadableRange *rows, **pointers;
    size_t used;
};

static void row_fill_ranges(struct info_row *row, const struct point_report *r, struct range_rows *room)
{
    row->info.n_unreadable = r->range_count;
    row->info.unreadable = room->pointers + room->used;
    for (uint32_t i = 0; i < r->range_count; i++, room->used++) {
        Leeward__Control__V1__UnreadableRange *range = &room->rows[room->used];
        leeward__control__v1__unreadable_range__init(range);
        range->disk = r->ranges[i].disk;
        range->start = r->ranges[i].start;
        range->length = r->ranges[i].length;
        room->pointers[room->used] = range;
    }
}

static size_t count_ranges(const struct point_report *reports, size_t count)
{
    size_t ranges = 0;
    for (size_t i = 0; i < count; i++)
        ranges += reports[i].range_count;
    return ranges;
}

/* Points for one report, at least one where there is any. */
static size_t count_together(const struct point_report *reports, size_t count)
{
    size_t n = 0, ranges = 0;
    while (n < count && n < POINTS_PER_REPORT && ranges < RANGES_PER_REPORT)
        ranges += reports[n++].range_count;
    return n;
}

static int send_points(struct vmachine *vm, Leeward__Control__V1__Points *points)
{
    Leeward__Control__V1__Report report = LEEWARD__CONTROL__V1__REPORT__INIT;
    struct err err = ERR_INIT;
    points->machine_id = vm->id_text;
    points->copy = vaultcopy_is_copy(vm);
    report.kind_case = LEEWARD__CONTROL__V1__REPORT__KIND_POINTS;
    report.points = points;
    int sent = vm->d->session == NULL ? 0 : session_report(vm->d->session, &report, &err);
    if (sent < 0)
        log_event(LOG_ERROR, "report_failed", LOG_S("machine", vm->id_text), LOG_E(&err));
    return sent;
}

/* As many as count_together says. */
static int send_some(struct vmachine *vm, const struct point_report *reports, size_t count, bool complete)
{
    struct info_row *rows AUTO_FREE = mem_alloc(count + 1, sizeof(*rows));
    Leeward__Control__V1__PointInfo **infos AUTO_FREE = mem_alloc(count + 1, sizeof(*infos));
    size_t ranges = count_ranges(reports, count) + 1;
    Leeward__Control__V1__UnreadableRange *range_rows AUTO_FREE = mem_alloc(ranges, sizeof(*range_rows));
    Leeward__Control__V1__UnreadableRange **pointers AUTO_FREE =
        mem_alloc(ranges, sizeof(Leeward__Control__V1__UnreadableRange *));
    struct range_rows room = {.rows = range_rows, .pointers = pointers};
    Leeward__Control__V1__Points points = LEEWARD__CONTROL__V1__POINTS__INIT;
    if (rows == NULL || infos == NULL || range_rows == NULL || pointers == NULL)
        return -1;
    for (size_t i = 0; i < count; i++) {
        row_fill(&rows[i], &reports[i]);
        row_fill_ranges(&rows[i], &reports[i], &room);
        infos[i] = &rows[i].info;
    }
    points.n_added = count;
    points.added = infos;
    points.complete = complete;
    return send_points(vm, &points);
}

static void send_list(struct vmachine *vm, const struct point_report *reports, size_t count, bool complete)
{
    size_t at = 0;
    if (count == 0 && !complete)
        return;
    do {
        size_t n = count_together(reports + at, count - at);
        if (send_some(vm, reports + at, n, complete) <= 0)
            return;
        if (complete)
            vm->report_all = false;
        complete = false;
        at += n;
        if (n > 0)
            vm->reported = reports[at - 1].point.sequence;
    } while (at < count);
}

void vaultreport_points(struct vmachine *vm, const struct point_report *reports, size_t count)
{
    if (count == 0)
        return;
    bool follows = vm->reported == vm->last_point && !vm->syncing && !vm->report_all;
    vm->last_point = reports[count - 1].point.sequence;
    if (follows)
        send_list(vm, reports, count, false);
}

static bool send_dropped(struct vmachine *vm, const uint64_t *sequences, size_t count)
{
    for (size_t at = 0; at < count; at += POINTS_PER_REPORT) {
        Leeward__Control__V1__Points points = LEEWARD__CONTROL__V1__POINTS__INIT;
        points.n_dropped = count - at < POINTS_PER_REPORT ? count - at : POINTS_PER_REPORT;
        points.dropped = (uint64_t *)(uintptr_t)(sequences + at);
        if (send_points(vm, &points) <= 0)
            return false;
    }
    return true;
}

void vaultreport_dropped(struct vmachine *vm, const uint64_t *sequences, size_t count)
{
    vm->dropped_kept = true;
    if (!send_dropped(vm, sequences, count))
        vm->dropped_untold = true;
}

/* ---- what was dropped, on the lane ---- */

static int dropped_load(struct vmachine *vm, const struct store *s, struct err *err)
{
    if (vm->dropped_loaded)
        return 0;
    if (droplog_load(vm->dir, &vm->id, &vm->dropped, err) < 0) {
        droplog_done(&vm->dropped);
        return -1;
    }
    if (vm->dropped.unsure && store_committed(s) == 0) { /* a new machine: it has never had a point */
        vm->dropped.unsure = false;
        (void)droplog_store(vm->dir, &vm->id, &vm->dropped, NULL);
    }
    vm->dropped_loaded = true;
    return 0;
}

int vaultreport_note_dropped(struct vmachine *vm, const uint64_t *sequences, size_t count, struct err *err)
{
    if (dropped_load(vm, vm->store, err) < 0)
        return -1;
    droplog_leave(&vm->dropped, store_points(vm->store));
    struct err why = ERR_INIT;
    if (droplog_add(&vm->dropped, sequences, count, clock_mono_usec(), err) < 0)
        return -1;
    if (droplog_store(vm->dir, &vm->id, &vm->dropped, &why) == 0)
        return 0;
    if (why.code == ERR_NOSPACE) /* dropping makes room: the full list tells the hub as well */
        return droplog_lose(vm->dir, &vm->dropped, clock_mono_usec(), err);
    err_copy(err, &why);
    return -1;
}

struct settle_job {
    struct vaultjob job;
    uint64_t until_usec;
    bool any; /* is left */
};

static int settle_run(struct vaultjob *j, struct err *err)
{
    struct settle_job *t = (struct settle_job *)j;
    struct vmachine *vm = j->vm;
    bool changed = vm->dropped_loaded && droplog_forget(&vm->dropped, t->until_usec);
    t->any = vm->dropped.count > 0 || vm->dropped.unsure;
    return changed ? droplog_store(vm->dir, &vm->id, &vm->dropped, err) : 0;
}

static void settle_done(struct vaultjob *j)
{
    struct settle_job *t = (struct settle_job *)j;
    if (j->result < 0 && j->err.code != ERR_CANCELLED)
        log_event(LOG_WARN, "dropped_points_not_settled", LOG_S("machine", j->vm->id_text), LOG_E(&j->err));
    else if (j->result == 0 && !t->any)
        j->vm->dropped_kept = false;
    free(t);
}

void vaultreport_settle(struct vmachine *vm, uint64_t now)
{
    bool is_due = vm->dropped_kept && !vm->dropped_untold && now >= vm->dropped_told_usec + DROPPED_KNOWN_USEC;
    struct settle_job *t = is_due ? mem_new(struct settle_job) : NULL;
    if (t == NULL)
        return;
    t->job.run = settle_run;
    t->job.done = settle_done;
    t->until_usec = now - DROPPED_KNOWN_USEC;
    if (vaultjob_lane(vm, &t->job, NULL) < 0)
        free(t);
}

/* ---- syncing ---- */

struct sync_job {
    struct vaultjob job;
    uint64_t generation;
    uint64_t lock_usec;
    uint64_t after;
    bool complete;
    bool tell_dropped;
    bool lost_commits;
    uint64_t last_point;
    struct point_report *reports;
    size_t count;
    uint64_t *dropped; /* all that the droplog has */
    size_t dropped_count;
    bool dropped_kept;
};

static int collect_dropped(struct sync_job *y, const struct pointlist *points, struct err *err)
{
    struct droplog *l = &y->job.vm->dropped;
    droplog_leave(l, points);
    y->dropped = mem_alloc(l->count + 1, sizeof(*y->dropped));
    if (y->dropped == NULL)
        return err_set(err, ERR_NOMEM, "no memory to report points");
    for (; y->dropped_count < l->count; y->dropped_count++)
        y->dropped[y->dropped_count] = l->items[y->dropped_count].sequence;
    y->dropped_kept = l->count > 0 || l->unsure;
    return 0;
}

static int sync_run(struct vaultjob *j, struct err *err)
{
    struct sync_job *y = (struct sync_job *)j;
    struct store *s;
    j->vm->erased = false; /* it is the hub that has given it, or it would not be told */
    if (vmachine_store(j->vm, &s, err) < 0 || store_set_generation(s, y->generation, err) < 0 ||
        store_set_lock(s, y->lock_usec, err) < 0 || dropped_load(j->vm, s, err) < 0)
        return -1;
    const struct pointlist *points = store_points(s);
    y->last_point = points->count == 0 ? 0 : points->items[points->count - 1].sequence;
    y->lost_commits = store_lost_commits(s);
    if (y->after == 0 || y->lost_commits || (y->tell_dropped && j->vm->dropped.unsure) ||
        pointlist_find(points, y->after) == NULL)
        y->complete = true;
    if (y->tell_dropped && collect_dropped(y, points, err) < 0)
        return -1;
    return vaultreport_collect(s, y->complete ? 0 : y->after, &y->reports, &y->count, err);
}

/* The hub knows a point that is newer than all that are here. */
static void say_what_is_lost(struct vmachine *vm, const struct sync_job *y)
{
    if (y->after <= y->last_point || y->after == UINT64_MAX)
        return;
    char *text AUTO_FREE = mem_printf("The vault's disk has lost recovery points %llu to %llu of this machine.",
        (unsigned long long)(y->last_point + 1), (unsigned long long)y->after);
    log_event(LOG_ERROR, "points_lost", LOG_S("machine", vm->id_text), LOG_U("from", y->last_point + 1),
        LOG_U("to", y->after));
    if (text != NULL && vm->d->session != NULL)
        session_event(vm->d->session, "error", "points_lost", vm->id_text,
            "Check the vault's disk. The older points are still there; the machine resynchronizes by itself.", text);
}

static void tell_lost(struct vmachine *vm)
{
    if (vm->told_lost || vm->d->session == NULL)
        return;
    vm->told_lost = true;
    session_event(vm->d->session, "error", "commits_lost", vm->id_text,
        "Look for the fault of the vault's disk. Replication compares the source's disks and goes on by itself.",
        "The vault's log of this machine was damaged or cut: its newest points are lost.");
}

/* The hub has heard of all that is not there any more once both are sent. */
static void send_synced(struct vmachine *vm, const struct sync_job *y)
{
    bool told = y->tell_dropped && send_dropped(vm, y->dropped, y->dropped_count);
    vm->report_all = vm->report_all || y->complete;
    send_list(vm, y->reports, y->count, y->complete);
    if (!y->tell_dropped)
        return;
    vm->dropped_kept = vm->dropped_kept || y->dropped_kept;
    vm->dropped_untold = !told || vm->report_all;
    vm->dropped_told_usec = clock_mono_usec();
}

/* Once: it is tried again by itself. */
static void tell_unusable(struct vmachine *vm, const struct err *err)
{
    log_event(LOG_ERROR, "machine_unusable", LOG_S("machine", vm->id_text), LOG_E(err));
    if (vm->d->session == NULL || vm->unusable_told)
        return;
    vm->unusable_told = true;
    session_event(vm->d->session, "error", "store_unusable", vm->id_text, err->correction, err->text);
}

static void sync_done(struct vaultjob *j)
{
    struct sync_job *y = (struct sync_job *)j;
    struct vmachine *vm = j->vm;
    vm->syncing = false;
    if (j->result == 0) {
        if (y->lost_commits)
            tell_lost(vm);
        say_what_is_lost(vm, y);
        if (y->last_point > vm->last_point)
            vm->last_point = y->last_point;
        send_synced(vm, y);
        vm->sync_retry_usec = 0;
        vm->unusable_told = false;
    } else if (j->err.code != ERR_CANCELLED) {
        tell_unusable(vm, &j->err);
        vm->sync_retry_usec = clock_mono_usec() + SYNC_RETRY_USEC;
    }
    vaultreport_free(y->reports, y->count);
    free(y->dropped);
    free(y);
}

void vaultreport_sync(struct vmachine *vm)
{
    struct sync_job *y = mem_new(struct sync_job);
    if (y == NULL)
        return;
    y->job.run = sync_run;
    y->job.done = sync_done;
    y->generation = vm->generation;
    y->lock_usec = vm->lock_usec;
    y->after = vm->reported;
    y->complete = vm->report_all;
    y->tell_dropped = vm->dropped_untold;
    if (vaultjob_lane(vm, &y->job, NULL) < 0)
        free(y);
    else
        vm->syncing = true;
}

/* ---- status ---- */

void vaultreport_status(struct vaultd *d)
{
    Leeward__Control__V1__VaultStatus status = LEEWARD__CONTROL__V1__VAULT_STATUS__INIT;
    Leeward__Control__V1__Report report = LEEWARD__CONTROL__V1__REPORT__INIT;
    struct err err = ERR_INIT;
    struct statvfs vfs;
    char *behind AUTO_FREE = NULL;
    const char *remedy = NULL;
    if (d->session == NULL)
        return;
    if (statvfs(d->data_dir, &vfs) == 0) {
        status.capacity_bytes = (uint64_t)vfs.f_blocks * vfs.f_frsize;
        status.free_bytes = (uint64_t)vfs.f_bavail * vfs.f_frsize;
        status.used_bytes = (uint64_t)(vfs.f_blocks - vfs.f_bfree) * vfs.f_frsize;
    }
    status.streams = d->streams;
    status.accepting = !d->full;
    status.desired_version = d->desired_version;
    if (d->full) {
        status.cause = (char *)(uintptr_t) "The vault's disk is full.";
        status.remedy =
            (char *)(uintptr_t) "Make it larger or shorten the retention; replication goes on by itself then.";
    } else if (vaultupload_describe(d, &behind, &remedy)) {
        status.cause = behind;
        status.remedy = (char *)(uintptr_t)remedy;
    }
    if (opening_describe(d, &status, &err) < 0 || vaultbranch_describe(d, &status, &err) < 0) {
        log_event(LOG_ERROR, "report_failed", LOG_E(&err));
        goto out; /* what is not listed counts as closed */
    }
    report.kind_case = LEEWARD__CONTROL__V1__REPORT__KIND_VAULT_STATUS;
    report.vault_status = &status;
    if (session_report(d->session, &report, &err) < 0)
        log_event(LOG_ERROR, "report_failed", LOG_E(&err));
out:
    vaultbranch_describe_done(&status);
    opening_describe_done(&status);
}
