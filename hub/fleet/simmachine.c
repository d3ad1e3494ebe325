/* SPDX-License-Identifier: Apache-2.0
 *
 * Numbers are drawn from the machine's own generator, so a fleet is the same each time. Work follows the hour (UTC): offices write by
 * day, batch jobs at night; a sine with noise on it is close enough to what such graphs look like.
 */
#include "hub/fleet/simmachine.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "hub/fleet/simclass.h"
#include "transport/base/clock.h"
#include "transport/base/mem.h"

#define HOUR_USEC (3600 * USEC_PER_SEC)
#define MINUTE_USEC (60 * USEC_PER_SEC)
#define GIB (1ULL << 30)
/* A machine that is behind: its newest point is between one and twenty minutes old, in a saw-tooth. */
#define LAG_MIN_USEC MINUTE_USEC
#define LAG_PERIOD_USEC (20 * MINUTE_USEC)
/* A silent one: away for twenty minutes of each half hour, and never within the first one. */
#define AWAY_PERIOD_USEC (30 * MINUTE_USEC)
#define AWAY_FROM_USEC MINUTE_USEC
#define AWAY_UNTIL_USEC (21 * MINUTE_USEC)
#define SENT_SHARE 0.45 /* of what changed, compressed */
/* A copy runs in time lapse; its traffic counts for a fiftieth, so that graphs look like those of a real site. */
#define COPY_SENT_SHARE (SENT_SHARE / 50)

/* splitmix64 */
static uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15ULL;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
    return x ^ (x >> 31);
}

static uint64_t draw(struct simmachine *m)
{
    return m->random = mix(m->random);
}

/* 0 <= x < 1 */
static double draw_share(struct simmachine *m)
{
    return (double)(draw(m) >> 11) * 0x1p-53;
}

/* Of a hundred machines eleven are not well. */
static enum simmachine_temper temper_of(unsigned number)
{
    unsigned n = (unsigned)(mix(number * 31ULL) % 100);

    return n < 5 ? TEMPER_BEHIND : n < 7 ? TEMPER_SILENT : n < 9 ? TEMPER_BROKEN : n < 11 ? TEMPER_SLOW : TEMPER_WELL;
}

void simmachine_init(struct simmachine *m, unsigned number)
{
    *m = (struct simmachine){.number = number, .random = mix(number), .temper = temper_of(number)};
    const struct simclass *c = m->class = simclass_of(number);

    m->disk_count = 1 + (unsigned)(draw(m) % (c->disk_gib >= 300 ? 3 : 2));
    for (unsigned i = 0; i < m->disk_count; i++) {
        uint64_t gib = i == 0 ? 32 : c->disk_gib / (m->disk_count > 1 ? m->disk_count - 1 : 1);

        m->disks[i].size_bytes = gib * GIB;
        m->disks[i].used_bytes = (uint64_t)((double)(gib * GIB) * (0.2 + 0.6 * draw_share(m)));
    }
    m->churn_bytes_per_sec = c->churn_mib_per_sec * 1048576.0 * (0.3 + 2.0 * draw_share(m));
    m->copy_usec = 5 * USEC_PER_SEC + draw(m) % (55 * USEC_PER_SEC);
    if (m->temper == TEMPER_SLOW)
        m->copy_usec = 6 * HOUR_USEC;
}

void simmachine_name(const struct simmachine *m, char out[SIMMACHINE_NAME_SIZE])
{
    (void)snprintf(out, SIMMACHINE_NAME_SIZE, "sim-%s-%04u", m->class->word, m->number);
}

/* ---- states ---- */

static void enter(
    struct simmachine *m, enum simmachine_state state, const char *cause, const char *remedy, uint64_t now)
{
    m->state = state;
    m->since_usec = now;
    (void)snprintf(m->cause, sizeof(m->cause), "%s", cause);
    (void)snprintf(m->remedy, sizeof(m->remedy), "%s", remedy);
}

static uint64_t protected_bytes(const struct simmachine *m)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < m->disk_count; i++)
        sum += m->disks[i].is_protected ? m->disks[i].used_bytes : 0;
    return sum;
}

static unsigned disk_of_key(const char *key)
{
    const char *dash = strrchr(key, '-');

    return dash && dash[1] >= '0' && dash[1] < '0' + (int)SIMMACHINE_DISKS_MAX ? (unsigned)(dash[1] - '0')
                                                                               : SIMMACHINE_DISKS_MAX;
}

