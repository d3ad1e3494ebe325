/* SPDX-License-Identifier: Apache-2.0
 *
 * Sweeps: the first copy of a disk, and the comparison of a disk with what the vault has. A sweep goes through the plan of the
 * disk in chunks; a chunk ends in a progress mark, and when that is committed the durable cursor moves behind the chunk. A
 * killed agent, a lost stream and a new epoch go back to that cursor.
 *
 * Comparing reads whole blocks of 64 KiB and sends those whose hash differs from the vault's. When nobody can give hashes the
 * sweep sends everything. Writes that hit a block before or after it is read are the tracker's business: it has watched since
 * before the sweep began, or is told what was read, and what it saw goes out with the first cycle.
 */
#include "mobility/sync/engine_internal.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "transport/base/clock.h"
#include "transport/base/log.h"

#define CHUNK_BYTES ((uint64_t)CHANGESET_PROGRESS_BYTES)
#define CHUNK_USEC (2 * USEC_PER_SEC)
#define COMPARE_SPAN ((uint64_t)HASHFETCH_BLOCKS_MAX * HASHFETCH_BLOCK_BYTES)
#define SWEEP_LEVEL 1
#define SWEEP_NICE 5
#define SWEEP_THREADS 3 /* that compress, beside the capture thread, at most */

struct sweep {
    struct engine *e;
    struct engine_disk *d;
    uint64_t at;            /* the next byte that may be read */
    uint64_t end;           /* of this chunk at most */
    uint64_t budget;        /* bytes that may still be read */
    uint64_t deadline_usec; /* and until when: a slow sweep must not keep points of other disks waiting */
    struct hash128 *hashes; /* from compare_start on; NULL: send everything */
    uint64_t compare_start;
};

/* A tracker that compares hands out what was never read, free or not. And what a sweep that was set back has read, but not made durable, is to be read again
 * even if it is free by now: written later with what had lain there it is no change. So free space is read with the rest. */
static int plan_for_tracker(
    const struct engine *e, const struct inventory_disk *disk, struct plan **ret_plan, struct err *err)
{
    return tracker_compares(e->tracker) ? plan_from_free(disk->size_bytes, NULL, 0, 1, ret_plan, err)
                                        : plan_make(disk, ret_plan, err);
}

static int make_plan(struct engine *e, struct engine_disk *d, struct err *err)
{
    const struct inventory_disk *disk;

    if (d->plan)
        return 0;
    if (d->plan_since_usec == 0)
        d->plan_since_usec = clock_mono_usec();
    if (engine_refresh_inventory(e, d->plan_since_usec, err) < 0)
        return -1;
    d->plan_since_usec = 0; /* whatever comes of it, the next plan is of another look */
    disk = inventory_find(e->inventory, d->key);
    if (!disk)
        return err_set(err, ERR_NOT_FOUND, "the disk %s has vanished", d->key);
    if (plan_for_tracker(e, disk, &d->plan, err) < 0)
        return -1;
    log_event(LOG_INFO, "sweep_planned", LOG_S("key", d->key), LOG_U("used_bytes", d->plan->used_bytes),
        LOG_U("size_bytes", d->plan->size_bytes), LOG_U("file_systems", d->plan->file_systems), LOG_U("at", d->at),
        LOG_B("compare", d->compare));
    return 0;
}

/* The next used range of the chunk; whole blocks when comparing. */
static int next_range(void *arg, unsigned *ret_disk, uint64_t *ret_start, uint64_t *ret_length)
{
    struct sweep *s = arg;
    uint64_t start, length, end;

    if (s->budget == 0 || clock_mono_usec() > s->deadline_usec ||
        !plan_next(s->d->plan, s->at, engine_pace_range(s->e, s->d, s->at), &start, &length) || start >= s->end)
        return 0;
    end = start + length;
    if (s->hashes) {
        start -= start % HASHFETCH_BLOCK_BYTES;
        end += (HASHFETCH_BLOCK_BYTES - end % HASHFETCH_BLOCK_BYTES) % HASHFETCH_BLOCK_BYTES;
        if (start < s->at)
            start = s->at;
    }
    if (end > s->end)
        end = s->end;
    if (end > s->d->plan->size_bytes)
        end = s->d->plan->size_bytes;
    engine_pace_yield(s->e, s->d, end - start);
    *ret_disk = engine_index(s->e, s->d);
    *ret_start = start;
    *ret_length = end - start;
    s->at = end;
    s->budget -= *ret_length < s->budget ? *ret_length : s->budget;
    return 1;
}

