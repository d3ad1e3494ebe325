/* SPDX-License-Identifier: Apache-2.0
 *
 * Members in one array: vaults and nodes first, so that they are there before machines are placed. A tick walks the array; what is
 * due is rare in it, and ten thousand comparisons take a tenth of a millisecond.
 */
#include "hub/fleet/simfleet.h"

#include <stdio.h>
#include <string.h>

#include "transport/base/clock.h"
#include "transport/base/log.h"
#include "transport/base/mem.h"

#define TICK_USEC (50 * USEC_PER_MSEC)
#define CONNECTING_MAX 48u /* hand-shakes at a time */
#define RETRY_USEC (2 * USEC_PER_SEC)
#define SUM_USEC USEC_PER_SEC
#define TELL_USEC (5 * USEC_PER_SEC)
#define MEMBERS_MAX 100000u

static const char *const role_words[] = {"agent", "node", "vault"};

/* ---- sessions ---- */

void simfleet_on_up(struct simpeer *peer)
{
    struct simmember *m = (struct simmember *)peer;

    if (m->connecting)
        m->fleet->connecting--;
    m->connecting = false;
    m->fleet->up++;
    m->next_usec = 0; /* a status at once */
}

void simfleet_on_down(struct simpeer *peer)
{
    struct simmember *m = (struct simmember *)peer;

    if (m->connecting)
        m->fleet->connecting--;
    else if (m->fleet->up > 0)
        m->fleet->up--;
    m->connecting = false;
    m->next_usec = clock_mono_usec() + RETRY_USEC + clock_jitter_usec(2 * RETRY_USEC);
}

struct simmember *simfleet_find(struct simfleet *fleet, enum simrole role, const char *id)
{
    /* Nodes and vaults are few and come first. */
    for (size_t i = 0; i < fleet->count && (fleet->members[i].role != SIM_AGENT || role == SIM_AGENT); i++)
        if (fleet->members[i].role == role && id[0] && strcmp(fleet->members[i].peer.id, id) == 0)
            return &fleet->members[i];
    return NULL;
}

void simfleet_enrolled(struct simmember *m)
{
    m->fleet->enrolled++;
    m->next_usec = clock_mono_usec() + clock_jitter_usec(USEC_PER_SEC);
}

/* ---- the tick ---- */

static void say_status(struct simmember *m, uint64_t mono, uint64_t utc)
{
    /* Spread, so that statuses of members that came up together do not stay together. */
    m->next_usec = mono + m->peer.status_usec * 19 / 20 + clock_jitter_usec(m->peer.status_usec / 10);
    if (m->role == SIM_AGENT)
        simagent_tick(m, utc);
    else if (m->role == SIM_NODE)
        simnode_tick(m);
    else
        simvault_tick(m);
}

static void tick_member(struct simmember *m, uint64_t mono, uint64_t utc)
{
    bool away = m->role == SIM_AGENT && simagent_is_away(m, utc);

    if (m->token || mono < m->next_usec)
        return;
    if (m->peer.up && away)
        simpeer_disconnect(&m->peer);
    else if (m->peer.up)
        say_status(m, mono, utc);
    else if (!away && !m->peer.call && m->fleet->connecting < CONNECTING_MAX) {
        m->connecting = true;
        m->fleet->connecting++;
        simpeer_connect(&m->peer);
    }
}

static void tell(struct simfleet *f, uint64_t mono)
{
    if (mono - f->told_usec < TELL_USEC || f->told_up == f->up)
        return;
    f->told_usec = mono;
    f->told_up = f->up;
    log_event(LOG_INFO, "fleet", LOG_U("members", f->count), LOG_U("enrolled", f->enrolled), LOG_U("online", f->up));
}

static void on_tick(void *arg)
{
    struct simfleet *f = arg;
    uint64_t mono = clock_mono_usec(), utc = clock_utc_usec();

    simenrol_go_on(f->enrol);
    if (mono - f->summed_usec >= SUM_USEC) {
        f->summed_usec = mono;
        simstore_sum(f);
    }
    for (size_t i = 0; i < f->count; i++)
        tick_member(&f->members[i], mono, utc);
    tell(f, mono);
}