static bool take_disks(struct simmachine *m, const Leeward__Control__V1__AgentDesired *desired)
{
    bool is_new = false;

    for (unsigned i = 0; i < m->disk_count; i++) {
        bool before = m->disks[i].is_protected;

        m->disks[i].is_protected = false;
        for (size_t k = 0; k < desired->n_disks; k++)
            if (disk_of_key(desired->disks[k]->key) == i) {
                m->disks[i].is_protected = true;
                m->disks[i].number = desired->disks[k]->number;
            }
        is_new |= m->disks[i].is_protected && !before;
    }
    return is_new;
}

static void begin_copy(struct simmachine *m, enum simmachine_state state, uint64_t now)
{
    m->total_bytes = protected_bytes(m);
    m->done_bytes = 0;
    enter(m, state, "", "", now);
}

void simmachine_desire(
    struct simmachine *m, const Leeward__Control__V1__AgentDesired *desired, bool vault_is_simulated, uint64_t now_usec)
{
    bool new_disks = take_disks(m, desired), resync = desired->resync_request != m->resync_request;

    m->version = desired->version;
    m->generation = desired->generation;
    m->interval_usec = desired->interval_usec ? desired->interval_usec : USEC_PER_SEC;
    m->resync_request = desired->resync_request;
    m->is_wanted = desired->protect;
    (void)snprintf(m->node_id, sizeof(m->node_id), "%s", desired->node_id);
    (void)snprintf(m->vault_id, sizeof(m->vault_id), "%s", desired->vault_id);
    if (!m->is_wanted)
        enter(m, SIM_IDLE, "", "", now_usec);
    else if (!vault_is_simulated)
        enter(m, SIM_ERROR, "a simulated machine has no data for a real vault",
            "Protect it without naming a vault: it is placed in a simulated one.", now_usec);
    else if (m->temper == TEMPER_BROKEN)
        enter(m, SIM_ERROR, "disk /dev/sda lost its tracker: writes were not recorded",
            "Look at the kernel log of the machine, then: leeward machine resync MACHINE", now_usec);
    else if (m->state == SIM_IDLE || m->state == SIM_ERROR || new_disks)
        begin_copy(m, SIM_INITIAL, now_usec);
    else if (resync && m->state == SIM_PROTECTED)
        begin_copy(m, SIM_RESYNC, now_usec);
}

/* ---- time ---- */

static double hour_factor(const struct simmachine *m, uint64_t now)
{
    const struct simclass *c = m->class;
    double hour = (double)(now % (24 * HOUR_USEC)) / (double)HOUR_USEC;
    double day = 1.0 + cos((hour - c->peak_hour) / 24.0 * 2.0 * M_PI); /* 0 .. 2, average 1 */

    return c->daytime * day + (1.0 - c->daytime);
}

static void write_for(struct simmachine *m, uint64_t usec, uint64_t now)
{
    double noise = 0.5 + draw_share(m);
    uint64_t bytes = (uint64_t)(m->churn_bytes_per_sec * hour_factor(m, now) * noise * (double)usec / 1e6);
    unsigned protected_count = 0;

    for (unsigned i = 0; i < m->disk_count; i++)
        protected_count += m->disks[i].is_protected;
    if (protected_count == 0)
        return;
    m->changed_bytes += bytes;
    m->changed_since_point += bytes;
    m->sent_bytes += (uint64_t)((double)bytes * SENT_SHARE);
    for (unsigned i = 0; i < m->disk_count; i++)
        m->disks[i].minute_bytes += m->disks[i].is_protected ? bytes / protected_count : 0;
}

static void copy_for(struct simmachine *m, uint64_t usec, uint64_t now)
{
    uint64_t bytes = (uint64_t)((double)m->total_bytes * (double)usec / (double)m->copy_usec);

    /* A resynchronization compares hashes and is ten times as quick. */
    bytes = m->state == SIM_RESYNC ? bytes * 10 : bytes;
    bytes = bytes < m->total_bytes - m->done_bytes ? bytes : m->total_bytes - m->done_bytes;
    m->done_bytes += bytes;
    m->sent_bytes += (uint64_t)((double)bytes * COPY_SENT_SHARE);
    if (m->done_bytes == m->total_bytes)
        enter(m, SIM_PROTECTED, "", "", now);
}

/* How old the newest point of this machine must be. */
static uint64_t lag(const struct simmachine *m, uint64_t now)
{
    return m->temper == TEMPER_BEHIND && now - m->since_usec > MINUTE_USEC
               ? LAG_MIN_USEC + (now + m->number * MINUTE_USEC) % LAG_PERIOD_USEC
               : 0;
}