/* Where nothing was ever stored the vault has zeros, and names them so. What it cannot read it names by the zero hash: that is sent, whatever it is here. */
static bool vault_has_it(const struct sweep *s, const struct reader_piece *p)
{
    const struct hash128 *theirs;
    struct hash128 ours;
    uint64_t end = p->start + p->length;

    if (!s->hashes || p->start % HASHFETCH_BLOCK_BYTES != 0 ||
        (p->length != HASHFETCH_BLOCK_BYTES && end != s->d->plan->size_bytes))
        return false;
    theirs = &s->hashes[(p->start - s->compare_start) / HASHFETCH_BLOCK_BYTES];
    hash_128(p->data, p->length, &ours);
    return hash_equal(theirs, &ours);
}

static int take_piece(void *arg, const struct reader_piece *p, struct err *err)
{
    struct sweep *s = arg;
    bool has;

    tracker_note_read(s->e->tracker, s->d->tracked, p->start, p->length, p->data);
    if (!p->data)
        return engine_unreadable(s->e, s->d, p, err);
    engine_readable(s->e, s->d, p);
    has = vault_has_it(s, p);
    engine_insight_piece(s->e, s->d, p, has || !s->hashes); /* what differs was written while nobody looked */
    return has ? 0 : changeset_add(s->e->set, s->d->number, p->start, p->data, p->length, err);
}

/* 0: hashes are there, or it was decided to do without. */
static int fetch_hashes(struct sweep *s, struct err *err)
{
    uint64_t span = s->d->plan->size_bytes - s->at;
    size_t count;
    struct err why = ERR_INIT;

    if (!s->d->compare)
        return 0;
    if (span > COMPARE_SPAN)
        span = COMPARE_SPAN;
    count = (size_t)((span + HASHFETCH_BLOCK_BYTES - 1) / HASHFETCH_BLOCK_BYTES);
    s->hashes = mem_alloc(count, sizeof(*s->hashes));
    if (!s->hashes)
        return err_set(err, ERR_NOMEM, "no memory for hashes");
    s->compare_start = s->at;
    s->end = s->at + span;
    s->budget = UINT64_MAX;
    if (hashfetch_get(s->e->conf.hashes, s->d->number, s->at, span, s->hashes, &why) == 0)
        return 0;
    free(TAKE_PTR(s->hashes));
    if (why.code == ERR_UNAVAILABLE || why.code == ERR_TIMEOUT || why.code == ERR_CANCELLED) {
        err_copy(err, &why);
        return -1;
    }
    engine_event(s->e, "warning", "no_hashes", "", "disk %s is sent in full: %s", s->d->key, why.text);
    s->d->compare = false;
    s->end = s->d->plan->size_bytes;
    s->budget = CHUNK_BYTES;
    return 0;
}

/* Closes what the chunk sent and remembers where the cursor goes when that is committed. */
static int close_chunk(struct sweep *s, bool last, struct err *err)
{
    struct engine *e = s->e;

    engine_unreadable_say(e);
    if (!changeset_is_empty(e->set) && changeset_close(e->set, MARK_PROGRESS, 0, clock_utc_usec(), NULL, NULL, err) < 0)
        return -1;
    e->chunks[e->chunk_count++] = (struct engine_chunk){
        .sequence = changeset_next_sequence(e->set) - 1, .disk = engine_index(e, s->d), .cursor = s->at, .last = last};
    s->d->at = s->at;
    return 0;
}

/* To the block of the next used range: hashes of what lies before it would be asked for, and looked up in the vault, for nothing. False: there is none. */
static bool skip_unused(struct sweep *s)
{
    uint64_t start, length;

    if (!plan_next(s->d->plan, s->at, 1, &start, &length))
        return false;
    start -= start % HASHFETCH_BLOCK_BYTES;
    if (start > s->at)
        s->at = start;
    return true;
}

