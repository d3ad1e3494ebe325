/* SPDX-License-Identifier: Apache-2.0
 *
 * Moments are numbers from one counter, taken under the lock, so that all of them have an order. The check walks two lists that are
 * in the order of completion: it finds the newest moment V at which something in the image was issued, from the barriers complete
 * before V the one issued last (at I), and then each write complete before I has to be in the image; a forced write (FUA) is a
 * barrier of itself, so it has to be if it was complete before V. V and I only grow from point to point, so the lists are
 * walked once.
 */
#include "tests/unit/mobility/powerfail/stampload.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <setjmp.h>
#include <cmocka.h>

#include "transport/base/clock.h"
#include "transport/base/hash.h"

#define SECTOR 512u
#define MAGIC 0x504d5453u /* "STMP" */
#define WRITERS 4u
#define WRITE_SECTORS_MAX 48u
#define BATCH_MAX 5u
#define NOISE_BYTES 65536u
#define LOG_WRITES (1u << 17)
#define LOG_BARRIERS (1u << 16)
#define ISSUED (1u << 20)

struct stamp {
    uint32_t magic;
    uint32_t number; /* of the write; fusedisk takes it as its tag */
    uint32_t disk, sector;
    uint8_t filling[SECTOR - 24];
    uint64_t hash; /* of all before it */
};
_Static_assert(sizeof(struct stamp) == SECTOR, "a stamp is a sector");

struct write_entry {
    uint64_t completed, completed_utc_usec;
    uint32_t number;
    uint16_t disk, count;
    uint32_t first;
    bool forced;
};

struct barrier_entry {
    uint64_t issued, completed;
};

struct writer {
    struct stampload *s;
    pthread_t thread;
    unsigned index, seed;
    int fds[FUSEDISK_MAX];
    uint8_t *buffer;
};

struct stampload {
    struct stampload_config c;
    struct writer writers[WRITERS + 1]; /* the last one makes the noise */
    atomic_bool stop;
    unsigned sectors; /* stamped, of each disk */

    pthread_mutex_t lock; /* guards what is below */
    uint64_t moment;
    uint32_t last_number;
    uint64_t *issued; /* moment of write n at n % ISSUED */
    struct write_entry *writes;
    struct barrier_entry *barriers;
    uint64_t write_count, barrier_count;
    struct stampload_counts counts;

    /* Of the check alone. */
    uint64_t ordered_upto, forced_upto, timely_upto, barriers_upto; /* entries of the lists that were walked */
    uint64_t newest_barrier;                                        /* I */
    uint32_t *ordered[FUSEDISK_MAX], *timely[FUSEDISK_MAX];
};