static void point_fill(struct simmachine *m, const char *kind, const char *tag, uint64_t at, struct simmachine_point *p)
{
    m->sequence++;
    m->points_made++;
    m->point_usec = at;
    *p = (struct simmachine_point){
        .sequence = m->sequence, .time_utc_usec = at, .changed_bytes = m->changed_since_point, .kind = kind};
    (void)snprintf(p->tag, sizeof(p->tag), "%s", tag);
    m->changed_since_point = 0;
}

static unsigned points_until(struct simmachine *m, uint64_t now, struct simmachine_point points[SIMMACHINE_POINTS_MAX])
{
    uint64_t behind = lag(m, now), until = now - behind, from = m->point_usec;
    unsigned count = 0;

    if (until <= from || until - from < m->interval_usec)
        return 0;
    if ((until - from) / m->interval_usec > SIMMACHINE_POINTS_MAX || from == 0)
        from = until - m->interval_usec;
    for (uint64_t at = from + m->interval_usec; at <= until && count < SIMMACHINE_POINTS_MAX; at += m->interval_usec) {
        bool frozen = draw(m) % 400 == 0;

        m->points_frozen += frozen;
        point_fill(m, frozen ? "filesystem" : "crash", "", at, &points[count++]);
    }
    return count;
}

unsigned simmachine_step(struct simmachine *m, uint64_t now_usec, struct simmachine_point points[SIMMACHINE_POINTS_MAX])
{
    uint64_t usec = m->at_usec && now_usec > m->at_usec ? now_usec - m->at_usec : 0;

    m->at_usec = now_usec;
    if (m->state == SIM_IDLE || m->state == SIM_ERROR)
        return 0;
    write_for(m, usec, now_usec);
    if (m->state == SIM_INITIAL || m->state == SIM_RESYNC)
        copy_for(m, usec, now_usec);
    if (m->state != SIM_PROTECTED)
        return 0;
    if (m->sequence < simmachine_past_count(m))
        m->sequence = simmachine_past_count(m);
    return points_until(m, now_usec, points);
}

bool simmachine_make_point(
    struct simmachine *m, const char *kind, const char *tag, uint64_t now_usec, struct simmachine_point *ret_point)
{
    static const char *const kinds[] = {"crash", "filesystem", "application"};

    if (m->state != SIM_PROTECTED || m->sequence == 0)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (strcmp(kind, kinds[i]) == 0) {
            m->points_frozen += i > 0;
            point_fill(m, kinds[i], tag, now_usec > m->point_usec ? now_usec : m->point_usec + 1, ret_point);
            return true;
        }
    return false;
}

/* ---- the past ---- */

/* From far to near: how many, and how far apart. */
static const struct {
    unsigned count;
    uint64_t apart_usec;
    const char *kind;
} past[] = {{60, 24 * HOUR_USEC, "application"}, {48, HOUR_USEC, "filesystem"}, {45, MINUTE_USEC, "crash"}};

unsigned simmachine_past_count(const struct simmachine *m)
{
    unsigned sum = 0;

    (void)m;
    for (size_t i = 0; i < ARRAY_LEN(past); i++)
        sum += past[i].count;
    return sum;
}

bool simmachine_past_point(
    const struct simmachine *m, unsigned n, uint64_t now_usec, struct simmachine_point *ret_point)
{
    unsigned before = 0;

    for (size_t i = 0; i < ARRAY_LEN(past); before += past[i++].count) {
        if (n >= before + past[i].count)
            continue;
        unsigned left = before + past[i].count - n; /* 1: the youngest of its kind */
        uint64_t base = i + 1 < ARRAY_LEN(past) ? past[i + 1].apart_usec * past[i + 1].count : 0;

        *ret_point = (struct simmachine_point){.sequence = n + 1,
            .time_utc_usec =
                now_usec - base - left * past[i].apart_usec - mix(m->number + n) % (past[i].apart_usec / 8),
            .changed_bytes = (uint64_t)(m->churn_bytes_per_sec * (double)past[i].apart_usec / 1e6 * 0.3),
            .kind = past[i].kind};
        if (i == 0 && n % 30 == 29)
            (void)snprintf(ret_point->tag, sizeof(ret_point->tag), "month-end-%u", n / 30 + 1);
        return true;
    }
    return false;
}

/* ---- what it says ---- */