/* ---- the members ---- */

static int role_of(const char *line, size_t n, const char **ret_token)
{
    for (int role = 0; role < (int)ARRAY_LEN(role_words); role++) {
        size_t len = strlen(role_words[role]);

        if (n > len && strncmp(line, role_words[role], len) == 0 && line[len] == ' ') {
            *ret_token = line + len + 1;
            return role;
        }
    }
    return -1;
}

static int member_init(struct simfleet *f, struct simmember *m, enum simrole role, unsigned number, const char *token,
    size_t token_len, struct err *err)
{
    static const struct simpeer_ops *const ops[] = {&simagent_ops, &simnode_ops, &simvault_ops};

    m->fleet = f;
    m->role = role;
    m->number = number;
    m->token = mem_strndup(token, token_len);
    m->peer.ops = ops[role];
    m->peer.role = role_words[role];
    if (role == SIM_AGENT) {
        simmachine_init(&m->machine, number);
        simmachine_name(&m->machine, m->peer.name);
    } else
        (void)snprintf(m->peer.name, sizeof(m->peer.name), "sim-%s-%u", role_words[role], number);
    return m->token ? 0 : err_set(err, ERR_NOMEM, "no memory for a fleet");
}

static size_t count_lines(const char *text)
{
    size_t n = 0;

    for (; *text; text++)
        n += *text == '\n';
    return n;
}

/* Members of that role, from the lines of the tokens. */
static int add_members(struct simfleet *f, const char *tokens, enum simrole role, struct err *err)
{
    unsigned number = 0;

    for (const char *line = tokens, *end; (end = strchr(line, '\n')); line = end + 1) {
        const char *token = NULL;
        int of = role_of(line, (size_t)(end - line), &token);

        if (of < 0) {
            (void)err_set(err, ERR_INVALID, "a line of the tokens names no role");
            return err_hint(err, "Lines are \"agent TOKEN\", \"node TOKEN\" and \"vault TOKEN\".");
        }
        if (of == (int)role &&
            member_init(f, &f->members[f->count++], role, ++number, token, (size_t)(end - token), err) < 0)
            return -1;
    }
    return 0;
}

static int add_all(struct simfleet *f, const char *tokens, struct err *err)
{
    size_t lines = count_lines(tokens);

    if (lines == 0 || lines > MEMBERS_MAX)
        return err_set(err, ERR_INVALID, "there are %zu tokens; 1 to %u are taken", lines, MEMBERS_MAX);
    f->members = mem_alloc(lines, sizeof(*f->members));
    if (!f->members)
        return err_set(err, ERR_NOMEM, "no memory for %zu members", lines);
    if (add_members(f, tokens, SIM_VAULT, err) < 0 || add_members(f, tokens, SIM_NODE, err) < 0)
        return -1;
    return add_members(f, tokens, SIM_AGENT, err);
}

int simfleet_new(
    sd_event *loop, const struct simfleet_conf *conf, const char *tokens, struct simfleet **ret_fleet, struct err *err)
{
    struct simfleet *f = mem_new(struct simfleet);

    if (!f)
        return err_set(err, ERR_NOMEM, "no memory for a fleet");
    f->loop = loop;
    f->conf = *conf;
    if (add_all(f, tokens, err) < 0 || simenrol_new(f, &f->enrol, err) < 0 ||
        loop_timer_new(loop, TICK_USEC, TICK_USEC, on_tick, f, &f->tick, err) < 0) {
        simfleet_free(f);
        return -1;
    }
    *ret_fleet = f;
    return 0;
}

void simfleet_free(struct simfleet *f)
{
    if (!f)
        return;
    f->stopping = true;
    loop_timer_free(f->tick);
    simenrol_free(f->enrol);
    for (size_t i = 0; i < f->count; i++) {
        simpeer_close(&f->members[i].peer);
        free(f->members[i].token);
    }
    free(f->members);
    free(f);
}
