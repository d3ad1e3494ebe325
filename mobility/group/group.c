/* SPDX-License-Identifier: Apache-2.0
 *
 * Happy path: a wish with members opens the port and the channels; one timer makes this machine coordinate when it is its turn.
 * Failure modes: a group point that is missed is told once per cause, and again each minute; a port that is taken is told and
 * tried again; a coordinator that is silent is followed by the next member.
 */
#include "mobility/group/group.h"

#include <stdio.h>
#include <string.h>

#include "mobility/group/group_point.h"
#include "transport/base/clock.h"
#include "transport/base/log.h"
#include "transport/base/mem.h"
#include "transport/loop/loop.h"

#define TICK_USEC (1 * USEC_PER_SEC)
#define SOON_USEC (10 * USEC_PER_MSEC)
/* After a change of the list: the others have heard of it by then, and opened their ports. */
#define SETTLE_USEC (1 * USEC_PER_SEC)
#define TELL_USEC (60 * USEC_PER_SEC)
/* How much longer than an interval each next member waits for those before it: more than a group point that is missed takes. */
#define SUCCESSION_USEC (6 * USEC_PER_SEC)
#define OVERDUE_MAX_USEC (60 * USEC_PER_SEC) /* and half an interval at most */
#define AGAIN_USEC (5 * USEC_PER_SEC) /* after a group point that was missed; doubles, up to the interval or this: */
#define AGAIN_MAX_USEC (600 * USEC_PER_SEC)
/* A group point that was asked for meets one that is under way: it is tried again. */
#define COMMAND_TRIES 20u
#define COMMAND_PAUSE_USEC (500 * USEC_PER_MSEC)

struct group {
    struct group_conf conf;
    struct group_member *member;
    struct group_lead *lead;
    struct loop_timer *timer;
    struct group_wish wish;
    unsigned rank; /* of this machine in the succession; 0: the coordinator that the hub named */
    bool leading;
    uint64_t heard_usec; /* when a machine of a lower rank last gave an order; monotonic */
    uint64_t due_usec;   /* of the next group point, while leading */
    uint64_t again_usec; /* pause before the one that is to make up for a missed one; 0: none was missed */
    struct group_news news;
    bool is_latest; /* no other machine has coordinated since: news are the group's latest, as far as is known here */
    uint64_t told_usec;
    bool told_port;
    /* A group point that was asked for; "": none. */
    char command[GROUP_COMMAND_ID_MAX];
    bool command_runs;
    unsigned command_tries;
};

static bool in_group(const struct group *g)
{
    return !ident_is_zero(&g->wish.id);
}

/* ---- who ---- */

static int find_member(const struct group *g, const struct ident *id)
{
    for (unsigned i = 0; i < g->wish.count; i++)
        if (ident_equal(&g->wish.members[i].id, id))
            return (int)i;
    return -1;
}

/* The coordinator has rank 0, the others follow in the order of the list. */
static unsigned rank_of(const struct group *g, const struct ident *id)
{
    unsigned rank = 1;

    if (ident_equal(id, &g->wish.coordinator))
        return 0;
    for (unsigned i = 0; i < g->wish.count && !ident_equal(&g->wish.members[i].id, id); i++)
        rank += !ident_equal(&g->wish.members[i].id, &g->wish.coordinator);
    return rank;
}

static bool is_member(void *arg, const struct ident *id)
{
    struct group *g = arg;

    return in_group(g) && find_member(g, id) >= 0 && !ident_equal(id, &g->conf.self);
}

static int may_prepare(void *arg, const struct ident *from, const struct group_order *o, struct err *err)
{
    struct group *g = arg;

    if (from && !is_member(g, from))
        return err_set(err, ERR_DENIED, "the caller is no longer a member");
    if (!ident_equal(&o->group, &g->wish.id))
        return err_set(err, ERR_REFUSED, "it is in another group");
    if (from && rank_of(g, from) < g->rank)
        g->heard_usec = clock_mono_usec();
    g->is_latest = g->is_latest && !from;
    if (o->membership != g->wish.membership || !group_point_is_of(&o->point, g->wish.number, g->wish.membership)) {
        err_set(err, ERR_REFUSED, "it has another list of members");
        return err_hint(err, "wait until both machines have heard of the change from the hub");
    }
    return 0;
}