static uint64_t mono_nsec(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

/* --- the log ---------------------------------------------------------------------------------------------------------- */

static uint32_t log_issue(struct stampload *s)
{
    uint32_t number;

    pthread_mutex_lock(&s->lock);
    number = ++s->last_number;
    s->issued[number % ISSUED] = ++s->moment;
    pthread_mutex_unlock(&s->lock);
    return number;
}

static void log_complete(struct stampload *s, const struct write_entry *what)
{
    struct write_entry *e;

    pthread_mutex_lock(&s->lock);
    e = &s->writes[s->write_count++ % LOG_WRITES];
    *e = *what;
    e->completed = ++s->moment;
    e->completed_utc_usec = clock_utc_usec();
    s->counts.writes++;
    s->counts.forced += what->forced;
    pthread_mutex_unlock(&s->lock);
}

static uint64_t log_barrier_issue(struct stampload *s)
{
    uint64_t moment;

    pthread_mutex_lock(&s->lock);
    moment = ++s->moment;
    pthread_mutex_unlock(&s->lock);
    return moment;
}

static void log_barrier(struct stampload *s, uint64_t issued)
{
    pthread_mutex_lock(&s->lock);
    s->barriers[s->barrier_count++ % LOG_BARRIERS] = (struct barrier_entry){.issued = issued, .completed = ++s->moment};
    s->counts.barriers++;
    pthread_mutex_unlock(&s->lock);
}

static void count_unwitnessed(struct stampload *s)
{
    pthread_mutex_lock(&s->lock);
    s->counts.unwitnessed++;
    pthread_mutex_unlock(&s->lock);
}

/* The lists are rings; a writer waits for the check rather than overtake it. */
static bool has_room(struct stampload *s)
{
    uint64_t upto;
    bool room;

    pthread_mutex_lock(&s->lock);
    upto = s->ordered_upto < s->timely_upto ? s->ordered_upto : s->timely_upto;
    upto = upto < s->forced_upto ? upto : s->forced_upto;
    room = s->write_count - upto < LOG_WRITES - 64 && s->barrier_count - s->barriers_upto < LOG_BARRIERS - 64;
    pthread_mutex_unlock(&s->lock);
    return room;
}

/* --- the workload -------------------------------------------------------------------------------------------------------- */

static void stamp_sector(struct stamp *p, unsigned disk, uint32_t sector, uint32_t number)
{
    p->magic = MAGIC;
    p->number = number;
    p->disk = disk;
    p->sector = sector;
    memset(p->filling, (int)(number & 0xff), sizeof(p->filling));
    p->hash = hash_64(p, offsetof(struct stamp, hash));
}

static void check_witness(struct writer *w, uint32_t number, uint64_t began_nsec)
{
    uint64_t start_nsec, end_nsec;

    if (!fusedisk_find_write(w->s->c.witness, number, &start_nsec, &end_nsec) || start_nsec < began_nsec ||
        end_nsec > mono_nsec())
        count_unwitnessed(w->s);
}

/* Writes at some place of the writer's own. With `forced` the write is a barrier too, and nobody has to flush it. */
static void write_some(struct writer *w, unsigned disk, bool forced)
{
    struct stampload *s = w->s;
    uint32_t share = s->sectors / WRITERS, count = 1 + (uint32_t)rand_r(&w->seed) % WRITE_SECTORS_MAX;
    struct write_entry e = {.disk = (uint16_t)disk, .count = (uint16_t)count, .forced = forced};
    struct iovec iov = {.iov_base = w->buffer, .iov_len = (size_t)count * SECTOR};
    uint64_t began_nsec = mono_nsec(), issued;

    e.first = w->index * share + (uint32_t)rand_r(&w->seed) % (share - count);
    e.number = log_issue(s);
    issued = log_barrier_issue(s);
    for (uint32_t i = 0; i < count; i++)
        stamp_sector((struct stamp *)(w->buffer + i * SECTOR), disk, e.first + i, e.number);
    if (pwritev2(w->fds[disk], &iov, 1, (off_t)e.first * SECTOR, forced ? RWF_DSYNC : 0) != (ssize_t)iov.iov_len)
        abort();
    check_witness(w, e.number, began_nsec);
    log_complete(s, &e);
    if (forced)
        log_barrier(s, issued);
}

static void flush(struct writer *w, unsigned disk)
{
    uint64_t issued = log_barrier_issue(w->s), began_nsec = mono_nsec();

    if (fdatasync(w->fds[disk]) < 0)
        abort();
    if (!fusedisk_has_flush(w->s->c.witness, disk, began_nsec, mono_nsec()))
        count_unwitnessed(w->s);
    log_barrier(w->s, issued);
}

/* A batch and its barrier: as a journal is written and then committed, one disk or another. */
static void *run_writer(void *arg)
{
    struct writer *w = arg;
    struct stampload *s = w->s;

    while (!atomic_load(&s->stop)) {
        unsigned disk = (unsigned)rand_r(&w->seed) % s->c.disk_count, n = 1 + (unsigned)rand_r(&w->seed) % BATCH_MAX;

        if (!has_room(s)) {
            (void)usleep(1000);
            continue;
        }
        for (unsigned i = 0; i < n; i++)
            write_some(w, disk, false);
        if (rand_r(&w->seed) % 4 == 0)
            write_some(w, disk, true);
        else
            flush(w, disk);
        write_some(w, (unsigned)rand_r(&w->seed) % s->c.disk_count, false);
        if (s->c.pause_usec)
            (void)usleep((unsigned)rand_r(&w->seed) % s->c.pause_usec);
    }
    return NULL;
}

/* Large writes behind the stamped part, no barriers: work for the rounds. */
static void *run_noise(void *arg)
{
    struct writer *w = arg;
    const struct stampload_config *c = &w->s->c;
    uint64_t places = (c->disk_bytes - c->stamped_bytes - NOISE_BYTES) / 4096;

    for (uint32_t n = 0; !atomic_load(&w->s->stop); n++) {
        size_t length = 4096u * (1 + (unsigned)rand_r(&w->seed) % (NOISE_BYTES / 4096));
        off_t at = (off_t)(c->stamped_bytes + (unsigned)rand_r(&w->seed) % places * 4096);

        memset(w->buffer, 0, 8); /* no tag */
        memcpy(w->buffer + 8, &n, sizeof(n));
        if (pwrite(w->fds[n % c->disk_count], w->buffer, length, at) != (ssize_t)length)
            abort();
        if (c->pause_usec)
            (void)usleep((unsigned)rand_r(&w->seed) % c->pause_usec);
    }
    return NULL;
}

/* --- the check -------------------------------------------------------------------------------------------------------------- */

static void say(struct stampload_verdict *v, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(struct stampload_verdict *v, const char *format, ...)
{
    va_list ap;

    if (v->first[0])
        return;
    va_start(ap, format);
    (void)vsnprintf(v->first, sizeof(v->first), format, ap);
    va_end(ap);
}

/* The number of the write that the sector holds; 0: as it was made. */
static uint32_t number_at(const uint8_t *sector, unsigned disk, uint32_t at, uint32_t last, struct stampload_verdict *v)
{
    static const uint8_t zeros[SECTOR];
    struct stamp p;

    memcpy(&p, sector, sizeof(p));
    if (p.magic == MAGIC && p.disk == disk && p.sector == at && p.number <= last &&
        p.hash == hash_64(&p, offsetof(struct stamp, hash)))
        return p.number;
    if (memcmp(sector, zeros, SECTOR) != 0) {
        v->invented++;
        say(v, "disk %u sector %u holds what was never written there", disk, at);
    }
    return 0;
}

static void expect(uint32_t *const *table, const struct write_entry *e)
{
    for (uint32_t i = 0; i < e->count; i++)
        if (table[e->disk][e->first + i] < e->number)
            table[e->disk][e->first + i] = e->number;
}

/* V: the newest moment at which something in the image was issued. */
static uint64_t newest_issue(const struct stampload *s, uint32_t *const *present)
{
    uint64_t newest = 0;

    for (unsigned d = 0; d < s->c.disk_count; d++)
        for (uint32_t i = 0; i < s->sectors; i++) {
            uint32_t number = present[d][i];
            if (number && s->last_number - number < ISSUED && s->issued[number % ISSUED] > newest)
                newest = s->issued[number % ISSUED];
        }
    return newest;
}

/* What was complete before some barrier that was complete before V, and each forced write that was complete before V. */
static void walk_ordered(struct stampload *s, uint64_t newest)
{
    for (; s->barriers_upto < s->barrier_count; s->barriers_upto++) {
        const struct barrier_entry *b = &s->barriers[s->barriers_upto % LOG_BARRIERS];
        if (b->completed >= newest)
            break;
        if (b->issued > s->newest_barrier)
            s->newest_barrier = b->issued;
    }
    for (; s->ordered_upto < s->write_count; s->ordered_upto++) {
        const struct write_entry *e = &s->writes[s->ordered_upto % LOG_WRITES];
        if (e->completed >= s->newest_barrier)
            break;
        expect(s->ordered, e);
    }
    for (; s->forced_upto < s->write_count; s->forced_upto++) {
        const struct write_entry *e = &s->writes[s->forced_upto % LOG_WRITES];
        if (e->completed >= newest)
            break;
        if (e->forced)
            expect(s->ordered, e);
    }
}

/* What was complete before the moment that the point names. */
static void walk_timely(struct stampload *s, uint64_t held_utc_usec)
{
    for (; s->timely_upto < s->write_count; s->timely_upto++) {
        const struct write_entry *e = &s->writes[s->timely_upto % LOG_WRITES];
        if (e->completed_utc_usec >= held_utc_usec)
            break;
        expect(s->timely, e);
    }
}

static void compare(const struct stampload *s, unsigned disk, const uint32_t *present, struct stampload_verdict *v)
{
    for (uint32_t i = 0; i < s->sectors; i++) {
        v->stamped += present[i] > 0;
        if (present[i] < s->ordered[disk][i]) {
            v->unordered++;
            say(v,
                "disk %u sector %u has write %u, but write %u must be there: something in the image may depend on it",
                disk, i, present[i], s->ordered[disk][i]);
        }
        if (present[i] < s->timely[disk][i]) {
            v->stale++;
            say(v, "disk %u sector %u has write %u, but write %u was complete before the point's time", disk, i,
                present[i], s->timely[disk][i]);
        }
    }
}

void stampload_check(
    struct stampload *s, const uint8_t *const *images, uint64_t held_utc_usec, struct stampload_verdict *ret_verdict)
{
    uint32_t *present[FUSEDISK_MAX];

    memset(ret_verdict, 0, sizeof(*ret_verdict));
    pthread_mutex_lock(&s->lock);
    for (unsigned d = 0; d < s->c.disk_count; d++) {
        present[d] = malloc(s->sectors * sizeof(uint32_t));
        for (uint32_t i = 0; i < s->sectors; i++)
            present[d][i] = number_at(images[d] + (size_t)i * SECTOR, d, i, s->last_number, ret_verdict);
    }
    walk_ordered(s, newest_issue(s, present));
    walk_timely(s, held_utc_usec);
    for (unsigned d = 0; d < s->c.disk_count; d++) {
        compare(s, d, present[d], ret_verdict);
        free(present[d]);
    }
    pthread_mutex_unlock(&s->lock);
}

void stampload_get_counts(struct stampload *s, struct stampload_counts *ret_counts)
{
    pthread_mutex_lock(&s->lock);
    *ret_counts = s->counts;
    pthread_mutex_unlock(&s->lock);
}

/* --- life -------------------------------------------------------------------------------------------------------------------- */

static void start_writer(struct stampload *s, unsigned index)
{
    struct writer *w = &s->writers[index];

    w->s = s;
    w->index = index;
    w->seed = s->c.seed * 31 + index;
    w->buffer = aligned_alloc(4096, NOISE_BYTES);
    assert_non_null(w->buffer);
    memset(w->buffer, 0x5a, NOISE_BYTES);
    for (unsigned d = 0; d < s->c.disk_count; d++) {
        w->fds[d] = open(s->c.paths[d], O_RDWR | O_DIRECT | O_CLOEXEC);
        assert_true(w->fds[d] >= 0);
    }
    assert_int_equal(pthread_create(&w->thread, NULL, index < WRITERS ? run_writer : run_noise, w), 0);
}

struct stampload *stampload_start(const struct stampload_config *config)
{
    struct stampload *s = calloc(1, sizeof(*s));

    assert_non_null(s);
    s->c = *config;
    s->sectors = (unsigned)(config->stamped_bytes / SECTOR);
    assert_int_equal(pthread_mutex_init(&s->lock, NULL), 0);
    s->issued = calloc(ISSUED, sizeof(*s->issued));
    s->writes = calloc(LOG_WRITES, sizeof(*s->writes));
    s->barriers = calloc(LOG_BARRIERS, sizeof(*s->barriers));
    assert_true(s->issued && s->writes && s->barriers);
    for (unsigned d = 0; d < config->disk_count; d++) {
        s->ordered[d] = calloc(s->sectors, sizeof(uint32_t));
        s->timely[d] = calloc(s->sectors, sizeof(uint32_t));
        assert_true(s->ordered[d] && s->timely[d]);
    }
    for (unsigned i = 0; i <= WRITERS; i++)
        start_writer(s, i);
    return s;
}

void stampload_stop(struct stampload *s)
{
    if (atomic_exchange(&s->stop, true))
        return;
    for (unsigned i = 0; i <= WRITERS; i++) {
        struct writer *w = &s->writers[i];
        (void)pthread_join(w->thread, NULL);
        for (unsigned d = 0; d < s->c.disk_count; d++)
            (void)close(w->fds[d]);
        free(w->buffer);
    }
}

void stampload_free(struct stampload *s)
{
    if (!s)
        return;
    stampload_stop(s);
    for (unsigned d = 0; d < s->c.disk_count; d++) {
        free(s->ordered[d]);
        free(s->timely[d]);
    }
    free(s->issued);
    free(s->writes);
    free(s->barriers);
    (void)pthread_mutex_destroy(&s->lock);
    free(s);
}
