/* SPDX-License-Identifier: Apache-2.0
 *
 * Building and taking down the world of the node's tests.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/unit/node/node_world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "transport/base/clock.h"
#include "transport/base/file.h"
#include "transport/base/log.h"
#include "transport/base/mem.h"
#include "transport/loop/loop.h"

static struct tls_context *server_tls(const struct testca_files *f)
{
    struct tls_context *tls = NULL;
    assert_int_equal(tls_server_new(&f->files, false, &tls, NULL), 0);
    return tls;
}

static struct tls_context *client_tls(const struct testca_files *f)
{
    struct tls_context *tls = NULL;
    assert_int_equal(tls_client_new(&f->files, NULL, &tls, NULL), 0);
    return tls;
}

static void issue(struct world *w, const char *role, const char *name, struct testca_files *files)
{
    struct testca_leaf leaf = {.role = role};
    testca_issue(w->ca, name, &leaf, files);
}

static void make_identities(struct world *w)
{
    w->ca = testca_new(w->dir, "ca");
    issue(w, "agent", "agent", &w->agent_files);
    issue(w, "node", "node", &w->node_files);
    issue(w, "vault", "vault", &w->vault_files);
    issue(w, "vault", "stranger", &w->stranger_files);
    w->agent_tls = client_tls(&w->agent_files);
    w->stranger_tls = client_tls(&w->stranger_files);
    w->vault_tls = server_tls(&w->vault_files);
    w->node_server_tls = server_tls(&w->node_files);
    w->node_client_tls = client_tls(&w->node_files);
}

void world_start_node(struct world *w)
{
    struct node_conf conf = {.data_dir = w->dir,
        .listen = w->node_address,
        .spool_bytes = w->spool_bytes,
        .threads = 2,
        .compress_level_max = 3,
        .server_tls = w->node_server_tls,
        .client_tls = w->node_client_tls};
    struct err err = ERR_INIT;
    if (node_new(w->loop, &conf, &w->node, &err) < 0) {
        (void)fprintf(stderr, "node: %s\n", err.text);
        abort();
    }
}

void world_stop_node(struct world *w)
{
    node_free(w->node);
    w->node = NULL;
}

void world_apply(struct world *w, bool with_machine)
{
    Leeward__Control__V1__NodeDesired desired = LEEWARD__CONTROL__V1__NODE_DESIRED__INIT;
    Leeward__Control__V1__NodeMachine machine = LEEWARD__CONTROL__V1__NODE_MACHINE__INIT;
    Leeward__Control__V1__NodeMachine other = LEEWARD__CONTROL__V1__NODE_MACHINE__INIT;
    Leeward__Control__V1__NodeMachine *machines[] = {&machine, &other};
    char other_id[IDENT_TEXT_SIZE];
    machine.machine_id = w->agent_files.id_text;
    machine.generation = w->generation;
    machine.vault_id = w->vault_files.id_text;
    machine.vault_endpoint = w->vault_address;
    machine.compress_level = 1;
    machine.may_receive = w->may_receive;
    desired.version = 1;
    desired.machines = machines;
    desired.n_machines = with_machine ? 1 : 0;
    if (with_machine && !ident_is_zero(&w->other)) {
        other = machine;
        ident_to_text(&w->other, other_id);
        other.machine_id = other_id;
        other.receiver_id = w->receiver;
        desired.n_machines = 2;
    }
    node_apply(w->node, &desired);
}

void world_start_vault(struct world *w)
{
    fake_vault_serve(w->vault, w->loop, w->vault_address, w->vault_tls);
}

int world_set_up(void **state)
{
    struct world *w = mem_new(struct world);
    (void)snprintf(w->dir, sizeof(w->dir), "/tmp/leeward-node-XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    (void)snprintf(w->node_address, sizeof(w->node_address), "unix:%s/node.sock", w->dir);
    (void)snprintf(w->vault_address, sizeof(w->vault_address), "unix:%s/vault.sock", w->dir);
    if (getenv("LEEWARD_TEST_LOG") == NULL)
        log_set_level(LOG_ERROR);
    w->spool_bytes = 256u << 20;
    w->generation = 1;
    make_identities(w);
    assert_int_equal(loop_new(NULL, NULL, &w->loop, NULL), 0);
    w->vault = fake_vault_new();
    world_start_vault(w);
    world_start_node(w);
    world_apply(w, true);
    w->agent = fake_agent_new(w->loop, w->node_address, w->agent_tls, &w->node_files.id, &w->agent_files.id);
    *state = w;
    return 0;
}

int world_tear_down(void **state)
{
    struct world *w = *state;
    fake_agent_free(w->agent);
    if (w->node != NULL)
        world_stop_node(w);
    int broken = w->vault->broken_rules > 0 ? -1 : 0;
    fake_vault_free(w->vault);
    for (unsigned i = 0; i < 8; i++)
        (void)sd_event_run(w->loop, 0); /* what was cancelled ends */
    loop_free(w->loop);
    tls_context_free(w->agent_tls);
    tls_context_free(w->stranger_tls);
    tls_context_free(w->vault_tls);
    tls_context_free(w->node_server_tls);
    tls_context_free(w->node_client_tls);
    testca_free(w->ca);
    (void)file_remove_tree(w->dir, NULL);
    free(w);
    return broken;
}

void world_open_agent(struct world *w)
{
    struct fake_agent *a = w->agent;
    fake_agent_open(a, w->generation, 0, 0);
    world_until(w, a->opened_count == 1);
    fake_agent_open(a, w->generation, a->opened_epoch + 1, a->expected);
    world_until(w, a->opened_count == 1);
    assert_int_equal(a->opened_epoch, a->epoch);
}

bool world_same_disks(const struct world *w)
{
    return memcmp(w->agent->disk, w->vault->disk, FAKE_DISK_BYTES) == 0;
}