static void copy_status(const struct simmachine *m, uint64_t now, Leeward__Control__V1__AgentStatus *s)
{
    double speed = (double)m->total_bytes / ((double)m->copy_usec / 1e6) * (m->state == SIM_RESYNC ? 10 : 1);

    (void)now;
    s->initial_total_bytes = m->total_bytes;
    s->initial_done_bytes = m->done_bytes;
    s->throughput_bytes_per_sec = (uint64_t)speed;
    s->remaining_usec = speed > 0 ? (uint64_t)((double)(m->total_bytes - m->done_bytes) / speed * 1e6) : 0;
    if (m->temper == TEMPER_SLOW)
        s->slowed_by = (char *)(uintptr_t) "throttle";
}

static void protected_status(const struct simmachine *m, uint64_t now, Leeward__Control__V1__AgentStatus *s)
{
    uint64_t behind = lag(m, now);

    s->initial_total_bytes = s->initial_done_bytes = m->total_bytes;
    s->backlog_bytes = behind ? (uint64_t)(m->churn_bytes_per_sec * (double)behind / 1e6) : m->changed_since_point;
    s->throughput_bytes_per_sec = (uint64_t)(m->churn_bytes_per_sec * hour_factor(m, now));
    s->rounds = 2 + (uint32_t)(mix(m->points_made) % 3);
    s->window_usec = 200 + mix(m->points_made + m->number) % 4000;
    s->freeze_usec = m->points_frozen ? 8000 + m->number % 30000 : 0;
    if (behind) {
        s->cause = (char *)(uintptr_t) "more changes than the line to the node carries";
        s->remedy =
            (char *)(uintptr_t) "Look at what writes so much: leeward machine churn MACHINE; or widen the line.";
        s->remaining_usec = behind;
    }
}

void simmachine_status(const struct simmachine *m, uint64_t now_usec, Leeward__Control__V1__AgentStatus *ret_status)
{
    static const char *const names[] = {"idle", "initial_replication", "protected", "resynchronizing", "error"};

    leeward__control__v1__agent_status__init(ret_status);
    ret_status->state = (char *)(uintptr_t)names[m->state];
    ret_status->cause = (char *)(uintptr_t)m->cause;
    ret_status->remedy = (char *)(uintptr_t)m->remedy;
    ret_status->last_point_sequence = m->point_usec ? m->sequence : 0;
    ret_status->last_point_utc_usec = m->point_usec;
    ret_status->rpo_usec = m->point_usec && now_usec > m->point_usec ? now_usec - m->point_usec : 0;
    ret_status->sent_bytes = m->sent_bytes;
    ret_status->changed_bytes = m->changed_bytes;
    ret_status->points_made = m->points_made;
    ret_status->points_frozen = m->points_frozen;
    ret_status->node_id = (char *)(uintptr_t)m->node_id;
    ret_status->desired_version = m->version;
    if (m->state == SIM_INITIAL || m->state == SIM_RESYNC)
        copy_status(m, now_usec, ret_status);
    else if (m->state == SIM_PROTECTED)
        protected_status(m, now_usec, ret_status);
}

bool simmachine_minute(
    struct simmachine *m, unsigned disk, uint64_t now_usec, Leeward__Control__V1__DiskMinute *ret_minute)
{
    struct simmachine_disk *d = &m->disks[disk];

    if (m->minute_usec == 0 || now_usec / MINUTE_USEC * MINUTE_USEC == m->minute_usec || !d->is_protected ||
        d->minute_bytes == 0)
        return false;
    leeward__control__v1__disk_minute__init(ret_minute);
    ret_minute->disk = d->number;
    ret_minute->minute_utc_usec = m->minute_usec;
    ret_minute->changed_bytes = d->minute_bytes;
    ret_minute->incompressible_bytes = d->minute_bytes / 5;
    ret_minute->entropy_millibits = 4500 + (uint32_t)(draw(m) % 1500);
    d->minute_bytes = 0;
    return true;
}

void simmachine_minute_done(struct simmachine *m, uint64_t now_usec)
{
    m->minute_usec = now_usec / MINUTE_USEC * MINUTE_USEC;
}

bool simmachine_is_away(const struct simmachine *m, uint64_t now_usec)
{
    uint64_t phase = m->since_usec && now_usec > m->since_usec ? (now_usec - m->since_usec) % AWAY_PERIOD_USEC : 0;

    return m->temper == TEMPER_SILENT && m->state == SIM_PROTECTED && phase >= AWAY_FROM_USEC &&
           phase < AWAY_UNTIL_USEC;
}
