/* SPDX-License-Identifier: Apache-2.0
 *
 * A hash table of the last words, chained, under one mutex. Entries are never removed while the hub runs: their number is
 * bounded by the peers that were enrolled.
 */
#include "hub/control/live_status.h"

#include <pthread.h>
#include <string.h>

#include "transport/base/clock.h"
#include "transport/base/hash.h"
#include "transport/base/mem.h"

#define BUCKETS 8192 /* a power of two, for 10,000 machines */

enum kind { KIND_MACHINE, KIND_NODE, KIND_VAULT };

struct entry {
    struct entry *next;
    char id[IDENT_TEXT_SIZE];
    enum kind kind;
    uint64_t heard_mono_usec;
    union {
        struct live_machine machine;
        struct live_node node;
        struct live_vault vault;
    } last;
};

struct live_status {
    pthread_mutex_t lock; /* guards the table and counts */
    struct entry *buckets[BUCKETS];
    struct live_counts counts;
};

int live_status_new(struct live_status **ret_live, struct err *err)
{
    struct live_status *live = mem_new(struct live_status);

    if (!live)
        return err_set(err, ERR_NOMEM, "no memory for the status table");
    pthread_mutex_init(&live->lock, NULL);
    *ret_live = live;
    return 0;
}

void live_status_free(struct live_status *live)
{
    if (!live)
        return;
    for (size_t i = 0; i < BUCKETS; i++) {
        while (live->buckets[i]) {
            struct entry *e = live->buckets[i];

            live->buckets[i] = e->next;
            free(e);
        }
    }
    pthread_mutex_destroy(&live->lock);
    free(live);
}

static struct entry **place_of(struct live_status *live, const char *id)
{
    struct entry **at = &live->buckets[hash_64(id, strlen(id)) & (BUCKETS - 1)];

    while (*at && strcmp((*at)->id, id) != 0)
        at = &(*at)->next;
    return at;
}

/* The entry, made when it is not there; NULL: no memory. With the lock held. */
static struct entry *need(struct live_status *live, const char *id, enum kind kind)
{
    struct entry **at = place_of(live, id);

    if (!*at) {
        *at = mem_new(struct entry);
        if (!*at)
            return NULL;
        strncpy((*at)->id, id, IDENT_TEXT_SIZE - 1);
        (*at)->kind = kind;
    }
    return (*at)->kind == kind ? *at : NULL;
}

/* Bytes per second between two growing counters; a counter that fell was started anew. */
static uint64_t rate(uint64_t before, uint64_t now, uint64_t usec)
{
    return now < before || usec == 0 ? 0 : (uint64_t)((double)(now - before) * 1e6 / (double)usec);
}

/* How long since the last word, and the note that it is now. 0 for the first. */
static uint64_t heard(struct entry *e)
{
    uint64_t now = clock_mono_usec(), since = e->heard_mono_usec ? now - e->heard_mono_usec : 0;

    e->heard_mono_usec = now;
    return since;
}

static int no_room(struct live_status *live, struct err *err)
{
    pthread_mutex_unlock(&live->lock);
    return err_set(err, ERR_NOMEM, "no memory for a status");
}

int live_status_put_machine(struct live_status *live, const char *id, const struct live_machine *said, struct err *err)
{
    pthread_mutex_lock(&live->lock);
    struct entry *e = need(live, id, KIND_MACHINE);

    if (!e)
        return no_room(live, err);
    uint64_t usec = heard(e);
    struct live_machine before = e->last.machine;

    e->last.machine = *said;
    e->last.machine.online = before.online;
    e->last.machine.heard_utc_usec = clock_utc_usec();
    if (before.last_point_sequence > said->last_point_sequence) { /* a vault was faster */
        e->last.machine.last_point_sequence = before.last_point_sequence;
        e->last.machine.last_point_utc_usec = before.last_point_utc_usec;
    }
    e->last.machine.sent_bytes_per_sec = rate(before.sent_bytes, said->sent_bytes, usec);
    e->last.machine.changed_bytes_per_sec = rate(before.changed_bytes, said->changed_bytes, usec);
    pthread_mutex_unlock(&live->lock);
    return 0;
}

