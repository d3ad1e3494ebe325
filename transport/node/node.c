/* SPDX-License-Identifier: Apache-2.0
 *
 * The node as a whole: its server, the machines that the hub wants it to serve, and its status. A machine that the hub takes
 * away gets no more batches, but what it has spooled is still forwarded before it goes, unless its vault takes nothing of it for long.
 */
#include "transport/node/node.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "transport/base/clock.h"
#include "transport/base/file.h"
#include "transport/base/log.h"
#include "transport/base/mem.h"
#include "transport/node/machine.h"

#define JOBS_MAX 65536u /* far above what the pipelines ask for; a bound all the same */
#define IDLE_USEC (5 * USEC_PER_SEC)
#define LINGER_USEC (15 * USEC_PER_SEC)
/* What all machines together may have sent here that is not in the spool yet, and what may wait for vaults in memory. A few machines have the
 * windows of a fast line to themselves (100 ms x 1 Gbit/s), many share; none has less than a batch. */
#define RECEIVED_BYTES_MAX (768u << 20)
#define RECEIVED_EACH_MAX 12500000u
#define UNSENT_BYTES_MAX (384u << 20)
#define UNSENT_EACH_MIN (1u << 20)
#define UNSENT_EACH_MAX (4u << 20)
/* Of Open, by a vault that is reached: it may be reading the end of a log, or wait for a slow disk. One that makes an index anew takes longer, and goes on with
 * that whoever asks. */
#define OPEN_LIMIT_USEC (60 * USEC_PER_SEC)
/* Of what is left of a machine that the hub took away, and its vault: enough for a vault to be started again, host and all, and to hear from its hub whose
 * machines it has, and for a person to see what is the matter: where the source is gone too, this is the newest that there is. Longer would keep its room from
 * machines that are served here, for what agents hold anyway. */
#define STRANDED_LIMIT_USEC (3600 * USEC_PER_SEC)
#define IDLE_SEGMENT_BYTES (8u << 20) /* worth the few fsyncs that the next segment costs */

static const char moved_away[] = "the machine was moved to another node";

static const struct rpc_method methods[] = {
    {.path = "/leeward.replication.v1.Replication/Replicate", .accept = intake_accept},
    {.path = "/leeward.vault.v1.Vault/Hashes", .accept = passage_accept_hashes},
    {.path = "/leeward.vault.v1.Vault/Changes", .accept = passage_accept_changes},
    {.path = "/leeward.vault.v1.Vault/Blocks", .accept = passage_accept_blocks},
};

/* Agents that have been moved elsewhere leave by themselves, behind a change set that is committed. One that has not heard of it (its hub
 * is away) is let go after a while, since the hub wants it elsewhere. */
static void let_go(struct node *node)
{
    uint64_t now = clock_mono_usec();
    for (struct machine *m = node->machines, *next; m != NULL; m = next) {
        next = m->next;
        if (m->unwanted_usec == 0 || now < m->unwanted_usec + LINGER_USEC)
            continue;
        if (nodedrain_let_go(m, now > m->unwanted_usec + 2 * LINGER_USEC, moved_away)) {
            m->unwanted_usec = 0;
            machine_free(m);
        }
    }
}

/* The machine went elsewhere, and its vault takes nothing of what is left of it here: it is away, or has the machine no more. The agent holds all that is
 * not committed (P2). */
static void drop_stranded(struct machine *m, uint64_t now)
{
    if (m->wanted || m->intake != NULL || !machine_has_sets(m)) {
        m->served_usec = now;
        return;
    }
    if (m->starts > 0 || now < m->served_usec + m->node->stranded_limit_usec)
        return;
    log_event(LOG_WARN, "spool_dropped", LOG_S("machine", m->text), LOG_U("committed", m->committed),
        LOG_U("next_sequence", m->spooled.next_sequence), LOG_U("bytes", m->spooled.bytes), LOG_E(&m->link.cause));
    m->served_usec = now; /* a disk that does not let go of it is asked again as late */
    link_close(m);
    machine_start_sets(m, true, 0, 0, 0); /* the machine goes behind it */
}