static int sweep_chunk(struct sweep *s, struct err *err)
{
    bool last;

    engine_frame(s->e, false);
    if (skip_unused(s)) {
        if (fetch_hashes(s, err) < 0)
            return -1;
        s->deadline_usec = clock_mono_usec() + CHUNK_USEC;
        if (reader_run(s->e->reader, next_range, s, take_piece, s, err) < 0)
            return -1;
    }
    last = !skip_unused(s);
    if (close_chunk(s, last, err) < 0)
        return -1;
    return last ? engine_join_cycle(s->e, s->d, err) : 0;
}

/* One for each processor that this process may use, beside the capture thread's. */
static unsigned sealing_threads(void)
{
    cpu_set_t usable;
    unsigned count = sched_getaffinity(0, sizeof(usable), &usable) == 0 ? (unsigned)CPU_COUNT(&usable) : 1;

    return count <= SWEEP_THREADS ? count - 1 : SWEEP_THREADS;
}

bool engine_sweeps_remain(const struct engine *e)
{
    for (unsigned i = 0; i < MARK_DISKS_MAX; i++)
        if (e->disks[i].attached && !e->disks[i].swept)
            return true;
    return false;
}

/* Back to 0 needs CAP_SYS_NICE. */
static void set_nice(struct engine *e, int nice)
{
    if (setpriority(PRIO_PROCESS, (id_t)gettid(), nice) == 0 || e->told_nice)
        return;
    e->told_nice = true;
    log_event(LOG_WARN, "priority_refused", LOG_I("nice", nice), LOG_S("why", strerror(errno)),
        LOG_S("hint", "points may take longer on a busy machine: give the agent CAP_SYS_NICE"));
}

/* A sweep is long and can wait: it compresses here whatever the policy says of changes (the line to the node is its narrowest
 * part, and compressing before TLS costs the least in total), and gives way to the machine's own work. */
static void be_modest(struct engine *e, bool modest)
{
    int level = pace_cpu_is_short(&e->pace) ? 0 : SWEEP_LEVEL;

    changeset_set_level(e->set, modest ? level : engine_pace_level(e));
    if (modest && changeset_is_empty(e->set))
        changeset_set_threads(e->set, sealing_threads(), SWEEP_NICE);
    set_nice(e, modest ? SWEEP_NICE : 0);
}

int engine_sweep(struct engine *e, struct engine_disk *d, struct err *err)
{
    struct sweep s = {.e = e, .d = d};
    int r;

    if (make_plan(e, d, err) < 0)
        return -1;
    s.at = d->at;
    s.end = d->plan->size_bytes;
    s.budget = CHUNK_BYTES;
    be_modest(e, true);
    r = sweep_chunk(&s, err);
    engine_pace_copied(e);
    be_modest(e, false);
    yield_pause(&d->yield);
    free(s.hashes);
    if (r < 0 && err->code != ERR_UNAVAILABLE && err->code != ERR_CANCELLED)
        engine_rewind_sweeps(e);
    return r;
}

static unsigned chunks_under_way(const struct engine *e)
{
    unsigned n = 0;

    for (unsigned i = 0; i < e->chunk_count; i++)
        n += e->chunks[i].sequence > e->committed;
    return n;
}

bool engine_chunk_fits(const struct engine *e)
{
    return chunks_under_way(e) < ENGINE_CHUNKS_MAX && e->chunk_count < ENGINE_UNCOMMITTED_MAX;
}

struct engine_disk *engine_sweep_due(struct engine *e)
{
    if (!engine_chunk_fits(e))
        return NULL;
    for (unsigned i = 0; i < MARK_DISKS_MAX; i++)
        if (e->disks[i].attached && !e->disks[i].swept)
            return &e->disks[i];
    return NULL;
}

/* Back to what is committed: the chunks that were on their way may never arrive. */
void engine_rewind_sweeps(struct engine *e)
{
    e->chunk_count = 0;
    for (unsigned i = 0; i < MARK_DISKS_MAX; i++) {
        struct engine_disk *d = &e->disks[i];
        const struct syncstate_disk *row = d->attached ? engine_row(e, d) : NULL;

        if (!row || row->copy == COPY_DONE)
            continue;
        if (d->at != row->cursor)
            log_event(LOG_INFO, "sweep_rewound", LOG_S("key", d->key), LOG_U("from", d->at), LOG_U("to", row->cursor));
        d->at = row->cursor;
        if (d->swept)
            cycle_clear_disk(e->cycle, i);
        d->swept = false;
        d->resend = true; /* what was drained of it waits in the open slot until it is swept again */
    }
}