int live_status_put_node(struct live_status *live, const char *id, const struct live_node *said, struct err *err)
{
    pthread_mutex_lock(&live->lock);
    struct entry *e = need(live, id, KIND_NODE);

    if (!e)
        return no_room(live, err);
    uint64_t usec = heard(e);
    struct live_node before = e->last.node;

    e->last.node = *said;
    e->last.node.online = before.online;
    e->last.node.heard_utc_usec = clock_utc_usec();
    e->last.node.received_bytes_per_sec = rate(before.received_bytes, said->received_bytes, usec);
    e->last.node.forwarded_bytes_per_sec = rate(before.forwarded_bytes, said->forwarded_bytes, usec);
    pthread_mutex_unlock(&live->lock);
    return 0;
}

int live_status_put_vault(struct live_status *live, const char *id, const struct live_vault *said, struct err *err)
{
    pthread_mutex_lock(&live->lock);
    struct entry *e = need(live, id, KIND_VAULT);

    if (!e)
        return no_room(live, err);
    bool online = e->last.vault.online;

    (void)heard(e);
    e->last.vault = *said;
    e->last.vault.online = online;
    e->last.vault.heard_utc_usec = clock_utc_usec();
    pthread_mutex_unlock(&live->lock);
    return 0;
}

void live_status_point(struct live_status *live, const char *machine_id, uint64_t sequence, uint64_t time_utc_usec)
{
    pthread_mutex_lock(&live->lock);
    struct entry *e = *place_of(live, machine_id);

    if (e && e->kind == KIND_MACHINE && sequence > e->last.machine.last_point_sequence) {
        e->last.machine.last_point_sequence = sequence;
        e->last.machine.last_point_utc_usec = time_utc_usec;
    }
    pthread_mutex_unlock(&live->lock);
}

void live_status_online(struct live_status *live, const char *role, const char *id, bool online)
{
    enum kind kind = strcmp(role, "agent") == 0 ? KIND_MACHINE : strcmp(role, "node") == 0 ? KIND_NODE : KIND_VAULT;
    size_t *const counts[] = {&live->counts.agents, &live->counts.nodes, &live->counts.vaults};

    pthread_mutex_lock(&live->lock);
    struct entry *e = need(live, id, kind);

    if (e) {
        bool *flag = kind == KIND_MACHINE ? &e->last.machine.online
                     : kind == KIND_NODE  ? &e->last.node.online
                                          : &e->last.vault.online;

        if (*flag != online)
            *counts[kind] += online ? 1 : (size_t)-1;
        *flag = online;
    }
    pthread_mutex_unlock(&live->lock);
}

void live_status_counts(struct live_status *live, struct live_counts *ret_counts)
{
    pthread_mutex_lock(&live->lock);
    *ret_counts = live->counts;
    pthread_mutex_unlock(&live->lock);
}

/* Copies what was said, if anything was. */
static bool look(struct live_status *live, const char *id, enum kind kind, void *ret, size_t size)
{
    pthread_mutex_lock(&live->lock);
    const struct entry *e = *place_of(live, id);
    bool found = e && e->kind == kind && e->heard_mono_usec;

    if (found)
        memcpy(ret, &e->last, size);
    pthread_mutex_unlock(&live->lock);
    return found;
}

bool live_status_machine(struct live_status *live, const char *machine_id, struct live_machine *ret)
{
    return look(live, machine_id, KIND_MACHINE, ret, sizeof(*ret));
}

bool live_status_node(struct live_status *live, const char *node_id, struct live_node *ret)
{
    return look(live, node_id, KIND_NODE, ret, sizeof(*ret));
}

bool live_status_vault(struct live_status *live, const char *vault_id, struct live_vault *ret)
{
    return look(live, vault_id, KIND_VAULT, ret, sizeof(*ret));
}