/* ---- what became of it ---- */

static void tell_missed(struct group *g, const struct group_round *round)
{
    const struct group_peer *culprit = &g->wish.members[round->culprit];
    uint64_t now = clock_mono_usec();
    bool is_news = !g->news.last_missed || !ident_equal(&g->news.culprit, &culprit->id) ||
                   strcmp(g->news.cause, round->why.text) != 0;
    char text[512];

    g->news.missed++;
    g->news.last_missed = true;
    g->news.culprit = culprit->id;
    snprintf(g->news.cause, sizeof(g->news.cause), "%s", round->why.text);
    snprintf(g->news.remedy, sizeof(g->news.remedy), "%s", round->why.correction);
    if (!is_news && now < g->told_usec + TELL_USEC)
        return;
    g->told_usec = now;
    snprintf(text, sizeof(text), "no group point of %s: %s: %s", g->wish.name, culprit->name, round->why.text);
    g->conf.event(g->conf.arg, "warning", "group_point_missed",
        round->why.correction[0]
            ? round->why.correction
            : "each machine keeps points of its own; see that the agent of that machine runs, and is "
              "reached by the others on the group's port",
        text);
}

static void tell_made(struct group *g, const struct ident *point, const struct group_round *round)
{
    char text[300];

    g->news.made++;
    g->news.point = *point;
    g->news.made_usec = clock_mono_usec();
    g->news.freeze_usec = round->freeze_max_usec;
    if (g->news.last_missed) {
        snprintf(text, sizeof(text), "group points of %s are made again", g->wish.name);
        g->conf.event(g->conf.arg, "info", "group_points_resumed", NULL, text);
    }
    g->news.last_missed = false;
    g->news.cause[0] = g->news.remedy[0] = '\0';
    g->news.culprit = (struct ident){0};
}

static void end_command(struct group *g, const struct ident *point, const struct err *error)
{
    char id[GROUP_COMMAND_ID_MAX];

    memcpy(id, g->command, sizeof(id));
    g->command[0] = '\0';
    g->command_runs = false;
    if (id[0])
        g->conf.command_done(g->conf.arg, id, point, error);
}

static void settle_command(struct group *g, const struct ident *point, const struct group_round *round)
{
    struct err why = ERR_INIT;

    if (!g->command_runs)
        return;
    g->command_runs = false;
    /* Where all machines were told to close it, it may be there all the same: the hub sees the marks. */
    if (round->phase == GROUP_PHASE_DONE || round->closing) {
        end_command(g, point, NULL);
        return;
    }
    if (round->why.code == ERR_CONFLICT && ++g->command_tries < COMMAND_TRIES)
        return;
    err_set(&why, round->why.code, "%s: %s", g->wish.members[round->culprit].name, round->why.text);
    if (round->why.correction[0])
        err_hint(&why, "%s", round->why.correction);
    end_command(g, NULL, &why);
}

/* A day's interval is no reason to be without a group point for two. And one that took longer than the interval to be missed is none to try again at once:
 * the members that waited have had no points of their own, and another machine may coordinate meanwhile. */
static void plan_again(struct group *g, bool made)
{
    uint64_t now = clock_mono_usec();
    uint64_t most = g->wish.interval_usec < AGAIN_MAX_USEC ? g->wish.interval_usec : AGAIN_MAX_USEC;

    if (made || !g->leading) {
        g->again_usec = 0;
        return;
    }
    if (g->command_runs) /* nor is one that was asked for a reason to put off the next one that is due */
        return;
    g->again_usec = g->again_usec ? 2 * g->again_usec : AGAIN_USEC;
    if (g->again_usec > most)
        g->again_usec = most;
    g->due_usec = now + g->again_usec;
}

