/* SPDX-License-Identifier: Apache-2.0
 *
 * /sys/dev/block/MAJOR:MINOR/stat (Documentation/block/stat.rst): reads, sectors read, writes and their times. A turn is WORK_USEC of copying
 * and a rest that follows from the share. Where nobody else uses the disk, a rest is only a short look from time to time. A rest begins when no
 * read is in flight any more (inflight, beside stat): on a busy machine our own would else be taken for somebody's, whom the copy then
 * seems to starve.
 *
 * The share falls by a third when others are hurt and rises by little when they are not: as with congestion, that settles near
 * the point where they begin to feel it, and two copies on one disk come to share. With the share the number of reads in flight falls, to one at
 * last: a disk that serves one request after the other lets others wait for all of them.
 */
#include "mobility/sync/yield.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "transport/base/clock.h"

#define WORK_USEC (100 * USEC_PER_MSEC)
#define LOOK_USEC (20 * USEC_PER_MSEC)
#define LOOK_EVERY_USEC (2 * USEC_PER_SEC)
#define STEP_USEC (50 * USEC_PER_MSEC)
/* For our own reads that are still in flight when the copy stops: where others always read, as long as so many of them, which is more
 * than a reader has in flight at most, have taken lately, within bounds. */
#define IN_FLIGHT_READS 64u
#define READ_BYTES 65536.0
#define SETTLE_MIN_USEC (5 * USEC_PER_MSEC)
#define SETTLE_MAX_USEC (500 * USEC_PER_MSEC)
/* However long the copy was at work: it may have waited for the line all the time, and its backlog grows meanwhile. */
#define REST_MAX_USEC (5 * USEC_PER_SEC)
/* So long without anybody else is nobody else. */
#define QUIET_USEC (1 * USEC_PER_SEC)
#define RECENT_USEC (5 * USEC_PER_SEC)

/* Fewer tell nothing. */
#define WRITES_MIN 4u
#define FOREGROUND_READ_PER_SEC (256.0 * 1024)
/* Hurt: writes that take longer than so many times their rest's average and this more, reads below this part of their rate. */
#define LATENCY_FACTOR 1.25
#define LATENCY_SLACK_USEC 100.0
#define READ_PART 0.75

#define SHARE_FALL 0.66
#define SHARE_RISE 0.03
#define AVERAGE_NEW 0.2
/* A look of 20 ms says less about who reads than a rest of seconds: of this length, it counts by half. */
#define READ_MEMORY_USEC (200 * USEC_PER_MSEC)

/* Below the first share some reads are in flight, below the other a single one. */
#define SHARE_OF_SOME 1.0
#define SHARE_OF_ONE 0.5
#define SOME_READS 4u

void yield_init(struct yield_state *y)
{
    *y = (struct yield_state){.share = 1, .rest_write_usec = -1, .rest_read_per_sec = -1, .quiet_usec = QUIET_USEC};
}

static void follow(double *average, double now, double weight)
{
    *average = *average < 0 ? now : *average * (1 - weight) + now * weight;
}

static double per_sec(uint64_t n, uint64_t usec)
{
    return usec ? (double)n * (double)USEC_PER_SEC / (double)usec : 0;
}

static void collect(struct yield_writes *sum, const struct yield_stretch *s)
{
    sum->count += s->writes;
    sum->usec += s->write_usec;
}

/* The average once it says something, then collecting begins anew; else below 0. */
static double take_average(struct yield_writes *sum)
{
    double average = (double)sum->usec / (double)(sum->count ? sum->count : 1);

    if (sum->count < WRITES_MIN)
        return -1;
    *sum = (struct yield_writes){0};
    return average;
}