/* A segment that still grows is given back when all of it is committed and it has grown, or when nothing comes any more. */
static void on_idle(void *arg)
{
    struct node *node = arg;
    let_go(node);
    joining_look(node);
    linkshape_look(node);
    if (node->disk.full && spooldisk_has_room(node))
        pipeline_kick_all(node);
    uint64_t now = clock_mono_usec();
    for (struct machine *m = node->machines; m != NULL; m = m->next) {
        machine_scan_again(m);
        drop_stranded(m, now);
        bool quiet = m->received == m->received_before;
        m->received_before = m->received;
        pipeline_sync(m, true);
        link_resume(m); /* what could not be begun for want of memory */
        link_pump(m);
        if (m->spooled.bytes > 0 && m->batches == 0 && !machine_has_sets(m) &&
            (quiet || m->spooled.bytes > IDLE_SEGMENT_BYTES))
            machine_trim(m, true);
    }
}

static int start(struct node *node, struct err *err)
{
    node->spool_dir = mem_printf("%s/spool", node->conf.data_dir);
    node->sealing = sealing_pool_new();
    if (node->spool_dir == NULL || node->sealing == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a node");
    if (file_make_dirs(node->spool_dir, 0700, err) < 0 ||
        worker_pool_new(node->loop, "node-work", node->conf.threads, JOBS_MAX, &node->pool, err) < 0 ||
        loop_timer_new(node->loop, IDLE_USEC, IDLE_USEC, on_idle, node, &node->idle_timer, err) < 0 ||
        linkshape_init(node, err) < 0)
        return -1;
    return rpc_server_new(node->loop, node->conf.listen, node->conf.server_tls, methods, ARRAY_LEN(methods), node, NULL,
        &node->server, err);
}

int node_new(sd_event *loop, const struct node_conf *conf, struct node **ret_node, struct err *err)
{
    struct node *node = mem_new(struct node);
    if (node == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a node");
    node->loop = loop;
    node->conf = *conf;
    node->cpu_at_usec = clock_mono_usec();
    node->open_limit_usec = OPEN_LIMIT_USEC;
    node->stranded_limit_usec = STRANDED_LIMIT_USEC;
    if (start(node, err) < 0) {
        node_free(node);
        return -1;
    }
    *ret_node = node;
    return 0;
}

void node_free(struct node *node)
{
    if (node == NULL)
        return;
    node->stopping = true;
    rpc_server_free(node->server);
    worker_pool_free(node->pool);
    loop_timer_free(node->idle_timer);
    loop_timer_free(node->drain.timer);
    while (node->machines != NULL) {
        struct machine *first = node->machines;
        machine_free(first);
        if (node->machines == first)
            break; /* still in use: a bug of ours, and no reason to hang */
    }
    linkshape_done(node);
    sealing_pool_free(node->sealing);
    free(node->spool_dir);
    free(node);
}

unsigned node_port(const struct node *node)
{
    return rpc_server_port(node->server);
}

/* ---- desired state ---- */

static void change_peer(struct machine *m, const Leeward__Control__V1__NodeMachine *want)
{
    struct ident vault;
    struct err err = ERR_INIT;
    bool known = want->vault_endpoint[0] != '\0' && ident_from_text(want->vault_id, &vault) == 0;
    if (m->peer != NULL && known && ident_equal(&m->peer->vault, &vault) &&
        strcmp(m->peer->endpoint, want->vault_endpoint) == 0)
        return;
    struct peer *peer = known ? peer_get(m->node, &vault, want->vault_endpoint, &err) : NULL;
    if (known && peer == NULL)
        log_event(
            LOG_ERROR, "vault_unusable", LOG_S("machine", m->text), LOG_S("vault", want->vault_endpoint), LOG_E(&err));
    bool other_vault = m->peer != NULL && known && !ident_equal(&m->peer->vault, &vault);
    link_close(m);
    if (m->peer != NULL)
        peer_put(m->node, m->peer);
    m->peer = peer;
    if (other_vault) { /* its sequences and its key mean nothing there */
        (void)err_set(&err, ERR_UNAVAILABLE, "the machine replicates to another vault now");
        m->have_key = false;
        intake_fail(m, &err, false);
        machine_start_sets(m, true, 0, 0, 0);
    }
}

static void raise_generation(struct machine *m, uint64_t generation)
{
    struct err err = ERR_INIT;
    if (generation <= m->generation)
        return;
    m->generation = generation;
    if (m->intake == NULL || m->intake->generation >= generation)
        return;
    (void)err_set(
        &err, ERR_REFUSED, "the machine was failed over: its generation is %llu now", (unsigned long long)generation);
    (void)err_hint(&err, "Reprotect the machine in the console to replicate from here again.");
    intake_fail(m, &err, true);
}

static void apply_machine(struct node *node, const Leeward__Control__V1__NodeMachine *want)
{
    struct ident id;
    struct err err = ERR_INIT;
    if (ident_from_text(want->machine_id, &id) < 0) {
        log_event(LOG_ERROR, "machine_unusable", LOG_S("machine", want->machine_id));
        return;
    }
    struct machine *m = machine_find(node, &id);
    if (m == NULL) {
        if (machine_new(node, &id, &m, &err) < 0) {
            log_event(LOG_ERROR, "machine_unusable", LOG_S("machine", want->machine_id), LOG_E(&err));
            return;
        }
        m->next = node->machines;
        node->machines = m;
        node->machine_count++;
    }
    m->wanted = true;
    m->unwanted_usec = 0;
    m->leaving = false;
    m->level =
        want->compress_level < node->conf.compress_level_max ? want->compress_level : node->conf.compress_level_max;
    m->may_receive = want->may_receive;
    if (ident_from_text(want->receiver_id, &m->receiver) < 0)
        m->receiver = (struct ident){0};
    change_peer(m, want);
    raise_generation(m, want->generation);
    m->link.retry_armed = false;
    link_resume(m);
    intake_advance(m);
}

static void drop_unwanted(struct node *node)
{
    struct machine *next;
    struct err err = ERR_INIT;
    (void)err_set(&err, ERR_UNAVAILABLE, "%s", moved_away);
    for (struct machine *m = node->machines; m != NULL; m = next) {
        next = m->next;
        if (m->wanted || m->unwanted_usec != 0)
            continue;
        if (m->intake != NULL && m->intake->state == INTAKE_OPEN) {
            m->unwanted_usec = clock_mono_usec();
            continue;
        }
        intake_fail(m, &err, false);
        machine_free(m);
    }
}

/* Spools of machines that went elsewhere while this node was down: their agents hold what they need (P2). */
static void drop_foreign_spools(struct node *node)
{
    DIR *dir = opendir(node->spool_dir);
    struct dirent *e;
    while (dir != NULL && (e = readdir(dir)) != NULL) {
        struct ident id;
        if (ident_from_text(e->d_name, &id) < 0 || machine_find(node, &id) != NULL)
            continue;
        AUTO_FREE char *path = mem_printf("%s/%s", node->spool_dir, e->d_name);
        log_event(LOG_INFO, "spool_dropped", LOG_S("machine", e->d_name));
        if (path != NULL)
            (void)file_remove_tree(path, NULL);
    }
    if (dir != NULL)
        (void)closedir(dir);
}

static size_t share(size_t all, size_t machines, size_t least, size_t most)
{
    size_t each = all / (machines > 0 ? machines : 1);
    return each < least ? least : each > most ? most : each;
}

/* Streams that are open have their share changed, too: agents that wait for a node that starts are there before it knows how many they are. */
static void share_memory(struct node *node, size_t machines)
{
    rpc_server_set_stream_window(
        node->server, (uint32_t)share(RECEIVED_BYTES_MAX, machines, SEALING_BATCH_MAX, RECEIVED_EACH_MAX));
    node->unsent_max = share(UNSENT_BYTES_MAX, machines, UNSENT_EACH_MIN, UNSENT_EACH_MAX);
    for (struct peer *p = node->peers; p != NULL; p = p->next)
        rpc_channel_set_send_queue(p->channel, node->unsent_max);
}

void node_apply(struct node *node, const Leeward__Control__V1__NodeDesired *desired)
{
    share_memory(node, desired->n_machines);
    for (struct machine *m = node->machines; m != NULL; m = m->next)
        m->wanted = false;
    for (size_t i = 0; i < desired->n_machines; i++)
        apply_machine(node, desired->machines[i]);
    drop_unwanted(node);
    linkshape_apply(node, desired);
    if (!node->applied)
        drop_foreign_spools(node);
    node->applied = true;
    if (desired->version != node->desired_version)
        log_event(LOG_INFO, "desired_state", LOG_U("version", desired->version), LOG_U("machines", desired->n_machines),
            LOG_B("drain", desired->drain));
    node->draining = desired->drain;
    node->desired_version = desired->version;
}

/* ---- status ---- */

static uint32_t cpu_permille(struct node *node)
{
    struct rusage usage;
    uint64_t now = clock_mono_usec();
    if (getrusage(RUSAGE_SELF, &usage) < 0 || now <= node->cpu_at_usec)
        return 0;
    uint64_t used = (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * USEC_PER_SEC +
                    (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
    uint64_t permille = (used - node->cpu_usec) * 1000 / (now - node->cpu_at_usec);
    node->cpu_usec = used;
    node->cpu_at_usec = now;
    return (uint32_t)permille;
}

static void describe_trouble(struct node *node)
{
    const struct machine *lost = NULL, *full = NULL;
    for (const struct machine *m = node->machines; m != NULL; m = m->next) {
        if (m->link.cause.code != ERR_NONE)
            lost = m;
        if (m->full)
            full = m;
    }
    node->cause[0] = node->remedy[0] = '\0';
    if (node->disk.full) {
        spooldisk_describe(node, node->cause, sizeof(node->cause), node->remedy, sizeof(node->remedy));
    } else if (full != NULL) {
        (void)snprintf(node->cause, sizeof(node->cause), "The spool is full; agents wait and collect changes.%s%.200s",
            lost != NULL ? " " : "", lost != NULL ? lost->link.cause.text : "");
        (void)snprintf(node->remedy, sizeof(node->remedy),
            "Bring the vault back or make the way to it faster; a larger spool-bytes bridges longer outages.");
    } else if (lost != NULL) {
        (void)snprintf(node->cause, sizeof(node->cause), "%s", lost->link.cause.text);
        (void)snprintf(node->remedy, sizeof(node->remedy), "%s", lost->link.cause.correction);
    }
}

void node_status(struct node *node, Leeward__Control__V1__NodeStatus *ret_status)
{
    uint32_t streams = 0;
    for (const struct machine *m = node->machines; m != NULL; m = m->next)
        streams += m->intake != NULL && m->intake->state == INTAKE_OPEN;
    describe_trouble(node);
    ret_status->spool_bytes = node->spool_bytes;
    ret_status->spool_limit_bytes = node->conf.spool_bytes;
    ret_status->streams = streams;
    ret_status->received_bytes = node->received_bytes;
    ret_status->forwarded_bytes = node->forwarded_bytes;
    ret_status->cpu_permille = cpu_permille(node);
    ret_status->draining = node->draining || node->drain.since_usec != 0;
    ret_status->cause = node->cause;
    ret_status->remedy = node->remedy;
    ret_status->desired_version = node->desired_version;
}
