/* SPDX-License-Identifier: Apache-2.0
 *
 * What a hub would have given to a node, a vault and their machines.
 */
#include "tests/bench/node_fleet.h"

#include <stdio.h>
#include <stdlib.h>

#include "transport/base/clock.h"
#include "transport/base/file.h"
#include "transport/base/mem.h"
#include "transport/proto/control.pb-c.h"
#include "transport/proto/wire.h"

#define FILE_MAX (16u << 20)
#define LEVEL 1                            /* of zstd, as the default policy has it */
#define KEEP_USEC (3600ULL * USEC_PER_SEC) /* every point for an hour: the measurement is over before */
#define VALID_FROM_SEC (-3600L)
#define VALID_TO_SEC 86400L

static int copy(const char *from, const char *dir, const char *name, struct err *err)
{
    AUTO_BUF struct buf b = BUF_INIT(FILE_MAX);
    AUTO_FREE char *to = mem_printf("%s/%s", dir, name);
    if (to == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a path");
    return file_read(from, &b, err) < 0 ? -1 : file_replace(to, b.data, b.len, 0600, err);
}

static int give(
    const char *dir, const struct testca_files *files, const Leeward__Control__V1__Directive *desired, struct err *err)
{
    AUTO_BUF struct buf b = BUF_INIT(FILE_MAX);
    AUTO_FREE char *identity = mem_printf("%s/identity", dir), *path = mem_printf("%s/desired.pb", dir);
    if (identity == NULL || path == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a path");
    if (file_make_dirs(identity, 0700, err) < 0 || copy(files->certificate, identity, "cert.pem", err) < 0 ||
        copy(files->key, identity, "key.pem", err) < 0 || copy(files->ca, identity, "ca.pem", err) < 0)
        return -1;
    return wire_pack(&desired->base, &b, err) < 0 ? -1 : file_replace(path, b.data, b.len, 0600, err);
}

/* The machines of a fleet as a node and as a vault are told of them. */
struct told {
    Leeward__Control__V1__NodeMachine *on_node, **node_list;
    Leeward__Control__V1__VaultMachine *on_vault, **vault_list;
};

static int told_init(struct told *t, const struct node_fleet *fleet, char *vault_endpoint, struct err *err)
{
    t->on_node = mem_alloc(fleet->count, sizeof(*t->on_node));
    t->node_list = mem_alloc(fleet->count, sizeof(*t->node_list));
    t->on_vault = mem_alloc(fleet->count, sizeof(*t->on_vault));
    t->vault_list = mem_alloc(fleet->count, sizeof(*t->vault_list));
    if (t->on_node == NULL || t->node_list == NULL || t->on_vault == NULL || t->vault_list == NULL)
        return err_set(err, ERR_NOMEM, "no memory for the machines");
    for (size_t i = 0; i < fleet->count; i++) {
        Leeward__Control__V1__NodeMachine *n = t->node_list[i] = &t->on_node[i];
        Leeward__Control__V1__VaultMachine *v = t->vault_list[i] = &t->on_vault[i];
        leeward__control__v1__node_machine__init(n);
        leeward__control__v1__vault_machine__init(v);
        n->machine_id = v->machine_id = fleet->machines[i].id_text;
        n->generation = v->generation = 1;
        n->vault_id = (char *)fleet->vault.id_text;
        n->vault_endpoint = vault_endpoint;
        n->compress_level = LEVEL;
        v->keep_all_usec = KEEP_USEC;
    }
    return 0;
}

static void told_done(struct told *t)
{
    free(t->on_node);
    free(t->node_list);
    free(t->on_vault);
    free(t->vault_list);
}

static int give_both(
    const struct node_fleet *fleet, const struct told *t, const char *node_dir, const char *vault_dir, struct err *err)
{
    Leeward__Control__V1__Directive directive = LEEWARD__CONTROL__V1__DIRECTIVE__INIT;
    Leeward__Control__V1__NodeDesired node = LEEWARD__CONTROL__V1__NODE_DESIRED__INIT;
    Leeward__Control__V1__VaultDesired vault = LEEWARD__CONTROL__V1__VAULT_DESIRED__INIT;
    node.version = vault.version = 1;
    node.n_machines = vault.n_machines = fleet->count;
    node.machines = t->node_list;
    vault.machines = t->vault_list;
    directive.kind_case = LEEWARD__CONTROL__V1__DIRECTIVE__KIND_NODE;
    directive.node = &node;
    if (give(node_dir, &fleet->node, &directive, err) < 0)
        return -1;
    directive.kind_case = LEEWARD__CONTROL__V1__DIRECTIVE__KIND_VAULT;
    directive.vault = &vault;
    return give(vault_dir, &fleet->vault, &directive, err);
}

static void issue(struct node_fleet *fleet, const char *role, const char *name, struct testca_files *ret_files)
{
    struct testca_leaf leaf = {.role = role, .from_sec = VALID_FROM_SEC, .to_sec = VALID_TO_SEC};
    testca_issue(fleet->ca, name, &leaf, ret_files);
}

int node_fleet_make(const char *dir, size_t count, unsigned vault_port, struct node_fleet *ret_fleet, struct err *err)
{
    AUTO_FREE char *certificates = mem_printf("%s/ca", dir), *endpoint = mem_printf("127.0.0.1:%u", vault_port);
    AUTO_FREE char *node = mem_printf("%s/node", dir), *vault = mem_printf("%s/vault", dir);
    *ret_fleet = (struct node_fleet){.machines = mem_alloc(count, sizeof(*ret_fleet->machines)), .count = count};
    if (certificates == NULL || endpoint == NULL || node == NULL || vault == NULL || ret_fleet->machines == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a fleet");
    if (file_make_dirs(certificates, 0700, err) < 0)
        return -1;
    ret_fleet->ca = testca_new(certificates, "root");
    issue(ret_fleet, "node", "node", &ret_fleet->node);
    issue(ret_fleet, "vault", "vault", &ret_fleet->vault);
    for (size_t i = 0; i < count; i++) {
        char name[32];
        (void)snprintf(name, sizeof(name), "machine-%zu", i);
        issue(ret_fleet, "agent", name, &ret_fleet->machines[i]);
    }
    struct told told = {0};
    int result = told_init(&told, ret_fleet, endpoint, err) < 0 ? -1 : give_both(ret_fleet, &told, node, vault, err);
    told_done(&told);
    return result;
}

void node_fleet_done(struct node_fleet *fleet)
{
    testca_free(fleet->ca);
    free(fleet->machines);
}