/* 1: they take longer beside the copy. 0: they do not. -1: it cannot be told yet. */
static int writes_are_hurt(struct yield_state *y, const struct yield_stretch *work, const struct yield_stretch *rest)
{
    double at_rest, at_work;

    collect(&y->at_work, work);
    collect(&y->at_rest, rest);
    at_rest = take_average(&y->at_rest);
    if (at_rest >= 0)
        follow(&y->rest_write_usec, at_rest, AVERAGE_NEW);
    at_work = y->rest_write_usec < 0 ? -1 : take_average(&y->at_work);
    if (at_work < 0)
        return -1;
    return at_work > y->rest_write_usec * LATENCY_FACTOR + LATENCY_SLACK_USEC;
}

static bool reads_are_hurt(const struct yield_state *y, const struct yield_stretch *work)
{
    return y->rest_read_per_sec > FOREGROUND_READ_PER_SEC &&
           per_sec(work->read_bytes, work->usec) < y->rest_read_per_sec * READ_PART;
}

/* Others use the disk, or did a moment ago: a rest that is short may well see nothing of somebody who writes a little. */
static bool others_use_it(struct yield_state *y, const struct yield_stretch *work, const struct yield_stretch *rest)
{
    if (work->writes + rest->writes > 0 || y->rest_read_per_sec > FOREGROUND_READ_PER_SEC)
        y->quiet_usec = 0;
    else
        y->quiet_usec += work->usec + rest->usec;
    return y->quiet_usec < QUIET_USEC;
}

void yield_judge(struct yield_state *y, const struct yield_stretch *work, const struct yield_stretch *rest)
{
    int hurt;

    follow(&y->rest_read_per_sec, per_sec(rest->read_bytes, rest->usec),
        (double)rest->usec / (double)(rest->usec + READ_MEMORY_USEC));
    y->foreground = others_use_it(y, work, rest);
    hurt = writes_are_hurt(y, work, rest);
    if (!y->foreground)
        y->share *= 2;
    else if (hurt > 0 || reads_are_hurt(y, work))
        y->share *= SHARE_FALL;
    else if (hurt == 0 || y->at_work.count == 0)
        y->share += SHARE_RISE;
    y->share = y->share < YIELD_SHARE_MIN ? YIELD_SHARE_MIN : y->share > 1 ? 1 : y->share;
}

unsigned yield_depth(const struct yield_state *y, unsigned most)
{
    unsigned depth = !y->foreground || y->share >= SHARE_OF_SOME ? most : y->share >= SHARE_OF_ONE ? SOME_READS : 1;

    return depth < most ? depth : most;
}

/* ---- on a disk ---- */

static int open_file(dev_t dev, const char *name)
{
    char path[64];

    snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%s", major(dev), minor(dev), name);
    return open(path, O_RDONLY | O_CLOEXEC);
}

void yield_open(struct yield *y, dev_t dev)
{
    memset(y, 0, sizeof(*y));
    yield_init(&y->state);
    y->fd = open_file(dev, "stat");
    y->inflight_fd = open_file(dev, "inflight");
}

void yield_close(struct yield *y)
{
    if (y->fd > 0)
        close(y->fd);
    if (y->inflight_fd > 0)
        close(y->inflight_fd);
    memset(y, 0, sizeof(*y));
}

static bool read_text(int fd, char text[static 256])
{
    ssize_t n = pread(fd, text, 255, 0);

    text[n > 0 ? n : 0] = '\0';
    return n > 0;
}

static bool look(const struct yield *y, struct yield_counters *c)
{
    unsigned long long sectors, writes, write_msec;
    char text[256];

    if (!read_text(y->fd, text))
        return false;
    if (sscanf(text, "%*u %*u %llu %*u %llu %*u %*u %llu", &sectors, &writes, &write_msec) != 3)
        return false;
    *c = (struct yield_counters){.usec = clock_mono_usec(),
        .writes = writes,
        .write_usec = write_msec * USEC_PER_MSEC,
        .read_bytes = sectors * 512};
    return true;
}

static struct yield_stretch between(
    const struct yield_counters *from, const struct yield_counters *to, uint64_t own_bytes)
{
    uint64_t read = to->read_bytes - from->read_bytes;

    return (struct yield_stretch){.usec = to->usec - from->usec,
        .writes = to->writes - from->writes,
        .write_usec = to->write_usec - from->write_usec,
        .read_bytes = read > own_bytes ? read - own_bytes : 0};
}