static void over(void *arg, const struct ident *point, const struct group_round *round)
{
    struct group *g = arg;
    char id[IDENT_TEXT_SIZE];

    ident_to_text(point, id);
    if (round->phase == GROUP_PHASE_DONE)
        tell_made(g, point, round);
    else
        tell_missed(g, round);
    log_event(LOG_INFO, "group_point", LOG_S("group", g->wish.name), LOG_S("point", id),
        LOG_B("made", round->phase == GROUP_PHASE_DONE), LOG_U("freeze_usec", round->freeze_max_usec),
        LOG_S("why", round->phase == GROUP_PHASE_DONE ? "" : round->why.text),
        LOG_S("member", round->phase == GROUP_PHASE_DONE ? "" : g->wish.members[round->culprit].name));
    plan_again(g, round->phase == GROUP_PHASE_DONE);
    g->is_latest = true;
    g->news.over_usec = clock_mono_usec();
    g->news.group = g->wish.id;
    g->conf.news(g->conf.arg, &g->news);
    settle_command(g, point, round);
}

/* ---- making group points ---- */

static int begin_point(struct group *g, struct err *err)
{
    struct group_order o = {.kind = GROUP_ORDER_PREPARE,
        .group = g->wish.id,
        .membership = g->wish.membership,
        .budget_usec = g->wish.budget_usec};

    if (group_point_new(g->wish.number, g->wish.membership, clock_utc_usec(), &o.point, err) < 0)
        return -1;
    return group_lead_begin(g->lead, &o, err);
}

static bool is_my_turn(const struct group *g, uint64_t now)
{
    uint64_t overdue = g->wish.interval_usec / 2 < OVERDUE_MAX_USEC ? g->wish.interval_usec / 2 : OVERDUE_MAX_USEC;

    if (g->wish.interval_usec == 0)
        return false;
    return g->rank == 0 || now > g->heard_usec + g->wish.interval_usec + overdue + g->rank * SUCCESSION_USEC;
}

/* Whether this machine coordinates may have changed. */
static void decide(struct group *g, uint64_t now)
{
    bool leads = is_my_turn(g, now);
    char text[300];

    if (leads == g->leading)
        return;
    g->leading = leads;
    g->due_usec = now + SETTLE_USEC;
    g->again_usec = 0;
    if (g->rank == 0)
        return;
    snprintf(text, sizeof(text),
        leads ? "nothing is heard of the coordinator of %s: this machine takes its place"
              : "the coordinator of %s is back",
        g->wish.name);
    g->conf.event(g->conf.arg, leads ? "warning" : "info", "group_coordinator_changed",
        leads ? "see that the agent of the coordinator runs" : NULL, text);
}

static void run_command(struct group *g)
{
    struct err err = ERR_INIT;

    if (!g->command[0] || g->command_runs || group_lead_is_busy(g->lead))
        return;
    g->command_runs = true;
    if (begin_point(g, &err) < 0)
        end_command(g, NULL, &err);
}

static void run_schedule(struct group *g, uint64_t now)
{
    struct err err = ERR_INIT;

    if (g->due_usec > now + g->wish.interval_usec) /* it was longer before */
        g->due_usec = now + g->wish.interval_usec;
    if (!g->leading || now < g->due_usec || group_lead_is_busy(g->lead) || g->wish.count < GROUP_MEMBERS_MIN)
        return;
    g->due_usec =
        g->due_usec + g->wish.interval_usec > now ? g->due_usec + g->wish.interval_usec : now + g->wish.interval_usec;
    if (begin_point(g, &err) < 0)
        log_event(LOG_WARN, "group_point_not_begun", LOG_E(&err));
}

static void open_port(struct group *g)
{
    struct err err = ERR_INIT;

    if (group_member_listen(g->member, in_group(g), &err) == 0) {
        g->told_port = false;
    } else if (!g->told_port) {
        g->told_port = true;
        g->conf.event(g->conf.arg, "error", "group_port", err.correction, err.text);
    }
}

static void on_timer(void *arg)
{
    struct group *g = arg;
    uint64_t now = clock_mono_usec(), delay = TICK_USEC;

    open_port(g);
    if (in_group(g)) {
        decide(g, now);
        run_command(g);
        run_schedule(g, now);
        if (g->leading)
            delay = g->due_usec > now ? g->due_usec - now : SOON_USEC;
        if (g->command[0] && delay > COMMAND_PAUSE_USEC)
            delay = COMMAND_PAUSE_USEC;
    }
    loop_timer_set(g->timer, delay < SOON_USEC ? SOON_USEC : delay < TICK_USEC ? delay : TICK_USEC);
}

/* ---- from outside ---- */