static void sleep_while(uint64_t usec, bool (*go_on)(void *), void *arg)
{
    uint64_t now = clock_mono_usec(), end = now + usec;

    for (; now < end && go_on(arg); now = clock_mono_usec()) {
        uint64_t pause = end - now < STEP_USEC ? end - now : STEP_USEC;
        struct timespec ts = {.tv_nsec = (long)(pause * 1000)};

        (void)nanosleep(&ts, NULL);
    }
}

static bool begin(struct yield *y)
{
    y->began_usec = clock_mono_usec();
    y->own_bytes = 0;
    y->working = look(y, &y->at_begin);
    return y->working;
}

static uint64_t rest_usec(const struct yield *y, uint64_t worked_usec)
{
    uint64_t usec = (uint64_t)((double)worked_usec * (1 / y->state.share - 1));

    if (!y->state.foreground)
        return LOOK_USEC;
    return usec < LOOK_USEC ? LOOK_USEC : usec > REST_MAX_USEC ? REST_MAX_USEC : usec;
}

static uint64_t settle_usec(const struct yield *y, uint64_t worked_usec)
{
    double in_flight = READ_BYTES * yield_depth(&y->state, IN_FLIGHT_READS);
    double usec = y->own_bytes ? in_flight * (double)worked_usec / (double)y->own_bytes : 0;

    return usec < SETTLE_MIN_USEC ? SETTLE_MIN_USEC : usec > SETTLE_MAX_USEC ? SETTLE_MAX_USEC : (uint64_t)usec;
}

/* Not known: as if there were some. */
static bool is_reading(const struct yield *y)
{
    unsigned long long reads = 1;
    char text[256];

    if (y->inflight_fd > 0 && read_text(y->inflight_fd, text))
        (void)sscanf(text, "%llu", &reads);
    return reads > 0;
}

static void settle(const struct yield *y, uint64_t worked_usec, bool (*go_on)(void *), void *arg)
{
    uint64_t end = clock_mono_usec() + settle_usec(y, worked_usec);

    do {
        sleep_while(SETTLE_MIN_USEC, go_on, arg);
    } while (is_reading(y) && clock_mono_usec() < end && go_on(arg));
}

static bool is_time_to_rest(const struct yield *y, uint64_t now)
{
    return now >= y->began_usec + WORK_USEC && (y->state.foreground || now >= y->rested_usec + LOOK_EVERY_USEC);
}

static void rest(struct yield *y, uint64_t now, bool (*go_on)(void *), void *arg)
{
    uint64_t usec = rest_usec(y, now - y->began_usec);
    struct yield_counters stopped, settled, end;
    struct yield_stretch work, pause;

    if (!look(y, &stopped))
        return;
    if (y->state.share < 1 && y->state.foreground)
        y->waited_usec = now + usec;
    settle(y, now - y->began_usec, go_on, arg);
    if (!look(y, &settled))
        return;
    sleep_while(usec, go_on, arg);
    if (!look(y, &end))
        return;
    work = between(&y->at_begin, &stopped, y->own_bytes);
    pause = between(&settled, &end, 0);
    yield_judge(&y->state, &work, &pause);
    y->rested_usec = clock_mono_usec();
    if (y->state.share < 1 && y->state.foreground)
        y->waited_usec = y->rested_usec;
}

void yield_step(struct yield *y, uint64_t bytes, bool (*go_on)(void *), void *arg)
{
    uint64_t now = clock_mono_usec();

    if (y->fd <= 0 || (!y->working && !begin(y)))
        return;
    if (is_time_to_rest(y, now)) {
        rest(y, now, go_on, arg);
        (void)begin(y);
    }
    y->own_bytes += bytes;
}

void yield_pause(struct yield *y)
{
    y->working = false;
}

bool yield_is_slow(const struct yield *y)
{
    return y->waited_usec > 0 && y->waited_usec + RECENT_USEC > clock_mono_usec();
}