static bool same_members(const struct group_wish *a, const struct group_wish *b)
{
    if (!ident_equal(&a->id, &b->id) || a->membership != b->membership || a->count != b->count)
        return false;
    for (unsigned i = 0; i < a->count; i++)
        if (!ident_equal(&a->members[i].id, &b->members[i].id) ||
            strcmp(a->members[i].address, b->members[i].address) != 0)
            return false;
    return true;
}

void group_set(struct group *g, const struct group_wish *wish)
{
    bool same = same_members(&g->wish, wish), same_group = ident_equal(&g->wish.id, &wish->id);
    struct err err = ERR_INIT;

    if (g->wish.interval_usec != wish->interval_usec) /* nobody could have been heard every so often before */
        g->heard_usec = clock_mono_usec();
    g->wish = *wish;
    g->rank = rank_of(g, &g->conf.self);
    if (!same_group) {
        g->news = (struct group_news){0};
        g->is_latest = false;
        err_set(&err, ERR_CANCELLED, "the machine has left the group");
        end_command(g, NULL, &err);
    }
    if (same)
        return;
    g->heard_usec = clock_mono_usec();
    g->leading = false;
    g->command_runs = false;
    if (group_lead_set_peers(g->lead, g->wish.members, g->wish.count, &err) < 0)
        log_event(LOG_ERROR, "group_members", LOG_E(&err));
    group_member_recheck(g->member);
    log_event(LOG_INFO, "group", LOG_S("group", g->wish.name), LOG_U("members", g->wish.count),
        LOG_U("membership", g->wish.membership), LOG_U("rank", g->rank));
    loop_timer_set(g->timer, SOON_USEC);
}

int group_make_point(struct group *g, const char *command_id, const char *group_id, struct err *err)
{
    struct ident id;

    if (strlen(command_id) >= sizeof(g->command))
        return err_set(err, ERR_INVALID, "the id of the command is too long");
    if (!in_group(g) || ident_from_text(group_id, &id) < 0 || !ident_equal(&id, &g->wish.id)) {
        err_set(err, ERR_REFUSED, "this machine is not in that group");
        return err_hint(err, "ask again in a moment, when the machines have heard of the change");
    }
    if (g->command[0]) {
        if (strcmp(g->command, command_id) == 0)
            return 0;
        return err_set(err, ERR_CONFLICT, "a group point has been asked for already");
    }
    snprintf(g->command, sizeof(g->command), "%s", command_id);
    g->command_tries = 0;
    loop_timer_set(g->timer, SOON_USEC);
    return 0;
}

void group_tell_again(struct group *g)
{
    if (g->is_latest)
        g->conf.news(g->conf.arg, &g->news);
}

void group_look(struct group *g)
{
    group_member_look(g->member);
}

unsigned group_port(const struct group *g)
{
    return group_member_port(g->member);
}

int group_reload(struct group *g, struct err *err)
{
    return group_member_reload(g->member, err);
}

/* ---- life ---- */

static int start(struct group *g, struct err *err)
{
    const struct group_conf *c = &g->conf;
    struct group_member_conf member = {.loop = c->loop,
        .files = c->files,
        .listen = c->listen,
        .part = c->part,
        .arg = g,
        .is_member = is_member,
        .may_prepare = may_prepare};
    struct group_lead_conf lead = {.loop = c->loop, .tls = c->tls, .self = c->self, .arg = g, .over = over};

    if (group_member_new(&member, &g->member, err) < 0)
        return -1;
    lead.member = g->member;
    if (group_lead_new(&lead, &g->lead, err) < 0)
        return -1;
    return loop_timer_new(c->loop, TICK_USEC, 0, on_timer, g, &g->timer, err);
}

int group_new(const struct group_conf *conf, struct group **ret_group, struct err *err)
{
    struct group *g = mem_new(struct group);

    if (!g)
        return err_set(err, ERR_NOMEM, "no memory for group points");
    g->conf = *conf;
    if (start(g, err) < 0) {
        group_free(g);
        return -1;
    }
    *ret_group = g;
    return 0;
}

void group_free(struct group *g)
{
    if (!g)
        return;
    group_lead_free(g->lead);
    group_member_free(g->member);
    loop_timer_free(g->timer);
    free(g);
}
